//! A next hop: a blocking SMTP server that keeps what it gets, and refuses what it is told to.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a sink took with 250 to the final dot.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The argument of MAIL behind `FROM:`, with its parameters.
    pub(crate) from: String,
    /// The arguments of the accepted RCPTs behind `TO:`.
    pub(crate) to: Vec<String>,
    /// The message without stuffed dots.
    pub(crate) message: Vec<u8>,
}

impl Received {
    /// The message as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// What stands behind the trace line that Waypost put on top.
    pub(crate) fn behind_trace(&self) -> &[u8] {
        assert!(self.message.starts_with(b"Received: "), "{}", self.text());
        let mut at = 0;
        for (place, line) in self.message.split_inclusive(|b| *b == b'\n').enumerate() {
            if place > 0 && !line.starts_with(b"\t") {
                break;
            }
            at += line.len();
        }
        &self.message[at..]
    }
}

/// The reply to a command, if it is not the usual one. The final dot is asked for as `.`; after LHLO it
/// is asked for each recipient, as `. <recipient>`.
pub(crate) type Answers = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A running sink; dropped, it closes its port and all connections.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    came: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
    answers: Box<Answers>,
}

impl Sink {
    /// A sink on a free port that takes everything.
    pub(crate) fn start() -> Self {
        Self::answering(|_| None)
    }

    /// A sink on a free port with replies of its own.
    pub(crate) fn answering(
        answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::run(TcpListener::bind("127.0.0.1:0").unwrap(), Box::new(answers))
    }

    /// A sink on a port that [`reserved`] gave.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::run(TcpListener::bind(address).unwrap(), Box::new(|_| None))
    }

    fn run(listener: TcpListener, answers: Box<Answers>) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            came: Condvar::new(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
            answers,
        });
        let accepting = Arc::clone(&shared);
        let task = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                accepting.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&accepting);
                // A peer that hangs up ends its thread.
                std::thread::spawn(move || talk(&stream, &shared));
            }
        });
        Self { address, shared, task: Some(task) }
    }

    /// Waits until `count` messages came; all that came.
    pub(crate) fn wait(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} messages"), |all| all.len() >= count)
    }

    /// Waits for exactly one message.
    pub(crate) fn only(&self) -> Received {
        let all = self.wait(1);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    /// Waits until what came fulfils a condition.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        enough: impl Fn(&[Received]) -> bool,
    ) -> Vec<Received> {
        let until = Instant::now() + PATIENCE;
        let mut received = self.shared.received.lock().unwrap();
        while !enough(&received) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: only {} came", received.len());
            received = self.shared.came.wait_timeout(received, left).unwrap().0;
        }
        received.clone()
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(task) = self.task.take() {
            task.join().unwrap();
        }
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// An address where nobody listens; one that no other test draws, where the system has more than one
/// loopback address.
pub(crate) fn reserved() -> SocketAddr {
    let own = match cfg!(target_os = "linux") {
        true => {
            let [.., high, low] = std::process::id().to_be_bytes();
            format!("127.77.{high}.{}:0", low.max(1))
        }
        false => "127.0.0.1:0".to_owned(),
    };
    TcpListener::bind(own).unwrap().local_addr().unwrap()
}

fn talk(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut out = stream;
    let mut open: Option<Received> = None;
    let mut lmtp = false;
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes());
    say("220 sink.example ESMTP")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end_matches("\r\n");
        let upper = line.to_ascii_uppercase();
        let own = (shared.answers)(line);
        let accepted = own.as_deref().is_none_or(|reply| reply.starts_with(['2', '3']));
        lmtp |= upper.starts_with("LHLO");
        let usual = if upper.starts_with("EHLO") || upper.starts_with("LHLO") {
            "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n\
             250-SMTPUTF8\r\n250 SIZE 100000000"
        } else if upper.starts_with("MAIL FROM:") {
            if accepted {
                let from = line[10..].to_owned();
                open = Some(Received { from, to: Vec::new(), message: Vec::new() });
            }
            "250 2.1.0 Ok"
        } else if upper.starts_with("RCPT TO:") {
            if let Some(open) = open.as_mut().filter(|_| accepted) {
                open.to.push(line[8..].to_owned());
            }
            "250 2.1.5 Ok"
        } else if upper == "DATA" {
            match open.take() {
                Some(begun) if accepted && !begun.to.is_empty() => {
                    say(own.as_deref().unwrap_or("354 Go on"))?;
                    take(&mut lines, begun, shared, lmtp, &mut say)?;
                    continue;
                }
                _ => "554 5.5.1 No recipients",
            }
        } else if upper == "QUIT" {
            return say("221 2.0.0 Bye");
        } else {
            "250 2.0.0 Ok"
        };
        say(own.as_deref().unwrap_or(usual))?;
    }
}

fn take(
    lines: &mut BufReader<&TcpStream>,
    mut begun: Received,
    shared: &Shared,
    lmtp: bool,
    say: &mut impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    let mut line_begins = true;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line_begins && line == b".\r\n" {
            break;
        }
        let stuffed = line_begins && line.starts_with(b".");
        begun.message.extend_from_slice(&line[usize::from(stuffed)..]);
        line_begins = line.ends_with(b"\r\n");
    }
    let each = match lmtp {
        true => begun.to.iter().map(|to| format!(". {to}")).collect(),
        false => vec![".".to_owned()],
    };
    let own: Vec<Option<String>> = each.iter().map(|dot| (shared.answers)(dot)).collect();
    let taken = |own: &Option<String>| own.as_deref().is_none_or(|reply| reply.starts_with('2'));
    if lmtp {
        let mut own = own.iter();
        begun.to.retain(|_| own.next().is_some_and(taken));
    }
    if own.iter().any(taken) {
        shared.received.lock().unwrap().push(begun);
        shared.came.notify_all();
    }
    own.iter().try_for_each(|own| say(own.as_deref().unwrap_or("250 2.0.0 Taken")))
}
