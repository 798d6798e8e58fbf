//! Each lint beside near misses that must not warn.
use std::collections::HashMap;

use waypost_config::diagnostics::SourceFile;
use waypost_config::raw;

const HEAD: &str = r#"
[server]
hostname = "mx.solarmora.com"
public_addresses = ["203.0.113.25"]

[[listener]]
name = "mx"
role = "mx"
bind = "192.0.2.25:2525"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
mailbox_route = "r"
# settings

[[organization.user]]
address = "marie@solarmora.com"
org_unit = "/sales/emea"

[[organization.user]]
address = "jean@solarmora.com"

[[organization.group]]
address = "team@solarmora.com"
members = ["marie@solarmora.com"]

[[organization.group]]
address = "empty@solarmora.com"

[[organization.route]]
name = "r"
host = "r.example"

"#;

/// The ids of the warnings on a configuration with these settings and tables, but for unused routes.
fn ids(settings: &str, tables: &str) -> Vec<&'static str> {
    let text = HEAD.replace("# settings", settings) + tables;
    let (config, mut report) = raw::read(SourceFile::new("given", text), Vec::new())
        .unwrap_or_else(|error| panic!("{}", error.report.render(false)));
    let files = HashMap::<String, Vec<u8>>::new();
    let compiled = waypost_config::compile(&config, &files, &mut report);
    assert!(compiled.is_some(), "{}", report.render(false));
    let found = report.diagnostics();
    found.iter().map(|found| found.id).filter(|id| *id != "unused-route").collect()
}

/// A rule of these lines; `then` changes a header unless it is among them.
fn rule(name: &str, lines: &str) -> String {
    let then = match lines.contains("then") {
        true => "",
        false => "then = { modify = { original_to_header = true } }\n",
    };
    format!("[[organization.rule]]\ndescription = \"{name}\"\n{lines}\n{then}\n")
}

#[test]
fn catch_alls_without_a_filter_c7() {
    let catches = "affects = [\"inbound\"]\naccounts = [\"unrecognized\"]\n";
    let route = "then = { modify = { route = \"r\" } }";
    for (domains, lines, warns) in [
        (2, format!("{catches}{route}"), true),
        (
            2,
            format!(
                "{catches}then = {{ modify = {{ replace_recipient = {{ local_part = \"x\" }} }} }}"
            ),
            true,
        ),
        (1, format!("{catches}{route}"), false),
        (
            2,
            format!(
                "{catches}envelope = {{ recipients = [{{ pattern = '@solarmora\\.fr$' }}] }}\n{route}"
            ),
            false,
        ),
        (2, format!("{catches}mode = \"observe\"\n{route}"), false),
        (2, format!("affects = [\"inbound\"]\n{route}"), false),
        (2, format!("affects = [\"outbound\"]\n{route}"), false),
        (2, format!("{catches}then = {{ reject = \"no\" }}"), false),
        (2, catches.to_owned(), false),
    ] {
        let domains =
            if domains == 2 { "\"solarmora.com\", \"solarmora.fr\"" } else { "\"solarmora.com\"" };
        let text = HEAD.replace("domains = [\"solarmora.com\"]", &format!("domains = [{domains}]"));
        let (config, mut report) =
            raw::read(SourceFile::new("given", text + &rule("a", &lines)), Vec::new()).unwrap();
        let files = HashMap::<String, Vec<u8>>::new();
        assert!(waypost_config::compile(&config, &files, &mut report).is_some(), "{lines}");
        let found = report.diagnostics().iter().any(|one| one.id == "catch-all-without-filter");
        assert_eq!(found, warns, "{lines}\n{}", report.render(false));
    }
}

