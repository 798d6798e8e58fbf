//! The explanation for people: does it answer "why did this go there?" (C9). One file a message.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use crate::support;

use std::path::{Path, PathBuf};

use waypost_config::policy::{DryRun, Explanation, Layout, Policy, RulesShown};
use waypost_route::Draw;
use waypost_types::{HeaderBlock, ListenerRole, Mailbox, QueueId, Recipient, Session, TlsState};

use support::policy_of;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// The scenarios' base and second organization, and a text of the test's own behind the first; `#
/// settings` of the first is replaced.
fn policy(settings: &str, more: &str) -> Policy {
    let part = |name: &str| {
        let path = testdata().join("scenarios/given").join(name).with_extension("toml");
        std::fs::read_to_string(path).unwrap()
    };
    let text = part("base").replace("# settings", settings) + more;
    let second = part("second");
    let (head, organizations) = text.split_at(text.find("[[organization]]").unwrap());
    let text = format!("{head}{second}{organizations}");
    policy_of(&text, "4c11db7a")
}

fn run<'a>(from: &'a str, to: &[&'a str], message: &'a str) -> DryRun<'a> {
    DryRun {
        client_ip: "198.51.100.9".parse().unwrap(),
        listener: Some("mx"),
        helo: Some("mail.partner.example"),
        auth: None,
        tls: TlsState::Encrypted,
        mail_from: from,
        rcpt_to: to.to_vec(),
        message: message.as_bytes(),
    }
}

/// Compares with a golden, at 100 columns and without colours.
fn golden(name: &str, explanation: &Explanation) {
    let layout = Layout { width: Some(100), ..Layout::default() };
    let got = explanation.text(&layout);
    let path = testdata().join("explain").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &got).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == got, "UPDATE_GOLDENS=1 rewrites {path:?}:\n{got}");
    for line in got.lines() {
        assert!(line.chars().count() <= 100 || !line.contains("  "), "{name}: {line}");
        assert_eq!(line.trim_end(), line, "{name}: a blank at the end");
    }
    // What is stored is read back, and tells the same but for what holds at the moment of asking.
    let stored = serde_json::to_string(explanation).unwrap();
    assert_eq!(Explanation::stored(&stored).unwrap().text(&layout), got, "{name}");
}

/// Three rules of two units: the nearer unit's route wins, and all that adds up adds up.
const THREE: &str = r#"
[[organization.route]]
name = "partners"
primary = [{ host = "a.example", load = 60 }, { host = "b.example", load = 40 }]
secondary = [{ host = "dr.example", load = 100 }]
require_tls = false

[[organization.rule]]
description = "Everything to Exchange"
affects = ["inbound"]
accounts = ["users", "groups"]
[organization.rule.then.modify]
route = "exchange"
require_tls = false
add_headers = [{ name = "X-Entry", value = "mx" }]

[[organization.rule]]
description = "Partner mail to the edge"
org_unit = "/sales"
affects = ["inbound"]
envelope = { senders = [{ pattern = '@partner\.example$' }] }
[organization.rule.then.modify]
route = "partners"
require_tls = true
subject_prefix = "[EXT] "

[[organization.rule]]
description = "Archive of sales"
org_unit = "/sales"
affects = ["inbound", "internal-receiving"]
[organization.rule.then.modify]
original_to_header = true
also_deliver_to = [{ address = "archive@vault.example", suppress_bounces = true }]

[[organization.rule]]
description = "Not from competitors"
org_unit = "/sales/emea"
affects = ["inbound"]
envelope = { senders = [{ pattern = '@competitor\.example$' }] }
then = { reject = "No" }

[[organization.rule]]
description = "Groups by hand"
affects = ["inbound"]
accounts = ["groups"]
then = { quarantine = "groups" }

[[organization.rule]]
description = "Footer"
affects = ["outbound"]
then = { modify = { subject_prefix = "[S] " } }
"#;

const PARTNER: &str = "From: Ann <ann@partner.example>\r\nSubject: x\r\n\r\nHello\r\n";

#[test]
fn c9_three_matching_rules_of_two_units() {
    let policy = policy("", THREE);
    let to = ["marie@solarmora.com"];
    let explanation = policy.explain(&run("ann@partner.example", &to, PARTNER)).unwrap();
    golden("three-rules", &explanation);
    // A live decision keeps the draw and the order, not what can be looked up later; it stays small.
    let ordinary = policy.explain(&run("ann@partner.example", &["anne@solarmora.com"], PARTNER));
    assert!(ordinary.unwrap().deliveries[0].tls_policy.is_some());
    for (to, most) in [("anne@solarmora.com", 2048), ("marie@solarmora.com", 3072)] {
        let taken = taken(&policy, to);
        let hosts = taken.deliveries[0].hosts.as_ref().unwrap();
        assert!(hosts.draw.is_some() && taken.deliveries[0].tls_policy.is_none());
        let stored = serde_json::to_string(&taken).unwrap();
        assert!(stored.len() < most, "{to}: {} octets\n{stored}", stored.len());
    }
    golden("three-rules-taken", &taken(&policy, "marie@solarmora.com"));
}

