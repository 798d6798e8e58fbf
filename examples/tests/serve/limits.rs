//! `waypost serve` over a limit: refused for now or held, told to administrators, let go (D10 to D13).

use crate::support;

use support::control::{done, lines, wait_for};
use support::serving::{Folder, Serve, queue_id};
use support::sink::Sink;

/// Mail to others goes to the sink, paul is told, loopback relays.
fn organization(gateway: &Sink, settings: &str, limits: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 1000
outbound_gateway = "{}"
administrators = ["paul@solarmora.com"]
{settings}

[[organization.user]]
address = "marie@solarmora.com"

[[organization.user]]
address = "paul@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false

[organization.limits]
{limits}
"#,
        gateway.address
    )
}

/// Replies to RCPT of a message that is sent.
fn send(serve: &Serve, to: &[&str]) -> Vec<String> {
    let mut client = serve.session("relay");
    client.ask("MAIL FROM:<marie@solarmora.com>", "250");
    let replies: Vec<String> = to.iter().map(|to| client.say(&format!("RCPT TO:<{to}>"))).collect();
    if replies.iter().any(|reply| reply.starts_with("250")) {
        queue_id(&client.data(b"Subject: x\r\n\r\nx\r\n"));
    }
    replies
}

fn used(folder: &Folder) -> Vec<u64> {
    let all = lines(folder, &["quota", "Solarmora"]);
    all.iter().map(|line| line["used"].as_u64().unwrap()).collect()
}

#[test]
fn d11_d13_mail_over_a_limit_is_held_told_of_and_let_go() {
    let gateway = Sink::start();
    let hold = "over_limit = \"hold\"";
    let folder = Folder::new(&organization(&gateway, hold, "recipients_per_10_minutes = 1"));
    let serve = folder.serve();
    assert!(send(&serve, &["a@f.example"])[0].starts_with("250"));
    assert_eq!(gateway.wait(1)[0].to, ["<a@f.example>"]);
    let replies = send(&serve, &["b@f.example", "c@f.example", "b@f.example"]);
    assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");

    let held = wait_for(&folder, "held", 1);
    let id = held[0]["id"].as_str().unwrap().to_owned();
    let hold = &held[0]["deliveries"][0]["hold"];
    assert_eq!(hold["kind"], "over-limit");
    let because = "1 recipients of this organization in 10 minutes; room again at ";
    assert!(hold["because"].as_str().unwrap().starts_with(because), "{hold}");
    let text = done(&folder, &["queue", "show", &id]);
    assert!(text.contains(&format!("over the limit of {because}")), "{text}");
    assert_eq!(used(&folder), [1, 1], "what is held does not count yet");

    // The administrator has two mails: the limit is near, and mail is held.
    let mails = folder.mailbox("paul@solarmora.com", "", 2);
    let subjects = [
        "Subject: A relay limit of Solarmora is nearly used up",
        "Subject: Mail of Solarmora over a relay limit is held",
    ];
    for subject in subjects {
        let mail = mails.iter().find(|mail| mail.contains(subject)).unwrap();
        for line in [
            "Return-Path: <>",
            "From: \"Mail server\" <mailer-daemon@",
            "To: <paul@solarmora.com>",
            "Auto-Submitted: auto-generated",
            "Organization: Solarmora",
        ] {
            assert!(mail.contains(line), "{line}: {mail}");
        }
        assert!(mail.contains("Message-ID: <") && mail.contains("Date: "), "{mail}");
        assert!(!mail.contains("b@f.example"), "nothing of strangers: {mail}");
    }

    // After a crash it is held, and the same is not told again.
    serve.kill();
    let serve = folder.serve();
    assert!(send(&serve, &["d@f.example"])[0].starts_with("250"));
    assert_eq!(wait_for(&folder, "held", 2).len(), 2);
    assert_eq!(gateway.received().len(), 1);
    assert_eq!(folder.mailbox_size("paul@solarmora.com", ""), 2);

    // Room for one more recipient: the oldest goes, alone of its message.
    folder.configure(&organization(
        &gateway,
        "over_limit = \"hold\"",
        "recipients_per_10_minutes = 2",
    ));
    done(&folder, &["reload"]);
    assert_eq!(gateway.wait(2)[1].to, ["<b@f.example>"]);
    assert_eq!(used(&folder), [2, 2]);
    assert_eq!(wait_for(&folder, "held", 2)[0]["id"], *id);

    // A person may let more go, past the limit, and it counts.
    done(&folder, &["queue", "release", &id]);
    assert_eq!(gateway.wait(3)[2].to, ["<c@f.example>"]);
    assert_eq!(used(&folder), [3, 3]);
    // A person who holds is not overruled by room.
    let other = wait_for(&folder, "held", 1)[0]["id"].as_str().unwrap().to_owned();
    done(&folder, &["queue", "hold", &other]);
    let wide = organization(&gateway, "over_limit = \"hold\"", "recipients_per_10_minutes = 9");
    folder.configure(&wide);
    done(&folder, &["reload"]);
    assert!(send(&serve, &["e@f.example"])[0].starts_with("250"));
    assert_eq!(gateway.wait(4)[3].to, ["<e@f.example>"], "room for it");
    let kept = &wait_for(&folder, "held", 1)[0]["deliveries"][0]["hold"];
    assert!(kept["kept_by"].is_string(), "{kept}");
    serve.terminate();
    assert_eq!(used(&folder), [4, 4], "from the spool");
}