#[test]
fn rules_that_never_match_c4_c5_c8() {
    let senders = |entries: &str| format!("envelope = {{ senders = [{entries}] }}\n");
    let recipients = |entries: &str| format!("envelope = {{ recipients = [{entries}] }}\n");
    let inbound = "affects = [\"inbound\"]\n".to_owned();
    let outbound = "affects = [\"outbound\"]\n".to_owned();
    let (marie, team) =
        ("{ address = \"marie@solarmora.com\" }", "{ address = \"team@solarmora.com\" }");
    let (outside, nobody) =
        ("{ address = \"a@b.example\" }", "{ group = \"empty@solarmora.com\" }");
    let pattern = "{ pattern = 'x' }";
    for (lines, want) in [
        (inbound.clone() + &recipients(marie), ""),
        (inbound.clone() + &recipients(outside), "rule-never-matches"),
        (inbound.clone() + &recipients(&format!("{outside}, {marie}")), "entry-never-matches"),
        (inbound.clone() + &senders(outside), ""),
        (inbound.clone() + &recipients(team), "rule-never-matches"),
        (inbound.clone() + "accounts = [\"groups\"]\n" + &recipients(team), ""),
        (
            inbound.clone() + "accounts = [\"unrecognized\"]\n" + &recipients(marie),
            "rule-never-matches",
        ),
        (inbound.clone() + "org_unit = \"/sales\"\n" + &recipients(marie), ""),
        (
            inbound.clone()
                + "org_unit = \"/sales\"\n"
                + &recipients("{ address = \"jean@solarmora.com\" }"),
            "rule-never-matches",
        ),
        (
            inbound.clone() + "org_unit = \"/sales\"\naccounts = [\"unrecognized\"]\n",
            "rule-never-matches",
        ),
        (inbound.clone() + "org_unit = \"/sales\"\naccounts = [\"unrecognized\", \"users\"]\n", ""),
        (inbound.clone() + "org_unit = \"/elsewhere\"\n", "unit-without-users"),
        (inbound.clone() + "org_unit = \"/sales/emea\"\n", ""),
        (inbound.clone() + "org_unit = \"/declared\"\n", ""),
        (inbound.clone() + "mode = \"off\"\norg_unit = \"/elsewhere\"\n", ""),
        (inbound.clone() + &senders(nobody), "rule-never-matches"),
        (inbound.clone() + &senders(&format!("{nobody}, {pattern}")), "entry-never-matches"),
        (inbound.clone() + &senders("{ group = \"team@solarmora.com\" }"), ""),
        (outbound.clone() + &recipients(outside), ""),
        (outbound.clone() + &recipients(marie), "rule-never-matches"),
        ("affects = [\"inbound\", \"outbound\"]\n".to_owned() + &recipients(marie), ""),
        (outbound.clone() + &senders(team), ""),
        (
            outbound.clone()
                + "org_unit = \"/sales\"\n"
                + &senders("{ address = \"jean@solarmora.com\" }"),
            "rule-never-matches",
        ),
        (
            "affects = [\"internal-sending\"]\n".to_owned() + &recipients(outside),
            "rule-never-matches",
        ),
    ] {
        let declared = "[[organization.org_unit]]\npath = \"/declared/below\"\n";
        let found = ids("", &(rule("a", &lines) + declared));
        assert_eq!(found.join(" "), want, "{lines}");
    }
}

#[test]
fn rules_that_others_shadow_c8() {
    let stop = "stop = true\n";
    let edge = "then = { modify = { route = \"edge\" } }\n";
    let other = "then = { modify = { route = \"other\" } }\n";
    let reject = "then = { reject = \"no\" }\n";
    let from = |entry: &str| format!("envelope = {{ senders = [{entry}] }}\n");
    let partner = from("{ pattern = '@partner\\.example$' }");
    let anne = from("{ address = \"anne@partner.example\" }");
    let both = from("{ address = \"anne@partner.example\" }, { address = \"a@b.example\" }");
    let team = from("{ group = \"team@solarmora.com\" }");
    let marie = from("{ address = \"marie@solarmora.com\" }");
    let inbound = "affects = [\"inbound\"]\n";
    let wide = "affects = [\"inbound\", \"internal-receiving\"]\n";
    for (first, second, want) in [
        (format!("{inbound}{stop}"), format!("{inbound}{anne}"), "shadowed-rule"),
        (inbound.to_owned(), format!("{inbound}{anne}"), ""),
        (format!("{inbound}{stop}mode = \"observe\"\n"), format!("{inbound}{anne}"), ""),
        (format!("{inbound}{stop}"), format!("{wide}{anne}"), ""),
        (format!("{wide}{stop}"), format!("{inbound}{anne}"), "shadowed-rule"),
        (format!("{inbound}{stop}"), format!("{inbound}accounts = [\"users\", \"groups\"]\n"), ""),
        (format!("{inbound}{stop}"), format!("{inbound}mode = \"off\"\n"), ""),
        (format!("{inbound}{stop}"), format!("{inbound}mode = \"observe\"\n"), "shadowed-rule"),
        (format!("{inbound}{stop}{partner}"), format!("{inbound}{anne}"), "shadowed-rule"),
        (format!("{inbound}{stop}{partner}"), format!("{inbound}{both}"), ""),
        (format!("{inbound}{stop}{both}"), format!("{inbound}{anne}"), "shadowed-rule"),
        (format!("{inbound}{stop}{anne}"), format!("{inbound}{both}"), ""),
        (format!("{inbound}{stop}{anne}"), inbound.to_owned(), ""),
        (format!("{inbound}{stop}{team}"), format!("{inbound}{marie}"), "shadowed-rule"),
        (format!("{inbound}{stop}{team}"), format!("{inbound}{anne}"), ""),
        // Nearer units come first, so the root's rule stops nothing there.
        (format!("{inbound}{stop}"), format!("{inbound}org_unit = \"/sales\"\n"), ""),
        (format!("{inbound}org_unit = \"/sales\"\n{stop}"), inbound.to_owned(), ""),
        // What rejects does so from behind, and from above.
        (format!("{inbound}{reject}"), format!("{inbound}{anne}"), "shadowed-rule"),
        (format!("{inbound}{anne}"), format!("{inbound}{reject}"), "shadowed-rule"),
        (format!("{inbound}{stop}{anne}"), format!("{inbound}{reject}"), ""),
        (
            format!("{inbound}{reject}"),
            format!("{inbound}org_unit = \"/sales\"\n"),
            "shadowed-rule",
        ),
        (format!("{inbound}org_unit = \"/sales\"\n{reject}"), inbound.to_owned(), ""),
        (format!("{inbound}{reject}"), format!("{inbound}{anne}mode = \"observe\"\n"), ""),
        (format!("{inbound}{anne}{reject}"), format!("{inbound}{reject}"), ""),
        // Of single-valued parts the first wins.
        (format!("{inbound}{edge}"), format!("{inbound}{anne}{other}"), "part-always-loses"),
        (format!("{inbound}{edge}"), format!("{inbound}{anne}{edge}"), ""),
        (format!("{inbound}{anne}{edge}"), format!("{inbound}{other}"), ""),
        (format!("{inbound}{edge}"), format!("{inbound}org_unit = \"/sales\"\n{other}"), ""),
        (
            format!(
                "{inbound}then = {{ modify = {{ replace_recipient = {{ local_part = \"a\" }} }} }}"
            ),
            format!(
                "{inbound}then = {{ modify = {{ replace_recipient = {{ local_part = \"b\" }} }} }}"
            ),
            "part-always-loses",
        ),
    ] {
        let routes = "[[organization.route]]\nname = \"edge\"\nhost = \"e.example\"\n\
                      [[organization.route]]\nname = \"other\"\nhost = \"o.example\"\n";
        let found = ids("", &(rule("a", &first) + &rule("b", &second) + routes));
        assert_eq!(found.join(" "), want, "{first}--\n{second}");
    }
    // A unit that switches the first rule off has the second one.
    let off = "[[organization.org_unit]]\npath = \"/sales\"\ndisabled_rules = [\"a\"]\n";
    let first = rule("a", &format!("{inbound}{stop}"));
    assert_eq!(ids("", &(first + &rule("b", inbound) + off)), [""; 0]);
}

