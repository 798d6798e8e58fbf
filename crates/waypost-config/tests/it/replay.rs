//! Recorded messages under two policies: what is found is what two explanations differ in, nothing
//! differs from itself, and what is recorded of a header decides as the whole does (C9).
use crate::support;

use proptest::prelude::*;
use waypost_config::policy::{DryRun, Explanation, Policy};
use waypost_config::replay::{
    Comparison, Groups, KnownAddresses, LocalPartKey, MAX_HEADER, Recorded, ReplayError, Turn,
    kept_header,
};
use waypost_types::{HeaderBlock, TlsState};

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
[[organization.user]]
address = "ann@s.example.com"
[[organization.user]]
address = "bob@s.example.com"
aliases = ["rob@s.example.com"]
org_unit = "/a"
[[organization.group]]
address = "g@s.example.com"
members = ["ann@s.example.com", "x@y.example"]
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
detect_external_ip = true
spam_tag = { regex = "^X-Spam: yes$" }
"#;

const KEY: LocalPartKey = LocalPartKey::new([3; 16]);

fn policy(text: &str) -> Policy {
    policy_of(text, "test")
}

fn with(rules: &[String]) -> Policy {
    policy(&format!("{BASE}{}", rules.concat()))
}

const ACTIONS: [&str; 9] = [
    "reject = \"no\"",
    "reject = \"not at all\"",
    "quarantine = \"odd\"",
    "modify = { route = \"one\" }",
    "modify = { route = \"two\", also_reroute_spam = false, require_tls = true }",
    "modify = { subject_prefix = \"[P]\" }",
    "modify = { replace_recipient = { domain = \"t.example.org\" } }",
    "modify = { also_deliver_to = [{ address = \"g@s.example.com\" }] }",
    "modify = { add_headers = [{ name = \"X-A\", value = \"b\" }], original_to_header = true }",
];
const FILTERS: [&str; 5] = [
    "",
    "envelope = { senders = [{ pattern = '@y\\.example$' }] }\n",
    "envelope = { recipients = [{ address = \"ann@s.example.com\" }] }\n",
    "envelope = { recipients = [{ group = \"g@s.example.com\" }] }\n",
    "envelope = { senders = [{ address = \"x@y.example\" }] }\n",
];
const DIRECTIONS: [&str; 4] = ["inbound", "outbound", "internal-sending", "internal-receiving"];
const KINDS: [&str; 3] = ["users", "groups", "unrecognized"];
const PEOPLE: [&str; 9] = [
    "ann@s.example.com",
    "bob@s.example.com",
    "ROB@s.example.com",
    "g@s.example.com",
    "nobody@s.example.com",
    "tia@t.example.org",
    "x@y.example",
    "z@y.example",
    "q@elsewhere.example",
];

fn rule(description: usize) -> impl Strategy<Value = String> {
    let parts = (
        prop::sample::subsequence(&DIRECTIONS[..], 1..=2),
        prop::sample::subsequence(&KINDS[..], 1..=3),
        prop::sample::select(&FILTERS[..]),
        prop::sample::select(&ACTIONS[..]),
        any::<bool>(),
    );
    parts.prop_map(move |(affects, kinds, filter, action, stop)| {
        format!(
            "[[organization.rule]]\ndescription = \"r{description}\"\naffects = {affects:?}\n\
             accounts = {kinds:?}\nstop = {stop}\n{filter}then = {{ {action} }}\n"
        )
    })
}

const HEADERS: [&str; 16] = [
    "From: Ann <ann@s.example.com>\r\n",
    "From: =?utf-8?q?M=C3=A9?= <x@y.example>\r\n",
    "From: \"ann@s.example.com\" <x@y.example>\r\n",
    "From: a@s.example.com,\r\n b@y.example\r\n",
    "From: team: a@sub.s.example.com;\r\n",
    "from: <@relay.example:a@s.example.com>\r\n",
    "From: a@[192.0.2.1]\r\n",
    "From: nobody\r\n",
    "From: a @ s . example . com\r\n",
    "X-Spam: yes\r\n",
    "Received: from a (b.example [198.51.100.7]) by c.example with SMTP id 1 for <ann@s.example.com>;\r\n Tue, 24 Mar 2020 15:11:47 -0800\r\n",
    "Received: from a (b.example [192.0.2.2]) by c.example; date\r\n",
    "Received: from ann (Authenticated sender: ann) by c.example; date\r\n",
    "Received: by c.example with SMTP id 1; date\r\n",
    "DKIM-Signature: v=1; d=y.example; i=ann@y.example; h=From:To; b=xxx\r\n",
    "Subject: hello\r\n",
];

