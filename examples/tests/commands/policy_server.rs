//! `waypost policy-server` over its sockets, asked as Postfix asks: the decisions of `serve`, quotas that
//! survive, tables that follow a reload.

use crate::support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::serving::{Folder, MARIE_RELAYS, Serve};
use support::smtp_client::SmtpClient;
use support::waypost;
use waypost_postfix::{
    Action, NetstringReader, PolicyRequest, ProtocolState, SocketmapReply, SocketmapRequest,
    TableReply, TableRequest,
};
use waypost_types::ReversePath;

const POLICY: &[&str] = &["--policy", "127.0.0.1:0"];

/// One organization with everything that replies at RCPT depend on; `more` may hold limits.
fn organization(more: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com", "solarmora.fr"]
licences = 250
mailbox_route = "mailboxes"
outbound_gateway = "127.0.0.1:2599"

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.com"]

[[organization.route]]
name = "mailboxes"
host = "127.0.0.1"
port = 2501
require_tls = false

[[organization.route]]
name = "second"
host = "127.0.0.1"
port = 2502
require_tls = false

[[organization.rule]]
description = "Split delivery"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ pattern = '@solarmora\.fr$' }}] }}
then = {{ modify = {{ route = "second" }} }}

[[organization.rule]]
description = "Nobody reads this"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ address = "noreply@solarmora.com" }}] }}
then = {{ reject = "Nobody reads this" }}

[[organization.rule]]
description = "Suspects"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ address = "abuse@solarmora.fr" }}] }}
then = {{ quarantine = "review" }}

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
{more}"#
    )
}

/// A connection of Postfix for policy delegation.
struct Postfix {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Postfix {
    fn of(server: &Serve) -> Self {
        let stream = TcpStream::connect(server.address("policy")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream, read: Vec::new() }
    }

    fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    /// The next answer, without `action=`.
    fn answer(&mut self) -> String {
        loop {
            if let Some((action, length)) = Action::decode(&self.read).unwrap() {
                self.read.drain(..length);
                let told = action.to_string();
                return told.trim_end().strip_prefix("action=").unwrap().to_owned();
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "it hung up");
            self.read.extend_from_slice(&chunk[..count]);
        }
    }

    fn ask(&mut self, request: &PolicyRequest) -> String {
        self.send(&request.encode());
        self.answer()
    }

    /// Each recipient of a message, in its order.
    fn recipients(&mut self, instance: &str, from: &str, to: &[&str]) -> Vec<String> {
        to.iter().map(|to| self.ask(&rcpt(instance, "relay", from, to))).collect()
    }

    fn end(&mut self, instance: &str, from: &str, count: u32) -> String {
        let end = PolicyRequest {
            recipient_count: count,
            recipient: None,
            ..request(ProtocolState::EndOfMessage, instance, "relay", from)
        };
        self.ask(&end)
    }

