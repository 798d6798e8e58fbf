//! Connections and the pool against scripted peers on loopback.

use crate::support;

use std::net::IpAddr;
use std::time::Duration;

use support::{Step, goodbye, greeting, hop, message, peer, settings, transaction};
use waypost_net::client::{Pool, PoolLimits};
use waypost_net::tls::TlsPolicy;
use waypost_types::{Failure, FailureScope, Outcome};

const TEXT: &str = "Subject: x\r\n\r\nbody\r\n";

fn local() -> [IpAddr; 1] {
    ["127.0.0.1".parse().unwrap()]
}

fn pool() -> Pool {
    Pool::new(settings(), PoolLimits::default())
}

fn deferred(outcomes: &[Outcome]) -> &Failure {
    match outcomes {
        [Outcome::Deferred(failure)] => failure,
        other => panic!("{other:?}"),
    }
}

fn is_delivered(outcomes: &[Outcome]) -> bool {
    matches!(outcomes, [Outcome::Delivered { .. }])
}

#[tokio::test]
async fn one_connection_serves_many_messages_and_ends_with_quit() {
    let script = [greeting(), message(), message(), message(), goodbye()].concat();
    let (address, peer) = peer(vec![script]).await;
    let (pool, hop) = (pool(), hop(address, TlsPolicy::opportunistic()));
    for _ in 0..3 {
        assert!(is_delivered(&pool.deliver(&hop, &local(), transaction(TEXT)).await));
    }
    assert_eq!(pool.idle(), 1);
    pool.close().await;
    let heard = peer.await.unwrap();
    let once = ["MAIL FROM:<>", "RCPT TO:<a@mx.example>", "DATA", "Subject: x", "", "body", "."];
    let want = [&["EHLO us.example"], &once[..], &once[..], &once[..], &["QUIT"]].concat();
    assert_eq!(heard, [want]);
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let (address, peer) = peer(vec![[greeting(), message()].concat()]).await;
    let (pool, hop) = (pool(), hop(address, TlsPolicy::opportunistic()));
    let text = format!("{}\r\n", "x".repeat(998)).repeat(3000);
    assert!(is_delivered(&pool.deliver(&hop, &local(), transaction(&text)).await));
    drop(pool);
    let heard = peer.await.unwrap();
    assert_eq!(heard[0].iter().filter(|line| line.len() == 998).count(), 3000);
}

/// The time-out that is waited for; the others are long, so that a busy machine changes nothing.
enum Short {
    None,
    Greeting,
    Rcpt,
    DataEnd,
}

