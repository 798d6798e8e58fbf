//! What tables say of keys, one line a case; and which settings they cannot follow.

use std::collections::HashMap;

use super::*;
use crate::diagnostics::SourceFile;
use crate::raw;

const TEXT: &str = r#"
[server]
hostname = "mx.solarmora.com"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com", "solarmora.fr"]
licences = 250
mailbox_route = "mailboxes"
outbound_gateway = "smarthost.example:587"
[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.com"]
[[organization.user]]
address = "boss@solarmora.com"
[[organization.group]]
address = "team@solarmora.com"
members = ["marie@solarmora.com"]
[[organization.route]]
name = "mailboxes"
host = "127.0.0.1"
port = 24
protocol = "lmtp"
require_tls = false
[[organization.route]]
name = "exchange"
host = "exchange.corp.example"
[[organization.route]]
name = "edge"
primary = [{ host = "a.example", port = 25, load = 60 }, { host = "b.example", port = 25, load = 40 }]
secondary = [{ host = "dr.example", port = 25, load = 100 }]
require_ca_signed = false
verify_hostname = false
[[organization.rule]]
description = "Split delivery"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = { recipients = [{ pattern = '@solarmora\.com$' }] }
then = { modify = { route = "exchange" } }
[[organization.rule]]
description = "No mail for noreply"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = { recipients = [{ address = "noreply@solarmora.fr" }] }
then = { reject = "Nobody reads this" }
[[organization.rule]]
description = "Sales to the edge"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = { recipients = [{ pattern = '^sales.*@solarmora\.fr$' }] }
then = { modify = { route = "edge" } }
[[organization.rule]]
description = "The old office"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = { recipients = [{ address = "office@solarmora.fr" }] }
then = { modify = { replace_recipient = { address = "marie@solarmora.com" } } }
[[organization.rule]]
description = "Copies for the archive"
affects = ["inbound", "internal-receiving"]
envelope = { recipients = [{ address = "boss@solarmora.com" }] }
then = { modify = { also_deliver_to = [{ address = "archive@elsewhere.example" }, { route = "edge" }] } }
[[organization.rule]]
description = "Partners by the edge"
affects = ["outbound"]
envelope = { recipients = [{ pattern = '@partner\.example$' }] }
then = { modify = { route = "exchange" } }
"#;

fn policy(text: &str) -> Policy {
    let (config, mut report) = raw::read(SourceFile::new("given", text), Vec::new()).unwrap();
    let files = HashMap::<String, Vec<u8>>::new();
    let compiled = crate::compile(&config, &files, &mut report);
    compiled.unwrap_or_else(|| panic!("{}", report.render(false))).into_policy("1")
}

fn shown(looked: Looked) -> String {
    match looked {
        Looked::Found(value) => value,
        Looked::NotFound => "-".to_owned(),
        Looked::Unavailable(because) => format!("later: {because}"),
    }
}

#[test]
fn what_the_tables_say_a3_b1_b2_c6_c7() {
    let policy = policy(TEXT);
    let tables = Tables::new(&policy, [7; 16]);
    let exchange = "smtp:[exchange.corp.example]:25";
    for (table, key, want) in [
        ("transport", "marie@solarmora.com", "lmtp:inet:[127.0.0.1]:24"),
        ("transport", "M.PAUL@solarmora.com", "lmtp:inet:[127.0.0.1]:24"),
        ("transport", "team@solarmora.com", "lmtp:inet:[127.0.0.1]:24"),
        ("transport", "stranger@solarmora.com", exchange),
        ("transport", "stranger@solarmora.fr", "-"),
        ("transport", "noreply@solarmora.fr", "error:5.7.1 Nobody reads this"),
        ("transport", "office@solarmora.fr", "lmtp:inet:[127.0.0.1]:24"),
        ("transport", "x@elsewhere.example", "smtp:[smarthost.example]:587"),
        ("transport", "x@partner.example", exchange),
        ("transport", "x@sub.solarmora.com", "smtp:[smarthost.example]:587"),
        ("transport", "solarmora.com", "-"),
        ("transport", "@solarmora.com", "-"),
        ("transport", "", "-"),
        ("transport", "*", "-"),
        ("senders", "marie@solarmora.com", "smtp:[smarthost.example]:587"),
        ("senders", "app@sub.solarmora.fr", "smtp:[smarthost.example]:587"),
        ("senders", "<>", "smtp:[smarthost.example]:587"),
        ("senders", "x@elsewhere.example", "-"),
        ("recipients", "marie@solarmora.com", "OK"),
        ("recipients", "m.paul@solarmora.com", "OK"),
        ("recipients", "stranger@solarmora.com", "OK"),
        ("recipients", "stranger@solarmora.fr", "-"),
        ("recipients", "noreply@solarmora.fr", "OK"),
        ("recipients", "x@elsewhere.example", "-"),
        ("recipients", "@solarmora.com", "-"),
        ("domains", "SolarMora.fr", "OK"),
        ("domains", "sub.solarmora.fr", "-"),
        ("domains", "elsewhere.example", "-"),
        ("aliases", "marie@solarmora.com", "-"),
        ("aliases", "office@solarmora.fr", "marie@solarmora.com"),
        ("aliases", "boss@solarmora.com", "boss@solarmora.com, archive@elsewhere.example"),
        ("aliases", "stranger@solarmora.fr", "-"),
        ("aliases", "x@elsewhere.example", "-"),
        ("tls", "[exchange.corp.example]:25", "secure match=nexthop"),
        ("tls", "[a.example]:25", "encrypt"),
        ("tls", "inet:[127.0.0.1]:24", "may"),
        ("tls", "[smarthost.example]:587", "may"),
        ("tls", "a.example:25", "-"),
    ] {
        let got = shown(tables.look_up(table.parse().unwrap(), key));
        assert_eq!(got, want, "{table} {key}");
    }
}

#[test]
fn hosts_are_drawn_by_address_a3_a9() {
    let policy = policy(TEXT);
    let tables = Tables::new(&policy, [7; 16]);
    let mut first = [0, 0];
    for n in 0..1000 {
        let key = format!("sales{n}@solarmora.fr");
        let got = shown(tables.look_up(Table::Transport, &key));
        assert_eq!(got, shown(tables.look_up(Table::Transport, &key.to_uppercase())));
        let host = usize::from(got.starts_with("smtp:[b.example]"));
        first[host] += 1;
        assert!(got.ends_with(",[dr.example]:25"), "the secondary host is last: {got}");
        assert_eq!(got.matches("example]:25").count(), 3, "{got}");
    }
    assert!((550..650).contains(&first[0]), "{first:?}, and 60 % is the load");
}

#[test]
fn a_group_of_a_maildir_becomes_its_members() {
    let text = TEXT.replace("mailbox_route = \"mailboxes\"\n", "");
    let policy = policy(&text);
    let tables = Tables::new(&policy, [7; 16]);
    assert_eq!(shown(tables.look_up(Table::Aliases, "team@solarmora.com")), "marie@solarmora.com");
    assert_eq!(shown(tables.look_up(Table::Transport, "marie@solarmora.com")), "-");
}

#[test]
fn organizations_that_disagree_are_told_apart_by_sender_b1() {
    let second = "[[organization]]\nname = \"Other\"\ndomains = [\"other.example\"]\nlicences = 1\n\
                  outbound_gateway = \"gw.other.example\"\n";
    let policy = policy(&format!("{TEXT}{second}"));
    let tables = Tables::new(&policy, [7; 16]);
    for (table, key, want) in [
        (Table::Transport, "x@elsewhere.example", "-"),
        (Table::Senders, "a@other.example", "smtp:[gw.other.example]:25"),
        (Table::Senders, "marie@solarmora.com", "smtp:[smarthost.example]:587"),
        (Table::Senders, "<>", "-"),
    ] {
        assert_eq!(shown(tables.look_up(table, key)), want, "{table} {key}");
    }
}

#[test]
fn every_setting_that_does_not_fit_is_named_with_its_reason() {
    let more = r#"
[[organization.rule]]
description = "By sender"
affects = ["inbound"]
envelope = { senders = [{ address = "a@b.example" }] }
then = { modify = { subject_prefix = "[EXT] ", add_headers = [{ name = "X-A", value = "b" }] } }
[[organization.rule]]
description = "Only observed"
affects = ["inbound"]
mode = "observe"
then = { quarantine = "q" }
[[organization.rule]]
description = "Kept"
affects = ["inbound"]
accounts = ["groups"]
then = { quarantine = "q" }
[[organization.relay]]
description = "Anybody"
allowed_senders = "any"
addresses = [{ range = "203.0.113.0/28" }]
require_tls = true
"#;
    let policy = policy(&format!("{TEXT}{more}"));
    let found: Vec<String> = limits(&policy)
        .into_iter()
        .map(|one| {
            let words: Vec<&str> = one.because.split(' ').take(3).collect();
            format!("{} {}: {}", one.kind, one.name, words.join(" "))
        })
        .collect();
    for want in [
        "route exchange: on_tls_failure: Postfix lets",
        "route edge: on_tls_failure: Postfix lets",
        "rule The old office: replace_recipient: the table",
        "rule Copies for the archive: also_deliver_to: the table",
        "rule Partners by the edge: outbound with recipients:",
        "rule By sender: it asks for",
        "rule By sender: the From: field",
        "rule By sender: header lines are",
        "rule By sender: subject_prefix: the message",
        "rule Kept: it keeps mail",
        "relay Anybody: policy delegation cannot",
    ] {
        assert!(found.iter().any(|one| one == want), "{want} is not in {found:#?}");
    }
    for fits in ["Split delivery", "No mail for noreply", "Sales to the edge", "Only observed"] {
        assert!(!found.iter().any(|one| one.contains(fits)), "{fits} is in {found:#?}");
    }
}