    /// A whole message that Postfix takes in; what was said of its recipients.
    fn message(&mut self, instance: &str, from: &str, to: &[&str]) -> Vec<String> {
        let said = self.recipients(instance, from, to);
        let taken = said.iter().filter(|said| matches!(said.as_str(), "OK" | "DUNNO")).count();
        if taken > 0 {
            let end = self.end(instance, from, u32::try_from(taken).unwrap());
            assert_eq!(end, "DUNNO", "{instance}");
        }
        said
    }
}

fn request(state: ProtocolState, instance: &str, listener: &str, from: &str) -> PolicyRequest {
    let sender = if from.is_empty() { ReversePath::Null } else { from.parse().unwrap() };
    PolicyRequest {
        helo: Some("client.elsewhere.example".into()),
        sender: Ok(sender),
        context: Some(listener.into()),
        ..PolicyRequest::new(state, instance, "127.0.0.1".parse().unwrap())
    }
}

fn rcpt(instance: &str, listener: &str, from: &str, to: &str) -> PolicyRequest {
    PolicyRequest {
        recipient: Some(to.parse()),
        ..request(ProtocolState::Rcpt, instance, listener, from)
    }
}

#[test]
fn the_same_envelopes_get_the_same_replies_as_from_serve() {
    let text = organization("");
    let (served, asked) = (Folder::new(&text), Folder::new(&text));
    let serve = served.serve();
    let server = Serve::policy_server(&asked.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let (marie, stranger) = ("marie@solarmora.com", "a@elsewhere.example");
    let mut refused = 0;
    for (place, (listener, from, to)) in [
        ("relay", marie, "friend@friend.example"),
        ("relay", "app@sub.solarmora.com", "friend@friend.example"),
        ("relay", stranger, "friend@friend.example"),
        ("relay", "", "friend@friend.example"),
        ("relay", marie, "nobody@solarmora.com"),
        ("relay", marie, "x@solarmora.fr"),
        ("mx", stranger, marie),
        ("mx", stranger, "M.PAUL@Solarmora.com"),
        ("mx", stranger, "nobody@solarmora.com"),
        ("mx", stranger, "x@solarmora.fr"),
        ("mx", stranger, "x@sub.solarmora.fr"),
        ("mx", stranger, "noreply@solarmora.com"),
        ("mx", stranger, "friend@friend.example"),
        ("mx", marie, "friend@friend.example"),
        ("mx", "", marie),
        ("mx", "", "nobody@solarmora.com"),
        ("mx", stranger, "postmaster@mx.solarmora.com"),
        ("mx", stranger, "\"a b\"@solarmora.fr"),
        ("mx", stranger, "\"a b\"@solarmora.com"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = serve.session(listener);
        let mail = client.say(&format!("MAIL FROM:<{from}>"));
        let said = match mail.starts_with("250") {
            true => client.say(&format!("RCPT TO:<{to}>")),
            false => mail,
        };
        // What is relayed is permitted; about the rest Postfix's own restrictions are asked too.
        let stands = if listener == "relay" { "OK" } else { "DUNNO" };
        let said = if said.starts_with("250") { stands.to_owned() } else { said };
        let got = postfix.ask(&rcpt(&format!("same.{place}"), listener, from, to));
        assert_eq!(got, said, "{listener}: {from} to {to}");
        refused += usize::from(said != stands);
    }
    assert_eq!(refused, 11, "refusals are among them");
    server.terminate();
}

#[test]
fn d9_d14_recipients_of_one_message() {
    let folder = Folder::new(&format!("limits = {{ recipients = 3 }}\n{}", organization("")));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let mut marie = |to: &str| postfix.ask(&rcpt("many", "mx", "a@elsewhere.example", to));
    for n in 0..3 {
        assert_eq!(marie(&format!("x{n}@solarmora.fr")), "DUNNO");
    }
    assert!(marie("x3@solarmora.fr").starts_with("452 4.5.3 "));
    let own = ["postmaster@elsewhere.example", "b@elsewhere.example"];
    // A relayed null sender must be known by HELO (D7).
    let null = |to: &str| PolicyRequest {
        helo: Some("app.solarmora.com".into()),
        ..rcpt("null", "relay", "", to)
    };
    assert_eq!(postfix.ask(&null(own[0])), "OK");
    assert!(postfix.ask(&null(own[1])).starts_with("452 4.5.3 "), "D9");
}

#[test]
fn d11_d13_reserve_count_release_and_survive_a_kill() {
    let limits = "[organization.limits]\nrecipients_per_day = 5\n";
    let folder = Folder::new(&organization(limits));
    let arguments = ["--policy", "127.0.0.1:0"];
    let server = Serve::policy_server(&folder.configuration(), &arguments);
    let marie = "marie@solarmora.com";
    let mut postfix = Postfix::of(&server);
    let to = |n: usize| format!("r{n}@friend.example");
    let (a, b, c, d) = (to(1), to(2), to(3), to(4));
    // Two are counted.
    assert_eq!(postfix.message("1", marie, &[&a, &b]), ["OK", "OK"]);
    // Three are reserved in a session that is still open: no room for another one.
    let mut slow = Postfix::of(&server);
    assert_eq!(slow.recipients("2", marie, &[&a, &b, &c]), ["OK"; 3]);
    // For good only once they are counted: Postfix does not tell of a message that is given up.
    let said = postfix.recipients("3", marie, &[&d]);
    assert!(said[0].starts_with("450 4.7.1 Daily SMTP relay limit of an organization"), "{said:?}");
    // The same connection goes on with another message: the former one was given up.
    assert_eq!(slow.recipients("4", marie, &[&d]), ["OK"]);
    assert_eq!(postfix.recipients("5", marie, &[&a, &b]), ["OK", "OK"]);
    // Asked at the end twice, it is counted once; Postfix took only one of both.
    assert_eq!(postfix.end("5", marie, 1), "DUNNO");
    assert_eq!(postfix.end("5", marie, 1), "DUNNO");
    server.log.wait_text("accepted another number of recipients");
    server.kill();
    let server = Serve::policy_server(&folder.configuration(), &arguments);
    let mut postfix = Postfix::of(&server);
    // Three are counted, so two have room: the kill lost nothing and the open message is gone.
    let said = postfix.message("6", marie, &[&a, &b, &c]);
    assert_eq!(said[..2], ["OK", "OK"]);
    assert!(said[2].starts_with("550 5.7.1 "), "{said:?}");
    let ran = waypost(&["quota", &folder.configuration(), "--json", "Solarmora"], "");
    assert!(ran.stdout.contains(r#""used":5"#), "{}", ran.stdout);
    server.terminate();
    let ran = waypost(&["quota", &folder.configuration(), "--json", "Solarmora"], "");
    assert!(ran.stdout.contains(r#""used":5"#), "and without the server: {}", ran.stdout);
}

/// Marie is the administrator, and has a Maildir in the spool; machines of the loopback network relay.
fn told(limits: &str) -> String {
    let told = "licences = 250\nadministrators = [\"marie@solarmora.com\"]\nover_limit = \"hold\"";
    let organization = MARIE_RELAYS.replace("licences = 250", told);
    let organization = organization.replace("\"127.0.0.1\"", "\"127.0.0.0/24\"");
    format!("admin = \"127.0.0.1:0\"\n{organization}\n[organization.limits]\n{limits}\n")
}

#[test]
fn d13_administrators_hear_of_a_limit_once_a_day_and_hold_defers() {
    let folder = Folder::new(&told("recipients_per_day = 5"));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let marie = "marie@solarmora.com";
    let mut postfix = Postfix::of(&server);
    let to = ["a@x.example", "b@x.example", "c@x.example"];
    assert_eq!(postfix.message("1", marie, &to), ["OK"; 3]);
    // What is given up is nobody's concern.
    assert_eq!(postfix.recipients("2", marie, &to[..1]), ["OK"]);
    assert_eq!(postfix.message("3", marie, &to[..1]), ["OK"]);
    let mails = folder.mailbox(marie, "", 1);
    assert!(
        mails[0].contains("Subject: A relay limit of Solarmora is nearly used up"),
        "{mails:?}"
    );
    assert!(
        mails[0].contains("80 % of the limit of 5 recipients of this organization"),
        "{mails:?}"
    );
    server.log.wait_text("80 % of the limit of 5 recipients of this organization");
    let of = "{organization=\"Solarmora\",kind=\"near-quota-recipients-per-day\"}";
    assert_eq!(server.metric(&format!("waypost_administrators_told_total{of}")), 1);
    server.kill();

    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let said = postfix.message("4", marie, &to);
    // Of `hold` a deferral is left: nobody would let Postfix's queue go.
    assert_eq!(said[0], "OK");
    assert!(said[1..].iter().all(|said| said.starts_with("450 4.7.1 ")), "{said:?}");
    server.terminate();
    assert_eq!(folder.mailbox_size(marie, ""), 1, "told once");
}

#[test]
fn d13_each_client_near_its_limit_is_told_of_once_a_day() {
    let folder = Folder::new(&told("recipients_per_client_per_day = 2"));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let marie = "marie@solarmora.com";
    let mut postfix = Postfix::of(&server);
    let mut relayed = |instance: &str, client: &str| {
        let of_client =
            |request: PolicyRequest| PolicyRequest { client: client.parse().unwrap(), ..request };
        let said = postfix.ask(&of_client(rcpt(instance, "relay", marie, "a@x.example")));
        let end = PolicyRequest {
            recipient_count: 1,
            ..request(ProtocolState::EndOfMessage, instance, "relay", marie)
        };
        if said == "OK" {
            assert_eq!(postfix.ask(&of_client(end)), "DUNNO");
        }
        said
    };
    for (instance, client) in [("1", "127.0.0.1"), ("2", "127.0.0.2"), ("3", "127.0.0.3")] {
        assert_eq!(relayed(instance, client), "OK");
    }
    for (instance, client) in [("4", "127.0.0.1"), ("5", "127.0.0.2")] {
        assert_eq!(relayed(instance, client), "OK");
    }
    assert!(relayed("6", "127.0.0.1").starts_with("450 4.7.1 "));
    let mails = folder.mailbox(marie, "", 2);
    for client in ["127.0.0.1", "127.0.0.2"] {
        let named = format!("by {client}: 2.");
        assert_eq!(mails.iter().filter(|mail| mail.contains(&named)).count(), 1, "{mails:?}");
    }
    server.terminate();
    assert_eq!(folder.mailbox_size(marie, ""), 2);
}

#[test]
fn d10_a_user_has_limits_of_her_own_and_peak_is_temporary() {
    let limits =
        "[organization.limits]\nmessages_per_user_per_day = 1\nrecipients_per_10_minutes = 3\n";
    let folder = Folder::new(&organization(limits));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let alias = "m.paul@solarmora.com";
    assert_eq!(postfix.message("1", "marie@solarmora.com", &["a@x.example"]), ["OK"]);
    let said = postfix.message("2", alias, &["a@x.example"]);
    assert!(said[0].starts_with("550 5.4.5 Daily SMTP relay limit of a user"), "{said:?}");
    let app = "app@solarmora.com";
    let said = postfix.message("3", app, &["a@x.example", "b@x.example", "c@x.example"]);
    assert_eq!(said[..2], ["OK", "OK"]);
    assert!(said[2].starts_with("450 4.2.1 Peak SMTP relay limit"), "{said:?}");
}

#[test]
fn d13_a_message_that_is_first_heard_of_at_its_end() {
    let folder = Folder::new(&organization("[organization.limits]\nrecipients_per_day = 1\n"));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let marie = "marie@solarmora.com";
    let end = |instance, from, to: Option<&str>, count| PolicyRequest {
        recipient: to.map(str::parse),
        recipient_count: count,
        ..request(ProtocolState::EndOfMessage, instance, "relay", from)
    };
    // Several recipients that were never asked about: again, and then they are.
    let said = postfix.ask(&end("1", marie, None, 2));
    assert!(said.starts_with("451 4.3.0 "), "{said}");
    // The only one is judged now.
    assert_eq!(postfix.ask(&end("2", marie, Some("a@x.example"), 1)), "DUNNO");
    assert_eq!(postfix.ask(&end("2", marie, Some("a@x.example"), 1)), "DUNNO", "counted once");
    let said = postfix.ask(&end("3", marie, Some("a@x.example"), 1));
    assert!(said.starts_with("550 5.7.1 "), "{said}");
    // Mail that is not relayed counts for nobody.
    let inbound =
        PolicyRequest { context: Some("mx".into()), ..end("4", "a@elsewhere.example", None, 2) };
    assert_eq!(postfix.ask(&inbound), "DUNNO");
}

#[test]
fn d3_d8_who_the_client_is() {
    let any = r#"
[[organization.relay]]
description = "By password"
allowed_senders = "any"
require_auth = true
require_tls = true
"#;
    let all = organization("");
    let text = all.split("[[organization.relay]]").next().unwrap().to_owned() + any;
    let folder = Folder::new(&text);
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let from = |instance, tls: bool, user: Option<&str>, from| PolicyRequest {
        sasl_username: user.map(Box::from),
        tls: if tls { waypost_types::TlsState::Encrypted } else { waypost_types::TlsState::Clear },
        ..rcpt(instance, "relay", from, "friend@friend.example")
    };
    let (marie, boss) = ("marie@solarmora.com", "boss@elsewhere.example");
    for (instance, request, want) in [
        ("1", from("1", false, Some(marie), marie), "530 5.7.0"),
        ("2", from("2", true, None, marie), "530 5.7.0"),
        ("3", from("3", true, Some("marie"), marie), "530 5.7.0"),
        ("4", from("4", true, Some("nobody@solarmora.com"), marie), "530 5.7.0"),
        ("5", from("5", true, Some("M.Paul@solarmora.com"), marie), "OK"),
        ("6", from("6", true, Some(marie), boss), "550 5.7.1 A foreign envelope sender"),
    ] {
        let said = postfix.ask(&request);
        assert!(said.starts_with(want), "{instance}: {said}, not {want}");
    }
    let unknown = PolicyRequest { context: Some("no-such".into()), ..from("7", true, None, marie) };
    assert!(postfix.ask(&unknown).starts_with("451 4.3.5 "));
    server.log.wait_text("names no [[listener]]");
    server.terminate();
    let kept = ["--policy", "127.0.0.1:0", "--keep-foreign-senders"];
    let server = Serve::policy_server(&folder.configuration(), &kept);
    let mut postfix = Postfix::of(&server);
    assert_eq!(postfix.ask(&from("8", true, Some(marie), boss)), "OK");
}

#[test]
fn states_and_octets() {
    let folder = Folder::new(&organization(""));
    folder.configure(&format!("admin = \"127.0.0.1:0\"\n{}", organization("")));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let mut postfix = Postfix::of(&server);
    let stranger = "a@elsewhere.example";
    // Before MAIL and at DATA there is nothing to say; at MAIL a refusal is told.
    for (state, want) in [
        (ProtocolState::Connect, "DUNNO"),
        (ProtocolState::Ehlo, "DUNNO"),
        (ProtocolState::Mail, "550 5.7.1"),
        (ProtocolState::Data, "DUNNO"),
        (ProtocolState::Vrfy, "DUNNO"),
    ] {
        let said = postfix.ask(&request(state, "1", "relay", stranger));
        assert!(said.starts_with(want), "{state:?}: {said}");
    }
    // A quarantine for a recipient holds the message.
    assert_eq!(
        postfix.ask(&rcpt("2", "mx", stranger, "abuse@solarmora.fr")),
        "HOLD quarantine review"
    );
    // Several requests in one write, and one in many.
    let two =
        [rcpt("3", "mx", stranger, "x@solarmora.fr"), rcpt("3", "mx", stranger, "y@solarmora.com")];
    postfix.send(&two.each_ref().map(|one| one.encode()).concat());
    assert_eq!(postfix.answer(), "DUNNO");
    assert!(postfix.answer().starts_with("550 5.1.1"));
    for octet in two[0].encode() {
        postfix.send(&[octet]);
    }
    assert_eq!(postfix.answer(), "DUNNO");
    // An address that is none, and one without a domain.
    let raw = |to: &str| {
        format!(
            "request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=4\nclient_address=192.0.2.1\n\
             policy_context=mx\nsender={stranger}\nrecipient={to}\n\n"
        )
    };
    postfix.send(raw("nobody").as_bytes());
    assert!(postfix.answer().starts_with("501 5.1.3"));
    postfix.send(raw("Postmaster").as_bytes());
    assert!(
        postfix.answer().starts_with("550 5.1.1"),
        "as serve has it: nobody is postmaster there"
    );
    // What is no request ends the connection, and that one alone.
    let mut garbage = Postfix::of(&server);
    garbage.send(b"GET / HTTP/1.1\r\n\r\n\n\n");
    let mut rest = Vec::new();
    assert_eq!(garbage.stream.read_to_end(&mut rest).unwrap_or(0), 0, "{rest:?}");
    assert_eq!(postfix.ask(&two[0]), "DUNNO");
    let answered = server.metric("waypost_front_requests_total{front=\"policy\",answer=\"dunno\"}");
    assert_eq!(answered, 7);
    assert!(server.metric("waypost_front_requests_total{front=\"policy\",answer=\"held\"}") == 1);
    server.terminate();
}

/// One look-up over a connection of socketmap.
fn socketmap(stream: &mut (impl Read + Write), name: &str, key: &str) -> SocketmapReply {
    let request = SocketmapRequest { name: name.into(), key: key.into() };
    stream.write_all(&request.encode()).unwrap();
    let mut reader = NetstringReader::new(100_000);
    loop {
        if let Some(inside) = reader.next_octets().unwrap() {
            return SocketmapReply::decode(&inside).unwrap();
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "it hung up");
        reader.feed(&chunk[..count]);
    }
}

fn tcp_table(at: SocketAddr, key: &str) -> TableReply {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(&TableRequest { key: key.into() }.encode()).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        line.push(octet[0]);
    }
    line.pop();
    TableReply::decode(&line).unwrap()
}

#[test]
fn tables_over_unix_and_tcp_follow_a_reload() {
    let folder = Folder::new(&organization(""));
    let path = folder.path("socketmap");
    // A socket that nobody answers on any more is in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let unix = format!("unix:{}", path.display());
    let arguments =
        ["--socketmap", &unix, "--tcp-table", "transport=127.0.0.1:0", "--policy", "127.0.0.1:0"];
    let server = Serve::policy_server(&folder.configuration(), &arguments);
    let mut maps = UnixStream::connect(&path).unwrap();
    let found = |value: &str| SocketmapReply::Ok(value.into());
    for (table, key, want) in [
        ("transport", "marie@solarmora.com", found("smtp:[127.0.0.1]:2501")),
        ("transport", "x@solarmora.fr", found("smtp:[127.0.0.1]:2502")),
        ("transport", "x@friend.example", found("smtp:[127.0.0.1]:2599")),
        ("transport", "solarmora.com", SocketmapReply::NotFound),
        ("recipients", "x@solarmora.fr", found("OK")),
        ("recipients", "nobody@solarmora.com", SocketmapReply::NotFound),
        ("domains", "solarmora.fr", found("OK")),
        ("tls", "[127.0.0.1]:2501", found("may")),
    ] {
        assert_eq!(socketmap(&mut maps, table, key), want, "{table} {key}");
    }
    assert!(matches!(socketmap(&mut maps, "nonsense", "x"), SocketmapReply::Perm(_)));
    let tcp = server.address("tcp-table");
    assert_eq!(tcp_table(tcp, "x@solarmora.fr"), TableReply::Found("smtp:[127.0.0.1]:2502".into()));
    assert_eq!(tcp_table(tcp, "nobody@solarmora.com"), TableReply::NotFound);
    // A reload is seen by connections that are open.
    folder.configure(&organization("").replace("port = 2502", "port = 2503"));
    server.log.wait_text("reloaded");
    let now = socketmap(&mut maps, "transport", "x@solarmora.fr");
    assert_eq!(now, found("smtp:[127.0.0.1]:2503"));
    // One that is wrong changes nothing.
    folder.configure(&organization("nonsense = 1\n"));
    server.log.wait_text("the running one stays");
    assert_eq!(socketmap(&mut maps, "transport", "x@solarmora.fr"), now);
    // What is no netstring ends the connection.
    maps.write_all(b"hello").unwrap();
    assert_eq!(maps.read(&mut [0; 10]).unwrap_or(0), 0);
    server.terminate();
    assert!(!path.exists(), "the socket is gone");
}

#[test]
fn what_cannot_be_followed_is_told() {
    let copies = r#"
[[organization.rule]]
description = "Marked"
affects = ["inbound"]
then = { modify = { subject_prefix = "[EXT] " } }
"#;
    let holding = "licences = 250\nover_limit = \"hold\"";
    let folder = Folder::new(&organization(copies).replace("licences = 250", holding));
    let ran = waypost(&["policy-server", &folder.configuration(), "--list-limits"], "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("a recipient over a limit is deferred"), "{}", ran.stdout);
    assert!(ran.stdout.contains("rule \"Marked\" of Solarmora\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("subject_prefix: the message is not seen"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("Split delivery"), "that one is followed: {}", ran.stdout);
    let ran = waypost(&["policy-server", &folder.configuration(), "--list-limits", "--json"], "");
    let list = &ran.json_lines()[0];
    assert!(list.as_array().unwrap().iter().any(|one| one["name"] == "Marked"), "{list}");
    // And in the log of each start.
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    assert!(server.log.holds("not followed as serve does"));
    let second =
        waypost(&["policy-server", &folder.configuration(), "--policy", "127.0.0.1:0"], "");
    assert_eq!(second.status, 2);
    assert!(second.stderr.contains("a spool has one owner"), "{}", second.stderr);
}

#[test]
fn the_page_s_configuration_is_right_and_its_limits_are_told() {
    let page = support::file("docs/POSTFIX.md");
    let text = page.split("```toml waypost.toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waypost.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let ran = waypost(&["check", path], "");
    assert_eq!(ran.status, 0, "{}{}", ran.stdout, ran.stderr);
    let ran = waypost(&["policy-server", path, "--list-limits"], "");
    let shown = ran.stdout.as_str();
    assert!(page.contains(shown.trim_end()), "docs/POSTFIX.md is to show:\n{shown}");
}

#[test]
fn wrong_arguments_are_told() {
    let folder = Folder::new(&organization(""));
    let configuration = folder.configuration();
    for (arguments, want) in [
        (&["--policy", "localhost"][..], "no address"),
        (&["--tcp-table", "127.0.0.1:1"], "transport=127.0.0.1:10032"),
        (&["--tcp-table", "nonsense=127.0.0.1:1"], "no table `nonsense`"),
        (&["--policy", "unix:/nonexistent/folder/socket"], "cannot be listened on"),
        (&[], "nowhere to answer"),
    ] {
        let all = [&["policy-server", configuration.as_str()], arguments].concat();
        let ran = waypost(&all, "");
        assert_eq!(ran.status, 2, "{arguments:?}");
        assert!(ran.stderr.contains(want), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn many_connections_share_one_quota_d13() {
    let folder = Folder::new(&organization("[organization.limits]\nrecipients_per_day = 50\n"));
    let server = Serve::policy_server(&folder.configuration(), POLICY);
    let until = Instant::now() + Duration::from_secs(60);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let mut postfix = Postfix::of(&server);
            std::thread::spawn(move || {
                let mut taken = 0;
                for n in 0..10 {
                    let instance = format!("{thread}.{n}");
                    let to = format!("r{thread}-{n}@x.example");
                    let said = postfix.message(&instance, "marie@solarmora.com", &[&to]);
                    taken += usize::from(said == ["OK"]);
                    assert!(Instant::now() < until);
                }
                taken
            })
        })
        .collect();
    let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(taken, 50);
    // A client of SMTP finds nobody here.
    let at = server.address("policy");
    drop(SmtpClient::silent(at));
}