/// Name, what the peer does, which time-out is short, scope, and what the text says.
#[tokio::test]
async fn faults_of_a_peer_and_their_scope_a9() {
    use FailureScope::{Host, Message};
    use Step::{Hear, Say, Stall};
    let said = |text| [greeting(), vec![Hear("DATA"), Say(text)]].concat();
    let after_dot = |rest: &[Step]| {
        [said("250 ok\r\n250 ok\r\n354 go\r\n"), vec![Hear(".")], rest.to_vec()].concat()
    };
    let table: Vec<(&str, Vec<Step>, Short, FailureScope, &str)> = vec![
        ("421 banner", vec![Say("421 4.3.2 full\r\n")], Short::None, Host, "421 4.3.2 full"),
        ("554 banner", vec![Say("554 no\r\n")], Short::None, Host, "554 no"),
        ("no banner", vec![Stall], Short::Greeting, Host, "waiting for the greeting"),
        (
            "half a banner",
            vec![Say("220-mx\r\n"), Stall],
            Short::Greeting,
            Host,
            "waiting for the greeting",
        ),
        ("gone at once", vec![], Short::None, Host, "waiting for the greeting"),
        ("no SMTP", vec![Say("HTTP/1.1 400\r\n")], Short::None, Host, "no reply"),
        ("gone after EHLO", vec![Say("220 x\r\n"), Hear("EHLO")], Short::None, Host, "EHLO"),
        ("gone after DATA", said(""), Short::None, Host, "lost waiting for the reply to MAIL"),
        ("half a reply", said("250"), Short::None, Host, "lost waiting for the reply to MAIL"),
        (
            "silent after MAIL",
            [said("250 ok\r\n"), vec![Stall]].concat(),
            Short::Rcpt,
            Host,
            "RCPT",
        ),
        ("421 to RCPT", said("250 ok\r\n421 4.3.2 bye\r\n"), Short::None, Host, "421 4.3.2 bye"),
        (
            "451 to MAIL",
            said("451 4.7.1 later\r\n503 a\r\n503 b\r\n"),
            Short::None,
            Message,
            "4.7.1",
        ),
        ("gone after the dot", after_dot(&[]), Short::None, Message, "after the message was sent"),
        (
            "silent after the dot",
            after_dot(&[Stall]),
            Short::DataEnd,
            Message,
            "after the message was sent",
        ),
        ("half a verdict", after_dot(&[Say("250-2.0")]), Short::None, Message, "after the message"),
        (
            "451 to the dot",
            after_dot(&[Say("451 4.3.0 full\r\n")]),
            Short::None,
            Message,
            "4.3.0 full",
        ),
    ];
    for (name, script, short, scope, text) in table {
        let (address, peer) = peer(vec![script]).await;
        let mut settings = settings();
        match short {
            Short::None => {}
            Short::Greeting => settings.timeouts.greeting = Duration::from_millis(40),
            Short::Rcpt => settings.timeouts.rcpt = Duration::from_millis(40),
            Short::DataEnd => settings.timeouts.data_end = Duration::from_millis(40),
        }
        let pool = Pool::new(settings, PoolLimits::default());
        let hop = hop(address, TlsPolicy::opportunistic());
        let outcomes = pool.deliver(&hop, &local(), transaction(TEXT)).await;
        let failure = deferred(&outcomes);
        assert_eq!(failure.scope, scope, "{name}: {failure}");
        assert!(failure.to_string().contains(text), "{name}: {failure}");
        assert_eq!(failure.host.as_ref(), Some(&hop.host), "{name}");
        drop(pool);
        peer.await.unwrap();
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_once() {
    // The first peer hears MAIL and goes: nothing can have been delivered.
    let stale = [greeting(), message(), vec![Step::Hear("MAIL")]].concat();
    let (address, peer) = peer(vec![stale, [greeting(), message()].concat()]).await;
    let (pool, hop) = (pool(), hop(address, TlsPolicy::opportunistic()));
    for _ in 0..2 {
        assert!(is_delivered(&pool.deliver(&hop, &local(), transaction(TEXT)).await));
    }
    drop(pool);
    assert_eq!(peer.await.unwrap().len(), 2);
}

#[tokio::test]
async fn after_the_dot_nothing_is_sent_again_a9() {
    let lost =
        vec![Step::Hear("DATA"), Step::Say("250 ok\r\n250 ok\r\n354 go\r\n"), Step::Hear(".")];
    let (address, peer) = peer(vec![[greeting(), message(), lost].concat()]).await;
    let (pool, hop) = (pool(), hop(address, TlsPolicy::opportunistic()));
    assert!(is_delivered(&pool.deliver(&hop, &local(), transaction(TEXT)).await));
    let outcomes = pool.deliver(&hop, &local(), transaction(TEXT)).await;
    assert_eq!(deferred(&outcomes).scope, FailureScope::Message);
    assert_eq!(peer.await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let (address, _peer) = peer(vec![[greeting(), message()].concat()]).await;
    let (pool, hop) = (pool(), hop(address, TlsPolicy::opportunistic()));
    let both = ["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    assert!(is_delivered(&pool.deliver(&hop, &both, transaction(TEXT)).await));
    let outcomes = pool.deliver(&hop, &both[..1], transaction(TEXT)).await;
    assert!(deferred(&outcomes).to_string().contains("cannot connect to 127.0.0.2"));
    let outcomes = pool.deliver(&hop, &[], transaction(TEXT)).await;
    assert!(deferred(&outcomes).to_string().contains("no address"));
}

#[tokio::test]
async fn limits_hold() {
    let limits =
        PoolLimits { connections_per_hop: 1, messages_per_connection: 2, ..PoolLimits::default() };
    let two = [greeting(), message(), message(), goodbye()].concat();
    let (address, peer) = peer(vec![two.clone(), two]).await;
    let (pool, hop) = (Pool::new(settings(), limits), hop(address, TlsPolicy::opportunistic()));
    // Four at once, over one connection at a time, two over each.
    let to = local();
    let one = || pool.deliver(&hop, &to, transaction(TEXT));
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    for outcomes in [a, b, c, d] {
        assert!(is_delivered(&outcomes));
    }
    let heard = peer.await.unwrap();
    for lines in heard {
        assert_eq!(lines.iter().filter(|line| *line == "DATA").count(), 2);
        assert_eq!(lines.last().unwrap(), "QUIT");
    }
}

#[tokio::test]
async fn what_is_idle_too_long_is_closed() {
    let limits = PoolLimits { idle: Duration::ZERO, ..PoolLimits::default() };
    let (address, peer) = peer(vec![[greeting(), message(), goodbye()].concat()]).await;
    let (pool, hop) = (Pool::new(settings(), limits), hop(address, TlsPolicy::opportunistic()));
    assert!(is_delivered(&pool.deliver(&hop, &local(), transaction(TEXT)).await));
    pool.sweep();
    assert_eq!(pool.idle(), 0);
    assert_eq!(peer.await.unwrap()[0].last().unwrap(), "QUIT");
}

#[tokio::test]
async fn a_report_says_what_the_peer_offers() {
    let (address, _peer) = peer(vec![[greeting(), message()].concat()]).await;
    let (pool, hop) = (pool(), hop(address, TlsPolicy::opportunistic()));
    let report = pool.deliver_and_report(&hop, &local(), transaction(TEXT)).await;
    assert!(is_delivered(&report.outcomes));
    assert!(report.offered.pipelining && !report.offered.dsn);
}

#[tokio::test]
async fn a_hop_has_as_many_waiting_as_connections_and_then_is_busy() {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    let (address, peer) = peer(vec![vec![Step::Stall]]).await;
    let limits = PoolLimits { connections_per_hop: 1, ..PoolLimits::default() };
    let (pool, hop) = (Pool::new(settings(), limits), hop(address, TlsPolicy::opportunistic()));
    let local = local();
    {
        let mut first = pin!(pool.deliver_unless_busy(&hop, &local, transaction(TEXT)));
        let mut second = pin!(pool.deliver_unless_busy(&hop, &local, transaction(TEXT)));
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(pool.deliver_unless_busy(&hop, &local, transaction(TEXT)).await.is_none());
    }
    // Whoever gives up gives his place back.
    let mut third = pin!(pool.deliver_unless_busy(&hop, &local, transaction(TEXT)));
    let waits = poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await;
    assert!(waits);
    peer.abort();
}
