//! What holds for any octets in any chunks: no panic, bounded memory, one reply a command, nothing
//! heard before TLS acted on after it, a message handed over whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use waypost_smtp::end_of_data::{stuff, unstuff};
use waypost_smtp::server::{AuthOffer, Event, Server, Settings, TlsOffer};
use waypost_types::{Reply, Timestamp};

const MOST_OUTPUT: usize = (16 << 10) + 4096;

fn settings(tls: TlsOffer) -> Arc<Settings> {
    let mut settings = Settings::new("mx.solarmora.com".parse().unwrap());
    settings.tls = tls;
    settings.auth = AuthOffer::InsideTls;
    settings.limits.message_size = 200;
    settings.limits.recipients = 3;
    // So that a hostile conversation is heard to its end.
    settings.limits.errors = 100_000;
    settings.timeouts.auth_failure_pause = Duration::ZERO;
    Arc::new(settings)
}

/// What an application saw and said, and what went to the client.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    events: Vec<String>,
    said: Vec<u8>,
}

struct Driver {
    server: Server,
    now: Timestamp,
    /// With `Some`, every third event is refused, so that both ways are walked.
    count: Option<usize>,
    transcript: Transcript,
}

impl Driver {
    fn new(tls: TlsOffer) -> Self {
        let now = Timestamp::from_millis(0);
        let server = Server::new(settings(tls), now);
        let mut driver = Self { server, now, count: Some(0), transcript: Transcript::default() };
        driver.settle();
        driver
    }

    fn settle(&mut self) {
        loop {
            while let Some(event) = self.server.poll_event(self.now) {
                self.transcript.events.push(format!("{event:?}"));
                let refused = self.count.as_mut().is_some_and(|count| {
                    *count += 1;
                    count.is_multiple_of(3)
                });
                match event {
                    Event::Connect => self.server.accept(self.now),
                    Event::Auth(_) => {
                        let user = "marie@solarmora.com".parse().unwrap();
                        self.server.accept_auth(self.now, user);
                    }
                    Event::StartTls => self.server.handle_tls(self.now),
                    _ if refused => {
                        self.server.answer(self.now, Reply::new(550, (5, 7, 1), "No"));
                    }
                    _ => self.server.accept(self.now),
                }
            }
            let output = self.server.take_output();
            assert!(output.len() <= MOST_OUTPUT, "{} octets of replies", output.len());
            if output.is_empty() {
                return;
            }
            self.transcript.said.extend(output);
        }
    }

    fn give(&mut self, octets: &[u8]) {
        self.server.handle_bytes(self.now, octets);
        self.settle();
    }
}

fn run(tls: TlsOffer, octets: &[u8], cuts: &[usize]) -> Transcript {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (octets.len() + 1)).collect();
    cuts.extend([0, octets.len()]);
    cuts.sort_unstable();
    let mut driver = Driver::new(tls);
    for pair in cuts.windows(2) {
        driver.give(&octets[pair[0]..pair[1]]);
    }
    driver.server.handle_eof();
    driver.settle();
    driver.transcript
}

/// Commands, pieces of commands and octets that hurt.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "EHLO client.example\r\n",
        "HELO client.example\r\n",
        "MAIL FROM:<a@b.example>\r\n",
        "MAIL FROM:<> SIZE=100 BODY=8BITMIME\r\n",
        "MAIL FROM:<a@b.example> SIZE=201\r\n",
        "RCPT TO:<marie@solarmora.com>\r\n",
        "RCPT TO:<postmaster>\r\n",
        "RCPT TO:<a@b@c>\r\n",
        "DATA\r\n",
        "DATA\r\nSubject: x\r\n\r\n..\r\n.\r\n",
        "text\r\n",
        ".\r\n",
        "..\r\n",
        "\r\n",
        "\r\n.\r\n",
        "\n.\r\n",
        "\r.\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "BDAT 0\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT 6\r\n",
        "BDAT 6 LAST\r\n",
        "BDAT 8 LAST\r\na\r\n.\r\nb",
        "BDAT 1\r\n\rBDAT 1 LAST\r\n\n",
        "BDAT 201\r\n",
        "BDAT 6 FIRST\r\n",
        "BDAT 99999999999999999999\r\n",
        "AUTH LOGIN\r\n",
        "AUTH PLAIN AG1hcmllAHNlY3JldA==\r\n",
        "bWFyaWU=\r\n",
        "*\r\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let hostile = prop::collection::vec(
        prop_oneof![3 => prop::sample::select(b"\r\n.\0<>\"\\@ :".to_vec()), 1 => any::<u8>()],
        0..12,
    );
    let piece = prop_oneof![8 => known, 1 => hostile];
    prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

