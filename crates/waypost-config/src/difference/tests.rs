//! Lines for edits, one an edit; what is no difference; and random edits that must be named.

use proptest::prelude::*;

use super::*;
use crate::diagnostics::{Report, SourceFile};
use crate::raw;

const CONFIGURATION: &str = r#"
[server]
hostname = "mx.solarmora.com"
spool = "spool"

[server.limits]
recipients = 100

[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:2525"
tls = { certificate = "mx.pem", key = "mx.key" }

[[organization]]
name = "Solarmora"
domains = ["solarmora.com", "solarmora.fr"]
licences = 250

[[organization.user]]
address = "Marie@solarmora.com"
aliases = ["m.paul@solarmora.com"]
password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

[[organization.group]]
address = "team@solarmora.com"
members = ["marie@solarmora.com"]

[[organization.route]]
name = "exchange"
host = "exchange.corp.example"

[[organization.route]]
name = "edge"
primary = [{ host = "a.example", load = 60 }, { host = "b.example", load = 40 }]

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = { modify = { route = "exchange" } }

[[organization.rule]]
description = "Partners"
org_unit = "/sales"
affects = ["inbound"]
envelope = { senders = [{ pattern = '@partner\.example$' }] }
then = { modify = { route = "edge", add_headers = [{ name = "X-A", value = "1" }] } }

[[organization.rule]]
description = "No"
affects = ["inbound"]
then = { reject = "no" }

[organization.inbound_gateway]
addresses = ["198.51.100.0/24"]

[[organization.relay]]
description = "Lyon"
allowed_senders = "my-domains"
addresses = [{ range = "203.0.113.0/28" }]
"#;

fn snapshot_of(text: &str, directory: &str) -> Snapshot {
    let read = raw::read(SourceFile::new("waypost.toml", text), Vec::new());
    let (config, report) = read.unwrap_or_else(|wrong| panic!("{}", wrong.report.render(false)));
    assert!(!report.has_errors(), "{}", report.render(false));
    let mut report = Report::default();
    let source = SourceFile::new("directory.toml", directory);
    let file = raw::read_directory(source, &mut report).unwrap();
    assert!(!report.has_errors(), "{}", report.render(false));
    Snapshot::new(&config, &[vec![file]])
}

fn snapshot(text: &str) -> Snapshot {
    snapshot_of(text, "")
}

/// The lines for one edit: a text and what stands there instead.
fn edited(from: &str, to: &str) -> Vec<String> {
    assert!(CONFIGURATION.contains(from), "{from}");
    snapshot(CONFIGURATION).difference(&snapshot(&CONFIGURATION.replacen(from, to, 1)))
}

#[test]
fn a12_each_edit_has_its_line() {
    const S: &str = "organization \"Solarmora\": ";
    for (from, to, want) in [
        ("recipients = 100", "recipients = 50", "server.limits.recipients: 100 -> 50"),
        ("recipients = 100", "", "server.limits.recipients: 100 -> 1000"),
        ("[server.limits]\nrecipients = 100", "", "server.limits.recipients: 100 -> 1000"),
        (
            "spool\"\n",
            "spool\"\nretry = { first = \"1m\" }\n",
            "server.retry.first: not set -> \"1m\"",
        ),
        (
            "127.0.0.1:2525",
            "127.0.0.1:25",
            "listener \"mx\": bind: \"127.0.0.1:2525\" -> \"127.0.0.1:25\"",
        ),
        (
            "tls = { certificate = \"mx.pem\", key = \"mx.key\" }",
            "",
            "listener \"mx\": tls removed: { certificate = \"mx.pem\", key = \"mx.key\" }",
        ),
        ("licences = 250", "licences = 300", "S: licences: 250 -> 300"),
        ("licences = 250", "", "S: licences: 250 -> not set"),
        (", \"solarmora.fr\"", "", "S: domains: \"solarmora.fr\" removed"),
        (
            "\"solarmora.com\", \"solarmora.fr\"",
            "\"solarmora.fr\", \"solarmora.com\"",
            "S: domains: order: [\"solarmora.com\", \"solarmora.fr\"] -> [\"solarmora.fr\", \"solarmora.com\"]",
        ),
        (
            "route = \"exchange\"",
            "route = \"edge\"",
            "S: rule \"Split delivery\": then.modify.route: \"exchange\" -> \"edge\"",
        ),
        (
            "modify = { route = \"exchange\" }",
            "reject = \"go\"",
            "S: rule \"Split delivery\": then.reject: not set -> \"go\"",
        ),
        (
            "[\"unrecognized\"]",
            "[\"unrecognized\", \"users\"]",
            "S: rule \"Split delivery\": accounts: \"users\" added",
        ),
        ("load = 60", "load = 50", "S: route \"edge\": primary[0].load: 60 -> 50"),
        (
            ", { host = \"b.example\", load = 40 }",
            "",
            "S: route \"edge\": primary[1] removed: { host = \"b.example\", load = 40 }",
        ),
        (
            "value = \"1\"",
            "value = \"2\"",
            "S: rule \"Partners\" of /sales: then.modify.add_headers[0].value: \"1\" -> \"2\"",
        ),
        (
            "'@partner\\.example$'",
            "'@p\\.example$'",
            "S: rule \"Partners\" of /sales: envelope.senders[0].pattern: \"@partner\\\\.example$\" -> \"@p\\\\.example$\"",
        ),
        (
            "address = \"team@",
            "address = \"Team@",
            "S: group Team@solarmora.com: address: \"team@solarmora.com\" -> \"Team@solarmora.com\"",
        ),
        (
            "members = [\"marie@solarmora.com\"]",
            "",
            "S: group team@solarmora.com: members: \"marie@solarmora.com\" removed",
        ),
        ("AAAAAA\"", "AAAAAE\"", "S: user Marie@solarmora.com: password changed"),
        ("m.paul@", "m@", "S: user Marie@solarmora.com: aliases: \"m@solarmora.com\" added"),
        (
            "[organization.inbound_gateway]\naddresses = [\"198.51.100.0/24\"]",
            "",
            "S: inbound_gateway removed: { addresses = [\"198.51.100.0/24\"] }",
        ),
        (
            "{ range = \"203.0.113.0/28\" }",
            "{ range = \"203.0.113.0/28\", enabled = false }",
            "S: relay \"Lyon\": addresses \"203.0.113.0/28\": enabled: true -> false",
        ),
        (
            "name = \"Solarmora\"",
            "name = \"Lunamora\"",
            "organization \"Lunamora\" added: { name = \"Lunamora\"",
        ),
        (
            "description = \"No\"",
            "description = \"Never\"",
            "S: rule \"No\" removed: { description = \"No\", affects = [\"inbound\"], then = { reject = \"no\" } }",
        ),
        ("reject = \"no\"", "reject = \"né\"", "S: rule \"No\": then.reject: \"no\" -> \"né\""),
    ] {
        let want = want.replacen("S: ", S, usize::from(want.starts_with("S: ")));
        let lines = edited(from, to);
        assert!(lines.iter().any(|line| line.starts_with(&want)), "{from} -> {to}: {lines:#?}");
        let text = lines.join("\n");
        assert!(!text.contains("argon2") && !text.contains("AAAA"), "no secret: {text}");
    }
    assert_eq!(edited("load = 60", "load = 50").len(), 1);
}

#[test]
fn a12_what_says_the_same_is_no_difference() {
    for (from, to) in [
        ("", "# a comment\n\n"),
        ("licences = 250", "licences = 250 # more\n  payment_overdue   =   false"),
        ("name = \"edge\"", "name = 'edge'"),
        ("recipients = 100", "recipients = 1_00"),
        ("[\"inbound\"]\naccounts", "[ \"inbound\", ]\naccounts"),
        ("recipients = 100", "recipients = 100\nhops = 50"),
        ("licences = 250", "licences = 250\nadministrators = []"),
    ] {
        assert_eq!(edited(from, to), Vec::<String>::new(), "{from} -> {to}");
    }
    // Users that move into a directory file are the same users.
    let inline = CONFIGURATION.find("[[organization.user]]").unwrap();
    let end = CONFIGURATION.find("[[organization.route]]").unwrap();
    let (before, users) = (&CONFIGURATION[..inline], &CONFIGURATION[inline..end]);
    let moved = format!("{before}{}", &CONFIGURATION[end..]);
    let moved = snapshot_of(&moved, &users.replace("organization.", ""));
    assert_eq!(snapshot(CONFIGURATION).difference(&moved), Vec::<String>::new());
}

#[test]
fn a12_a_moved_rule_is_told_as_moved() {
    let start = CONFIGURATION.find("[[organization.rule]]\ndescription = \"No\"").unwrap();
    let end = CONFIGURATION.find("[organization.inbound_gateway]").unwrap();
    let rule = &CONFIGURATION[start..end];
    let first = CONFIGURATION.find("[[organization.rule]]").unwrap();
    let rest = format!("{}{}", &CONFIGURATION[first..start], &CONFIGURATION[end..]);
    let moved = format!("{}{rule}{rest}", &CONFIGURATION[..first]);
    let (old, new) = (snapshot(CONFIGURATION), snapshot(&moved));
    let lines = old.difference(&new);
    assert_eq!(lines, ["organization \"Solarmora\": rule \"No\" moved: now the first one"]);
    let lines = new.difference(&old);
    let back = "organization \"Solarmora\": rule \"No\" moved: now behind \"Partners\"";
    assert_eq!(lines, [back]);
}

#[test]
fn a12_many_users_are_a_summary_and_many_lines_have_an_end() {
    let users = |numbers: std::ops::Range<usize>, unit: &str| -> String {
        let user = |number| {
            format!("[[user]]\naddress = \"u{number:03}@solarmora.com\"\norg_unit = \"{unit}\"\n")
        };
        numbers.map(user).collect()
    };
    let with = |directory: &str| snapshot_of(CONFIGURATION, directory);
    let old = with(&users(0..15, "/"));
    let lines = old.difference(&with(&users(3..30, "/")));
    assert_eq!(
        lines,
        ["organization \"Solarmora\": directory: 15 users added, 3 removed: u000@solarmora.com, \
          u001@solarmora.com, u002@solarmora.com, u015@solarmora.com, u016@solarmora.com, \
          u017@solarmora.com, u018@solarmora.com, u019@solarmora.com, u020@solarmora.com, \
          u021@solarmora.com, …"]
    );
    let lines = old.difference(&with(&users(0..16, "/")));
    let added = "organization \"Solarmora\": user u015@solarmora.com added: \
                 { address = \"u015@solarmora.com\" }";
    assert_eq!(lines, [added]);

    let rules: String = (0..300)
        .map(|number| {
            format!(
                "[[organization.rule]]\ndescription = \"{number}\"\naffects = [\"inbound\"]\n\
                 then = {{ reject = \"{}\" }}\n",
                "x".repeat(1000)
            )
        })
        .collect();
    let lines = snapshot(CONFIGURATION).difference(&snapshot(&format!("{CONFIGURATION}{rules}")));
    assert_eq!((lines.len(), lines[199].as_str()), (MOST_LINES, "and 101 more"));
    assert!(lines.iter().all(|line| line.chars().count() <= LONGEST_LINE));
}

#[test]
fn a12_files_are_told_when_they_are_written_anew() {
    let (mut old, mut new) = (snapshot(CONFIGURATION), snapshot(CONFIGURATION));
    old.add_file("mx.pem", "1");
    new.add_file("mx.pem", "1");
    new.add_file("other.pem", "1");
    assert_eq!(old.difference(&new), Vec::<String>::new());
    new.add_file("mx.pem", "2");
    assert_eq!(old.difference(&new), ["file \"mx.pem\": written anew"]);
}

#[test]
fn a12_a_key_that_a_version_does_not_know_is_told() {
    let stored = serde_json::to_string(&snapshot(CONFIGURATION)).unwrap();
    assert!(!stored.contains("argon2"), "no secret is stored");
    let stored = stored.replacen("\"licences\"", "\"seats\"", 1);
    let old: Snapshot = serde_json::from_str(&stored).unwrap();
    assert_eq!(
        old.difference(&snapshot(CONFIGURATION)),
        [
            "organization \"Solarmora\": licences: not set -> 250",
            "organization \"Solarmora\": seats: 250 -> not set"
        ]
    );
}

#[test]
fn a12_a_large_configuration_is_compared_and_stored() {
    let large = crate::large::large(200, 1_000);
    let old = snapshot_of(&large.main, &large.toml);
    let stored: Snapshot = serde_json::from_str(&serde_json::to_string(&old).unwrap()).unwrap();
    assert_eq!(stored, old);
    let changed = large.main.replacen("\"X-Rule\", value = \"77\"", "\"X-Rule\", value = \"7\"", 1);
    assert_eq!(
        old.difference(&snapshot_of(&changed, &large.toml)),
        ["organization \"Solarmora\": rule \"Rule 77\" of /unit77: \
          then.modify.add_headers[0].value: \"77\" -> \"7\""]
    );
}

/// A small organization as data, to be edited at random.
#[derive(Clone, Debug)]
struct Model {
    licences: u32,
    rules: Vec<(u8, String, bool)>,
    routes: Vec<(u8, u16)>,
    users: Vec<(u8, String)>,
}

fn model() -> impl Strategy<Value = Model> {
    let distinct = |range: std::ops::Range<u8>| {
        proptest::collection::btree_set(range, 1..6)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>())
    };
    let word = "[a-z]{1,4}";
    (
        1..500_u32,
        distinct(0..20).prop_shuffle(),
        distinct(0..20),
        distinct(0..20),
        proptest::collection::vec((word, any::<bool>(), 1024..9999_u16, word), 6),
    )
        .prop_map(|(licences, rules, routes, users, more)| Model {
            licences,
            rules: rules.into_iter().zip(&more).map(|(n, m)| (n, m.0.clone(), m.1)).collect(),
            routes: routes.into_iter().zip(&more).map(|(n, m)| (n, m.2)).collect(),
            users: users.into_iter().zip(&more).map(|(n, m)| (n, m.3.clone())).collect(),
        })
}

