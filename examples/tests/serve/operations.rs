//! `waypost serve`: health, metrics, logs, limits of clients.

use crate::support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, queue_id};
use support::sink::{Sink, reserved};
use support::smtp_client::SmtpClient;

fn organization(second: SocketAddr) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "second"
host = "{}"
port = {}
require_tls = false

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "second" }} }}
"#,
        second.ip(),
        second.port()
    )
}

const MESSAGE: &[u8] = b"From: a@elsewhere.example\r\n\r\nx\r\n";

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn o4_health_and_metrics_over_http_and_a_line_for_each_attempt() {
    let second = Sink::answering(|command| {
        command.starts_with("RCPT TO:<gone@").then(|| "550 5.1.1 No such user".to_owned())
    });
    let admin = reserved();
    let folder = Folder::new("");
    let admin_line = format!("admin = \"{admin}\"\n");
    folder.configure(&format!("{admin_line}{}", organization(second.address)));
    let serve = folder.serve();
    assert!(get(admin, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    let mut client = serve.session("mx");
    queue_id(&client.message("a@elsewhere.example", &["x@solarmora.com"], MESSAGE));
    queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], MESSAGE));
    queue_id(&client.message("", &["gone@solarmora.com"], MESSAGE));
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<x@victim.example>", "550 5.7.1");
    for (outcome, place) in [
        ("delivered", "recipient=x@solarmora.com"),
        ("delivered", "recipient=marie@solarmora.com"),
        ("failed", "recipient=gone@solarmora.com"),
    ] {
        serve.log.wait_for(place, |line| line.contains(outcome) && line.contains(place));
    }
    let metrics = get(admin, "/metrics");
    for line in [
        "waypost_messages_accepted_total{listener=\"mx\"} 3\n",
        "reason=\"relaying-denied\"} 1\n",
        "route=\"second\",outcome=\"delivered\"} 1\n",
        "route=\"\",outcome=\"delivered\"} 1\n",
        "route=\"second\",outcome=\"bounced\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    drop(client);
    serve.terminate();
}

#[test]
fn d15_generic_names_are_limited_harder_and_one_connection_is_not() {
    let second = Sink::start();
    let limits = "\n[server.limits]\ngeneric_helo_connections_per_minute = 3\n";
    let folder = Folder::new(&format!("{limits}{}", organization(second.address)));
    let serve = folder.serve();
    let mut kept = Vec::new();
    for name in ["localhost", "mx.solarmora.com", "printer.localdomain"] {
        let mut client = SmtpClient::hello(serve.address("mx"), name);
        // A connection counts once: EHLO comes again behind STARTTLS, and with some clients before each message.
        assert!(client.say("EHLO localhost").starts_with("250"));
        kept.push(client);
    }
    let mut refused = SmtpClient::connect(serve.address("mx"));
    let reply = refused.say("EHLO localhost");
    assert!(reply.starts_with("421 4.7.0"), "{reply}");
    assert!(reply.contains("localdomain"), "the reason: {reply}");
    assert!(reply.ends_with("give your own full name in EHLO (D15)"), "the cure: {reply}");
    // A full name is not limited, nor are many messages on one connection.
    let mut client = serve.session("mx");
    for _ in 0..30 {
        queue_id(&client.message("a@elsewhere.example", &["x@solarmora.com"], MESSAGE));
    }
    queue_id(&kept[0].message("a@elsewhere.example", &["x@solarmora.com"], MESSAGE));
    second.wait(31);
    serve.terminate();
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    for upto in 0..5 {
        let mut client = serve.session("mx");
        let commands = ["MAIL FROM:<a@elsewhere.example>", "RCPT TO:<x@solarmora.com>", "DATA"];
        for command in commands.iter().take(upto) {
            client.say(command);
        }
        if upto == 4 {
            client.send(b"Subject: half\r\n\r\n.\r");
        }
    }
    // Commands in one write, with the message behind DATA.
    let mut client = serve.session("mx");
    let whole = "MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<x@solarmora.com>\r\nDATA\r\n";
    client.send(whole.as_bytes());
    let replies = [client.reply(), client.reply(), client.reply()];
    assert!(replies.iter().zip(["250", "250", "354"]).all(|(got, want)| got.starts_with(want)));
    client.send(b"Subject: whole\r\n\r\nx\r\n.\r\nRSET\r\nQUIT\r\n");
    queue_id(&client.reply());
    assert!(client.reply().starts_with("250 2.0.0"));
    assert!(client.reply().starts_with("221 2.0.0"));
    assert!(second.only().text().contains("Subject: whole"));
    serve.terminate();
    assert_eq!(second.received().len(), 1);
}

