use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{LimitOverrides, Payment};

const DAY_LONG: Duration = Duration::from_secs(86_400);
const TEN_LONG: Duration = Duration::from_secs(600);
/// A bucket's length: what a window may be too long by.
const DAY_SLACK: Duration = Duration::from_secs(300);
const TEN_SLACK: Duration = Duration::from_secs(2);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_600_000_000_000 + seconds * 1000)
}

fn mailbox(name: &str) -> Mailbox {
    format!("{name}@elsewhere.example").parse().unwrap()
}

/// Limits of recipients in a day and 10 minutes, messages and unique recipients of a user.
fn limits(day: u32, ten_minutes: u32, messages: u32, unique: u32) -> Limits {
    Limits {
        recipients_per_day: day,
        recipients_per_10_minutes: ten_minutes,
        messages_per_user_per_day: messages,
        unique_recipients_per_user_per_day: unique,
        recipients_per_login_per_day: None,
        recipients_per_client_per_day: None,
        mode: LimitMode::Enforce,
    }
}

fn subject(user: Option<&str>, limits: Limits) -> QuotaSubject {
    QuotaSubject::new("Solarmora".into(), user.map(mailbox), limits)
}

/// One message to these recipients: the code of each RCPT; committed if any stood.
fn send(ledger: &mut Ledger, now: Timestamp, subject: &QuotaSubject, to: &[&str]) -> Vec<String> {
    let mut transaction = ledger.begin(subject.clone());
    let codes = to
        .iter()
        .map(|name| match ledger.reserve(now, &mut transaction, &mailbox(name)) {
            Ok(_) => "250".to_owned(),
            Err(refusal) => {
                let reply = refusal.reply();
                format!("{} {}", reply.code(), reply.enhanced().unwrap())
            }
        })
        .collect();
    ledger.commit(now, transaction);
    codes
}

fn used(ledger: &mut Ledger, now: Timestamp, user: Option<&str>) -> [u32; 2] {
    let user = user.map(mailbox);
    let limits = limits(u32::MAX, u32::MAX, u32::MAX, u32::MAX);
    ledger.usage(now, "Solarmora", user.as_ref(), &limits).map(|found| found.used)
}

#[test]
fn the_example_of_the_requirements_d10_d11() {
    let mut ledger = Ledger::new([1; 16]);
    let marie = subject(Some("marie"), limits(u32::MAX, u32::MAX, 10_000, 2));
    for message in 0..1000 {
        assert_eq!(send(&mut ledger, at(message), &marie, &["a"]), ["250"]);
        assert_eq!(send(&mut ledger, at(message), &marie, &["b"]), ["250"]);
    }
    assert_eq!(used(&mut ledger, at(1000), Some("marie")), [2000, 2]);
    assert_eq!(used(&mut ledger, at(1000), None)[0], 2000);
    assert_eq!(send(&mut ledger, at(1000), &marie, &["c"]), ["550 5.4.5"]);
}

#[test]
fn the_10_001st_message_is_refused_at_rcpt_d10() {
    let mut ledger = Ledger::new([1; 16]);
    let limits = Limits::new(250, Payment::Settled, &LimitOverrides::default(), None);
    let marie = subject(Some("marie"), limits);
    for message in 0..10_000 {
        assert_eq!(send(&mut ledger, at(message), &marie, &["a"]), ["250"], "{message}");
    }
    assert_eq!(send(&mut ledger, at(10_000), &marie, &["a", "b"]), ["550 5.4.5", "550 5.4.5"]);
    // Another user and a sender who is no user may still send.
    assert_eq!(send(&mut ledger, at(10_000), &subject(Some("paul"), limits), &["a"]), ["250"]);
    assert_eq!(send(&mut ledger, at(10_000), &subject(None, limits), &["a"]), ["250"]);
    // A day after the first five minutes there is room.
    assert_eq!(send(&mut ledger, at(86_400 + 300), &marie, &["a"]), ["250"]);
}

