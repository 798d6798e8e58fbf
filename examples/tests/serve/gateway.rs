//! `waypost serve`: what reaches an outbound gateway, byte for byte, proved by DKIM (B1, B2, B3).

use crate::support;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::common::cache::NoCache;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
};
use support::serving::{Folder, queue_id};
use support::sink::Sink;
use support::smtp_client::SmtpClient;
use support::waypost;
use waypost_net::test_kit::{Authority, Framing, Script};

/// Signs for `solarmora.com`, and verifies without asking anybody.
struct Keys {
    key: Vec<u8>,
    published: Published,
}

/// The key record, as the DNS would have it.
struct Published(HashMap<Box<str>, Txt>);

impl ResolverCache<Box<str>, Txt> for Published {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        Some(self.0.get(name).expect("a signature by another key").clone())
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

impl Keys {
    fn new() -> Self {
        let key = Ed25519Key::generate_pkcs8().unwrap();
        let public = Ed25519Key::from_pkcs8_der(&key).unwrap().public_key();
        let record = format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(public));
        let record = Txt::DomainKey(Arc::new(DomainKey::parse(record.as_bytes()).unwrap()));
        let name = "k1._domainkey.solarmora.com.";
        Self { key, published: Published([(name.into(), record)].into()) }
    }

    /// The message with a signature of each kind on top.
    fn signed(&self, message: &[u8]) -> Vec<u8> {
        use Canonicalization::{Relaxed, Simple};
        let mut out = Vec::new();
        for (header, body) in
            [(Simple, Simple), (Relaxed, Relaxed), (Simple, Relaxed), (Relaxed, Simple)]
        {
            let signer = DkimSigner::from_key(Ed25519Key::from_pkcs8_der(&self.key).unwrap())
                .domain("solarmora.com")
                .selector("k1")
                .headers(["From", "To", "Subject", "X-Odd"])
                .header_canonicalization(header)
                .body_canonicalization(body);
            out.extend_from_slice(signer.sign(message).unwrap().to_header().as_bytes());
        }
        out.extend_from_slice(message);
        out
    }

    /// Whether each signature of a message is good.
    fn verify(&self, message: &[u8]) -> Vec<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let asking =
                MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default());
            let message = AuthenticatedMessage::parse(message).unwrap();
            let question = Parameters {
                params: &message,
                cache_txt: Some(&self.published),
                cache_mx: None::<&NoCache<_, _>>,
                cache_ptr: None::<&NoCache<_, _>>,
                cache_ipv4: None::<&NoCache<_, _>>,
                cache_ipv6: None::<&NoCache<_, _>>,
            };
            let found = asking.unwrap().verify_dkim(question).await;
            found.iter().map(|one| *one.result() == DkimResult::Pass).collect()
        })
    }
}

/// How mail gets to the gateway: the lines of the organization.
fn organization(settings: &str, rules: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 2500
{settings}
[[organization.user]]
address = "marie@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "any"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
{rules}"#
    )
}

fn by_setting(gateway: &Sink) -> String {
    organization(&format!("outbound_gateway = \"{}\"", gateway.address), "")
}

fn by_rule(gateway: &Sink, modify: &str) -> String {
    let rules = format!(
        r#"
[[organization.route]]
name = "smart host"
host = "{}"
port = {}
require_tls = false

[[organization.rule]]
description = "All outbound mail by the smart host"
affects = ["outbound"]
then = {{ modify = {{ route = "smart host"{modify} }} }}
"#,
        gateway.address.ip(),
        gateway.address.port()
    );
    organization("", &rules)
}

const HEADER: &str =
    "From: Marie <marie@solarmora.com>\r\nTo: far@far.example\r\nSubject: Bonjour\r\n";