fn header() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&HEADERS[..]), 0..5)
        .prop_map(|fields| format!("{}\r\n", fields.concat()))
}

fn message() -> impl Strategy<Value = Recorded> {
    let parts = (
        prop::sample::select(&["192.0.2.2", "203.0.113.1", "198.51.100.3"][..]),
        prop::sample::select(&["mx", "relay"][..]),
        prop::sample::select(&["s.example.com", "elsewhere.example"][..]),
        prop::option::of(prop::sample::select(&PEOPLE[..])),
        prop::sample::subsequence(&PEOPLE[..], 1..=3),
        header(),
    );
    parts.prop_map(|(ip, listener, helo, from, to, message)| Recorded {
        client_ip: ip.parse().unwrap(),
        listener: Some(listener.into()),
        helo: Some(helo.into()),
        tls: Some(true),
        mail_from: Some(from.unwrap_or("").into()),
        rcpt_to: to.into_iter().map(Into::into).collect(),
        message,
        ..Recorded::default()
    })
}

fn explain(policy: &Policy, recorded: &Recorded) -> Explanation {
    let run = DryRun {
        client_ip: recorded.client_ip,
        listener: recorded.listener.as_deref(),
        helo: recorded.helo.as_deref(),
        auth: None,
        tls: TlsState::Encrypted,
        mail_from: recorded.mail_from.as_deref().unwrap(),
        rcpt_to: recorded.rcpt_to.iter().map(|to| &**to).collect(),
        message: recorded.message.as_bytes(),
    };
    policy.explain(&run).unwrap()
}