#[test]
fn each_limit_answers_in_order_d10_d11_d13() {
    const MANY: u32 = u32::MAX;
    const USER: &str = "550 5.4.5";
    const DAILY: &str = "550 5.7.1";
    const PEAK: &str = "450 4.2.1";
    for (limits, want) in [
        (limits(MANY, MANY, 1, MANY), ["250", "250", "250"]),
        (limits(MANY, MANY, 0, MANY), [USER, USER, USER]),
        (limits(MANY, MANY, MANY, 2), ["250", "250", USER]),
        (limits(2, MANY, MANY, MANY), ["250", "250", DAILY]),
        (limits(MANY, 2, MANY, MANY), ["250", "250", PEAK]),
        (limits(2, 2, MANY, 2), ["250", "250", USER]),
        (limits(2, 2, MANY, MANY), ["250", "250", DAILY]),
        (limits(1, 2, MANY, 2), ["250", DAILY, DAILY]),
        (limits(0, 0, 0, 0), [USER, USER, USER]),
        (limits(0, 0, MANY, MANY), [DAILY, DAILY, DAILY]),
        (limits(MANY, 0, MANY, MANY), [PEAK, PEAK, PEAK]),
    ] {
        let mut ledger = Ledger::new([1; 16]);
        let got = send(&mut ledger, at(0), &subject(Some("marie"), limits), &["a", "b", "c"]);
        assert_eq!(got, want, "{limits:?}");
        // Over the limit in mid-transaction refuses that recipient; earlier ones stand.
        let stood = u32::try_from(want.iter().filter(|code| **code == "250").count()).unwrap();
        assert_eq!(used(&mut ledger, at(0), None), [stood, stood]);
    }
}

#[test]
fn limits_of_licences_to_the_edge_d11_d12() {
    for (licences, payment, edge, code) in [
        (1, Payment::Settled, 9, "450 4.2.1"),
        (10, Payment::Settled, 90, "450 4.2.1"),
        (10, Payment::Overdue, 50, "450 4.2.1"),
        (1, Payment::Overdue, 9, "450 4.2.1"),
        (0, Payment::Settled, 0, "550 5.7.1"),
    ] {
        let limits = Limits::new(licences, payment, &LimitOverrides::default(), None);
        let mut ledger = Ledger::new([1; 16]);
        let stranger = subject(None, limits);
        for message in 0..edge {
            assert_eq!(send(&mut ledger, at(message), &stranger, &["a"]), ["250"], "{licences}");
        }
        assert_eq!(
            send(&mut ledger, at(edge), &stranger, &["a"]),
            [code],
            "{licences} {payment:?}"
        );
    }
    // 100 a day, when 50 in 10 minutes are kept to.
    let limits = Limits::new(250, Payment::Overdue, &LimitOverrides::default(), None);
    let mut ledger = Ledger::new([1; 16]);
    for message in 0..100 {
        assert_eq!(send(&mut ledger, at(message * 20), &subject(None, limits), &["a"]), ["250"]);
    }
    assert_eq!(send(&mut ledger, at(3000), &subject(None, limits), &["a"]), ["550 5.7.1"]);
}

#[test]
fn two_sessions_race_for_the_last_place_d13() {
    for limits in [limits(1, 9, 9, 9), limits(9, 1, 9, 9), limits(9, 9, 1, 9), limits(9, 9, 9, 1)] {
        let mut ledger = Ledger::new([1; 16]);
        let marie = subject(Some("marie"), limits);
        let mut first = ledger.begin(marie.clone());
        let mut second = ledger.begin(marie.clone());
        assert!(ledger.reserve(at(0), &mut first, &mailbox("a")).is_ok());
        let refusal = ledger.reserve(at(0), &mut second, &mailbox("b")).unwrap_err();
        assert_eq!((refusal.used, refusal.reserved, refusal.allowed), (0, 1, 1));
        ledger.release(first);
        assert!(ledger.reserve(at(1), &mut second, &mailbox("b")).is_ok());
        ledger.release(second);
    }
}

#[test]
fn a_dropped_transaction_gives_its_places_back_d13() {
    let mut ledger = Ledger::new([1; 16]);
    let marie = subject(Some("marie"), limits(2, 2, 1, 2));
    for _ in 0..3 {
        let mut transaction = ledger.begin(marie.clone());
        assert!(ledger.reserve(at(0), &mut transaction, &mailbox("a")).is_ok());
        assert!(ledger.reserve(at(0), &mut transaction, &mailbox("b")).is_ok());
        drop(transaction);
    }
    assert_eq!(used(&mut ledger, at(1), Some("marie")), [0, 0]);
    ledger.prune(at(1));
    assert_eq!(ledger.size(), LedgerSize::default());
}

