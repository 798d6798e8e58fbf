//! Spam tags that a gateway puts into the header (E9, E10).

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};
use waypost_types::{Field, HeaderBlock};

/// The compiled pattern may take this many bytes, and as many for its matching.
const SIZE_LIMIT: usize = 1 << 20;

/// A verdict quotes at most this many characters of a line.
const LONGEST_QUOTE: usize = 998;

/// An expression that tells spam by one header line.
///
/// Each field is unfolded to `Name: value` (one blank behind the colon, the value trimmed, each fold
/// one blank) and matched alone, with case; bytes that are no UTF-8 are matched as U+FFFD. Of each
/// line the first match counts. Time is linear in the header.
///
/// ```
/// use waypost_inbound::{HeaderBlock, SpamTag};
///
/// let tag = SpamTag::new(r"^X-(?:spam|phishy): (0\.\d*|1\.0*)$", Some(0.5))?;
/// let verdict = tag.verdict(&HeaderBlock::of(b"X-spam: 0.2\r\nX-phishy: 0.71\r\n\r\n"));
/// assert!(verdict.spam);
/// assert_eq!(verdict.score, Some(0.71));
/// assert_eq!(verdict.line.as_deref(), Some("X-phishy: 0.71"));
/// # Ok::<(), waypost_inbound::TagError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpamTag {
    regex: Regex,
    score_at_least: Option<f64>,
}

/// Why an expression is no spam tag (E9).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The expression cannot be compiled.
    #[error(
        "`{regex}` is no regular expression: {reason} (E9); correct it, and try it with test-tag"
    )]
    Syntax {
        /// The expression.
        regex: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// The expression needs too much memory.
    #[error("`{0}` needs more than 1 MiB when compiled (E9, E12); shorten it or its repetitions")]
    TooLarge(String),
    /// With a score there must be exactly one capture group.
    #[error(
        "`{regex}` has {found} capture groups, but a score is taken from exactly one (E9); {}",
        if *found == 0 { "put ( and ) around the number" } else { "write (?: for the other groups" }
    )]
    Groups {
        /// The expression.
        regex: String,
        /// How many capture groups it has.
        found: usize,
    },
    /// The limit is no number.
    #[error("`{0}` is no limit for a score (E9); write a number such as 0.5")]
    Limit(f64),
}

/// What the tag says about a message.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TagVerdict {
    /// Whether the message is spam.
    pub spam: bool,
    /// The line that decided, at most 998 characters of it; the one of the largest number with a
    /// score.
    pub line: Option<String>,
    /// The number taken from it.
    pub score: Option<f64>,
    /// What an administrator should know about the match.
    pub note: Option<TagNote>,
}

/// Something odd about a match.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum TagNote {
    /// A line matched, but what its group holds is no number: it does not count as a match.
    NotANumber(String),
}

/// A line that matches, for trying an expression out.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TagMatch {
    /// The line, unfolded, at most 998 characters of it.
    pub line: String,
    /// The number taken, with a score.
    pub score: Option<f64>,
    /// Set when the group holds no number.
    pub note: Option<TagNote>,
    /// Whether this line alone makes the message spam.
    pub spam: bool,
}

