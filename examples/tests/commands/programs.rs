//! The small programs beside the binary run and say what their heads promise.

use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use waypost_net::test_kit::{Act, MilterAnswer, MilterScript, Phase, Script};
use waypost_types::Reply;

/// Runs a program; what it printed, and whether it was content.
fn run(program: &str, arguments: &[&str], input: &str) -> (String, bool) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

#[test]
fn each_program_says_what_it_should() {
    let header = "Received: from a (b [192.0.2.55]) by c; d\r\n\
                  Received: from d (e [203.0.113.5]) by f; g\r\n\r\n";
    let talk = "EHLO me\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\nDATA\nhello\n.\nQUIT\n";
    let spool = tempfile::tempdir().unwrap();
    let spool = spool.path().to_str().unwrap();
    let table: &[(&str, &[&str], &str, &[&str])] = &[
        (
            env!("CARGO_BIN_EXE_source_ip_of"),
            &["192.0.2.2,192.0.2.55", "192.0.2.2"],
            header,
            &["203.0.113.5 (first-external, check SPF)", "192.0.2.55", "gateway", "chosen"],
        ),
        (
            env!("CARGO_BIN_EXE_pick_host"),
            &["a.example=60", "b.example=40", "--", "dr.example=100"],
            "",
            &["a.example:25", "60.0 % expected", "100.0 % expected", "in pause until"],
        ),
        (
            env!("CARGO_BIN_EXE_why_there"),
            &["marie@solarmora.com", "paul@partner.example"],
            "",
            &["goes to the mailbox system", "archive@solarmora.com", "Split delivery: it affects"],
        ),
        (env!("CARGO_BIN_EXE_why_there"), &[], "", &["goes to exchange", "it matches"]),
        (env!("CARGO_BIN_EXE_relay_day"), &["20"], "", &["refused", "550 5.7.1", "of 1300, room"]),
        (
            env!("CARGO_BIN_EXE_bounce"),
            &[],
            "",
            &["to marie@solarmora.com", "multipart/report", "b@elsewhere.example", "5.1.1"],
        ),
        (env!("CARGO_BIN_EXE_bounce"), &["450", "4.2.1", "later"], "", &["tried again at 2020-"]),
        (env!("CARGO_BIN_EXE_talk"), &[], talk, &["S: 354", "* 7 octets", "* closed: Quit"]),
        (env!("CARGO_BIN_EXE_spool_show"), &[spool], "", &["0 messages, 0 quota commits"]),
    ];
    let letter = "From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
                  --b\n\nhello\n--b\nContent-Type: application/pdf; name=a.pdf\n\n%PDF\n--b--\n";
    let forged = "Authentication-Results: mx.s.example; spf=pass\r\nSubject: x\r\n\r\nx\r\n";
    let mailbox = format!("From a\n{header}x\n\nFrom b\n{header}y\n\nFrom c\nSubject: z\n\nz\n");
    let mailbox = mailbox.replace('\r', "");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/waypost.toml");
    let more: &[(&str, &[&str], &str, &[&str])] = &[
        (
            env!("CARGO_BIN_EXE_host_chart"),
            &["192.0.2.2,192.0.2.55"],
            &mailbox,
            &["3 messages from 2 hosts", "203.0.113.5      2 ████", "unknown      1 ████"],
        ),
        (
            env!("CARGO_BIN_EXE_policy_test"),
            &[sample],
            "",
            &[
                "ok      everybody else's goes to the old one: route \"exchange\"",
                "reply 550 5.7.1",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_without_attachments"),
            &[],
            letter,
            &["hello\n--b\n", "Content-Type: text/plain", "a.pdf", "--b--\n"],
        ),
        (
            env!("CARGO_BIN_EXE_what_follows"),
            &["mx.s.example", "203.0.113.7", "fail"],
            forged,
            &[
                "Authentication-Results: mx.s.example;\r\n\tspf=fail",
                "Received-SPF: fail",
                "\r\nSubject: x",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_own_daemon"),
            &["marie", "jean"],
            "",
            &[
                "listening on 127.0.0.1:",
                "550 5.1.1",
                "250 2.0.0 Accepted as",
                "1 in the mailbox of marie",
            ],
        ),
    ];
    let request = |to: &str| {
        format!(
            "request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=1.{to}\n\
             client_address=192.0.2.7\nsender=a@b.example\nrecipient={to}\n\n"
        )
    };
    let requests = request("marie@solarmora.com") + &request("nobody@solarmora.com");
    let policy: &[(&str, &[&str], &str, &[&str])] = &[(
        env!("CARGO_BIN_EXE_small_policy"),
        &["marie@solarmora.com"],
        &requests,
        &["action=DUNNO\n\naction=550 5.1.1 nobody@solarmora.com is not here\n\n"],
    )];
    for (program, arguments, input, want) in table.iter().chain(more).chain(policy) {
        let (printed, content) = run(program, arguments, input);
        assert!(content, "{program} {arguments:?}: {printed}");
        for text in *want {
            assert!(printed.contains(text), "{program} {arguments:?}: no {text:?} in\n{printed}");
        }
    }
}

/// D17: an administrator can ask a filter before mail depends on it.
#[test]
fn a_filter_is_asked_as_a_server_would_ask_it() {
    let answer = MilterAnswer::accept().field("X-Spam", "Yes").unwrap();
    let filter = MilterScript::new()
        .token("GTUBE", MilterAnswer::refuse(Reply::new(554, (5, 7, 1), "Spam")))
        .source("203.0.113.9".parse().unwrap(), answer)
        .start()
        .unwrap();
    let address = filter.address().to_string();
    let common = ["-", "--milter", &address, "--client-ip", "192.0.2.25"];
    let listed = ["--source-ip", "203.0.113.9"];
    for (more, input, want) in [
        (&[][..], "Subject: x\n\nhello\n", &["client  192.0.2.25", "verdict         accept"][..]),
        (&[], "Subject: x\n\nGTUBE\n", &["reject: 554 5.7.1 Spam"]),
        (
            &listed,
            "Subject: x\n\nx\n",
            &["client  203.0.113.9", "add `X-Spam: Yes`", "; X-Spam: Yes"],
        ),
        (&["--json"], "Subject: x\n\n.\n", &[r#"{"action":"accept","headers":[],"ignored":[],"#]),
    ] {
        let arguments = [&common[..], more].concat();
        let (printed, content) = run(env!("CARGO_BIN_EXE_filter_ask"), &arguments, input);
        assert!(content, "{printed}");
        for text in want {
            assert!(printed.contains(text), "{more:?}: no {text:?} in\n{printed}");
        }
    }
    let bodies: Vec<_> = filter.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies, [&b"hello\r\n"[..], b"GTUBE\r\n", b"x\r\n", b".\r\n"]);
    drop(filter);
    assert!(!run(env!("CARGO_BIN_EXE_filter_ask"), &common, "x").1, "nobody is there");
}

#[test]
fn a_wrong_call_is_refused_with_the_usage() {
    for (program, arguments) in [
        (env!("CARGO_BIN_EXE_source_ip_of"), &["10.0.0.1", "192.0.2.1"][..]),
        (env!("CARGO_BIN_EXE_pick_host"), &["a.example=60"]),
        (env!("CARGO_BIN_EXE_spool_show"), &["/nowhere/at/all"]),
        (env!("CARGO_BIN_EXE_smtp_sink"), &["nowhere"]),
        (
            env!("CARGO_BIN_EXE_filter_ask"),
            &["-", "--milter", "nowhere", "--client-ip", "192.0.2.1"],
        ),
        (env!("CARGO_BIN_EXE_small_relay"), &["nowhere"]),
        (env!("CARGO_BIN_EXE_small_filter"), &["nowhere"]),
        (env!("CARGO_BIN_EXE_small_policy"), &["nowhere"]),
        (env!("CARGO_BIN_EXE_own_daemon"), &[]),
        (env!("CARGO_BIN_EXE_policy_test"), &["nowhere.toml"]),
        (env!("CARGO_BIN_EXE_what_follows"), &["mx.s.example", "203.0.113.7", "maybe"]),
        (env!("CARGO_BIN_EXE_host_chart"), &["10.0.0.1"]),
    ] {
        assert!(!run(program, arguments, "").1, "{program} {arguments:?}");
    }
}

/// Its client hears what the next hop said, of each recipient, and a dead next hop is for later.
#[test]
fn the_small_relay_passes_messages_and_answers_on() {
    let script = Script::new().when(Phase::Rcpt, "gone@", Act::reply("550 5.1.1 No such user"));
    let peer = script.start().unwrap();
    let hop = peer.address().to_string();
    let mut relay = Command::new(env!("CARGO_BIN_EXE_small_relay"))
        .args(["127.0.0.1:0", &hop, "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(relay.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let mut client = BufReader::new(TcpStream::connect(address).unwrap());
    let mut say = |text: &str, want: &str| {
        client.get_mut().write_all(text.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            client.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) == Some(&b' ') {
                assert!(line.starts_with(want), "{text}: {line}");
                return;
            }
        }
    };
    say("", "220");
    say("EHLO client.example\r\n", "250");
    for (to, end) in [("a@s.example", "250 "), ("gone@s.example", "550 5.1.1 No such user")] {
        say("MAIL FROM:<b@elsewhere.example>\r\n", "250");
        say(&format!("RCPT TO:<{to}>\r\n"), "250");
        say("RCPT TO:<second@s.example>\r\n", "452 4.5.3");
        say("DATA\r\n", "354");
        say("Subject: x\r\n\r\n..dot\r\n.\r\n", end);
    }
    drop(peer);
    say("MAIL FROM:<b@elsewhere.example>\r\nRCPT TO:<a@s.example>\r\nDATA\r\n", "250");
    say("", "250");
    say("", "354");
    // Refused, or reset when a process that is being started held the port open a moment longer.
    say("\r\nx\r\n.\r\n", "451 4.4.");
    say("QUIT\r\n", "221");
    assert!(relay.wait().unwrap().success());
}

/// As its head says; comments and empty lines do not count.
#[test]
fn the_small_relay_has_60_lines() {
    let text = include_str!("../../src/bin/small_relay.rs");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    assert!(lines.filter(|line| !line.starts_with("//")).count() <= 60);
}

/// A real client of filters asks it.
#[test]
fn the_small_filter_refuses_a_subject_and_marks_the_rest() {
    let mut filter = Command::new(env!("CARGO_BIN_EXE_small_filter"))
        .args(["127.0.0.1:0", "Cheap Pills"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(filter.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = format!("milter:{}", line.trim().strip_prefix("listening on ").unwrap());
    let arguments = ["-", "--milter", &address, "--client-ip", "192.0.2.1"];
    for (subject, want) in [
        ("CHEAP pills", "reject: 554 5.7.1 A subject with `cheap pills` is not taken here"),
        ("hello", "add `X-Small-Filter: passed`"),
    ] {
        let message = format!("Subject: {subject}\n\nx\n");
        let (printed, content) = run(env!("CARGO_BIN_EXE_filter_ask"), &arguments, &message);
        assert!(content && printed.contains(want), "{printed}");
    }
    filter.kill().unwrap();
    filter.wait().unwrap();
}

/// A message that the small relay takes is counted by the sink behind it.
#[test]
fn the_sink_counts_what_the_small_relay_hands_on() {
    let listening = |program: &str, arguments: &[&str]| {
        let mut child =
            Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        (child, stdout, address)
    };
    let (mut sink, mut counts, hop) =
        listening(env!("CARGO_BIN_EXE_smtp_sink"), &["127.0.0.1:0", "600"]);
    let (mut relay, _, address) =
        listening(env!("CARGO_BIN_EXE_small_relay"), &["127.0.0.1:0", &hop, "1"]);
    let mut client = BufReader::new(TcpStream::connect(address).unwrap());
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    let talk = "HELO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@s.example>\r\nDATA\r\n";
    client.get_mut().write_all(talk.as_bytes()).unwrap();
    while !line.starts_with("354") {
        line.clear();
        client.read_line(&mut line).unwrap();
    }
    client.get_mut().write_all(b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n").unwrap();
    line.clear();
    client.read_line(&mut line).unwrap();
    assert_eq!(line, "250 2.0.0 Forgotten\r\n");
    let mut messages = 0;
    while messages == 0 {
        line.clear();
        counts.read_line(&mut line).unwrap();
        messages = line.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    assert!(relay.wait().unwrap().success());
    sink.kill().unwrap();
    sink.wait().unwrap();
}