#[test]
fn a_recipient_refused_after_all_is_given_back() {
    let mut ledger = Ledger::new([1; 16]);
    let marie = subject(Some("marie"), limits(9, 9, 1, 9));
    let mut transaction = ledger.begin(marie.clone());
    for name in ["a", "b", "a"] {
        assert!(ledger.reserve(at(0), &mut transaction, &mailbox(name)).is_ok());
    }
    assert!(ledger.release_recipient(at(0), &mut transaction, &mailbox("A")));
    assert!(ledger.release_recipient(at(0), &mut transaction, &mailbox("b")));
    assert!(!ledger.release_recipient(at(0), &mut transaction, &mailbox("b")));
    let limits = marie.limits;
    let held = ledger.usage(at(0), "Solarmora", Some(&mailbox("marie")), &limits);
    assert_eq!(held.map(|found| found.reserved), [1, 1]);
    assert!(ledger.release_recipient(at(0), &mut transaction, &mailbox("a")));
    assert!(ledger.commit(at(0), transaction).is_none());
    assert_eq!(send(&mut ledger, at(0), &marie, &["c"]), ["250"], "the message was given back too");
}

#[test]
fn refusals_say_when_there_is_room_d13() {
    let mut ledger = Ledger::new([1; 16]);
    let stranger = subject(None, limits(9, 3, 9, 9));
    for second in [1, 2, 3] {
        assert_eq!(send(&mut ledger, at(second), &stranger, &["a"]), ["250"]);
    }
    let mut transaction = ledger.begin(stranger.clone());
    let refusal = ledger.reserve(at(100), &mut transaction, &mailbox("b")).unwrap_err();
    assert_eq!(refusal.room_at, Some(at(602)));
    assert_eq!(
        refusal.reply().to_string(),
        "450 4.2.1 Peak relay limit of an organization reached: 3 recipients of this organization in 10 minutes; room again at 2020-09-13T12:36:42Z or before (D11)"
    );
    assert_eq!(refusal.deferral().code(), 450);
    assert!(ledger.reserve(at(601), &mut transaction, &mailbox("b")).is_err());
    assert!(ledger.reserve(at(602), &mut transaction, &mailbox("b")).is_ok());
    ledger.release(transaction);

    let mut none = ledger.begin(subject(None, limits(0, 3, 9, 9)));
    let refusal = ledger.reserve(at(700), &mut none, &mailbox("b")).unwrap_err();
    assert_eq!(refusal.room_at, None);
    assert!(refusal.reply().text().ends_with("ask the administrator (D11)"));
}

#[test]
fn deferrals_keep_subject_and_detail() {
    for (limits, want) in [
        (limits(9, 9, 0, 9), "450 4.4.5"),
        (limits(0, 9, 9, 9), "450 4.7.1"),
        (limits(9, 0, 9, 9), "450 4.2.1"),
    ] {
        let mut ledger = Ledger::new([1; 16]);
        let mut transaction = ledger.begin(subject(Some("marie"), limits));
        let refusal = ledger.reserve(at(0), &mut transaction, &mailbox("a")).unwrap_err();
        assert!(refusal.deferral().to_string().starts_with(want));
    }
}

#[test]
fn observed_limits_refuse_nothing_and_say_so_o6() {
    let mut ledger = Ledger::new([1; 16]);
    let watched = Limits { mode: LimitMode::Observe, ..limits(9, 9, 9, 1) };
    let mut transaction = ledger.begin(subject(Some("marie"), watched));
    let first = ledger.reserve(at(0), &mut transaction, &mailbox("a")).unwrap();
    assert_eq!(first.would_refuse, None);
    let second = ledger.reserve(at(0), &mut transaction, &mailbox("b")).unwrap();
    let limit = second.would_refuse.map(|refusal| refusal.limit);
    assert_eq!(limit, Some(QuotaLimit::UniqueRecipientsPerUserPerDay));
    assert!(ledger.commit(at(0), transaction).is_some());
    assert_eq!(used(&mut ledger, at(0), Some("marie")), [1, 2]);

    let off = Limits { mode: LimitMode::Off, ..limits(0, 0, 0, 0) };
    let mut transaction = ledger.begin(subject(Some("paul"), off));
    assert!(ledger.reserve(at(0), &mut transaction, &mailbox("a")).is_ok());
    assert!(ledger.commit(at(0), transaction).is_none(), "nothing is counted");
    assert_eq!(used(&mut ledger, at(0), Some("paul")), [0, 0]);
}

