//! Added lines that break a DKIM signature: those of a field that the signature allows no further one
//! of (RFC 6376 section 5.4.2), B3.

use std::collections::HashSet;

use waypost_types::HeaderBlock;

use super::decision::{DecidedDelivery, Decision};

/// Adds a warning to each delivery whose added lines break one of the signatures. Linear in the header.
pub(super) fn warn_of_added_lines(
    decision: &mut Decision,
    header: &HeaderBlock<'_>,
    signatures: &[&[u8]],
) {
    let kept = decision.quarantined.iter_mut().flat_map(|kept| &mut kept.deliveries);
    let mut adding = decision
        .deliveries
        .iter_mut()
        .chain(kept)
        .filter(|one| !one.delivery.changes.added_headers.is_empty())
        .peekable();
    if adding.peek().is_none() {
        return;
    }
    let mut adding: Vec<&mut DecidedDelivery> = adding.collect();
    let added = adding.iter().flat_map(|one| &one.delivery.changes.added_headers);
    let names: HashSet<String> = added.map(|line| line.name().to_ascii_lowercase()).collect();
    let closed = closed_names(&names, header, signatures);
    if !closed.is_empty() {
        adding.iter_mut().for_each(|one| warn(one, &closed));
    }
}

fn warn(one: &mut DecidedDelivery, closed: &[&str]) {
    let added = &one.delivery.changes.added_headers;
    let is_closed = |name: &str| closed.iter().any(|closed| closed.eq_ignore_ascii_case(name));
    let Some(line) = added.iter().find(|line| is_closed(line.name())) else { return };
    let text = format!(
        "the message is DKIM-signed so that no further `{}` may be added, and this adds one (B3)",
        line.name()
    );
    one.warnings.push(text);
}

/// Adds a warning to each delivery of a message whose signed fields the filter changes. Linear in the
/// header.
pub(super) fn warn_of_changed_fields(decision: &mut Decision, header: &HeaderBlock<'_>) {
    if decision.filter_edits.is_empty() {
        return;
    }
    let signed: HashSet<Vec<u8>> = header
        .fields()
        .named("dkim-signature")
        .flat_map(|signature| signed_names(signature.raw).map(<[u8]>::to_ascii_lowercase))
        .collect();
    let breaks = decision.filter_edits.iter().find(|edit| {
        let name = edit.name().as_str().to_ascii_lowercase();
        name == "dkim-signature" || signed.contains(name.as_bytes())
    });
    let Some(edit) = breaks else { return };
    let text = format!(
        "the filter changes the field {}, which a DKIM signature covers, so the signature breaks (B3)",
        edit.name()
    );
    let kept = decision.quarantined.iter_mut().flat_map(|kept| &mut kept.deliveries);
    for one in decision.deliveries.iter_mut().chain(kept) {
        one.warnings.push(text.clone());
    }
}

/// Those of the names that a signature lists more often than there are fields. The names are few; the
/// header is gone through only where a signature lists one.
fn closed_names<'n>(
    names: &'n HashSet<String>,
    header: &HeaderBlock<'_>,
    signatures: &[&[u8]],
) -> Vec<&'n str> {
    /// A name, and how often it is there.
    struct Counted<'n> {
        name: &'n str,
        fields: usize,
        /// In the signature that lists it most often, and in the one that is looked at.
        listed: usize,
        here: usize,
    }
    let counted = |name| Counted { name, fields: 0, listed: 0, here: 0 };
    let mut names: Vec<_> = names.iter().map(|name| counted(name.as_str())).collect();
    for signature in signatures {
        for signed in signed_names(signature) {
            for one in &mut names {
                one.here += usize::from(signed.eq_ignore_ascii_case(one.name.as_bytes()));
            }
        }
        for one in &mut names {
            one.listed = one.listed.max(std::mem::take(&mut one.here));
        }
    }
    names.retain(|one| one.listed > 0);
    if !names.is_empty() {
        for field in header.fields() {
            names.iter_mut().for_each(|one| one.fields += usize::from(field.is(one.name)));
        }
    }
    let closed = names.into_iter().filter(|one| one.listed > one.fields);
    closed.map(|one| one.name).collect()
}

/// The names in the tag `h=` of a signature.
fn signed_names(signature: &[u8]) -> impl Iterator<Item = &[u8]> {
    let tags = signature.split(|b| *b == b';').map(|tag| {
        let mut parts = tag.splitn(2, |b| *b == b'=');
        (parts.next().unwrap_or_default().trim_ascii(), parts.next().unwrap_or_default())
    });
    let names = tags
        .filter(|(tag, _)| *tag == b"h")
        .flat_map(|(_, names)| names.split(|b| *b == b':').map(<[u8]>::trim_ascii));
    names.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_signature_closes_b3() {
        for (header, want) in [
            ("From: a\r\n", &[][..]),
            ("DKIM-Signature: v=1; h=From:To; b=x\r\nFrom: a\r\nTo: b\r\n", &[]),
            ("DKIM-Signature: v=1; h=From:To; b=x\r\nFrom: a\r\n", &["to"]),
            (
                "DKIM-Signature: v=1; h=from : from :\r\n subject\r\nFrom: a\r\nSubject: b\r\n",
                &["from"],
            ),
            ("DKIM-Signature: h=From:From\r\nFrom: a\r\nFrom: b\r\n", &[]),
            (
                "DKIM-Signature: bh=To; h=From\r\nDKIM-Signature: h=From:reply-to\r\nFrom: a\r\n",
                &["reply-to"],
            ),
            ("DKIM-Signature: \r\nDKIM-Signature: h=\r\nDKIM-Signature: h\r\n", &[]),
        ] {
            let names = ["from", "to", "subject", "reply-to"].map(str::to_owned).into();
            let header_block = HeaderBlock::of(header.as_bytes());
            let signatures: Vec<&[u8]> =
                header_block.fields().named("dkim-signature").map(|field| field.raw).collect();
            let mut got = closed_names(&names, &header_block, &signatures);
            got.sort_unstable();
            assert_eq!(got, want, "{header}");
        }
    }
}
