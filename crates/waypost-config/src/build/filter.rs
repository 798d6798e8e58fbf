//! `[server] filter`.

use waypost_inbound::{SpamTag, TagError};

use super::routes::split;
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{self, RawFilter, RawFilterTag};
use crate::settings::{FilterHeader, FilterSettings, OnFilterFailure};

/// What says spam where nothing else is written: the fields of the usual filters, and a refusal with
/// the code for it, or without one.
const SPAM: &str = concat!(
    r"(?i)^(?:X-Spam(?:-Flag|-Status)?: yes\b",
    r"|X-(?:Spam|Rspamd)-Action: (?:reject|add header|rewrite subject|quarantine|discard)\b",
    r"|Reply: 55[04](?: 5\.7\.1\b.*| [^0-9].*| [0-9]+[^0-9.].*| ?)$)",
);

/// The same for malware.
const MALWARE: &str = concat!(
    r"(?i)^(?:X-Virus(?:-Status)?: (?:yes|infected)\b",
    r"|(?:Reply|Quarantine): .*\b(?:virus|viruses|malware|trojan|infected|infection)\b)",
);

pub(super) fn build(raw: &RawFilter, report: &mut Report) -> Option<FilterSettings> {
    for (name, place) in [
        ("timeout", raw.timeout.is_zero().then_some(raw.timeout.place)),
        ("connections", (raw.connections.value == 0).then_some(raw.connections.place)),
    ] {
        if let Some(place) = place {
            report.push(Diagnostic::error(
                "no-filter",
                place,
                "D17",
                format!("with `{name}` of nothing the filter can never answer"),
                "write more than nothing, or remove it",
            ));
        }
    }
    let spam_tag = tag(raw.spam_tag.as_ref(), SPAM, report);
    let malware_tag = tag(raw.malware_tag.as_ref(), MALWARE, report);
    Some(FilterSettings {
        address: raw.address.as_ref()?.as_str().into(),
        timeout: raw.timeout.value,
        on_failure: match raw.on_failure.value {
            raw::OnFilterFailure::Defer => OnFilterFailure::Defer,
            raw::OnFilterFailure::Accept => OnFilterFailure::Accept,
        },
        connections: usize::try_from(raw.connections.value).unwrap_or(usize::MAX),
        spam_tag: spam_tag?,
        malware_tag: malware_tag?,
        header: match raw.header.value {
            raw::FilterHeader::Add => FilterHeader::Add,
            raw::FilterHeader::All => FilterHeader::All,
        },
    })
}

/// A tag; `default` where none is written.
fn tag(raw: Option<&Spanned<RawFilterTag>>, default: &str, report: &mut Report) -> Option<SpamTag> {
    let Some(raw) = raw else { return SpamTag::new(default, None).ok() };
    let regex = raw.regex.as_ref()?;
    let score = raw.score_at_least.as_ref().map(|score| score.value);
    let mut wrong = |error: &TagError, place: Place| {
        let (message, cure) = split(&error.to_string());
        report.push(Diagnostic::error("wrong-filter", place, "D17", message, cure));
    };
    SpamTag::new(regex.as_str(), score).map_err(|error| wrong(&error, regex.place)).ok()
}

#[cfg(test)]
mod tests {
    use waypost_types::HeaderBlock;

    use super::*;

    #[test]
    fn what_says_spam_and_malware_where_nothing_is_written_d17() {
        let says = |tag: &str, line: &str| {
            let text = format!("{line}\r\n\r\n");
            SpamTag::new(tag, None).unwrap().verdict(&HeaderBlock::of(text.as_bytes())).spam
        };
        for (line, spam, malware) in [
            ("X-Spam: Yes", true, false),
            ("X-Spam: yes", true, false),
            ("X-Spam-Flag: YES", true, false),
            ("X-Spam-Status: Yes, score=12.1", true, false),
            ("X-Spam-Status: No, score=-1.9", false, false),
            ("X-Spam-Flag: NO", false, false),
            ("X-Spam-Action: add header", true, false),
            ("X-Spam-Action: no action", false, false),
            ("X-Spam-Action: greylist", false, false),
            ("X-Rspamd-Action: rewrite subject", true, false),
            ("X-Rspamd-Action: soft reject", false, false),
            ("X-Spamd-Result: default: True [15.00 / 15.00]", false, false),
            ("Reply: 550 5.7.1 Spam message rejected", true, false),
            ("Reply: 554 5.7.1 Gtube pattern", true, false),
            ("Reply: 550 5.7.1", true, false),
            ("Reply: 550 Blocked", true, false),
            ("Reply: 554 2 many", true, false),
            ("Reply: 550", true, false),
            ("Reply: 550 5.7.15 other", false, false),
            ("Reply: 550 5.7.23 SPF", false, false),
            ("Reply: 552 5.3.4 too large", false, false),
            ("Reply: 553 no", false, false),
            ("Reply: 554 5.7.1 clamav: virus found: \"Eicar-Signature\"", true, true),
            ("Reply: 550 5.7.1 infected by Eicar", true, true),
            ("Quarantine: malware", false, true),
            ("Quarantine: score 7", false, false),
            ("X-Virus-Scanned: clamav-milter 1.0 at mx", false, false),
            ("X-Virus-Status: Clean", false, false),
            ("X-Virus-Status: Infected (Eicar-Signature)", false, true),
            ("X-Virus: Yes", false, true),
            ("Subject: X-Spam: Yes", false, false),
        ] {
            assert_eq!((says(SPAM, line), says(MALWARE, line)), (spam, malware), "{line}");
        }
    }
}
