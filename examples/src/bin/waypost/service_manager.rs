//! What the service manager that started this is told, if one asks to be (`NOTIFY_SOCKET`).

use sd_notify::{NotifyState, notify};

/// All listeners accept, or a reload is over.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins. [`ready`] ends it, whatever came of it.
pub(crate) fn reloading() {
    // Newer managers ask for the time with it.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The end begins.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
