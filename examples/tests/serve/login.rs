//! `waypost serve`: AUTH that fails is slowed, counted and in the end refused (D6).

use crate::support;

use support::serving::{Folder, Serve};
use support::sink::Sink;
use support::smtp_client::SmtpClient;
use support::waypost;

const MARIE: &str = "marie@solarmora.com";

/// Of `password`, made by another program.
const SCRYPT: &str = "$scrypt$ln=4,r=8,p=1$c29tZXNhbHQ$7xe5L3Roj67jYaBKf3ePT2Y6rVHHGUWO44Z8iz+O6PQ";

/// Marie relays by AUTH from anywhere, and servers of a network that no test comes from.
fn folder(gateway: &Sink, server: &str) -> Folder {
    let hashed = waypost(&["hash-password"], "correct horse\n").stdout;
    Folder::new(&format!(
        r#"admin = "127.0.0.1:0"
{server}

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 10
outbound_gateway = "{}"

[[organization.user]]
address = "{MARIE}"
password = "{}"

[[organization.user]]
address = "otto@solarmora.com"
password = "{SCRYPT}"

[[organization.relay]]
description = "Servers"
allowed_senders = "my-domains"
addresses = [{{ range = "203.0.113.0/28" }}]

[[organization.relay]]
description = "Staff"
allowed_senders = "registered-users"
require_auth = true
"#,
        gateway.address,
        hashed.trim_end()
    ))
}

fn in_tls(serve: &Serve, folder: &Folder) -> SmtpClient {
    serve.session("relay").start_tls(folder.certificate(), "client.elsewhere.example")
}

#[test]
fn d6_a_hash_that_another_program_made_is_checked() {
    let gateway = Sink::start();
    let folder = folder(&gateway, "");
    let serve = folder.serve();
    let mut client = in_tls(&serve, &folder);
    assert!(client.auth_plain("otto@solarmora.com", "passwort").starts_with("535 5.7.8"));
    assert!(client.auth_plain("otto@solarmora.com", "password").starts_with("235 2.7.0"));
    let taken =
        client.message("otto@solarmora.com", &["a@elsewhere.example"], b"Subject: x\r\n\r\nx\r\n");
    assert!(taken.starts_with("250 2.0.0"), "{taken}");
    serve.terminate();
}

#[test]
fn d6_failed_logins_are_counted_by_client_and_then_refused_without_a_look() {
    let gateway = Sink::start();
    let folder = folder(&gateway, "limits = { auth_failures = 4, auth_failure_window = \"1d\" }");
    let serve = folder.serve();
    let mut client = in_tls(&serve, &folder);
    let mut replies = vec![
        client.auth_plain(MARIE, "wrong horse"),
        client.auth_plain("nobody@solarmora.com", "wrong horse"),
        client.auth_login("not an address", "wrong horse"),
    ];
    replies.dedup();
    assert_eq!(replies.len(), 1, "who exists cannot be told: {replies:?}");
    assert!(replies[0].starts_with("535 5.7.8") && replies[0].ends_with("(D6)"), "{replies:?}");
    // A success takes nothing back, whatever the connection.
    for _ in 0..3 {
        let reply = in_tls(&serve, &folder).auth_plain(MARIE, "correct horse");
        assert!(reply.starts_with("235"), "{reply}");
    }
    assert_eq!(client.auth_plain(MARIE, "wrong again"), replies[0], "the fourth failure");
    for (user, password) in [
        (MARIE, "wrong horse"),
        (MARIE, "correct horse"),
        ("nobody@solarmora.com", "correct horse"),
    ] {
        let mut client = in_tls(&serve, &folder);
        let reply = client.auth_plain(user, password);
        assert!(reply.starts_with("454 4.7.0"), "{user}: {reply}");
        for part in ["4 times within 1440 minutes", "correct the password", "(D6)"] {
            assert!(reply.contains(part), "{user}: {reply}");
        }
    }
    let refused = |code, reason| {
        serve.metric(&format!("waypost_refusals_total{{at=\"auth\",{code},reason=\"{reason}\"}}"))
    };
    assert_eq!(refused("code=\"535\",enhanced=\"5.7.8\"", "wrong-credentials"), 4);
    assert_eq!(refused("code=\"454\",enhanced=\"4.7.0\"", "too-many-failed-logins"), 3);
    serve.log.wait_for("the refusal", |line| {
        line.contains("too-many-failed-logins") && line.contains("client=127.0.0.1")
    });
    assert!(!serve.log.holds("horse"), "a password never reaches the log");
    serve.terminate();
}

