//! The SMTP server as a state machine, without a socket (`waypost-smtp`).
//!
//! What is typed (or piped in) are the client's lines; what is printed are the server's replies,
//! marked `S:`, and the events that an application would answer, marked `*`. Everything is accepted.
//!
//! ```text
//! printf 'EHLO me\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\nDATA\nhello\n.\nQUIT\n' | talk
//! ```

use std::error::Error;
use std::io::BufRead;
use std::sync::Arc;

use waypost_smtp::server::{AuthOffer, Event, Server, Settings, TlsOffer};
use waypost_types::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    // Time is a number that the caller counts: here it stands still.
    let now = Timestamp::from_millis(0);
    let mut settings = Settings::new("mx.solarmora.com".parse()?);
    settings.tls = TlsOffer::StartTls;
    settings.auth = AuthOffer::InsideTls;
    let mut server = Server::new(Arc::new(settings), now);
    settle(&mut server, now)?;
    for line in std::io::stdin().lock().lines() {
        if server.is_closed() {
            break;
        }
        server.handle_bytes(now, format!("{}\r\n", line?).as_bytes());
        settle(&mut server, now)?;
    }
    server.handle_eof();
    settle(&mut server, now)
}

/// Answers every question with yes and prints what the client would read.
fn settle(server: &mut Server, now: Timestamp) -> Result<(), Box<dyn Error>> {
    loop {
        while let Some(event) = server.poll_event(now) {
            match event {
                Event::Connect | Event::Xclient(_) => server.accept(now),
                Event::Hello { ref name, .. } => {
                    println!("* hello from {name}");
                    server.accept(now);
                }
                Event::Auth(_) => {
                    println!("* AUTH, which is believed");
                    server.accept_auth(now, "marie@solarmora.com".parse()?);
                }
                Event::Mail { ref sender, .. } => {
                    println!("* a message from <{sender}>");
                    server.accept(now);
                }
                Event::Rcpt(ref recipient) => {
                    println!("* for {}", recipient.address);
                    server.accept(now);
                }
                Event::Data => server.accept(now),
                Event::Message(ref data) => {
                    println!("* {} octets", data.size);
                    server.accept(now);
                }
                Event::StartTls => {
                    println!("* here TLS would begin; let us say it has");
                    server.handle_tls(now);
                }
                Event::Reset(cause) => println!("* no message: {cause:?}"),
                Event::Closed(cause) => println!("* closed: {cause:?}"),
            }
        }
        let output = server.take_output();
        if output.is_empty() {
            return Ok(());
        }
        for line in String::from_utf8_lossy(&output).lines() {
            println!("S: {line}");
        }
    }
}
