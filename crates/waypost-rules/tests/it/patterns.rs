//! Patterns as a set of rules finds them, beside `regex` asked one by one: whatever the pattern and the
//! address, both say the same (C5).

use proptest::prelude::*;
use regex::RegexBuilder;
use waypost_rules::*;
use waypost_types::*;

struct Nobody;

impl Directory for Nobody {
    fn account(&self, _: &Mailbox) -> Result<Account, Unavailable> {
        Ok(Account::Unrecognized)
    }

    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> {
        panic!("no rule asks for a group")
    }

    fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> {
        panic!("no rule asks for a group")
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }
}

/// A rule for a sender's pattern, and one that is found by its recipient and asks the pattern then.
fn rules(patterns: &[String]) -> Option<RuleSet> {
    let mut rules = Vec::new();
    for (place, source) in patterns.iter().enumerate() {
        let pattern = Pattern::new(source).ok()?;
        let mut rule =
            Rule::new(&place.to_string(), Directions::INBOUND, Action::Modify(Box::default()));
        rule.accounts = AccountKinds::ALL;
        rule.envelope.senders.push(AddressMatch::Pattern(pattern));
        rules.push(rule.clone());
        rule.description = format!("{place} late").into();
        let recipient = AddressMatch::Address("to@there.example".parse().unwrap());
        rule.envelope.recipients.push(recipient);
        rules.push(rule);
    }
    Some(RuleSet::compile(rules, Vec::new()))
}

fn found(rules: &RuleSet, sender: &ReversePath) -> Vec<String> {
    let recipient = "to@there.example".parse().unwrap();
    let subject = Subject::unrecognized();
    let question =
        Question { direction: Direction::Inbound, subject, sender, recipient: &recipient };
    let walk = rules.walk(&question, &Nobody).unwrap();
    let reports = rules.reports(&question, &Nobody, usize::MAX).unwrap();
    let names = |rules: &[&Rule]| -> Vec<String> {
        rules.iter().map(|rule| rule.description.to_string()).collect()
    };
    let told: Vec<String> = reports
        .listed
        .iter()
        .filter(|report| report.failed.is_none())
        .map(|report| report.rule.to_string())
        .collect();
    assert_eq!(names(&walk.matched), told);
    told
}

fn one_by_one(patterns: &[String], sender: &ReversePath) -> Vec<String> {
    let text = sender.to_string();
    let mut found = Vec::new();
    for (place, source) in patterns.iter().enumerate() {
        let regex = RegexBuilder::new(source).case_insensitive(true).build().unwrap();
        if regex.is_match(&text) {
            found.extend([place.to_string(), format!("{place} late")]);
        }
    }
    found
}

fn check(patterns: &[String], addresses: &[ReversePath]) {
    let Some(rules) = rules(patterns) else { return };
    for sender in addresses {
        assert_eq!(found(&rules, sender), one_by_one(patterns, sender), "{patterns:?} {sender:?}");
    }
}

const ADDRESSES: [&str; 24] = [
    "",
    "a@b.example",
    "A@B.example",
    "ab@b.example",
    "a@sub.b.example",
    "a@xb.example",
    "a.b@b.example",
    "a1@b.example",
    "sk@sk.example",
    "SK@ks.example",
    "\u{17f}\u{212a}@ks.example",
    "\u{17f}@b.example",
    "\u{212a}1@sk.example",
    "é@b.example",
    "É@b.example",
    "\u{664}@b.example",
    "aé1@sub.sk.example",
    "\"a@b.example\"@b.example",
    "\"a b\"@b.example",
    "\"@\"@b.example",
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "b-1@b.b.b.example",
    "k.example@a.example",
];

fn addresses() -> Vec<ReversePath> {
    ADDRESSES.iter().map(|one| one.parse().unwrap()).collect()
}