#[test]
fn d11_d13_what_a_message_that_is_given_up_leaves_is_used_at_once() {
    let gateway = Sink::start();
    // The window is a day: only what is given back can make room here.
    let hold = "over_limit = \"hold\"";
    let folder = Folder::new(&organization(&gateway, hold, "recipients_per_day = 1"));
    let serve = folder.serve();
    let mut slow = serve.session("relay");
    slow.ask("MAIL FROM:<marie@solarmora.com>", "250");
    slow.ask("RCPT TO:<a@f.example>", "250");
    let begun = std::time::Instant::now();
    assert!(send(&serve, &["b@f.example"])[0].starts_with("250"));
    wait_for(&folder, "held", 1);
    slow.ask("RSET", "250");
    assert_eq!(gateway.wait(1)[0].to, ["<b@f.example>"]);
    // Room of which nobody tells is looked for once a minute.
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(used(&folder), [1, 1]);
    // A message that is thrown away leaves its place among those that wait.
    for to in ["c@f.example", "d@f.example"] {
        assert!(send(&serve, &[to])[0].starts_with("250"));
        let id = wait_for(&folder, "held", 1)[0]["id"].as_str().unwrap().to_owned();
        assert!(send(&serve, &["e@f.example"])[0].starts_with("550 5.7.1"), "one may wait");
        done(&folder, &["queue", "remove", &id]);
    }
    serve.terminate();
}

#[test]
fn d10_d11_a_deferral_keeps_the_subject_and_detail_of_its_limit() {
    let gateway = Sink::start();
    for (limits, code) in [
        ("messages_per_user_per_day = 1", "450 4.4.5"),
        ("recipients_per_day = 1", "450 4.7.1"),
        ("recipients_per_10_minutes = 1", "450 4.2.1"),
    ] {
        let folder = Folder::new(&organization(&gateway, "over_limit = \"defer\"", limits));
        let serve = folder.serve();
        assert!(send(&serve, &["a@f.example"])[0].starts_with("250"));
        let reply = &send(&serve, &["a@f.example"])[0];
        assert!(reply.starts_with(code) && reply.contains("room again at"), "{limits}: {reply}");
        serve.terminate();
    }
}

#[test]
fn d11_d13_a_clients_recipients_are_limited_shown_and_kept() {
    let gateway = Sink::start();
    let limits = "recipients_per_client_per_day = 5";
    let folder = Folder::new(&organization(&gateway, "", limits));
    let serve = folder.serve();
    let to = ["a@f.example", "b@f.example", "c@f.example"];
    assert!(send(&serve, &to).iter().all(|reply| reply.starts_with("250")));
    let near = lines(&folder, &["quota", "127.0.0.1", "--near"]);
    assert_eq!(near, [] as [serde_json::Value; 0], "3 of 5");
    assert!(send(&serve, &["a@f.example"])[0].starts_with("250"));
    folder.mailbox("paul@solarmora.com", "", 1);
    serve.kill();
    let serve = folder.serve();
    let replies = send(&serve, &["a@f.example", "b@f.example"]);
    assert!(replies[0].starts_with("250"), "{replies:?}");
    let (code, key) = ("550 5.7.1 ", "(recipients_per_client_per_day)");
    assert!(replies[1].starts_with(code) && replies[1].contains(key), "{replies:?}");
    let shown = &lines(&folder, &["quota", "127.0.0.1"])[0];
    assert_eq!((&shown["client"], &shown["used"]), (&"127.0.0.1".into(), &5.into()), "{shown}");
    assert_eq!(shown["percent"], 100, "{shown}");
    assert_eq!(lines(&folder, &["quota", "127.0.0.1", "--near"]).len(), 1);
    let none = support::control::ask(&folder, &["quota", "127.0.0.2"]);
    assert_eq!(none.status, 0, "{}", none.stderr);
    assert_eq!(folder.mailbox_size("paul@solarmora.com", ""), 1, "told once");
    serve.terminate();
}