/// What the messages are, and each one's header and body.
fn messages() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let plain = || HEADER.as_bytes().to_vec();
    let with = |field: &[u8]| [HEADER.as_bytes(), field].concat();
    let long = |length: usize| [b"a".repeat(length), b"\r\nend\r\n".to_vec()].concat();
    let all_octets: Vec<u8> = (1..=255).filter(|b| !b"\r\n".contains(b)).collect();
    vec![
        ("plain", plain(), b"Hello\r\n".to_vec()),
        ("8-bit body", plain(), "D\u{e9}j\u{e0} vu \u{1f600}\r\n".as_bytes().to_vec()),
        (
            "octets of no character set",
            plain(),
            [b"\xe9\xff\xfe\x80 ", &all_octets[..], b"\r\n"].concat(),
        ),
        ("8-bit header", with("X-Odd: D\u{e9}j\u{e0}\r\n".as_bytes()), b"x\r\n".to_vec()),
        ("Latin-1 header", with(b"X-Odd: D\xe9j\xe0\r\n"), b"x\r\n".to_vec()),
        ("998 octets in a line", plain(), long(998)),
        ("999 octets in a line", plain(), long(999)),
        ("20,000 octets in a line", plain(), long(20_000)),
        ("300,000 octets in a line", plain(), long(300_000)),
        (
            "20,000 octets in a header line",
            with(&[&b"X-Odd: "[..], &long(20_000)[..20_002]].concat()),
            b"x\r\n".to_vec(),
        ),
        ("leading dots", plain(), b".\r\n..\r\n...\r\n.a\r\n..a\r\n. \r\n.\r\n".to_vec()),
        ("dots alone at the end", plain(), b"x\r\n.\r\n.\r\n.\r\n".to_vec()),
        (
            "what looks like a transaction",
            plain(),
            b".\r\nQUIT\r\nMAIL FROM:<>\r\nRSET\r\n".to_vec(),
        ),
        ("folded header", with(b"X-Odd: a\r\n b\r\n\tc\r\n   d\r\n \te\r\n"), b"x\r\n".to_vec()),
        ("blanks in the header", with(b"X-Odd:  a  b \t \r\n"), b"x\r\n".to_vec()),
        ("no blank behind the colon", with(b"X-Odd:a\r\n"), b"x\r\n".to_vec()),
        ("blanks before the colon", with(b"X-Odd : a\r\n"), b"x\r\n".to_vec()),
        ("a name in odd case", with(b"x-ODD: a\r\n"), b"x\r\n".to_vec()),
        ("an empty field", with(b"X-Odd:\r\n"), b"x\r\n".to_vec()),
        ("a field twice", with(b"X-Odd: a\r\nX-Odd: b\r\n"), b"x\r\n".to_vec()),
        ("trailing whitespace", plain(), b"a \r\nb\t\r\n \t \r\nc  d\r\n".to_vec()),
        ("empty lines at the end", plain(), b"a\r\n\r\n\r\n\r\n".to_vec()),
        ("blank lines at the end", plain(), b"a\r\n \r\n\t\r\n".to_vec()),
        ("an empty body", plain(), b"".to_vec()),
        ("a body of one empty line", plain(), b"\r\n".to_vec()),
        ("a body of empty lines", plain(), b"\r\n\r\n\r\n".to_vec()),
        ("many lines", plain(), b"0123456789\r\n".repeat(20_000)),
        ("one octet over a buffer", plain(), [vec![b'x'; 65_535], b"\r\n.\r\n".to_vec()].concat()),
    ]
}

/// One transaction with what its octets ask for; the queue id.
fn send(client: &mut SmtpClient, message: &[u8]) {
    client.ask("MAIL FROM:<marie@solarmora.com> BODY=8BITMIME SMTPUTF8", "250");
    client.ask("RCPT TO:<far@far.example>", "250");
    queue_id(&client.data(message));
}

/// The configuration that leads to a gateway.
type Leads = fn(&Sink) -> String;

/// The ways to a gateway, and what each gateway is told to be.
fn ways() -> Vec<(&'static str, Sink, Leads)> {
    let chunks = Script::new().offers("CHUNKING");
    let authority = Authority::new().unwrap();
    let identity = authority.identity("gateway.example").unwrap();
    let route: Leads = |gateway| by_rule(gateway, "");
    vec![
        ("setting", Sink::start(), by_setting),
        ("rule", Sink::start(), route),
        ("rule, in chunks", Sink::run(chunks), route),
        ("setting, in TLS", Sink::run(Script::new().starttls(&identity)), by_setting),
    ]
}

