//! Where all mail begins: a client on one thread with many sessions.
//!
//! MAIL, RCPT and DATA go out in one write, a message in another; a session waits for the reply to its
//! message before it begins the next, and for the reply to QUIT before it makes another connection.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::{memchr, memmem};
use mio::event::Event;
use mio::{Events, Poll, Token};
use rustls::ClientConfig;

use crate::message::{Id, Message};
use crate::wire::Wire;

/// Who sends, in every case.
pub(crate) const SENDER: &str = "sender@source.example";
/// Who gets it, elsewhere.
pub(crate) const RECIPIENT: &str = "recipient@dest.example";
/// Who is refused: the programs under test are told so.
pub(crate) const REFUSED: &str = "nobody@refused.example";

/// What sessions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Send messages.
    Mail,
    /// Name recipients that are refused, each in a transaction of its own.
    Reject,
    /// EHLO and QUIT.
    Connect,
    /// EHLO, and then nothing, until the caller says so.
    Idle,
}

/// One run.
pub(crate) struct Plan<'a> {
    /// The program under test.
    pub(crate) to: SocketAddr,
    /// What sessions do.
    pub(crate) task: Task,
    /// Sessions at a time.
    pub(crate) sessions: usize,
    /// Messages, recipients or connections in all.
    pub(crate) count: u64,
    /// Of them on one connection.
    pub(crate) per_connection: u64,
    /// What is sent.
    pub(crate) message: &'a Message,
    /// The run in the ids.
    pub(crate) run: u32,
    /// STARTTLS first.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Without any progress for so long, the run is given up.
    pub(crate) patience: Duration,
}

/// How a run went.
pub(crate) struct Report {
    /// Messages taken, recipients refused, connections made.
    pub(crate) done: u64,
    /// What went otherwise.
    pub(crate) failed: u64,
    /// The first failure.
    pub(crate) error: Option<String>,
    /// Before the first connect.
    pub(crate) began: Instant,
    /// The last reply that counts.
    pub(crate) ended: Instant,
    /// Microseconds each, sorted: from the first octet of a message, of RCPT or of a connect to the reply.
    pub(crate) waits: Vec<u32>,
    /// One bit a number: what was acknowledged.
    pub(crate) acknowledged: Vec<u64>,
}

impl Report {
    /// The wait that this share of all did not exceed, in milliseconds.
    pub(crate) fn wait_ms(&self, share: f64) -> f64 {
        let last = self.waits.len().saturating_sub(1) as f64;
        let at = (share * last).round() as usize;
        self.waits.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

/// Runs a plan to its end; with [`Task::Idle`], `idle` is called when all sessions stand.
pub(crate) fn run(plan: &Plan<'_>, idle: &mut dyn FnMut()) -> io::Result<Report> {
    Source::new(plan)?.run(idle)
}

struct Source<'a> {
    plan: &'a Plan<'a>,
    poll: Poll,
    sessions: Vec<Session>,
    /// Read into, by whichever session has something to read.
    buffer: Vec<u8>,
    /// The commands of one transaction, when the server knows PIPELINING, and one by one.
    group: Vec<u8>,
    commands: [Vec<u8>; 3],
    open: usize,
    /// Numbers given away.
    taken: u64,
    report: Report,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Greeting,
    Ehlo,
    StartTls,
    Handshake,
    EhloInTls,
    Mail,
    Rcpt,
    Data,
    Dot,
    Rset,
    Quit,
    /// For nothing: the session is idle.
    Nothing,
}

struct Session {
    wire: Option<Wire>,
    waits: Waits,
    pipelining: bool,
    number: u64,
    /// Of the present connection.
    left: u64,
    since: Instant,
    /// A line that has not ended.
    kept: Vec<u8>,
}

/// What a reply leads to.
enum Turn {
    Go,
    Close,
    Failed,
}

impl<'a> Source<'a> {
    fn new(plan: &'a Plan<'a>) -> io::Result<Self> {
        let recipient = if plan.task == Task::Reject { REFUSED } else { RECIPIENT };
        let commands = [
            format!("MAIL FROM:<{SENDER}>\r\n").into_bytes(),
            format!("RCPT TO:<{recipient}>\r\n").into_bytes(),
            b"DATA\r\n".to_vec(),
        ];
        let in_group = if plan.task == Task::Reject { 2 } else { 3 };
        let sessions = plan.sessions.min(usize::try_from(plan.count).unwrap_or(usize::MAX));
        let now = Instant::now();
        Ok(Self {
            plan,
            poll: Poll::new()?,
            sessions: (0..sessions).map(|_| Session::new(now)).collect(),
            buffer: vec![0; 64 << 10],
            group: commands.iter().take(in_group).flatten().copied().collect(),
            commands,
            open: 0,
            taken: 0,
            report: Report {
                done: 0,
                failed: 0,
                error: None,
                began: now,
                ended: now,
                waits: Vec::with_capacity(plan.count as usize),
                acknowledged: vec![0; plan.count as usize / 64 + 1],
            },
        })
    }

