//! The state machine.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use waypost_types::{Host, Outcome, Reply, ReplyClass, Timestamp, TlsState};

use super::closed::{Cause, Closed};
use super::config::{ClientConfig, Credentials, Protocol, TlsUse};
use super::extensions::Extensions;
use super::outbox::Outbox;
use super::reply_reader::{RawReply, ReplyReader};
use super::run::{Progress, Run, Step};
use super::transaction::{Report, Transaction};

/// Octets of a message that put off its time-out.
const DATA_BLOCK: u64 = 16 * 1024;

/// News from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer waits for a TLS handshake. Do it, then call [`Client::tls_established`].
    StartTls,
    /// Transactions can be sent.
    Ready,
    /// A transaction is over; if the connection is still good, the next one can be sent.
    Done(Report),
    /// The peer answered QUIT, or went after it; close the connection.
    Quit,
    /// The connection is of no more use; close it. No event follows.
    Closed(Closed),
}

/// The client cannot take a transaction: it is not idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is not ready for a transaction; wait for `Ready` or `Done`")]
pub struct NotReady;

enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// Bytes in clear text are an attack from here on.
    Handshake,
    Auth(Auth),
    Idle,
    Busy(Box<Run>),
    Quit,
    Closed,
}

#[derive(Clone, Copy)]
enum Auth {
    /// AUTH PLAIN went out with its answer.
    Plain,
    /// AUTH LOGIN went out: the user is asked for next.
    LoginUser,
    /// The user went out: the password is asked for next.
    LoginPassword,
    /// All is said.
    Verdict,
}

/// An SMTP or LMTP client on one connection; see the [module](crate::client) for how to drive it.
pub struct Client {
    config: Arc<ClientConfig>,
    state: State,
    tls: TlsState,
    extensions: Extensions,
    reader: ReplyReader,
    outbox: Outbox,
    /// For each reply that is due, the octet of our stream that it answers.
    due: VecDeque<u64>,
    deadline: Option<Timestamp>,
    /// How much of the stream was sent when the deadline was set.
    marked: u64,
    /// Whether the peer may hold a transaction that we gave up.
    open: bool,
    events: VecDeque<Event>,
}

