//! What the directory answers, and a naive model beside it.

use proptest::prelude::*;

use super::*;
use crate::diagnostics::SourceFile;
use crate::raw;

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn build(text: &str) -> (StaticDirectory, Report) {
    let mut report = Report::default();
    let raw = raw::read_directory(SourceFile::new("directory.toml", text), &mut report).unwrap();
    let domains = ["solarmora.com", "solarmora.fr"].map(|domain| domain.parse().unwrap());
    let directory =
        StaticDirectory::build(&domains, raw.user.iter(), raw.group.iter(), &mut report);
    (directory, report)
}

const SAMPLE: &str = r#"
user = [
  { address = "Marie@solarmora.com", aliases = ["m.paul@solarmora.com", "marie@solarmora.fr"],
    org_unit = "/Sales", password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", limits = { messages_per_user_per_day = 5 } },
  { address = "gone@solarmora.com", active = false, password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" },
  { address = "paul@solarmora.com" },
]
group = [
  { address = "all@solarmora.com", members = ["team@solarmora.com", "paul@solarmora.com", "x@elsewhere.example"] },
  { address = "team@solarmora.com", members = ["M.Paul@solarmora.com", "gone@solarmora.com"] },
]
"#;

#[test]
fn accounts_c4_c8() {
    let (directory, report) = build(SAMPLE);
    assert_eq!(report.diagnostics().len(), 0, "{}", report.render(false));
    for (address, want) in [
        ("marie@solarmora.com", "user Marie@solarmora.com /sales"),
        ("M.PAUL@solarmora.com", "user Marie@solarmora.com /sales"),
        ("marie@solarmora.fr", "user Marie@solarmora.com /sales"),
        ("paul@solarmora.com", "user paul@solarmora.com /"),
        ("paul@solarmora.fr", "nobody"),
        ("gone@solarmora.com", "nobody"),
        ("marie+tag@solarmora.com", "nobody"),
        ("x@elsewhere.example", "nobody"),
        ("TEAM@solarmora.com", "group team@solarmora.com"),
    ] {
        let got = match directory.account(&mailbox(address)).unwrap() {
            Account::User(user) => format!("user {} {}", user.address, user.org_unit),
            Account::Group { address } => format!("group {address}"),
            Account::Unrecognized => "nobody".into(),
        };
        assert_eq!(got, want, "{address}");
    }
    assert!(directory.is_inactive(&mailbox("gone@solarmora.com")));
    assert!(directory.password_hash(&mailbox("m.paul@solarmora.com")).is_some());
    assert!(directory.password_hash(&mailbox("gone@solarmora.com")).is_none(), "D6: inactive");
    let limits = directory.limits(&mailbox("m.paul@solarmora.com")).unwrap();
    assert_eq!(limits.messages_per_user_per_day, Some(5));
    assert_eq!(directory.active_users().count(), 2);
}

#[test]
fn membership_is_transitive_and_by_alias_c5() {
    let (directory, _) = build(SAMPLE);
    for (address, group, want) in [
        ("marie@solarmora.com", "team@solarmora.com", true),
        ("marie@solarmora.fr", "all@solarmora.com", true),
        ("paul@solarmora.com", "all@solarmora.com", true),
        ("paul@solarmora.com", "team@solarmora.com", false),
        ("X@elsewhere.example", "all@solarmora.com", true),
        ("team@solarmora.com", "all@solarmora.com", true),
        ("all@solarmora.com", "team@solarmora.com", false),
        ("marie@solarmora.com", "paul@solarmora.com", false),
        ("marie@solarmora.com", "none@solarmora.com", false),
    ] {
        let got = directory.is_member(&mailbox(address), &mailbox(group)).unwrap();
        assert_eq!(got, want, "{address} in {group}");
    }
    let mut members = directory.members(&mailbox("all@solarmora.com")).unwrap();
    members.sort();
    let members: Vec<_> = members.iter().map(Mailbox::to_string).collect();
    // Not gone@solarmora.com, who is switched off (C8).
    assert_eq!(members, ["x@elsewhere.example", "Marie@solarmora.com", "paul@solarmora.com"]);
    assert_eq!(directory.members(&mailbox("marie@solarmora.com")).unwrap(), []);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, want) in [
        (r#"user = [{ address = "a@elsewhere.example" }]"#, "foreign-address"),
        (r#"user = [{ address = "a@sub.solarmora.com" }]"#, "foreign-address"),
        (r#"user = [{ address = "a@[192.0.2.1]" }]"#, "foreign-address"),
        (
            r#"user = [{ address = "a@solarmora.com", aliases = ["a@b.example"] }]"#,
            "foreign-address",
        ),
        (r#"group = [{ address = "a@b.example" }]"#, "foreign-address"),
        (
            r#"user = [{ address = "a@solarmora.com" }, { address = "A@solarmora.com" }]"#,
            "duplicate-address",
        ),
        (
            r#"user = [{ address = "a@solarmora.com", aliases = ["a@solarmora.com"] }]"#,
            "duplicate-address",
        ),
        (
            "user = [{ address = \"a@solarmora.com\" }]\ngroup = [{ address = \"a@solarmora.com\" }]",
            "duplicate-address",
        ),
        (
            r#"group = [{ address = "a@solarmora.com", members = ["a@solarmora.com"] }]"#,
            "group-cycle",
        ),
        (
            r#"group = [{ address = "a@solarmora.com", members = ["b@solarmora.com"] }, { address = "b@solarmora.com", members = ["c@solarmora.com"] }, { address = "c@solarmora.com", members = ["b@solarmora.com"] }]"#,
            "group-cycle",
        ),
        (
            r#"group = [{ address = "a@solarmora.com", members = ["b@solarmora.com"] }]"#,
            "unknown-member",
        ),
    ] {
        let (_, report) = build(text);
        let ids: Vec<_> = report.diagnostics().iter().map(|found| found.id).collect();
        assert_eq!(ids, [want], "{text}\n{}", report.render(false));
    }
    let (_, report) = build(
        r#"group = [{ address = "a@solarmora.com", members = ["b@solarmora.com"] }, { address = "b@solarmora.com", members = ["a@solarmora.com"] }]"#,
    );
    assert!(report.render(false).contains(
        "`a@solarmora.com` has the member `b@solarmora.com` has the member `a@solarmora.com`"
    ));
}

#[test]
fn groups_of_an_address_by_any_of_its_names_c5() {
    let (directory, _) = build(SAMPLE);
    for (address, want) in [
        ("MARIE@solarmora.com", "all@solarmora.com team@solarmora.com"),
        ("m.paul@solarmora.com", "all@solarmora.com team@solarmora.com"),
        ("gone@solarmora.com", "all@solarmora.com team@solarmora.com"),
        ("team@solarmora.com", "all@solarmora.com"),
        ("x@elsewhere.example", "all@solarmora.com"),
        ("y@elsewhere.example", ""),
    ] {
        let mut told = Vec::new();
        let each = &mut |group: &Mailbox| told.push(group.to_string());
        directory.for_each_group(&mailbox(address), each).unwrap();
        assert_eq!(told.join(" "), want, "{address}");
    }
}

#[test]
fn a_chain_of_groups_needs_no_stack() {
    let groups: Vec<_> = (0..5_000)
        .map(|n| {
            format!(
                "{{ address = \"g{n}@solarmora.com\", members = [\"g{}@solarmora.com\"] }}",
                n + 1
            )
        })
        .collect();
    let (directory, report) = build(&format!("group = [{}]", groups.join(",\n")));
    assert!(!report.has_errors());
    let (first, last) = (mailbox("g0@solarmora.com"), mailbox("g4999@solarmora.com"));
    assert!(directory.is_member(&last, &first).unwrap());
}

proptest! {
    /// Membership is what following the members one by one finds, however groups are nested.
    #[test]
    fn membership_agrees_with_a_naive_walk(
        lists in proptest::collection::vec(proptest::collection::vec(0_usize..12, 0..4), 1..8)
    ) {
        let name = |n: usize| format!("n{n}@solarmora.com");
        let mut text = String::new();
        for (group, list) in lists.iter().enumerate() {
            let members: Vec<_> = list.iter().map(|n| format!("\"{}\"", name(*n))).collect();
            text += &format!(
                "[[group]]\naddress = \"{}\"\nmembers = [{}]\n", name(group), members.join(",")
            );
        }
        for user in lists.len()..12 {
            text += &format!("[[user]]\naddress = \"{}\"\n", name(user));
        }
        let reach = |from: usize| {
            let mut found = std::collections::BTreeSet::new();
            let mut todo = vec![from];
            while let Some(next) = todo.pop() {
                for member in lists.get(next).into_iter().flatten() {
                    if found.insert(*member) {
                        todo.push(*member);
                    }
                }
            }
            found
        };
        let (directory, report) = build(&text);
        let cyclic = (0..lists.len()).any(|group| reach(group).contains(&group));
        prop_assert_eq!(report.has_errors(), cyclic);
        if !cyclic {
            for group in 0..lists.len() {
                for other in 0..12 {
                    let got = directory.is_member(&mailbox(&name(other)), &mailbox(&name(group)));
                    prop_assert_eq!(got.unwrap(), reach(group).contains(&other));
                }
            }
            for other in 0..12 {
                let mut told = Vec::new();
                let each = &mut |group: &Mailbox| told.push(group.to_string());
                directory.for_each_group(&mailbox(&name(other)), each).unwrap();
                let holds = (0..lists.len()).filter(|group| reach(*group).contains(&other));
                let mut wanted: Vec<_> = holds.map(name).collect();
                told.sort();
                wanted.sort();
                prop_assert_eq!(told, wanted);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_users_in_one_group() {
    let users: String =
        (0..100_000).map(|n| format!("[[user]]\naddress = \"u{n}@solarmora.com\"\n")).collect();
    let members: Vec<_> = (0..100_000).map(|n| format!("\"u{n}@solarmora.com\"")).collect();
    let group =
        format!("[[group]]\naddress = \"all@solarmora.com\"\nmembers = [{}]\n", members.join(", "));
    let (directory, report) = build(&(users + &group));
    assert_eq!(report.diagnostics().len(), 0);
    let (last, all) = (mailbox("U99999@solarmora.com"), mailbox("all@solarmora.com"));
    assert!(directory.is_member(&last, &all).unwrap());
    assert_eq!(directory.active_users().count(), 100_000);
}
