//! `waypost serve`: sessions that race for the last places of a quota (D13).
//!
//! Each case is an organization of its own with its own limit. Some sessions of it give their commands in
//! an order that a seed makes, one at a time or two at once, and a naive log of what they hold and
//! have sent says what each RCPT must be told.

use crate::support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, queue_id};
use support::sink::Sink;
use support::smtp_client::SmtpClient;

const LANES: usize = 4;
const STEPS: usize = 300;
const SEEDS: u32 = 6;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limited {
    /// All recipients of the organization in ten minutes.
    Organization(usize),
    /// All of the organization in a day.
    Day(usize),
    /// Unique recipients of the user.
    Unique(usize),
    /// Messages of the user.
    Messages(usize),
}

impl Limited {
    fn setting(self) -> String {
        match self {
            Self::Organization(limit) => format!("recipients_per_10_minutes = {limit}"),
            Self::Day(limit) => format!("recipients_per_day = {limit}"),
            Self::Unique(limit) => format!("unique_recipients_per_user_per_day = {limit}"),
            Self::Messages(limit) => format!("messages_per_user_per_day = {limit}"),
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Organization(_) => "450 4.2.1",
            Self::Day(_) => "550 5.7.1",
            Self::Unique(_) | Self::Messages(_) => "550 5.4.5",
        }
    }
}

const CASES: [Limited; 4] =
    [Limited::Organization(9), Limited::Day(7), Limited::Unique(5), Limited::Messages(3)];

/// One organization for each case and seed.
fn organizations(gateway: &Sink) -> String {
    let mut out = String::new();
    for (number, case) in CASES.iter().enumerate() {
        for seed in 0..SEEDS {
            out += &format!(
                r#"
[[organization]]
name = "Case {number} {seed}"
domains = ["{}"]
licences = 100000
outbound_gateway = "{}"

[[organization.user]]
address = "user@{}"

[[organization.relay]]
description = "Loopback"
allowed_senders = "registered-users"
addresses = [{{ range = "127.0.0.1" }}]

[organization.limits]
{}
"#,
                domain(number, seed),
                gateway.address,
                domain(number, seed),
                case.setting()
            );
        }
    }
    out
}

fn domain(number: usize, seed: u32) -> String {
    format!("case{number}-{seed}.example")
}

/// What the sessions hold and have sent: the naive log.
#[derive(Clone, Default)]
struct Log {
    sent: Vec<Vec<String>>,
    held: [Vec<String>; LANES],
}

impl Log {
    /// Whether a session may have one more recipient.
    fn has_room(&self, limited: Limited, lane: usize, recipient: &str) -> bool {
        let all = || self.sent.iter().chain(&self.held).flatten();
        match limited {
            Limited::Organization(limit) | Limited::Day(limit) => all().count() < limit,
            Limited::Unique(limit) => {
                let unique: BTreeSet<_> = all().map(String::as_str).collect();
                unique.contains(recipient) || unique.len() < limit
            }
            Limited::Messages(limit) => {
                let under_way = self.held.iter().filter(|held| !held.is_empty()).count();
                !self.held[lane].is_empty() || self.sent.len() + under_way < limit
            }
        }
    }

    fn take(&mut self, limited: Limited, lane: usize, recipient: &str) -> bool {
        let room = self.has_room(limited, lane, recipient);
        if room {
            self.held[lane].push(recipient.to_owned());
        }
        room
    }
}

/// A sequence that a seed begins.
struct Draw(u32);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(self.0 >> 12).unwrap() % bound
    }
}

fn verdict(limited: Limited, reply: &str, at: &str) -> bool {
    let taken = reply.starts_with("250");
    assert!(taken || reply.starts_with(limited.code()), "{at}: {reply}");
    taken
}

