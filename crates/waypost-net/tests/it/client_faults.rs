//! The client and its pool against peers that fail in every phase: one outcome for each recipient,
//! of the right scope, in time (A9, RFC 5321 section 4.5.3.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use waypost_net::client::{ConnectError, ConnectSettings, Hop, Pool, PoolLimits, connect};
use waypost_net::test_kit::{Act, Authority, Flaw, Framing, Peer, Phase, Script, Session};
use waypost_net::tls::{Roots, TlsClients, TlsPolicy, TlsSwitch};
use waypost_smtp::client::{
    Chunking, Message, Protocol, SharedBytes, Timeouts, TlsUse, Transaction,
};
use waypost_types::{Body, FailureScope, HostPort, MailParameters, Mailbox, Outcome, ReversePath};

const TEXT: &str = "Subject: x\r\n\r\nbody\r\n";
/// What is waited for; all else is long, so that a busy machine changes nothing.
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(30);

fn settings() -> ConnectSettings {
    let mut settings = ConnectSettings::new("us.example".parse().unwrap());
    settings.connect = LONG;
    settings.timeouts = Timeouts {
        greeting: LONG,
        command: LONG,
        mail: LONG,
        rcpt: LONG,
        data_start: LONG,
        data_block: LONG,
        data_end: LONG,
    };
    settings
}

fn hop(peer: &Peer) -> Hop {
    let host = HostPort::parse_or("mx.example", peer.address().port()).unwrap();
    Hop::new(host, TlsPolicy::opportunistic())
}

fn transaction(text: &str, recipients: &[&str]) -> Transaction {
    Transaction {
        sender: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(|to| to.parse::<Mailbox>().unwrap().into()).collect(),
        message: Message::new([SharedBytes::new(text.to_owned())]).unwrap(),
    }
}

fn to_two(text: &str) -> Transaction {
    transaction(text, &["a@mx.example", "b@mx.example"])
}

async fn deliver(peer: &Peer, settings: ConnectSettings, sent: Transaction) -> Vec<Outcome> {
    let local: [IpAddr; 1] = [peer.address().ip()];
    Pool::new(settings, PoolLimits::default()).deliver(&hop(peer), &local, sent).await
}

/// `host 421 4.3.2` and so on, one for each recipient.
fn shown(outcomes: &[Outcome]) -> Vec<String> {
    let one = |outcome: &Outcome| match outcome {
        Outcome::Delivered { reply, .. } => format!("delivered {reply}"),
        Outcome::Deferred(failure) => format!("deferred {:?} {}", failure.scope, failure.reply),
        Outcome::Failed(failure) => format!("failed {:?} {}", failure.scope, failure.reply),
    };
    outcomes.iter().map(one).collect()
}

type Short = fn(&mut ConnectSettings);