#[test]
fn routes_that_lead_back_o3() {
    for (route, warns) in [
        ("host = \"mx.solarmora.com\"", true),
        ("host = \"mx.solarmora.com\"\nport = 2525", true),
        ("host = \"mx.solarmora.com\"\nport = 2526", false),
        ("host = \"mx2.solarmora.com\"", false),
        ("host = \"192.0.2.25\"\nport = 2525\nverify_hostname = false", true),
        ("host = \"192.0.2.25\"\nport = 2526\nverify_hostname = false", false),
        ("host = \"::ffff:192.0.2.25\"\nport = 2525\nverify_hostname = false", true),
        ("host = \"203.0.113.25\"\nverify_hostname = false", true),
        ("host = \"203.0.113.25\"\nport = 2600\nverify_hostname = false", false),
        ("host = \"127.0.0.1\"\nport = 2525\nverify_hostname = false", false),
        ("host = \"solarmora.com\"\nmx_lookup = true", true),
        ("host = \"solarmora.com\"", false),
        ("host = \"partner.example\"\nmx_lookup = true", false),
    ] {
        let found = ids("", &format!("[[organization.route]]\nname = \"x\"\n{route}\n"));
        let found: Vec<_> = found.iter().filter(|id| **id == "route-points-back").collect();
        assert_eq!(!found.is_empty(), warns, "{route}");
    }
    for (gateway, warns) in [("mx.solarmora.com", true), ("smart.example", false)] {
        let found = ids(&format!("outbound_gateway = \"{gateway}\""), "");
        assert_eq!(found.contains(&"route-points-back"), warns, "{gateway}");
    }
}

#[test]
fn split_deliveries_to_the_first_system_c7() {
    let splits = |route: &str| {
        rule(
            "split",
            &format!(
                "affects = [\"inbound\"]\naccounts = [\"unrecognized\"]\nthen = {{ modify = {{ route = \"{route}\" }} }}"
            ),
        )
    };
    let second = |host: &str| format!("[[organization.route]]\nname = \"s\"\nhost = \"{host}\"\n");
    for (settings, route, host, warns) in [
        ("", "s", "r.example", true),
        ("", "s", "s.example", false),
        // Whoever names the mailbox system itself means it.
        ("", "r", "s.example", false),
        ("outbound_gateway = \"s.example\"", "s", "s.example", true),
        ("outbound_gateway = \"s.example:587\"", "s", "s.example", false),
    ] {
        let found = ids(settings, &(splits(route) + &second(host)));
        assert_eq!(found.contains(&"split-delivery-circle"), warns, "{settings} {route} {host}");
    }
}

