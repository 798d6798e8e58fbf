//! What makes one header of another, in the words of the protocol.

use std::collections::HashMap;

use waypost_types::HeaderBlock;

use crate::field::{FieldName, FieldValue, HeaderEdit};

/// Fields ahead in which one that is missing is looked for: what the edits lack is brevity where more
/// were added or taken out in one place.
const AHEAD: usize = 64;

/// What makes one header of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Changes and deletions from the last field to the first, then insertions from the last to the
    /// first: so each counts fields as they were, whatever the server makes of those before.
    pub edits: Vec<HeaderEdit>,
    /// Names of fields whose new text could not be told: it is no UTF-8, or holds control characters.
    /// They stay as they were, or are not added.
    pub left: Vec<Box<str>>,
}

/// One step from the old header to the new one.
enum Step<'a> {
    Change(usize, &'a [u8]),
    Delete(usize),
    /// Before the old field of that number.
    Insert(usize, &'a [u8], &'a [u8]),
}

impl Rewrite {
    /// What makes `after` of `before`, two headers with or without a body.
    ///
    /// `nth` counts fields of the same name from 1, as they are in `before`, and the place of an
    /// insertion all fields that come to stand above it, from 0. Lines that are no fields are passed over.
    /// Time: linear in the fields, with a factor of at most 4,096 for each that differs. Source: RFC 5322
    /// section 2.2; the commands `change header` and `insert header` of the protocol.
    ///
    /// ```
    /// use waypost_milter::{HeaderEdit, Rewrite};
    ///
    /// let rewrite = Rewrite::between(b"Subject: x\r\n", b"X-Legacy: yes\r\nSubject: [EXT] x\r\n");
    /// let told: Vec<String> = rewrite.edits.iter().map(ToString::to_string).collect();
    /// assert_eq!(told, ["change Subject 1 to `[EXT] x`", "insert `X-Legacy: yes` at 0"]);
    /// ```
    #[must_use]
    pub fn between(before: &[u8], after: &[u8]) -> Self {
        let (before, after) = (fields(before), fields(after));
        let steps = steps(&before, &after);
        let deleted = steps.iter().filter_map(|step| match step {
            Step::Delete(at) => Some(*at),
            _ => None,
        });
        let deleted: Vec<usize> = deleted.collect();
        let nths = numbered(&before);
        let mut rewrite = Self::default();
        for step in steps.iter().rev() {
            let (at, text) = match step {
                Step::Change(at, text) => (*at, Some(*text)),
                Step::Delete(at) => (*at, None),
                Step::Insert(..) => continue,
            };
            let (Some((name, _)), Some(nth)) = (before.get(at), nths.get(at)) else { continue };
            let nth = *nth;
            rewrite.tell(name, text, |name, value| match value {
                Some(value) if !value.as_str().is_empty() => {
                    HeaderEdit::Change { name, nth, value }
                }
                _ => HeaderEdit::Delete { name, nth },
            });
        }
        for step in steps.iter().rev() {
            let Step::Insert(at, name, text) = step else { continue };
            let gone = deleted.partition_point(|deleted| deleted < at);
            let at = u32::try_from(at - gone).unwrap_or(u32::MAX);
            rewrite.tell(name, Some(text), |name, value| match value {
                Some(value) => HeaderEdit::Insert { at, name, value },
                None => HeaderEdit::Delete { name, nth: u32::MAX },
            });
        }
        rewrite
    }

    fn tell(
        &mut self,
        name: &[u8],
        text: Option<&[u8]>,
        edit: impl FnOnce(FieldName, Option<FieldValue>) -> HeaderEdit,
    ) {
        let told = || {
            let name = FieldName::new(std::str::from_utf8(name).ok()?).ok()?;
            let value = match text {
                None => None,
                Some(text) => Some(FieldValue::new(std::str::from_utf8(text).ok()?).ok()?),
            };
            Some(edit(name, value))
        };
        match told() {
            Some(edit) => self.edits.push(edit),
            None => self.left.push(String::from_utf8_lossy(name).into()),
        }
    }
}

/// Names, and what stands behind the colon.
fn fields(message: &[u8]) -> Vec<(&[u8], &[u8])> {
    HeaderBlock::of(message).fields().map(|field| (field.name, field.raw)).collect()
}

/// For each field, the how manieth of its name it is.
fn numbered(fields: &[(&[u8], &[u8])]) -> Vec<u32> {
    let mut counts: HashMap<Vec<u8>, u32> = HashMap::new();
    let count = |(name, _): &(&[u8], &[u8])| {
        let count = counts.entry(name.to_ascii_lowercase()).or_default();
        *count = count.saturating_add(1);
        *count
    };
    fields.iter().map(count).collect()
}