#[test]
fn logins_and_clients_are_limited_beside_the_others_d11() {
    let mut ledger = Ledger::new([1; 16]);
    let limits = |login, client| Limits {
        recipients_per_login_per_day: login,
        recipients_per_client_per_day: client,
        ..limits(9, 9, 9, 9)
    };
    let from = |login: &str, client: &str, limits| QuotaSubject {
        login: Some(mailbox(login)),
        client: Some(client.parse().unwrap()),
        ..subject(None, limits)
    };
    let both = limits(Some(2), Some(3));
    let printer = from("printer", "192.0.2.1", both);
    assert_eq!(send(&mut ledger, at(0), &printer, &["a", "b", "c"]), ["250", "250", "550 5.7.1"]);
    let scanner = from("scanner", "192.0.2.1", both);
    assert_eq!(send(&mut ledger, at(0), &scanner, &["a", "b"]), ["250", "550 5.7.1"]);
    assert_eq!(send(&mut ledger, at(0), &from("scanner", "192.0.2.2", both), &["a"]), ["250"]);
    // What a login sent is free again a day and at most five minutes later; texts name the key.
    let mut transaction = ledger.begin(printer.clone());
    let refusal = ledger.reserve(at(1), &mut transaction, &mailbox("c")).unwrap_err();
    assert_eq!(
        refusal.reply().to_string(),
        "550 5.7.1 Daily relay limit of a login reached: 2 recipients of this login in 24 hours; room again at 2020-09-14T12:30:00Z or before (recipients_per_login_per_day)"
    );
    assert_eq!(refusal.deferral().enhanced().unwrap().to_string(), "4.7.1");
    assert_eq!(send(&mut ledger, at(86_700), &printer, &["c"]), ["250"], "two places free again");
    // Where they are not limited nothing is counted.
    let free = from("printer", "192.0.2.1", limits(None, None));
    ledger.prune(at(200_000));
    assert_eq!(send(&mut ledger, at(200_000), &free, &["a"]), ["250"]);
    assert_eq!(ledger.size().callers, 0);
    assert_eq!(ledger.usage_of_caller(at(200_000), &free), []);
}

#[test]
fn limits_are_near_from_80_percent_on_d13() {
    for (allowed, want) in [
        (0, vec![]),
        (1, vec![1]),
        (2, vec![2]),
        (4, vec![4]),
        (5, vec![4, 5]),
        (6, vec![5, 6]),
        (10, vec![8, 9, 10]),
        (11, vec![9, 10, 11]),
    ] {
        let mut ledger = Ledger::new([1; 16]);
        let mut open = ledger.begin(subject(Some("marie"), limits(u32::MAX, u32::MAX, 9, allowed)));
        let mut near = Vec::new();
        for number in 1..=allowed {
            let name = format!("r{number}");
            let told = ledger.reserve(at(0), &mut open, &mailbox(&name)).unwrap().near;
            if let [QuotaUse { limit, reserved, .. }] = told.as_slice() {
                assert_eq!(
                    (*limit, *reserved),
                    (QuotaLimit::UniqueRecipientsPerUserPerDay, number)
                );
                near.push(number);
            }
        }
        assert_eq!(near, want, "of {allowed}");
    }
    let used = |used, allowed| QuotaUse {
        limit: QuotaLimit::RecipientsPerDay,
        allowed,
        used,
        reserved: 0,
        room_at: None,
    };
    for (found, percent, near) in
        [(used(0, 0), 100, false), (used(79, 100), 79, false), (used(80, 100), 80, true)]
    {
        assert_eq!((found.percent(), found.is_near()), (percent, near));
    }
    assert_eq!(used(u32::MAX, 1).percent(), u64::from(u32::MAX) * 100);
}

#[test]
fn time_that_steps_back_forgets_nothing() {
    let mut ledger = Ledger::new([1; 16]);
    let stranger = subject(None, limits(9, 1, 9, 9));
    assert_eq!(send(&mut ledger, at(1000), &stranger, &["a"]), ["250"]);
    assert_eq!(send(&mut ledger, at(0), &stranger, &["a"]), ["450 4.2.1"]);
    assert_eq!(send(&mut ledger, at(1602), &stranger, &["a"]), ["250"]);

    let mut transaction = ledger.begin(subject(None, limits(9, 9, 9, 9)));
    assert!(ledger.reserve(at(0), &mut transaction, &mailbox("a")).is_ok());
    assert_eq!(ledger.commit(at(0), transaction).map(|commit| commit.at), Some(at(1602)));
}

#[test]
fn a_recipient_of_yesterday_counts_anew_d10() {
    let mut ledger = Ledger::new([1; 16]);
    let marie = subject(Some("marie"), limits(99, 99, 99, 2));
    assert_eq!(send(&mut ledger, at(0), &marie, &["a"]), ["250"]);
    let later = 86_400 + 300;
    assert_eq!(send(&mut ledger, at(later), &marie, &["b", "c", "a"]), ["250", "250", "550 5.4.5"]);
}

#[test]
fn the_end_of_time_is_strict() {
    let mut ledger = Ledger::new([1; 16]);
    let marie = subject(Some("marie"), limits(1, 1, 1, 1));
    let end = Timestamp::from_millis(u64::MAX);
    assert_eq!(send(&mut ledger, end, &marie, &["a"]), ["250"]);
    assert_eq!(send(&mut ledger, end, &marie, &["a"]), ["550 5.4.5"]);
}

