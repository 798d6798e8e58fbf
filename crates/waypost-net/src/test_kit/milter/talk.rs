//! One connection of a filter, as the script has it.

use std::io::{self, Read, Write};
use std::time::Duration;

use waypost_milter::server::Server;
use waypost_milter::{Command, Response, Step};

use super::asked::{Asked, text};
use super::script::{MilterFault, MilterPhase};
use super::{Shared, Stream};

struct Talk<'s> {
    stream: Stream,
    shared: &'s Shared,
    server: Server,
    asked: Asked,
    /// A message was begun, and its question has not ended.
    is_open: bool,
    /// The step answered last: faults are for the first of a kind.
    last: Option<Step>,
}

/// Talks to a server until either goes.
pub(super) fn talk(stream: Stream, number: usize, shared: &Shared) {
    let server = Server::with_options(shared.script.options.clone());
    let asked = Asked { connection: number, ..Asked::default() };
    let mut talk = Talk { stream, shared, server, asked, is_open: false, last: None };
    // However it ended, the server sees it.
    let _ = talk.run();
    talk.note();
    talk.stream.close();
}

impl Talk<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            let octets = self.stream.read(&mut buffer)?;
            if octets == 0 {
                return Ok(());
            }
            self.server.handle_bytes(buffer.get(..octets).unwrap_or_default());
            while self.event()? {}
        }
    }

    /// Takes the next event; false: there is none yet.
    fn event(&mut self) -> io::Result<bool> {
        let mut out = Vec::new();
        let event = self.server.next(&mut out).map(|command| {
            if let Some(command) = &command {
                self.asked.note(command);
                self.is_open |= matches!(command, Command::Mail { .. });
            }
            command.map(|command| (command.step(), matches!(command, Command::Quit)))
        });
        if !out.is_empty() {
            let fault = self.shared.script.fault(MilterPhase::Options).cloned();
            self.say(fault.as_ref(), &out)?;
        }
        let event = event.map_err(|fault| {
            self.shared.change(|seen| seen.faults.push(fault.to_string()));
            io::Error::other(fault)
        })?;
        let Some((step, is_quit)) = event else { return Ok(false) };
        let facts = self.server.facts().map(|(name, value)| (text(name), text(value)));
        self.asked.facts.extend(facts);
        let Some(step) = step else {
            // The message or the session was given up.
            self.note();
            return if is_quit { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) };
        };
        if self.server.waiting().is_none() {
            return Ok(true);
        }
        let answers = match step {
            Step::EndOfMessage => {
                let answer = self.shared.script.answer(&self.asked).clone();
                let changes = answer.changes.into_iter().map(Response::Modify);
                changes.chain([answer.last]).collect()
            }
            _ => vec![Response::Continue],
        };
        let mut out = Vec::new();
        for answer in answers {
            self.server.answer(&answer, &mut out).or_else(|_| {
                // Not agreed upon, so said all the same: what the server does is under test.
                answer.encode(&mut out);
                Ok::<(), io::Error>(())
            })?;
        }
        let is_first = self.last.replace(step) != Some(step);
        // Whoever sees what was asked may rely on its fault being this one's.
        let fault = match is_first {
            true => self.shared.script.fault(MilterPhase::Step(step)).cloned(),
            false => None,
        };
        if step == Step::EndOfMessage {
            self.note();
        }
        self.say(fault.as_ref(), &out)?;
        Ok(true)
    }

    /// Writes down what was asked.
    fn note(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let next = self.asked.next_message();
            let asked = std::mem::replace(&mut self.asked, next);
            self.shared.change(|seen| seen.asked.push(asked));
        }
    }

    /// Answers, or does what goes wrong instead.
    fn say(&mut self, fault: Option<&MilterFault>, answer: &[u8]) -> io::Result<()> {
        let pause = match fault {
            None => None,
            Some(MilterFault::Silent) => {
                self.shared.stall()?;
                None
            }
            Some(MilterFault::Drop) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(MilterFault::Bytes(bytes)) => return self.stream.write_all(bytes),
            Some(MilterFault::Half) => {
                self.stream.write_all(answer.get(..answer.len() / 2).unwrap_or_default())?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(MilterFault::Slow(pause)) => Some(*pause),
        };
        let Some(pause) = pause else { return self.stream.write_all(answer) };
        answer.chunks(1).try_for_each(|octet| {
            std::thread::sleep(Duration::max(pause, Duration::from_millis(1)));
            self.stream.write_all(octet)
        })
    }
}
