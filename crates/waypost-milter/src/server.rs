//! The filter's side of the protocol: what a server tells, and the answers.

use std::collections::BTreeMap;

use crate::command::Command;
use crate::fault::Fault;
use crate::field::HeaderEdit;
use crate::frame::Frames;
use crate::options::{Actions, LOWEST_VERSION, Options, Step, Steps, VERSION};
use crate::response::{Modification, Response};

/// Why an answer cannot be given; nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No step waits for an answer.
    #[error("`{0}` answers nothing: no step waits for an answer; take the next event first")]
    Unasked(&'static str),
    /// This answer has no place here.
    #[error(
        "`{answer}` is no answer to {step}; changes belong to the end of the message, `skip` to fields, bodies and recipients"
    )]
    OutOfPlace {
        /// The answer's name.
        answer: &'static str,
        /// The step.
        step: Step,
    },
    /// It was not agreed upon.
    #[error("`{0}` was not agreed upon; ask for it in the options, and see what the server offers")]
    Unagreed(&'static str),
}

/// One connection from a server, as the filter sees it.
///
/// By turns: [`handle_bytes`](Self::handle_bytes) with what came, [`next`](Self::next) until it has
/// nothing, and an [`answer`](Self::answer) to each event that [waits for one](Self::waiting). Memory:
/// one frame, the chunk handed over last, and the macros (1,024 of 64 KiB in all); between frames the macros
/// alone.
#[derive(Clone, Debug)]
pub struct Server {
    /// What this filter asks for.
    wanted: Options,
    frames: Frames,
    agreed: Option<Options>,
    place: Place,
    waiting: Option<Step>,
    macros: BTreeMap<(Step, Vec<u8>), Vec<u8>>,
}

/// Where in a session the next command belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Options,
    /// Behind the options, or behind the end of a session.
    Session,
    /// In a session, outside a message.
    Connected,
    Mail,
    Data,
    EndOfHeader,
    Over,
}

/// Macros that are kept.
const MAX_MACROS: usize = 1024;
/// Octets of their names and values. A certificate's names may stand in them.
const MAX_MACRO_OCTETS: usize = 64 << 10;

/// The longest frame that is taken, in octets: the largest piece of a body, and its letter.
const MAX_FRAME: u32 = (1 << 20) + 1;

impl Server {
    /// A filter that will do these actions and wants these steps left out.
    #[must_use]
    pub fn new(actions: Actions, steps: Steps) -> Self {
        Self {
            wanted: Options::new(VERSION, actions, steps),
            frames: Frames::new(MAX_FRAME),
            agreed: None,
            place: Place::Options,
            waiting: None,
            macros: BTreeMap::new(),
        }
    }

    /// One that wants these options: a lower version, say, or macros of its choice.
    #[must_use]
    pub fn with_options(wanted: Options) -> Self {
        Self { wanted, ..Self::new(Actions::default(), Steps::default()) }
    }

    /// What was agreed upon, once it was.
    #[must_use]
    pub fn agreed(&self) -> Option<&Options> {
        self.agreed.as_ref()
    }

    /// Takes what the server sent, in chunks of any size. Take out all events before handing over more.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// Octets of frames that were not taken out as events.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.frames.octets()
    }

    /// Gives memory back that no frame is in any more, before a long wait.
    pub fn give_back(&mut self) {
        self.frames.give_back();
    }

    /// The step that waits for an answer.
    #[must_use]
    pub fn waiting(&self) -> Option<Step> {
        self.waiting
    }

    /// A macro as it was told last, by its name without braces.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&[u8]> {
        let mut found = self.macros.iter().filter(|((_, known), _)| known == name.as_bytes());
        found.next_back().map(|(_, value)| value.as_slice())
    }

    /// All macros that hold now, by their names without braces.
    pub fn facts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.macros.iter().map(|((_, name), value)| (name.as_slice(), value.as_slice()))
    }

    /// The next event; `None`: more octets are needed, or an answer to the last one.
    ///
    /// Macros are taken in passing ([`Server::fact`]); options are answered at once, into `out`. After
    /// [`Command::Quit`] nothing comes any more.
    ///
    /// # Errors
    /// [`Fault`]: the server cannot be understood; close the connection.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Command<'_>>, Fault> {
        if self.waiting.is_some() || self.place == Place::Over {
            return Ok(None);
        }
        while let Some(b'O' | b'D') = self.frames.letter()? {
            let Some(frame) = self.frames.take()? else { return Ok(None) };
            match Command::decode(frame)? {
                Command::Options(offered) if self.place == Place::Options => {
                    let agreed = agree(&self.wanted, &offered)?;
                    Response::Options(agreed.clone()).encode(out);
                    self.agreed = Some(agreed);
                    self.place = Place::Session;
                }
                Command::Macros { step, macros } if self.place != Place::Options => {
                    self.macros.retain(|(known, _), _| *known != step);
                    for (name, value) in macros {
                        let name = name.strip_prefix(b"{").unwrap_or(name);
                        let name = name.strip_suffix(b"}").unwrap_or(name);
                        self.macros.insert((step, name.to_vec()), value.to_vec());
                    }
                    if self.macros.len() > MAX_MACROS {
                        let limit = MAX_MACROS as u64;
                        return Err(Fault::TooMuch { what: "macros", limit });
                    }
                    let octets =
                        |((_, name), value): (&(Step, Vec<u8>), &Vec<u8>)| name.len() + value.len();
                    if self.macros.iter().map(octets).sum::<usize>() > MAX_MACRO_OCTETS {
                        let limit = MAX_MACRO_OCTETS as u64;
                        return Err(Fault::TooMuch { what: "octets of macros", limit });
                    }
                }
                other => return Err(out_of_place(&other, self.place)),
            }
        }
        let Some(frame) = self.frames.take()? else { return Ok(None) };
        let command = Command::decode(frame)?;
        let place =
            place_behind(&command, self.place).ok_or_else(|| out_of_place(&command, self.place))?;
        let steps = self.agreed.as_ref().map_or(Steps::default(), |agreed| agreed.steps);
        self.waiting = command.step().filter(|step| !steps.has(step.unanswered()));
        self.place = place;
        match command {
            Command::QuitNewConnection => self.macros.clear(),
            Command::Abort => self.macros.retain(|(step, _), _| *step < Step::Mail),
            _ => {}
        }
        Ok(Some(command))
    }

    /// Answers to the step that waits; [`Response::Modify`] and [`Response::Progress`] leave it waiting.
    ///
    /// # Errors
    /// [`AnswerError`]: nothing was written, and the step still waits.
    pub fn answer(&mut self, response: &Response, out: &mut Vec<u8>) -> Result<(), AnswerError> {
        let name = response.name();
        let Some(step) = self.waiting else { return Err(AnswerError::Unasked(name)) };
        let (actions, steps) = match &self.agreed {
            Some(agreed) => (agreed.actions, agreed.steps),
            None => (Actions::default(), Steps::default()),
        };
        let may = match response {
            Response::Options(_) => return Err(AnswerError::OutOfPlace { answer: name, step }),
            Response::Modify(_) if step != Step::EndOfMessage => {
                return Err(AnswerError::OutOfPlace { answer: name, step });
            }
            Response::Modify(modification) => actions.has(needed(modification)),
            Response::Skip if !matches!(step, Step::Rcpt | Step::Header | Step::Body) => {
                return Err(AnswerError::OutOfPlace { answer: name, step });
            }
            Response::Skip => steps.has(Steps::SKIP),
            _ => true,
        };
        if !may {
            return Err(AnswerError::Unagreed(name));
        }
        let lead: &[u8] = if steps.has(Steps::LEADING_BLANK) { b" " } else { b"" };
        response.encode_with(out, lead);
        if !matches!(response, Response::Modify(_) | Response::Progress) {
            self.waiting = None;
            if step == Step::EndOfMessage {
                self.macros.retain(|(step, _), _| *step < Step::Mail);
            }
        }
        Ok(())
    }
}