    fn run(mut self, idle: &mut dyn FnMut()) -> io::Result<Report> {
        self.report.began = Instant::now();
        let mut opened = 0;
        self.open_more(&mut opened)?;
        let mut events = Events::with_capacity(256);
        let (mut progress, mut seen) = (Instant::now(), 0);
        while self.open > 0 {
            match self.poll.poll(&mut events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.turn(event)?;
            }
            let now = self.report.done + self.report.failed;
            if now != seen {
                (progress, seen) = (Instant::now(), now);
            } else if progress.elapsed() > self.plan.patience {
                self.give_up();
                break;
            }
            if self.plan.task == Task::Idle && now == self.plan.count {
                idle();
                break;
            }
            self.open_more(&mut opened)?;
        }
        self.report.waits.sort_unstable();
        Ok(self.report)
    }

    /// Opens sessions that have not been, so many at a time that none falls out of the listener's backlog:
    /// a client would take such a connection for open, and wait for its greeting for ever.
    fn open_more(&mut self, opened: &mut usize) -> io::Result<()> {
        while *opened < self.sessions.len() {
            let answered = self.report.done + self.report.failed;
            if self.plan.task == Task::Idle && *opened as u64 - answered >= AT_A_TIME {
                break;
            }
            self.connect(*opened)?;
            *opened += 1;
        }
        Ok(())
    }

    fn give_up(&mut self) {
        let left = self.plan.count.saturating_sub(self.report.done + self.report.failed);
        let stuck = |session: &&Session| session.wire.is_some() && session.waits != Waits::Nothing;
        let of = self.sessions.iter().find(stuck);
        let waits = of.map_or(Waits::Nothing, |session| session.waits);
        let text = format!(
            "no progress for {} s with {} sessions open, the first that is stuck waiting for {waits:?}",
            self.plan.patience.as_secs(),
            self.open,
        );
        self.report.failed += left;
        self.report.error.get_or_insert(text);
    }

    fn connect(&mut self, slot: usize) -> io::Result<()> {
        // With one message a connection, the number is taken here, so that none is made in vain.
        let session = &mut self.sessions[slot];
        session.left = self.plan.per_connection;
        session.waits = Waits::Greeting;
        session.kept.clear();
        session.since = Instant::now();
        session.wire = Some(Wire::connect(self.plan.to, self.poll.registry(), Token(slot))?);
        session.number = self.taken;
        self.taken += 1;
        self.open += 1;
        Ok(())
    }

    fn close(&mut self, slot: usize) -> io::Result<()> {
        self.sessions[slot].wire = None;
        self.open -= 1;
        if self.taken < self.plan.count && self.plan.task != Task::Idle {
            self.connect(slot)?;
        }
        Ok(())
    }

    fn failed(&mut self, slot: usize, why: String) -> io::Result<()> {
        // A number that was answered is not failed by what comes after it.
        let waits = self.sessions[slot].waits;
        if waits != Waits::Quit && waits != Waits::Nothing {
            self.report.failed += 1;
        }
        self.report.error.get_or_insert(why);
        self.close(slot)
    }