#[test]
fn d3_d6_after_a_failed_auth_mail_is_told_of_auth() {
    let gateway = Sink::start();
    let folder = folder(&gateway, "");
    let serve = folder.serve();
    let mail = format!("MAIL FROM:<{MARIE}>");
    let mut client = in_tls(&serve, &folder);
    let reply = client.ask(&mail, "550 5.7.1");
    assert!(reply.contains("authenticate with AUTH, or ask"), "{reply}");
    let reply = client.auth_plain(MARIE, "wrong horse");
    assert!(reply.starts_with("535"), "{reply}");
    let reply = client.ask(&mail, "530 5.7.0");
    assert!(reply.contains("Authentication failed before"), "{reply}");
    assert!(reply.contains("correct user and password") && reply.contains("(D3)"), "{reply}");
    let reply = client.auth_plain(MARIE, "correct horse");
    assert!(reply.starts_with("235"), "{reply}");
    client.ask(&mail, "250");
    client.ask("RSET", "250");
    client.ask("MAIL FROM:<app@solarmora.com>", "550 5.7.1");
    let labels = "at=\"mail\",code=\"530\",enhanced=\"5.7.0\",reason=\"authentication-failed\"";
    assert_eq!(serve.metric(&format!("waypost_refusals_total{{{labels}}}")), 1);
    serve.terminate();
}

#[test]
fn d6_plain_and_login_are_what_rfc_4954_and_4616_say() {
    let gateway = Sink::start();
    let folder = folder(&gateway, "");
    let serve = folder.serve();
    let plain = |text: &[u8]| support::smtp_client::base64(text);
    let right = plain(b"\0marie@solarmora.com\0correct horse");
    let (user, password) = (plain(MARIE.as_bytes()), plain(b"correct horse"));
    // What is said, and how the replies begin.
    for (said, want) in [
        (vec![format!("AUTH PLAIN {right}")], vec!["235 2.7.0"]),
        (vec![format!("auth plain {right}")], vec!["235 2.7.0"]),
        (vec!["AUTH PLAIN".to_owned(), right.clone()], vec!["334 ", "235 2.7.0"]),
        (vec!["AUTH PLAIN =".to_owned()], vec!["501 5.5.2"]),
        (vec!["AUTH PLAIN".to_owned(), "*".to_owned()], vec!["334 ", "501 5.7.0"]),
        (
            vec!["AUTH LOGIN".to_owned(), user.clone(), password.clone()],
            vec!["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0"],
        ),
        (
            vec![format!("AUTH LOGIN {user}"), password.clone()],
            vec!["334 UGFzc3dvcmQ6", "235 2.7.0"],
        ),
        (vec!["AUTH LOGIN".to_owned(), user, "*".to_owned()], vec!["334 ", "334 ", "501 5.7.0"]),
        (vec!["AUTH LOGIN".to_owned(), "!".to_owned()], vec!["334 ", "501 5.5.2"]),
        (
            vec![format!(
                "AUTH PLAIN {}",
                plain(b"paul@solarmora.com\0marie@solarmora.com\0correct horse")
            )],
            vec!["535 5.7.8"],
        ),
        (
            vec![format!(
                "AUTH PLAIN {}",
                plain(b"marie@solarmora.com\0marie@solarmora.com\0correct horse")
            )],
            vec!["235 2.7.0"],
        ),
        (
            vec![format!("AUTH PLAIN {}", plain(b"\0marie@solarmora.com\0correct\xff"))],
            vec!["535 5.7.8"],
        ),
        (vec!["AUTH CRAM-MD5".to_owned()], vec!["504 5.5.4"]),
        (vec![format!("AUTH PLAIN {right}x")], vec!["501 5.5.2"]),
    ] {
        let mut client = in_tls(&serve, &folder);
        for (line, want) in said.iter().zip(want) {
            client.ask(line, want);
        }
    }
    let mut client = in_tls(&serve, &folder);
    client.ask(&format!("AUTH PLAIN {right}"), "235");
    client.ask(&format!("AUTH PLAIN {right}"), "503");
    let mut client = in_tls(&serve, &folder);
    client.ask("AUTH PLAIN", "334");
    client.ask(&"A".repeat(20_000), "50");
    serve.terminate();
}
