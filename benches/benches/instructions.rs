//! The hot paths, one at a time and a given number of times, for `scripts/instructions`, which counts what the
//! processor is told to do: a figure that a busy machine does not change.
//!
//! Arguments: the name of a path and how often it is gone. Without a name, as `cargo bench` and its `--test`
//! run it, each path is gone a few times.

mod mix;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::ExitCode;

use waypost_config::diagnostics::SourceFile;
use waypost_config::policy::{Decision, Explanation, Policy, RcptVerdict};
use waypost_config::raw;
use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine};
use waypost_relay::{Ledger, LimitOverrides, Limits, Payment, QuotaSubject};
use waypost_route::{Draw, Health, HostSettings, Route, RouteSettings};
use waypost_rules::{Direction, Question, RuleSet, Subject};
use waypost_smtp::end_of_data::DataReader;
use waypost_types::{
    Fields, HeaderBlock, ListenerRole, QueueId, Recipient, ReversePath, RouteName, Session,
    Timestamp, TlsState,
};

use crate::mix::{People, mailbox, rules, user};

const MESSAGE: &[u8] = include_bytes!("../../crates/waypost-inbound/testdata/bench8.eml");

/// A hot path: makes what it needs and goes its way so many times.
type Path = fn(u32);

const PATHS: &[(&str, Path)] = &[
    ("end-of-data", end_of_data),
    ("source-ip", source_ip),
    ("attempts", attempts),
    ("rules", matching_rules),
    ("quota", quota),
    ("decision-1", |count| decision(1, count)),
    ("decision", |count| decision(100, count)),
    ("decision-10000", |count| decision(10_000, count)),
    ("stored", stored),
];

/// The end of a message of 10 KiB, which comes in pieces of a segment.
fn end_of_data(count: u32) {
    let mut message = MESSAGE.repeat(2);
    message.truncate(10 * 1024);
    message.extend_from_slice(b"\r\n.\r\n");
    for _ in 0..count {
        let mut reader = DataReader::new(1 << 20);
        for piece in black_box(&message).chunks(1460) {
            black_box(reader.read(piece));
        }
        assert!(reader.is_complete(), "the end is there");
    }
}

/// The source IP behind a gateway, in a header of eight hops.
fn source_ip(count: u32) {
    let settings = GatewaySettings {
        addresses: vec!["198.51.100.25".to_owned()],
        detect_external_ip: true,
        ..GatewaySettings::default()
    };
    let gateway = InboundGateway::new(&settings).expect("the settings are constants");
    let client = IpAddr::from([198, 51, 100, 25]);
    for _ in 0..count {
        let source = gateway.source(client, OwnLine::FindOut, Fields::of(black_box(MESSAGE)));
        assert!(source.ip.is_some(), "there is an external hop");
    }
}

/// The order of attempts on a route of twenty hosts.
fn attempts(count: u32) {
    let host = |i: u32| HostSettings {
        host: format!("h{i}.example"),
        load: Some(5),
        ..HostSettings::default()
    };
    let settings = RouteSettings {
        name: "edge".to_owned(),
        primary: Some((0..20).map(host).collect()),
        ..RouteSettings::default()
    };
    let route = Route::new(settings).expect("a valid route");
    let (health, now) = (Health::default(), Timestamp::from_millis(0));
    for id in 0..u64::from(count) {
        let draw = Draw::new([7; 16], QueueId::new(id), route.name());
        assert_eq!(black_box(route.attempts(draw, &health, now)).order.len(), 20);
    }
}

/// The three rules of a thousand that hold for a recipient.
fn matching_rules(count: u32) {
    let people = People::new();
    let set = RuleSet::compile(rules(1_000), Vec::new());
    let recipient = user(1_001);
    let sender = "order1@partner.example".parse().expect("a path");
    let subject = Subject::of(&recipient, &people).expect("an answer");
    let question =
        Question { direction: Direction::Inbound, subject, sender: &sender, recipient: &recipient };
    for _ in 0..count {
        let walk = set.walk(black_box(&question), &people).expect("an answer");
        assert_eq!(walk.matched.len(), 3);
    }
}

