// From README.md, by scripts/outside --update.
use waypost_smtp::server::{Event, Server, Settings};
use waypost_types::{Reply, Timestamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Timestamp::from_millis(0);
    let mut server = Server::new(Settings::new("mx.solarmora.com".parse()?).into(), now);
    assert_eq!(server.poll_event(now), Some(Event::Connect));
    server.accept(now);
    server.handle_bytes(now, b"EHLO b.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n");
    while let Some(event) = server.poll_event(now) {
        match event {
            Event::Rcpt { .. } => server.answer(now, Reply::new(550, (5, 7, 1), "Not for us")),
            _ => server.accept(now),
        }
    }
    let replies = String::from_utf8(server.take_output())?;
    assert!(replies.starts_with("220 mx.solarmora.com ESMTP\r\n250-mx.solarmora.com"));
    assert!(replies.ends_with("550 5.7.1 Not for us\r\n"));
    Ok(())
}
