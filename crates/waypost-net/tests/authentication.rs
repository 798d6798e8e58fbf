//! SPF, DKIM and DMARC from the DNS: time is bounded, and no octets make it panic (E2, E12).

#![cfg(feature = "authenticate")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;
use tokio::net::UdpSocket;
use waypost_auth::{DkimResult, DmarcResult, MAX_SIGNATURES, Question, SpfResult};
use waypost_net::authentication::{AuthenticationLimits, Authenticator, MailAuthenticator};
use waypost_net::dns::{DnsLimits, SystemResolver};
use waypost_smtp::client::SharedBytes;

/// Answers each question for TXT with these octets, and others with nothing; `None`: says nothing.
async fn server(text: Option<Vec<u8>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let Some(text) = &text else { continue };
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.metadata.recursion_available = true;
            answer.add_query(query.clone());
            if query.query_type() == RecordType::TXT {
                let pieces = text.chunks(255).collect();
                let data = RData::TXT(TXT::from_bytes(pieces));
                answer.add_answer(Record::from_rdata(query.name().clone(), 300, data));
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

fn authenticator(server: SocketAddr, time: Duration) -> MailAuthenticator {
    let resolver = SystemResolver::with_servers(&[server], DnsLimits::default()).unwrap();
    MailAuthenticator::new(&resolver, AuthenticationLimits { time, ..Default::default() })
}

fn question(authors: &[&str]) -> Question {
    Question {
        checked: Some("192.0.2.1".parse().unwrap()),
        helo: Some("h.example".into()),
        sender: "a@b.example".parse().unwrap(),
        authors: authors.iter().map(|author| author.parse().unwrap()).collect(),
        receiver: "mx.solarmora.com".parse().unwrap(),
    }
}

fn signature(tags: &str) -> String {
    format!("DKIM-Signature: v=1; a=rsa-sha256; d=b.example; s=k1; bh=AAAA; b=AAAA;\r\n {tags}\r\n")
}

#[tokio::test]
async fn a_silent_server_is_a_temperror_in_time() {
    // The DNS itself would wait for an hour: only the limit of the evaluation can end this.
    let hour = Duration::from_secs(3600);
    let patient = DnsLimits { one_try: hour, answer: hour, ..DnsLimits::default() };
    let resolver = SystemResolver::with_servers(&[server(None).await], patient).unwrap();
    let limits = AuthenticationLimits { time: Duration::from_millis(300), ..Default::default() };
    let asking = MailAuthenticator::new(&resolver, limits);
    let message = signature("h=from") + "From: a@b.example\r\n\r\nx\r\n";
    let questions = vec![question(&["b.example"]), question(&[])];
    let answers = asking.authenticate(SharedBytes::new(message), questions);
    let answers = tokio::time::timeout(hour / 60, answers).await.expect("bounded by its own limit");
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].spf.result, SpfResult::TempError);
    assert_eq!(answers[0].dmarc.result, DmarcResult::TempError);
    assert_eq!(answers[1].dmarc.result, DmarcResult::None, "no author");
}

/// The limits of RFC 7208 section 4.6.4, of records that each name here has; no name has an address.
#[tokio::test]
async fn ten_lookups_and_two_void_ones_are_allowed_e2_rfc_7208_4_6_4() {
    use SpfResult::{Fail, None, Pass, PermError};
    for (record, want) in [
        ("v=spf1 ip4:192.0.2.1 -all", Pass),
        ("v=spf1 ip4:192.0.2.2 -all", Fail),
        ("no record", None),
        ("v=spf1 a:g1.example a:g2.example +all", Pass),
        ("v=spf1 a:g1.example mx:g2.example +all", Pass),
        ("v=spf1 a:g1.example exists:%{l}.%{o} a:g3.example +all", PermError),
        ("v=spf1 a:g1.example mx:g2.example ptr +all", PermError),
        ("v=spf1 a:g1.example a:g2.example a:g3.example +all", PermError),
        // Behind what matches nothing is looked up.
        ("v=spf1 a:g1.example a:g2.example ip4:192.0.2.1 a:g3.example -all", Pass),
        ("v=spf1 include:b.example -all", PermError),
        ("v=spf1 redirect=c.example", PermError),
        ("v=spf1 ipv4:192.0.2.1 -all", PermError),
        ("v=spf1 ip4:192.0.2.1 oops", PermError),
        ("v=spf1 -all redirect=c.example redirect=d.example", PermError),
        ("v=spf1 exists:%{x}.example +all", PermError),
    ] {
        let server = server(Some(record.as_bytes().to_vec())).await;
        let asking = authenticator(server, Duration::from_secs(30));
        let message = SharedBytes::new("From: a@b.example\r\n\r\nx\r\n");
        let answers = asking.authenticate(message, vec![question(&[])]).await;
        assert_eq!(answers[0].spf.result, want, "{record}");
    }
}