/// What of an explanation is a fate.
fn essence(policy: &Policy, recorded: &Recorded) -> Vec<String> {
    let found = explain(policy, recorded);
    let taken = found.replies.data.as_deref().is_some_and(|reply| reply.starts_with('2'));
    let refused_at_rcpt = |recipient: &str| {
        let replies = found.replies.rcpt.iter().zip(&recorded.rcpt_to);
        let mut own = replies.filter(|(_, to)| to.eq_ignore_ascii_case(recipient));
        own.any(|(reply, _)| reply.starts_with(['4', '5']))
    };
    let mut out: Vec<String> = found
        .refusals
        .iter()
        .map(|one| {
            let told = taken && !refused_at_rcpt(&one.recipient);
            format!("{} refused {} {told}", one.recipient, one.reply)
        })
        .collect();
    out.extend(found.deliveries.iter().map(|one| {
        format!(
            "{} {} {} {} {:?} {} {:?} {:?} {}",
            one.original_recipient,
            one.recipient,
            one.sender,
            one.via,
            one.route,
            one.tls,
            one.added_headers,
            one.subject_prefix,
            one.suppress_bounces
        )
    }));
    out.extend(found.quarantined.iter().map(|one| format!("{} {}", one.recipient, one.quarantine)));
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The naive check: two explanations, compared as JSON. What a release from quarantine delivers is
    /// in no explanation, so there more may be found.
    #[test]
    fn what_changes_is_what_two_explanations_differ_in_c9(
        rules in (rule(0), rule(1), rule(2)),
        other in rule(3),
        place in 0..3_usize,
        message in message(),
    ) {
        let rules = [rules.0, rules.1, rules.2];
        let mut changed = rules.clone();
        changed[place] = other;
        let (old, new) = (with(&rules), with(&changed));
        let comparison = Comparison::new(&old, &new);
        let compared = comparison.compare(&message).unwrap();
        let differs = essence(&old, &message) != essence(&new, &message);
        let kept = !explain(&old, &message).quarantined.is_empty();
        match compared.change {
            Some(change) => {
                prop_assert!(differs || kept, "{change:?}");
                prop_assert!(!change.changes.is_empty());
                let mut groups = Groups::default();
                groups.add(1, &change);
                prop_assert_eq!(groups.messages(), 1);
            }
            None => prop_assert!(!differs),
        }
    }

    #[test]
    fn nothing_changes_where_only_names_and_order_of_rules_without_a_say_do_c1(
        rules in (rule(0), rule(1)),
        message in message(),
    ) {
        let rules = [rules.0, rules.1];
        let old = with(&rules);
        prop_assert!(Comparison::new(&old, &old).compare(&message).unwrap().change.is_none());
        let renamed = rules.map(|rule| rule.replace("\"r", "\"renamed "));
        let new = with(&renamed);
        let compared = Comparison::new(&old, &new).compare(&message).unwrap();
        prop_assert!(compared.change.is_none(), "{:?}", compared.change);
    }

    /// What `serve` keeps of a header decides as all of it does.
    #[test]
    fn a_kept_header_decides_as_the_whole_does(rules in (rule(0), rule(1)), message in message()) {
        let policy = with(&[rules.0, rules.1]);
        let whole = policy.replay(&message, None).unwrap();
        let header = HeaderBlock::of(message.message.as_bytes());
        for key in [None, Some(&KEY)] {
            let kept = kept_header(&header, &policy, key);
            prop_assert!(!kept.cut && !kept.text.contains("hello"), "{}", kept.text);
            let again = Recorded { message: kept.text.clone(), ..message.clone() };
            prop_assert_eq!(&policy.replay(&again, None).unwrap(), &whole, "{}", kept.text);
            if key.is_some() {
                prop_assert!(!kept.text.contains("ann") && !kept.text.contains("a@"), "{}", kept.text);
            }
        }
    }

    /// With the key, hashed lines change as plain ones do: rules look at addresses, groups, and domains.
    #[test]
    fn hashed_local_parts_change_the_same(
        rules in (rule(0), rule(1), rule(2)),
        other in rule(3),
        message in message(),
    ) {
        let (one, two, three) = rules;
        let old = with(&[one.clone(), two.clone(), three]);
        let new = with(&[other, one, two]);
        let comparison = Comparison::new(&old, &new).with_key(&KEY);
        let plain = comparison.compare(&message).unwrap().change;
        let hide = |text: &str| Box::<str>::from(KEY.hide(text));
        let hashed = Recorded {
            hashed: Some(KEY.fingerprint().into()),
            mail_from: message.mail_from.as_deref().map(hide),
            rcpt_to: message.rcpt_to.iter().map(|to| hide(to)).collect(),
            message: kept_header(&HeaderBlock::of(message.message.as_bytes()), &old, Some(&KEY)).text,
            ..message
        };
        let hashed = comparison.compare(&hashed).unwrap().change;
        let essence = |change: Option<waypost_config::replay::MessageChange>| {
            change.map(|change| (change.turn, change.changes.len()))
        };
        prop_assert_eq!(essence(hashed), essence(plain));
    }

    #[test]
    fn any_octets_are_replayed_or_refused(line in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(recorded) = Recorded::read(&line) {
            let old = policy(BASE);
            let _ = Comparison::new(&old, &old).compare(&recorded);
        }
    }

    #[test]
    fn any_header_is_kept_in_bounds(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let policy = policy(BASE);
        let header = HeaderBlock::of(&octets);
        for key in [None, Some(&KEY)] {
            let kept = kept_header(&header, &policy, key);
            prop_assert!(kept.text.len() <= MAX_HEADER && kept.text.ends_with("\r\n"));
        }
    }

    #[test]
    fn any_text_in_a_field_is_kept_as_read_and_hidden(text in "\\PC{0,60}", name in "[a-z]{6}") {
        let policy = policy(BASE);
        for field in ["From", "Received", "X-Spam-Score", "DKIM-Signature"] {
            let line = format!("{field}: {text} {name}@d.example\r\n\r\n");
            let kept = kept_header(&HeaderBlock::of(line.as_bytes()), &policy, Some(&KEY));
            prop_assert!(!kept.text.contains(&format!("{name}@")), "{}", kept.text);
        }
    }
}

/// Pieces of which odd headers are made.
const PIECES: [&str; 34] = [
    "Received: ",
    "From: ",
    "from ",
    "by ",
    "for ",
    "with ",
    "id ",
    "(",
    ")",
    "[192.0.2.7]",
    "[",
    "]",
    "198.51.100.9",
    "[IPv6:2001:db8::1]",
    "\r\n",
    "\r\n ",
    "\n",
    "<",
    ">",
    "@",
    "a",
    "b.example",
    "s.example.com",
    ",",
    ";",
    ":",
    "\"",
    "\\",
    "=?utf-8?q?x?=",
    "X-Spam: yes",
    "helo=",
    " ",
    "é",
    "unknown",
];

