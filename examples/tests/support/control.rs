//! Commands of administrators, and a server for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::serving::{Folder, Serve, queue_id};
use super::sink::Sink;
use super::{Ran, waypost};

/// A message.
pub(crate) const MESSAGE: &[u8] = b"From: a@elsewhere.example\r\nSubject: x\r\n\r\nx\r\n";

/// Unknown recipients go to a second system, whose retries are an hour apart; a quarantine for one
/// sender; a relay for loopback.
pub(crate) fn organization(second: SocketAddr) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 1

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m@solarmora.com"]

[[organization.route]]
name = "second"
host = "{}"
port = {}
require_tls = false
retry = {{ delays = ["1h"] }}

[[organization.rule]]
description = "Suspects"
affects = ["inbound"]
accounts = ["unrecognized"]
envelope = {{ senders = [{{ address = "suspect@elsewhere.example" }}] }}
then = {{ quarantine = "review" }}

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "second" }} }}

[[organization.relay]]
description = "Loopback"
allowed_senders = "registered-users"
addresses = [{{ range = "127.0.0.1" }}]
"#,
        second.ip(),
        second.port()
    )
}

/// A sink that defers every recipient until it is opened.
pub(crate) struct Gate {
    pub(crate) sink: Sink,
    open: Arc<AtomicBool>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&open);
        let sink = Sink::answering(move |command| {
            let defers = command.starts_with("RCPT TO:") && !asked.load(Ordering::SeqCst);
            defers.then(|| "451 4.2.0 Not now".to_owned())
        });
        Self { sink, open }
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn send(serve: &Serve, from: &str, to: &[&str]) -> String {
    queue_id(&serve.session("mx").message(from, to, MESSAGE)).to_owned()
}

/// Runs a command on the folder's configuration: `queue show ID` is `["queue", "show", "ID"]`.
pub(crate) fn ask(folder: &Folder, command: &[&str]) -> Ran {
    let config = folder.configuration();
    let mut words = vec![command[0], &config];
    words.extend(&command[1..]);
    waypost(&words, "")
}

/// As [`ask`], with exit status 0.
pub(crate) fn done(folder: &Folder, command: &[&str]) -> String {
    let ran = ask(folder, command);
    assert_eq!(ran.status, 0, "{command:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// The JSON lines of a command with exit status 0.
pub(crate) fn lines(folder: &Folder, command: &[&str]) -> Vec<Value> {
    let text = done(folder, &[command, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks until the messages in a state are these many.
pub(crate) fn wait_for(folder: &Folder, state: &str, count: usize) -> Vec<Value> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let found = lines(folder, &["queue", "list", "--state", state]);
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < until, "{count} {state}: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A text without what differs from run to run: ids, times, the port.
pub(crate) fn stable(text: &str, id: &str, second: SocketAddr) -> String {
    let text = text.replace(id, "0000000000ID0").replace(&format!(":{}", second.port()), ":PORT");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let time = rest.get(..20).filter(|part| {
            let shape = part.chars().zip("0000-00-00T00:00:00Z".chars());
            let mut shape =
                shape.map(|(c, want)| if want == '0' { c.is_ascii_digit() } else { c == want });
            shape.all(|fits| fits)
        });
        match time {
            Some(time) => {
                out.push_str("2026-MM-DDTHH:MM:SSZ");
                rest = &rest[time.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}
