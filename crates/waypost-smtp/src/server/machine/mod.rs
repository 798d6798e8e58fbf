//! The states of a connection and what moves them.

mod ahead;
mod answers;
mod commands;
mod receiving;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use waypost_types::{Mailbox, Reply, Timestamp, TlsState};

use super::command::{self, LONGEST_LINE, Script};
use super::sasl::{Exchange, wipe};
use super::{CloseCause, Event, HelloKind, OwnRefusal, ResetCause, Settings, TlsOffer};
use crate::chunked::ChunkedReader;
use crate::end_of_data::DataReader;
use crate::line::{LineError, LineReader};

/// Replies waiting to be sent, beyond which no further command is looked at.
const MOST_OUTPUT: usize = 16 << 10;
/// Octets waiting behind a question, beyond which nothing is to be read.
const MOST_PENDING: usize = 64 << 10;
/// Refusals of our own that are kept until they are asked for.
const MOST_REFUSALS: usize = 1000;

/// What the next octets of the client are.
#[derive(Debug)]
enum Phase {
    /// None may come: the greeting is not out.
    Greeting,
    Command,
    Auth(Exchange),
    Data {
        reader: DataReader,
    },
    /// Those of a chunk (BDAT) of so many octets; the transaction has its reader.
    Chunk {
        octets: u64,
        last: bool,
    },
    /// Those of a chunk that is refused, with the reply that comes behind them.
    Discard {
        left: u64,
        reply: Reply,
    },
    /// Those of a TLS handshake, which are not for us.
    Handshake,
    Closed,
}

/// The event that waits for its answer, with what is to be remembered when it is accepted.
#[derive(Debug)]
enum Question {
    Connect,
    Hello(Hello),
    Xclient(Announced),
    Auth,
    Mail(Transaction),
    Rcpt,
    Data,
    /// The first BDAT.
    Chunk,
    Message,
}

/// Whether the client may announce another one by XCLIENT. It is so for the whole connection: what
/// XCLIENT says cannot change who may give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum XclientOffer {
    Off,
    On,
}

/// What XCLIENT said of EHLO or HELO, which the next one does not change.
#[derive(Clone, Debug, Default)]
struct Announced {
    kind: Option<HelloKind>,
    name: Option<Box<str>>,
}

#[derive(Clone, Debug)]
struct Hello {
    kind: HelloKind,
    name: Box<str>,
}

/// What is known of the client; what it said itself is forgotten when TLS begins.
#[derive(Debug)]
struct Client {
    tls: TlsState,
    hello: Option<Hello>,
    user: Option<Mailbox>,
    announced: Option<Box<Announced>>,
}

#[derive(Debug)]
struct Transaction {
    script: Script,
    recipients: usize,
    /// The message so far, once BDAT was said.
    chunks: Option<Box<ChunkedReader>>,
}

#[derive(Debug, Default)]
struct Tally {
    errors: u32,
    idle_commands: u32,
    fruitless: u32,
    /// Octets of refused chunks.
    discarded: u64,
}

/// Octets that wait behind a question.
#[derive(Debug, Default)]
struct Pending {
    octets: Vec<u8>,
    used: usize,
}

/// What is to be told. Nearly always it is one event, and then it needs no memory of its own.
#[derive(Debug, Default)]
struct Events {
    next: Option<Event>,
    more: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    On,
    /// The connection ends when no message is on its way.
    Stopping,
}

/// One connection's server side; the module's head says in which order to call what.
pub struct Server {
    settings: Arc<Settings>,
    xclient: XclientOffer,
    phase: Phase,
    question: Option<Question>,
    events: Events,
    client: Client,
    transaction: Option<Transaction>,
    /// What the last MAIL allows in replies (RFC 6531 section 3.7.4).
    script: Script,
    tally: Tally,
    lines: LineReader,
    pending: Pending,
    output: Vec<u8>,
    refusals: Vec<OwnRefusal>,
    timer: Timer,
    running: Running,
}