fn odd_header() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40).prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_odd_header_decides_as_the_whole_does(odd in odd_header()) {
        let policy = ODD.get_or_init(|| policy(&format!("{BASE}{SPLIT}")));
        let whole = Recorded {
            client_ip: [192, 0, 2, 2].into(),
            message: format!("{odd}\r\n\r\n"),
            ..inbound("ann@s.example.com")
        };
        let wanted = policy.replay(&whole, None).unwrap();
        let header = HeaderBlock::of(whole.message.as_bytes());
        let source = |text: &str| {
            let sun = policy.organization("Sun").unwrap().inbound_gateway.as_ref().unwrap();
            let header = HeaderBlock::of(text.as_bytes());
            sun.source([192, 0, 2, 2].into(), waypost_inbound::OwnLine::Absent, &header)
        };
        for key in [None, Some(&KEY)] {
            let kept = kept_header(&header, policy, key);
            let again = Recorded { message: kept.text.clone(), ..whole.clone() };
            prop_assert_eq!(&policy.replay(&again, None).unwrap(), &wanted, "{:?}", kept.text);
            prop_assert_eq!(source(&kept.text), source(&whole.message), "{:?}", kept.text);
        }
    }
}

static ODD: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();

fn inbound(to: &str) -> Recorded {
    Recorded {
        id: "m".into(),
        client_ip: [198, 51, 100, 3].into(),
        listener: Some("mx".into()),
        mail_from: Some("x@y.example".into()),
        rcpt_to: vec![to.into()],
        message: "From: x@y.example\r\n\r\n".into(),
        ..Recorded::default()
    }
}

const SPLIT: &str = "[[organization.rule]]\ndescription = \"Split\"\naffects = [\"inbound\"]\n\
                     accounts = [\"unrecognized\"]\nthen = { modify = { route = \"one\" } }\n";

#[test]
fn a_change_names_the_rules_responsible_c9() {
    let plain = format!("{BASE}{SPLIT}");
    for (new, to, turn, rules, after) in [
        (
            BASE.to_owned(),
            "nobody@s.example.com",
            Turn::Refused,
            &["Split"][..],
            "refused: 550 5.1.1",
        ),
        (
            plain.replace("route = \"one\" }", "route = \"two\" }"),
            "nobody@s.example.com",
            Turn::Elsewhere,
            &["Split"],
            "route \"two\", TLS required",
        ),
        (
            plain.replace("host = \"one.example\"", "host = \"other.example\""),
            "nobody@s.example.com",
            Turn::Elsewhere,
            &["Split"],
            "route \"one\" (other.example:25), TLS required",
        ),
        (
            plain.replace("bob@", "nobody@"),
            "nobody@s.example.com",
            Turn::Elsewhere,
            &["Split"],
            "the mailbox system",
        ),
        (
            plain.replace("\"bob@s.example.com\"", "\"bobby@s.example.com\""),
            "bob@s.example.com",
            Turn::Elsewhere,
            &["Split"],
            "route \"one\", TLS required",
        ),
        (
            plain.replace("name = \"Sun\"", "name = \"Sun\"\nmailbox_route = \"two\""),
            "ann@s.example.com",
            Turn::Elsewhere,
            &[],
            "the mailbox system (two.example:25), TLS required",
        ),
        (
            format!(
                "{plain}{}",
                SPLIT
                    .replace("Split", "Keep")
                    .replace("modify = { route = \"one\" }", "quarantine = \"odd\"")
            ),
            "nobody@s.example.com",
            Turn::Kept,
            &["Keep"],
            "kept in quarantine \"odd\"",
        ),
        (
            format!(
                "{plain}{}",
                SPLIT.replace("Split", "Line").replace(
                    "route = \"one\"",
                    "add_headers = [{ name = \"X-A\", value = \"b\" }]"
                )
            ),
            "nobody@s.example.com",
            Turn::Changed,
            &["Line"],
            "route \"one\", TLS required, with X-A: b",
        ),
    ] {
        let (old, new) = (policy(&plain), policy(&new));
        let comparison = Comparison::new(&old, &new);
        let change = comparison.compare(&inbound(to)).unwrap().change.unwrap();
        assert_eq!(change.turn, turn, "{change:?}");
        let [one] = change.changes.as_slice() else { panic!("{change:?}") };
        let named: Vec<&str> = one.rules.iter().map(|rule| &**rule).collect();
        assert_eq!(named, rules, "{change:?}");
        assert!(one.after_in_words()[0].starts_with(after), "{after}: {change:?}");
        // The other way round the same messages change, by the same rules.
        let back = Comparison::new(&new, &old).compare(&inbound(to)).unwrap().change.unwrap();
        assert_eq!(back.changes[0].rules.len(), rules.len());
    }
}

