//! Added lines that break a DKIM signature: those of a field that the signature allows no further one
//! of (RFC 6376 section 5.4.2), B3.

use std::collections::{HashMap, HashSet};

use waypost_types::HeaderBlock;

use super::decision::{DecidedDelivery, Decision};

/// Adds a warning to each delivery whose added lines break a signature. Linear in the header.
pub(super) fn warn_of_added_lines(decision: &mut Decision, header: &HeaderBlock<'_>) {
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
    let closed = closed_names(header);
    if !closed.is_empty() {
        adding.for_each(|one| warn(one, &closed));
    }
}

fn warn(one: &mut DecidedDelivery, closed: &HashSet<Vec<u8>>) {
    let added = &one.delivery.changes.added_headers;
    let breaks =
        added.iter().find(|line| closed.contains(&line.name().to_ascii_lowercase().into_bytes()));
    let Some(line) = breaks else { return };
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
        .flat_map(|signature| signed_names(signature.raw))
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

/// The names, in lower case, that a signature lists more often than there are fields.
fn closed_names(header: &HeaderBlock<'_>) -> HashSet<Vec<u8>> {
    let mut listed: HashMap<Vec<u8>, usize> = HashMap::new();
    for signature in header.fields().named("dkim-signature") {
        let mut names = signed_names(signature.raw);
        names.sort_unstable();
        for same in names.chunk_by(|one, other| one == other) {
            let Some(name) = same.first() else { continue };
            match listed.get_mut(name) {
                Some(most) => *most = same.len().max(*most),
                None => drop(listed.insert(name.clone(), same.len())),
            }
        }
    }
    if listed.is_empty() {
        return HashSet::new();
    }
    let longest = listed.keys().map(Vec::len).max().unwrap_or(0);
    let mut name = Vec::with_capacity(longest);
    for field in header.fields().filter(|field| field.name.len() <= longest) {
        name.clear();
        name.extend(field.name.iter().map(u8::to_ascii_lowercase));
        if let Some(left) = listed.get_mut(&name) {
            *left = left.saturating_sub(1);
        }
    }
    listed.into_iter().filter(|(_, left)| *left > 0).map(|(name, _)| name).collect()
}

/// The names in the tag `h=` of a signature, in lower case.
fn signed_names(signature: &[u8]) -> Vec<Vec<u8>> {
    let tags = signature.split(|b| *b == b';').map(|tag| {
        let mut parts = tag.splitn(2, |b| *b == b'=');
        (parts.next().unwrap_or_default().trim_ascii(), parts.next().unwrap_or_default())
    });
    let names = tags.filter(|(tag, _)| *tag == b"h").flat_map(|(_, names)| {
        names.split(|b| *b == b':').map(|name| name.trim_ascii().to_ascii_lowercase())
    });
    names.filter(|name| !name.is_empty()).collect()
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
            let mut got: Vec<_> = closed_names(&HeaderBlock::of(header.as_bytes()))
                .into_iter()
                .map(|name| String::from_utf8(name).unwrap())
                .collect();
            got.sort();
            assert_eq!(got, want, "{header}");
        }
    }
}
