//! An orderly stop, told to listeners and connections.

use std::time::Duration;

use tokio::sync::watch;

/// Tells all holders of the [`StopSignal`] to stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Duration>>);

/// Hears of the stop. A dropped [`Stopper`] is no stop.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<Option<Duration>>);

/// The two ends of a stop.
#[must_use]
pub fn stop_signal() -> (Stopper, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), StopSignal(receiver))
}

impl Stopper {
    /// Listeners stop accepting, connections get `421 4.3.2`; messages that are being received may
    /// finish for as long as `grace`, and are answered.
    pub fn stop(&self, grace: Duration) {
        self.0.send_replace(Some(grace));
    }
}

impl StopSignal {
    /// Returns once the stop is asked for: the grace time.
    pub async fn stopped(&mut self) -> Duration {
        let told = self.0.wait_for(Option::is_some).await.ok().and_then(|grace| *grace);
        match told {
            Some(grace) => grace,
            None => std::future::pending().await,
        }
    }
}
