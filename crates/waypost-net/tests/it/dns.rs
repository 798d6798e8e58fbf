//! The resolver against a name server on loopback that speaks real DNS, and next hops (A4).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use waypost_net::dns::{
    DnsError, DnsLimits, Lookup, MAX_ADDRESSES, MAX_HOSTS, Resolver, StaticResolver,
    SystemResolver, resolve_next_hops,
};
use waypost_route::{Draw, Exchange, MxRecord};
use waypost_types::{Domain, FailureScope, Host, HostPort};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

/// The zone: owner, type and value, as a zone file would have it.
const ZONE: &[(&str, &str, &str)] = &[
    ("two.example.", "MX", "20 b.two.example."),
    ("two.example.", "MX", "10 a.two.example."),
    ("a.two.example.", "A", "192.0.2.1"),
    ("a.two.example.", "AAAA", "2001:db8::1"),
    ("b.two.example.", "A", "192.0.2.2"),
    ("alias.example.", "CNAME", "alias2.example."),
    ("alias2.example.", "CNAME", "two.example."),
    ("hop.example.", "CNAME", "a.two.example."),
    ("null.example.", "MX", "0 ."),
    ("implicit.example.", "A", "192.0.2.3"),
    ("empty.example.", "TXT", "nothing here"),
    ("spf.example.", "TXT", "v=spf1 -all"),
    ("1.2.0.192.in-addr.arpa.", "PTR", "a.two.example."),
    ("lost.example.", "MX", "10 gone.example."),
    ("half.example.", "MX", "10 servfail.example."),
    ("half.example.", "MX", "20 b.two.example."),
    ("dead.example.", "MX", "10 servfail.example."),
    ("odd.example.", "A", "0.0.0.0"),
    ("long.example.", "MX", "10 long-answer.example."),
    ("turn1.example.", "CNAME", "turn2.example."),
    ("turn2.example.", "CNAME", "turn1.example."),
];

fn record(owner: &str, kind: &str, value: &str) -> Record {
    let data = match kind {
        "MX" => {
            let (preference, host) = value.split_once(' ').unwrap();
            RData::MX(MX::new(preference.parse().unwrap(), name(host)))
        }
        "A" => RData::A(value.parse().unwrap()),
        "AAAA" => RData::AAAA(value.parse().unwrap()),
        "CNAME" => RData::CNAME(CNAME(name(value))),
        "PTR" => RData::PTR(PTR(name(value))),
        _ => RData::TXT(TXT::new(vec![value[..4].to_owned(), value[4..].to_owned()])),
    };
    Record::from_rdata(name(owner), 300, data)
}

fn answer(question: &Message) -> Option<Message> {
    let query = question.queries.first()?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let asked = query.name().to_lowercase();
    match asked.to_ascii().as_str() {
        "silent.example." => return None,
        "servfail.example." => {
            answer.metadata.response_code = ResponseCode::ServFail;
            return Some(answer);
        }
        "refused.example." => {
            answer.metadata.response_code = ResponseCode::Refused;
            return Some(answer);
        }
        // Without an SOA record, as small forwarders answer.
        "bare.example." => return Some(answer),
        "bare-nx.example." => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return Some(answer);
        }
        _ => {}
    }
    let mut at = asked;
    for _ in 0..10 {
        let here: Vec<_> = ZONE.iter().filter(|(owner, ..)| name(owner) == at).collect();
        if here.is_empty() {
            answer.metadata.response_code = ResponseCode::NXDomain;
            break;
        }
        let wanted = query.query_type().to_string();
        let found: Vec<_> = here.iter().filter(|(_, kind, _)| *kind == wanted).collect();
        for (owner, kind, value) in &found {
            answer.add_answer(record(owner, kind, value));
        }
        match here.iter().find(|(_, kind, _)| found.is_empty() && *kind == "CNAME") {
            Some((owner, kind, value)) => {
                answer.add_answer(record(owner, kind, value));
                at = name(value);
            }
            None => break,
        }
    }
    if answer.answers.iter().all(|record| record.record_type() == RecordType::CNAME) {
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 60, 60);
        answer.add_authority(Record::from_rdata(name("example."), 60, RData::SOA(soa)));
    }
    Some(answer)
}

/// Over UDP, `long.example` is cut off, so that the question comes again over TCP.
fn cut(mut answer: Message) -> Message {
    if answer.queries[0].name().to_ascii() == "long.example." {
        answer = answer.truncate();
        answer.metadata.truncation = true;
    }
    answer
}

/// Answers one question over each TCP connection (RFC 1035 section 4.2.2: length, then message).
async fn serve_tcp(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let length = usize::from(stream.read_u16().await.unwrap());
        let mut buffer = vec![0; length];
        stream.read_exact(&mut buffer).await.unwrap();
        let reply = answer(&Message::from_vec(&buffer).unwrap()).unwrap().to_vec().unwrap();
        stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
        stream.write_all(&reply).await.unwrap();
        // Held open until the client is done.
        let _ = stream.read_u8().await;
    }
}

