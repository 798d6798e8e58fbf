//! How many rules a decision tells of: all in a dry run, few in what is stored of a live message (C9).
use crate::support;

use std::fmt::Write as _;

use waypost_config::policy::{DryRun, Explanation, Policy, RULES_TOLD};
use waypost_types::{HeaderBlock, ListenerRole, Recipient, Session, TlsState};

use support::policy_of;

const RULES: usize = 1_000;

/// A thousand rules for as many partners; the last one is the writer's, and then one for all.
fn policy() -> Policy {
    let mut text = String::from(
        r#"
[server]
hostname = "mx.s.example"
spool = "spool"
[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:2525"
[[organization]]
name = "Sun"
domains = ["s.example"]
[[organization.user]]
address = "ann@s.example"
[[organization.user]]
address = "bob@s.example"
[[organization.route]]
name = "one"
host = "one.example"
"#,
    );
    for partner in 0..RULES {
        write!(
            text,
            "[[organization.rule]]\ndescription = \"Partner {partner}\"\naffects = [\"inbound\"]\n\
             envelope = {{ senders = [{{ pattern = '@partner{partner}\\.example$' }}] }}\n\
             then = {{ modify = {{ route = \"one\" }} }}\n"
        )
        .unwrap();
    }
    text.push_str(
        "[[organization.rule]]\ndescription = \"All\"\naffects = [\"inbound\"]\n\
         then = { modify = { add_headers = [{ name = \"X-All\", value = \"1\" }] } }\n",
    );
    policy_of(&text, "1")
}

fn matched(explanation: &Explanation) -> Vec<String> {
    let matched = explanation.rules.iter().filter(|looked| looked.matched);
    matched.map(|looked| format!("{} {}", looked.recipient, looked.rule)).collect()
}

#[test]
fn a_live_decision_tells_of_few_rules_and_a_dry_run_of_all_c9() {
    let policy = policy();
    let (sender, to) = ("x@partner999.example", ["ann@s.example", "bob@s.example"]);
    let session = Session {
        client_ip: "203.0.113.1".parse().unwrap(),
        role: ListenerRole::Mx,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    };
    let transaction = policy.at_mail(&session, &sender.parse().unwrap()).unwrap();
    let recipients =
        to.map(|one| Recipient::from(waypost_types::Mailbox::clone(&one.parse().unwrap())));
    let message = b"From: x@partner999.example\r\n\r\n";
    let decision = policy.at_data(&transaction, &recipients, &HeaderBlock::of(message));
    let live = Explanation::of(&policy, &decision);
    let wanted: Vec<String> = to
        .iter()
        .flat_map(|to| ["Partner 999", "All"].map(|rule| format!("{to} {rule}")))
        .collect();
    assert_eq!(matched(&live), wanted);
    // The second recipient's matching rules come on top.
    assert_eq!(live.rules.len(), RULES_TOLD + 2);
    assert_eq!(live.rules_left_out, 2 * (RULES + 1) - RULES_TOLD - 2);
    let stored = serde_json::to_string(&live).unwrap();
    assert!(stored.len() < 64 << 10, "{}", stored.len());
    let left_out = live.rules_left_out;
    assert_eq!(Explanation::stored(&stored).unwrap().rules_left_out, left_out);
    assert!(live.to_text().contains(&format!("{left_out} more that did not match")));

    let run = DryRun {
        client_ip: session.client_ip,
        listener: None,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
        mail_from: sender,
        rcpt_to: to.to_vec(),
        message,
    };
    let dry = policy.explain(&run).unwrap();
    assert_eq!((dry.rules.len(), dry.rules_left_out), (2 * (RULES + 1), 0));
    assert_eq!(matched(&dry), wanted);
    assert!(!serde_json::to_string(&dry).unwrap().contains("rules_left_out"));
    let deliveries = |one: &Explanation| serde_json::to_string(&one.deliveries).unwrap();
    assert_eq!(deliveries(&live), deliveries(&dry));
}
