//! Delivery by MX through a whole server: each MX host has a health of its own (A4, A9).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_config::diagnostics::SourceFile;
use waypost_config::raw;
use waypost_net::client::{ConnectSettings, Hop, Pool, PoolLimits};
use waypost_net::dns::StaticResolver;
use waypost_net::test_kit::{Act, Peer, Phase, Script};
use waypost_net::tls::TlsPolicy;
use waypost_server::{Options, Server};
use waypost_smtp::client::{Message, SharedBytes, Transaction};
use waypost_types::{HostPort, MailParameters, Mailbox, Outcome};

fn configuration(spool: &str, mx_port: u16) -> String {
    format!(
        r#"
[server]
hostname = "mx.solarmora.com"
spool = "{spool}"
mx_port = {mx_port}

[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:0"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
"#
    )
}

async fn server(spool: &str, mx_port: u16, resolver: StaticResolver) -> Server {
    let text = configuration(spool, mx_port);
    let (config, mut report) =
        raw::read(SourceFile::new("test", text), Vec::new()).unwrap_or_else(|_| panic!("TOML"));
    let files = HashMap::<String, Vec<u8>>::new();
    let compiled = waypost_config::compile(&config, &files, &mut report);
    let compiled = compiled.unwrap_or_else(|| panic!("{}", report.render(false)));
    let policy = Arc::new(compiled.into_policy("1"));
    let options = Options {
        policy,
        base: spool.into(),
        resolver: Some(Arc::new(resolver)),
        authenticator: None,
    };
    Server::start(options).await.unwrap()
}

/// Hands a message to the server, for one recipient.
async fn relay(at: SocketAddr, to: &str) {
    let pool = Pool::new(
        ConnectSettings::new("client.solarmora.com".parse().unwrap()),
        PoolLimits::default(),
    );
    let hop =
        Hop::new(HostPort::parse_or("127.0.0.1", at.port()).unwrap(), TlsPolicy::opportunistic());
    let transaction = Transaction {
        sender: "marie@solarmora.com".parse().unwrap(),
        parameters: MailParameters::default(),
        recipients: vec![to.parse::<Mailbox>().unwrap().into()],
        message: Message::new([SharedBytes::new("From: marie@solarmora.com\r\n\r\nx\r\n")])
            .unwrap(),
    };
    let outcomes = pool.deliver(&hop, &[at.ip()], transaction).await;
    assert!(matches!(outcomes[..], [Outcome::Delivered { .. }]), "{outcomes:?}");
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two peers at one port of two addresses.
fn two(first: Script, second: Script) -> (Peer, Peer) {
    let (one, other): (IpAddr, IpAddr) =
        ("127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap());
    loop {
        let first = first.clone().bind(SocketAddr::new(one, 0)).start().unwrap();
        let port = first.address().port();
        // Another program may have that port there.
        if let Ok(second) = second.clone().bind(SocketAddr::new(other, port)).start() {
            return (first, second);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mx_host_that_fails_rests_for_all_domains_that_it_serves_a4_a9() {
    let spool = tempfile::tempdir().unwrap();
    let full = Script::new().at(Phase::Banner, Act::ReplyAndDrop("421 4.3.2 Full".into()));
    let (bad, good) = two(full, Script::new());
    let both: &[(u16, &str)] = &[(20, "good.mx.example"), (10, "bad.mx.example")];
    let resolver = StaticResolver::default()
        .with_mx("one.example", both)
        .with_mx("two.example", both)
        .with_mx("three.example", &both[1..])
        .with_addresses("bad.mx.example", &["127.0.0.2"])
        .with_addresses("good.mx.example", &["127.0.0.3"]);
    let path = spool.path().to_str().unwrap();
    let server = server(path, bad.address().port(), resolver).await;
    let at = server.addresses().next().unwrap().1;

    relay(at, "a@one.example").await;
    until("the next MX host takes over", || good.received().len() == 1).await;
    assert_eq!(bad.sessions().len(), 1, "the better preference is tried first");
    // Another domain, the same hosts: the one that failed is known to, the domain is not.
    relay(at, "b@two.example").await;
    until("the other domain's mail goes", || good.received().len() == 2).await;
    assert_eq!(bad.sessions().len(), 1, "it rests for all domains");
    // A domain with that host alone: its mail waits for the host, and nothing is tried.
    relay(at, "c@three.example").await;
    relay(at, "d@one.example").await;
    until("mail goes past what waits", || good.received().len() == 3).await;
    until("what went is done", || server.messages() == 1).await;
    assert_eq!(bad.sessions().len(), 1);
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_dot_no_other_mx_host_is_tried_a9() {
    let spool = tempfile::tempdir().unwrap();
    for (phase, others) in [(Phase::End, 0), (Phase::Mail, 1), (Phase::Data, 1)] {
        let (first, second) = two(Script::new().at(phase, Act::Drop), Script::new());
        let resolver = StaticResolver::default()
            .with_mx("one.example", &[(10, "first.example"), (20, "second.example")])
            .with_addresses("first.example", &["127.0.0.2"])
            .with_addresses("second.example", &["127.0.0.3"]);
        let path = spool.path().join(format!("{phase:?}"));
        let server = server(path.to_str().unwrap(), first.address().port(), resolver).await;
        relay(server.addresses().next().unwrap().1, "a@one.example").await;
        if others == 0 {
            until("it is sent", || first.sessions().iter().any(|one| one.is_over)).await;
        } else {
            until("the other takes it", || second.received().len() == others).await;
        }
        server.stop(Duration::from_secs(5)).await;
        assert_eq!(second.sessions().len(), others, "{phase:?}");
    }
}
