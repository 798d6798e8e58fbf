//! One conversation, as the script has it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use super::peer::Shared;
use super::record::{Framing, Received, Session};
use super::script::{Act, Phase};
use super::wire::Wire;

/// Why a conversation ends.
enum End {
    /// At once, whoever may still want to say something.
    Drop,
    /// When the client has heard all.
    Close,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Drop
    }
}

struct Talk<'s> {
    wire: Wire,
    shared: &'s Shared,
    number: usize,
    /// MAIL was taken, and its transaction is not over.
    is_open: bool,
    is_lmtp: bool,
}

/// Talks to a client until either goes.
pub(super) fn talk(tcp: TcpStream, number: usize, shared: &Shared) {
    let Ok(wire) = Wire::new(tcp) else { return };
    let mut talk = Talk { wire, shared, number, is_open: false, is_lmtp: false };
    match talk.run() {
        Ok(()) | Err(End::Close) => talk.wire.close(),
        Err(End::Drop) => talk.wire.drop_it(),
    }
}

impl Talk<'_> {
    fn run(&mut self) -> Result<(), End> {
        if let Some(identity) = &self.shared.script.implicit {
            self.handshake(identity.config())?;
        }
        self.answer(Phase::Banner, "", "220 peer.example ESMTP")?;
        while let Some(line) = self.wire.line()? {
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            self.note(|session| session.commands.push(line.clone()));
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "LHLO" | "HELO" => self.hello(&verb, &line)?,
                "STARTTLS" => self.starttls(&line)?,
                "AUTH" => self.auth(&line)?,
                "MAIL" => self.mail(&line)?,
                "RCPT" => self.rcpt(&line)?,
                "DATA" => self.data(&line)?,
                "BDAT" => self.chunk(&line)?,
                "RSET" => {
                    self.answer(Phase::Rset, &line, "250 2.0.0 Ok")?;
                    self.is_open = false;
                }
                "QUIT" => {
                    self.answer(Phase::Quit, &line, "221 2.0.0 Bye")?;
                    return Err(End::Close);
                }
                _ => drop(self.answer(Phase::Other, &line, "250 2.0.0 Ok")?),
            }
        }
        Ok(())
    }

    fn hello(&mut self, verb: &str, line: &str) -> Result<(), End> {
        (self.is_lmtp, self.is_open) = (verb == "LHLO", false);
        let mut lines = vec!["peer.example".to_owned()];
        if verb != "HELO" {
            lines.extend(self.shared.script.offers.iter().cloned());
            if self.shared.script.starttls.is_some() && !self.wire.is_tls() {
                lines.push("STARTTLS".to_owned());
            }
        }
        let last = lines.pop().unwrap_or_default();
        let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        reply.push_str(&format!("250 {last}"));
        self.answer(Phase::Hello, line, &reply).map(drop)
    }

    fn starttls(&mut self, line: &str) -> Result<(), End> {
        let identity = self.shared.script.starttls.as_ref().filter(|_| !self.wire.is_tls());
        let usual = if identity.is_some() { "220 2.0.0 Go" } else { "503 5.5.1 Not offered" };
        let said = self.answer(Phase::StartTls, line, usual)?;
        match identity {
            Some(identity) if said.starts_with("220") => {
                let rest = self.wire.take_rest();
                self.note(|session| session.behind_starttls = rest);
                self.is_open = false;
                self.handshake(identity.config())
            }
            _ => Ok(()),
        }
    }

    fn handshake(&mut self, config: Arc<rustls::ServerConfig>) -> Result<(), End> {
        // The client begins; what is said before would be an injection.
        self.wire.wait_for_client()?;
        match self.shared.script.act(Phase::Handshake, "") {
            None => {}
            Some(Act::Stall | Act::CutAndStall(_)) => self.shared.stall(),
            Some(Act::Bytes(bytes)) => {
                self.wire.write(&bytes)?;
                return Err(End::Close);
            }
            Some(Act::Reply(text) | Act::ReplyAndDrop(text)) => {
                self.wire.write(&ended(&text))?;
                return Err(End::Close);
            }
            Some(Act::Drop | Act::Cut(_) | Act::Trickle(_) | Act::Flood { .. }) => {
                return Err(End::Drop);
            }
        }
        if self.wire.handshake(config).is_err() {
            return Err(End::Close);
        }
        self.note(|session| session.clear_commands = Some(session.commands.len()));
        Ok(())
    }

    fn auth(&mut self, line: &str) -> Result<(), End> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
        let mut owed: u32 = match (mechanism.as_str(), words.next()) {
            ("PLAIN", Some(_)) => 0,
            ("LOGIN", None) => 2,
            _ => 1,
        };
        let mut line = line.to_owned();
        loop {
            let usual = if owed == 0 { "235 2.7.0 Welcome" } else { "334 " };
            let said = self.answer(Phase::Auth, &line, usual)?;
            if !said.starts_with('3') {
                return Ok(());
            }
            let Some(next) = self.wire.line()? else { return Err(End::Drop) };
            line = String::from_utf8_lossy(&next).trim_end().to_owned();
            self.note(|session| session.commands.push(line.clone()));
            owed = owed.saturating_sub(1);
        }
    }

    fn mail(&mut self, line: &str) -> Result<(), End> {
        let said = self.answer(Phase::Mail, line, "250 2.1.0 Ok")?;
        if said.starts_with('2') {
            let (sender, parameters) = path(line);
            let (session, over_tls) = (self.number, self.wire.is_tls());
            let begun = Received { session, over_tls, sender, parameters, ..Received::default() };
            self.note(|session| session.transactions.push(begun));
            self.is_open = true;
        }
        Ok(())
    }

    fn rcpt(&mut self, line: &str) -> Result<(), End> {
        let usual = if self.is_open { "250 2.1.5 Ok" } else { "503 5.5.1 MAIL first" };
        let said = self.answer(Phase::Rcpt, line, usual)?;
        if said.starts_with('2') {
            let (address, parameters) = path(line);
            self.transaction(|open| {
                open.recipients.push(address);
                open.recipient_parameters.push(parameters);
            });
        }
        Ok(())
    }

    fn data(&mut self, line: &str) -> Result<(), End> {
        let usual = match self.has_recipients() {
            true => "354 Go on",
            false => "554 5.5.1 No valid recipients",
        };
        let said = self.answer(Phase::Data, line, usual)?;
        if !said.starts_with('3') {
            return Ok(());
        }
        self.transaction(|open| open.framing = Some(Framing::Data));
        // Noted when somebody may look: at the first line and at the end, whatever end it is.
        let (mut content, mut is_first) = (Vec::new(), true);
        let is_whole = loop {
            let line = match self.wire.line() {
                Ok(Some(line)) => line,
                Ok(None) | Err(_) => break false,
            };
            if line == b".\r\n" {
                break true;
            }
            let stuffed = usize::from(line.starts_with(b"."));
            content.extend_from_slice(line.get(stuffed..).unwrap_or_default());
            if std::mem::take(&mut is_first) {
                self.transaction(|open| open.content.append(&mut content));
                self.in_content()?;
            }
        };
        self.transaction(|open| open.content.append(&mut content));
        if is_whole { self.end(".") } else { Err(End::Drop) }
    }

    fn chunk(&mut self, line: &str) -> Result<(), End> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mut left: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let is_last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let is_good = self.has_recipients();
        let mut is_first = true;
        while left > 0 {
            let some = self.wire.some(left)?;
            if some.is_empty() {
                return Err(End::Drop);
            }
            left -= some.len();
            if is_good {
                self.transaction(|open| open.content.extend_from_slice(&some));
                if std::mem::take(&mut is_first) {
                    self.in_content()?;
                }
            }
        }
        if !is_good {
            return self.answer(Phase::Chunk, line, "503 5.5.1 No valid recipients").map(drop);
        }
        self.transaction(|open| {
            let before = match open.framing {
                Some(Framing::Chunks(count)) => count,
                Some(Framing::Data) | None => 0,
            };
            open.framing = Some(Framing::Chunks(before + 1));
        });
        match is_last {
            true => self.end(line),
            false => self.answer(Phase::Chunk, line, "250 2.0.0 Go on").map(drop),
        }
    }

    /// The content is there, whole.
    fn end(&mut self, command: &str) -> Result<(), End> {
        let mut asked = vec![command.to_owned()];
        let (is_lmtp, number) = (self.is_lmtp, self.shared.count_whole());
        self.transaction(|open| {
            open.whole = Some(number);
            if is_lmtp {
                asked = open.recipients.iter().map(|to| format!("<{to}>")).collect();
            }
        });
        for command in asked {
            let said = self.verdict(&command)?;
            if said.is_empty() {
                break;
            }
        }
        self.is_open = false;
        Ok(())
    }

    /// The verdict is noted before it is said, so that who has heard it finds it here.
    fn verdict(&mut self, command: &str) -> Result<String, End> {
        let usual = "250 2.0.0 Taken";
        let act = self.shared.script.act(Phase::End, command);
        let said = match &act {
            None | Some(Act::Trickle(_) | Act::Flood { .. }) => Some(usual.to_owned()),
            Some(Act::Reply(text) | Act::ReplyAndDrop(text)) => Some(text.clone()),
            // What is not said whole was not said; if it is later, it is noted then.
            _ => None,
        };
        if let Some(said) = said {
            self.transaction(|open| open.verdicts.push(said));
            return self.perform(act, usual);
        }
        let said = self.perform(act, usual)?;
        self.transaction(|open| open.verdicts.push(said.clone()));
        Ok(said)
    }

    /// In mid-message.
    fn in_content(&mut self) -> Result<(), End> {
        match self.shared.script.act(Phase::Content, "") {
            None => Ok(()),
            Some(Act::Stall | Act::CutAndStall(_)) => {
                self.shared.stall();
                Ok(())
            }
            other => self.perform(other, "").map(drop),
        }
    }

    /// Says what the script has for this; gives what was said.
    fn answer(&mut self, phase: Phase, command: &str, usual: &str) -> Result<String, End> {
        let act = self.shared.script.act(phase, command);
        self.perform(act, usual)
    }

    fn perform(&mut self, act: Option<Act>, usual: &str) -> Result<String, End> {
        let whole = ended(usual);
        match act {
            None => self.wire.write(&whole)?,
            Some(Act::Reply(text)) => {
                self.wire.write(&ended(&text))?;
                return Ok(text);
            }
            Some(Act::ReplyAndDrop(text)) => {
                self.wire.write(&ended(&text))?;
                return Err(End::Close);
            }
            Some(Act::Drop) => return Err(End::Drop),
            Some(Act::Cut(count)) => {
                self.wire.write(whole.get(..count).unwrap_or(&whole))?;
                return Err(End::Close);
            }
            Some(Act::CutAndStall(count)) => {
                let (first, rest) = whole.split_at(count.min(whole.len()));
                self.wire.write(first)?;
                self.shared.stall();
                self.wire.write(rest)?;
            }
            Some(Act::Stall) => {
                self.shared.stall();
                self.wire.write(&whole)?;
            }
            Some(Act::Trickle(pause)) => {
                for octet in &whole {
                    std::thread::sleep(pause);
                    self.wire.write(std::slice::from_ref(octet))?;
                }
            }
            Some(Act::Flood { lines, octets }) => {
                let code = usual.get(..3).unwrap_or("250");
                let text = "x".repeat(octets);
                for _ in 1..lines {
                    self.wire.write(format!("{code}-{text}\r\n").as_bytes())?;
                }
                self.wire.write(format!("{code} {text}\r\n").as_bytes())?;
            }
            Some(Act::Bytes(bytes)) => self.wire.write(&bytes)?,
        }
        Ok(usual.to_owned())
    }

    fn has_recipients(&self) -> bool {
        let mut has = false;
        self.transaction(|open| has = !open.recipients.is_empty());
        has
    }

    /// Looks at the open transaction, if there is one.
    fn transaction(&self, what: impl FnOnce(&mut Received)) {
        if self.is_open {
            self.note(|session| {
                if let Some(open) = session.transactions.last_mut() {
                    what(open);
                }
            });
        }
    }

    fn note(&self, what: impl FnOnce(&mut Session)) {
        self.shared.note(self.number, what);
    }
}

/// With CR LF at the end.
fn ended(text: &str) -> Vec<u8> {
    let line = text.strip_suffix("\r\n").unwrap_or(text);
    format!("{line}\r\n").into_bytes()
}

/// The address between the brackets, and the parameters behind it.
fn path(line: &str) -> (String, Vec<String>) {
    let behind = line.split_once(':').map_or("", |(_, behind)| behind).trim_start();
    // A quoted local part may hold `>`.
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = behind.find(|c| {
        let was_escaped = is_escaped;
        is_escaped = c == '\\' && !was_escaped;
        is_quoted ^= c == '"' && !was_escaped;
        c == '>' && !is_quoted
    });
    let end = end.unwrap_or(behind.len());
    let (address, rest) = behind.split_at(end);
    let parameters = rest.trim_start_matches('>').split_ascii_whitespace().map(str::to_owned);
    (address.trim_start_matches('<').to_owned(), parameters.collect())
}