#[derive(Debug)]
enum Timer {
    /// The client has until then.
    Client(Timestamp),
    /// A reply is held back until then.
    Held(Timestamp, Reply),
}

impl Server {
    /// A connection that has just been made, the TLS handshake behind it if TLS is implicit.
    ///
    /// The first event is [`Event::Connect`].
    #[must_use]
    pub fn new(settings: Arc<Settings>, now: Timestamp) -> Self {
        let tls = match settings.tls {
            TlsOffer::Implicit => TlsState::Encrypted,
            TlsOffer::Off | TlsOffer::StartTls => TlsState::Clear,
        };
        let timer = Timer::Client(now + settings.timeouts.command);
        Self {
            settings,
            xclient: XclientOffer::Off,
            phase: Phase::Greeting,
            question: Some(Question::Connect),
            events: Events { next: Some(Event::Connect), more: VecDeque::new() },
            client: Client::unheard(tls),
            transaction: None,
            script: Script::Ascii,
            tally: Tally::default(),
            lines: LineReader::new(LONGEST_LINE),
            pending: Pending::default(),
            output: Vec::new(),
            refusals: Vec::new(),
            timer,
            running: Running::On,
        }
    }

    /// Offers XCLIENT: the client is a proxy that is trusted to say for whom it speaks.
    pub fn offer_xclient(&mut self) {
        self.xclient = XclientOffer::On;
    }

    // ---- what is known -------------------------------------------------------------------------

    /// Whether the session is inside TLS.
    #[must_use]
    pub fn tls(&self) -> TlsState {
        self.client.tls
    }

    /// The argument of the last accepted HELO or EHLO since TLS began.
    #[must_use]
    pub fn hello(&self) -> Option<(HelloKind, &str)> {
        self.client.hello.as_ref().map(|hello| (hello.kind, &*hello.name))
    }

    /// The user that AUTH proved.
    #[must_use]
    pub fn user(&self) -> Option<&Mailbox> {
        self.client.user.as_ref()
    }

    /// Whether MAIL was accepted and its transaction is still open.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Octets held of the message that is being received, while one is.
    #[must_use]
    pub fn message_octets(&self) -> Option<u64> {
        match &self.phase {
            Phase::Data { reader } => Some(reader.octets_kept()),
            _ => self.transaction.as_ref()?.chunks.as_ref().map(|reader| reader.octets_kept()),
        }
    }

