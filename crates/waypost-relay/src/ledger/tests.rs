mod model;

use std::time::Duration;

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
        "450 4.2.1 Peak SMTP relay limit of an organization reached: 3 recipients of this organization in 10 minutes; room again at 2020-09-13T12:36:42Z or before (D11)"
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
        "550 5.7.1 Daily SMTP relay limit of a login reached: 2 recipients of this login in 24 hours; room again at 2020-09-14T12:30:00Z or before (recipients_per_login_per_day)"
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
fn limits_are_named_as_in_metrics_d11() {
    let limit = crate::QuotaLimit::RecipientsPer10Minutes;
    assert_eq!(serde_json::to_string(&limit).unwrap(), "\"recipients-per-10-minutes\"");
    // As it was written before.
    assert_eq!(
        serde_json::from_str::<crate::QuotaLimit>("\"recipients-per10-minutes\"").unwrap(),
        limit
    );
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

/// Users whose messages lie between each other's, more of them than are counted at once.
#[test]
fn what_was_accepted_counts_before_it_is_counted_d13() {
    for far in [9, 900] {
        let mut ledger = Ledger::new([1; 16]);
        let user =
            |number: u32| subject(Some(&format!("user{number}")), limits(9000, 9000, far, 9));
        for round in 0..3 {
            let mut open: Vec<_> = (0..100).map(|number| ledger.begin(user(number))).collect();
            for (seconds, transaction) in (0..).zip(&mut open) {
                for name in ["same".to_owned(), format!("new{round}")] {
                    let now = at(round * 200 + seconds);
                    assert!(ledger.reserve(now, transaction, &mailbox(&name)).is_ok());
                }
            }
            for (seconds, transaction) in (100..).zip(open) {
                assert!(ledger.commit(at(round * 200 + seconds), transaction).is_some());
            }
        }
        assert_eq!(
            ledger.size(),
            LedgerSize { organizations: 1, users: 100, recipients: 400, callers: 0 }
        );
        for number in 0..100 {
            let name = format!("user{number}");
            assert_eq!(used(&mut ledger, at(700), Some(&name)), [3, 4], "{name}");
        }
        assert_eq!(used(&mut ledger, at(700), None), [600, 600]);
    }
}

/// A recipient that nobody looked up yet keeps its place when its bucket leaves the window.
#[test]
fn a_recipient_held_over_the_windows_end_is_counted_once_d10() {
    for (ends, want) in [("commit", [1, 1]), ("release", [0, 0])] {
        let mut ledger = Ledger::new([1; 16]);
        let marie = subject(Some("marie"), limits(99, 99, 99, 2));
        assert_eq!(send(&mut ledger, at(0), &marie, &["a"]), ["250"]);
        let mut open = ledger.begin(marie.clone());
        assert!(ledger.reserve(at(86_000), &mut open, &mailbox("a")).is_ok());
        let later = at(86_400 + 600);
        let held = ledger.usage(later, "Solarmora", Some(&mailbox("marie")), &marie.limits);
        assert_eq!(held.map(|found| found.used + found.reserved), [1, 1], "{ends}");
        assert_eq!(send(&mut ledger, later, &marie, &["b", "c"]), ["250", "550 5.4.5"], "{ends}");
        match ends {
            "commit" => assert!(ledger.commit(later, open).is_some()),
            _ => ledger.release(open),
        }
        let want = want.map(|count| count + 1);
        assert_eq!(used(&mut ledger, later, Some("marie")), want, "{ends}");
    }
}
