//! A next hop: the test kit's peer, with replies by a function.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use waypost_net::test_kit::{self, Act, Peer, Phase, Script, Session};

use super::Patience;

/// The longest wait for an address.
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

/// A running sink; dropped, it closes its port and all connections.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    peer: Peer,
}

impl Sink {
    /// A sink on a free port that takes everything.
    pub(crate) fn start() -> Self {
        Self::run(Script::new())
    }

    /// A sink on a free port with replies of its own. The final dot is asked for as `.`; after LHLO it
    /// is asked for each recipient, as `. <recipient>`.
    pub(crate) fn answering(
        answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::run(Script::new().ask(move |phase, command| {
            let reply = match phase {
                Phase::Banner | Phase::Handshake | Phase::Content => None,
                Phase::End if command.starts_with('<') => answers(&format!(". {command}")),
                _ => answers(command),
            };
            reply.map(Act::Reply)
        }))
    }

    /// A sink on a port that [`reserved`] gave.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let peer = once_free(|| Script::new().bind(address).start()).unwrap();
        Self { address, peer }
    }

    /// A sink that does what a script says.
    pub(crate) fn run(script: Script) -> Self {
        let peer = script.start().unwrap();
        Self { address: peer.address(), peer }
    }

    /// The peer itself.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
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
        // Looked at now and then, since a look copies all that came.
        let mut patience = Patience::new();
        loop {
            let all = self.received();
            if enough(&all) {
                return all;
            }
            assert!(patience.lasts(all.len()), "{what}: only {} came", all.len());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        received(&self.peer.sessions())
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.peer.sessions().len()
    }
}

/// What was taken and answered for each recipient, in the order in which it came.
fn received(sessions: &[Session]) -> Vec<Received> {
    let mut all = Vec::new();
    for session in sessions {
        let is_lmtp = session.commands.first().is_some_and(|first| first.starts_with("LHLO"));
        for one in session.transactions.iter().filter(|one| one.is_taken()) {
            if !is_lmtp || one.verdicts.len() == one.recipients.len() {
                all.push((one.whole, Received::new(one, is_lmtp)));
            }
        }
    }
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, one)| one).collect()
}

impl Received {
    fn new(one: &test_kit::Received, is_lmtp: bool) -> Self {
        let argument = |address: &str, parameters: &[String]| {
            let more: String = parameters.iter().map(|word| format!(" {word}")).collect();
            format!("<{address}>{more}")
        };
        let to = one.recipients.iter().zip(&one.recipient_parameters).enumerate();
        let to = to.filter(|(place, _)| !is_lmtp || one.verdicts[*place].starts_with('2'));
        Self {
            from: argument(&one.sender, &one.parameters),
            to: to.map(|(_, (address, parameters))| argument(address, parameters)).collect(),
            message: one.content.clone(),
        }
    }
}

/// How many addresses the tests of this process have drawn.
static DRAWN: AtomicU16 = AtomicU16::new(0);

/// An address where nobody listens; one that no other test draws, where the system has more than one
/// loopback address. Nothing is bound to find it: a process that is being started would hold that socket a
/// moment longer.
pub(crate) fn reserved() -> SocketAddr {
    if !cfg!(target_os = "linux") {
        return TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    }
    // By the process an address of its own, by the test a port below those that the system gives away.
    let [.., third, high, low] = std::process::id().to_be_bytes();
    let port = 20_000 + DRAWN.fetch_add(1, Ordering::Relaxed) % 10_000;
    SocketAddr::from(([127, 128 + third % 64, high, low], port))
}

/// Opens what listens at an address where somebody listened before. A process that is being started has a
/// copy of each socket until it becomes its program, so the address may be in use a moment longer.
pub(crate) fn once_free<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}