    fn turn(&mut self, event: &Event) -> io::Result<()> {
        let slot = event.token().0;
        loop {
            let session = &mut self.sessions[slot];
            let Some(wire) = &mut session.wire else { return Ok(()) };
            if event.is_writable()
                && let Err(error) = wire.flush(&self.plan.message.body, self.poll.registry())
            {
                return self.failed(slot, format!("the connection broke: {error}"));
            }
            if session.waits == Waits::Handshake {
                match wire.handshake(self.poll.registry()) {
                    Err(error) => return self.failed(slot, format!("TLS: {error}")),
                    Ok(false) => return Ok(()),
                    Ok(true) => {
                        session.waits = Waits::EhloInTls;
                        wire.say(EHLO);
                        if let Err(error) = wire.flush(&[], self.poll.registry()) {
                            return self.failed(slot, format!("TLS: {error}"));
                        }
                    }
                }
            }
            let before = session.kept.len();
            self.buffer[..before].copy_from_slice(&session.kept);
            let read = match wire.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(0) | Err(_) => {
                    let waits = session.waits;
                    let said = String::from_utf8_lossy(&self.buffer[..before]).into_owned();
                    let text = format!("closed while waiting for {waits:?} {said}");
                    return match waits {
                        Waits::Quit => self.close(slot),
                        _ => self.failed(slot, text),
                    };
                }
                Ok(read) => read,
            };
            let end = before + read;
            let mut at = 0;
            while let Some(length) = memchr(b'\n', &self.buffer[at..end]) {
                let line = at..at + length;
                at += length + 1;
                let more = match self.line(slot, line.clone()) {
                    Turn::Go => continue,
                    Turn::Close => self.close(slot),
                    Turn::Failed => {
                        let waits = self.sessions[slot].waits;
                        let line = String::from_utf8_lossy(&self.buffer[line]).trim().to_owned();
                        self.failed(slot, format!("waiting for {waits:?}: {line}"))
                    }
                };
                return more;
            }
            let session = &mut self.sessions[slot];
            session.kept.clear();
            session.kept.extend_from_slice(&self.buffer[at..end]);
            let Some(wire) = &mut session.wire else { return Ok(()) };
            let body = if session.waits == Waits::Dot { &*self.plan.message.body } else { &[] };
            if let Err(error) = wire.flush(body, self.poll.registry()) {
                return self.failed(slot, format!("the connection broke: {error}"));
            }
            // What was read in clear text may end just before a handshake, and TLS reads by records.
            let again = session.waits == Waits::Handshake || wire.is_tls();
            if !again && !event.is_read_closed() && end < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// Acts on one line of a reply.
    fn line(&mut self, slot: usize, line: std::ops::Range<usize>) -> Turn {
        let Self { plan, sessions, buffer, commands, group, taken, report, .. } = self;
        let (session, line) = (&mut sessions[slot], &buffer[line]);
        let Some(wire) = &mut session.wire else { return Turn::Close };
        if matches!(session.waits, Waits::Ehlo | Waits::EhloInTls)
            && memmem::find(line, b"PIPELINING").is_some()
        {
            session.pipelining = true;
        }
        if line.get(3) == Some(&b'-') {
            return Turn::Go;
        }
        let class = line.first().copied().unwrap_or_default();
        let wanted = match session.waits {
            Waits::Data => b'3',
            Waits::Rcpt if plan.task == Task::Reject => b'5',
            _ => b'2',
        };
        if class != wanted {
            return Turn::Failed;
        }
        let mut done = |session: &Session| {
            let wait = session.since.elapsed().as_micros();
            report.ended = Instant::now();
            report.waits.push(u32::try_from(wait).unwrap_or(u32::MAX));
            report.done += 1;
            report.acknowledged[(session.number / 64) as usize] |= 1 << (session.number % 64);
        };
        // The next number on this connection, or QUIT.
        let mut next = |session: &mut Session| {
            session.left -= 1;
            let more = session.left > 0 && *taken < plan.count;
            if more {
                session.number = *taken;
                *taken += 1;
            }
            more
        };
        match session.waits {
            Waits::Greeting => {
                wire.say(EHLO);
                session.waits = Waits::Ehlo;
            }
            Waits::Ehlo if plan.tls.is_some() => {
                wire.say(b"STARTTLS\r\n");
                session.waits = Waits::StartTls;
            }
            Waits::Ehlo | Waits::EhloInTls => match plan.task {
                Task::Mail | Task::Reject => session.transaction(group, commands),
                Task::Connect => session.quit(),
                Task::Idle => {
                    done(session);
                    session.waits = Waits::Nothing;
                }
            },
            Waits::StartTls => {
                let started = plan.tls.as_ref().is_some_and(|tls| wire.start_tls(tls));
                if !started {
                    return Turn::Failed;
                }
                session.waits = Waits::Handshake;
            }
            Waits::Mail => {
                session.waits = Waits::Rcpt;
                if !session.pipelining {
                    session.since = Instant::now();
                    wire.say(&commands[1]);
                }
            }
            Waits::Rcpt if plan.task == Task::Reject => {
                done(session);
                if next(session) {
                    session.waits = Waits::Rset;
                    session.say(b"RSET\r\n");
                } else {
                    session.quit();
                }
            }
            Waits::Rset => session.transaction(group, commands),
            Waits::Rcpt => {
                session.waits = Waits::Data;
                if !session.pipelining {
                    wire.say(&commands[2]);
                }
            }
            Waits::Data => {
                let id = Id { run: plan.run, number: session.number };
                wire.message(plan.message, id);
                session.waits = Waits::Dot;
                session.since = Instant::now();
            }
            Waits::Dot => {
                done(session);
                if next(session) {
                    session.transaction(group, commands);
                } else {
                    session.quit();
                }
            }
            Waits::Quit => {
                if plan.task == Task::Connect {
                    done(session);
                }
                return Turn::Close;
            }
            Waits::Handshake | Waits::Nothing => return Turn::Failed,
        }
        Turn::Go
    }
}

/// Idle sessions that are being opened.
const AT_A_TIME: u64 = 200;
const EHLO: &[u8] = b"EHLO client.source.example\r\n";

impl Session {
    fn new(now: Instant) -> Self {
        Self {
            wire: None,
            waits: Waits::Greeting,
            pipelining: false,
            number: 0,
            left: 0,
            since: now,
            kept: Vec::new(),
        }
    }

    fn say(&mut self, text: &[u8]) {
        if let Some(wire) = &mut self.wire {
            wire.say(text);
        }
    }

    fn transaction(&mut self, group: &[u8], commands: &[Vec<u8>; 3]) {
        self.waits = Waits::Mail;
        self.since = Instant::now();
        self.say(if self.pipelining { group } else { &commands[0] });
    }

    fn quit(&mut self) {
        self.waits = Waits::Quit;
        self.say(b"QUIT\r\n");
    }
}