fn steps<'a>(before: &[(&'a [u8], &'a [u8])], after: &[(&'a [u8], &'a [u8])]) -> Vec<Step<'a>> {
    let (mut old, mut new) = (0, 0);
    let mut steps = Vec::new();
    loop {
        let (here, there) = (before.get(old), after.get(new));
        match (here, there) {
            (None, None) => return steps,
            (Some(_), None) => {
                steps.push(Step::Delete(old));
                old += 1;
            }
            (None, Some((name, text))) => {
                steps.push(Step::Insert(old, name, text));
                new += 1;
            }
            (Some(here), Some(there)) if here == there => {
                old += 1;
                new += 1;
            }
            (Some(here), Some(_)) => {
                let added = after.iter().skip(new).take(AHEAD).position(|one| one == here);
                let stays = |one: &(&[u8], &[u8])| {
                    before.iter().skip(old).take(AHEAD).any(|known| known == one)
                };
                let added = added.map(|at| (at, false)).or_else(|| {
                    let fresh = after.iter().skip(new).take(AHEAD).take_while(|one| !stays(one));
                    let mut fresh = fresh.map(|(name, _)| name.eq_ignore_ascii_case(here.0));
                    fresh.position(|is_same| is_same).map(|at| (at, true))
                });
                if let Some((added, is_changed)) = added {
                    for (name, text) in after.iter().skip(new).take(added) {
                        steps.push(Step::Insert(old, name, text));
                    }
                    new += added;
                    if let (true, Some((_, text))) = (is_changed, after.get(new)) {
                        steps.push(Step::Change(old, text));
                        old += 1;
                        new += 1;
                    }
                } else {
                    steps.push(Step::Delete(old));
                    old += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server makes of the edits.
    pub(super) fn carried_out(before: &[u8], edits: &[HeaderEdit]) -> Vec<(String, String)> {
        let shown = |text: &[u8]| String::from_utf8_lossy(text).trim().to_owned();
        let mut all: Vec<(String, String)> =
            fields(before).iter().map(|(name, text)| (shown(name), shown(text))).collect();
        for edit in edits {
            let find = |all: &[(String, String)], name: &FieldName, nth: u32| {
                let nth = usize::try_from(nth).unwrap();
                all.iter().enumerate().filter(|(_, (one, _))| name.is(one)).nth(nth - 1).unwrap().0
            };
            match edit {
                HeaderEdit::Add { name, value } => {
                    all.push((name.to_string(), value.as_str().into()))
                }
                HeaderEdit::Insert { at, name, value } => all.insert(
                    usize::try_from(*at).unwrap(),
                    (name.to_string(), value.as_str().into()),
                ),
                HeaderEdit::Change { name, nth, value } => {
                    let at = find(&all, name, *nth);
                    all[at].1 = value.as_str().into();
                }
                HeaderEdit::Delete { name, nth } => drop(all.remove(find(&all, name, *nth))),
            }
        }
        all
    }

    #[test]
    fn the_usual_changes_are_told_shortly_c6() {
        for (before, after, want) in [
            ("A: 1\r\n", "A: 1\r\n", vec![]),
            (
                "R: own\r\nA: 1\r\n",
                "S: x\r\nR: own\r\nX: y\r\nA: 1\r\n",
                vec!["insert `X: y` at 1", "insert `S: x` at 0"],
            ),
            ("A: 1\r\nA: 2\r\nB: 3\r\n", "A: 1\r\nA: 9\r\nB: 3\r\n", vec!["change A 2 to `9`"]),
            ("A: 1\r\nA: 2\r\nA: 3\r\n", "A: 2\r\n", vec!["delete A 3", "delete A 1"]),
            (
                "A: 1\r\nB: 2\r\n",
                "X: 1\r\nX: 2\r\nB: 2\r\n",
                vec!["delete A 1", "insert `X: 2` at 0", "insert `X: 1` at 0"],
            ),
            (
                "R: o\r\nA: 1\r\nB: 2\r\n",
                "R: o\r\nX: 1\r\nA: 3\r\nB: 2\r\n",
                vec!["change A 1 to `3`", "insert `X: 1` at 1"],
            ),
            ("A: 1\r\n", "A:\r\n", vec!["delete A 1"]),
        ] {
            let rewrite = Rewrite::between(before.as_bytes(), after.as_bytes());
            let told: Vec<String> = rewrite.edits.iter().map(ToString::to_string).collect();
            assert_eq!(told, want, "{before} to {after}");
            assert!(rewrite.left.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_told_is_left_c6() {
        let rewrite =
            Rewrite::between(b"Subject: \xe9\r\nB: 1\r\n", b"Subject: x \xe9\r\nB: 2\r\n");
        assert_eq!(rewrite.left, ["Subject".into()]);
        assert_eq!(rewrite.edits.len(), 1);
    }

    proptest! {
        #[test]
        fn the_edits_make_the_new_header(
            before in prop::collection::vec(("[ABab]", "[1-3]"), 0..12),
            after in prop::collection::vec(("[ABab]", "[1-3]"), 0..12),
        ) {
            let text = |all: &[(String, String)]| -> String {
                all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
            };
            let (old, new) = (text(&before), text(&after));
            let rewrite = Rewrite::between(old.as_bytes(), new.as_bytes());
            let lower = |all: Vec<(String, String)>| -> Vec<(String, String)> {
                all.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect()
            };
            prop_assert_eq!(lower(carried_out(old.as_bytes(), &rewrite.edits)), lower(after));
        }
    }
}
