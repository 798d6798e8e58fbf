//! Requests: a table of what is read and refused, round trips, and bounds for any octets.

#![allow(clippy::unwrap_used, reason = "a test says what it means")]

use proptest::prelude::*;
use waypost_postfix::{
    MAX_ATTRIBUTES, MAX_REQUEST, NetstringReader, PolicyReader, PolicyRequest, ProtocolState,
    SocketmapReply, SocketmapRequest, TableReader, TableReply, TableRequest, netstring,
};
use waypost_types::{Mailbox, ReversePath, TlsState};

/// What Postfix 3.7 sends, as its documentation shows it.
const DOCUMENTED: &str = "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=SMTP\n\
    helo_name=some.domain.tld\nqueue_id=8045F2AB23\nsender=foo@bar.tld\nrecipient=bar@foo.tld\n\
    recipient_count=0\nclient_address=1.2.3.4\nclient_name=another.domain.tld\n\
    reverse_client_name=another.domain.tld\ninstance=123.456.7\nsasl_method=plain\n\
    sasl_username=you\nsasl_sender=\nsize=12345\nccert_subject=solaris9.porcupine.org\n\
    ccert_issuer=Wietse+20Venema\nencryption_protocol=TLSv1/SSLv3\nencryption_keysize=256\n\
    etrn_domain=\nstress=\nclient_port=1234\npolicy_context=submission\nserver_port=54321\n\n";

fn read(text: &[u8]) -> Result<Option<PolicyRequest>, waypost_postfix::RequestError> {
    let mut reader = PolicyReader::default();
    reader.feed(text);
    reader.next_request()
}

fn must(text: &str) -> PolicyRequest {
    read(text.as_bytes()).unwrap().unwrap()
}

const LEAST: &str =
    "request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=1\nclient_address=192.0.2.1\n";

#[test]
fn the_documented_request_is_read() {
    let request = must(DOCUMENTED);
    assert_eq!(
        request,
        PolicyRequest {
            helo: Some("some.domain.tld".into()),
            sender: Ok("foo@bar.tld".parse().unwrap()),
            recipient: Some(Ok("bar@foo.tld".parse().unwrap())),
            size: 12345,
            sasl_username: Some("you".into()),
            tls: TlsState::Encrypted,
            context: Some("submission".into()),
            queue_id: Some("8045F2AB23".into()),
            ..PolicyRequest::new(ProtocolState::Rcpt, "123.456.7", "1.2.3.4".parse().unwrap())
        }
    );
}

#[test]
fn attributes_one_by_one() {
    let with = |more: &str| must(&format!("{LEAST}{more}\n"));
    assert_eq!(with("sender=\n").sender, Ok(ReversePath::Null));
    assert_eq!(
        with("sender=a b@c.example\n").sender.unwrap(),
        r#""a b"@c.example"#.parse().unwrap()
    );
    assert!(with("sender=nobody\n").sender.is_err());
    assert!(with("recipient=postmaster\n").recipient.unwrap().is_err());
    assert_eq!(with("recipient=\n").recipient, None);
    assert_eq!(with("encryption_protocol=\n").tls, TlsState::Clear);
    assert_eq!(with("client_address=unknown\n").client.to_string(), "0.0.0.0");
    assert_eq!(with("client_address=::ffff:192.0.2.9\n").client.to_string(), "192.0.2.9");
    assert_eq!(with("client_address=2001:db8::1\n").client.to_string(), "2001:db8::1");
    assert_eq!(
        with("recipient_count=3\nrecipient_count=4\n").recipient_count,
        4,
        "the last counts"
    );
    assert_eq!(with("unheard_of=a=b=c\n").size, 0);
}

#[test]
fn what_is_no_request() {
    let many = "x=y\n".repeat(MAX_ATTRIBUTES + 1);
    let long = format!("x={}", "y".repeat(MAX_REQUEST));
    for (text, because) in [
        ("\n".to_owned(), "request"),
        ("request=junk\n\n".to_owned(), "smtpd_access_policy"),
        ("request=smtpd_access_policy\n\n".to_owned(), "protocol_state"),
        (format!("{LEAST}noequals\n\n"), "noequals"),
        (format!("{LEAST}=value\n\n"), "=value"),
        (format!("{LEAST}a\0=b\n\n"), "no attribute"),
        (format!("{LEAST}size=-1\n\n"), "whole number"),
        (format!("{LEAST}size=99999999999999999999999\n\n"), "whole number"),
        (format!("{LEAST}client_address=localhost\n\n"), "IP address"),
        (format!("{LEAST}protocol_state=QUIT\n\n"), "such as RCPT"),
        (format!("{LEAST}instance=\n\n"), "instance"),
        (format!("{LEAST}instance={}\n\n", "i".repeat(256)), "255"),
        (format!("{LEAST}{many}\n"), "attributes"),
        (long, "octets"),
    ] {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(because), "{error}, not {because}");
        assert!(error.len() < 300, "{error}");
    }
}