#[test]
fn memory_is_given_back() {
    let mut ledger = Ledger::new([1; 16]);
    let wide = limits(u32::MAX, u32::MAX, u32::MAX, u32::MAX);
    for message in 0..50 {
        for user in 0..20 {
            let subject = subject(Some(&format!("user{user}")), wide);
            let to = format!("r{message}");
            send(&mut ledger, at(message * 60), &subject, &[&to, "same"]);
        }
    }
    assert_eq!(
        ledger.size(),
        LedgerSize { organizations: 1, users: 20, recipients: 20 * 51, callers: 0 }
    );
    ledger.prune(at(86_400 + 1500));
    let size = ledger.size();
    assert!(size.recipients < 20 * 30 && size.users == 20, "{size:?}");
    ledger.prune(at(86_400 + 3600));
    assert_eq!(ledger.size(), LedgerSize::default());
}

#[test]
fn pruning_by_parts_comes_to_everything() {
    let mut ledger = Ledger::new([1; 16]);
    let wide = limits(u32::MAX, u32::MAX, u32::MAX, u32::MAX);
    for user in 0..200 {
        send(&mut ledger, at(0), &subject(Some(&format!("user{user}")), wide), &["a", "b"]);
    }
    let later = at(86_400 + 300);
    for part in 0..64 {
        assert_ne!(ledger.size(), LedgerSize::default(), "all gone at part {part}");
        ledger.prune_some(later);
    }
    assert_eq!(ledger.size(), LedgerSize::default());
}

#[test]
fn a_busy_user_takes_no_memory_for_what_is_past() {
    let mut ledger = Ledger::new([1; 16]);
    let marie = subject(Some("marie"), limits(u32::MAX, u32::MAX, u32::MAX, u32::MAX));
    for message in 0..5000 {
        send(&mut ledger, at(message * 600), &marie, &[&format!("r{message}")]);
    }
    let held = ledger.size().recipients;
    // A few places of each shard of the table may hold what is past.
    assert!((144..=144 + 1024).contains(&held), "{held} recipients for 144 a day");
    ledger.prune(at(5000 * 600));
    let held = ledger.size().recipients;
    assert!((143..=145).contains(&held), "{held} recipients after pruning");
}

#[test]
fn old_commits_change_nothing_when_replayed() {
    let mut ledger = Ledger::new([1; 16]);
    let commit = |seconds: u64, name: &str| QuotaCommit {
        at: at(seconds),
        organization: "Solarmora".into(),
        user: Some(mailbox("marie")),
        recipients: vec![mailbox(name)].into(),
        login: None,
        client: None,
    };
    ledger.replay(&commit(200_000, "a"));
    ledger.replay(&commit(0, "b"));
    ledger.replay(&commit(190_000, "a"));
    assert_eq!(used(&mut ledger, at(200_000), Some("marie")), [2, 1]);
    assert_eq!(used(&mut ledger, at(200_000 + 80_000), Some("marie")), [1, 1]);
}

#[cfg(feature = "serde")]
#[test]
fn commits_survive_the_journal() {
    let mut ledger = Ledger::new([1; 16]);
    let mut transaction = ledger.begin(subject(Some("marie"), limits(9, 9, 9, 9)));
    assert!(ledger.reserve(at(0), &mut transaction, &mailbox("a")).is_ok());
    let commit = ledger.commit(at(0), transaction).unwrap();
    let text = serde_json::to_string(&commit).unwrap();
    assert_eq!(serde_json::from_str::<QuotaCommit>(&text).unwrap(), commit);
}

// The model: a list of everything that was accepted or is under way, with exact times.

#[derive(Clone, Debug)]
struct Logged {
    at: Timestamp,
    who: Who,
    recipients: Vec<u8>,
}

/// Whom a message counts for, beside the organization.
#[derive(Clone, Copy, Debug, Default)]
struct Who {
    user: Option<u8>,
    login: Option<u8>,
    client: Option<u8>,
}

impl Who {
    fn subject(self, limits: Limits) -> QuotaSubject {
        let user = self.user.map(user_name);
        let login = self.login.map(|login| mailbox(&format!("login{login}")));
        let client = self.client.map(|client| format!("192.0.2.{client}").parse().unwrap());
        QuotaSubject { login, client, ..subject(user.as_deref(), limits) }
    }
}

#[derive(Default)]
struct Model {
    accepted: Vec<Logged>,
    under_way: Vec<Logged>,
}