/// Complete replies: lines with a blank behind the code.
fn replies(said: &[u8]) -> usize {
    let text = String::from_utf8(said.to_vec()).unwrap();
    assert!(text.is_empty() || text.ends_with("\r\n"));
    text.split_terminator("\r\n").filter(|line| line.as_bytes()[3] == b' ').count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn chunks_do_not_matter(
        octets in conversation(),
        cuts in prop::collection::vec(0..400usize, 0..10),
        tls in prop::sample::select(vec![TlsOffer::Off, TlsOffer::Implicit]),
    ) {
        let whole = run(tls, &octets, &[]);
        let every: Vec<usize> = (0..octets.len()).collect();
        prop_assert_eq!(&run(tls, &octets, &cuts), &whole);
        prop_assert_eq!(&run(tls, &octets, &every), &whole);
    }

    #[test]
    fn each_command_gets_one_reply(lines in prop::collection::vec(
        prop::sample::select(vec![
            "EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<marie@solarmora.com>",
            "RSET", "NOOP", "VRFY a", "HELP", "X", "", "AUTH PLAIN AG1hcmllAHNlY3JldA==",
            "MAIL FROM:<a@b@c>", "RCPT TO:<>", "MAIL FROM:<a@b.example> SIZE=201", "DATA x",
            "A\nB", "A\rB", "A\0", "BDAT 0", "BDAT 0 LAST", "BDAT 4 LAST\r\nQU", "BDAT -1",
        ]), 0..18)) {
        let mut driver = Driver::new(TlsOffer::Implicit);
        for (number, line) in lines.iter().enumerate() {
            driver.give(format!("{line}\r\n").as_bytes());
            prop_assert_eq!(replies(&driver.transcript.said), number + 2, "{:?}", line);
        }
        let mut pipelined = lines.join("\r\n");
        pipelined += if lines.is_empty() { "" } else { "\r\n" };
        let said = run(TlsOffer::Implicit, pipelined.as_bytes(), &[]).said;
        prop_assert_eq!(said, driver.transcript.said);
    }

    #[test]
    fn a_message_is_handed_over_as_it_came(body in "[\r\n.a\0]{0,30}", cuts in prop::collection::vec(0..300usize, 0..6)) {
        let mut driver = Driver::new(TlsOffer::Off);
        driver.count = None;
        driver.give(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n");
        let wire = format!("{body}\r\n.\r\n");
        let mut from = 0;
        for cut in cuts.iter().map(|cut| cut % wire.len()).chain([wire.len()]) {
            driver.give(&wire.as_bytes()[from..from.max(cut)]);
            from = from.max(cut);
        }
        let heard: Vec<&String> =
            driver.transcript.events.iter().filter(|event| event.starts_with("Message")).collect();
        if body.contains(['\0', '\r', '\n']) {
            prop_assert!(heard.len() <= 1);
        } else {
            let kept = if body == "." { String::new() } else { format!("{body}\r\n") };
            // A dot that was not stuffed is dropped (RFC 5321 section 4.5.2).
            let want = format!("stuffed: {:?}", stuff(&unstuff(kept.as_bytes())).as_ref());
            prop_assert!(matches!(heard[..], [event] if event.contains(&want)), "{:?}", heard);
        }
    }

    #[test]
    fn chunks_are_handed_over_as_they_came(
        lines in "([.a]{0,3}\r\n){0,8}[.a]{0,3}",
        borders in prop::collection::vec(0..40usize, 0..5),
        cuts in prop::collection::vec(0..300usize, 0..6),
    ) {
        let mut borders: Vec<usize> =
            borders.into_iter().map(|border| border.min(lines.len())).collect();
        borders.extend([0, lines.len()]);
        borders.sort_unstable();
        let mut wire = Vec::new();
        for pair in borders.windows(2) {
            let chunk = &lines.as_bytes()[pair[0]..pair[1]];
            wire.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
        }
        wire.extend_from_slice(b"BDAT 0 LAST\r\nNOOP\r\n");
        let mut driver = Driver::new(TlsOffer::Off);
        driver.count = None;
        driver.give(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@b.example>\r\n");
        let before = replies(&driver.transcript.said);
        let mut from = 0;
        for cut in cuts.iter().map(|cut| cut % wire.len()).chain([wire.len()]) {
            driver.give(&wire[from..from.max(cut)]);
            from = from.max(cut);
        }
        let end = if lines.is_empty() || lines.ends_with("\r\n") { "" } else { "\r\n" };
        let want = stuff(format!("{lines}{end}").as_bytes()).into_owned();
        let want = format!("stuffed: {want:?}");
        let heard: Vec<&String> =
            driver.transcript.events.iter().filter(|event| event.starts_with("Message")).collect();
        prop_assert!(matches!(heard[..], [event] if event.contains(&want)), "{:?}", heard);
        // One for each chunk, the last one's for the message, one for NOOP.
        prop_assert_eq!(replies(&driver.transcript.said) - before, borders.len() + 1);
    }

    #[test]
    fn nothing_heard_before_tls_survives_it(
        before in conversation(),
        injected in conversation(),
        after in conversation(),
        cuts in prop::collection::vec(0..400usize, 0..5),
    ) {
        let mut driver = Driver::new(TlsOffer::StartTls);
        driver.count = Some(0);
        driver.give(&before);
        // Whatever state that led to, come to a known one; skip what cannot be ended.
        driver.give(b"\r\n.\r\n*\r\n");
        driver.give(&b"NOOP\r\n".repeat(40));
        prop_assume!(!driver.server.is_closed());
        let mut start = b"STARTTLS\r\n".to_vec();
        start.extend_from_slice(&injected);
        driver.server.handle_bytes(driver.now, &start);
        let mut begins = false;
        while let Some(event) = driver.server.poll_event(driver.now).filter(|_| !begins) {
            begins = event == Event::StartTls;
        }
        prop_assume!(begins);
        driver.server.handle_bytes(driver.now, &injected);
        let _ = driver.server.take_output();
        driver.server.handle_tls(driver.now);
        prop_assert_eq!(driver.server.hello(), None);
        prop_assert_eq!(driver.server.user(), None);
        prop_assert!(!driver.server.is_in_transaction());
        prop_assert!(driver.server.take_output().is_empty());

        // From here on it is a connection inside TLS that has only just begun.
        driver.transcript = Transcript::default();
        driver.count = Some(1);
        let mut fresh = Driver::new(TlsOffer::Implicit);
        fresh.transcript = Transcript::default();
        let cut = cuts.first().copied().unwrap_or(0).min(after.len());
        driver.give(&after[..cut]);
        driver.give(&after[cut..]);
        fresh.give(&after);
        let closed = |transcript: &Transcript| transcript.events.iter().any(|e| e.contains("TooMany"));
        // Errors made in clear text count on; apart from that the two cannot be told apart.
        prop_assume!(!closed(&driver.transcript) && !closed(&fresh.transcript));
        prop_assert_eq!(driver.transcript, fresh.transcript);
    }

    #[test]
    fn any_octets_are_survived_in_bounded_memory(
        octets in prop::collection::vec(any::<u8>(), 0..3000),
        size in 1..700usize,
    ) {
        let mut driver = Driver::new(TlsOffer::StartTls);
        for chunk in octets.chunks(size) {
            driver.give(chunk);
        }
    }
}

#[test]
fn a_refused_message_is_read_to_its_end_but_not_for_ever() {
    for start in [&b"BDAT 18446744073709551615\r\n"[..], b"DATA\r\n"] {
        let mut driver = Driver::new(TlsOffer::Off);
        driver.count = None;
        driver.give(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@b.example>\r\n");
        driver.give(start);
        let (line, mut given) = (b"0123456789012345678901234567890\r\n".repeat(100), 0);
        while !driver.server.is_closed() {
            driver.give(&line);
            given += line.len();
            assert!(given < 2 << 20);
        }
        assert!(given > 1 << 20, "{given}");
        let said = String::from_utf8(driver.transcript.said).unwrap();
        assert!(said.lines().last().unwrap().starts_with("552 5.3.4 "), "{said}");
    }
}

#[test]
fn a_flood_of_pipelined_commands_meets_back_pressure() {
    let mut driver = Driver::new(TlsOffer::Off);
    let flood = b"EHLO a.example\r\n".repeat(10_000);
    let mut given = 0;
    // The application never answers: reading stops soon.
    for chunk in flood.chunks(4096) {
        if !driver.server.wants_read() {
            break;
        }
        driver.server.handle_bytes(driver.now, chunk);
        given += chunk.len();
    }
    assert!(given <= (64 << 10) + 4096, "{given}");
    driver.settle();
    assert!(driver.server.is_closed(), "too many commands without a transaction");
}

#[test]
fn refusals_of_its_own_can_be_counted_o4() {
    let now = Timestamp::from_millis(0);
    let mut server = Server::new(settings(TlsOffer::Off), now);
    let mut settle = |octets: &[u8]| -> Vec<u16> {
        server.handle_bytes(now, octets);
        while let Some(event) = server.poll_event(now) {
            match event {
                Event::Rcpt(_) => server.answer(now, Reply::new(550, (5, 1, 1), "Nobody")),
                Event::Message(_) => server.answer(now, Reply::new(451, (4, 3, 0), "Later")),
                _ => server.accept(now),
            }
        }
        let _ = server.take_output();
        server.take_refusals().iter().map(|refusal| refusal.code).collect()
    };
    for (octets, want) in [
        (&b""[..], vec![]),
        (b"FNORD\r\nDATA\r\nEHLO a b\r\n", vec![500, 503, 501]),
        (b"EHLO client.example\r\nMAIL FROM:<a@b.example> SIZE=201\r\n", vec![552]),
        (b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", vec![]),
        (b"DATA\r\nVRFY x\r\nRSET\r\n", vec![554]),
        (b"QUIT\r\n", vec![]),
    ] {
        assert_eq!(settle(octets), want, "{}", String::from_utf8_lossy(octets));
    }
}