#[test]
fn signed_messages_reach_the_gateway_byte_for_byte_b1_b2_b3() {
    let keys = Keys::new();
    for (way, gateway, configuration) in ways() {
        let folder = Folder::new(&configuration(&gateway));
        let serve = folder.serve();
        let mut client = serve.session("relay");
        for (count, (what, header, body)) in messages().into_iter().enumerate() {
            let message = [&header[..], b"\r\n", &body].concat();
            let signed = keys.signed(&message);
            assert_eq!(keys.verify(&signed), [true; 4], "{what}");
            send(&mut client, &signed);
            let came = gateway.wait(count + 1).remove(count);
            assert!(came.behind_trace() == signed, "{way}: {what}: other bytes came");
            assert_eq!(keys.verify(&came.message), [true; 4], "{way}: {what}");
        }
        let told = gateway.peer().received();
        // Chunks are for messages without a dot at the beginning of a line.
        let chunks = told.iter().filter(|one| one.framing == Some(Framing::Chunks(1))).count();
        let dotted =
            told.iter().filter(|one| one.content.windows(2).any(|two| two == b"\n.")).count();
        assert_eq!(chunks, if way == "rule, in chunks" { told.len() - dotted } else { 0 }, "{way}");
        assert!((1..told.len()).contains(&dotted));
        assert!(told.iter().all(|one| one.over_tls == (way == "setting, in TLS")), "{way}");
        serve.terminate();
    }
}

/// A message that comes in chunks may end without CR LF; towards the gateway it ends in one, which no
/// signature minds (RFC 6376 section 3.4.3).
#[test]
fn a_message_without_a_final_line_end_keeps_its_signature_b3() {
    let keys = Keys::new();
    for (way, gateway, configuration) in ways() {
        let folder = Folder::new(&configuration(&gateway));
        let serve = folder.serve();
        let mut client = serve.session("relay");
        for (count, (what, body)) in
            [("no line end", &b"a\r\nb"[..]), ("a dot alone", b"a\r\n."), ("a blank", b"a\r\nb ")]
                .into_iter()
                .enumerate()
        {
            let signed = keys.signed(&[HEADER.as_bytes(), b"\r\n", body].concat());
            client.ask("MAIL FROM:<marie@solarmora.com>", "250");
            client.ask("RCPT TO:<far@far.example>", "250");
            client.send(format!("BDAT {} LAST\r\n", signed.len()).as_bytes());
            client.send(&signed);
            queue_id(&client.reply());
            let came = gateway.wait(count + 1).remove(count);
            let came_whole = came.behind_trace();
            assert!(came_whole == [&signed[..], b"\r\n"].concat(), "{way}: {what}");
            assert_eq!(keys.verify(&came.message), [true; 4], "{way}: {what}");
        }
        serve.terminate();
    }
}