impl Client {
    /// A client on a connection that was just made (for [`TlsUse::Implicit`]: inside TLS).
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, now: Timestamp) -> Self {
        let tls = match config.tls {
            TlsUse::Implicit => TlsState::Encrypted,
            TlsUse::Off | TlsUse::Opportunistic | TlsUse::Required => TlsState::Clear,
        };
        let mut client = Self {
            config,
            state: State::Greeting,
            tls,
            extensions: Extensions::default(),
            reader: ReplyReader::default(),
            outbox: Outbox::default(),
            due: VecDeque::from([0]),
            deadline: None,
            marked: 0,
            open: false,
            events: VecDeque::new(),
        };
        client.arm(now);
        client
    }

    /// Takes bytes that the peer sent.
    pub fn receive(&mut self, now: Timestamp, bytes: &[u8]) {
        let mut input = bytes;
        while !input.is_empty() {
            match self.state {
                State::Closed => return,
                State::Handshake => return self.injected(),
                _ => {}
            }
            match self.reader.read(&mut input) {
                Ok(Some(raw)) => self.reply(now, &raw),
                Ok(None) => return,
                Err(error) => return self.close(Cause::Syntax(error), None, ""),
            }
        }
    }

    /// The bytes to be written, in order. They stay until [`Client::transmitted`] takes them off.
    pub fn transmit(&self) -> impl Iterator<Item = &[u8]> {
        self.outbox.slices()
    }

    /// Takes off the first `count` octets, which were written.
    ///
    /// A caller that cannot tell how much of a failed write went out must say that all of it did:
    /// whether the final dot may have reached the peer decides if another host may be tried (A9).
    pub fn transmitted(&mut self, now: Timestamp, count: usize) {
        self.outbox.advance(count);
        if let State::Busy(run) = &self.state
            && matches!(run.step, Step::Message(_))
            && (self.outbox.sent() - self.marked >= DATA_BLOCK || run.is_message_sent(&self.outbox))
        {
            self.arm(now);
        }
    }

    /// The TLS handshake that [`Event::StartTls`] asked for is done, and its result is good.
    ///
    /// What was heard before is forgotten: EHLO is said again (RFC 3207 section 4.2).
    pub fn tls_established(&mut self, now: Timestamp) {
        if matches!(self.state, State::Handshake) {
            self.tls = TlsState::Encrypted;
            self.extensions = Extensions::default();
            self.reader = ReplyReader::default();
            self.hello();
            self.arm(now);
        }
    }

    /// Begins a transaction. Its end is [`Event::Done`], whatever happens.
    ///
    /// # Errors
    /// [`NotReady`] unless the client is idle ([`Client::is_ready`]).
    pub fn send(&mut self, now: Timestamp, transaction: Transaction) -> Result<(), NotReady> {
        if !self.is_ready() {
            return Err(NotReady);
        }
        let mut due = Vec::new();
        let run = Run::begin(
            transaction,
            self.open,
            &self.extensions,
            &self.config,
            &mut self.outbox,
            &mut due,
        );
        if run.is_decided() {
            self.done(run);
            return Ok(());
        }
        self.open = false;
        self.state = State::Busy(Box::new(run));
        if self.reader.is_midway() {
            self.close(Cause::OutOfStep, None, "a reply has begun that nobody asked for");
            return Ok(());
        }
        self.due.extend(due);
        self.arm(now);
        Ok(())
    }

    /// Says QUIT, if the client is idle; otherwise nothing happens.
    pub fn quit(&mut self, now: Timestamp) {
        if self.is_ready() {
            self.state = State::Quit;
            self.command("QUIT\r\n");
            self.arm(now);
        }
    }

    /// The time of [`Client::poll_timeout`] has come.
    pub fn elapsed(&mut self, now: Timestamp) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.close(Cause::TimedOut, None, "");
        }
    }

    /// The connection is at its end, or broke; `because` says how, for the log.
    pub fn lost(&mut self, because: &str) {
        self.close(Cause::Lost, None, because);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Client::elapsed`], unless something happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Whether a transaction can be sent now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether the connection is of no more use.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether the session is inside TLS.
    #[must_use]
    pub fn tls(&self) -> TlsState {
        self.tls
    }

    /// What the peer offered last.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// How many octets of the peer's are kept now: those of a reply that is not whole, so 100 lines of
    /// 2,048 at most (times three, where they are no UTF-8 and shown as such).
    #[must_use]
    pub fn held(&self) -> usize {
        self.reader.held()
    }

    fn reply(&mut self, now: Timestamp, raw: &RawReply) {
        let reply = raw.to_reply();
        let answers = self.due.pop_front();
        if raw.code == 421 {
            return self.close(Cause::ShuttingDown, Some(reply), "");
        }
        let Some(answers) = answers else {
            let detail = format!("it said {reply} when nothing was asked");
            return self.close(Cause::OutOfStep, None, &detail);
        };
        if answers > self.outbox.sent() {
            return self.early(reply);
        }
        match &self.state {
            State::Greeting if raw.code == 220 => self.hello(),
            State::Greeting => self.close(Cause::Greeting, Some(reply), ""),
            State::Ehlo => self.ehlo_reply(raw, reply),
            State::Helo if reply.is_positive() => self.ready(),
            State::Helo => self.close(Cause::Hello, Some(reply), ""),
            State::StartTls => self.starttls_reply(raw.code, reply),
            State::Auth(step) => self.auth_reply(*step, reply),
            State::Busy(_) => self.run_reply(reply),
            State::Quit => {
                self.state = State::Closed;
                self.outbox.clear();
                self.events.push_back(Event::Quit);
            }
            // No reply is due in these.
            State::Handshake | State::Idle | State::Closed => {}
        }
        self.arm(now);
    }

    fn hello(&mut self) {
        let us = literal(&self.config.ehlo);
        let verb = match self.config.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        self.state = State::Ehlo;
        self.command(&format!("{verb} {us}\r\n"));
    }

    fn ehlo_reply(&mut self, raw: &RawReply, reply: Reply) {
        match reply.class() {
            ReplyClass::Completed => {
                self.extensions = Extensions::from_lines(&raw.lines);
                let wanted = matches!(self.config.tls, TlsUse::Opportunistic | TlsUse::Required);
                match (wanted && self.tls == TlsState::Clear, self.extensions.starttls) {
                    (true, true) => {
                        self.state = State::StartTls;
                        self.command("STARTTLS\r\n");
                    }
                    (true, false) if self.config.tls == TlsUse::Required => {
                        self.close(Cause::StartTlsNotOffered, None, "");
                    }
                    _ => self.authenticate(),
                }
            }
            ReplyClass::Permanent
                if self.config.protocol == Protocol::Smtp
                    && self.config.credentials.is_none()
                    && self.config.tls != TlsUse::Required =>
            {
                let us = literal(&self.config.ehlo);
                self.state = State::Helo;
                self.command(&format!("HELO {us}\r\n"));
            }
            _ => self.close(Cause::Hello, Some(reply), ""),
        }
    }

    fn starttls_reply(&mut self, code: u16, reply: Reply) {
        if code == 220 {
            self.state = State::Handshake;
            self.events.push_back(Event::StartTls);
        } else if self.config.tls == TlsUse::Required {
            self.close(Cause::StartTlsRefused, Some(reply), "");
        } else {
            self.authenticate();
        }
    }

    fn authenticate(&mut self) {
        let Some(credentials) = &self.config.credentials else {
            return self.ready();
        };
        if self.tls == TlsState::Clear {
            return self.close(Cause::CredentialsInClear, None, "");
        }
        if self.extensions.auth_plain {
            let line = format!("AUTH PLAIN {}\r\n", plain(credentials));
            self.state = State::Auth(Auth::Plain);
            self.command(&line);
        } else if self.extensions.auth_login {
            self.state = State::Auth(Auth::LoginUser);
            self.command("AUTH LOGIN\r\n");
        } else {
            self.close(Cause::NoAuthMechanism, None, "");
        }
    }

    fn auth_reply(&mut self, step: Auth, reply: Reply) {
        let Some(credentials) = &self.config.credentials else {
            return self.ready();
        };
        match (reply.class(), step) {
            (ReplyClass::Completed, _) => self.ready(),
            (ReplyClass::Intermediate, Auth::Plain) => {
                let line = format!("{}\r\n", plain(credentials));
                self.state = State::Auth(Auth::Verdict);
                self.command(&line);
            }
            (ReplyClass::Intermediate, Auth::LoginUser) => {
                let line = format!("{}\r\n", STANDARD.encode(credentials.user.as_bytes()));
                self.state = State::Auth(Auth::LoginPassword);
                self.command(&line);
            }
            (ReplyClass::Intermediate, Auth::LoginPassword) => {
                let line = format!("{}\r\n", STANDARD.encode(credentials.password.as_bytes()));
                self.state = State::Auth(Auth::Verdict);
                self.command(&line);
            }
            (ReplyClass::Intermediate, Auth::Verdict) => {
                let detail = format!("it went on asking, {}", without_secret(&reply, credentials));
                self.close(Cause::OutOfStep, None, &detail);
            }
            (ReplyClass::Transient | ReplyClass::Permanent, _) => {
                let detail = without_secret(&reply, credentials);
                self.close(Cause::AuthRefused, None, &detail);
            }
        }
    }

    fn run_reply(&mut self, reply: Reply) {
        let State::Busy(run) = &mut self.state else { return };
        let said = reply.to_string();
        let mut due = Vec::new();
        let progress = run.reply(reply, &self.extensions, &self.config, &mut self.outbox, &mut due);
        match progress {
            Progress::Going(more) => {
                self.due.extend(due);
                let here = self.outbox.queued();
                self.due.extend(std::iter::repeat_n(here, more));
            }
            Progress::Over { open } => {
                self.open = open;
                self.finish();
            }
            Progress::OverAndOut => {
                self.finish();
                self.close(Cause::OutOfStep, None, "it took DATA without a recipient");
            }
            Progress::OutOfStep => {
                self.close(Cause::OutOfStep, None, &format!("it said {said}"));
            }
        }
    }

    fn ready(&mut self) {
        self.state = State::Idle;
        self.events.push_back(Event::Ready);
    }

    /// Ends a transaction in which every recipient is decided.
    fn finish(&mut self) {
        if let State::Busy(run) = std::mem::replace(&mut self.state, State::Idle) {
            self.done(*run);
        }
    }

    fn done(&mut self, run: Run) {
        let none = Closed::new(Cause::OutOfStep, &self.config.peer, "", None, "no verdict");
        let report = run.into_report(&Outcome::Deferred(none.failure), self.extensions);
        self.events.push_back(Event::Done(report));
    }

    /// A reply came before what it answers was sent. A refusal of a message that is still on its
    /// way is honest; what is left of the message cannot be taken back, so the connection ends.
    fn early(&mut self, reply: Reply) {
        if let State::Busy(run) = &mut self.state
            && run.is_sending_message(&self.outbox)
            && matches!(reply.class(), ReplyClass::Transient | ReplyClass::Permanent)
        {
            run.decide_rest(&super::transaction::refused(&self.config.peer, reply));
            self.finish();
            return self.close(Cause::OutOfStep, None, "it answered in the middle of the message");
        }
        let detail = format!("it said {reply} before it was asked");
        self.close(Cause::OutOfStep, None, &detail);
    }

    fn injected(&mut self) {
        self.events.retain(|event| *event != Event::StartTls);
        self.close(Cause::Injection, None, "");
    }

    fn command(&mut self, line: &str) {
        self.outbox.push(line.as_bytes());
        self.due.push_back(self.outbox.queued());
    }

    fn close(&mut self, cause: Cause, said: Option<Reply>, detail: &str) {
        let phase = match &self.state {
            State::Closed => return,
            State::Greeting => "waiting for the greeting".to_owned(),
            State::Ehlo => "waiting for the reply to EHLO".to_owned(),
            State::Helo => "waiting for the reply to HELO".to_owned(),
            State::StartTls => "waiting for the reply to STARTTLS".to_owned(),
            State::Handshake => "waiting for the TLS handshake".to_owned(),
            State::Auth(_) => "waiting for the reply to AUTH".to_owned(),
            State::Idle => "between two messages".to_owned(),
            State::Busy(run) if run.is_sending_message(&self.outbox) => {
                "while sending the message".to_owned()
            }
            State::Busy(run) if run.is_message_sent(&self.outbox) => {
                "after the message was sent, so it may have arrived (A9: no other host is tried)"
                    .to_owned()
            }
            State::Busy(run) => format!("waiting for the reply to {}", run.awaited()),
            State::Quit => {
                self.state = State::Closed;
                self.deadline = None;
                self.outbox.clear();
                self.events.push_back(Event::Quit);
                return;
            }
        };
        let closed = Closed::new(cause, &self.config.peer, &phase, said, detail);
        if let State::Busy(run) = std::mem::replace(&mut self.state, State::Closed) {
            let mut failure = closed.failure.clone();
            if run.is_message_sent(&self.outbox) {
                failure.scope = waypost_types::FailureScope::Message;
            }
            let report = run.into_report(&Outcome::Deferred(failure), self.extensions);
            self.events.push_back(Event::Done(report));
        }
        self.deadline = None;
        self.due.clear();
        self.outbox.clear();
        self.reader = ReplyReader::default();
        self.events.push_back(Event::Closed(closed));
    }

    fn arm(&mut self, now: Timestamp) {
        let timeouts = &self.config.timeouts;
        let wait = match &self.state {
            State::Idle | State::Closed => None,
            State::Busy(run) => Some(match run.step {
                Step::Data => timeouts.data_start,
                Step::Message(_) if run.is_sending_message(&self.outbox) => timeouts.data_block,
                Step::Message(_) | Step::LoneDot => timeouts.data_end,
                Step::Rset => timeouts.command,
                Step::Mail => timeouts.mail,
                Step::Rcpt(_) => timeouts.rcpt,
            }),
            State::Greeting => Some(timeouts.greeting),
            _ => Some(timeouts.command),
        };
        self.marked = self.outbox.sent();
        self.deadline = wait.map(|wait| now + wait);
    }
}

/// A name, or an address literal (RFC 5321 section 4.1.3).
fn literal(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Ip(ip) if ip.is_ipv4() => format!("[{ip}]"),
        Host::Ip(ip) => format!("[IPv6:{ip}]"),
    }
}

/// A reply to AUTH as it may be logged: a peer that repeats what it was told gives it away.
fn without_secret(reply: &Reply, credentials: &Credentials) -> String {
    let said = reply.to_string();
    let password = &*credentials.password;
    let secrets = [password, &STANDARD.encode(password), &plain(credentials)];
    match secrets.iter().any(|secret| said.contains(*secret)) {
        true => format!("with {} and a text that repeats the password", reply.code()),
        false => format!("with `{said}`"),
    }
}

/// RFC 4616: no authorization identity, user, password.
fn plain(credentials: &Credentials) -> String {
    STANDARD.encode(format!("\0{}\0{}", credentials.user, credentials.password))
}
