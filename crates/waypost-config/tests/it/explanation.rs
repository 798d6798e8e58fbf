//! The explanation as JSON, whole: the contract of `explain --batch`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use crate::support;

use std::path::{Path, PathBuf};

use waypost_config::policy::{DryRun, Policy};
use waypost_types::TlsState;

use support::policy_of;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn policy() -> Policy {
    let part = |name: &str| {
        let path = testdata().join("scenarios/given").join(name).with_extension("toml");
        std::fs::read_to_string(path).unwrap()
    };
    let text = part("second") + &part("base") + &part("split") + RULES + &part("gateway");
    policy_of(&text, "1")
}

const RULES: &str = r#"
[[organization.rule]]
description = "Sales"
org_unit = "/sales"
affects = ["inbound"]
[organization.rule.then.modify]
route = "edge"
require_tls = true
subject_prefix = "[EXT] "
add_headers = [{ name = "X-Legacy", value = "yes" }]
original_to_header = true
spam_headers = true
also_deliver_to = [{ address = "archive@vault.example", suppress_bounces = true }]

[[organization.rule]]
description = "All users"
affects = ["inbound"]
then = { modify = { route = "exchange" } }

[[organization.rule]]
description = "Not Anne"
affects = ["inbound"]
envelope = { recipients = [{ address = "anne@solarmora.com" }] }
then = { reject = "Write to the office" }

[[organization.rule]]
description = "Groups are looked at first"
affects = ["inbound"]
accounts = ["groups"]
then = { quarantine = "groups" }

[[organization.rule]]
description = "Trial"
affects = ["inbound"]
mode = "observe"
then = { reject = "no" }
"#;

/// Every part of the answer that can be filled is; the second answer has what can be empty empty.
#[test]
fn the_json_of_an_explanation_is_the_contract() {
    let policy = policy();
    let message = b"Received: from x (x [192.0.2.110]) by gw.example; now\r\n\
        DKIM-Signature: v=1; d=b.example\r\nFrom: a@b.example\r\nX-spam-gw: spam\r\n\r\nHello\r\n";
    let full = DryRun {
        client_ip: "192.0.2.2".parse().unwrap(),
        listener: Some("mx"),
        helo: Some("gw.example"),
        auth: None,
        tls: TlsState::Encrypted,
        mail_from: "a@b.example",
        rcpt_to: vec![
            "marie@solarmora.com",
            "nobody@lunamora.com",
            "luna@lunamora.com",
            "team@solarmora.com",
            "anne@solarmora.com",
            "unknown@solarmora.com",
        ],
        message,
    };
    let nothing = DryRun {
        listener: Some("relay"),
        mail_from: "",
        rcpt_to: vec!["c@d.example"],
        message: b"\r\n",
        ..full.clone()
    };
    let nobody = DryRun { rcpt_to: vec!["nobody@lunamora.com"], ..full.clone() };
    let answers = [full, nothing, nobody].map(|run| policy.explain(&run).unwrap());
    let got = serde_json::to_string_pretty(&answers).unwrap() + "\n";
    let golden = testdata().join("explain.json.expected");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&golden, &got).unwrap();
    }
    let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(wanted == got, "UPDATE_GOLDENS=1 rewrites the golden:\n{got}");
}

/// `explain` plays a live session, and that refuses what is above `message_size` or `header_size` (C9).
#[test]
fn what_a_session_finds_too_large_is_refused_c9() {
    let base = testdata().join("scenarios/given/base.toml");
    let limits = "spool = \"spool\"\n[server.limits]\nheader_size = 20\nmessage_size = 30\n";
    let text = std::fs::read_to_string(base).unwrap().replace("spool = \"spool\"\n", limits);
    let policy = policy_of(&text, "1");
    let header = "552 5.3.4 The header is larger than 20 octets";
    let whole = "552 5.3.4 The message has more than 30 octets; send a smaller one";
    for (message, rcpt_to, data) in [
        ("From: aa@b.example\r\n\r\n123456\r\n", "marie@solarmora.com", Some("250 2.0.0 Accepted")),
        ("From: aa@b.example\n\n123456\n", "marie@solarmora.com", Some("250 2.0.0 Accepted")),
        ("From: aa@b.example\r\n\r\n1234567\r\n", "marie@solarmora.com", Some(whole)),
        ("From: aa@b.example\n\n1234567\n", "marie@solarmora.com", Some(whole)),
        ("From: aaa@b.example\r\n\r\nx\r\n", "marie@solarmora.com", Some(header)),
        ("From: aaa@b.example\n", "marie@solarmora.com", Some(header)),
        ("From: aaa@b.example\r\n\r\nx\r\n", "nobody@solarmora.com", None),
    ] {
        let run = DryRun {
            client_ip: "192.0.2.2".parse().unwrap(),
            listener: Some("mx"),
            helo: None,
            auth: None,
            tls: TlsState::Clear,
            mail_from: "aa@b.example",
            rcpt_to: vec![rcpt_to],
            message: message.as_bytes(),
        };
        let got = policy.explain(&run).unwrap();
        assert_eq!(got.replies.data.as_deref(), data, "{message:?}");
        let taken = data.is_some_and(|reply| reply.starts_with('2'));
        assert_eq!((got.deliveries.len(), got.refusals.len()), (taken.into(), (!taken).into()));
    }
}