#[test]
fn patterns_as_people_write_them_c5() {
    let patterns = [
        r"@b\.example$",
        r"@B\.Example$",
        r"^a@b\.example$",
        r"\.example$",
        r"b\.example$",
        r"[@.]b\.example$",
        r"(^|@|\.)b\.example$",
        r"^.*@b\.example$",
        r"^.+@b\.example$",
        r".+@b\.example$",
        r"^[^@]+@b\.example$",
        r"^[a-z]+@b\.example$",
        r"^\w+@",
        r"^\d+@",
        r"\d@",
        r"^\pL+@",
        r"^(a|b|\u{e9})@",
        r"^(a|ab)@(b|sub\.b)\.example$",
        r"^a@b\.example$|^sk@sk\.example$",
        r"@b\.example$|@sk\.example$",
        r"^s",
        r"sk",
        r"^\u{212a}",
        r"",
        r"^",
        r"$",
        r"^$",
        r"^^$$",
        r".",
        r".*",
        r"^.*$",
        r"^.+$",
        r"^.+a",
        r"a.+$",
        r"^.*^a",
        r"a$.*",
        r"(?-i)^SK@",
        r"(?-i:S)k@",
        r"(?-u)^s",
        r"(?-u:\bk)",
        r"\w(?-u:\b)k",
        r"\w(?-u:\B)k",
        r"\bk",
        r"\Bk",
        r"\b.\b",
        r"(?m)^a",
        r"(?s).b",
        r"(?x) a @ b",
        r"[^a]@",
        r"[^@]@b",
        r"[[:upper:]]",
        r"(?-i)[[:upper:]]",
        r"[\x00-\x{10ffff}]@",
        r"[k-s]{2}@",
        r"a{0}b",
        r"a{2,3}|x",
        r"[a&&b]",
        r"^[a&&b]$|^$",
        r"\.1\]$",
        r"@\[IPv6:",
        r"ipv6",
        r"^.{20,}$",
        r"^.{1}@",
        r"\A.@.+\z",
        r"^(?:a|.*)@b\.example$",
    ]
    .map(str::to_owned);
    // Each alone, all together.
    for pattern in &patterns {
        check(std::slice::from_ref(pattern), &addresses());
    }
    check(&patterns, &addresses());
}

/// A piece of a pattern; few characters, so that addresses match now and then.
fn piece() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => prop::sample::select(&["a", "b", "k", "s", "S", "K", "1", "-", "@", r"\.", "example", r"\.example"][..]),
        3 => prop::sample::select(&[".", r"\w", r"\d", "[a-c]", "[^@]", "[sk]", "[@.]", r"\S", r"\pL", "é", "ſ", "\u{212a}"][..]),
        1 => prop::sample::select(&["^", "$", r"\b", r"\B", "(?-u:\\b)", "(?-i:k)", "(?-i:S)"][..]),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..5).prop_map(|all| all.concat()),
            1 => prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("(?:{})", all.join("|"))),
            1 => (inner, prop::sample::select(&["*", "+", "?", "{2}", "{0,2}", "*?"][..]))
                .prop_map(|(inner, times)| format!("(?:{inner}){times}")),
        ]
    })
}

fn pattern() -> impl Strategy<Value = String> {
    (
        prop::sample::select(&["", "^", "^.*", "^.+", "@"][..]),
        piece(),
        prop::sample::select(&["", "$", ".*$", r"\.example$"][..]),
    )
        .prop_map(|(start, middle, end)| format!("{start}{middle}{end}"))
}

fn address() -> impl Strategy<Value = ReversePath> {
    let known = prop::sample::select(&ADDRESSES[..]).prop_map(str::to_owned);
    let made = ("[abksSK1éſ\u{212a}-]{1,4}", "[abks1]{1,3}(\\.[abks]{1,2}){0,2}")
        .prop_map(|(local, domain)| format!("{local}@{domain}.example"));
    prop_oneof![known, made].prop_filter_map("no address", |text| text.parse().ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_set_says_what_each_pattern_says_c5(
        patterns in prop::collection::vec(pattern(), 1..6),
        addresses in prop::collection::vec(address(), 1..6),
    ) {
        check(&patterns, &addresses);
    }
}

/// Many patterns that need the same text, or none: they are asked together, in several sets.
#[test]
fn hundreds_of_patterns_without_a_text_of_their_own_c5() {
    let patterns: Vec<String> = (0..300)
        .map(|i| match i % 3 {
            0 => format!("^[a-z]{{{}}}@b", i % 7),
            1 => format!("^.{{{},{}}}$", i % 11, i % 17 + 8),
            _ => format!("^[abk{}]+@[a-z.]+$", i % 10),
        })
        .collect();
    check(&patterns, &addresses());
}

#[test]
fn what_is_no_pattern_is_refused_c5() {
    for (source, wanted) in [
        ("(", "unclosed group"),
        (r"(?-u)\xff", "C5"),
        (r"\w{1000}", "1 MiB"),
        ("(?:[a-z]{1000}){1000}", "1 MiB"),
    ] {
        let error = Pattern::new(source).unwrap_err().to_string();
        assert!(error.contains(wanted), "{source}: {error}");
    }
}