#[tokio::test]
async fn each_phase_has_a_time_out_of_its_own_rfc_5321_4_5_3_2() {
    let large = format!("{}\r\n", "x".repeat(998)).repeat(20_000);
    let table: Vec<(Phase, &str, Short, FailureScope, &str)> = vec![
        (Phase::Banner, TEXT, |s| s.timeouts.greeting = SHORT, FailureScope::Host, "the greeting"),
        (Phase::Hello, TEXT, |s| s.timeouts.command = SHORT, FailureScope::Host, "to EHLO"),
        (Phase::Mail, TEXT, |s| s.timeouts.mail = SHORT, FailureScope::Host, "to MAIL"),
        (Phase::Rcpt, TEXT, |s| s.timeouts.rcpt = SHORT, FailureScope::Host, "to RCPT"),
        (Phase::Data, TEXT, |s| s.timeouts.data_start = SHORT, FailureScope::Host, "to DATA"),
        (
            Phase::Content,
            &large,
            |s| s.timeouts.data_block = SHORT,
            FailureScope::Host,
            "while sending the message",
        ),
        (
            Phase::End,
            TEXT,
            |s| s.timeouts.data_end = SHORT,
            FailureScope::Message,
            "after the message was sent",
        ),
    ];
    for (phase, text, short, scope, told) in table {
        for chunking in [false, true] {
            if chunking && phase == Phase::Data {
                continue;
            }
            let script = Script::new().at(phase, Act::Stall);
            let script = if chunking { script.offers("CHUNKING") } else { script };
            let peer = script.start().unwrap();
            let mut settings = settings();
            short(&mut settings);
            let outcomes = deliver(&peer, settings, to_two(text)).await;
            assert_eq!(outcomes.len(), 2, "{phase:?}");
            for outcome in outcomes {
                let Outcome::Deferred(failure) = outcome else { panic!("{phase:?}: {outcome:?}") };
                assert_eq!(failure.scope, scope, "{phase:?}");
                let text = failure.to_string();
                assert!(text.contains("timed out") && text.contains(told), "{phase:?}: {text}");
            }
            assert!(peer.received().is_empty());
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_never_taken_times_out_a9() {
    // A listener whose queue is full answers nobody.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut clients = Vec::new();
    let full = loop {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(client) if clients.len() < 5000 => clients.push(client),
            Ok(_) => break false,
            Err(_) => break true,
        }
    };
    if !full {
        return; // The system queues more than that.
    }
    let mut settings = settings();
    settings.connect = SHORT;
    let host = HostPort::parse_or("mx.example", address.port()).unwrap();
    let hop = Hop::new(host, TlsPolicy::opportunistic());
    let pool = Pool::new(settings, PoolLimits::default());
    let outcomes = pool.deliver(&hop, &[address.ip()], to_two(TEXT)).await;
    for outcome in shown(&outcomes) {
        assert!(outcome.starts_with("deferred Host 451 4.4.1 cannot connect"), "{outcome}");
    }
}

/// What a peer does, and the outcome of both recipients; `…` ends a text that goes on.
#[tokio::test]
async fn whatever_a_peer_does_each_recipient_has_one_outcome_a9() {
    let host = "deferred Host 451 4.4.2 connection lost…";
    let message = "deferred Message 451 4.4.2 connection lost after the message was sent…";
    let full = || Act::reply("421 4.3.2 Full");
    let table: Vec<(&str, Script, [&str; 2])> = vec![
        (
            "421 banner",
            Script::new().at(Phase::Banner, full()),
            ["deferred Host 421 4.3.2 Full"; 2],
        ),
        (
            "421 to EHLO",
            Script::new().at(Phase::Hello, full()),
            ["deferred Host 421 4.3.2 Full"; 2],
        ),
        ("421 to MAIL", Script::new().at(Phase::Mail, full()), ["deferred Host 421 4.3.2 Full"; 2]),
        (
            "421 to one RCPT",
            Script::new().when(Phase::Rcpt, "<b@", full()),
            ["deferred Host 421 4.3.2 Full"; 2],
        ),
        (
            "421 behind a refused RCPT",
            Script::new().when(Phase::Rcpt, "<a@", Act::reply("550 5.1.1 No")).when(
                Phase::Rcpt,
                "<b@",
                full(),
            ),
            ["failed Message 550 5.1.1 No", "deferred Host 421 4.3.2 Full"],
        ),
        ("421 to DATA", Script::new().at(Phase::Data, full()), ["deferred Host 421 4.3.2 Full"; 2]),
        (
            "421 to the dot",
            Script::new().at(Phase::End, full()),
            ["deferred Message 421 4.3.2 Full"; 2],
        ),
        ("dropped at once", Script::new().at(Phase::Banner, Act::Drop), [host; 2]),
        ("dropped at EHLO", Script::new().at(Phase::Hello, Act::Drop), [host; 2]),
        ("dropped at MAIL", Script::new().at(Phase::Mail, Act::Drop), [host; 2]),
        ("dropped at RCPT", Script::new().at(Phase::Rcpt, Act::Drop), [host; 2]),
        ("dropped at DATA", Script::new().at(Phase::Data, Act::Drop), [host; 2]),
        ("dropped behind the dot", Script::new().at(Phase::End, Act::Drop), [message; 2]),
        ("half a banner", Script::new().at(Phase::Banner, Act::Cut(7)), [host; 2]),
        ("half an EHLO", Script::new().at(Phase::Hello, Act::Cut(30)), [host; 2]),
        ("half of 250 to MAIL", Script::new().at(Phase::Mail, Act::Cut(2)), [host; 2]),
        ("250 to RCPT without its end", Script::new().at(Phase::Rcpt, Act::Cut(13)), [host; 2]),
        ("half of 354", Script::new().at(Phase::Data, Act::Cut(3)), [host; 2]),
        ("half a verdict", Script::new().at(Phase::End, Act::Cut(9)), [message; 2]),
        (
            "a verdict octet by octet",
            Script::new().at(Phase::End, Act::Trickle(Duration::ZERO)),
            ["delivered 250 2.0.0 Taken"; 2],
        ),
        (
            "DATA refused behind 250",
            Script::new().at(Phase::Data, Act::reply("451 4.3.0 Not now")),
            ["deferred Message 451 4.3.0 Not now"; 2],
        ),
        (
            "the dot refused",
            Script::new().at(Phase::End, Act::reply("554 5.7.1 Spam")),
            ["failed Message 554 5.7.1 Spam"; 2],
        ),
        (
            "refused in mid-message",
            Script::new().at(Phase::Content, Act::ReplyAndDrop("552 5.3.4 Too large".into())),
            ["…"; 2],
        ),
        (
            "one of two taken",
            Script::new().when(Phase::Rcpt, "<b@", Act::reply("452 4.2.2 Full")),
            ["delivered 250 2.0.0 Taken", "deferred Message 452 4.2.2 Full"],
        ),
        (
            "552 to RCPT is 452",
            Script::new().when(Phase::Rcpt, "<a@", Act::reply("552 Too many")),
            ["deferred Message 552 Too many", "delivered 250 2.0.0 Taken"],
        ),
        (
            "nobody taken, DATA all the same",
            Script::new()
                .at(Phase::Rcpt, Act::reply("550 5.1.1 No"))
                .at(Phase::Data, Act::reply("354 Go on")),
            ["failed Message 550 5.1.1 No"; 2],
        ),
        (
            "too many lines",
            Script::new().at(Phase::Rcpt, Act::Flood { lines: 100_000, octets: 60 }),
            ["deferred Host 451 4.5.0 the host sent a reply of more than 100 lines…"; 2],
        ),
        (
            "a line too long",
            Script::new().at(Phase::Hello, Act::Flood { lines: 1, octets: 1_000_000 }),
            ["deferred Host 451 4.5.0 the host sent a reply line of more than…"; 2],
        ),
        (
            "a flood for a verdict",
            Script::new().at(Phase::End, Act::Flood { lines: 100_000, octets: 60 }),
            ["deferred Message 451 4.5.0 the host sent a reply of more than 100 lines…"; 2],
        ),
        (
            "no SMTP",
            Script::new().at(Phase::Banner, Act::Bytes(b"\x16\x03\x01\r\n".to_vec())),
            ["deferred Host 451 4.5.0 the host sent a line that is no reply…"; 2],
        ),
    ];
    for (name, script, want) in table {
        let peer = script.start().unwrap();
        let got = shown(&deliver(&peer, settings(), to_two(TEXT)).await);
        assert_eq!(got.len(), 2, "{name}: {got:?}");
        for (got, want) in got.iter().zip(want) {
            let fits = match want.strip_suffix('…') {
                Some(begin) => got.starts_with(begin),
                None => got == want,
            };
            assert!(fits, "{name}: {got}, not {want}");
        }
        assert!(peer.sessions().len() <= 1, "{name}: nothing is sent twice");
    }
}

/// More than the system takes in one go: the end has not been sent when the peer goes.
#[tokio::test]
async fn what_is_lost_in_mid_message_is_the_hosts_failure_a9() {
    let large = format!("{}\r\n", "x".repeat(998)).repeat(20_000);
    for chunking in [false, true] {
        for (act, want) in [
            (Act::Drop, "deferred Host 451 4.4.2 connection lost while sending the message"),
            (Act::reply("452 4.3.1 Full"), "deferred Message 452 4.3.1 Full"),
            (Act::reply("552 5.3.4 Too large"), "failed Message 552 5.3.4 Too large"),
            (Act::reply("421 4.3.2 Bye"), "deferred Host 421 4.3.2 Bye"),
            (Act::reply("250 2.0.0 Taken"), "deferred Host 451 4.5.0 the host is out of step"),
        ] {
            let script = Script::new().at(Phase::Content, act);
            let script = if chunking { script.offers("CHUNKING") } else { script };
            let peer = script.start().unwrap();
            let got = shown(&deliver(&peer, settings(), to_two(&large)).await);
            assert!(
                got.len() == 2 && got.iter().all(|got| got.starts_with(want)),
                "{want}: {got:?}"
            );
            assert!(peer.received().is_empty(), "half a message is none");
        }
    }
}

#[tokio::test]
async fn lmtp_answers_for_each_and_fewer_answers_are_unknown_ones_rfc_2033() {
    let table: Vec<(Script, [&str; 2])> = vec![
        (Script::new(), ["delivered 250 2.0.0 Taken"; 2]),
        (
            Script::new().when(Phase::End, "<b@", Act::reply("452 4.2.2 Full")),
            ["delivered 250 2.0.0 Taken", "deferred Message 452 4.2.2 Full"],
        ),
        (
            Script::new().when(Phase::End, "<b@", Act::Drop),
            ["delivered 250 2.0.0 Taken", "deferred Message 451 4.4.2 connection lost after"],
        ),
        (
            Script::new().when(Phase::End, "<b@", Act::Stall),
            ["delivered 250 2.0.0 Taken", "deferred Message 451 4.4.2 timed out after"],
        ),
        (
            Script::new().when(Phase::End, "<b@", Act::reply("421 4.3.2 Bye")),
            ["delivered 250 2.0.0 Taken", "deferred Message 421 4.3.2 Bye"],
        ),
    ];
    for (script, want) in table {
        let peer = script.start().unwrap();
        let mut settings = settings();
        // Long enough for the first answer; for what comes the whole of it.
        let stalls = want[1].contains("timed out");
        settings.timeouts.data_end = if stalls { Duration::from_secs(2) } else { LONG };
        let pool = Pool::new(settings, PoolLimits::default());
        let hop = Hop { protocol: Protocol::Lmtp, ..hop(&peer) };
        let outcomes = pool.deliver(&hop, &[peer.address().ip()], to_two(TEXT)).await;
        let got = shown(&outcomes);
        assert!(
            got.iter().zip(want).all(|(got, want)| got.starts_with(want)),
            "{got:?}, not {want:?}"
        );
    }
}

#[tokio::test]
async fn after_the_dot_the_next_address_is_not_tried_a9() {
    for (phase, want) in [(Phase::End, 0), (Phase::Mail, 0), (Phase::Banner, 1)] {
        let first = Script::new().at(phase, Act::Drop).start().unwrap();
        let address = format!("127.0.0.2:{}", first.address().port()).parse().unwrap();
        let second = Script::new().bind(address).start().unwrap();
        let pool = Pool::new(settings(), PoolLimits::default());
        let both = [first.address().ip(), second.address().ip()];
        let outcomes = pool.deliver(&hop(&first), &both, to_two(TEXT)).await;
        assert_eq!(outcomes.len(), 2);
        // Another address of the host is tried when no session came about; the caller tries another
        // host for what failed before the dot.
        assert_eq!(second.received().len(), want, "{phase:?}");
    }
}

#[tokio::test]
async fn content_is_the_same_by_data_and_by_chunk_rfc_3030() {
    let eight_bit = "Subject: x\r\n\r\ncaf\u{e9}\r\n";
    let stuffed = "Subject: x\r\n\r\n..\r\n..a\r\n";
    for (text, offers, chunking, framing) in [
        (TEXT, true, Chunking::AsStored, Framing::Chunks(1)),
        (TEXT, true, Chunking::Off, Framing::Data),
        (TEXT, false, Chunking::AsStored, Framing::Data),
        (eight_bit, true, Chunking::AsStored, Framing::Chunks(1)),
        (stuffed, true, Chunking::AsStored, Framing::Data),
    ] {
        for pipelining in [false, true] {
            let script = if offers { Script::new().offers("CHUNKING") } else { Script::new() };
            let script = if pipelining { script } else { script.lacks("PIPELINING") };
            let peer = script.start().unwrap();
            let mut settings = settings();
            settings.chunking = chunking;
            let pool = Pool::new(settings, PoolLimits::default());
            for _ in 0..2 {
                let local = [peer.address().ip()];
                let outcomes = pool.deliver(&hop(&peer), &local, to_two(text)).await;
                assert_eq!(shown(&outcomes), ["delivered 250 2.0.0 Taken"; 2]);
            }
            let received = peer.received();
            assert_eq!(received.len(), 2);
            for one in received {
                assert_eq!(one.text(), text.replace("\r\n..", "\r\n."));
                assert_eq!((one.framing, one.session), (Some(framing), 0));
            }
        }
    }
}

#[tokio::test]
async fn nobody_who_wants_it_no_chunk_rfc_3030() {
    let peer = Script::new()
        .offers("CHUNKING")
        .first(2, Phase::Rcpt, Act::reply("450 4.2.0 Later"))
        .first(1, Phase::End, Act::reply("452 4.3.1 Full"))
        .start()
        .unwrap();
    let pool = Pool::new(settings(), PoolLimits::default());
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(pool.deliver(&hop(&peer), &[peer.address().ip()], to_two(TEXT)).await);
    }
    let (later, full, taken) = (
        "deferred Message 450 4.2.0 Later",
        "deferred Message 452 4.3.1 Full",
        "delivered 250 2.0.0 Taken",
    );
    assert_eq!(shown(&all), [later, later, full, full, taken, taken]);
    let commands = peer.sessions().remove(0).commands;
    let verbs: Vec<&str> = commands.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let one = ["MAIL", "RCPT", "RCPT"];
    let want = [&["EHLO"], &one[..], &["RSET"], &one, &["BDAT"], &["RSET"], &one, &["BDAT"]];
    assert_eq!(verbs, want.concat());
}

#[tokio::test]
async fn what_a_host_lacks_is_a_failure_and_nothing_is_mangled_rfc_6152_6531_1870() {
    let eight_bit = "Subject: x\r\n\r\ncaf\u{e9}\r\n";
    let header = "Subject: caf\u{e9}\r\n\r\nbody\r\n";
    let both = ["failed Message 554 5.6.3"; 2];
    let large = ["failed Message 552 5.3.4"; 2];
    let utf8 = "failed Message 553 5.6.7";
    let good = "delivered";
    let asked = |sent: &mut Transaction| sent.parameters.smtputf8 = true;
    let declared = |sent: &mut Transaction| sent.parameters.body = Body::EightBitMime;
    let nothing = |_: &mut Transaction| {};
    let sender = |sent: &mut Transaction| sent.sender = "caf\u{e9}@us.example".parse().unwrap();
    let one = |sent: &mut Transaction| {
        sent.recipients[0].address = "caf\u{e9}@mx.example".parse().unwrap();
    };
    type Change = fn(&mut Transaction);
    let table: Vec<(&str, &str, Change, [&str; 2], &str)> = vec![
        ("8BITMIME", eight_bit, nothing, both, ""),
        ("8BITMIME", eight_bit, declared, both, ""),
        ("8BITMIME", TEXT, declared, [good; 2], ""),
        ("SMTPUTF8", TEXT, asked, [good; 2], ""),
        ("SMTPUTF8", header, asked, [utf8; 2], ""),
        ("SMTPUTF8", header, nothing, [good; 2], "BODY=8BITMIME"),
        ("SMTPUTF8", eight_bit, asked, [good; 2], "BODY=8BITMIME"),
        ("SMTPUTF8", TEXT, sender, [utf8; 2], ""),
        ("SMTPUTF8", TEXT, one, [utf8, good], ""),
        ("SIZE 5", TEXT, nothing, large, ""),
        ("SIZE 20", TEXT, nothing, [good; 2], "SIZE=20"),
        ("", TEXT, asked, [good; 2], "SMTPUTF8"),
        ("", TEXT, one, [good; 2], "SMTPUTF8"),
        ("", eight_bit, nothing, [good; 2], "BODY=8BITMIME"),
    ];
    for (lacks, text, change, want, parameter) in table {
        let script = match lacks.starts_with("SIZE") {
            true => Script::new().offers(lacks),
            false => Script::new().lacks(lacks),
        };
        let peer = script.start().unwrap();
        let mut sent = to_two(text);
        change(&mut sent);
        let got = shown(&deliver(&peer, settings(), sent).await);
        let case = format!("without {lacks}: {got:?}, not {want:?}");
        assert!(got.iter().zip(want).all(|(got, want)| got.starts_with(want)), "{case}");
        let received = peer.received();
        assert_eq!(received.len(), usize::from(want.contains(&good)), "{case}");
        for one in &received {
            assert_eq!(one.text(), text);
            let said = one.parameters.iter().any(|found| found == parameter);
            assert!(said || parameter.is_empty(), "{case}: {:?}", one.parameters);
        }
        if received.is_empty() {
            // Not a word of the transaction was said.
            let commands = peer.sessions().remove(0).commands;
            assert!(commands.iter().all(|line| !line.starts_with("MAIL")), "{case}");
        }
    }
}

#[tokio::test]
async fn certificates_of_the_kit_fail_as_they_say_a5_a6_a7() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let strict = |tls| TlsPolicy { tls, roots: Roots::File(roots.clone()), ..TlsPolicy::strict() };
    let good = authority.identity("mx.example").unwrap();
    for (tls, script) in [
        (TlsUse::Required, Script::new().starttls(&good)),
        (TlsUse::Implicit, Script::new().implicit_tls(&good)),
    ] {
        let peer = script.start().unwrap();
        let hop = Hop { tls: strict(tls), ..hop(&peer) };
        let pool = Pool::new(settings(), PoolLimits::default());
        let outcomes = pool.deliver(&hop, &[peer.address().ip()], to_two(TEXT)).await;
        assert_eq!(shown(&outcomes), ["delivered 250 2.0.0 Taken"; 2]);
        assert!(peer.received()[0].over_tls);
        let clear = if tls == TlsUse::Required { 2 } else { 0 };
        assert_eq!(peer.sessions()[0].clear_commands, Some(clear));
    }
    for flaw in Flaw::ALL {
        let identity = authority.flawed(flaw, "mx.example").unwrap();
        let peer = Script::new().starttls(&identity).start().unwrap();
        let want = match flaw {
            Flaw::WrongName => TlsSwitch::VerifyHostname,
            _ => TlsSwitch::RequireCaSigned,
        };
        let hop = Hop { tls: strict(TlsUse::Required), ..hop(&peer) };
        let (settings, tls) = (settings(), TlsClients::default());
        let made = connect(peer.address().ip(), &hop, &settings, &tls).await;
        match made.err() {
            Some(ConnectError::Tls(failure)) => {
                assert_eq!(failure.switch(), Some(want), "{flaw:?}")
            }
            other => panic!("{flaw:?}: {other:?}"),
        }
        assert!(peer.received().is_empty());
    }
    for script in [
        Script::new(),
        Script::new().starttls(&good).at(Phase::StartTls, Act::reply("454 4.7.0 Not now")),
        Script::new().starttls(&good).at(Phase::Handshake, Act::Bytes(b"no TLS\r\n".to_vec())),
        Script::new().starttls(&good).at(Phase::Handshake, Act::Drop),
    ] {
        let peer = script.start().unwrap();
        let hop = Hop { tls: strict(TlsUse::Required), ..hop(&peer) };
        let pool = Pool::new(settings(), PoolLimits::default());
        let outcomes = pool.deliver(&hop, &[peer.address().ip()], to_two(TEXT)).await;
        assert!(shown(&outcomes).iter().all(|one| one.starts_with("deferred")), "{outcomes:?}");
        assert!(peer.received().is_empty());
    }
}