impl SpamTag {
    /// Compiles an expression. Without a score any match is spam; with one, the number in the only
    /// capture group must reach it.
    ///
    /// # Errors
    /// [`TagError`] names the expression, the rule and the cure.
    pub fn new(regex: &str, score_at_least: Option<f64>) -> Result<Self, TagError> {
        if let Some(limit) = score_at_least.filter(|limit| !limit.is_finite()) {
            return Err(TagError::Limit(limit));
        }
        let mut builder = RegexBuilder::new(regex);
        builder.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT);
        let compiled = builder.build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => TagError::TooLarge(regex.to_owned()),
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.trim().trim_start_matches("error: ").to_owned();
                TagError::Syntax { regex: regex.to_owned(), reason }
            }
        })?;
        let found = compiled.captures_len() - 1;
        if score_at_least.is_some() && found != 1 {
            return Err(TagError::Groups { regex: regex.to_owned(), found });
        }
        Ok(Self { regex: compiled, score_at_least })
    }

    /// The expression as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether another tag has the same expression and the same score.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() && self.score_at_least == other.score_at_least
    }

    /// The verdict on a header. Without a matching line a message is not spam (E10).
    #[must_use]
    pub fn verdict(&self, header: &HeaderBlock<'_>) -> TagVerdict {
        let mut verdict = TagVerdict { spam: false, line: None, score: None, note: None };
        for found in self.matches(header) {
            let larger = match (found.score, verdict.score) {
                (None, _) => found.note.is_none(),
                (Some(_), None) => true,
                (Some(new), Some(best)) => new > best,
            };
            if let Some(note) = found.note {
                verdict.note.get_or_insert(note);
            }
            if larger {
                verdict.spam = found.spam;
                verdict.line = Some(found.line);
                verdict.score = found.score;
            }
            if self.score_at_least.is_none() {
                break;
            }
        }
        verdict
    }

    /// The lines that match, topmost first; what a test of the expression shows (E9).
    pub fn matches<'a>(&'a self, header: &HeaderBlock<'a>) -> impl Iterator<Item = TagMatch> + 'a {
        let mut line = String::new();
        header.fields().filter_map(move |field| self.look_at(field, &mut line))
    }

    fn look_at(&self, field: Field<'_>, line: &mut String) -> Option<TagMatch> {
        line.clear();
        line.push_str(&text(field.name));
        line.push_str(": ");
        line.push_str(&String::from_utf8_lossy(&field.unfolded()));
        let quote = |line: &str| line.chars().take(LONGEST_QUOTE).collect();
        let Some(limit) = self.score_at_least else {
            return self.regex.is_match(line).then(|| TagMatch {
                line: quote(line),
                score: None,
                note: None,
                spam: true,
            });
        };
        let captures = self.regex.captures(line)?;
        let group = captures.get(1).map_or("", |group| group.as_str());
        let score = number(group);
        Some(TagMatch {
            line: quote(line),
            score,
            note: score.is_none().then(|| TagNote::NotANumber(quote(group))),
            spam: score.is_some_and(|score| score >= limit),
        })
    }
}

