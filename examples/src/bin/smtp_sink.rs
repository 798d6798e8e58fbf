//! A sink for load tests: takes every message, forgets it, counts (`waypost-net`).
//!
//! ```text
//! smtp_sink 127.0.0.1:2525 [SECONDS]
//! ```
//!
//! Prints messages, octets and recipients once a second in which there were any; ends after SECONDS,
//! or never.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use waypost_net::server::{
    ClientLimits, Configuration, ConnectionLimits, Handler, Listener, SharedLimits, Tls,
    stop_signal,
};
use waypost_smtp::end_of_data::Data;
use waypost_smtp::server::Settings;
use waypost_types::{ListenerRole, Recipient, Reply, Session};

#[derive(Default)]
struct Counts {
    messages: AtomicU64,
    octets: AtomicU64,
    recipients: AtomicU64,
}

/// One connection's side.
struct Sink(Arc<Counts>);

impl Handler for Sink {
    async fn rcpt(&mut self, _: &Session, _: Recipient) -> Result<(), Reply> {
        self.0.recipients.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn message(&mut self, _: &Session, data: Data) -> Reply {
        self.0.messages.fetch_add(1, Relaxed);
        self.0.octets.fetch_add(data.size, Relaxed);
        Reply::new(250, (2, 0, 0), "Forgotten")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:2525".to_owned());
    let seconds: Option<u64> = arguments.next().map(|text| text.parse()).transpose()?;

    let settings = Settings::new("sink.example".parse()?);
    let configuration = Configuration::new(settings, Tls::Off, ListenerRole::Mx);
    let (_configure, configuration) = watch::channel(Arc::new(configuration));
    // A load test comes from one address: no limits a client.
    let open = ConnectionLimits {
        per_client: u32::MAX,
        per_network: u32::MAX,
        per_client_per_minute: u32::MAX,
        generic_hello_per_minute: u32::MAX,
        ..ConnectionLimits::default()
    };
    let limits = SharedLimits::new(ClientLimits::new(open));
    let (stopper, stop) = stop_signal();
    let listener = Listener::bind(address.parse()?)?;
    println!("listening on {}", listener.local_addr()?);

    let counts = Arc::new(Counts::default());
    let handler_counts = Arc::clone(&counts);
    let make_handler = move || Sink(Arc::clone(&handler_counts));
    let server = tokio::spawn(listener.serve(configuration, limits, make_handler, stop));
    let began = Instant::now();
    while seconds.is_none_or(|seconds| began.elapsed() < Duration::from_secs(seconds)) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let [messages, octets, recipients] = [&counts.messages, &counts.octets, &counts.recipients]
            .map(|count| count.swap(0, Relaxed));
        if messages + recipients > 0 {
            println!("{messages} messages, {octets} octets, {recipients} recipients");
        }
    }
    stopper.stop(Duration::from_secs(5));
    server.await?;
    Ok(())
}
