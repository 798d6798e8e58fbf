//! The server's side of the protocol: one question to a filter, and its verdict.

mod content;
mod facts;
mod tally;

use std::fmt;

use waypost_types::Reply;

use self::content::{Body, Header, header_and_body};
use self::facts::Facts;
use self::tally::Tally;
use crate::command::{Command, Peer};
use crate::fault::Fault;
use crate::frame::Frames;
use crate::options::{Actions, LOWEST_VERSION, Options, Step, Steps, VERSION};
use crate::question::FilterQuestion;
use crate::response::{Response, is_permanent};
use crate::verdict::{FilterAction, FilterVerdict};

/// Bounds on what a filter may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame, in octets; 1 MiB by default, since some filters send bodies in such pieces.
    pub frame: u32,
    /// Changes to one message; 1,000 by default. The pieces of another body count as one.
    pub modifications: usize,
    /// Octets of all fields, addresses and reasons in the changes to one message; 256 KiB by default.
    pub text: usize,
    /// Octets of another body, none of which is kept; 64 MiB by default.
    pub body: u64,
    /// Answers `progress` to one message; 10,000 by default.
    pub progress: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 1 << 20,
            modifications: 1000,
            text: 256 << 10,
            body: 64 << 20,
            progress: 10_000,
        }
    }
}

/// What a filter owes an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nothing: it is the server that has something to say.
    Nothing,
    /// What the server offered.
    Options,
    /// A step.
    Step(Step),
}

impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Options => f.write_str("the answer to options"),
            Self::Step(step) => write!(f, "the answer to {step}"),
        }
    }
}

/// One connection to a filter, as the server sees it.
///
/// It outlives the questions that are asked over it, one after the other. Memory: at most one frame of
/// the filter, and the chunk handed over last.
#[derive(Clone, Debug)]
pub struct Client {
    limits: Limits,
    frames: Frames,
    agreed: Option<Options>,
    /// The last dialogue came to its end, and the filter goes on to the next.
    is_reusable: bool,
}

impl Client {
    /// A connection over which nothing was said yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, frames: Frames::new(limits.frame), agreed: None, is_reusable: false }
    }

    /// What was agreed upon, once it was.
    #[must_use]
    pub fn agreed(&self) -> Option<&Options> {
        self.agreed.as_ref()
    }

    /// Whether one more question can be asked: version 6 was agreed upon, the last question was answered
    /// by `continue` to the end of the message, what ends its dialogue was written, and nothing came
    /// behind it.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.is_reusable && self.frames.is_empty()
    }

    /// Asks a question, over a new connection or one that [is reusable](Client::is_reusable).
    pub fn ask<'c, 'q>(&'c mut self, question: &'q FilterQuestion<'q>) -> Dialogue<'c, 'q> {
        let next = if self.agreed.is_some() { Next::Step(Step::Connect) } else { Next::Options };
        self.is_reusable = false;
        let (header, body) = header_and_body(question.message);
        Dialogue {
            facts: Facts::of(question),
            question,
            header,
            body,
            next,
            recipient: 0,
            owed: Owed::Nothing,
            tally: Tally::new(self.limits),
            verdict: None,
            is_in_message: false,
            may_go_on: false,
            client: self,
        }
    }

    /// Appends the goodbye for a connection over which nothing more is asked.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        self.is_reusable = false;
        Command::Quit.encode(out);
    }
}

/// What is to be said next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Options,
    Step(Step),
    /// The verdict is there, or is about to be: nothing more of the message.
    Close,
    Nothing,
}

/// One question over a connection.
///
/// By turns: [`write`](Self::write) until it has nothing to say, then
/// [`handle_bytes`](Self::handle_bytes) with what came, until [`verdict`](Self::take_verdict) is there;
/// then `write` once more for what ends the dialogue.
#[derive(Debug)]
pub struct Dialogue<'c, 'q> {
    client: &'c mut Client,
    question: &'q FilterQuestion<'q>,
    facts: Facts<'q>,
    header: Header<'q>,
    body: Body<'q>,
    next: Next,
    /// The recipient that is told next or was told last.
    recipient: usize,
    owed: Owed,
    tally: Tally,
    verdict: Option<FilterVerdict>,
    /// MAIL was told, and the end of the message was not answered.
    is_in_message: bool,
    /// The filter has answered `continue` to the end of the message. Only then does every filter go on
    /// to another session on the same connection: libmilter passes over `K` behind all other answers.
    may_go_on: bool,
}

/// Octets after which [`Dialogue::write`] takes a break.
const ENOUGH: usize = 64 << 10;