/// What counts: organization's day and 10 minutes, the user's messages and recipients, the login's and
/// the client's recipients.
#[derive(Debug, PartialEq)]
struct Counts {
    day: u32,
    ten_minutes: u32,
    messages: u32,
    unique: Vec<u8>,
    login: u32,
    client: u32,
}

impl Model {
    /// Counts in windows that are too long by `slack`, of a day's and a ten minutes' bucket.
    fn counts(&self, now: Timestamp, who: Who, slack: (Duration, Duration)) -> Counts {
        let user = who.user;
        let within = |window: Duration| {
            let accepted = self.accepted.iter().filter(move |log| now.since(log.at) < window);
            accepted.chain(&self.under_way)
        };
        let recipients =
            |window| within(window).map(|log| log.recipients.len()).sum::<usize>() as u32;
        let day = DAY_LONG + slack.0;
        let mine = || within(day).filter(|log| user.is_some() && log.who.user == user);
        let mut unique: Vec<u8> = mine().flat_map(|log| log.recipients.clone()).collect();
        unique.sort_unstable();
        unique.dedup();
        let caller = |of: fn(&Logged) -> Option<u8>| {
            let mine = of(&Logged { at: now, who, recipients: Vec::new() });
            let sent = within(day).filter(|log| mine.is_some() && of(log) == mine);
            sent.map(|log| log.recipients.len()).sum::<usize>() as u32
        };
        Counts {
            day: recipients(day),
            ten_minutes: recipients(TEN_LONG + slack.1),
            messages: mine().filter(|log| !log.recipients.is_empty()).count() as u32,
            unique,
            login: caller(|log| log.who.login),
            client: caller(|log| log.who.client),
        }
    }
}

impl Counts {
    /// The limits that one more recipient would break.
    fn broken(&self, limits: &Limits, first: bool, recipient: u8) -> Vec<QuotaLimit> {
        let mut broken = Vec::new();
        if first && self.messages >= limits.messages_per_user_per_day {
            broken.push(QuotaLimit::MessagesPerUserPerDay);
        }
        if !self.unique.contains(&recipient)
            && self.unique.len() as u32 >= limits.unique_recipients_per_user_per_day
        {
            broken.push(QuotaLimit::UniqueRecipientsPerUserPerDay);
        }
        if self.day >= limits.recipients_per_day {
            broken.push(QuotaLimit::RecipientsPerDay);
        }
        if self.ten_minutes >= limits.recipients_per_10_minutes {
            broken.push(QuotaLimit::RecipientsPer10Minutes);
        }
        if limits.recipients_per_login_per_day.is_some_and(|allowed| self.login >= allowed) {
            broken.push(QuotaLimit::RecipientsPerLoginPerDay);
        }
        if limits.recipients_per_client_per_day.is_some_and(|allowed| self.client >= allowed) {
            broken.push(QuotaLimit::RecipientsPerClientPerDay);
        }
        broken
    }
}

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Begin(Who),
    Rcpt(usize, u8),
    Unrcpt(usize, u8),
    Commit(usize),
    Release(usize),
    Drop(usize),
    Prune,
}

fn who() -> impl Strategy<Value = Who> {
    let one = || prop::option::of(0u8..3);
    (one(), one(), one()).prop_map(|(user, login, client)| Who { user, login, client })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let wait = prop_oneof![0u64..5_000, 0u64..400_000, 0u64..90_000_000];
    let op = prop_oneof![
        4 => wait.prop_map(Op::Wait),
        4 => who().prop_map(Op::Begin),
        12 => (0usize..8, 0u8..12).prop_map(|(open, to)| Op::Rcpt(open, to)),
        1 => (0usize..8, 0u8..12).prop_map(|(open, to)| Op::Unrcpt(open, to)),
        5 => (0usize..8).prop_map(Op::Commit),
        1 => (0usize..8).prop_map(Op::Release),
        1 => (0usize..8).prop_map(Op::Drop),
        1 => Just(Op::Prune),
    ];
    prop::collection::vec(op, 1..250)
}

/// None in half of the cases, so that each limit is met alone too.
fn limit(below: u32) -> impl Strategy<Value = u32> {
    prop_oneof![Just(u32::MAX), 0..below]
}

fn recipient(number: u8) -> Mailbox {
    mailbox(&format!("r{number}"))
}

fn user_name(user: u8) -> String {
    format!("user{user}")
}