impl Model {
    /// As text, with or without comments and blanks.
    fn text(&self, airy: bool) -> String {
        let air = if airy { "  # why\n\n" } else { "\n" };
        let mut text = format!(
            "[server]{air}hostname = \"h.example\"{air}spool = \"s\"\n[[organization]]\nname = \
             \"S\"{air}domains = [\"s.example\"]\nlicences = {}{air}",
            self.licences
        );
        for (number, text_, stop) in &self.rules {
            text += &format!(
                "[[organization.rule]]{air}description = \"rule{number}\"\naffects = [\"inbound\"]\
                 {air}stop = {stop}\nthen = {{ reject = \"{text_}\" }}{air}"
            );
        }
        for (number, port) in &self.routes {
            text += &format!(
                "[[organization.route]]\nname = \"route{number}\"{air}host = \"h.example\"\nport = \
                 {port}{air}"
            );
        }
        for (number, unit) in &self.users {
            text += &format!(
                "[[organization.user]]\naddress = \"user{number}@s.example\"{air}org_unit = \
                 \"/{unit}\"{air}"
            );
        }
        text
    }

    /// One edit, and what its line must name.
    fn edit(&mut self, kind: u8, at: usize) -> Vec<String> {
        fn pick<T>(list: &[T], at: usize) -> usize {
            at % list.len()
        }
        match kind % 8 {
            0 => {
                self.licences += 1;
                vec!["licences".into(), format!("{} -> {}", self.licences - 1, self.licences)]
            }
            1 => {
                let rule = pick(&self.rules, at);
                let (number, text, _) = &mut self.rules[rule];
                text.push('x');
                vec![format!("rule \"rule{number}\""), format!("-> \"{text}\"")]
            }
            2 => {
                let rule = pick(&self.rules, at);
                let (number, _, stop) = &mut self.rules[rule];
                *stop = !*stop;
                vec![format!("rule \"rule{number}\": stop: {} -> {stop}", !*stop)]
            }
            3 => {
                let rule = pick(&self.rules, at);
                let (number, ..) = self.rules.remove(rule);
                vec![format!("rule \"rule{number}\" removed")]
            }
            4 => {
                let place = at % (self.rules.len() + 1);
                self.rules.insert(place, (99, "new".into(), false));
                vec!["rule \"rule99\" added".into()]
            }
            5 => {
                let route = pick(&self.routes, at);
                let (number, port) = &mut self.routes[route];
                *port += 1;
                vec![format!("route \"route{number}\": port: {} -> {port}", *port - 1)]
            }
            6 => {
                let user = pick(&self.users, at);
                let (number, _) = self.users.remove(user);
                vec![format!("user user{number}@s.example removed")]
            }
            _ => {
                let last = self.rules.len() - 1;
                if last == 0 {
                    return self.edit(0, at);
                }
                let from = at % last;
                self.rules.swap(from, from + 1);
                vec!["moved: now".into()]
            }
        }
    }
}