/// The explanation that `serve` stores, with a draw of its own.
fn taken(policy: &Policy, to: &str) -> Explanation {
    let run = run("ann@partner.example", &[], PARTNER);
    let session = Session {
        client_ip: run.client_ip,
        role: ListenerRole::Mx,
        helo: run.helo.map(Into::into),
        auth: None,
        tls: run.tls,
    };
    let transaction = policy.at_mail(&session, &run.mail_from.parse().unwrap()).unwrap();
    let recipient = Recipient::from(to.parse::<Mailbox>().unwrap());
    let decision = policy.at_data(&transaction, &[recipient], &HeaderBlock::of(run.message));
    Explanation::of_taken(policy, &decision, &|route| Draw::new([7; 16], QueueId::new(1), route))
}

#[test]
fn c7_split_delivery_known_and_unknown() {
    let policy = policy("mailbox_route = \"mailboxes\"", SPLIT);
    let to = ["marie@solarmora.com", "new@solarmora.com"];
    golden("split", &policy.explain(&run("ann@partner.example", &to, PARTNER)).unwrap());
}

const SPLIT: &str = r#"
[[organization.rule]]
description = "Split delivery to Exchange"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
then = { modify = { route = "exchange" } }
"#;

#[test]
fn c6_dual_delivery_and_a_signature_that_breaks() {
    let policy = policy(
        "",
        r#"
[[organization.rule]]
description = "Copy to the old system"
affects = ["inbound", "internal-receiving"]
[organization.rule.then.modify]
replace_recipient = { domain = "solarmora.fr" }
subject_prefix = "[ours] "
also_deliver_to = [{ domain = "legacy.example", route = "edge", require_tls = true, subject_prefix = "[copy] " }]
"#,
    );
    let message = "DKIM-Signature: v=1; d=solarmora.com; h=subject\r\n\
        From: anne@solarmora.com\r\nSubject: x\r\n\r\nHello\r\n";
    let to = ["jean@solarmora.com"];
    golden("dual", &policy.explain(&run("anne@solarmora.com", &to, message)).unwrap());
}

const RELAY: &str = r#"
[[organization.relay]]
description = "Servers in Lyon"
allowed_senders = "any"
addresses = [{ range = "198.51.100.0/28", description = "DC1" }]
require_tls = false
"#;

fn relayed<'a>(from: &'a str, to: &[&'a str], message: &'a str) -> DryRun<'a> {
    DryRun { listener: Some("relay"), helo: Some("erp.solarmora.com"), ..run(from, to, message) }
}

#[test]
fn b1_outbound_by_the_gateway_and_rewritten() {
    let policy = policy("outbound_gateway = \"smarthost.example:587\"", RELAY);
    let to = ["c@d.example"];
    golden("gateway", &policy.explain(&relayed("erp@foreign.example", &to, PARTNER)).unwrap());
}

#[test]
fn b2_outbound_by_a_rule_that_beats_the_gateway() {
    let rule = r#"
[[organization.rule]]
description = "All mail leaves by Exchange"
affects = ["outbound"]
then = { modify = { route = "exchange" } }
"#;
    let policy = policy("outbound_gateway = \"smarthost.example:587\"", &format!("{RELAY}{rule}"));
    let message = "From: jean@solarmora.com\r\n\r\nHello\r\n";
    let to = ["c@d.example"];
    golden("by-rule", &policy.explain(&relayed("jean@solarmora.com", &to, message)).unwrap());
}

#[test]
fn relay_to_another_organization() {
    let policy = policy("", RELAY);
    let message = "From: jean@solarmora.com\r\n\r\nHello\r\n";
    let to = ["luna@lunamora.com"];
    golden("to-another", &policy.explain(&relayed("jean@solarmora.com", &to, message)).unwrap());
}

#[test]
fn refused_unknown_and_relaying_denied() {
    let policy = policy("", THREE);
    let to = ["new@solarmora.com", "c@d.example"];
    golden("refused", &policy.explain(&run("ann@partner.example", &to, PARTNER)).unwrap());
}

