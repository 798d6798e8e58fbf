//! The ledger beside a naive log of everything that was accepted or is under way, with exact times (D13).

use std::time::Duration;

use proptest::prelude::*;
use waypost_types::{Mailbox, Timestamp};

use super::super::{Ledger, LedgerSize};
use super::{DAY_LONG, DAY_SLACK, TEN_LONG, TEN_SLACK, at, limits, mailbox, subject};
use crate::limits::Limits;
use crate::quota::{QuotaLimit, QuotaSubject};
use crate::transaction::Transaction;

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
    /// What is used is looked at, which counts at once what was accepted.
    Look,
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
        4 => Just(Op::Look),
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
            let look = matches!(op, Op::Look);
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
            if !look {
                continue;
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