impl Dialogue<'_, '_> {
    /// What the filter owes an answer to.
    #[must_use]
    pub fn owed(&self) -> Owed {
        self.owed
    }

    /// The verdict, once it is there.
    pub fn take_verdict(&mut self) -> Option<FilterVerdict> {
        self.verdict.take()
    }

    /// Appends what is to be said now, at most some 192 KiB at a time. Nothing: the filter is to answer,
    /// or the dialogue is over.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        while self.owed == Owed::Nothing && out.len() - start < ENOUGH {
            match self.next {
                Next::Options => {
                    let offered = Options::new(VERSION, OFFERED, Steps::OFFERED);
                    Command::Options(offered).encode(out);
                    self.owed = Owed::Options;
                }
                Next::Step(step) => self.tell(step, out),
                Next::Close => {
                    self.close(out);
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.next = Next::Nothing;
        if self.is_in_message {
            Command::Abort.encode(out);
        }
        let version = self.client.agreed.as_ref().map_or(0, |agreed| agreed.version);
        if version >= VERSION && self.may_go_on {
            Command::QuitNewConnection.encode(out);
            self.client.is_reusable = true;
        } else {
            Command::Quit.encode(out);
        }
    }

    /// Tells one step, unless the filter does not want it.
    fn tell(&mut self, step: Step, out: &mut Vec<u8>) {
        let Some(agreed) = self.client.agreed.as_ref() else {
            self.next = Next::Options;
            return;
        };
        let is_wanted = !agreed.steps.has(step.unwanted());
        let is_known = step != Step::Data || agreed.version >= 4;
        if !(is_wanted && is_known) {
            self.next = after(step);
            return;
        }
        let has_blanks = agreed.steps.has(Steps::LEADING_BLANK);
        let command = match step {
            Step::Connect => Command::Connect {
                host_name: self.facts.host_name(),
                peer: Peer::Ip(self.question.told_ip(), self.question.port),
            },
            Step::Helo => match self.question.helo {
                Some(helo) => Command::Helo(helo.as_bytes()),
                None => {
                    self.next = after(step);
                    return;
                }
            },
            Step::Mail => {
                let path = self.facts.sender().as_bytes();
                Command::Mail { path, parameters: Vec::new() }
            }
            Step::Rcpt => {
                if !self.facts.recipient(&self.question.recipients, self.recipient) {
                    self.next = after(step);
                    return;
                }
                let path = self.facts.recipient_path().as_bytes();
                Command::Rcpt { path, parameters: Vec::new() }
            }
            Step::Header => match self.header.next(has_blanks) {
                Some((name, value)) => Command::Header { name, value },
                None => {
                    self.next = after(step);
                    return;
                }
            },
            Step::Body => match self.body.next() {
                Some(piece) => Command::Body(piece),
                None => {
                    self.next = after(step);
                    return;
                }
            },
            Step::Data => Command::Data,
            Step::EndOfHeader => Command::EndOfHeader,
            Step::EndOfMessage => Command::EndOfMessage(b""),
            Step::Unknown => {
                self.next = after(step);
                return;
            }
        };
        let macros = self.facts.macros(step, agreed.chosen(step));
        if !macros.is_empty() {
            Command::Macros { step, macros }.encode(out);
        }
        command.encode(out);
        self.is_in_message |= step == Step::Mail;
        if agreed.steps.has(step.unanswered()) {
            self.go_on(step);
        } else {
            self.owed = Owed::Step(step);
        }
    }

    /// The step was told, and the filter has nothing against going on.
    fn go_on(&mut self, step: Step) {
        self.owed = Owed::Nothing;
        self.next = match step {
            Step::Rcpt => {
                self.recipient += 1;
                Next::Step(step)
            }
            // There may be more of them.
            Step::Header | Step::Body => Next::Step(step),
            other => after(other),
        };
    }

    /// Takes what the filter sent, in chunks of any size.
    ///
    /// # Errors
    /// [`Fault`]: the filter cannot be understood; there is no verdict, close the connection.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.client.frames.push(bytes);
        while self.next != Next::Close && self.next != Next::Nothing {
            let Some(frame) = self.client.frames.take()? else { return Ok(()) };
            let response = Response::decode(frame)?;
            self.handle(response)?;
        }
        Ok(())
    }

