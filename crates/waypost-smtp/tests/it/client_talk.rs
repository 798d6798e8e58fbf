//! Plays the files of `testdata/client`, each reply in one piece and then octet by octet.
//!
//! One line a step: `CONFIG key=value…`, `S:` a line of the peer's (lines in a row arrive
//! together), `C:` the next line that the client writes, `SEND sender recipient… key=value…`,
//! `MESSAGE text` (for the next SEND; `\r\n` and so on as in Rust), `TLS` (the handshake is done),
//! `LOST`, `TIMEOUT`, `QUIT`, `= text` the next event. `#` begins a comment. At the end nothing may
//! be left over.

#![allow(clippy::disallowed_methods)] // The talks are files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waypost_smtp::client::{
    Chunking, Client, ClientConfig, Credentials, EightBitPolicy, Event, Message, Protocol,
    SharedBytes, TlsUse, Transaction,
};
use waypost_types::Timestamp;
use waypost_types::{Body, Failure, MailParameters, Mailbox, Notify, Outcome, Recipient, Ret};

struct Play {
    client: Client,
    now: Timestamp,
    written: Vec<u8>,
    events: Vec<Event>,
    message: String,
}

impl Play {
    fn new(config: ClientConfig) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let client = Client::new(Arc::new(config), now);
        let message = "Subject: x\r\n\r\nbody\r\n".to_owned();
        Self { client, now, written: Vec::new(), events: Vec::new(), message }
    }

    fn settle(&mut self) {
        let bytes: Vec<u8> = self.client.transmit().flatten().copied().collect();
        self.client.transmitted(self.now, bytes.len());
        self.written.extend(bytes);
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
    }

    fn receive(&mut self, bytes: &[u8], chunk: usize) {
        for part in bytes.chunks(chunk) {
            self.client.receive(self.now, part);
            self.settle();
        }
    }
}

fn config(line: &str) -> ClientConfig {
    let mut config =
        ClientConfig::new("mx.example:25".parse().unwrap(), "us.example".parse().unwrap());
    config.tls = TlsUse::Off;
    for word in line.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        match (key, value) {
            ("tls", "off") => config.tls = TlsUse::Off,
            ("tls", "opportunistic") => config.tls = TlsUse::Opportunistic,
            ("tls", "required") => config.tls = TlsUse::Required,
            ("tls", "implicit") => config.tls = TlsUse::Implicit,
            ("protocol", "lmtp") => config.protocol = Protocol::Lmtp,
            ("ehlo", name) => config.ehlo = name.parse().unwrap(),
            ("auth", both) => {
                let (user, password) = both.split_once(':').unwrap();
                config.credentials =
                    Some(Credentials { user: user.into(), password: password.into() });
            }
            ("eightbit", "declared") => config.eight_bit = EightBitPolicy::RefuseDeclared,
            ("chunking", "off") => config.chunking = Chunking::Off,
            ("eightbit", "send") => config.eight_bit = EightBitPolicy::SendAsIs,
            (phase, seconds) => {
                let timeouts = &mut config.timeouts;
                let timeout = match phase {
                    "greeting" => &mut timeouts.greeting,
                    "command" => &mut timeouts.command,
                    "mail" => &mut timeouts.mail,
                    "rcpt" => &mut timeouts.rcpt,
                    "data" => &mut timeouts.data_start,
                    "end" => &mut timeouts.data_end,
                    other => panic!("unknown setting {other:?}"),
                };
                *timeout = Duration::from_secs(seconds.parse().unwrap());
            }
        }
    }
    config
}

fn transaction(line: &str, message: &str) -> Transaction {
    let mut words = line.split_whitespace();
    let sender = words.next().unwrap().parse().unwrap();
    let mut parameters = MailParameters::default();
    let mut recipients: Vec<Recipient> = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some(("body", "8bit")) => parameters.body = Body::EightBitMime,
            Some(("utf8", "yes")) => parameters.smtputf8 = true,
            Some(("ret", "full")) => parameters.ret = Some(Ret::Full),
            Some(("ret", "hdrs")) => parameters.ret = Some(Ret::Headers),
            Some(("envid", id)) => parameters.envid = Some(unescaped(id).into()),
            Some(("notify", which)) => {
                recipients.last_mut().unwrap().notify = match which {
                    "never" => Notify::Never,
                    which => Notify::On {
                        success: which.contains('s'),
                        failure: which.contains('f'),
                        delay: which.contains('d'),
                    },
                };
            }
            Some(("orcpt", text)) => recipients.last_mut().unwrap().orcpt = Some(text.into()),
            _ => recipients.push(word.parse::<Mailbox>().unwrap().into()),
        }
    }
    let message = Message::new([SharedBytes::new(message.to_owned())]).unwrap();
    Transaction { sender, parameters, recipients, message }
}