proptest! {
    /// What is written otherwise and says the same is no difference; and it is read back as stored.
    #[test]
    fn a12_equal_configurations_have_no_difference(model in model()) {
        let (old, new) = (snapshot(&model.text(false)), snapshot(&model.text(true)));
        prop_assert_eq!(old.difference(&new), Vec::<String>::new());
        let stored: Snapshot = serde_json::from_str(&serde_json::to_string(&old).unwrap()).unwrap();
        prop_assert_eq!(stored, new);
    }

    /// One edit is one line, which names it; undone, it is one line again.
    #[test]
    fn a12_any_single_edit_is_named(model in model(), kind in any::<u8>(), at in 0..100_usize) {
        let mut edited = model.clone();
        let names = edited.edit(kind, at);
        let (old, new) = (snapshot(&model.text(false)), snapshot(&edited.text(false)));
        let lines = old.difference(&new);
        prop_assert_eq!(lines.len(), 1, "{:?}", lines);
        for name in &names {
            prop_assert!(lines[0].contains(name), "{} lacks {}", lines[0], name);
        }
        prop_assert_eq!(new.difference(&old).len(), 1);
    }

    /// The fewest elements move: all others keep their order.
    #[test]
    fn moves_are_enough_and_few(places in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let moved = compare::moved(&places);
        let stay: Vec<_> = places.iter().filter(|place| !moved.contains(place)).collect();
        prop_assert!(stay.is_sorted());
        for place in &moved {
            let mut with = places.clone();
            with.retain(|other| other == place || !moved.contains(other));
            prop_assert!(!with.is_sorted(), "{} need not move", place);
        }
    }
}