/// What both sides can do. What the filter needs and is not offered is left out, and is told by
/// [`Server::agreed`].
fn agree(wanted: &Options, offered: &Options) -> Result<Options, Fault> {
    if offered.version < LOWEST_VERSION {
        return Err(Fault::Version { came: offered.version, offered: VERSION });
    }
    let macros = match offered.actions.has(Actions::CHOOSE_MACROS) {
        true => wanted.macros.clone(),
        false => Vec::new(),
    };
    Ok(Options {
        version: wanted.version.min(offered.version),
        actions: wanted.actions.common(offered.actions),
        steps: wanted.steps.common(offered.steps),
        macros,
    })
}

fn needed(modification: &Modification) -> Actions {
    match modification {
        Modification::Header(HeaderEdit::Add { .. } | HeaderEdit::Insert { .. }) => {
            Actions::ADD_HEADERS
        }
        Modification::Header(_) => Actions::CHANGE_HEADERS,
        Modification::Body(_) => Actions::CHANGE_BODY,
        Modification::AddRecipient { parameters: None, .. } => Actions::ADD_RECIPIENT,
        Modification::AddRecipient { .. } => Actions::ADD_RECIPIENT_PARAMETERS,
        Modification::DeleteRecipient(_) => Actions::DELETE_RECIPIENT,
        Modification::ChangeSender { .. } => Actions::CHANGE_SENDER,
        Modification::Quarantine(_) => Actions::QUARANTINE,
    }
}

/// Where the next command belongs after this one; `None`: this one does not belong here. Steps that
/// were not wanted may be left out.
fn place_behind(command: &Command<'_>, now: Place) -> Option<Place> {
    use Place::{Connected, Data, EndOfHeader, Mail, Options, Over, Session};
    if now == Options {
        return None;
    }
    match command {
        Command::Connect { .. } => (now == Session).then_some(Connected),
        Command::Helo(_) | Command::Mail { .. } if now > Connected => None,
        Command::Helo(_) => Some(Connected),
        Command::Mail { .. } => Some(Mail),
        Command::Rcpt { .. } => (now <= Mail).then_some(Mail),
        Command::Data | Command::Header { .. } => (now <= Data).then_some(Data),
        Command::EndOfHeader => (now <= Data).then_some(EndOfHeader),
        Command::Body(_) => Some(EndOfHeader),
        Command::EndOfMessage(_) => Some(Connected),
        Command::Unknown(_) => Some(now.max(Connected)),
        Command::Abort => Some(now.min(Connected)),
        Command::QuitNewConnection => Some(Session),
        Command::Quit => Some(Over),
        Command::Options(_) | Command::Macros { .. } => None,
    }
}

fn out_of_place(command: &Command<'_>, place: Place) -> Fault {
    let when = match place {
        Place::Options => "before the options",
        Place::Session => "before a connection was told",
        Place::Connected => "outside a message",
        Place::Mail => "behind MAIL",
        Place::Data => "behind DATA",
        Place::EndOfHeader => "behind the end of the header",
        Place::Over => "behind quit",
    };
    Fault::OutOfPlace { came: command.name(), when: when.into() }
}
