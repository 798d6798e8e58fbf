//! `waypost serve`: what hostile clients try on the wire.

use crate::support;

use support::serving::{Folder, queue_id};
use support::sink::Sink;

const FROM: &str = "a@elsewhere.example";
const TO: &str = "x@solarmora.com";

/// An organization whose mail all goes to one next hop.
fn to_sink(sink: &Sink) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.route]]
name = "second"
host = "127.0.0.1"
port = {}
require_tls = false

[[organization.rule]]
description = "All to the second system"
affects = ["inbound"]
accounts = ["users", "unrecognized"]
then = {{ modify = {{ route = "second" }} }}
"#,
        sink.address.port()
    )
}

#[test]
fn what_stands_behind_starttls_in_clear_text_is_never_acted_on() {
    let sink = Sink::start();
    let folder = Folder::new(&to_sink(&sink));
    let serve = folder.serve();
    for behind in [
        &b"MAIL FROM:<evil@elsewhere.example>\r\n"[..],
        b"EHLO evil.example\r\nMAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<x@solarmora.com>\r\n",
        b"NOOP\r\n",
        b"RSE",
    ] {
        let client = serve.session("mx");
        let mut client = client.start_tls_with(behind, folder.certificate());
        // Had it been kept, its reply would come first, or the command would begin in the middle.
        let reply = client.say("EHLO client.example");
        assert!(reply.starts_with("250-mx.solarmora.com"), "{behind:?}: {reply}");
        assert!(!reply.contains("STARTTLS"), "{reply}");
        client.ask("RCPT TO:<x@solarmora.com>", "503");
        client.ask("DATA", "503");
        queue_id(&client.message(FROM, &[TO], b"\r\nx\r\n"));
    }
    let mut client = serve.session("mx");
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    let mut client = client.start_tls(folder.certificate(), "client.example");
    client.ask("RCPT TO:<x@solarmora.com>", "503");
    let came = sink.wait(4);
    assert!(came.iter().all(|one| one.from.starts_with("<a@elsewhere.example>")), "{came:?}");
    serve.terminate();
    assert_eq!(sink.received().len(), 4);
}

#[test]
fn smuggling_yields_one_refused_message_and_never_two() {
    let sink = Sink::start();
    let folder = Folder::new(&to_sink(&sink));
    let serve = folder.serve();
    let inner = "MAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<x@solarmora.com>\r\nDATA\r\n\
                 Subject: smuggled\r\n\r\nx";
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\n.\r",
        "\r.\r",
        "\r.\r\n",
        "\r.\n",
        "\r\n.\n",
        "\r\n.\r",
        "\r\n.\r\r\n",
        "\r\r\n.\r\r\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
    ] {
        for split in [false, true] {
            let mut client = serve.session("mx");
            client.ask("MAIL FROM:<a@elsewhere.example>", "250");
            client.ask("RCPT TO:<x@solarmora.com>", "250");
            client.ask("DATA", "354");
            let sent = format!("Subject: outer\r\n\r\nx{end}{inner}\r\n.\r\n");
            if split {
                sent.as_bytes().chunks(7).for_each(|chunk| client.send(chunk));
            } else {
                client.send(sent.as_bytes());
            }
            let reply = client.reply();
            assert!(reply.starts_with("550 5.6.0"), "{end:?}: {reply}");
            // Nothing else was read as a command: the next reply is that to NOOP.
            let reply = client.say("NOOP");
            assert!(reply.starts_with("250 2.0.0"), "{end:?}: {reply}");
            client.ask("RCPT TO:<x@solarmora.com>", "503");
        }
    }
    queue_id(&serve.session("mx").message(FROM, &[TO], b"Subject: good\r\n\r\nx\r\n"));
    assert!(sink.only().text().contains("Subject: good"));
    serve.terminate();
    assert_eq!(sink.received().len(), 1);
}

#[test]
fn chunks_carry_what_looks_like_the_end_of_data_and_never_two_messages() {
    let sink = Sink::start();
    let folder = Folder::new(&to_sink(&sink));
    let serve = folder.serve();
    let inner = "x\r\n.\r\nMAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<x@solarmora.com>\r\n\
                 DATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n";
    let text = format!("Subject: outer\r\n\r\n.{inner}end");
    for size in [1, 7, 1000] {
        let before = sink.received().len();
        let mut client = serve.session("mx");
        // Everything in one write: commands, chunks, and the command behind them.
        let mut sent = b"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<x@solarmora.com>\r\n".to_vec();
        let chunks = text.as_bytes().chunks(size);
        let count = chunks.len();
        for (place, chunk) in chunks.enumerate() {
            let last = if place + 1 == count { " LAST" } else { "" };
            sent.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
            sent.extend_from_slice(chunk);
        }
        sent.extend_from_slice(b"NOOP\r\n");
        client.send(&sent);
        for _ in 0..count + 1 {
            let reply = client.reply();
            assert!(reply.starts_with("250 2."), "{reply}");
        }
        queue_id(&client.reply());
        assert_eq!(client.reply(), "250 2.0.0 Ok");
        let came = sink.wait(before + 1);
        assert_eq!(came[before].behind_trace(), format!("{text}\r\n").as_bytes());
    }
    for (chunk, want) in [("a\nb", "550 5.6.0"), ("a\rb", "550 5.6.0"), ("a\0b", "550 5.6.0")] {
        let mut client = serve.session("mx");
        client.ask("MAIL FROM:<a@elsewhere.example> BODY=BINARYMIME", "501");
        client.ask("MAIL FROM:<a@elsewhere.example>", "250");
        client.ask("RCPT TO:<x@solarmora.com>", "250");
        client.send(format!("BDAT 3 LAST\r\n{chunk}").as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with(want), "{chunk:?}: {reply}");
        client.ask("BDAT 6 LAST\r\nQUIT", "503");
    }
    serve.terminate();
    assert_eq!(sink.received().len(), 3);
}