    /// Whether the connection is to be closed once the output is sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether octets may be given to [`Server::handle_bytes`]; no, while 64 KiB of them or 16 KiB
    /// of replies wait already, in a TLS handshake, and after the end.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        !matches!(self.phase, Phase::Handshake | Phase::Closed)
            && self.pending.len() < MOST_PENDING
            && self.output.len() < MOST_OUTPUT
    }

    /// Whether the event handed out last waits for its answer.
    pub(crate) fn is_asking(&self) -> bool {
        self.question.is_some() && self.events.is_empty()
    }

    // ---- out -----------------------------------------------------------------------------------

    /// What happened next; looks at waiting octets when nothing is in their way any more.
    #[must_use]
    pub fn poll_event(&mut self, now: Timestamp) -> Option<Event> {
        if self.events.is_empty() {
            self.resume(now);
        }
        self.events.pop()
    }

    /// Octets for the client: the replies to all commands that were looked at, for one write.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// When to call [`Server::handle_timeout`]; `None` while the application is being asked.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.timer {
            _ if self.is_closed() => None,
            Timer::Held(at, _) => Some(*at),
            Timer::Client(_) if self.question.is_some() => None,
            Timer::Client(at) => Some(*at),
        }
    }

    // ---- in ------------------------------------------------------------------------------------

    /// Octets of the client, in chunks of any size. Ask [`Server::wants_read`] first: what is given
    /// while a question waits for its answer is kept.
    pub fn handle_bytes(&mut self, now: Timestamp, bytes: &[u8]) {
        match self.phase {
            _ if bytes.is_empty() => return,
            Phase::Closed | Phase::Handshake => return,
            Phase::Greeting => {
                self.events = Events::default();
                let text = "Wait for the greeting before you talk (RFC 5321 section 4.3.1)";
                self.close(CloseCause::EarlyTalker, Some(&Reply::new(554, (5, 5, 1), text)));
                return;
            }
            Phase::Command
            | Phase::Auth(_)
            | Phase::Data { .. }
            | Phase::Chunk { .. }
            | Phase::Discard { .. } => {}
        }
        if self.pending.len() > 0 {
            self.pending.push(bytes);
            self.resume(now);
            return;
        }
        let used = self.advance(now, bytes);
        if !matches!(self.phase, Phase::Handshake | Phase::Closed) {
            self.pending.push(bytes.get(used..).unwrap_or_default());
        }
    }

    /// Lets go of the message that is being received, for want of room: it is read to its end and
    /// answered with `452 4.3.1`. Without one it does nothing.
    pub fn discard_message(&mut self) {
        if let Phase::Data { reader } = &mut self.phase {
            reader.discard();
        } else if let Some(reader) = self.transaction.as_mut().and_then(|open| open.chunks.as_mut())
        {
            reader.discard();
        }
    }

    /// The client sends no more, or the TLS handshake failed; an open transaction is over.
    pub fn handle_eof(&mut self) {
        let cause = match self.phase {
            Phase::Handshake => CloseCause::TlsFailed,
            _ => CloseCause::Disconnected,
        };
        self.close(cause, None);
    }

    /// Time has passed [`Server::poll_timeout`]; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let deadline = now + self.settings.timeouts.command;
        match std::mem::replace(&mut self.timer, Timer::Client(deadline)) {
            Timer::Held(_, reply) => {
                if matches!(self.phase, Phase::Greeting) {
                    self.phase = Phase::Command;
                }
                self.pass_on(now, &reply);
                self.after_reply();
                self.resume(now);
            }
            Timer::Client(_) => {
                let text = "Too slow; connect again to go on";
                let reply = match self.phase {
                    Phase::Handshake => None,
                    _ => Some(Reply::new(421, (4, 4, 2), text)),
                };
                self.close(CloseCause::TimedOut, reply.as_ref());
            }
        }
    }

    /// The TLS handshake asked for by [`Event::StartTls`] is done: all that was said is forgotten
    /// (RFC 3207 section 4.2).
    pub fn handle_tls(&mut self, now: Timestamp) {
        if !matches!(self.phase, Phase::Handshake) {
            return;
        }
        self.client = Client::unheard(TlsState::Encrypted);
        self.transaction = None;
        self.lines.clear();
        self.pending = Pending::default();
        self.phase = Phase::Command;
        self.rearm(now);
    }

    /// The server is going down: the connection gets `421 4.3.2` now, or when the message that is
    /// being received has its reply. Between MAIL and DATA none is.
    pub fn handle_shutdown(&mut self) {
        self.running = Running::Stopping;
        self.stop_if_idle();
    }

    // ---- octets --------------------------------------------------------------------------------

    fn resume(&mut self, now: Timestamp) {
        if self.pending.len() == 0 || self.is_blocked() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.used += self.advance(now, pending.rest());
        if pending.len() > 0 && !matches!(self.phase, Phase::Handshake | Phase::Closed) {
            self.pending = pending;
        }
    }

    fn is_blocked(&self) -> bool {
        self.question.is_some()
            || !self.events.is_empty()
            || matches!(self.timer, Timer::Held(..))
            || self.output.len() >= MOST_OUTPUT
    }

    /// Looks at octets until something is in the way; returns how many it took.
    fn advance(&mut self, now: Timestamp, bytes: &[u8]) -> usize {
        let mut used = 0;
        while !self.is_blocked() {
            let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) else { break };
            used += match &mut self.phase {
                Phase::Greeting | Phase::Handshake | Phase::Closed => break,
                Phase::Command | Phase::Auth(_) => {
                    let (taken, line) = self.lines.read(rest);
                    if let Some(line) = line {
                        self.line(now, line);
                    }
                    taken
                }
                Phase::Data { .. } => self.data(now, rest),
                Phase::Chunk { .. } => self.chunk(now, rest),
                Phase::Discard { .. } => self.discarded(now, rest),
            };
        }
        used
    }

    fn line(&mut self, now: Timestamp, line: Result<Vec<u8>, LineError>) {
        let exchange = match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Auth(exchange) => Some(exchange),
            _ => None,
        };
        match (line, exchange) {
            (Err(LineError::TooLong { limit }), exchange) => {
                let refusal = match exchange {
                    Some(_) => command::response_too_long(limit),
                    None => command::line_too_long(limit),
                };
                self.misuse(now, &refusal);
            }
            (Err(LineError::Octet), _) => {
                let text = "The line holds a CR, LF or NUL inside; only CR LF ends a command";
                self.misuse(now, &Reply::new(500, (5, 5, 2), text));
            }
            (Ok(mut response), Some(exchange)) => {
                let step = exchange.step(&response);
                wipe(&mut response);
                self.auth_step(now, step);
            }
            (Ok(mut line), None) => {
                match command::parse(&line) {
                    Ok(command) => self.command(now, command),
                    Err(reply) => self.misuse(now, &reply),
                }
                wipe(&mut line);
            }
        }
        self.after_reply();
    }

    /// What was refused without asking since the last call: commands out of form or order, or
    /// beyond a limit. For counting: the replies are in the output. Messages that cannot be taken are in
    /// [`ResetCause::Message`], the end of the connection in [`CloseCause`]. At most 1,000 are kept.
    #[must_use]
    pub fn take_refusals(&mut self) -> Vec<OwnRefusal> {
        std::mem::take(&mut self.refusals)
    }

    // ---- replies -------------------------------------------------------------------------------

    fn ask(&mut self, question: Question, event: Event) {
        self.question = Some(question);
        self.events.push(event);
    }

    /// Sends a reply of our own; the client's time begins anew.
    fn say(&mut self, now: Timestamp, reply: &Reply) {
        self.note(reply);
        self.pass_on(now, reply);
    }

    /// Remembers a reply of our own that refuses something.
    fn note(&mut self, reply: &Reply) {
        if !reply.is_positive() && reply.code() >= 400 && self.refusals.len() < MOST_REFUSALS {
            self.refusals.push(OwnRefusal { code: reply.code(), enhanced: reply.enhanced() });
        }
    }

    /// Sends a reply that the application gave; the client's time begins anew.
    fn pass_on(&mut self, now: Timestamp, reply: &Reply) {
        self.write(reply);
        self.rearm(now);
    }

    fn write(&mut self, reply: &Reply) {
        match self.script {
            Script::Ascii => reply.in_ascii().write_to(&mut self.output),
            Script::NeedsSmtpUtf8 => reply.write_to(&mut self.output),
        }
    }

    /// Refuses a command for its form or order, or ends the connection if that was one too many.
    fn misuse(&mut self, now: Timestamp, reply: &Reply) {
        self.tally.errors += 1;
        if !self.close_if_too_many(self.tally.errors, self.settings.limits.errors, "errors") {
            self.say(now, reply);
        }
    }

    /// Counts a command that carries nothing forward; `false` if it was one too many.
    fn idle(&mut self) -> bool {
        self.tally.idle_commands += 1;
        let (count, limit) = (self.tally.idle_commands, self.settings.limits.idle_commands);
        !self.close_if_too_many(count, limit, "commands without a message")
    }

    fn idle_say(&mut self, now: Timestamp, reply: &Reply) {
        if self.idle() {
            self.say(now, reply);
        }
    }

    fn close_if_too_many(&mut self, count: u32, limit: u32, what: &str) -> bool {
        if count <= limit {
            return false;
        }
        let text = format!("Too many {what} (more than {limit}); connect again");
        self.close(CloseCause::TooManyErrors, Some(&Reply::new(421, (4, 7, 0), &text)));
        true
    }

    fn rearm(&mut self, now: Timestamp) {
        let timeouts = &self.settings.timeouts;
        self.timer = Timer::Client(match self.phase {
            Phase::Data { .. } | Phase::Chunk { .. } | Phase::Discard { .. } => now + timeouts.data,
            Phase::Handshake => now + timeouts.handshake,
            _ => now + timeouts.command,
        });
    }

    /// What may follow any command and any answer.
    fn after_reply(&mut self) {
        let (tally, limits) = (&self.tally, &self.settings.limits);
        let counts = [
            (tally.errors, limits.errors, "errors"),
            (tally.fruitless, limits.fruitless, "commands without a message"),
        ];
        if self.question.is_none() && !matches!(self.timer, Timer::Held(..)) {
            for (count, limit, what) in counts {
                if !self.is_closed() {
                    self.close_if_too_many(count, limit, what);
                }
            }
        }
        self.stop_if_idle();
    }

    /// Once the server goes down, only a message that is on its way keeps a connection open.
    fn stop_if_idle(&mut self) {
        let held = matches!(self.timer, Timer::Held(..)) && !matches!(self.phase, Phase::Greeting);
        let receiving = match self.phase {
            Phase::Data { .. } | Phase::Chunk { .. } => true,
            _ => self.transaction.as_ref().is_some_and(|open| open.chunks.is_some()),
        };
        let busy = receiving || held || self.question.is_some() || self.is_closed();
        if self.running == Running::On || (busy && !matches!(self.phase, Phase::Handshake)) {
            return;
        }
        let text = "The server is going down; connect again in a minute";
        let reply = Reply::new(421, (4, 3, 2), text);
        let in_clear = !matches!(self.phase, Phase::Handshake);
        self.close(CloseCause::ShuttingDown, in_clear.then_some(&reply));
    }

    fn end_transaction(&mut self, cause: ResetCause) {
        if self.transaction.take().is_some() {
            self.tally.fruitless += 1;
            self.events.push(Event::Reset(cause));
        }
    }

    fn close(&mut self, cause: CloseCause, reply: Option<&Reply>) {
        if self.is_closed() {
            return;
        }
        if let Some(reply) = reply {
            self.write(reply);
        }
        self.phase = Phase::Closed;
        self.question = None;
        self.transaction = None;
        self.pending = Pending::default();
        self.lines.clear();
        self.events.push(Event::Closed(cause));
    }
}

