//! Our own mark in the trace lines of what we send on, and loops that it shows (O3, O8).
//!
//! A delivery that a rule routed, renamed or added, and one to the mailbox system, is marked: the
//! `Received` line that we put on top holds the comment `(waypost-mark 6c21e73a27888a7d)`. A message
//! that comes back, for a recipient for whom the same rule would act again by the same way, has its
//! mark, and is refused instead of sent round.
//!
//! **In:** a header, and what would be delivered. **Out:** the marks that come back. **Units:** a mark
//! is 64 bits, written as 16 hexadecimal digits. **Bounds:** time and memory are linear in the header;
//! [`MAX_MARKS`] marks are read, the topmost first. **Errors:** none: what is no mark is passed over.
//! **Source:** O3, O8.
//!
//! A mark is SipHash-2-4, without a secret, of the organization, the rule's unit and description, the
//! recipient as RCPT gave it, and the way: the hosts of the route, the gateway, or this server's
//! Maildir. So all nodes of the same configuration know each other's marks, also after a restart, and
//! two systems in a row that happen to have the same names and rules do not take each other's for
//! their own. Whoever forges a mark has the own message refused, and gains nothing: no mark makes us
//! accept, or send anywhere. Whoever knows all five parts can tell from a mark that the message was
//! sent to that recipient.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::hash::Hasher as _;

use memchr::{memchr2, memmem};
use siphasher::sip::SipHasher24;
#[cfg(test)]
use waypost_types::HeaderBlock;
use waypost_types::{Destination, Field, Mailbox, OrgUnit, Reply};

use super::Policy;
use super::decision::{RefusalCause, Refused};
use super::evaluate::FateOutcome;

/// Marks that are read of a header.
pub const MAX_MARKS: usize = 16_384;

/// What the comment in a trace line begins with.
const WORD: &str = "waypost-mark";

/// Our own mark in a trace line: a hash of organization, rule with its unit, recipient as RCPT gave it, and
/// the way (O3, O8). Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// The mark with this value, as the spool keeps it.
    #[must_use]
    pub const fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The comment for a trace line that holds these marks, each once; `None` if there is none. Folded:
    /// behind each fourth mark stands CR LF TAB.
    pub fn comment(marks: impl IntoIterator<Item = Mark>) -> Option<String> {
        let (mut text, mut seen) = (format!("({WORD}"), HashSet::new());
        for mark in marks {
            if seen.insert(mark) {
                let folds = seen.len() > 1 && seen.len() % 4 == 1;
                // Writing to a String cannot fail.
                let _ = write!(text, "{}{mark}", if folds { "\r\n\t" } else { " " });
            }
        }
        text.push(')');
        (!seen.is_empty()).then_some(text)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let is_digit = |octet: &u8| octet.is_ascii_digit() || (b'a'..=b'f').contains(octet);
        let text = std::str::from_utf8(text).ok().filter(|_| text.iter().all(is_digit))?;
        u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16).map(Self)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a delivery is marked, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The mark.
    pub mark: Mark,
    /// The rule that chose the way; `None`: no rule did, and it goes to the mailbox system, or is the
    /// copy that a relay entry asks for.
    pub rule: Option<Box<str>>,
}

/// Who chose a way: the rule with its unit, or nobody.
pub(super) type Chooser<'a> = Option<(&'a OrgUnit, &'a str)>;

impl Policy {
    /// The mark of a delivery that an organization makes for a recipient.
    pub(super) fn mark(
        &self,
        organization: &str,
        chooser: Chooser<'_>,
        recipient: &Mailbox,
        destination: &Destination,
    ) -> Mark {
        let mut hash = Folded(SipHasher24::new_with_keys(0, 0));
        // Hashing cannot fail.
        let _ = match chooser {
            Some((unit, rule)) => write!(hash, "{organization}\0{unit}\0{rule}\0{recipient}\0"),
            None => write!(hash, "{organization}\0{recipient}\0"),
        };
        let hosts = |owner: &str, route: Option<&waypost_types::RouteName>| {
            let owner = self.organization(owner)?;
            owner.routes.get(route.or(owner.mailbox_route.as_ref())?)
        };
        let route = match destination {
            Destination::Route { organization, route } => hosts(organization, Some(route)),
            Destination::Mailbox { organization } => hosts(organization, None),
            _ => None,
        };
        let _ = match (route, destination) {
            (Some(route), _) => {
                route.hosts().iter().try_for_each(|host| write!(hash, "{}\0", host.at()))
            }
            (None, Destination::Mailbox { .. }) => write!(hash, "{}", self.server.hostname),
            (None, Destination::Gateway(host)) => write!(hash, "{host}"),
            (None, _) => write!(hash, "mx"),
        };
        Mark(hash.0.finish())
    }
}

/// Hashes text without case: addresses and names of hosts are the same in any.
struct Folded(SipHasher24);

impl Write for Folded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.is_ascii() {
            text.bytes().for_each(|octet| self.0.write_u8(octet.to_ascii_lowercase()));
        } else {
            self.0.write(text.to_lowercase().as_bytes());
        }
        Ok(())
    }
}

/// The marks in a message's trace lines.
#[derive(Debug, Default)]
pub(super) struct TraceMarks {
    /// Those of one comment together: one transaction of ours.
    lines: Vec<Vec<Mark>>,
    /// How many there are.
    count: usize,
}

impl TraceMarks {
    #[cfg(test)]
    fn read(header: &HeaderBlock<'_>) -> Self {
        let mut marks = Self::default();
        header.fields().filter(|field| field.is("received")).for_each(|field| marks.add(&field));
        marks
    }

