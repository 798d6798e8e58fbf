//! Whatever the rules and the message: no recipient is lost or doubled, the same input gives the same
//! decision, and whoever is named as a reason matched.
use crate::support;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use waypost_config::policy::{DryRun, ExplainedDelivery, Explanation, Policy};
use waypost_types::{Mailbox, TlsState};

use support::policy_of;

const BASE: &str = r#"
[server]
hostname = "mx.s.example"
spool = "spool"
[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:2525"
[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:2587"
[[organization]]
name = "Tide"
domains = ["t.example.org"]
[[organization.user]]
address = "tia@t.example.org"
[[organization]]
name = "Sun"
domains = ["s.example.com"]
"#;

const PEOPLE: &str = r#"
[[organization.user]]
address = "ann@s.example.com"
[[organization.user]]
address = "bob@s.example.com"
aliases = ["rob@s.example.com"]
org_unit = "/a"
[[organization.group]]
address = "g@s.example.com"
members = ["ann@s.example.com", "h@s.example.com"]
[[organization.group]]
address = "h@s.example.com"
members = ["rob@s.example.com", "x@y.example"]
[[organization.group]]
address = "empty@s.example.com"
members = []
[[organization.route]]
name = "one"
host = "one.example"
[[organization.route]]
name = "two"
host = "two.example"
[[organization.relay]]
description = "Servers"
allowed_senders = "any"
addresses = [{ range = "203.0.113.1" }]
[organization.inbound_gateway]
addresses = ["192.0.2.2"]
spam_tag = { regex = "^X-Spam: yes$" }
"#;

const RECIPIENTS: [&str; 10] = [
    "ann@s.example.com",
    "bob@s.example.com",
    "ROB@s.example.com",
    "Ann@s.example.com",
    "g@s.example.com",
    "h@s.example.com",
    "empty@s.example.com",
    "nobody@s.example.com",
    "tia@t.example.org",
    "x@y.example",
];
const ACTIONS: [&str; 9] = [
    "reject = \"no\"",
    "quarantine = \"odd\"",
    "modify = { route = \"one\" }",
    "modify = { route = \"two\", also_reroute_spam = false, require_tls = true }",
    "modify = { subject_prefix = \"[P]\" }",
    "modify = { replace_recipient = { address = \"ann@s.example.com\" } }",
    "modify = { replace_recipient = { domain = \"t.example.org\" } }",
    "modify = { also_deliver_to = [{ address = \"ann@s.example.com\" }, { address = \"g@s.example.com\" }] }",
    "modify = { also_deliver_to = [{ address = \"x@y.example\", no_spam = true }, { route = \"one\" }] }",
];
const DIRECTIONS: [&str; 4] = ["inbound", "outbound", "internal-sending", "internal-receiving"];
const FILTERS: [&str; 8] = [
    "recipients = [{ pattern = '^(ann|bob)@' }]",
    "recipients = [{ pattern = '@y' }]",
    "recipients = [{ pattern = 's\\.' }]",
    "recipients = [{ pattern = '[@.]example\\.com$' }, { address = \"x@y.example\" }]",
    "recipients = [{ group = \"h@s.example.com\" }]",
    "senders = [{ pattern = '^$' }, { group = \"g@s.example.com\" }]",
    "senders = [{ pattern = '@b\\.example$' }], recipients = [{ pattern = '^[a-z]+@' }]",
    "senders = [{ address = \"ann@s.example.com\" }], recipients = [{ group = \"g@s.example.com\" }, { pattern = 'nobody' }]",
];
const KINDS: [&str; 3] = ["users", "groups", "unrecognized"];

fn rule() -> impl Strategy<Value = String> {
    (
        prop::sample::select(&["/", "/a"][..]),
        prop::sample::subsequence(&DIRECTIONS[..], 1..=4),
        prop::sample::subsequence(&KINDS[..], 1..=3),
        prop::option::of(prop::sample::select(&FILTERS[..])),
        prop::sample::select(&["enforce", "enforce", "enforce", "observe"][..]),
        prop::bool::weighted(0.2),
        prop::sample::select(&ACTIONS[..]),
    )
        .prop_map(|(unit, affects, accounts, filter, mode, stop, action)| {
            let filter =
                filter.map_or(String::new(), |filter| format!("envelope = {{ {filter} }}\n"));
            format!(
                "org_unit = \"{unit}\"\naffects = {affects:?}\naccounts = {accounts:?}\n\
                 mode = \"{mode}\"\nstop = {stop}\n{filter}then = {{ {action} }}\n"
            )
        })
}

fn policy(rules: &[String], settings: &str) -> Policy {
    let mut text = format!("{BASE}{settings}\n{PEOPLE}");
    for (place, rule) in rules.iter().enumerate() {
        write!(text, "[[organization.rule]]\ndescription = \"rule {place}\"\n{rule}").unwrap();
    }
    policy_of(&text, "1")
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

/// Each recipient of RCPT that is found in deliveries, refusals or quarantine, once for each list.
fn ends(explanation: &Explanation, recipient: &Mailbox) -> (usize, usize, usize) {
    let is = |text: &str| mailbox(text) == *recipient;
    (
        explanation.deliveries.iter().filter(|one| is(&one.original_recipient)).count(),
        explanation.refusals.iter().filter(|one| is(&one.recipient)).count(),
        explanation.quarantined.iter().filter(|one| is(&one.recipient)).count(),
    )
}

fn sameness(one: &ExplainedDelivery) -> String {
    format!(
        "{} {} {} {:?} {:?} {:?}",
        one.original_recipient,
        one.recipient,
        one.via,
        one.route,
        one.added_headers,
        one.subject_prefix
    )
    .to_lowercase()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_recipient_is_lost_or_doubled(
        rules in prop::collection::vec(rule(), 0..5),
        settings in prop::sample::select(&["", "spam_action = \"quarantine\"", "spam_action = \"reject\"",
            "mailbox_route = \"two\"", "outbound_gateway = \"smart.example\""][..]),
        listener in prop::sample::select(&["mx", "relay"][..]),
        client in prop::sample::select(&["203.0.113.1", "192.0.2.2"][..]),
        sender in prop::sample::select(&["", "ann@s.example.com", "a@b.example"][..]),
        from in prop::option::of(prop::sample::select(&["bob@s.example.com", "a@b.example", "tia@t.example.org"][..])),
        spam in any::<bool>(),
        recipients in prop::collection::vec(prop::sample::select(&RECIPIENTS[..]), 1..6),
    ) {
        let policy = policy(&rules, settings);
        let mut message = from.map_or(String::new(), |from| format!("From: {from}\r\n"));
        message.push_str(if spam { "X-Spam: yes\r\n\r\n" } else { "\r\n" });
        let run = DryRun {
            client_ip: client.parse().unwrap(),
            listener: Some(listener),
            helo: Some("s.example.com"),
            auth: None,
            tls: TlsState::Clear,
            mail_from: sender,
            rcpt_to: recipients.clone(),
            message: message.as_bytes(),
        };
        let explanation = policy.explain(&run).unwrap();
        let shown = serde_json::to_string(&explanation).unwrap();
        prop_assert_eq!(&shown, &serde_json::to_string(&policy.explain(&run).unwrap()).unwrap());

        let mail_stands = explanation.replies.mail.starts_with("250");
        let data_stands = explanation.replies.data.as_deref().is_some_and(|data| data.starts_with("250"));
        prop_assert_eq!(explanation.replies.rcpt.len(), if mail_stands { recipients.len() } else { 0 });
        for recipient in &recipients {
            let recipient = mailbox(recipient);
            let (delivered, refused, kept) = ends(&explanation, &recipient);
            let replies = recipients.iter().zip(&explanation.replies.rcpt);
            let replies = replies.filter(|(other, _)| mailbox(other) == recipient);
            let at_rcpt = replies.clone().filter(|(_, reply)| !reply.starts_with("250")).count();
            let stands = replies.count() > at_rcpt;
            // Delivered (to members and copies too), or refused once after DATA, or kept once.
            let after = refused - if mail_stands { at_rcpt } else { refused };
            let ended = usize::from(delivered > 0) + kept + after;
            prop_assert_eq!(ended, usize::from(stands), "{} {}", recipient, shown);
            prop_assert!(stands || refused > 0, "{recipient} {shown}");
        }
        let nothing = explanation.deliveries.is_empty() && explanation.quarantined.is_empty();
        prop_assert_eq!(data_stands, !nothing, "{}", shown);
        let distinct: BTreeSet<_> = explanation.deliveries.iter().map(sameness).collect();
        prop_assert_eq!(distinct.len(), explanation.deliveries.len(), "{}", shown);

        // Reasons are rules that matched for that recipient; what would have been is only observed.
        let matched = |rule: &str, recipient: &str| {
            explanation.rules.iter().any(|looked| {
                looked.matched && &*looked.rule == rule && mailbox(&looked.recipient) == mailbox(recipient)
            })
        };
        for delivery in &explanation.deliveries {
            let lost = delivery.overridden.iter().flat_map(|lost| [&lost.rule, &lost.by]);
            for rule in delivery.because.iter().chain(lost) {
                prop_assert!(matched(rule, &delivery.original_recipient), "{rule} {shown}");
                let place: usize = rule.rsplit(' ').next().unwrap().parse().unwrap();
                prop_assert!(rules[place].contains("mode = \"enforce\""), "{rule} {shown}");
            }
        }
    }
}