/// Starts the server; the count is that of the questions it has seen.
async fn serve() -> (SocketAddr, Arc<AtomicUsize>) {
    // A port that is free for TCP may be taken for UDP by another test.
    let (listener, socket) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            break (listener, socket);
        }
    };
    tokio::spawn(serve_tcp(listener));
    let (at, seen) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            count.fetch_add(1, Ordering::SeqCst);
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            if let Some(answer) = answer(&question) {
                socket.send_to(&cut(answer).to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    (at, seen)
}

async fn resolver() -> SystemResolver {
    let limits = DnsLimits { retries: 0, ..DnsLimits::default() };
    SystemResolver::with_servers(&[serve().await.0], limits).unwrap()
}

fn hosts(records: Result<Vec<MxRecord>, DnsError>) -> String {
    let mut shown: Vec<String> = match records {
        Err(error) => return error.to_string(),
        Ok(records) => records
            .iter()
            .map(|record| match &record.exchange {
                Exchange::Host(host) => format!("{} {host}", record.preference),
                other => format!("{} {other:?}", record.preference),
            })
            .collect(),
    };
    shown.sort();
    shown.join(", ")
}

#[tokio::test]
async fn questions_and_answers_a4() {
    let dns = resolver().await;
    for (domain_name, want) in [
        ("two.example", "10 a.two.example, 20 b.two.example"),
        ("alias.example", "10 a.two.example, 20 b.two.example"),
        ("null.example", "0 Null"),
        ("long.example", "10 long-answer.example"),
        ("implicit.example", "no record of this type"),
        ("nowhere.example", "no such domain"),
        ("bare.example", "no record of this type"),
        ("bare-nx.example", "no such domain"),
        ("servfail.example", "no answer now: "),
        ("refused.example", "no answer now: "),
    ] {
        let got = hosts(dns.mx(&domain(domain_name)).await);
        assert!(got.starts_with(want), "{domain_name}: {got}");
    }
    for (host, want) in [
        ("a.two.example", Ok("2001:db8::1 192.0.2.1")),
        ("hop.example", Ok("2001:db8::1 192.0.2.1")),
        ("implicit.example", Ok("192.0.2.3")),
        ("null.example", Err(DnsError::NoRecords)),
        ("nowhere.example", Err(DnsError::NoDomain)),
        ("localhost", Ok("::1 127.0.0.1")),
    ] {
        let got = dns.addresses(&domain(host)).await;
        let got = got.map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(got, want.map(str::to_owned), "{host}");
    }
    assert_eq!(dns.txt(&domain("spf.example")).await, Ok(vec!["v=spf1 -all".to_owned()]));
    assert_eq!(dns.ptr("192.0.2.1".parse().unwrap()).await, Ok(vec![domain("a.two.example")]));
    assert_eq!(dns.ptr("192.0.2.9".parse().unwrap()).await, Err(DnsError::NoDomain));
    assert!(dns.addresses(&domain("turn1.example")).await.is_err(), "a ring of aliases ends");
}

#[tokio::test]
async fn answers_are_cached() {
    let (server, seen) = serve().await;
    let dns = SystemResolver::with_servers(&[server], DnsLimits::default()).unwrap();
    for _ in 0..3 {
        dns.mx(&domain("two.example")).await.unwrap();
        assert_eq!(dns.mx(&domain("nowhere.example")).await, Err(DnsError::NoDomain));
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

/// Time is simulated: it jumps to the next time-out while the server says nothing.
#[tokio::test(start_paused = true)]
async fn silence_is_temporary() {
    let dns = resolver().await;
    let start = tokio::time::Instant::now();
    let got = dns.mx(&domain("silent.example")).await;
    assert!(matches!(got, Err(DnsError::Temporary(_))), "{got:?}");
    assert!(start.elapsed() <= Duration::from_secs(21));
}

#[tokio::test]
async fn the_systems_servers_or_an_error_that_says_what_to_mend() {
    match SystemResolver::from_system(DnsLimits::default()) {
        Ok(dns) => assert!(dns.addresses(&domain("localhost")).await.is_ok()),
        Err(error) => assert!(error.to_string().contains("`dns`"), "{error}"),
    }
}

#[test]
fn no_servers_is_an_error() {
    let error = SystemResolver::with_servers(&[], DnsLimits::default()).unwrap_err();
    assert!(error.to_string().contains("`dns`"), "{error}");
}

/// The hops on one line: host, addresses, names for TLS; or scope and reply.
async fn hops(dns: &dyn Resolver, target: &str, lookup: Lookup) -> String {
    let target: HostPort = target.parse().unwrap();
    let own = [domain("us.example")];
    match resolve_next_hops(dns, &target, lookup, &own, Draw::from_value(7)).await {
        Ok(found) => {
            assert!(!found.hops.is_empty() && found.hops.len() <= MAX_HOSTS);
            let shown = found.hops.iter().map(|hop| {
                let to: Vec<_> = hop.addresses.iter().map(ToString::to_string).collect();
                let tls: Vec<_> = hop.tls_names.iter().map(Host::to_string).collect();
                format!("{} = {} tls {}", hop.host, to.join(" "), tls.join(" "))
            });
            let left = found.left_out.iter().map(|left| format!("without {left}"));
            shown.chain(left).collect::<Vec<_>>().join("; ")
        }
        Err(failure) => {
            assert_eq!(failure.scope == FailureScope::Message, failure.reply.code() >= 500);
            format!("{:?} {}", failure.scope, failure.reply)
        }
    }
}

#[tokio::test]
async fn next_hops_over_real_dns_a4() {
    use Lookup::{DomainMx, Host, HostMx};
    let dns = resolver().await;
    let two = "a.two.example:25 = [2001:db8::1]:25 192.0.2.1:25 tls a.two.example two.example; \
               b.two.example:25 = 192.0.2.2:25 tls b.two.example two.example";
    for (target, lookup, want) in [
        ("192.0.2.9:2525", Host, "192.0.2.9:2525 = 192.0.2.9:2525 tls 192.0.2.9"),
        ("[2001:db8::9]:25", Host, "[2001:db8::9]:25 = [2001:db8::9]:25 tls 2001:db8::9"),
        ("b.two.example:587", Host, "b.two.example:587 = 192.0.2.2:587 tls b.two.example"),
        ("two.example:25", HostMx, two),
        ("two.example:25", DomainMx, two),
        (
            "implicit.example:25",
            DomainMx,
            "implicit.example:25 = 192.0.2.3:25 tls implicit.example",
        ),
        ("two.example:25", Host, "Host 451 4.4.4 DNS did not give the addresses of two.example"),
        ("nowhere.example:25", Host, "Host 451 4.4.4 "),
        ("nowhere.example:25", HostMx, "Host 451 4.4.4 "),
        ("nowhere.example:25", DomainMx, "Message 550 5.1.2 DNS did not give the MX records of"),
        ("empty.example:25", DomainMx, "Message 550 5.1.2 DNS did not give an MX record or an"),
        ("lost.example:25", DomainMx, "Message 550 5.4.4 DNS did not give an address of an MX"),
        ("lost.example:25", HostMx, "Host 451 4.4.4 "),
        ("null.example:25", DomainMx, "Message 556 5.1.10 null.example does not accept mail"),
        ("null.example:25", HostMx, "Message 556 5.1.10 "),
        ("servfail.example:25", DomainMx, "Host 451 4.4.3 "),
        ("servfail.example:25", Host, "Host 451 4.4.3 "),
        ("dead.example:25", DomainMx, "Host 451 4.4.3 "),
        (
            "half.example:25",
            DomainMx,
            "b.two.example:25 = 192.0.2.2:25 tls b.two.example half.example; without servfail.example: no answer now",
        ),
        ("odd.example:25", Host, "Host 451 4.4.4 "),
    ] {
        let got = hops(&dns, target, lookup).await;
        assert!(got.starts_with(want), "{target} {lookup:?}:\n{got}\n is not {want}");
    }
}

#[tokio::test]
async fn next_hops_from_a_table_a4() {
    let many: Vec<String> = (0..30).map(|i| format!("mx{i}.example")).collect();
    let many: Vec<(u16, &str)> = many.iter().map(|host| (10, host.as_str())).collect();
    let ips: Vec<String> = (1..60).map(|i| format!("192.0.2.{i}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let mut dns = StaticResolver::default()
        .with_mx("loop.example", &[(10, "us.example"), (20, "b.example")])
        .with_mx("backup.example", &[(10, "b.example"), (20, "us.example"), (30, "c.example")])
        .with_mx("many.example", &many)
        .with_alias("www.example", "b.example")
        .with_addresses("b.example", &["192.0.2.2"])
        .with_addresses("wide.example", &ips)
        .with_txt("b.example", "hello")
        .with_failure("slow.example", "SERVFAIL");
    for (_, host) in &many {
        dns = dns.with_addresses(host, &ips);
    }
    for (target, lookup, want) in [
        ("loop.example:25", Lookup::DomainMx, "Message 554 5.4.6 mail for loop.example loops"),
        (
            "backup.example:25",
            Lookup::DomainMx,
            "b.example:25 = 192.0.2.2:25 tls b.example backup.example",
        ),
        ("www.example:25", Lookup::DomainMx, "www.example:25 = 192.0.2.2:25 tls www.example"),
        (
            "slow.example:25",
            Lookup::HostMx,
            "Host 451 4.4.3 DNS did not give the MX records of slow.example: slow.example: no answer now: SERVFAIL; it is asked for again",
        ),
    ] {
        let got = hops(&dns, target, lookup).await;
        assert!(got.starts_with(want), "{target} {lookup:?}:\n{got}\n is not {want}");
    }
    for (target, hosts) in [("many.example:25", MAX_HOSTS), ("wide.example:25", 1)] {
        let draw = Draw::from_value(7);
        let target: HostPort = target.parse().unwrap();
        let found = resolve_next_hops(&dns, &target, Lookup::DomainMx, &[], draw).await.unwrap();
        let addresses: usize = found.hops.iter().map(|hop| hop.addresses.len()).sum();
        assert_eq!((found.hops.len(), addresses), (hosts, MAX_ADDRESSES));
    }
}
