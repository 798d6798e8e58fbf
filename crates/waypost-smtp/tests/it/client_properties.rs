//! A peer that says anything, in any pieces: what must hold all the same.

use std::sync::Arc;

use proptest::prelude::*;
use waypost_smtp::client::{
    Cause, Client, ClientConfig, Event, Message, Protocol, Report, SharedBytes, TlsUse, Transaction,
};
use waypost_types::{FailureScope, MailParameters, Mailbox, Outcome, ReversePath, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(0);

fn client(tls: TlsUse, protocol: Protocol) -> Client {
    let mut config =
        ClientConfig::new("mx.example:25".parse().unwrap(), "us.example".parse().unwrap());
    (config.tls, config.protocol) = (tls, protocol);
    Client::new(Arc::new(config), NOW)
}

fn transaction(recipients: usize, size: usize) -> Transaction {
    let recipients = (0..recipients)
        .map(|i| format!("r{i}@mx.example").parse::<Mailbox>().unwrap().into())
        .collect();
    let message = Message::new([SharedBytes::new(format!("{}\r\n", "x".repeat(size)))]).unwrap();
    let parameters = MailParameters::default();
    Transaction { sender: ReversePath::Null, parameters, recipients, message }
}

fn flush(client: &mut Client) -> Vec<u8> {
    let bytes: Vec<u8> = client.transmit().flatten().copied().collect();
    client.transmitted(NOW, bytes.len());
    bytes
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn ready(offered: &[u8], protocol: Protocol) -> Client {
    let mut client = client(TlsUse::Off, protocol);
    client.receive(NOW, b"220 mx.example\r\n");
    flush(&mut client);
    client.receive(NOW, offered);
    assert_eq!(events(&mut client), [Event::Ready]);
    client
}

#[test]
fn bytes_behind_the_reply_to_starttls_end_the_connection() {
    for together in [true, false] {
        let mut client = client(TlsUse::Opportunistic, Protocol::Smtp);
        client.receive(NOW, b"220 mx.example\r\n");
        flush(&mut client);
        client.receive(NOW, b"250-mx.example\r\n250 STARTTLS\r\n");
        flush(&mut client);
        if together {
            client.receive(NOW, b"220 go\r\n250-mx.example\r\n250 PIPELINING\r\n");
        } else {
            client.receive(NOW, b"220 go\r\n");
            assert_eq!(events(&mut client), [Event::StartTls]);
            client.receive(NOW, b"2");
        }
        let [Event::Closed(closed)] = &events(&mut client)[..] else { panic!() };
        assert_eq!(closed.cause, Cause::Injection);
    }
}

#[test]
fn what_was_offered_in_clear_text_does_not_survive_the_handshake() {
    let mut client = client(TlsUse::Opportunistic, Protocol::Smtp);
    client.receive(NOW, b"220 mx.example\r\n");
    flush(&mut client);
    client.receive(NOW, b"250-mx.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n");
    flush(&mut client);
    client.receive(NOW, b"220 go\r\n");
    client.tls_established(NOW);
    assert!(!client.extensions().pipelining && !client.extensions().starttls);
    assert_eq!(flush(&mut client), b"EHLO us.example\r\n");
    client.receive(NOW, b"250 mx.example\r\n");
    assert_eq!(events(&mut client), [Event::StartTls, Event::Ready]);
}

/// Sends all but the last `kept` octets of the message, by DATA or BDAT, and gives the report after
/// `then`.
fn interrupted(by_chunk: bool, kept: usize, then: impl Fn(&mut Client)) -> Report {
    let (offered, replies) = match by_chunk {
        false => (&b"250-mx\r\n250 PIPELINING\r\n"[..], &b"250 ok\r\n250 ok\r\n354 go\r\n"[..]),
        true => (&b"250-mx\r\n250 CHUNKING\r\n"[..], &b"250 ok\r\n250 ok\r\n"[..]),
    };
    let mut client = ready(offered, Protocol::Smtp);
    client.send(NOW, transaction(1, 100_000)).unwrap();
    flush(&mut client);
    for reply in replies.split_inclusive(|octet| *octet == b'\n') {
        client.receive(NOW, reply);
        if client.transmit().map(<[u8]>::len).sum::<usize>() < 100_000 {
            flush(&mut client);
        }
    }
    let length: usize = client.transmit().map(<[u8]>::len).sum();
    client.transmitted(NOW, length - kept);
    then(&mut client);
    match events(&mut client).as_slice() {
        [Event::Done(report), Event::Closed(_)] => report.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_final_dot_decides_whose_failure_it_is_a9() {
    let lost: fn(&mut Client) = |client| client.lost("gone");
    let closing: fn(&mut Client) = |client| client.receive(NOW, b"421 4.3.2 closing\r\n");
    let lie: fn(&mut Client) = |client| client.receive(NOW, b"250 2.0.0 queued\r\n");
    let full: fn(&mut Client) = |client| client.receive(NOW, b"552 5.3.4 too large\r\n");
    let scope = |report: Report| match &report.outcomes[..] {
        [Outcome::Deferred(failure)] => (failure.scope, false),
        [Outcome::Failed(failure)] => (failure.scope, true),
        other => panic!("{other:?}"),
    };
    for by_chunk in [false, true] {
        for kept in [1, 3, 4, 50_000, 100_005] {
            let scope = |then| scope(interrupted(by_chunk, kept, then));
            assert_eq!(scope(lost), (FailureScope::Host, false));
            assert_eq!(scope(closing), (FailureScope::Host, false));
            // A verdict on half a message is no delivery, but a refusal is one.
            assert_eq!(scope(lie), (FailureScope::Host, false));
            assert_eq!(scope(full), (FailureScope::Message, true));
        }
        assert_eq!(scope(interrupted(by_chunk, 0, lost)), (FailureScope::Message, false));
        assert_eq!(scope(interrupted(by_chunk, 0, closing)), (FailureScope::Message, false));
    }
}

#[test]
fn a_message_that_moves_puts_off_its_time_out_by_blocks_only() {
    let mut client = ready(b"250-mx.example\r\n250 PIPELINING\r\n", Protocol::Smtp);
    client.send(NOW, transaction(1, 100_000)).unwrap();
    flush(&mut client);
    client.receive(NOW, b"250 ok\r\n250 ok\r\n354 go\r\n");
    let start = client.poll_timeout().unwrap();
    let later = Timestamp::from_millis(60_000);
    client.transmitted(later, 1);
    assert_eq!(client.poll_timeout(), Some(start));
    client.transmitted(later, 16 * 1024);
    assert_eq!(client.poll_timeout(), Some(Timestamp::from_millis(240_000)));
    client.transmitted(later, 100_000);
    assert_eq!(client.poll_timeout(), Some(Timestamp::from_millis(660_000)));
}

#[test]
fn what_is_kept_of_a_flood_is_bounded() {
    for flood in ["250-x\r\n", "250-\u{e9}", "250-\r\n", "x"] {
        let mut client = ready(b"250 mx.example\r\n", Protocol::Smtp);
        client.send(NOW, transaction(1, 3)).unwrap();
        flush(&mut client);
        for _ in 0..100_000 {
            client.receive(NOW, flood.as_bytes());
            assert!(client.held() <= 3 * 100 * 2048 + 2048);
        }
        assert!(client.is_closed(), "{flood:?}");
    }
}

#[test]
fn a_closed_client_has_nothing_to_say() {
    for end in [
        |client: &mut Client| client.lost("gone"),
        |client: &mut Client| client.receive(NOW, b"221 bye\r\n"),
    ] {
        let mut client = ready(b"250 mx.example\r\n", Protocol::Smtp);
        client.quit(NOW);
        end(&mut client); // before QUIT was written
        assert_eq!(events(&mut client), [Event::Quit]);
        assert_eq!(client.transmit().count(), 0);
    }
}

/// What a peer may do next.
#[derive(Clone, Debug)]
enum Act {
    Say(Vec<u8>),
    Take(usize),
    Tls,
    Lost,
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    let reply = prop_oneof![
        6 => "(220|250|250|354|354|235|334|421|450|451|500|550|552|554)[ -][a-z0-9. ]{0,8}\r\n",
        1 => Just("250-mx\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SIZE 9\r\n".to_owned()),
        2 => Just("250-mx\r\n250 PIPELINING\r\n".to_owned()),
        1 => Just("250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n".to_owned()),
        1 => "[2-5]?[0-9\r\n -]{0,9}",
    ];
    prop_oneof![
        8 => reply.prop_map(|text| Act::Say(text.into_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Act::Say),
        4 => prop_oneof![Just(usize::MAX), 0usize..40].prop_map(Act::Take),
        1 => Just(Act::Tls),
        1 => Just(Act::Lost),
        1 => Just(Act::Wait),
    ]
}

fn tls_use() -> impl Strategy<Value = TlsUse> {
    prop_oneof![
        Just(TlsUse::Off),
        Just(TlsUse::Opportunistic),
        Just(TlsUse::Required),
        Just(TlsUse::Implicit)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// One outcome for each recipient of each transaction, no panic, and an end that stays the end.
    #[test]
    fn anything_a_peer_does_yields_one_outcome_each(
        tls in tls_use(),
        lmtp in any::<bool>(),
        recipients in 0usize..5,
        begin_ready in any::<bool>(),
        chunking in any::<bool>(),
        acts in proptest::collection::vec(act(), 0..40),
        chunk in 1usize..30,
    ) {
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let mut client = match begin_ready {
            true if chunking => {
                ready(b"250-mx.example\r\n250-CHUNKING\r\n250 PIPELINING\r\n", protocol)
            }
            true => ready(b"250-mx.example\r\n250 PIPELINING\r\n", protocol),
            false => client(tls, protocol),
        };
        let (mut sent, mut done, mut over) = (0, 0, false);
        let mut see = |client: &mut Client, sent: &mut usize| {
            for event in events(client) {
                assert!(!over, "an event after the end: {event:?}");
                match event {
                    Event::Done(report) => {
                        assert_eq!(report.outcomes.len(), recipients);
                        done += 1;
                    }
                    Event::Closed(_) | Event::Quit => over = true,
                    _ => {}
                }
            }
            if client.is_ready() && *sent < 3 {
                *sent += 1;
                client.send(NOW, transaction(recipients, 3)).unwrap();
            }
        };
        for act in acts {
            see(&mut client, &mut sent);
            match act {
                Act::Say(bytes) => bytes.chunks(chunk).for_each(|part| client.receive(NOW, part)),
                Act::Take(most) => {
                    let length: usize = client.transmit().map(<[u8]>::len).sum();
                    client.transmitted(NOW, length.min(most));
                }
                Act::Tls => client.tls_established(NOW),
                Act::Lost => client.lost("gone"),
                Act::Wait => {
                    if let Some(at) = client.poll_timeout() {
                        client.elapsed(at);
                    }
                }
            }
        }
        client.lost("the end");
        for _ in 0..4 {
            see(&mut client, &mut sent);
        }
        prop_assert!(client.is_closed());
        prop_assert_eq!(done, sent);
        prop_assert_eq!(client.transmit().count(), 0);
        prop_assert_eq!(client.poll_timeout(), None);
    }

    /// The same bytes in any pieces, the same events and the same bytes written.
    #[test]
    fn chunks_make_no_difference(
        replies in proptest::collection::vec(
            "(250|251|354|354|450|550|552|421)( |-[a-z]{0,3}\r\n(250|354) )[a-z0-9.]{0,4}\r?\n", 0..9),
        lmtp in any::<bool>(),
        offered in prop_oneof![
            Just(&b"250-mx.example\r\n250 CHUNKING\r\n"[..]),
            Just(&b"250 mx.example\r\n"[..]), Just(&b"250-mx.example\r\n250 PIPELINING\r\n"[..])],
        chunk in 1usize..9,
    ) {
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let play = |chunk: usize| {
            let mut client = ready(offered, protocol);
            client.send(NOW, transaction(2, 3)).unwrap();
            let mut written = flush(&mut client);
            for reply in &replies {
                for part in reply.as_bytes().chunks(chunk) {
                    client.receive(NOW, part);
                    written.extend(flush(&mut client));
                }
            }
            (events(&mut client), String::from_utf8(written).unwrap())
        };
        prop_assert_eq!(play(chunk), play(usize::MAX));
    }
}