#[test]
fn c6_rejected_and_kept() {
    let policy = policy("", THREE);
    let to = ["marie@solarmora.com", "team@solarmora.com"];
    golden("rejected", &policy.explain(&run("x@competitor.example", &to, PARTNER)).unwrap());
}

#[test]
fn d17_spam_of_a_gateway_is_kept() {
    let policy = policy(
        "spam_action = \"quarantine\"",
        r#"
[organization.inbound_gateway]
addresses = ["198.51.100.9"]
detect_external_ip = true
spam_tag = { regex = '^X-Score: (\S+)$', score_at_least = 0.5 }
"#,
    );
    let message = "Received: from a (a [192.0.2.7]) by gw; now\r\nX-Score: 0.9\r\n\
        From: marie@shop.solarmora.com\r\n\r\nHello\r\n";
    let to = ["anne@solarmora.com"];
    golden("spam", &policy.explain(&run("a@b.example", &to, message)).unwrap());
}

#[test]
fn o6_observed() {
    let policy = policy(
        "",
        r#"
[[organization.rule]]
description = "Trial of a split"
affects = ["inbound"]
accounts = ["unrecognized"]
mode = "observe"
then = { modify = { route = "exchange" } }

[[organization.rule]]
description = "Trial of a prefix"
affects = ["inbound"]
mode = "observe"
then = { modify = { subject_prefix = "[EXT] " } }

[[organization.rule]]
description = "Trial of a rejection"
affects = ["inbound"]
mode = "observe"
envelope = { recipients = [{ address = "anne@solarmora.com" }] }
then = { reject = "Write to the office" }

[organization.inbound_gateway]
addresses = ["192.0.2.2"]
reject_other_clients = "observe"
"#,
    );
    let to = ["jean@solarmora.com", "anne@solarmora.com", "new@solarmora.com"];
    golden("observed", &policy.explain(&run("ann@partner.example", &to, PARTNER)).unwrap());
}

#[test]
fn c9_of_many_rules_the_nearest_are_told() {
    let rule = |n: usize| {
        let account = ["users", "groups", "unrecognized"][n % 3];
        let affects = ["inbound", "outbound"][usize::from(n.is_multiple_of(5))];
        format!(
            "[[organization.rule]]\ndescription = \"Rule {n}\"\naffects = [\"{affects}\"]\n\
             accounts = [\"{account}\"]\n\
             envelope = {{ senders = [{{ address = \"s{n}@b.example\" }}] }}\n\
             then = {{ modify = {{ route = \"edge\" }} }}\n"
        )
    };
    let policy = policy("", &(0..300).map(rule).collect::<String>());
    let to = ["marie@solarmora.com"];
    let explanation = policy.explain(&run("s3@b.example", &to, PARTNER)).unwrap();
    golden("many-rules", &explanation);
    let all = Layout { rules: RulesShown::All, ..Layout::default() };
    let all = explanation.text(&all);
    assert!((0..300).all(|n| all.contains(&format!("\"Rule {n}\""))), "{all}");
}

#[test]
fn an_explanation_of_an_older_version_is_read() {
    let old = r#"{"source_ip":"203.0.113.1","spam":false,"spoofed_internal":false,
        "organization":"Solarmora","observed":["Trial"],
        "rules":[{"rule":"Trial","recipient":"c@solarmora.com","matched":true,"failed":null}],
        "replies":{"mail":"250 ok","rcpt":[],"data":"250 ok"},
        "deliveries":[{"recipient":"c@solarmora.com","original_recipient":"c@solarmora.com",
        "sender":"a@b.example","via":"mailbox","route":null,"tls":"opportunistic",
        "added_headers":[],"subject_prefix":null,"suppress_bounces":false,"because":[],
        "reason":"c@solarmora.com has a mailbox in Solarmora","overridden":[],"warnings":[],
        "direction":"inbound","organization":"Solarmora","source_ip":"203.0.113.1","spam":false}],
        "refusals":[],"quarantined":[]}"#;
    golden("old", &Explanation::stored(old).unwrap());
}

#[test]
fn colours_are_only_where_they_are_asked_for() {
    let policy = policy("", THREE);
    let to = ["marie@solarmora.com"];
    let explanation = policy.explain(&run("ann@partner.example", &to, PARTNER)).unwrap();
    assert!(!explanation.to_text().contains('\u{1b}'));
    let colored = explanation.text(&Layout { colored: true, ..Layout::default() });
    let plain: String =
        colored.split('\u{1b}').enumerate().fold(String::new(), |out, (n, part)| {
            out + if n == 0 { part } else { part.split_once('m').unwrap().1 }
        });
    assert_eq!(plain, explanation.to_text());
}
