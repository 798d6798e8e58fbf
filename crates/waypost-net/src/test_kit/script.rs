//! What a peer is told to do.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::certificate::Identity;
use super::peer::Peer;

/// Where in a conversation something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The client has connected and waits for the greeting.
    Banner,
    /// EHLO, LHLO or HELO, in clear text or inside TLS.
    Hello,
    /// STARTTLS.
    StartTls,
    /// The client begins the TLS handshake.
    Handshake,
    /// AUTH, and each answer that belongs to it.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The first line of a message's content has come, or the first octets of a chunk; what follows is
    /// not read before the act is over.
    Content,
    /// BDAT without LAST: its chunk has come.
    Chunk,
    /// The final dot, or the last chunk, has come. For LMTP once for each recipient; the text that
    /// [`Script::when`] looks at is then its address in angle brackets.
    End,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
    /// Any other command.
    Other,
}

/// What happens instead of the usual reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// This is said; CR LF is put at its end. In [`Phase::Content`]: said in mid-message.
    Reply(String),
    /// The same, and the connection is closed.
    ReplyAndDrop(String),
    /// The connection is closed without a word.
    Drop,
    /// So many octets of the usual reply, then the connection is closed.
    Cut(usize),
    /// So many octets of the usual reply; the rest after [`Peer::release`].
    CutAndStall(usize),
    /// Nothing is said or read before [`Peer::release`]; then as usual.
    Stall,
    /// The usual reply octet by octet, with such a pause before each.
    Trickle(Duration),
    /// A reply with the usual code, of so many lines with so many octets of text each.
    Flood {
        /// How many lines.
        lines: usize,
        /// Octets of text in each.
        octets: usize,
    },
    /// These octets, as they are.
    Bytes(Vec<u8>),
}

impl Act {
    /// [`Act::Reply`].
    pub fn reply(text: impl Into<String>) -> Self {
        Act::Reply(text.into())
    }
}

/// A function that gives the reply to a command, if it is not to be the usual one.
type Answers = dyn Fn(Phase, &str) -> Option<Act> + Send + Sync;

/// What a peer offers, and its table of faults.
///
/// Without any, it is a good peer: it offers PIPELINING, SIZE, 8BITMIME, SMTPUTF8 and
/// ENHANCEDSTATUSCODES, speaks SMTP and LMTP as the client greets it, and takes everything. The first
/// line of the table that fits decides.
#[derive(Clone)]
pub struct Script {
    pub(super) bind: SocketAddr,
    pub(super) offers: Vec<String>,
    pub(super) starttls: Option<Identity>,
    pub(super) implicit: Option<Identity>,
    rules: Vec<Rule>,
}

#[derive(Clone)]
struct Rule {
    does: Does,
    /// How often it may still be used; `None`: always. Shared by all connections.
    left: Option<Arc<Mutex<usize>>>,
}

#[derive(Clone)]
enum Does {
    At { phase: Phase, text: Option<String>, act: Act },
    Ask(Arc<Answers>),
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// A good peer on a free port of 127.0.0.1.
    #[must_use]
    pub fn new() -> Self {
        let offers =
            ["PIPELINING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"];
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            offers: offers.map(str::to_owned).to_vec(),
            starttls: None,
            implicit: None,
            rules: Vec::new(),
        }
    }

    /// Listens at this address, which should be a loopback one.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = address;
        self
    }

    /// Offers an extension, such as `CHUNKING` or `SIZE 1000`; one of the same keyword is replaced.
    #[must_use]
    pub fn offers(self, line: &str) -> Self {
        let mut with = self.lacks(line);
        with.offers.push(line.to_owned());
        with
    }

    /// Does not offer an extension.
    #[must_use]
    pub fn lacks(mut self, keyword: &str) -> Self {
        let first = |line: &str| line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let keyword = first(keyword);
        self.offers.retain(|line| first(line) != keyword);
        self
    }

    /// Offers STARTTLS, with this certificate.
    #[must_use]
    pub fn starttls(mut self, identity: &Identity) -> Self {
        self.starttls = Some(identity.clone());
        self
    }

    /// Begins with the TLS handshake, with this certificate.
    #[must_use]
    pub fn implicit_tls(mut self, identity: &Identity) -> Self {
        self.implicit = Some(identity.clone());
        self
    }

    /// Each time in this phase.
    #[must_use]
    pub fn at(self, phase: Phase, act: Act) -> Self {
        self.rule(Does::At { phase, text: None, act }, None)
    }

    /// The first `count` times in this phase, over all connections.
    #[must_use]
    pub fn first(self, count: usize, phase: Phase, act: Act) -> Self {
        self.rule(Does::At { phase, text: None, act }, Some(count))
    }

    /// In this phase, each time the command holds this text.
    #[must_use]
    pub fn when(self, phase: Phase, text: &str, act: Act) -> Self {
        self.rule(Does::At { phase, text: Some(text.to_owned()), act }, None)
    }

    /// As a function says, which is asked with the phase and the command; `None` leaves it to the lines
    /// below.
    #[must_use]
    pub fn ask(self, answers: impl Fn(Phase, &str) -> Option<Act> + Send + Sync + 'static) -> Self {
        self.rule(Does::Ask(Arc::new(answers)), None)
    }

    /// Starts the peer.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(self) -> io::Result<Peer> {
        Peer::start(self)
    }

    fn rule(mut self, does: Does, count: Option<usize>) -> Self {
        self.rules.push(Rule { does, left: count.map(|count| Arc::new(Mutex::new(count))) });
        self
    }

    /// What to do now, if not the usual.
    pub(super) fn act(&self, phase: Phase, command: &str) -> Option<Act> {
        self.rules.iter().find_map(|rule| rule.act(phase, command))
    }
}

impl Rule {
    fn act(&self, phase: Phase, command: &str) -> Option<Act> {
        let act = match &self.does {
            Does::Ask(answers) => answers(phase, command)?,
            Does::At { phase: at, text, act } => {
                let fits = text.as_ref().is_none_or(|text| command.contains(text.as_str()));
                (*at == phase && fits).then(|| act.clone())?
            }
        };
        if let Some(left) = &self.left {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = left.checked_sub(1)?;
        }
        Some(act)
    }
}