/// A copy is a matter of the message: it is told with the first recipient who is taken.
#[test]
fn the_copy_of_a_relayed_message_is_compared_d16() {
    let to = |copy_to: &str| {
        let range = "addresses = [{ range = \"203.0.113.1\" }]";
        policy(&BASE.replace(range, &format!("{range}\n{copy_to}")))
    };
    let plain = to("");
    let sender = to("copy_to = \"sender-mailbox\"");
    let archive = to("copy_to = \"archive@z.example\"");
    let relayed = Recorded {
        client_ip: [203, 0, 113, 1].into(),
        listener: Some("relay".into()),
        mail_from: Some("ann@s.example.com".into()),
        rcpt_to: vec!["one@y.example".into(), "two@y.example".into()],
        ..inbound("")
    };
    for (old, new, after) in [
        (&plain, &sender, Some("the mailbox system, to ann@s.example.com, from <>, no bounces")),
        (
            &plain,
            &archive,
            Some("the MX hosts of the domain, to archive@z.example, from <>, no bounces"),
        ),
        (&archive, &sender, Some("the mailbox system, to ann@s.example.com, from <>, no bounces")),
        (&sender, &plain, Some("")),
        (&archive, &archive, None),
    ] {
        let change = Comparison::new(old, new).compare(&relayed).unwrap().change;
        assert_eq!(change.is_some(), after.is_some(), "{change:?}");
        let (Some(change), Some(after)) = (change, after) else { continue };
        let [one] = change.changes.as_slice() else { panic!("{change:?}") };
        assert_eq!(one.recipient.as_deref(), Some("one@y.example"));
        assert_eq!(one.turn, Turn::Elsewhere);
        let copied = one.after_in_words().get(1).map_or("", String::as_str);
        assert_eq!(copied, after, "{change:?}");
    }
}

#[test]
fn identical_changes_are_one_group_with_three_examples() {
    let (old, new) = (policy(&format!("{BASE}{SPLIT}")), policy(BASE));
    let comparison = Comparison::new(&old, &new);
    let mut groups = Groups::default();
    for line in 1..=10 {
        let compared = comparison.compare(&inbound(&format!("n{line}@s.example.com"))).unwrap();
        groups.add(line, &compared.change.unwrap());
    }
    assert_eq!(groups.messages(), 10);
    assert_eq!(groups.turns(), [(Turn::Refused, 10)]);
    let sorted = groups.sorted();
    assert_eq!(sorted.len(), 1);
    assert_eq!((sorted[0].messages, sorted[0].examples.len()), (10, 3));
    assert!(sorted[0].examples[0].starts_with("line 1  m  <x@y.example> to n1@"));
    assert!(sorted[0].after_because[0].starts_with("(the recipient) is neither"));
}

#[test]
fn what_a_replay_cannot_see_is_named_where_it_differs() {
    let old = policy(BASE);
    for (was, is, said) in [
        ("mx.s.example", "mx2.s.example", "[server] hostname"),
        ("[[listener]]\nname = \"mx\"", "[[listener]]\nname = \"in\"", "listener \"mx\""),
        ("name = \"Sun\"", "name = \"Sun\"\nlicences = 7", "the quotas"),
        ("bind = \"127.0.0.1:2525\"", "bind = \"127.0.0.1:25\"", "address or TLS of listener"),
        ("name = \"Sun\"", "name = \"Sun\"\nauthenticate = \"enforce\"", "`authenticate`"),
        ("spool = \"spool\"", "spool = \"spool\"\ntimeouts = { data = \"1m\" }", "timeouts"),
        ("^X-Spam: yes$", "^Subject: spam$", "looks at the subject"),
    ] {
        let new = policy(&BASE.replacen(was, is, 1));
        let unseen = Comparison::new(&old, &new).unseen();
        assert!(unseen.iter().any(|one| one.contains(said)), "{said}: {unseen:?}");
        assert!(Comparison::new(&new, &new).unseen().iter().all(|one| one.contains("subject")));
    }
    // A listener that is gone: its mail comes in by the first one of its role.
    let new = policy(&BASE.replacen("name = \"mx\"", "name = \"in\"", 1));
    let compared = Comparison::new(&old, &new).compare(&inbound("ann@s.example.com")).unwrap();
    assert!(compared.change.is_none());
}