fn text(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// A decimal number: `.50`, `0.`, `1.`, `-2.5`, `1e3`; not `inf`, not `nan`.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|number: &f64| decimal && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = r"^X-(?:spam|phishy): (0\.\d*|1\.0*)$";

    #[test]
    fn verdicts_e9() {
        let table = [
            // (expression, limit, header, spam, number)
            ("^X-spam-gw:", None, "X-spam-gw: yes\r\n", true, None),
            ("^X-spam-gw:", None, "x-spam-gw: yes\r\n", false, None),
            ("^X-spam-gw:", None, "Subject: X-spam-gw: yes\r\n", false, None),
            ("^X-spam-gw: spam$", None, "X-spam-gw: spam\r\n", true, None),
            ("^X-spam-gw: spam$", None, "X-spam-gw:    spam  \r\n", true, None),
            ("^X-spam-gw: spam$", None, "X-spam-gw:spam\r\n", true, None),
            ("^X-spam-gw: spam$", None, "X-spam-gw:\r\n spam\r\n", true, None),
            ("^X-spam-gw: spam$", None, "X-spam-gw : spam\r\n", true, None),
            ("^X-spam-gw: spam$", None, "X-spam-gw: spam no\r\n", false, None),
            ("^X-spam-gw: a b$", None, "X-spam-gw: a\r\n\t  b\r\n", true, None),
            ("^X-spam-gw: a b$", None, "X-spam-gw: a\n b\n", true, None),
            ("^X-spam-gw: (a)(b)$", None, "X-spam-gw: ab\r\n", true, None),
            ("^X-spam-gw: .*b$", None, "X-spam-gw: \u{e9}b\r\n", true, None),
            (SEED, Some(0.5), "X-spam: 0.50\r\n", true, Some(0.5)),
            (SEED, Some(0.5), "X-spam: 0.49\r\n", false, Some(0.49)),
            (SEED, Some(0.5), "X-phishy: 1.\r\n", true, Some(1.0)),
            (SEED, Some(0.5), "X-spam: 0.\r\n", false, Some(0.0)),
            (SEED, Some(0.5), "X-spam: .50\r\n", false, None),
            (SEED, Some(0.5), "X-spam: 0.1\r\nX-phishy: 0.9\r\nX-spam: 0.3\r\n", true, Some(0.9)),
            ("^X: (.*)$", Some(0.5), "X: .50\r\n", true, Some(0.5)),
            ("^X: (.*)$", Some(0.5), "X: inf\r\n", false, None),
            ("^X: (.*)$", Some(0.5), "X: nan\r\n", false, None),
            ("^X: (.*)$", Some(0.5), "X: 1e999\r\n", false, None),
            ("^X: (.*)$", Some(0.5), "X: high\r\nX: 7\r\n", true, Some(7.0)),
            ("^X: (.*)$", Some(-5.0), "X: -3\r\n", true, Some(-3.0)),
            ("^X: (1)?", Some(0.5), "X: 2\r\n", false, None),
            (SEED, Some(0.5), "", false, None),
        ];
        for (regex, limit, header, spam, score) in table {
            let verdict =
                SpamTag::new(regex, limit).unwrap().verdict(&HeaderBlock::of(header.as_bytes()));
            assert_eq!((verdict.spam, verdict.score), (spam, score), "{regex} {header:?}");
            assert!(verdict.line.is_some() || !verdict.spam, "{regex} {header:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_noted_e9() {
        let tag = SpamTag::new("^X: (.*)$", Some(0.5)).unwrap();
        let verdict = tag.verdict(&HeaderBlock::of(b"X: high\r\n"));
        assert_eq!(verdict.note, Some(TagNote::NotANumber("high".to_owned())));
        assert_eq!((verdict.spam, verdict.line), (false, None));
    }

    #[test]
    fn bytes_that_are_no_utf_8_match_e12() {
        let tag = SpamTag::new("^X-spam-gw: .*yes$", None).unwrap();
        assert!(tag.verdict(&HeaderBlock::of(b"X-spam-gw: \xff\xe9 yes\r\n")).spam);
    }

    #[test]
    fn long_and_many_lines_are_quoted_short_e12() {
        let tag = SpamTag::new("^X-Score: (\\d+)a*$", Some(5.0)).unwrap();
        let line = format!("X-Score: 7{}\r\n", "a".repeat(1 << 20));
        let verdict = tag.verdict(&HeaderBlock::of(line.as_bytes()));
        assert!(verdict.spam);
        assert_eq!(verdict.line.unwrap().len(), LONGEST_QUOTE);
        let many = format!("{}X-Score: 9\r\n", "X-Score: 3\r\n".repeat(20_000));
        let verdict = tag.verdict(&HeaderBlock::of(many.as_bytes()));
        assert_eq!((verdict.spam, verdict.score), (true, Some(9.0)));
        let number = format!("X-Score: {}\r\n", "9".repeat(1 << 20));
        let note = tag.verdict(&HeaderBlock::of(number.as_bytes())).note;
        assert_eq!(note, Some(TagNote::NotANumber("9".repeat(LONGEST_QUOTE))));
    }

    #[test]
    fn a_test_lists_the_lines_that_match_e9() {
        let tag = SpamTag::new(SEED, Some(0.5)).unwrap();
        let header = b"X-spam: 0.2\r\nSubject: x\r\nX-phishy:\r\n 0.7\r\n\r\nX-spam: 0.9\r\n";
        let found: Vec<_> =
            tag.matches(&HeaderBlock::of(header)).map(|m| (m.line, m.score, m.spam)).collect();
        assert_eq!(
            found,
            [
                ("X-spam: 0.2".to_owned(), Some(0.2), false),
                ("X-phishy: 0.7".to_owned(), Some(0.7), true)
            ]
        );
    }

    #[test]
    fn errors_name_expression_rule_and_cure_e9() {
        let table: &[(&str, Option<f64>, &str)] = &[
            ("^X-(a: ", None, "`^X-(a: ` is no regular expression: unclosed group (E9)"),
            (
                "^X",
                Some(0.5),
                "has 0 capture groups, but a score is taken from exactly one (E9); put (",
            ),
            (
                "(a)(b)",
                Some(0.5),
                "has 2 capture groups, but a score is taken from exactly one (E9); write (?:",
            ),
            ("(a)", Some(f64::NAN), "`NaN` is no limit"),
            ("(a)", Some(f64::INFINITY), "`inf` is no limit"),
            (r"\w{5000}", None, "needs more than 1 MiB"),
            ("(?=a)", None, "look-around"),
        ];
        for (regex, limit, text) in table {
            let error = SpamTag::new(regex, *limit).unwrap_err().to_string();
            assert!(error.contains(text), "{regex}: {error}");
        }
        assert!(SpamTag::new("(a)(?:b)", Some(0.5)).is_ok());
        assert!(SpamTag::new("(a)(b)", None).is_ok());
    }
}
