// From README.md, by scripts/outside --update.
use std::{sync::Arc, time::Duration};
use waypost_net::server::*;
use waypost_smtp::{end_of_data::Data, server::Settings};
use waypost_types::{ListenerRole, Reply, Session};

struct Sink;
impl Handler for Sink {
    async fn message(&mut self, session: &Session, data: Data) -> Reply {
        println!("{} octets from {}", data.size, session.client_ip);
        Reply::new(250, (2, 0, 0), "Forgotten")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Configuration::new(Settings::new("sink.example".parse()?), Tls::Off, ListenerRole::Mx);
    let (_configure, configuration) = tokio::sync::watch::channel(Arc::new(settings));
    let limits = SharedLimits::new(ClientLimits::new(ConnectionLimits::default()));
    let (stopper, stop) = stop_signal();
    let listener = Listener::bind("127.0.0.1:2525".parse()?)?;
    let server = tokio::spawn(listener.serve(configuration, limits, || Sink, stop));
    tokio::signal::ctrl_c().await?;
    stopper.stop(Duration::from_secs(30));
    Ok(server.await?)
}