#[tokio::test]
async fn a_change_that_is_none_for_a_hop_keeps_its_connections_a9_a12() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let roots = folder.path().join("roots.pem");
    let write = |pem: &str| std::fs::write(&roots, pem).unwrap();
    write(ours.pem());
    let peer = Script::new().starttls(&ours.identity("mx.example").unwrap()).start().unwrap();
    let tls = TlsPolicy { roots: Roots::File(roots.clone()), ..TlsPolicy::strict() };
    let (local, hop) = ([peer.address().ip()], Hop { tls, ..hop(&peer) });
    let (settings, limits) = (settings(), PoolLimits::default());
    let pool = Pool::new(settings.clone(), limits);
    let connections = async || {
        let outcomes = pool.deliver(&hop, &local, to_two(TEXT)).await;
        (outcomes.len(), peer.sessions().len(), pool.idle())
    };
    assert_eq!(connections().await, (2, 1, 1));
    // As before; and other limits, which hold for the connections that there are too.
    pool.reconfigure(settings.clone(), limits);
    assert_eq!(connections().await, (2, 1, 1));
    let fewer = PoolLimits { connections_per_hop: 1, ..limits };
    pool.reconfigure(settings.clone(), fewer);
    assert_eq!(connections().await, (2, 1, 1));
    let once = PoolLimits { messages_per_connection: 4, ..fewer };
    pool.reconfigure(settings.clone(), once);
    assert_eq!(connections().await, (2, 1, 0), "the fourth message over it");
    assert_eq!(connections().await, (2, 2, 1));
    // Another name of our own: nothing is sent under the old one.
    let mut other = settings.clone();
    other.ehlo = "other.example".parse().unwrap();
    pool.reconfigure(other.clone(), limits);
    assert_eq!(pool.idle(), 0);
    assert_eq!(connections().await, (2, 3, 1));
    assert_eq!(peer.sessions()[2].commands[0], "EHLO other.example");
    // The same roots in other words; then other roots, which do not trust it.
    write(&format!("# ours\n{}", ours.pem()));
    pool.reconfigure(other.clone(), limits);
    assert_eq!(connections().await, (2, 3, 1));
    write(theirs.pem());
    pool.reconfigure(other, limits);
    assert_eq!(pool.idle(), 0);
    let outcomes = pool.deliver(&hop, &local, to_two(TEXT)).await;
    assert!(shown(&outcomes).iter().all(|one| one.starts_with("deferred Tls")), "{outcomes:?}");
}

#[tokio::test]
async fn what_is_on_its_way_in_a_reload_goes_on_and_its_connection_ends_a12() {
    let peer = Arc::new(Script::new().at(Phase::Data, Act::Stall).start().unwrap());
    let pool = Pool::new(settings(), PoolLimits::default());
    let (hop, local) = (hop(&peer), [peer.address().ip()]);
    let sending = pool.deliver(&hop, &local, to_two(TEXT));
    let watched = Arc::clone(&peer);
    let changing = async {
        let begun = |seen: &[Session]| seen.iter().any(|one| !one.transactions.is_empty());
        let begun = tokio::task::spawn_blocking(move || watched.wait_until(begun));
        begun.await.unwrap().unwrap();
        let mut other = settings();
        other.ehlo = "other.example".parse().unwrap();
        pool.reconfigure(other, PoolLimits::default());
        peer.release();
    };
    let (outcomes, ()) = tokio::join!(sending, changing);
    assert_eq!(shown(&outcomes), ["delivered 250 2.0.0 Taken"; 2]);
    assert_eq!(pool.idle(), 0, "it is not used again");
}