fn unescaped(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n")
}

fn shown(event: &Event) -> String {
    let failure = |f: &Failure| format!("{:?}, {f}", f.scope);
    match event {
        Event::StartTls => "start TLS".into(),
        Event::Ready => "ready".into(),
        Event::Quit => "quit".into(),
        Event::Closed(closed) => {
            format!("closed {:?} [{}]", closed.cause, failure(&closed.failure))
        }
        Event::Done(report) => {
            let one = |outcome: &Outcome| match outcome {
                Outcome::Delivered { reply, .. } => format!("delivered [{reply}]"),
                Outcome::Deferred(f) => format!("deferred [{}]", failure(f)),
                Outcome::Failed(f) => format!("failed [{}]", failure(f)),
            };
            let all: Vec<_> = report.outcomes.iter().map(one).collect();
            let heard = if report.mail_answered { "done" } else { "done unheard" };
            format!("{heard} {}", all.join(" "))
        }
        other => format!("{other:?}"),
    }
}

fn play(name: &str, text: &str, chunk: usize) {
    let mut lines = text.lines().enumerate().peekable();
    let mut play = Play::new(config(""));
    while let Some((number, line)) = lines.next() {
        let at = format!("{name}:{} (chunks of {chunk})", number + 1);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "CONFIG" => play = Play::new(config(rest)),
            "MESSAGE" => play.message = unescaped(rest),
            "S:" => {
                let mut bytes = format!("{}\r\n", unescaped(rest));
                while let Some((_, more)) = lines.next_if(|(_, next)| next.starts_with("S:")) {
                    bytes += &unescaped(more.strip_prefix("S:").unwrap().trim_start());
                    bytes += "\r\n";
                }
                play.receive(bytes.as_bytes(), chunk);
            }
            "C:" => {
                play.settle();
                let end = play.written.windows(2).position(|two| two == b"\r\n");
                let end = end.unwrap_or_else(|| panic!("{at}: nothing was written"));
                let line: Vec<u8> = play.written.drain(..end + 2).collect();
                assert_eq!(String::from_utf8_lossy(&line[..end]), rest, "{at}");
            }
            "SEND" => {
                let transaction = transaction(rest, &play.message);
                play.client.send(play.now, transaction).unwrap_or_else(|e| panic!("{at}: {e}"));
            }
            "TLS" => play.client.tls_established(play.now),
            "LOST" => play.client.lost("end of stream"),
            "QUIT" => play.client.quit(play.now),
            "TIMEOUT" => {
                let due = play.client.poll_timeout().unwrap_or_else(|| panic!("{at}: no timeout"));
                assert_eq!(due.since(play.now), Duration::from_secs(rest.parse().unwrap()), "{at}");
                play.client.elapsed(due.before(Duration::from_millis(1)));
                play.settle();
                play.client.elapsed(due);
            }
            "=" => {
                play.settle();
                let event = if play.events.is_empty() { None } else { Some(play.events.remove(0)) };
                assert_eq!(event.as_ref().map_or("nothing".into(), shown), rest, "{at}");
            }
            _ => panic!("{at}: unknown step"),
        }
    }
    play.settle();
    assert_eq!(String::from_utf8_lossy(&play.written), "", "{name}: written and not expected");
    assert_eq!(play.events, [], "{name}: events not expected");
}

#[test]
fn talks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/client");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        // A file holds several plays, parted by a line of hyphens.
        for (i, part) in text.split("\n---\n").enumerate() {
            for chunk in [usize::MAX, 1] {
                play(&format!("{name} part {}", i + 1), part, chunk);
            }
            count += 1;
        }
    }
    assert!(count >= 40, "{count}");
}
