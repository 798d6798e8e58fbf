//! O6: what observed rules are told to do is what they do once they are enforced.
use crate::support;

use proptest::prelude::*;
use serde_json::{Value, json};
use waypost_config::policy::{DryRun, Policy};
use waypost_types::TlsState;

use support::policy_of;

const BASE: &str = r#"
[server]
hostname = "mx.solarmora.com"
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
name = "Lunamora"
domains = ["lunamora.com"]
licences = 10

[[organization.user]]
address = "luna@lunamora.com"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"
org_unit = "/sales"

[[organization.user]]
address = "anne@solarmora.com"

[[organization.relay]]
description = "Servers"
allowed_senders = "my-domains"
addresses = [{ range = "203.0.113.0/28" }]
require_tls = false

[[organization.route]]
name = "edge"
host = "edge.corp.example"

[[organization.route]]
name = "exchange"
host = "exchange.corp.example"
require_tls = false
"#;

const ACTIONS: [&str; 8] = [
    "{ reject = \"No\" }",
    "{ quarantine = \"review\" }",
    "{ modify = { route = \"edge\" } }",
    "{ modify = { route = \"exchange\", require_tls = true } }",
    "{ modify = { subject_prefix = \"[EXT] \" } }",
    "{ modify = { replace_recipient = { domain = \"legacy.example\" } } }",
    "{ modify = { also_deliver_to = [{ address = \"archive@vault.example\" }] } }",
    "{ modify = { add_headers = [{ name = \"X-A\", value = \"b\" }], suppress_bounces = true } }",
];

/// A rule: unit, directions, accounts, action, whether it is only observed, whether it stops.
type Drawn = (bool, usize, usize, usize, bool, bool);

fn policy(rules: &[Drawn], all_enforced: bool) -> Policy {
    let mut text = BASE.to_owned();
    for (n, (sales, affects, accounts, action, observed, stop)) in rules.iter().enumerate() {
        let unit = if *sales { "/sales" } else { "/" };
        let affects = [
            "\"inbound\"",
            "\"outbound\"",
            "\"inbound\", \"internal-receiving\"",
            "\"internal-sending\"",
        ][*affects];
        let accounts = ["\"users\"", "\"users\", \"unrecognized\"", "\"unrecognized\""][*accounts];
        let mode = if *observed && !all_enforced { "observe" } else { "enforce" };
        text.push_str(&format!(
            "[[organization.rule]]\ndescription = \"r{n}\"\norg_unit = \"{unit}\"\n\
             affects = [{affects}]\naccounts = [{accounts}]\nmode = \"{mode}\"\nstop = {stop}\n\
             then = {}\n",
            ACTIONS[*action]
        ));
    }
    policy_of(&text, "1")
}

/// What becomes of one recipient, as JSON, and what is observed.
fn fate(policy: &Policy, listener: &str, from: &str, to: &str) -> (Value, Vec<Value>) {
    let message = format!("From: {from}\r\n\r\nx\r\n");
    let run = DryRun {
        client_ip: "203.0.113.1".parse().unwrap(),
        listener: Some(listener),
        helo: None,
        auth: None,
        tls: TlsState::Clear,
        mail_from: from,
        rcpt_to: vec![to],
        message: message.as_bytes(),
    };
    let told = serde_json::to_value(policy.explain(&run).unwrap()).unwrap();
    let of = |list: &str, keys: &[&str]| -> Vec<Value> {
        let entries = told[list].as_array().unwrap().iter();
        entries.map(|entry| keys.iter().map(|key| entry[*key].clone()).collect()).collect()
    };
    let delivery =
        ["recipient", "via", "route", "tls", "added_headers", "subject_prefix", "suppress_bounces"];
    let fate = json!([
        of("deliveries", &delivery),
        of("refusals", &["reply"]),
        of("quarantined", &["quarantine"]),
    ]);
    let details = told["observed_details"].as_array().cloned().unwrap_or_default();
    (fate, details)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn o6_what_is_told_comes_true_once_it_is_enforced(
        rules in prop::collection::vec(
            (any::<bool>(), 0_usize..4, 0_usize..3, 0_usize..8, any::<bool>(), any::<bool>()), 1..5)
    ) {
        let (observed, enforced) = (policy(&rules, false), policy(&rules, true));
        for (listener, from, to) in [
            ("mx", "a@b.example", "marie@solarmora.com"),
            ("mx", "a@b.example", "new@solarmora.com"),
            ("mx", "anne@solarmora.com", "marie@solarmora.com"),
            ("relay", "anne@solarmora.com", "marie@solarmora.com"),
            ("relay", "marie@solarmora.com", "c@d.example"),
            ("relay", "marie@solarmora.com", "luna@lunamora.com"),
        ] {
            let (is, details) = fate(&observed, listener, from, to);
            let (would, none) = fate(&enforced, listener, from, to);
            prop_assert!(none.is_empty(), "{none:?}");
            let told: Vec<&str> =
                details.iter().map(|one| one["would"].as_str().unwrap()).collect();
            if told.is_empty() {
                prop_assert_eq!(&is, &would, "{} {} {:?}", from, to, rules);
            }
            for one in told {
                let nothing = one == "would have changed nothing";
                // What a quarantine would deliver once released is told, and is not in the answer.
                let kept = !is[2].as_array().unwrap().is_empty();
                prop_assert!(
                    nothing == (is == would) || kept,
                    "{} -> {}: {}\n{}\n{}\n{:?}", from, to, one, is, would, rules
                );
                if let Some(reply) = would[1][0][0].as_str().filter(|_| is != would) {
                    prop_assert!(one.contains(&format!("would have refused with {reply}")), "{one}");
                }
                if let Some(kept) = would[2][0][0].as_str().filter(|_| is != would && !kept) {
                    prop_assert!(one.contains(&format!("in quarantine \"{kept}\"")), "{one}");
                }
            }
        }
    }
}