fn mailbox() -> impl Strategy<Value = Mailbox> {
    let local = "[a-z0-9 @\"\\\\.é]{1,20}";
    (local, "[a-z]{1,9}\\.example").prop_filter_map("a mailbox", |(local, domain)| {
        waypost_postfix::from_internal(&format!("{local}@{domain}")).ok()
    })
}

fn word() -> impl Strategy<Value = Option<Box<str>>> {
    proptest::option::of("[a-zA-Z0-9=.:-]{1,30}".prop_map(Box::from))
}

prop_compose! {
    fn request()(
        state in proptest::sample::select(vec![
            ProtocolState::Mail, ProtocolState::Rcpt, ProtocolState::Data, ProtocolState::EndOfMessage,
        ]),
        instance in "[0-9a-f.]{1,255}",
        client in any::<std::net::IpAddr>().prop_map(|ip| ip.to_canonical()),
        helo in word(), sasl_username in word(), context in word(), queue_id in word(),
        sender in proptest::option::of(mailbox()),
        recipient in proptest::option::of(mailbox()),
        recipient_count in any::<u32>(), size in any::<u64>(), tls in any::<bool>(),
    ) -> PolicyRequest {
        PolicyRequest {
            helo, sasl_username, context, queue_id, recipient_count, size,
            sender: Ok(sender.map_or(ReversePath::Null, ReversePath::Mailbox)),
            recipient: recipient.map(Ok),
            tls: if tls { TlsState::Encrypted } else { TlsState::Clear },
            ..PolicyRequest::new(state, &instance, client)
        }
    }
}

/// All requests that a reader finds in octets that come in pieces, or how many before an error.
fn all(octets: &[u8], pieces: usize) -> (Vec<PolicyRequest>, bool) {
    let (mut reader, mut found) = (PolicyReader::default(), Vec::new());
    for piece in octets.chunks(pieces.max(1)) {
        reader.feed(piece);
        loop {
            match reader.next_request() {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

proptest! {
    #[test]
    fn policy_requests_come_back_whatever_the_pieces(
        requests in proptest::collection::vec(request(), 1..4), pieces in 1_usize..300,
    ) {
        let octets: Vec<u8> = requests.iter().flat_map(PolicyRequest::encode).collect();
        prop_assert_eq!(all(&octets, pieces), (requests, false));
    }

    #[test]
    fn any_octets_are_read_alike_in_any_pieces(
        octets in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), any::<u8>()], 0..400),
        pieces in 1_usize..20,
    ) {
        prop_assert_eq!(all(&octets, pieces), all(&octets, octets.len()));
    }

    #[test]
    fn socketmap_comes_back(name in "[a-z-]{1,20}", key in "\\PC{0,60}", pieces in 1_usize..20) {
        let request = SocketmapRequest { name: name.into(), key: key.into() };
        let mut reader = NetstringReader::new(1000);
        for piece in request.encode().chunks(pieces) {
            prop_assert_eq!(reader.next_octets().unwrap(), None);
            reader.feed(piece);
        }
        let inside = reader.next_octets().unwrap().unwrap();
        prop_assert_eq!(SocketmapRequest::decode(&inside).unwrap(), request);
    }

    #[test]
    fn socketmap_answers_come_back(text in "[ -~é]{0,60}", kind in 0..5) {
        let text: Box<str> = text.into();
        let reply = match kind {
            0 => SocketmapReply::Ok(text),
            1 => SocketmapReply::Temp(text),
            2 => SocketmapReply::Timeout(text),
            3 => SocketmapReply::Perm(text),
            _ => SocketmapReply::NotFound,
        };
        let mut reader = NetstringReader::new(1000);
        reader.feed(&reply.encode());
        prop_assert_eq!(SocketmapReply::decode(&reader.next_octets().unwrap().unwrap()).unwrap(), reply);
    }

    #[test]
    fn tcp_tables_come_back(key in any::<String>(), value in "\\PC{0,60}", pieces in 1_usize..20) {
        let request = TableRequest { key: key.into() };
        let mut reader = TableReader::default();
        for piece in request.encode().chunks(pieces) {
            prop_assert_eq!(reader.next_request().unwrap(), None);
            reader.feed(piece);
        }
        prop_assert_eq!(reader.next_request().unwrap(), Some(request));
        let reply = TableReply::Found(value.into());
        let line = reply.encode();
        prop_assert_eq!(TableReply::decode(line.strip_suffix(b"\n").unwrap()).unwrap(), reply);
    }

    #[test]
    fn any_octets_are_bounded(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut reader = NetstringReader::new(100);
        reader.feed(&octets);
        while let Ok(Some(inside)) = reader.next_octets() {
            prop_assert!(inside.len() <= 100);
            let _ = SocketmapRequest::decode(&inside);
            let _ = SocketmapReply::decode(&inside);
        }
        let mut reader = TableReader::default();
        reader.feed(&octets);
        while let Ok(Some(_)) = reader.next_request() {}
        let _ = TableReply::decode(&octets);
        let mut reader = NetstringReader::new(400);
        reader.feed(&netstring(&octets));
        prop_assert_eq!(reader.next_octets().unwrap().unwrap(), octets);
    }
}