#[test]
fn hashed_lines_want_the_key_that_they_were_written_with() {
    let old = policy(BASE);
    let line = Recorded { hashed: Some(KEY.fingerprint().into()), ..inbound("ann@s.example.com") };
    let without = Comparison::new(&old, &old);
    assert_eq!(without.compare(&line).unwrap_err(), ReplayError::NoKey);
    let other = Comparison::new(&old, &old).with_key(&LocalPartKey::new([9; 16]));
    assert!(matches!(other.compare(&line), Err(ReplayError::OtherKey(..))));
    let known = KnownAddresses::of(&KEY, &[&old]);
    let ann = "ann@s.example.com".parse().unwrap();
    assert_eq!(known.found(KEY.hashed(&ann)), ann);
    let stranger = KEY.hashed(&"stranger@s.example.com".parse().unwrap());
    assert_eq!(known.found(stranger.clone()), stranger);
}

#[test]
fn a_long_header_is_kept_short_and_still_counts_its_hops_o3() {
    let policy = policy(BASE);
    let line =
        format!("Received: from a ({}.example [198.51.100.7]) by c; date\r\n", "x".repeat(900));
    let header = format!("{}From: a@b.example\r\n\r\n", line.repeat(200));
    let kept = kept_header(&HeaderBlock::of(header.as_bytes()), &policy, None);
    assert!(kept.text.len() <= MAX_HEADER && !kept.cut);
    assert_eq!(HeaderBlock::of(kept.text.as_bytes()).fields().named("received").count(), 200);
    assert!(kept.text.contains("From: a@b.example\r\n"));
    // Our own marks, by which loops are known, stay in the shortest lines too; hashes without a key do not
    // go where local parts are hidden (O8).
    let marked = "Received: from a (b.example [198.51.100.7]) by c (waypost-mark 6c21e73a27888a7d); date\r\n";
    let header = format!("{}{marked}", line.repeat(50));
    for (header, key, stays) in
        [(marked, None, true), (&*header, None, true), (marked, Some(&KEY), false)]
    {
        let kept = kept_header(&HeaderBlock::of(header.as_bytes()), &policy, key);
        assert_eq!(kept.text.contains("(waypost-mark 6c21e73a27888a7d)"), stays, "{}", kept.text);
    }
    let header = line.repeat(5000);
    let kept = kept_header(&HeaderBlock::of(header.as_bytes()), &policy, None);
    assert!(kept.text.len() <= MAX_HEADER && kept.cut);
}

#[test]
fn what_spf_and_dmarc_said_then_decides_again_and_what_was_not_recorded_is_told_e2() {
    use waypost_auth::{Authentication, Dmarc, DmarcPolicy, DmarcResult, Identity, Spf, SpfResult};

    let with = |mode: &str| {
        policy(
            &BASE.replace("name = \"Sun\"", &format!("name = \"Sun\"\nauthenticate = \"{mode}\"")),
        )
    };
    let (off, report, enforce) = (with("off"), with("report"), with("enforce"));
    let failed = Authentication {
        checked: Some([198, 51, 100, 3].into()),
        spf: Spf::new(SpfResult::Fail, Identity::MailFrom, Some("y.example")),
        dkim: Vec::new(),
        dmarc: Dmarc {
            policy: Some(DmarcPolicy::Reject),
            ..Dmarc::new(DmarcResult::Fail, "y.example".parse().ok())
        },
    };
    let plain = inbound("ann@s.example.com");
    let answered = Recorded { authentication: vec![failed], ..plain.clone() };
    let answered = Recorded::read(answered.to_line().as_bytes()).unwrap();
    assert_eq!(answered.authentication.len(), 1);
    for (old, new, message, changes, unauthenticated) in [
        (&report, &enforce, &answered, true, false),
        (&off, &enforce, &answered, true, false),
        (&off, &report, &answered, false, false),
        (&enforce, &enforce, &answered, false, false),
        (&report, &enforce, &plain, false, true),
        (&off, &off, &plain, false, false),
    ] {
        let compared = Comparison::new(old, new).compare(message).unwrap();
        assert_eq!(compared.change.is_some(), changes, "{compared:?}");
        assert_eq!(compared.unauthenticated, unauthenticated);
        if let Some(change) = compared.change {
            assert_eq!(change.turn, Turn::Refused);
            // Of all messages of all authors, one group.
            let words = format!("{:?}", change.changes[0].after_in_words());
            assert!(!words.contains("y.example") && !words.contains("198.51"), "{words}");
        }
    }
}
