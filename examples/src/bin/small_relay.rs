//! A relay in 60 lines on `waypost-smtp` alone: sockets, a thread a client, no runtime, no queue.
//!
//! ```text
//! small_relay 127.0.0.1:2525 127.0.0.1:25 [CLIENTS]
//! ```
//!
//! Each message goes on to the one next hop before its client gets an answer, and the answer is the
//! next hop's. So nothing is ever owed: a crash loses no message that got its 250. One recipient a
//! transaction (RFC 5321 section 4.5.3.1.10) makes the two answers one. Ends after CLIENTS, or never.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use waypost_smtp::blocking::Wire;
use waypost_smtp::client::{Client, ClientConfig, Message, SharedBytes, TlsUse, Transaction};
use waypost_smtp::server::{Event, Server, Settings};
use waypost_types::{Envelope, MailParameters, Outcome, Reply, ReversePath, Timestamp};

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, hop, clients @ ..] = words.as_slice() else {
        return Err("usage: small_relay LISTEN NEXT-HOP [CLIENTS]".into());
    };
    let clients = clients.first().map_or(Ok(usize::MAX), |count| count.parse())?;
    let listener = TcpListener::bind(listen)?;
    println!("listening on {}", listener.local_addr()?);
    std::thread::scope(|threads| {
        for stream in listener.incoming().take(clients).flatten() {
            threads.spawn(move || serve(stream, hop).inspect_err(|error| eprintln!("{error}")));
        }
    });
    Ok(())
}

/// One client, from the greeting to the end.
fn serve(stream: TcpStream, hop: &str) -> Result<(), Fault> {
    let mut settings = Settings::new("relay.example".parse()?);
    settings.limits.recipients = 1;
    let mut server = Server::new(settings.into(), now());
    let mut mail = Envelope::new(ReversePath::Null, MailParameters::default());
    let mut wire = wire(stream)?;
    while let Some(event) = wire.server_event(&mut server) {
        match event {
            Event::Mail { sender, parameters, .. } => mail = Envelope::new(sender, parameters),
            Event::Rcpt(recipient) => mail.recipients.push(recipient),
            Event::Message(data) => {
                let later = |error: Fault| Reply::new(451, (4, 4, 0), &error.to_string());
                server.answer(now(), relay(hop, mail.clone(), data.stuffed).unwrap_or_else(later));
            }
            _ => {}
        }
        server.accept(now()); // what else waits for an answer
    }
    Ok(())
}

/// The next hop's answer to a message.
fn relay(hop: &str, envelope: Envelope, body: Vec<u8>) -> Result<Reply, Fault> {
    let trace = format!("Received: by relay.example; {}\r\n", now().rfc5322());
    let message = Message::new([SharedBytes::new(trace), SharedBytes::new(body)])?;
    let config = ClientConfig::new(hop.parse()?, "relay.example".parse()?);
    let mut client = Client::new(ClientConfig { tls: TlsUse::Off, ..config }.into(), now());
    let mut wire = wire(TcpStream::connect(hop)?)?;
    let report = wire.deliver(&mut client, Transaction::new(envelope, message));
    client.quit(now());
    wire.client_event(&mut client);
    report.outcomes.first().map(Outcome::to_reply).ok_or("no recipient".into())
}

/// A peer that does not take what it is sent, for five minutes, is gone.
fn wire(stream: TcpStream) -> Result<Wire<TcpStream>, Fault> {
    stream.set_write_timeout(Some(Duration::from_secs(300)))?;
    Ok(Wire::new(stream, TcpStream::set_read_timeout, now))
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
