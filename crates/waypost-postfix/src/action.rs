//! What a policy server answers.

use std::fmt;

use waypost_types::{HeaderLine, Reply, ReplyClass};

use crate::error::RequestError;
use crate::text::{one_line, shown};

/// Octets of an answer's text; Postfix cuts longer ones.
const MAX_TEXT: usize = 1000;

/// What Postfix is to do, as access(5) has it. Shown as the whole answer, its empty line included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Nothing against it: the next restriction decides.
    Dunno,
    /// Permitted: the rest of this list of restrictions is not asked.
    Permit,
    /// The client gets this reply: 4yz or 5yz. Its lines are joined, since an answer is one line.
    Refuse(Reply),
    /// The client gets a 450 with this text, unless a later restriction refuses for good.
    DeferIfPermit(Box<str>),
    /// The message waits in Postfix's queue `hold` for all its recipients.
    Hold(Box<str>),
    /// A line for the top of the message's header.
    Prepend(HeaderLine),
}

impl From<Reply> for Action {
    /// A refusal; a reply that refuses nothing is [`Action::Dunno`].
    fn from(reply: Reply) -> Self {
        match reply.class() {
            ReplyClass::Transient | ReplyClass::Permanent => Action::Refuse(reply),
            ReplyClass::Completed | ReplyClass::Intermediate => Action::Dunno,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| one_line(text, MAX_TEXT);
        f.write_str("action=")?;
        match self {
            Action::Dunno => f.write_str("DUNNO")?,
            Action::Permit => f.write_str("OK")?,
            // Postfix does not say whether the client asked for SMTPUTF8.
            Action::Refuse(reply) => f.write_str(&line(&reply.in_ascii().to_string()))?,
            Action::DeferIfPermit(text) => write!(f, "DEFER_IF_PERMIT {}", line(text))?,
            Action::Hold(text) => write!(f, "HOLD {}", line(text))?,
            Action::Prepend(header) => {
                write!(f, "PREPEND {}", line(&format!("{}: {}", header.name(), header.value())))?;
            }
        }
        f.write_str("\n\n")
    }
}

impl Action {
    /// The first answer among the octets that a policy server sent, and how many octets it takes;
    /// `None` until its empty line is there. For clients of policy servers, and for tests.
    ///
    /// # Errors
    /// [`RequestError::NotAnAnswer`] when what ends in the empty line is no answer.
    pub fn decode(octets: &[u8]) -> Result<Option<(Self, usize)>, RequestError> {
        let not = || RequestError::NotAnAnswer(shown(octets));
        let Some(end) = octets.windows(2).position(|two| two == b"\n\n") else {
            return match octets.len() > 2 * MAX_TEXT {
                true => Err(not()),
                false => Ok(None),
            };
        };
        let text = octets.get(..end).and_then(|text| std::str::from_utf8(text).ok());
        let action = text.and_then(|text| text.strip_prefix("action=")).ok_or_else(not)?;
        let (word, rest) = action.split_once(' ').unwrap_or((action, ""));
        let action = match word {
            "DUNNO" => Action::Dunno,
            "OK" => Action::Permit,
            "DEFER_IF_PERMIT" => Action::DeferIfPermit(rest.into()),
            "HOLD" => Action::Hold(rest.into()),
            "PREPEND" => {
                let header = rest.split_once(": ");
                let line = header.and_then(|(name, value)| HeaderLine::new(name, value).ok());
                Action::Prepend(line.ok_or_else(not)?)
            }
            code => Action::Refuse(refusal(code, rest).ok_or_else(not)?),
        };
        Ok(Some((action, end + 2)))
    }
}

fn refusal(code: &str, rest: &str) -> Option<Reply> {
    let code = code.parse().ok().filter(|code| (400..600).contains(code))?;
    let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut parts = first.split('.').map(str::parse::<u16>);
    let enhanced = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(class)), Some(Ok(subject)), Some(Ok(detail)), None) => {
            u8::try_from(class).ok().map(|class| (class, subject, detail))
        }
        _ => None,
    };
    Some(match enhanced {
        Some(enhanced) => Reply::new(code, enhanced, text),
        None => Reply::plain(code, rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_one_line_each() {
        let two_lines = Reply::new(550, (5, 7, 1), "one\ntwo");
        let header = HeaderLine::new("X-Waypost", "relayed").unwrap();
        for (action, want) in [
            (Action::Dunno, "action=DUNNO\n\n"),
            (Action::Permit, "action=OK\n\n"),
            (Action::from(two_lines), "action=550 5.7.1 one two\n\n"),
            (
                Action::from(Reply::new(550, (5, 7, 1), "Réponse non")),
                "action=550 5.7.1 Reponse non\n\n",
            ),
            (Action::from(Reply::plain(421, "Go away")), "action=421 Go away\n\n"),
            (Action::from(Reply::new(250, (2, 1, 5), "ok")), "action=DUNNO\n\n"),
            (
                Action::DeferIfPermit("later\n\naction=OK".into()),
                "action=DEFER_IF_PERMIT later  action=OK\n\n",
            ),
            (Action::Hold("kept".into()), "action=HOLD kept\n\n"),
            (Action::Prepend(header), "action=PREPEND X-Waypost: relayed\n\n"),
        ] {
            let told = action.to_string();
            assert_eq!(told, want);
            let (read, length) = Action::decode(told.as_bytes()).unwrap().unwrap();
            assert_eq!((read.to_string(), length), (told.clone(), told.len()));
        }
        let long = Action::from(Reply::new(550, (5, 7, 1), &"x".repeat(5000)));
        assert!(long.to_string().len() <= MAX_TEXT + 9);
        assert!(Action::decode(b"action=OK").unwrap().is_none());
        for wrong in [&b"DUNNO\n\n"[..], b"action=250 fine\n\n", b"action=\n\n", &[b'x'; 3000]] {
            assert!(Action::decode(wrong).is_err(), "{}", shown(wrong));
        }
    }
}
