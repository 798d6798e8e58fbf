//! What a replay cannot see: settings that differ and show in no recorded message, and patterns over
//! local parts that are hashed.

use waypost_rules::{AddressMatch, Mode};
use waypost_types::Mailbox;

use crate::policy::{Organization, Policy};

/// Settings that differ and that no replay can see.
pub(super) fn settings(old: &Policy, new: &Policy) -> Vec<String> {
    let (was, is) = (&old.server, &new.server);
    let (limits, then) = (&was.limits, &is.limits);
    let mut out: Vec<String> = [
        (was.hostname != is.hostname, "hostname"),
        (was.dns != is.dns, "dns"),
        (was.mx_port != is.mx_port, "mx_port"),
        (was.filter != is.filter, "filter (judged where its answers were recorded)"),
        (was.proxy_protocol_from != is.proxy_protocol_from, "proxy_protocol_from"),
        (was.xclient_from != is.xclient_from, "xclient_from"),
        (was.timeouts != is.timeouts, "timeouts"),
        (was.retry != is.retry, "retry"),
        (was.sharing != is.sharing, "redis"),
        (
            (limits.message_size, limits.header_size) != (then.message_size, then.header_size),
            "the limits of sizes",
        ),
        (
            (limits.connections, limits.connections_per_client, limits.connections_per_network)
                != (then.connections, then.connections_per_client, then.connections_per_network)
                || limits.connections_per_client_per_minute
                    != then.connections_per_client_per_minute
                || limits.generic_helo_connections_per_minute
                    != then.generic_helo_connections_per_minute,
            "the limits of connections (D15)",
        ),
        (
            (limits.auth_failures, limits.auth_failure_window)
                != (then.auth_failures, then.auth_failure_window),
            "the limits of AUTH (D6)",
        ),
        (
            (limits.connections_per_host, limits.messages_per_connection)
                != (then.connections_per_host, then.messages_per_connection),
            "the limits of connections to next hops",
        ),
    ]
    .into_iter()
    .filter(|(differs, _)| *differs)
    .map(|(_, what)| format!("[server] {what}"))
    .collect();
    for listener in &was.listeners {
        let other = is.listeners.iter().find(|other| other.name == listener.name);
        match other {
            None => out.push(format!(
                "listener \"{}\", which NEW has not: its messages are replayed at the first one of \
                 the same role",
                listener.name
            )),
            Some(other) if (&other.tls, other.bind) != (&listener.tls, listener.bind) => {
                out.push(format!("the address or TLS of listener \"{}\"", listener.name));
            }
            Some(_) => {}
        }
    }
    for organization in old.organizations() {
        if let Some(other) = new.organization(&organization.name) {
            of_organization((old, organization), (new, other), &mut out);
        }
    }
    let on_subject = |policy: &Policy| {
        policy.organizations().iter().filter_map(tag).any(|tag| tag.contains("subject"))
    };
    if on_subject(old) || on_subject(new) {
        out.push("a spam tag that looks at the subject, which is not recorded".to_owned());
    }
    out
}

fn tag(organization: &Organization) -> Option<String> {
    let tag = organization.inbound_gateway.as_ref()?.spam_tag()?;
    Some(tag.as_str().to_ascii_lowercase())
}

