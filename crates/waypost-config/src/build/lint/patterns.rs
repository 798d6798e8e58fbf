//! Patterns that match more than they seem to.

use waypost_rules::{AddressMatch, Direction, Pattern};

use super::matcher::may_match_nothing;
use super::{Linted, WrittenRule};
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{self, List, RawMatcher};

pub(super) fn lint(at: &Linted<'_>, report: &mut Report) {
    for one in &at.rules {
        let Some(envelope) = &one.raw.envelope else { continue };
        patterns(&envelope.senders).for_each(|pattern| of_domain(one, pattern, report));
        let senders = &one.rule.envelope.senders;
        for (written, entry) in envelope.senders.iter().zip(senders) {
            if envelope.senders.items.len() == senders.len()
                && let (Some(written), AddressMatch::Pattern(compiled)) = (&written.pattern, entry)
            {
                of_nothing(at, one, (written.place, compiled), report);
            }
        }
        // Other recipients than those of our domains have only what goes out.
        if one.rule.affects.contains(Direction::Outbound) {
            patterns(&envelope.recipients).for_each(|pattern| of_domain(one, pattern, report));
        }
    }
}

fn patterns(list: &List<RawMatcher>) -> impl Iterator<Item = &Spanned<raw::Pattern>> {
    list.iter().filter_map(|matcher| matcher.pattern.as_ref())
}

/// A pattern that ends in a domain: what else ends so, or only begins so (C5)?
fn of_domain(one: &WrittenRule<'_>, pattern: &Spanned<raw::Pattern>, report: &mut Report) {
    let source = pattern.as_str();
    let Some(tail) = source.rsplit_once('@').map(|(_, tail)| tail) else { return };
    let (domain, anchored) = match tail.strip_suffix('$').or_else(|| tail.strip_suffix("\\z")) {
        Some(domain) => (domain, true),
        None => (tail, false),
    };
    let plain = domain.replace("\\.", "");
    let in_domain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let is_domain = plain.chars().all(in_domain)
        && plain.contains(|c: char| c.is_ascii_alphabetic())
        && domain.contains('.');
    if !is_domain {
        return;
    }
    let name = domain.replace('\\', "");
    let written = name.replace('.', "\\.");
    let mut warn = |id, place: Place, message| {
        let cure = format!("write for example `pattern = '@{written}$'`");
        report.push(Diagnostic::warning(id, place, "C5", message, cure));
    };
    let rule = &one.rule.description;
    if !anchored {
        warn(
            "pattern-not-anchored",
            pattern.place,
            format!(
                "in the rule `{rule}` the pattern `{source}` has no `$` at its end, so it matches \
                 `x@{name}.elsewhere.example` too"
            ),
        );
    }
    if plain.contains('.') {
        let other = name.replacen('.', "x", 1);
        warn(
            "pattern-any-character",
            pattern.place,
            format!(
                "in the rule `{rule}` the pattern `{source}` has a `.` that stands for any \
                 character, so it matches `@{other}` too"
            ),
        );
    }
}

/// A pattern that matches the empty text, as the null sender is (C5).
fn of_nothing(
    at: &Linted<'_>,
    one: &WrittenRule<'_>,
    (place, pattern): (Place, &Pattern),
    report: &mut Report,
) {
    let source = pattern.as_str();
    // `^$` is how the null sender is written.
    let is_meant = source.contains("^$");
    if is_meant || !may_match_nothing(pattern) || !at.matcher.is_match(pattern, "") {
        return;
    }
    let (rule, any) = (&one.rule.description, ["a@b.example", "z9-q@x7.test", "_@[192.0.2.1]"]);
    let (what, cure) = match any.iter().all(|address| at.matcher.is_match(pattern, address)) {
        true => ("every sender", "leave the entry out: without one, every sender matches"),
        false => (
            "the empty sender of bounces",
            "ask for at least one character, such as `.+`; if bounces are meant, add an entry \
             `{ pattern = '^$' }`",
        ),
    };
    report.push(Diagnostic::warning(
        "pattern-matches-empty",
        place,
        "C5",
        format!("in the rule `{rule}` the pattern `{source}` matches {what}"),
        cure,
    ));
}