#[test]
fn running_out_of_files_ends_neither_the_listeners_nor_the_spool() {
    let second = Sink::start();
    let limits = "\n[server.limits]\nconnections_per_client = 1000\n";
    let folder = Folder::new(&format!("{limits}{}", organization(second.address)));
    let serve = Serve::with_files(&folder.configuration(), 128);
    serve.log.wait_text("ready");
    let address = serve.address("mx");
    let mut first = serve.session("mx");
    // More than there are files for: some are greeted, the others wait in the backlog.
    let crowd: Vec<TcpStream> = (0..160).map(|_| TcpStream::connect(address).unwrap()).collect();
    serve.log.wait_text("accept failed; trying again");
    let said = first.message("a@elsewhere.example", &["x@solarmora.com"], MESSAGE);
    assert!(said.starts_with("250 ") || said.starts_with("451 "), "{said}");
    drop(crowd);
    let mut client = serve.session("mx");
    let mut sent = usize::from(said.starts_with("250 "));
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let said = client.message("a@elsewhere.example", &["x@solarmora.com"], MESSAGE);
        if said.starts_with("250 ") {
            sent += 1;
            break;
        }
        assert!(said.starts_with("451 ") && Instant::now() < until, "{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    second.wait(sent);
    serve.terminate();
}

#[test]
fn a_slow_client_has_one_deadline_for_a_command_and_not_for_each_octet() {
    let second = Sink::start();
    let timeouts = "\n[server.timeouts]\ncommand = \"2s\"\n";
    let folder = Folder::new(&format!("{timeouts}{}", organization(second.address)));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let until = Instant::now() + Duration::from_secs(30);
    // Ends when the server hangs up; a deadline for each octet would never come.
    while client.try_send(b"x").is_ok() {
        assert!(Instant::now() < until, "held by one octet at a time");
        std::thread::sleep(Duration::from_millis(100));
    }
    serve.terminate();
}

#[test]
fn a_stop_waits_for_a_message_that_is_coming_and_for_no_one_else() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let mut serve = folder.serve();
    let mut idle = serve.session("mx");
    let mut mail = serve.session("mx");
    mail.ask("MAIL FROM:<a@elsewhere.example>", "250");
    let mut rcpt = serve.session("mx");
    rcpt.ask("MAIL FROM:<a@elsewhere.example>", "250");
    rcpt.ask("RCPT TO:<x@solarmora.com>", "250");
    let mut data = serve.session("mx");
    data.ask("MAIL FROM:<a@elsewhere.example>", "250");
    data.ask("RCPT TO:<x@solarmora.com>", "250");
    data.ask("DATA", "354");
    data.send(b"Subject: half\r\n");
    serve.signal("TERM");
    for waiting in [&mut idle, &mut mail, &mut rcpt] {
        let said = waiting.reply();
        assert!(said.starts_with("421 4.3.2"), "{said}");
        assert!(waiting.try_reply().is_err(), "the connection is over");
    }
    data.send(b"\r\nx\r\n.\r\n");
    queue_id(&data.reply());
    assert!(data.reply().starts_with("421 4.3.2"));
    assert!(serve.wait().success());
    // It is in the spool, or was delivered on the way out.
    if second.received().is_empty() {
        let serve = folder.serve();
        second.wait(1);
        serve.terminate();
    }
    assert!(second.only().text().contains("Subject: half"));
}