    /// Adds the marks of a `Received` field.
    pub(super) fn add(&mut self, field: &Field<'_>) {
        for at in memmem::find_iter(field.raw, WORD) {
            let Some((before, rest)) = field.raw.split_at_checked(at) else { continue };
            let Some(marks) = rest.strip_prefix(WORD.as_bytes()) else { continue };
            if !before.ends_with(b"(") {
                continue;
            }
            let end = memchr2(b'(', b')', marks).unwrap_or(marks.len());
            let marks = marks.get(..end).unwrap_or_default();
            let words = marks.split(u8::is_ascii_whitespace);
            let left = MAX_MARKS - self.count;
            let line: Vec<Mark> = words.filter_map(Mark::read).take(left).collect();
            self.count += line.len();
            if !line.is_empty() {
                self.lines.push(line);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Those of the marks that deliveries would get again, and that show a loop.
    ///
    /// A transaction of ours with several recipients has the marks of all: what comes back for one of
    /// them may be mail of another who forwards it, which is no loop. So all must come back together,
    /// or the mark must be there twice.
    pub(super) fn loops(&self, again: &HashSet<Mark>) -> HashSet<Mark> {
        let (mut seen, mut loops) = (HashSet::new(), HashSet::new());
        for line in &self.lines {
            let all = line.iter().all(|mark| again.contains(mark));
            for mark in line.iter().filter(|mark| again.contains(mark)) {
                if all || !seen.insert(*mark) {
                    loops.insert(*mark);
                }
            }
        }
        loops
    }
}

/// The refusal of a recipient whose mail would go round in a loop.
pub(super) fn looped(
    recipient: &Mailbox,
    outcome: &FateOutcome,
    loops: &HashSet<Mark>,
) -> Option<Refused> {
    if loops.is_empty() {
        return None;
    }
    let marked = outcome.deliveries().flat_map(|one| &one.marks);
    let found = marked.into_iter().find(|marked| loops.contains(&marked.mark))?;
    let who = match &found.rule {
        Some(rule) => format!("rule \"{rule}\" of this server has sent it on"),
        None => "this server has delivered it to the mailbox system".to_owned(),
    };
    Some(Refused {
        recipient: recipient.clone(),
        reply: Reply::new(
            554,
            (5, 4, 6),
            &format!("Routing loop: {who} for {recipient} before, and it came back"),
        ),
        cause: RefusalCause::Loop,
        because: format!(
            "{who} for {recipient} before: its trace line bears the mark {}",
            found.mark
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(values: &[u64]) -> Vec<Mark> {
        values.iter().copied().map(Mark::from_value).collect()
    }

    fn received(values: &[u64]) -> String {
        let comment = Mark::comment(marks(values)).unwrap();
        format!("Received: from a ([192.0.2.1])\r\n\tby b id 1\r\n\t{comment};\r\n\tdate\r\n")
    }

    #[test]
    fn what_is_written_is_read_o8() {
        for values in [&[7][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[u64::MAX, 0, 0]] {
            let text = received(values);
            assert!(text.lines().all(|line| line.len() < 100), "{text}");
            let read = TraceMarks::read(&HeaderBlock::of(text.as_bytes()));
            let mut wanted = marks(values);
            wanted.dedup();
            assert_eq!(read.lines, [wanted], "{text}");
        }
        assert_eq!(Mark::comment([]), None);
    }

    #[test]
    fn what_is_no_mark_is_passed_over_o8() {
        for text in [
            "X: (waypost-mark 0000000000000007)\r\n",
            "Received: waypost-mark 0000000000000007\r\n",
            "Received: (waypost-mark 000000000000007)\r\n",
            "Received: (waypost-mark 00000000000000007)\r\n",
            "Received: (waypost-mark 000000000000000G)\r\n",
            "Received: (waypost-mark +000000000000007)\r\n",
            "Received: (waypost-mark \u{e9}\u{e9}) 0000000000000007\r\n",
            "Received: (waypost-mark",
            "Received: ((((((",
        ] {
            let read = TraceMarks::read(&HeaderBlock::of(text.as_bytes()));
            assert!(read.is_empty(), "{text}: {read:?}");
        }
        let many = received(&(0..1000).collect::<Vec<_>>()).repeat(50);
        let read = TraceMarks::read(&HeaderBlock::of(many.as_bytes()));
        assert_eq!(read.lines.iter().map(Vec::len).sum::<usize>(), MAX_MARKS);
    }

    #[test]
    fn a_loop_is_all_of_a_transaction_or_the_same_twice_o8() {
        for (lines, again, loops) in [
            (&[&[1][..]][..], &[1][..], &[1][..]),
            (&[&[1]], &[2], &[]),
            (&[&[1]], &[1, 2], &[1]),
            (&[&[1, 2]], &[2], &[]),
            (&[&[1, 2]], &[1, 2, 3], &[1, 2]),
            (&[&[1, 2], &[2, 3]], &[2], &[2]),
            (&[&[1, 2], &[3]], &[2], &[]),
            (&[&[1, 2], &[2]], &[2, 3], &[2]),
            (&[], &[1], &[]),
        ] {
            let read =
                TraceMarks { lines: lines.iter().map(|line| marks(line)).collect(), count: 0 };
            let found = read.loops(&marks(again).into_iter().collect());
            assert_eq!(found, marks(loops).into_iter().collect(), "{lines:?} {again:?}");
        }
    }
}
