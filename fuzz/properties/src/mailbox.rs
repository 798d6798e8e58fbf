//! Mailboxes and what they are made of.

use std::sync::Arc;

use waypost_smtp::server::{Event, Server, Settings};
use waypost_types::{Domain, HostPort, Mailbox, ReversePath, RouteName, Timestamp};

/// Any text, read as each kind of name.
///
/// `parse(display(x)) == x`, and the text is the same the second time. No text form holds a control
/// character, so it can inject nothing (RFC 5321 section 4.1.2). A mailbox that is read is one that
/// RCPT takes, and it arrives as the same mailbox.
pub fn mailbox(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(mailbox) = text.parse::<Mailbox>() {
        let shown = mailbox.to_string();
        let again: Mailbox = shown.parse().unwrap();
        assert_eq!(again, mailbox);
        assert_eq!(again.to_string(), shown, "two wire forms of one mailbox");
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(mailbox.local_part().len() <= 64);
        assert_eq!(shown.parse::<ReversePath>().unwrap().mailbox(), Some(&mailbox));
        if shown.is_ascii() {
            rcpt_takes(&mailbox);
        }
    }
    if let Ok(domain) = text.parse::<Domain>() {
        assert_eq!(domain.to_string().parse(), Ok(domain.clone()));
        assert!(domain.as_str().len() <= 253 && !domain.as_str().contains(char::is_control));
        assert!(domain.suffixes().all(|name| name.parse::<Domain>().is_ok()));
    }
    if let Ok(host) = HostPort::parse_or(text, 25) {
        assert_eq!(host.to_string().parse(), Ok(host.clone()), "{host}");
    }
    if let Ok(name) = text.parse::<RouteName>() {
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert!(!name.as_str().contains(char::is_control));
    }
}

fn rcpt_takes(mailbox: &Mailbox) {
    let now = Timestamp::default();
    let settings = Settings::new("mx.solarmora.com".parse().unwrap());
    let mut server = Server::new(Arc::new(settings), now);
    let rcpt = format!("RCPT TO:<{mailbox}>\r\n");
    let mut heard = None;
    assert_eq!(server.poll_event(now), Some(Event::Connect));
    server.accept(now);
    server.handle_bytes(now, b"EHLO a.example\r\nMAIL FROM:<>\r\n");
    server.handle_bytes(now, rcpt.as_bytes());
    while let Some(event) = server.poll_event(now) {
        if let Event::Rcpt(recipient) = event {
            heard = Some(recipient.address);
            break;
        }
        server.accept(now);
    }
    assert_eq!(heard.as_ref(), Some(mailbox), "{rcpt:?}");
}