/// What changes the message breaks its signatures, and `explain` says so before; lines on top do not.
#[test]
fn a_change_that_breaks_a_signature_is_told_b3() {
    let keys = Keys::new();
    for (modify, good, told) in [
        ("", true, None),
        (", add_headers = [{ name = \"X-Seen\", value = \"yes\" }]", true, None),
        (", add_headers = [{ name = \"X-Odd\", value = \"yes\" }]", true, None),
        (", subject_prefix = \"[EXT]\"", false, Some("this change breaks the signature (B3)")),
        (
            ", remove_attachments = true",
            // There is none, so nothing changes.
            true,
            Some("this change breaks the signature (B3)"),
        ),
        (
            ", add_headers = [{ name = \"Reply-To\", value = \"a@solarmora.com\" }]",
            false,
            Some("no further `Reply-To` may be added"),
        ),
    ] {
        let gateway = Sink::start();
        let folder = Folder::new(&by_rule(&gateway, modify));
        let serve = folder.serve();
        let message = format!("{HEADER}X-Odd: a\r\n\r\nHello\r\n");
        let signer = DkimSigner::from_key(Ed25519Key::from_pkcs8_der(&keys.key).unwrap())
            .domain("solarmora.com")
            .selector("k1")
            .headers(["From", "Subject", "Reply-To", "X-Odd"]);
        // There is no `Reply-To`, so the signature covers that there is none.
        let message = signer.sign(message.as_bytes()).unwrap().to_header() + &message;
        send(&mut serve.session("relay"), message.as_bytes());
        assert_eq!(keys.verify(&gateway.only().message), [good], "{modify}");
        folder.write("message.eml", &message);
        let (path, eml) = (folder.configuration(), folder.path("message.eml"));
        let eml = eml.to_string_lossy().into_owned();
        let from = ["--from", "marie@solarmora.com", "--to", "far@far.example"];
        let at = ["--listener", "relay", "--client-ip", "127.0.0.1"];
        let arguments = [&["explain", &path, &eml][..], &from, &at].concat();
        let ran = waypost(&arguments, "");
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert_eq!(ran.stdout.contains("\n  warning "), told.is_some(), "{}", ran.stdout);
        assert!(ran.stdout.contains(told.unwrap_or_default()), "{}", ran.stdout);
        let checked = waypost(&["check", &path], "");
        assert_eq!(checked.status, 0);
        assert_eq!(
            checked.stdout.contains("breaks-signature"),
            told.is_some(),
            "{}",
            checked.stdout
        );
        serve.terminate();
    }
}

/// Where mail goes with the setting, with the rule, and with both.
#[test]
fn own_recipients_do_not_go_through_the_gateway_and_a_rule_beats_the_setting_b1_b2() {
    let (by_setting, by_rule_alone) = (Sink::start(), Sink::start());
    let setting = format!("outbound_gateway = \"{}\"", by_setting.address);
    let both = by_rule(&by_rule_alone, "")
        .replace("licences = 2500", &format!("licences = 2500\n{setting}"));
    let folder = Folder::new(&both);
    let warned = waypost(&["check", &folder.configuration()], "");
    assert!(warned.stdout.contains("warning[gateway-and-rule]"), "{}", warned.stdout);
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let to = ["marie@solarmora.com", "far@far.example"];
    for from in ["marie@solarmora.com", "nobody@solarmora.com"] {
        queue_id(&client.message(from, &to, b"From: marie@solarmora.com\r\n\r\nx\r\n"));
    }
    let came = by_rule_alone.wait(2);
    assert!(came.iter().all(|one| one.to == ["<far@far.example>"]), "{came:?}");
    assert_eq!(folder.mailbox("marie@solarmora.com", ".", 2).len(), 2);
    assert!(by_setting.received().is_empty());
    serve.terminate();
}

/// A notice to somebody outside leaves by the gateway too, also where a rule is what leads there.
#[test]
fn notices_to_the_outside_go_through_the_gateway_b1_b2() {
    for by in ["setting", "rule"] {
        let refusing = Sink::answering(|command| {
            command.starts_with("RCPT TO:").then(|| "550 5.1.1 No such user".to_owned())
        });
        let gateway = Sink::start();
        let organization = match by {
            "rule" => by_rule(&gateway, ""),
            _ => by_setting(&gateway),
        };
        let mailboxes = format!(
            "[[organization.route]]\nname = \"mailboxes\"\nhost = \"{}\"\nport = {}\n\
             require_tls = false\n",
            refusing.address.ip(),
            refusing.address.port()
        );
        let named = "licences = 2500\nmailbox_route = \"mailboxes\"";
        let folder = Folder::new(&(organization.replace("licences = 2500", named) + &mailboxes));
        let serve = folder.serve();
        let mut client = serve.session("mx");
        let message = b"From: a@b.example\r\nSubject: x\r\n\r\nx\r\n";
        queue_id(&client.message("a@b.example", &["marie@solarmora.com"], message));
        let notice = gateway.only();
        assert!(notice.from.starts_with("<>"), "{by}: {}", notice.from);
        assert_eq!(notice.to.len(), 1);
        assert!(notice.to[0].starts_with("<a@b.example>"), "{by}: {:?}", notice.to);
        serve.terminate();
    }
}