#[tokio::test]
async fn signatures_that_are_not_worth_a_key_cost_no_question() {
    // Nobody listens: a question would be a temperror.
    let asking = authenticator("127.0.0.1:9".parse().unwrap(), Duration::from_secs(5));
    let covered: Vec<String> = (0..300).map(|n| format!("x{n}")).collect();
    let fields = "X: y\r\n".repeat(3000);
    let from = "From: a@b.example\r\n\r\nx\r\n";
    for (message, result, because) in [
        (signature("h=from; l=1") + from, DkimResult::Policy, "a part of the body is not signed"),
        (signature("h=subject") + from, DkimResult::PermError, "does not cover From"),
        (
            signature(&format!("h=from:{}", covered.join(":"))) + from,
            DkimResult::Policy,
            "covers too many names",
        ),
        (signature("h=from") + &fields + from, DkimResult::Policy, "too many header fields"),
        (
            signature("h=from").replace("sha256", "sha1") + from,
            DkimResult::Policy,
            "SHA-1 is not accepted",
        ),
        (signature("h=from") + from, DkimResult::Fail, "the body was changed"),
        (format!("DKIM-Signature: v=2\r\n{from}"), DkimResult::Neutral, ""),
        (signature("h=from; x=1") + from, DkimResult::Neutral, "the signature is over"),
    ] {
        let mut unchecked = question(&[]);
        unchecked.checked = None;
        let answers = asking.authenticate(SharedBytes::new(message), vec![unchecked]).await;
        let [dkim] = answers[0].dkim.as_slice() else { panic!("{answers:?}") };
        assert_eq!(dkim.result, result, "{because}");
        assert!(dkim.because.contains(because), "{because}: {}", dkim.because);
    }
    let many = signature("h=subject").repeat(50) + from;
    let mut unchecked = question(&[]);
    unchecked.checked = None;
    let answers = asking.authenticate(SharedBytes::new(many), vec![unchecked]).await;
    assert_eq!(answers[0].dkim.len(), MAX_SIGNATURES);
}

/// Octets that look like what the parsers know.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"v=spf1 ",
        b"v=DMARC1; ",
        b"v=DKIM1; ",
        b"p=",
        b"p=reject; ",
        b"sp=none;",
        b"k=ed25519;",
        b"k=rsa;",
        b"h=from",
        b"a:",
        b"mx",
        b"ptr ",
        b"exists:",
        b"include:",
        b"redirect=",
        b"exp=",
        b"ip4:",
        b"ip6:",
        b"192.0.2.1",
        b"::1",
        b"/33",
        b"//129",
        b"/",
        b"%{s}",
        b"%{l1r-}",
        b"%{",
        b"%{i99r.=}",
        b"%{p}",
        b"%{h}",
        b"%%",
        b"%-",
        b"b.example",
        b" ",
        b";",
        b"-all",
        b"?",
        b"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
        b"AAAA",
        b"=",
        b"==",
        b"\xff",
        b"\0",
        b"\"",
        b"rua=mailto:",
        b"4294967296",
        b"99999999999999999999999",
        b"!10m",
        b",",
        b"r=",
        b"ra=",
        b"rp=",
        b"t=y:s",
        b"psd=y;",
        b"np=",
        b"adkim=s;",
        b"fo=1:d:s",
    ];
    let word = proptest::sample::select(words).prop_map(<[u8]>::to_vec);
    let any = proptest::collection::vec(any::<u8>(), 0..6);
    let starts = proptest::sample::select(vec![
        &b"v=spf1 "[..],
        b"v=DMARC1; p=reject;",
        b"v=DKIM1; p=",
        b"",
    ]);
    let rest = proptest::collection::vec(prop_oneof![8 => word, 1 => any], 0..12);
    (starts, rest).prop_map(|(start, rest)| [start.to_vec(), rest.concat()].concat())
}

/// A header with signatures of any shape.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let tags: Vec<&'static [u8]> = vec![
        b"v=1;",
        b"a=rsa-sha256;",
        b"a=ed25519-sha256;",
        b"a=rsa-sha1;",
        b"d=b.example;",
        b"s=k1;",
        b"h=from;",
        b"h=From:From:from : to;",
        b"c=relaxed/simple;",
        b"c=simple;",
        b"bh=",
        b"b=",
        b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        b";",
        b"l=",
        b"x=",
        b"t=",
        b"i=@",
        b"i=",
        b"99999999999999999999",
        b"=20",
        b"atps=b.example;",
        b"atpsh=sha256;",
        b"z=From:a|To:b;",
        b"r=y;",
        b"\r\n ",
        b"\r\n\t",
        b" ",
        b"\xff",
        b"q=dns/txt;",
        b"AAAA",
        b"(",
        b"\"",
    ];
    let right: &[u8] = b"v=1; a=ed25519-sha256; c=relaxed/relaxed; d=b.example; s=k1; h=from; \
        bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA; ";
    let tags = proptest::collection::vec(proptest::sample::select(tags), 0..14);
    let one = (any::<bool>(), tags).prop_map(move |(starts, tags)| {
        let start = if starts { right } else { b"" };
        [b"DKIM-Signature: ".as_slice(), start, &tags.concat(), b"\r\n"].concat()
    });
    let field = prop_oneof![
        4 => one,
        1 => Just(b"From: a@b.example\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let body =
        proptest::sample::select(vec![&b""[..], b"\r\n", b"\r\n..x\r\n", b"\r\n \t\r\n\r\n"]);
    (proptest::collection::vec(field, 0..6), body)
        .prop_map(|(fields, body)| [fields.concat(), body.to_vec()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// An answer for each question, whatever message and DNS hold; a panic of the library would be
    /// `temperror` for all, and in the log.
    #[test]
    fn any_message_and_any_record_have_an_answer_e12(
        message in message(),
        text in hostile(),
        local in "[ -~]{0,12}",
        helo in "[a-z.%{}\\[\\]]{0,12}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let panics = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (answers, asked) = runtime.block_on(async {
            let server = server(Some(text)).await;
            let asking = authenticator(server, Duration::from_secs(5));
            let mut one = question(&["b.example", "c.b.example"]);
            if let Ok(sender) = format!("{local}@b.example").parse() {
                one.sender = sender;
            }
            one.helo = Some(helo.into());
            let asked = vec![one];
            let counted = Arc::clone(&panics);
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                eprintln!("{info}");
            }));
            let answers = asking.authenticate(SharedBytes::new(message), asked.clone()).await;
            std::panic::set_hook(before);
            (answers, asked)
        });
        prop_assert_eq!(answers.len(), asked.len());
        prop_assert_eq!(panics.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}
