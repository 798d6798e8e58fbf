//! A small relay on `waypost-smtp` alone: sockets, a thread a client, no runtime, no queue.
//!
//! ```text
//! small_relay 127.0.0.1:2525 127.0.0.1:25 [CLIENTS]
//! ```
//!
//! Each message goes on to the one next hop before its client gets an answer, and the answer is the
//! next hop's. So nothing is ever owed: a crash loses no message that got its 250. One recipient a
//! transaction (RFC 5321 section 4.5.3.1.10) makes the two answers one. Ends after CLIENTS, or never.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use waypost_smtp::client::{self, Client, ClientConfig, Message, SharedBytes, TlsUse, Transaction};
use waypost_smtp::server::{Event, Server, Settings};
use waypost_types::{MailParameters, Outcome, Recipient, Reply, ReversePath, Timestamp};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, hop, clients @ ..] = arguments.as_slice() else {
        return Err("usage: small_relay LISTEN NEXT-HOP [CLIENTS]".into());
    };
    let clients = clients.first().map_or(Ok(usize::MAX), |count| count.parse())?;
    let listener = TcpListener::bind(listen)?;
    println!("listening on {}", listener.local_addr()?);
    std::thread::scope(|threads| {
        for stream in listener.incoming().take(clients) {
            threads.spawn(move || {
                if let Err(error) = stream.map_err(Into::into).and_then(|stream| serve(stream, hop))
                {
                    eprintln!("a client is lost: {error}");
                }
            });
        }
    });
    Ok(())
}

/// One client, from the greeting to the end.
fn serve(mut stream: TcpStream, hop: &str) -> Result<()> {
    let mut settings = Settings::new("relay.example".parse()?);
    settings.limits.recipients = 1;
    let mut server = Server::new(settings.into(), now());
    let mut envelope = (ReversePath::Null, MailParameters::default(), Vec::new());
    loop {
        while let Some(event) = server.poll_event(now()) {
            match event {
                Event::Mail { sender, parameters, .. } => {
                    envelope = (sender, parameters, Vec::new());
                    server.accept(now());
                }
                Event::Rcpt(recipient) => {
                    envelope.2 = vec![recipient];
                    server.accept(now());
                }
                Event::Message(data) => {
                    let gone = forward(hop, envelope.clone(), data.stuffed);
                    let later =
                        |error: Box<dyn Error>| Reply::new(451, (4, 4, 0), &error.to_string());
                    server.answer(now(), gone.unwrap_or_else(later));
                }
                Event::Connect | Event::Hello { .. } | Event::Data => server.accept(now()),
                // Never offered, or no question.
                _ => {}
            }
        }
        let output = server.take_output();
        if output.is_empty() && server.is_closed() {
            return Ok(());
        }
        stream.write_all(&output)?;
        if !server.is_closed() {
            let left =
                server.poll_timeout().map(|until| until.since(now()).max(Duration::from_millis(1)));
            stream.set_read_timeout(left)?;
            let mut buffer = [0; 16 << 10];
            match stream.read(&mut buffer) {
                Ok(0) => server.handle_eof(),
                Ok(count) => server.handle_bytes(now(), buffer.get(..count).unwrap_or_default()),
                Err(_) => server.handle_timeout(now()),
            }
        }
    }
}

/// The next hop's answer to a message.
fn forward(
    hop: &str,
    (sender, parameters, recipients): (ReversePath, MailParameters, Vec<Recipient>),
    body: Vec<u8>,
) -> Result<Reply> {
    let trace = format!("Received: by relay.example; {}\r\n", now().rfc5322());
    let message = Message::new([SharedBytes::new(trace), SharedBytes::new(body)])?;
    let mut transaction = Some(Transaction { sender, parameters, recipients, message });
    let config = ClientConfig::new(hop.parse()?, "relay.example".parse()?);
    let mut client = Client::new(ClientConfig { tls: TlsUse::Off, ..config }.into(), now());
    let mut stream = TcpStream::connect(hop)?;
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    loop {
        let bytes: Vec<u8> = client.transmit().flatten().copied().collect();
        stream.write_all(&bytes)?;
        client.transmitted(now(), bytes.len());
        match client.poll_event() {
            Some(client::Event::Ready) => {
                client.send(now(), transaction.take().ok_or("the next hop greets twice")?)?;
            }
            Some(client::Event::Done(report)) => {
                return Ok(match report.outcomes.into_iter().next().ok_or("no recipient")? {
                    Outcome::Delivered { reply, .. } => reply,
                    Outcome::Failed(failure) => failure.reply,
                    Outcome::Deferred(failure) => Reply::new(451, (4, 4, 0), failure.reply.text()),
                });
            }
            Some(other) => return Err(format!("the next hop is of no use: {other:?}").into()),
            None if !bytes.is_empty() => {}
            None => {
                let mut buffer = [0; 4 << 10];
                match stream.read(&mut buffer)? {
                    0 => client.lost("the next hop hung up"),
                    count => client.receive(now(), buffer.get(..count).unwrap_or_default()),
                }
            }
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}
