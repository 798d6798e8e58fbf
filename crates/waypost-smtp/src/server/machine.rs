//! The states of a connection and what moves them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use waypost_types::{Mailbox, Recipient, Reply, ReplyClass, Timestamp, TlsState};

use super::command::{self, Command, ForwardPath, LONGEST_LINE, Script};
use super::parameters::MailArguments;
use super::sasl::{Exchange, Step, wipe};
use super::{AuthOffer, CloseCause, Event, HelloKind, ResetCause, Settings, TlsOffer};
use crate::end_of_data::{DataFault, DataReader};
use crate::line::{LineError, LineReader};

/// Replies waiting to be sent, beyond which no further command is looked at.
const MOST_OUTPUT: usize = 16 << 10;
/// Octets waiting behind a question, beyond which nothing is to be read.
const MOST_PENDING: usize = 64 << 10;
/// Octets of a message that earn another `Timeouts::data`.
const DATA_STEP: u64 = 16 << 10;

/// What the next octets of the client are.
#[derive(Debug)]
enum Phase {
    /// None may come: the greeting is not out.
    Greeting,
    Command,
    Auth(Exchange),
    Data {
        reader: DataReader,
        /// Octets read when the deadline was last moved.
        mark: u64,
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
    Auth,
    Mail(Transaction),
    Rcpt,
    Data,
    Message,
}

#[derive(Clone, Debug)]
struct Hello {
    kind: HelloKind,
    name: Box<str>,
}

/// What a client said of itself; all of it is forgotten when TLS begins.
#[derive(Debug, Default)]
struct Client {
    hello: Option<Hello>,
    user: Option<Mailbox>,
}

#[derive(Debug)]
struct Transaction {
    script: Script,
    recipients: usize,
}

#[derive(Debug, Default)]
struct Tally {
    errors: u32,
    idle_commands: u32,
}

/// Octets that wait behind a question.
#[derive(Debug, Default)]
struct Pending {
    octets: Vec<u8>,
    used: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    On,
    /// The connection ends when the transaction does.
    Stopping,
}

/// One connection's server side; the module's head says in which order to call what.
pub struct Server {
    settings: Arc<Settings>,
    tls: TlsState,
    phase: Phase,
    question: Option<Question>,
    events: VecDeque<Event>,
    client: Client,
    transaction: Option<Transaction>,
    tally: Tally,
    lines: LineReader,
    pending: Pending,
    output: Vec<u8>,
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
            tls,
            phase: Phase::Greeting,
            question: Some(Question::Connect),
            events: VecDeque::from([Event::Connect]),
            client: Client::default(),
            transaction: None,
            tally: Tally::default(),
            lines: LineReader::new(LONGEST_LINE),
            pending: Pending::default(),
            output: Vec::new(),
            timer,
            running: Running::On,
        }
    }

    // ---- what is known -------------------------------------------------------------------------

    /// Whether the session is inside TLS.
    #[must_use]
    pub fn tls(&self) -> TlsState {
        self.tls
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

    /// Whether the connection is to be closed once the output is sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether octets may be given to [`Server::handle_bytes`]; no, while much waits already.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        !matches!(self.phase, Phase::Handshake | Phase::Closed)
            && self.pending.len() < MOST_PENDING
            && self.output.len() < MOST_OUTPUT
    }

    // ---- out -----------------------------------------------------------------------------------

    /// What happened next; looks at waiting octets when nothing is in their way any more.
    #[must_use]
    pub fn poll_event(&mut self, now: Timestamp) -> Option<Event> {
        if self.events.is_empty() {
            self.resume(now);
        }
        self.events.pop_front()
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

    /// Octets of the client, in chunks of any size.
    pub fn handle_bytes(&mut self, now: Timestamp, bytes: &[u8]) {
        match self.phase {
            _ if bytes.is_empty() => return,
            Phase::Closed | Phase::Handshake => return,
            Phase::Greeting => {
                self.events.clear();
                let text = "Wait for the greeting before you talk (RFC 5321 section 4.3.1)";
                self.close(CloseCause::EarlyTalker, Some(&Reply::new(554, (5, 5, 1), text)));
                return;
            }
            Phase::Command | Phase::Auth(_) | Phase::Data { .. } => {}
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
                self.say(now, &reply);
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
        self.tls = TlsState::Encrypted;
        self.client = Client::default();
        self.transaction = None;
        self.lines.clear();
        self.pending = Pending::default();
        self.phase = Phase::Command;
        self.rearm(now);
    }

    /// The server is going down: an idle connection gets `421 4.3.2` now, one in a transaction when
    /// that is over.
    pub fn handle_shutdown(&mut self) {
        self.running = Running::Stopping;
        self.stop_if_idle();
    }

    // ---- answers -------------------------------------------------------------------------------

    /// Answers the waiting event with yes, in the usual words. Without one it does nothing; for
    /// [`Event::Auth`], which needs a user, it is a temporary failure.
    pub fn accept(&mut self, now: Timestamp) {
        let reply = match &self.question {
            Some(Question::Mail(_)) => Reply::new(250, (2, 1, 0), "Sender ok"),
            Some(Question::Rcpt) => Reply::new(250, (2, 1, 5), "Recipient ok"),
            _ => Reply::new(250, (2, 0, 0), "Ok"),
        };
        self.answer(now, reply);
    }

    /// Answers [`Event::Auth`] with yes: the client is this user.
    pub fn accept_auth(&mut self, now: Timestamp, user: Mailbox) {
        if matches!(self.question, Some(Question::Auth)) {
            self.question = None;
            self.client.user = Some(user);
            self.say(now, &Reply::new(235, (2, 7, 0), "Authenticated"));
            self.after_reply();
        }
    }

    /// Answers the waiting event; without one it does nothing.
    ///
    /// 2yz accepts (also 3yz, for DATA), anything else refuses. To MAIL, RCPT and the message the
    /// reply is sent as it is; to the others a refusal is. 421 ends the connection.
    pub fn answer(&mut self, now: Timestamp, reply: Reply) {
        let Some(question) = self.question.take() else { return };
        if self.is_closed() {
            return;
        }
        let reply = match (&question, reply.class()) {
            (Question::Auth, ReplyClass::Completed | ReplyClass::Intermediate) => {
                Reply::new(454, (4, 7, 0), "AUTH cannot be checked now; try again later")
            }
            (Question::Data, ReplyClass::Completed | ReplyClass::Intermediate) => {
                Reply::plain(354, "End the message with CR LF . CR LF")
            }
            (_, ReplyClass::Intermediate) => Reply::new(451, (4, 3, 0), "Try again later"),
            _ => reply,
        };
        match reply.class() {
            ReplyClass::Completed | ReplyClass::Intermediate => {
                self.accepted(now, question, &reply)
            }
            ReplyClass::Transient | ReplyClass::Permanent => self.refused(now, question, reply),
        }
        self.after_reply();
    }

    fn accepted(&mut self, now: Timestamp, question: Question, reply: &Reply) {
        match question {
            Question::Connect => return self.greet(now),
            Question::Hello(hello) => {
                let words = self.hello_reply(hello.kind);
                self.client.hello = Some(hello);
                return self.say(now, &words);
            }
            Question::Mail(transaction) => {
                self.transaction = Some(transaction);
                self.tally.idle_commands = 0;
            }
            Question::Rcpt => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients += 1;
                }
            }
            Question::Data => {
                let reader = DataReader::new(self.settings.limits.message_size);
                self.phase = Phase::Data { reader, mark: 0 };
            }
            Question::Message => {
                self.transaction = None;
                self.tally.errors = 0;
            }
            Question::Auth => {}
        }
        self.say(now, reply);
    }

    fn refused(&mut self, now: Timestamp, question: Question, reply: Reply) {
        match question {
            Question::Connect => return self.close(CloseCause::Refused, Some(&reply)),
            Question::Auth => {
                self.tally.errors += 1;
                let at = now + self.settings.timeouts.auth_failure_pause;
                if at > now && reply.code() != 421 {
                    self.timer = Timer::Held(at, reply);
                    return;
                }
            }
            Question::Data | Question::Message => self.transaction = None,
            Question::Hello(_) | Question::Mail(_) | Question::Rcpt => {}
        }
        if reply.code() == 421 {
            return self.close(CloseCause::Refused, Some(&reply));
        }
        self.say(now, &reply);
    }

    fn greet(&mut self, now: Timestamp) {
        let greeting = Reply::plain(220, &format!("{} ESMTP", self.settings.hostname));
        let at = now + self.settings.timeouts.greeting_pause;
        if at > now {
            self.timer = Timer::Held(at, greeting);
            return;
        }
        self.phase = Phase::Command;
        self.say(now, &greeting);
    }

    fn hello_reply(&self, kind: HelloKind) -> Reply {
        let mut text = self.settings.hostname.to_string();
        if kind == HelloKind::Ehlo {
            let size = self.settings.limits.message_size;
            text += &format!("\nPIPELINING\nSIZE {size}\n8BITMIME\nENHANCEDSTATUSCODES");
            text += "\nSMTPUTF8\nDSN";
            if self.may_start_tls() {
                text += "\nSTARTTLS";
            }
            if self.may_authenticate() {
                text += "\nAUTH PLAIN LOGIN";
            }
            text += "\nHELP";
        }
        Reply::plain(250, &text)
    }

    fn may_start_tls(&self) -> bool {
        self.settings.tls == TlsOffer::StartTls && self.tls == TlsState::Clear
    }

    fn may_authenticate(&self) -> bool {
        self.settings.auth == AuthOffer::InsideTls && self.tls == TlsState::Encrypted
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
            };
        }
        used
    }

    fn data(&mut self, now: Timestamp, rest: &[u8]) -> usize {
        let Phase::Data { reader, mark } = &mut self.phase else { return 0 };
        let used = reader.read(rest);
        if !reader.is_complete() {
            if reader.octets_read() - *mark >= DATA_STEP {
                *mark = reader.octets_read();
                self.rearm(now);
            }
            return used;
        }
        if let Phase::Data { reader, .. } = std::mem::replace(&mut self.phase, Phase::Command) {
            match reader.finish() {
                Ok(data) => self.ask(Question::Message, Event::Message(data)),
                Err(fault) => {
                    self.end_transaction(ResetCause::Message(fault));
                    self.say(now, &refusal_of(fault));
                    self.stop_if_idle();
                }
            }
        }
        used
    }

    fn line(&mut self, now: Timestamp, line: Result<Vec<u8>, LineError>) {
        let exchange = match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Auth(exchange) => Some(exchange),
            _ => None,
        };
        match (line, exchange) {
            (Err(LineError::TooLong { limit }), _) => self.misuse(now, &command::too_long(limit)),
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
        self.stop_if_idle();
    }

    fn command(&mut self, now: Timestamp, command: Command<'_>) {
        match command {
            Command::Hello { kind, name } => {
                self.end_transaction(ResetCause::Hello);
                if self.idle() {
                    let hello = Hello { kind, name: name.into() };
                    let event = Event::Hello { kind, name: name.into() };
                    self.ask(Question::Hello(hello), event);
                }
            }
            Command::Mail { sender, script, arguments } => {
                if let Some(refusal) = self.mail_refusal(script, &arguments) {
                    return self.misuse(now, &refusal);
                }
                let MailArguments { parameters, size } = arguments;
                let limit = self.settings.limits.message_size;
                if size.is_some_and(|size| size > limit) {
                    return self.say(now, &refusal_of(DataFault::TooBig { limit }));
                }
                let script =
                    if parameters.smtputf8 { Script::NeedsSmtpUtf8 } else { Script::Ascii };
                let transaction = Transaction { script, recipients: 0 };
                let event = Event::Mail { sender, parameters, size };
                self.ask(Question::Mail(transaction), event);
            }
            Command::Rcpt { path, script, arguments } => {
                let Some(transaction) = &self.transaction else {
                    return self.misuse(now, &out_of_order("Give MAIL before RCPT"));
                };
                if script == Script::NeedsSmtpUtf8 && transaction.script == Script::Ascii {
                    return self.misuse(now, &needs_smtputf8());
                }
                let limit = self.settings.limits.recipients;
                if transaction.recipients >= limit {
                    let text = format!(
                        "No more than {limit} recipients at once; send the rest in \
                                        another transaction (RFC 5321 section 4.5.3.1.10)"
                    );
                    return self.say(now, &Reply::new(452, (4, 5, 3), &text));
                }
                let address = match path {
                    ForwardPath::Mailbox(mailbox) => mailbox,
                    ForwardPath::Postmaster => Mailbox::postmaster(self.settings.hostname.clone()),
                };
                let recipient =
                    Recipient { address, notify: arguments.notify, orcpt: arguments.orcpt };
                self.ask(Question::Rcpt, Event::Rcpt(recipient));
            }
            Command::Data => match &self.transaction {
                None => self.misuse(now, &out_of_order("Give MAIL and RCPT before DATA")),
                Some(Transaction { recipients: 0, .. }) => {
                    let text = "No recipient was accepted; give RCPT before DATA";
                    self.say(now, &Reply::new(554, (5, 5, 1), text));
                }
                Some(_) => self.ask(Question::Data, Event::Data),
            },
            Command::Rset => {
                self.end_transaction(ResetCause::Rset);
                self.idle_say(now, &Reply::new(250, (2, 0, 0), "Forgotten"));
            }
            Command::Noop => self.idle_say(now, &Reply::new(250, (2, 0, 0), "Ok")),
            Command::Vrfy => {
                let text = "Addresses are not told; send mail and see";
                self.idle_say(now, &Reply::new(252, (2, 5, 0), text));
            }
            Command::Help => {
                let text = "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT STARTTLS AUTH";
                self.idle_say(now, &Reply::new(214, (2, 0, 0), text));
            }
            Command::Quit => {
                self.close(CloseCause::Quit, Some(&Reply::new(221, (2, 0, 0), "Bye")));
            }
            Command::StartTls => self.start_tls(now),
            Command::Auth { mechanism, initial } => self.auth(now, mechanism, initial),
        }
    }

    fn mail_refusal(&self, script: Script, arguments: &MailArguments) -> Option<Reply> {
        if self.client.hello.is_none() {
            return Some(out_of_order("Give EHLO before MAIL"));
        }
        if self.transaction.is_some() {
            return Some(out_of_order("A transaction is open; end it with DATA or RSET"));
        }
        (script == Script::NeedsSmtpUtf8 && !arguments.parameters.smtputf8).then(needs_smtputf8)
    }

    fn start_tls(&mut self, now: Timestamp) {
        match self.settings.tls {
            _ if self.tls == TlsState::Encrypted => {
                self.misuse(now, &out_of_order("TLS is on already"));
            }
            TlsOffer::Off | TlsOffer::Implicit => {
                self.misuse(now, &Reply::new(502, (5, 5, 1), "STARTTLS is not offered here"));
            }
            TlsOffer::StartTls => {
                self.end_transaction(ResetCause::StartTls);
                self.phase = Phase::Handshake;
                self.say(now, &Reply::new(220, (2, 0, 0), "Begin TLS"));
                self.events.push_back(Event::StartTls);
            }
        }
    }

    fn auth(&mut self, now: Timestamp, mechanism: &str, initial: Option<&str>) {
        let refusal = match () {
            () if self.settings.auth == AuthOffer::Off => {
                Some(Reply::new(502, (5, 5, 1), "AUTH is not offered here"))
            }
            () if self.tls == TlsState::Clear => {
                Some(Reply::new(538, (5, 7, 11), "AUTH needs TLS; give STARTTLS first (RFC 4954)"))
            }
            () if self.client.hello.is_none() => Some(out_of_order("Give EHLO before AUTH")),
            () if self.client.user.is_some() => Some(out_of_order("You are authenticated")),
            () if self.transaction.is_some() => {
                Some(out_of_order("AUTH cannot stand in a transaction; give RSET first"))
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            return self.misuse(now, &refusal);
        }
        let Some(exchange) = Exchange::begin(mechanism) else {
            let text = "The mechanism is not known; use PLAIN or LOGIN";
            return self.misuse(now, &Reply::new(504, (5, 5, 4), text));
        };
        if !self.idle() {
            return;
        }
        let step = match initial {
            Some(response) => exchange.initial(response),
            None => Step::Challenge(exchange),
        };
        self.auth_step(now, step);
    }

    fn auth_step(&mut self, now: Timestamp, step: Step) {
        match step {
            Step::Challenge(exchange) => {
                let challenge = exchange.challenge();
                self.phase = Phase::Auth(exchange);
                self.say(now, &challenge);
            }
            Step::Check(credentials) => self.ask(Question::Auth, Event::Auth(credentials)),
            Step::Refuse(reply) => self.misuse(now, &reply),
        }
    }

    // ---- replies -------------------------------------------------------------------------------

    fn ask(&mut self, question: Question, event: Event) {
        self.question = Some(question);
        self.events.push_back(event);
    }

    /// Sends a reply; the client's time begins anew.
    fn say(&mut self, now: Timestamp, reply: &Reply) {
        reply.write_to(&mut self.output);
        self.rearm(now);
    }

    /// Refuses a command for its form or order, or ends the connection if that was one too many.
    fn misuse(&mut self, now: Timestamp, reply: &Reply) {
        self.tally.errors += 1;
        if !self.close_if_too_many(self.tally.errors, self.settings.limits.errors, "errors") {
            self.say(now, reply);
        }
    }

    /// Counts a command that begins no transaction; `false` if it was one too many.
    fn idle(&mut self) -> bool {
        if self.transaction.is_none() {
            self.tally.idle_commands += 1;
        }
        let (count, limit) = (self.tally.idle_commands, self.settings.limits.idle_commands);
        !self.close_if_too_many(count, limit, "commands without a transaction")
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
            Phase::Data { .. } => now + timeouts.data,
            Phase::Handshake => now + timeouts.handshake,
            _ => now + timeouts.command,
        });
    }

    /// What may follow any reply to an answered question.
    fn after_reply(&mut self) {
        let (count, limit) = (self.tally.errors, self.settings.limits.errors);
        if !self.is_closed() && !matches!(self.timer, Timer::Held(..)) {
            self.close_if_too_many(count, limit, "errors");
        }
        self.stop_if_idle();
    }

    fn stop_if_idle(&mut self) {
        let asking = self.question.is_some() || matches!(self.timer, Timer::Held(..));
        let busy = self.transaction.is_some() || asking || self.is_closed();
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
            self.events.push_back(Event::Reset(cause));
        }
    }

    fn close(&mut self, cause: CloseCause, reply: Option<&Reply>) {
        if self.is_closed() {
            return;
        }
        if let Some(reply) = reply {
            reply.write_to(&mut self.output);
        }
        self.phase = Phase::Closed;
        self.question = None;
        self.transaction = None;
        self.pending = Pending::default();
        self.lines.clear();
        self.events.push_back(Event::Closed(cause));
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
            Phase::Handshake => "handshake",
            Phase::Closed => "closed",
        };
        f.debug_struct("Server")
            .field("phase", &phase)
            .field("tls", &self.tls)
            .field("in_transaction", &self.is_in_transaction())
            .finish_non_exhaustive()
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

fn out_of_order(text: &str) -> Reply {
    Reply::new(503, (5, 5, 1), text)
}

fn needs_smtputf8() -> Reply {
    let text = "The address is not ASCII; give MAIL with SMTPUTF8 (RFC 6531)";
    Reply::new(553, (5, 6, 7), text)
}

fn refusal_of(fault: DataFault) -> Reply {
    let mut text = fault.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match fault {
        DataFault::TooBig { .. } => Reply::new(552, (5, 3, 4), &text),
        DataFault::BareCr | DataFault::BareLf | DataFault::Nul => Reply::new(550, (5, 6, 0), &text),
    }
}