/// A message of one recipient, reserved and committed, for one of a thousand users after another.
fn quota(count: u32) {
    let limits = Limits::new(u32::MAX, Payment::Settled, &LimitOverrides::default(), None);
    let users: Vec<_> = (0..1_000).map(user).collect();
    let recipients: Vec<_> =
        (0..5_000).map(|i| mailbox(&format!("to{i}@elsewhere.example"))).collect();
    let mut ledger = Ledger::new([7; 16]);
    let organization = std::sync::Arc::<str>::from("Solarmora");
    for (i, (user, to)) in
        (0..u64::from(count)).zip(users.iter().cycle().zip(recipients.iter().cycle()))
    {
        // A day has room for so many.
        let now = Timestamp::from_millis(1_600_000_000_000 + i * 40);
        let (organization, user) = (organization.clone(), Some(user.clone()));
        let mut transaction = ledger.begin(QuotaSubject::new(organization, user, limits));
        assert!(ledger.reserve(now, &mut transaction, black_box(to)).is_ok(), "no limit is hit");
        assert!(ledger.commit(now, transaction).is_some(), "something was reserved");
    }
}

/// MAIL, RCPT and DATA of a message from outside, with its decision, under so many rules, of which one holds.
fn decision(rules: u32, count: u32) {
    let policy = policy(rules);
    let session = session();
    let sender = "x@b.example".parse().expect("a path");
    let recipient = Recipient::from(mailbox("u0@s.example"));
    for _ in 0..count {
        black_box(decided(&policy, black_box(&session), &sender, &recipient));
    }
}

/// What is stored of a decision under a hundred rules, as JSON.
fn stored(count: u32) {
    let policy = policy(100);
    let sender = "x@b.example".parse().expect("a path");
    let recipient = Recipient::from(mailbox("u0@s.example"));
    let decision = decided(&policy, &session(), &sender, &recipient);
    let draw = |route: &RouteName| Draw::new([7; 16], QueueId::new(1), route);
    for _ in 0..count {
        let taken = Explanation::of_taken(&policy, black_box(&decision), &draw);
        black_box(serde_json::to_string(&taken).expect("texts and numbers"));
    }
}

fn session() -> Session {
    Session {
        client_ip: [192, 0, 2, 1].into(),
        role: ListenerRole::Mx,
        helo: Some("b.example".into()),
        auth: None,
        tls: TlsState::Clear,
    }
}

fn decided(
    policy: &Policy,
    session: &Session,
    sender: &ReversePath,
    recipient: &Recipient,
) -> Decision {
    let transaction = policy.at_mail(session, sender).expect("an MX takes it");
    let verdict = policy.at_rcpt(&transaction, recipient, 0);
    assert!(matches!(verdict, RcptVerdict::Accept { .. }), "a user");
    let header = HeaderBlock::of(black_box(MESSAGE));
    let decision = policy.at_data(&transaction, std::slice::from_ref(recipient), &header);
    assert_eq!(decision.deliveries.len(), 1);
    decision
}

fn policy(rules: u32) -> Policy {
    let mut text = String::from(
        "[server]\nhostname = \"mx.s.example\"\n[[listener]]\nname = \"mx\"\nrole = \"mx\"\n\
         bind = \"127.0.0.1:25\"\n[[organization]]\nname = \"S\"\ndomains = [\"s.example\"]\n",
    );
    // Writing to a String cannot fail.
    for i in 0..100 {
        let _ = writeln!(text, "[[organization.user]]\naddress = \"u{i}@s.example\"");
    }
    for i in 0..rules {
        let _ = writeln!(
            text,
            "[[organization.rule]]\ndescription = \"r{i}\"\naffects = [\"inbound\"]\n\
             envelope = {{ recipients = [{{ address = \"u{i}@s.example\" }}] }}\n\
             then = {{ modify = {{ add_headers = [{{ name = \"X-A\", value = \"one\" }}] }} }}"
        );
    }
    let (raw, mut report) = raw::read(SourceFile::new("bench", text), Vec::new()).expect("TOML");
    let files = HashMap::<String, Vec<u8>>::new();
    let compiled = waypost_config::compile(&raw, &files, &mut report);
    compiled.expect("a configuration without errors").into_policy("bench")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &String| PATHS.iter().find(|(known, _)| *known == name.as_str());
    match arguments.as_slice() {
        [name, count] if let (Some((_, path)), Ok(count)) = (named(name), count.parse()) => {
            path(count)
        }
        [list] if list == "--list-paths" => {
            PATHS.iter().for_each(|(name, _)| println!("{name}"));
        }
        _ => PATHS.iter().for_each(|(_, path)| path(3)),
    }
    ExitCode::SUCCESS
}