fn of_organization(
    (old, was): (&Policy, &Organization),
    (new, is): (&Policy, &Organization),
    out: &mut Vec<String>,
) {
    let name = &was.name;
    let mut add = |what: &str| out.push(format!("{what} of organization \"{name}\""));
    let mut users: Vec<Mailbox> = Vec::new();
    was.directory.each_address(&mut |user| users.push(user.clone()));
    is.directory.each_address(&mut |user| users.push(user.clone()));
    let limits = |policy: &Policy, user| policy.relay().limits(name, user);
    let quotas = limits(old, None) != limits(new, None)
        || users.iter().any(|user| limits(old, Some(user)) != limits(new, Some(user)));
    if quotas {
        add("the quotas (D10 to D12)");
    }
    if was.authenticate != is.authenticate {
        add("`authenticate` (judged where SPF and DMARC were recorded)");
    }
    let differs = |user: &Mailbox| was.passwords.get(user) != is.passwords.get(user);
    if was.passwords.keys().chain(is.passwords.keys()).any(differs) {
        add("passwords (who authenticated is taken from the record)");
    }
    if was.logins != is.logins {
        add("passwords at next hops");
    }
    let tags = (tag(was), tag(is));
    if tags.0 != tags.1 && tags.1.is_some() {
        add("the spam tag (judged by the fields that are recorded)");
    }
    let retry = |one: &Organization, other: &Organization| {
        one.routes.iter().any(|(name, route)| {
            other.routes.get(name).is_some_and(|other| other.retry() != route.retry())
        })
    };
    if retry(was, is) {
        add("the `retry` of routes");
    }
}

/// The rules with patterns that look at local parts.
pub(super) fn patterns(old: &Policy, new: &Policy) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (policy, whose) in [(old, "OLD"), (new, "NEW")] {
        for organization in policy.organizations() {
            for rule in organization.rules.rules().iter().filter(|rule| rule.mode != Mode::Off) {
                let entries = rule.envelope.senders.iter().chain(&rule.envelope.recipients);
                let mut patterns = entries.filter_map(|entry| match entry {
                    AddressMatch::Pattern(pattern) => Some(pattern.as_str()),
                    _ => None,
                });
                if let Some(pattern) = patterns.find(|pattern| !looks_at_domain_alone(pattern)) {
                    let text = format!("rule \"{}\" ({pattern})", rule.description);
                    let known = out.iter_mut().find(|known| known.starts_with(&text));
                    match known {
                        Some(known) => *known = format!("{text} of OLD and NEW"),
                        None => out.push(format!("{text} of {whose}")),
                    }
                }
            }
        }
    }
    out
}

/// Whether a pattern certainly does not depend on the local part: each alternative begins with `@`, or
/// with something that takes any local part, or is plain text of a domain up to the end.
fn looks_at_domain_alone(pattern: &str) -> bool {
    const ANY: [&str; 7] = ["", "^.*", "^.+", "^[^@]+", "^[^@]*", ".*", ".+"];
    alternatives(pattern).into_iter().all(|one| {
        let from_the_at = ANY.iter().any(|any| {
            one.strip_prefix(any)
                .is_some_and(|rest| rest.starts_with('@') || rest.starts_with(r"\@"))
        });
        from_the_at || is_end_of_domain(one)
    })
}

/// `\.example$`: a text of a domain with a dot in it, up to the end. It cannot reach over the `@`, but
/// for a domain that is shorter than the text, which then does not match.
fn is_end_of_domain(pattern: &str) -> bool {
    let Some(text) = pattern.strip_suffix('$') else { return false };
    let plain = text.replace(r"\.", "");
    !plain.is_empty() && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The alternatives at the top of an expression. One with a group around all of it is one.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut depth, mut escaped, mut class, mut begin) = (0_usize, false, false, 0);
    let mut out = Vec::new();
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' if class => class = false,
            _ if class => {}
            '[' => class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                out.extend(pattern.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    out.extend(pattern.get(begin..));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_over_local_parts_are_told_from_those_over_domains_c9() {
        for (pattern, domain_alone) in [
            (r"@partner\.example$", true),
            (r"\@partner\.example", true),
            (r"^[^@]+@partner\.example$", true),
            (r".*@(a|b)\.example$", true),
            (r"@a\.example$|@b\.example$", true),
            (r"\.example$", true),
            (r"partner\.example$", true),
            (r"@a\.example$|sales", false),
            (r"^sales-", false),
            (r"^@", false),
            (r"sales.*@a\.example$", false),
            (r"partner", false),
            ("", false),
            (r"^$", false),
            (r"(@|sales)", false),
        ] {
            assert_eq!(looks_at_domain_alone(pattern), domain_alone, "{pattern}");
        }
    }
}