#[test]
fn an_empty_message_and_dots_on_the_first_line_are_read_right() {
    let sink = Sink::start();
    let folder = Folder::new(&to_sink(&sink));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    for (number, (sent, want)) in [
        (&b".\r\n"[..], &b""[..]),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        client.ask("MAIL FROM:<a@elsewhere.example>", "250");
        client.ask("RCPT TO:<x@solarmora.com>", "250");
        client.ask("DATA", "354");
        client.send(sent);
        queue_id(&client.reply());
        assert_eq!(sink.wait(number + 1)[number].behind_trace(), want, "{sent:?}");
    }
    serve.terminate();
}

#[test]
fn o3_more_than_fifty_received_lines_are_a_loop() {
    let sink = Sink::start();
    let folder = Folder::new(&to_sink(&sink));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let hops = |count: usize| {
        let line = "Received: from a.example ([192.0.2.1])\r\n\tby b.example; now\r\n";
        format!("{}Subject: x\r\n\r\nReceived: in the body\r\n", line.repeat(count))
    };
    let reply = client.message(FROM, &[TO], hops(51).as_bytes());
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    queue_id(&client.message(FROM, &[TO], hops(50).as_bytes()));
    assert_eq!(sink.only().behind_trace(), hops(50).as_bytes());
    serve.terminate();
}

#[test]
fn a_header_beyond_its_limit_is_refused_and_a_long_body_is_not() {
    let sink = Sink::start();
    let limits = "\n[server.limits]\nheader_size = 1000\n";
    let folder = Folder::new(&format!("{limits}{}", to_sink(&sink)));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let lines = "X-Filler: 0123456789\r\n".repeat(50);
    let reply = client.message(FROM, &[TO], format!("{lines}\r\nx\r\n").as_bytes());
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    queue_id(&client.message(FROM, &[TO], format!("Subject: x\r\n\r\n{lines}").as_bytes()));
    assert!(sink.only().text().contains("Subject: x"));
    serve.terminate();
    assert_eq!(sink.received().len(), 1);
}

#[test]
fn commands_in_the_wrong_order_or_form_leave_no_transaction() {
    let sink = Sink::start();
    let limits = "\n[server.limits]\nmessage_size = 10000\n";
    let folder = Folder::new(&format!("{limits}{}", to_sink(&sink)));
    let serve = folder.serve();
    let mut client = support::smtp_client::SmtpClient::connect(serve.address("mx"));
    for (command, want) in [
        ("MAIL FROM:<a@elsewhere.example>", "503"),
        ("EHLO client.example", "250"),
        ("RCPT TO:<x@solarmora.com>", "503"),
        ("DATA", "503"),
        ("MAIL FROM:<a@elsewhere.example> SIZE=10001", "552 5.3.4"),
        ("MAIL FROM:<a@elsewhere.example> NOSUCH=1", "555"),
        ("MAIL FROM:<\"a\rb\"@elsewhere.example>", "50"),
        ("MAIL FROM:<a@elsewhere.example>", "250"),
        ("MAIL FROM:<a@elsewhere.example>", "503"),
        ("DATA", "554"),
        ("BDAT -1", "50"),
        ("RCPT TO:<x@solarmora.com>", "250"),
        ("RSET", "250"),
        ("RCPT TO:<x@solarmora.com>", "503"),
        ("VRFY marie@solarmora.com", "252"),
        ("EXPN list", "50"),
        ("QUIT", "221"),
    ] {
        client.ask(command, want);
    }
    let mut client = serve.session("mx");
    let big = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(1000));
    let reply = client.message(FROM, &[TO], big.as_bytes());
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    client.ask("NOOP", "250");
    let mut client = serve.session("mx");
    client.send(&[b"NOOP ".as_slice(), &[b'x'; 100_000], b"\r\n"].concat());
    let reply = client.reply();
    assert!(reply.starts_with("500 5.5.2"), "{reply}");
    client.ask("NOOP", "250");
    serve.terminate();
    assert_eq!(sink.received().len(), 0);
}