/// One case, by one seed; whether the limit was met, and the log at its end.
fn play(serve: &Serve, limited: Limited, number: usize, seed: u32) -> (usize, Log) {
    let from = format!("user@{}", domain(number, seed));
    let mut draw = Draw(seed * 1009 + 7);
    let mut lanes: Vec<SmtpClient> = (0..LANES).map(|_| serve.session("relay")).collect();
    let mut open = [false; LANES];
    let mut log = Log::default();
    let mut refused = 0;
    for step in 0..STEPS {
        let at = format!("{limited:?}, seed {seed}, step {step}");
        let lane = draw.below(LANES);
        if !open[lane] {
            lanes[lane].ask(&format!("MAIL FROM:<{from}>"), "250");
            open[lane] = true;
            continue;
        }
        let mut someone = || format!("r{}@friend.example", draw.below(12));
        let (one, two) = (someone(), someone());
        let other = draw.below(LANES);
        match draw.below(20) {
            // Two sessions at once: some order of the two must explain both replies.
            0..8 if other != lane && open[other] => {
                for (lane, to) in [(lane, &one), (other, &two)] {
                    lanes[lane].send(format!("RCPT TO:<{to}>\r\n").as_bytes());
                }
                let came = [lane, other].map(|lane| {
                    let reply = lanes[lane].reply();
                    verdict(limited, &reply, &at)
                });
                let mut first = log.clone();
                let in_order = {
                    let a = first.take(limited, lane, &one);
                    [a, first.take(limited, other, &two)]
                };
                let mut second = log.clone();
                let reversed = {
                    let b = second.take(limited, other, &two);
                    [second.take(limited, lane, &one), b]
                };
                assert!(came == in_order || came == reversed, "{at}: {came:?}");
                log = if came == in_order { first } else { second };
                refused += came.iter().filter(|taken| !**taken).count();
            }
            0..15 => {
                let reply = lanes[lane].say(&format!("RCPT TO:<{one}>"));
                let taken = verdict(limited, &reply, &at);
                assert_eq!(taken, log.take(limited, lane, &one), "{at}: {reply}");
                refused += usize::from(!taken);
            }
            15 | 16 if !log.held[lane].is_empty() => {
                // A message that is refused counts for nothing.
                lanes[lane].ask("DATA", "354");
                lanes[lane].send(b"\r\na bare \n line feed\r\n.\r\n");
                let reply = lanes[lane].reply();
                assert!(reply.starts_with("550 5.6.0"), "{at}: {reply}");
                log.held[lane].clear();
                open[lane] = false;
            }
            17 if !log.held[lane].is_empty() => {
                queue_id(&lanes[lane].data(b"Subject: taken\r\n\r\nx\r\n"));
                let sent = std::mem::take(&mut log.held[lane]);
                log.sent.push(sent);
                open[lane] = false;
            }
            18 => {
                lanes[lane].ask("EHLO again.example", "250");
                log.held[lane].clear();
                open[lane] = false;
            }
            _ => {
                lanes[lane].ask("RSET", "250");
                log.held[lane].clear();
                open[lane] = false;
            }
        }
    }
    (refused, log)
}

#[test]
fn d13_sessions_that_race_never_share_the_last_place_and_counts_survive_a_kill() {
    let gateway = Sink::start();
    let limits = "\n[server.limits]\nconnections_per_client_per_minute = 100000\n";
    let folder = Folder::new(&format!("{limits}{}", organizations(&gateway)));
    let mut serve = folder.serve();
    for (number, limited) in CASES.into_iter().enumerate() {
        let mut logs = Vec::new();
        for seed in 0..SEEDS {
            let (refused, log) = play(&serve, limited, number, seed);
            println!("{limited:?}, seed {seed}: {} sent, {refused} refused", log.sent.len());
            assert!(refused > 0 && !log.sent.is_empty(), "{limited:?}, seed {seed}: too tame");
            logs.push(log);
        }
        // What was held is forgotten with the process, what had its 250 is not.
        match number % 2 {
            0 => serve.kill(),
            _ => serve.terminate(),
        }
        serve = folder.serve();
        for (seed, mut log) in (0..).zip(logs) {
            log.held = Default::default();
            let mut client = serve.session("relay");
            client.ask(&format!("MAIL FROM:<user@{}>", domain(number, seed)), "250");
            for to in 0..15 {
                let to = format!("r{to}@friend.example");
                let reply = client.say(&format!("RCPT TO:<{to}>"));
                let at = format!("{limited:?}, seed {seed}, after the restart, {to}");
                let taken = verdict(limited, &reply, &at);
                assert_eq!(taken, log.take(limited, 0, &to), "{at}: {reply}");
            }
        }
    }
    serve.terminate();
}

#[test]
fn d13_a_session_that_breaks_off_gives_its_places_back() {
    let gateway = Sink::start();
    let folder = Folder::new(&organizations(&gateway));
    let serve = folder.serve();
    for (number, limited) in CASES.into_iter().enumerate().take(3) {
        let from = format!("MAIL FROM:<user@{}>", domain(number, 0));
        let mut holder = serve.session("relay");
        holder.ask(&from, "250");
        let mut places = 0;
        while holder.say(&format!("RCPT TO:<h{places}@friend.example>")).starts_with("250") {
            places += 1;
        }
        let mut waiting = serve.session("relay");
        waiting.ask(&from, "250");
        waiting.ask("RCPT TO:<w0@friend.example>", limited.code());
        drop(holder);
        let until = Instant::now() + Duration::from_secs(60);
        while !waiting.say("RCPT TO:<w0@friend.example>").starts_with("250") {
            assert!(Instant::now() < until, "{limited:?}: the places are not given back");
        }
        for more in 1..places {
            waiting.ask(&format!("RCPT TO:<w{more}@friend.example>"), "250");
        }
        waiting.ask("RCPT TO:<last@friend.example>", limited.code());
    }
    serve.terminate();
}