/// Shows where the connection stands, and nothing that the client said.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Greeting => "greeting",
            Phase::Command => "command",
            Phase::Auth(_) => "auth",
            Phase::Data { .. } => "data",
            Phase::Chunk { .. } | Phase::Discard { .. } => "chunk",
            Phase::Handshake => "handshake",
            Phase::Closed => "closed",
        };
        f.debug_struct("Server")
            .field("phase", &phase)
            .field("tls", &self.client.tls)
            .field("in_transaction", &self.is_in_transaction())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has said nothing yet.
    fn unheard(tls: TlsState) -> Self {
        Self { tls, hello: None, user: None, announced: None }
    }
}

impl Events {
    fn push(&mut self, event: Event) {
        match self.next {
            None => self.next = Some(event),
            Some(_) => self.more.push_back(event),
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let next = self.next.take()?;
        self.next = self.more.pop_front();
        if self.next.is_none() {
            self.more = VecDeque::new();
        }
        Some(next)
    }

    fn is_empty(&self) -> bool {
        self.next.is_none()
    }
}

impl Pending {
    fn push(&mut self, bytes: &[u8]) {
        self.octets.drain(..self.used.min(self.octets.len()));
        self.used = 0;
        self.octets.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        self.octets.get(self.used..).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.rest().len()
    }
}