#[test]
fn patterns_that_match_more_than_they_seem_to_c5() {
    for (pattern, want) in [
        (r"@partner\.example$", ""),
        (r"@partner\.example\z", ""),
        (r"@partner\.example", "pattern-not-anchored"),
        (r"@partner.example$", "pattern-any-character"),
        (r"@partner.example", "pattern-any-character pattern-not-anchored"),
        (r"@(a|b)\.example", ""),
        (r"@.*\.example$", ""),
        (r"^postmaster@", ""),
        (r"@partner", ""),
        (r"newsletter", ""),
        (r"^$", ""),
        (r"^$|@trap\.example$", ""),
        (r".*", "pattern-matches-empty"),
        (r".+", ""),
        (r"^(a@b\.example)?$", "pattern-matches-empty"),
    ] {
        let lines = format!(
            "affects = [\"inbound\"]\nenvelope = {{ senders = [{{ pattern = '{pattern}' }}] }}"
        );
        assert_eq!(ids("", &rule("a", &lines)).join(" "), want, "{pattern}");
    }
    // Recipients of ours end in our domains anyway.
    for (affects, want) in [("inbound", ""), ("outbound", "pattern-not-anchored")] {
        let lines = format!(
            "affects = [\"{affects}\"]\nenvelope = {{ recipients = [{{ pattern = '@partner\\.example' }}] }}"
        );
        assert_eq!(ids("", &rule("a", &lines)).join(" "), want, "{affects}");
    }
}

#[test]
fn deliveries_that_surprise_c6_o8() {
    let copies =
        |list: &str| format!("affects = [\"inbound\"]\nthen = {{ modify = {{ {list} }} }}");
    for (lines, want) in [
        (copies("also_deliver_to = [{ route = \"edge\" }]"), ""),
        (
            copies("also_deliver_to = [{ route = \"edge\" }, { route = \"edge\" }]"),
            "duplicate-copy",
        ),
        (
            copies(
                "also_deliver_to = [{ route = \"edge\" }, { route = \"edge\", subject_prefix = \"[C]\" }]",
            ),
            "",
        ),
        (
            copies(
                "also_deliver_to = [{ route = \"edge\" }, { route = \"edge\", require_tls = true }]",
            ),
            "duplicate-copy",
        ),
        (copies("also_deliver_to = [{ route = \"r\" }]"), "copy-to-itself"),
        (copies("also_deliver_to = [{ subject_prefix = \"[C]\" }]"), "copy-to-itself"),
        (copies("also_deliver_to = [{ address = \"jean@solarmora.com\" }]"), ""),
        (copies("route = \"edge\", also_deliver_to = [{}]"), ""),
        (copies("route = \"edge\", also_deliver_to = [{ route = \"edge\" }]"), "copy-to-itself"),
        (copies("replace_recipient = { local_part = \"x\" }, also_deliver_to = [{}]"), ""),
        (copies("suppress_bounces = true"), "loses-mail-silently"),
        (copies("also_deliver_to = [{ route = \"edge\", suppress_bounces = true }]"), ""),
        (
            format!(
                "{}\nenvelope = {{ senders = [{{ address = \"bot@b.example\" }}] }}",
                copies("suppress_bounces = true")
            ),
            "",
        ),
        ("affects = [\"inbound\"]\nthen = { quarantine = \"q\" }".to_owned(), ""),
        (
            "affects = [\"outbound\"]\nthen = { quarantine = \"q\" }".to_owned(),
            "quarantine-outgoing",
        ),
        ("affects = [\"outbound\"]\nthen = { reject = \"no\" }".to_owned(), ""),
    ] {
        let edge = "[[organization.route]]\nname = \"edge\"\nhost = \"e.example\"\n";
        assert_eq!(ids("", &(rule("a", &lines) + edge)).join(" "), want, "{lines}");
    }
}

#[test]
fn many_rules_are_looked_at_in_bounded_time() {
    // Each covers none of the others, and each could cover all: with all pairs this would take minutes.
    let mut text = String::new();
    for number in 0..3000 {
        let lines = format!(
            "affects = [\"inbound\"]\nstop = true\nenvelope = {{ senders = [{{ address = \"a@b.example\" }}, {{ pattern = 'x{number}y$' }}], recipients = [{{ pattern = '^{number}@' }}] }}"
        );
        text.push_str(&rule(&format!("r{number}"), &lines));
    }
    assert_eq!(ids("", &text), [""; 0]);
}