    fn handle(&mut self, response: Response) -> Result<(), Fault> {
        let out_of_place = |came, when: &dyn fmt::Display| {
            Err(Fault::OutOfPlace { came, when: when.to_string().into() })
        };
        match (self.owed, response) {
            (Owed::Nothing, other) => out_of_place(other.name(), &"before anything was asked"),
            (Owed::Options, Response::Options(options)) => self.agree(options),
            (Owed::Options, other) => out_of_place(other.name(), &"in answer to options"),
            (Owed::Step(_), Response::Progress) => self.tally.progress(),
            (Owed::Step(Step::EndOfMessage), Response::Modify(wanted)) => self.tally.take(wanted),
            (Owed::Step(step), early @ (Response::Modify(_) | Response::Options(_))) => {
                out_of_place(early.name(), &format_args!("in answer to {step}"))
            }
            (Owed::Step(step), response) => self.answered(step, response),
        }
    }

    fn agree(&mut self, mut options: Options) -> Result<(), Fault> {
        if !(LOWEST_VERSION..=VERSION).contains(&options.version) {
            return Err(Fault::Version { came: options.version, offered: VERSION });
        }
        let Steps(offered) = Steps::OFFERED.and(Steps::LARGE_PIECES);
        let asked = options.steps.0 & !offered;
        if asked != 0 {
            return Err(Fault::Steps { asked, offered: Steps::OFFERED.0 });
        }
        // A filter that wants to do more is told nothing of it: what it does beyond is reported.
        options.actions = options.actions.common(OFFERED);
        options.steps = options.steps.common(Steps::OFFERED);
        self.client.agreed = Some(options);
        self.owed = Owed::Nothing;
        self.next = Next::Step(Step::Connect);
        Ok(())
    }

    fn answered(&mut self, step: Step, response: Response) -> Result<(), Fault> {
        let name = response.name();
        let action = match response {
            Response::Continue if step == Step::EndOfMessage => {
                self.may_go_on = true;
                FilterAction::Accept
            }
            Response::Continue => {
                self.go_on(step);
                return Ok(());
            }
            Response::Skip => return self.skip(step),
            Response::Accept => FilterAction::Accept,
            Response::Discard => FilterAction::Discard,
            Response::Reject => {
                refusal(Reply::new(550, (5, 7, 1), "The filter rejects this message"))
            }
            Response::TempFail => refusal(Reply::new(
                451,
                (4, 7, 1),
                "The filter cannot judge this message now; try again later",
            )),
            Response::Reply(reply) => refusal(reply),
            Response::Shutdown | Response::ConnectionFailed => {
                refusal(Reply::new(451, (4, 3, 2), "The filter is shutting down; try again later"))
            }
            // `handle` has seen to the rest.
            Response::Options(_) | Response::Progress | Response::Modify(_) => return Ok(()),
        };
        if step == Step::Rcpt
            && let FilterAction::Reject(reply) | FilterAction::TempFail(reply) = &action
        {
            self.tally.refused(self.recipient, reply.clone())?;
            self.go_on(step);
            if self.tally.refused_recipients() < self.question.recipients.len() {
                return Ok(());
            }
        }
        self.decide(step, name, action);
        Ok(())
    }

    fn skip(&mut self, step: Step) -> Result<(), Fault> {
        let may = self.client.agreed.as_ref().is_some_and(|it| it.steps.has(Steps::SKIP));
        match step {
            Step::Rcpt | Step::Header | Step::Body if may => {
                self.owed = Owed::Nothing;
                self.next = after(step);
                Ok(())
            }
            step => {
                let when = format!("in answer to {step}{}", if may { "" } else { ", unagreed" });
                Err(Fault::OutOfPlace { came: "skip", when: when.into() })
            }
        }
    }

    fn decide(&mut self, step: Step, name: &'static str, action: FilterAction) {
        let tally = std::mem::replace(&mut self.tally, Tally::new(self.client.limits));
        self.verdict = Some(tally.verdict(step, name, action));
        self.is_in_message &= step != Step::EndOfMessage;
        self.owed = Owed::Nothing;
        self.next = Next::Close;
    }
}

/// What a filter may do: all that can be done without touching envelope and body.
const OFFERED: Actions = Actions::ADD_HEADERS
    .and(Actions::CHANGE_HEADERS)
    .and(Actions::QUARANTINE)
    .and(Actions::CHOOSE_MACROS);

fn refusal(reply: Reply) -> FilterAction {
    if is_permanent(&reply) { FilterAction::Reject(reply) } else { FilterAction::TempFail(reply) }
}

fn after(step: Step) -> Next {
    Next::Step(match step {
        Step::Connect => Step::Helo,
        Step::Helo => Step::Mail,
        Step::Mail => Step::Rcpt,
        Step::Rcpt => Step::Data,
        Step::Data => Step::Header,
        Step::Header => Step::EndOfHeader,
        Step::EndOfHeader => Step::Body,
        Step::Body | Step::EndOfMessage | Step::Unknown => Step::EndOfMessage,
    })
}
