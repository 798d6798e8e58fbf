//! `modify` of a rule: what it changes, and the recipients that it adds.

use waypost_rules::{CopyTo, Modification, RecipientChange};
use waypost_types::{Domain, HeaderLine, Mailbox, TlsDemand};

use super::rules::Named;
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{
    List, OneLine, RawAlsoDeliverTo, RawHeader, RawModify, RawReplaceRecipient, RawRule,
};

pub(super) fn build(
    raw: &Spanned<RawModify>,
    rule: &RawRule,
    named: &Named<'_>,
    report: &mut Report,
) -> Modification {
    let outgoing = rule.affects.iter().find(|affects| affects.is_outgoing());
    if let Some(route) = &raw.route {
        named.routes.check(route, &rule.org_unit, report);
    }
    if !raw.also_deliver_to.is_unset()
        && let Some(outgoing) = outgoing
    {
        report.push(Diagnostic::warning(
            "recipients-added-outgoing",
            outgoing.place,
            "C2",
            "the rule adds recipients to mail that goes out",
            "split and dual delivery are for `inbound` and `internal-receiving`",
        ));
    }
    if outgoing.is_some() {
        let copies = raw.also_deliver_to.iter();
        let prefixes = raw.subject_prefix.iter();
        for prefix in prefixes.chain(copies.clone().filter_map(|copy| copy.subject_prefix.as_ref()))
        {
            report.push(breaks_signature(prefix.place, "a subject prefix", "the subject"));
        }
        let removals = std::iter::once(&raw.remove_attachments);
        for removes in removals.chain(copies.clone().map(|copy| &copy.remove_attachments)) {
            if removes.value {
                report.push(breaks_signature(removes.place, "a removed attachment", "the body"));
            }
        }
        for header in raw.add_headers.iter().chain(copies.flat_map(|copy| &copy.add_headers)) {
            let Some(name) = &header.name else { continue };
            if ONLY_ONE.iter().any(|one| one.eq_ignore_ascii_case(name.as_str())) {
                report.push(breaks_signature(
                    name.place,
                    "a further line of this name",
                    "this name in the header",
                ));
            }
        }
    }
    let replace_recipient =
        raw.replace_recipient.as_ref().and_then(|replace| replaced(replace, report));
    let built = Modification {
        route: raw.route.as_ref().map(|route| route.value.clone()),
        also_reroute_spam: raw.also_reroute_spam.value,
        tls: raw.require_tls.value.then_some(TlsDemand::Required),
        replace_recipient,
        add_headers: headers(&raw.add_headers, report),
        original_to_header: raw.original_to_header.value,
        spam_headers: raw.spam_headers.value,
        subject_prefix: prefix(&raw.subject_prefix),
        bypass_spam: raw.bypass_spam.value,
        remove_attachments: raw.remove_attachments.value,
        suppress_bounces: raw.suppress_bounces.value,
        also_deliver_to: raw
            .also_deliver_to
            .iter()
            .filter_map(|copy| copy_to(copy, rule, named, report))
            .collect(),
    };
    let unchanged =
        Modification { also_reroute_spam: built.also_reroute_spam, ..Default::default() };
    if built == unchanged && raw.complete {
        report.push(Diagnostic::warning(
            "changes-nothing",
            raw.place,
            "C6",
            "the rule changes nothing",
            "say what it changes, for example `modify = { route = \"…\" }`, or remove it",
        ));
    }
    built
}

/// Names that a message has once, and that signatures therefore allow no further line of (RFC 5322
/// section 3.6, RFC 6376 section 5.4.2).
const ONLY_ONE: [&str; 14] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
];

fn breaks_signature(place: Place, change: &str, left: &str) -> Diagnostic {
    Diagnostic::warning(
        "breaks-signature",
        place,
        "B3",
        format!("{change} breaks the DKIM signature of mail that is signed already"),
        format!("sign after this server, or leave {left} of outgoing mail as it is"),
    )
}

fn copy_to(
    raw: &Spanned<RawAlsoDeliverTo>,
    rule: &RawRule,
    named: &Named<'_>,
    report: &mut Report,
) -> Option<CopyTo> {
    if let Some(route) = &raw.route {
        named.routes.check(route, &rule.org_unit, report);
    }
    let recipient = change(&raw.address, &raw.local_part, &raw.domain, raw.place, report)?;
    Some(CopyTo {
        recipient,
        route: raw.route.as_ref().map(|route| route.value.clone()),
        tls: if raw.require_tls.value { TlsDemand::Required } else { TlsDemand::Opportunistic },
        no_spam: raw.no_spam.value,
        suppress_bounces: raw.suppress_bounces.value,
        add_headers: headers(&raw.add_headers, report),
        subject_prefix: prefix(&raw.subject_prefix),
        original_to_header: raw.original_to_header.value,
        spam_headers: raw.spam_headers.value,
        remove_attachments: raw.remove_attachments.value,
    })
}

fn replaced(raw: &Spanned<RawReplaceRecipient>, report: &mut Report) -> Option<RecipientChange> {
    let change = change(&raw.address, &raw.local_part, &raw.domain, raw.place, report)?;
    if change == RecipientChange::SAME {
        if raw.complete {
            report.push(Diagnostic::error(
                "no-recipient",
                raw.place,
                "C6",
                "this replaces the recipient with nothing",
                "write `address`, or `local_part` and/or `domain`",
            ));
        }
        return None;
    }
    Some(change)
}

/// The recipient that the three keys name: an address, or parts of the one there is.
fn change(
    address: &Option<Spanned<Mailbox>>,
    local_part: &Option<Spanned<OneLine>>,
    domain: &Option<Spanned<Domain>>,
    place: Place,
    report: &mut Report,
) -> Option<RecipientChange> {
    if let Some(address) = address {
        if local_part.is_some() || domain.is_some() {
            report.push(Diagnostic::error(
                "address-and-parts",
                address.place,
                "C6",
                "`address` stands beside `local_part` or `domain`",
                "write `address` alone, or `local_part` and/or `domain`",
            ));
            return None;
        }
        return Some(RecipientChange::Address(address.value.clone()));
    }
    let text = local_part.as_ref().map(|text| text.as_str());
    match RecipientChange::parts(text, domain.as_ref().map(|domain| domain.value.clone())) {
        Ok(change) => Some(change),
        Err(error) => {
            report.push(Diagnostic::error(
                "wrong-value",
                local_part.as_ref().map_or(place, |text| text.place),
                "C6",
                format!("this is no local part: {error}"),
                "write what stands before the `@`, for example `local_part = \"archive\"`",
            ));
            None
        }
    }
}

fn prefix(raw: &Option<Spanned<OneLine>>) -> Option<Box<str>> {
    let text = raw.as_ref().map(|prefix| prefix.as_str()).filter(|prefix| !prefix.is_empty());
    text.map(Box::from)
}

fn headers(list: &List<RawHeader>, report: &mut Report) -> Vec<HeaderLine> {
    let mut lines = Vec::new();
    for raw in list {
        let header = &raw.value;
        let (Some(name), Some(value)) = (&header.name, &header.value) else { continue };
        match HeaderLine::new(name.as_str(), value.as_str()) {
            Ok(line) => lines.push(line),
            Err(error) => {
                let text = error.to_string();
                let (message, cure) = super::routes::split(&text);
                report.push(Diagnostic::error("wrong-header", raw.place, "C6", message, cure));
            }
        }
    }
    lines
}