proptest! {
    #[test]
    fn the_ledger_keeps_to_the_naive_log_d13(
        ops in ops(),
        day in limit(40),
        ten_minutes in limit(25),
        messages in limit(10),
        unique in limit(8),
        login in prop::option::of(limit(12)),
        client in prop::option::of(limit(12)),
    ) {
        let limits = Limits {
            recipients_per_login_per_day: login,
            recipients_per_client_per_day: client,
            ..limits(day, ten_minutes, messages, unique)
        };
        let mut ledger = Ledger::new([9; 16]);
        let mut model = Model::default();
        let mut open: Vec<Transaction> = Vec::new();
        let mut commits = Vec::new();
        let mut now = at(0);
        let exact = (Duration::ZERO, Duration::ZERO);
        let slack = (DAY_SLACK, TEN_SLACK);
        for op in ops {
            match op {
                Op::Wait(millis) => now = now + Duration::from_millis(millis),
                Op::Begin(who) if open.len() < 8 => {
                    open.push(ledger.begin(who.subject(limits)));
                    // What is not limited is not counted.
                    let who = Who {
                        login: who.login.filter(|_| login.is_some()),
                        client: who.client.filter(|_| client.is_some()),
                        ..who
                    };
                    model.under_way.push(Logged { at: now, who, recipients: Vec::new() });
                }
                Op::Rcpt(index, to) if index < open.len() => {
                    let who = model.under_way[index].who;
                    let user = who.user;
                    let first = model.under_way[index].recipients.is_empty();
                    let unlimited = Limits { messages_per_user_per_day: u32::MAX, unique_recipients_per_user_per_day: u32::MAX, ..limits };
                    let holding = Limits {
                        recipients_per_login_per_day: login.filter(|_| who.login.is_some()),
                        recipients_per_client_per_day: client.filter(|_| who.client.is_some()),
                        ..if user.is_some() { limits } else { unlimited }
                    };
                    let must = model.counts(now, who, exact).broken(&holding, first, to);
                    // One who has left the exact window may be refused as new, or be known still.
                    let least = model.counts(now, who, exact).unique;
                    let known = if least.contains(&to) { to } else { u8::MAX };
                    let may = model.counts(now, who, slack).broken(&holding, first, known);
                    match ledger.reserve(now, &mut open[index], &recipient(to)) {
                        Ok(reservation) => {
                            prop_assert!(must.is_empty(), "admits past {must:?}");
                            prop_assert_eq!(reservation.would_refuse, None);
                            model.under_way[index].recipients.push(to);
                            let near = |counts: Counts| {
                                let mut near = Vec::new();
                                let mut look = |limit, taken: u32, allowed: u32| {
                                    if allowed > 0 && f64::from(taken) >= 0.8 * f64::from(allowed) {
                                        near.push(limit);
                                    }
                                };
                                if user.is_some() {
                                    look(QuotaLimit::MessagesPerUserPerDay, counts.messages, messages);
                                    let taken = counts.unique.len() as u32;
                                    look(QuotaLimit::UniqueRecipientsPerUserPerDay, taken, unique);
                                }
                                look(QuotaLimit::RecipientsPerDay, counts.day, day);
                                look(QuotaLimit::RecipientsPer10Minutes, counts.ten_minutes, ten_minutes);
                                if let Some(allowed) = login.filter(|_| who.login.is_some()) {
                                    look(QuotaLimit::RecipientsPerLoginPerDay, counts.login, allowed);
                                }
                                if let Some(allowed) = client.filter(|_| who.client.is_some()) {
                                    look(QuotaLimit::RecipientsPerClientPerDay, counts.client, allowed);
                                }
                                near
                            };
                            let (must, may) =
                                (near(model.counts(now, who, exact)), near(model.counts(now, who, slack)));
                            let told: Vec<_> = reservation.near.iter().map(|near| near.limit).collect();
                            prop_assert!(must.iter().all(|limit| told.contains(limit)), "{told:?} not {must:?}");
                            prop_assert!(told.iter().all(|limit| may.contains(limit)), "{told:?} not {may:?}");
                        }
                        Err(refusal) => {
                            prop_assert!(may.contains(&refusal.limit), "too strict: {refusal:?}, {may:?}");
                            if let Some(first) = must.first() {
                                let order = |limit| may.iter().position(|found| *found == limit);
                                prop_assert!(order(refusal.limit) <= order(*first), "out of order");
                            }
                            prop_assert_eq!(refusal.room_at.is_none(), refusal.allowed == 0);
                            prop_assert!(refusal.room_at.is_none_or(|room| room > now));
                        }
                    }
                }
                Op::Unrcpt(index, to) if index < open.len() => {
                    let held = &mut model.under_way[index].recipients;
                    let found = held.iter().rposition(|number| *number == to);
                    let released = ledger.release_recipient(now, &mut open[index], &recipient(to));
                    prop_assert_eq!(released, found.is_some());
                    if let Some(found) = found {
                        held.remove(found);
                    }
                }
                Op::Commit(index) if index < open.len() => {
                    let mut logged = model.under_way.remove(index);
                    let commit = ledger.commit(now, open.remove(index));
                    prop_assert_eq!(commit.is_some(), !logged.recipients.is_empty());
                    if let Some(commit) = commit {
                        prop_assert_eq!(commit.recipients.len(), logged.recipients.len());
                        logged.at = now;
                        model.accepted.push(logged);
                        commits.push(commit);
                    }
                }
                Op::Release(index) if index < open.len() => {
                    model.under_way.remove(index);
                    ledger.release(open.remove(index));
                }
                Op::Drop(index) if index < open.len() => {
                    model.under_way.remove(index);
                    drop(open.remove(index));
                }
                Op::Prune => ledger.prune(now),
                _ => {}
            }
            // What usage shows lies between the exact window and one bucket more.
            for one in [None, Some(0), Some(1), Some(2)] {
                let caller = Who { user: None, login: one, client: one };
                let (least, most) = (model.counts(now, caller, exact), model.counts(now, caller, slack));
                for found in ledger.usage_of_caller(now, &caller.subject(limits)) {
                    let (least, most) = match found.limit {
                        QuotaLimit::RecipientsPerLoginPerDay => (least.login, most.login),
                        _ => (least.client, most.client),
                    };
                    let got = found.used + found.reserved;
                    prop_assert!(least <= got && got <= most, "{one:?}: {least} <= {got} <= {most}");
                }
            }
            for user in [None, Some(0), Some(1), Some(2)] {
                let who = Who { user, ..Who::default() };
                let (least, most) = (model.counts(now, who, exact), model.counts(now, who, slack));
                let name = user.map(|user| mailbox(&user_name(user)));
                let shown = ledger.usage(now, "Solarmora", name.as_ref(), &limits);
                let got = shown.map(|found| found.used + found.reserved);
                let bounds = match user {
                    None => [(least.day, most.day), (least.ten_minutes, most.ten_minutes)],
                    Some(_) => [
                        (least.messages, most.messages),
                        (least.unique.len() as u32, most.unique.len() as u32),
                    ],
                };
                for (got, (least, most)) in got.into_iter().zip(bounds) {
                    prop_assert!(least <= got && got <= most, "{user:?}: {least} <= {got} <= {most}");
                }
            }
        }
        // Everything under way goes back; then the journal alone yields the same ledger.
        for transaction in open {
            drop(transaction);
        }
        let mut replayed = Ledger::new([8; 16]);
        for commit in &commits {
            replayed.replay(commit);
        }
        for minutes in [0, 1, 4, 7, 60, 700, 1430, 1441, 1446] {
            let then = now + Duration::from_secs(minutes * 60);
            for user in [None, Some(0), Some(1), Some(2)] {
                let name = user.map(|user| mailbox(&user_name(user)));
                let live = ledger.usage(then, "Solarmora", name.as_ref(), &limits);
                let again = replayed.usage(then, "Solarmora", name.as_ref(), &limits);
                prop_assert_eq!(live, again, "{:?} after {} minutes", user, minutes);
                prop_assert!(live.iter().all(|found| found.reserved == 0), "something leaked");
                let caller = Who { user: None, login: user, client: user }.subject(limits);
                let live = ledger.usage_of_caller(then, &caller);
                prop_assert!(live.iter().all(|found| found.reserved == 0), "something leaked");
                prop_assert_eq!(live, replayed.usage_of_caller(then, &caller));
            }
        }
        // There is room when the ledger says so, and not before.
        for user in [None, Some(0), Some(1), Some(2)] {
            let name = user.map(|user| mailbox(&user_name(user)));
            let usage_at = |then: Timestamp| {
                let mut ledger = Ledger::new([8; 16]);
                for commit in &commits {
                    ledger.replay(commit);
                }
                ledger.usage(then, "Solarmora", name.as_ref(), &limits)
            };
            for (index, shown) in usage_at(now).into_iter().enumerate() {
                prop_assert_eq!(shown.room_at.is_some(), shown.used >= shown.allowed && shown.allowed > 0);
                if let Some(room) = shown.room_at {
                    let [before, after] = [room.before(Duration::from_millis(1)), room]
                        .map(|then| usage_at(then)[index].used);
                    prop_assert!(before >= shown.allowed && after < shown.allowed, "{shown:?}");
                }
            }
        }
        ledger.prune(now + Duration::from_secs(86_400 + 301));
        prop_assert_eq!(ledger.size(), LedgerSize::default());
    }
}
