//! The quota ledger under any sequence of operations.

use std::net::IpAddr;
use std::time::Duration;

use waypost_relay::{Ledger, LimitMode, Limits, QuotaLimit, QuotaSubject, Transaction};
use waypost_types::{Mailbox, Timestamp};

use crate::steer::Steer;

const DAY: Duration = Duration::from_secs(86_400);
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// What a bucket may make a window longer by (D13).
const SLACK: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(2)];

/// Operations on a ledger: first six bytes the limits, then two a step.
///
/// Beside the ledger runs a naive log of what was committed and what is reserved. No limit is ever
/// passed in an exact window (D10, D11); nothing is refused that an exact window with a bucket more
/// would let in, so refused and released mail never counts (D13); and a ledger that replays the log
/// counts the same.
pub fn ledger_ops(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let mut run = Run::new(Limits {
        recipients_per_day: u32::from(steer.byte() % 32),
        recipients_per_10_minutes: u32::from(steer.byte() % 16),
        messages_per_user_per_day: u32::from(steer.byte() % 8),
        unique_recipients_per_user_per_day: u32::from(steer.byte() % 8),
        recipients_per_login_per_day: Some(u32::from(steer.byte() % 32)),
        recipients_per_client_per_day: Some(u32::from(steer.byte() % 32)),
        mode: LimitMode::Enforce,
    });
    while !steer.is_empty() && run.steps < 400 {
        let (operation, argument) = (steer.byte(), steer.byte());
        run.step(operation, argument);
    }
    run.replayed();
}

/// A message in the log: when (none: still reserved), for whom, to whom.
struct Logged {
    at: Option<Timestamp>,
    user: Option<Mailbox>,
    login: Option<Mailbox>,
    client: Option<IpAddr>,
    recipients: Vec<Mailbox>,
}

struct Run {
    ledger: Ledger,
    limits: Limits,
    now: Timestamp,
    log: Vec<Logged>,
    /// Open transactions and their places in the log.
    open: Vec<(Transaction, usize)>,
    commits: Vec<waypost_relay::QuotaCommit>,
    steps: usize,
}

impl Run {
    fn new(limits: Limits) -> Self {
        Self {
            ledger: Ledger::new([7; 16]),
            limits,
            now: Timestamp::from_millis(1_600_000_000_000),
            log: Vec::new(),
            open: Vec::new(),
            commits: Vec::new(),
            steps: 0,
        }
    }

    fn step(&mut self, operation: u8, argument: u8) {
        self.steps += 1;
        let which = usize::from(argument >> 4);
        match operation % 8 {
            0 => self.begin(argument),
            1..=3 => self.reserve(which, argument % 16),
            4 => self.end(which, true),
            5 => self.end(which, false),
            6 => self.now = self.now + Duration::from_secs(u64::from(argument) * 7),
            _ => self.now = self.now + Duration::from_secs(u64::from(argument) * 600),
        }
        if self.steps.is_multiple_of(16) {
            self.ledger.prune(self.now);
        }
    }

    fn begin(&mut self, argument: u8) {
        let user = (!argument.is_multiple_of(4)).then(|| mailbox("user", argument % 4));
        let login = (argument & 0x10 != 0).then(|| mailbox("login", argument >> 5 & 1));
        let client = (argument & 0x40 != 0).then(|| IpAddr::from([192, 0, 2, argument >> 7]));
        let subject = QuotaSubject {
            login: login.clone(),
            client,
            ..QuotaSubject::new("Solarmora".into(), user.clone(), self.limits)
        };
        self.open.push((self.ledger.begin(subject), self.log.len()));
        self.log.push(Logged { at: None, user, login, client, recipients: Vec::new() });
    }

    fn reserve(&mut self, which: usize, recipient: u8) {
        if self.open.is_empty() {
            return;
        }
        let which = which % self.open.len();
        let recipient = mailbox("to", recipient);
        let place = self.open[which].1;
        let exact = self.over(place, &recipient, [Duration::ZERO; 2]);
        let strict = self.over(place, &recipient, SLACK);
        match self.ledger.reserve(self.now, &mut self.open[which].0, &recipient) {
            Ok(_) => {
                assert!(exact.is_empty(), "admitted past {exact:?}");
                self.log[place].recipients.push(recipient);
            }
            Err(refusal) => {
                assert!(!strict.is_empty(), "refused for nothing: {refusal:?}");
                assert!(strict.contains(&refusal.limit), "{refusal:?} is not among {strict:?}");
                assert!(refusal.room_at.is_none_or(|at| at > self.now), "{refusal:?}");
            }
        }
    }

    fn end(&mut self, which: usize, commit: bool) {
        if self.open.is_empty() {
            return;
        }
        let (transaction, place) = self.open.remove(which % self.open.len());
        if commit {
            let committed = self.ledger.commit(self.now, transaction);
            assert_eq!(committed.is_none(), self.log[place].recipients.is_empty());
            self.commits.extend(committed);
            self.log[place].at = Some(self.now);
        } else {
            self.ledger.release(transaction);
            self.log[place].recipients.clear();
        }
    }

    /// The limits that one more recipient would pass, by the log.
    fn over(&self, place: usize, recipient: &Mailbox, slack: [Duration; 2]) -> Vec<QuotaLimit> {
        let in_window = |logged: &Logged, window: Duration| {
            logged.at.is_none_or(|at| self.now.since(at) < window)
        };
        let recipients = |window| {
            self.log.iter().filter(|m| in_window(m, window)).map(|m| m.recipients.len()).sum()
        };
        let day = DAY + slack[0];
        let mut counts: Vec<(QuotaLimit, u32, usize)> = vec![
            (QuotaLimit::RecipientsPerDay, self.limits.recipients_per_day, recipients(day)),
            (
                QuotaLimit::RecipientsPer10Minutes,
                self.limits.recipients_per_10_minutes,
                recipients(TEN_MINUTES + slack[1]),
            ),
        ];
        let message = &self.log[place];
        let of = |same: &dyn Fn(&Logged) -> bool| {
            let sent = self.log.iter().filter(|m| same(m) && in_window(m, day));
            sent.map(|m| m.recipients.len()).sum()
        };
        if let (Some(limit), Some(_)) = (self.limits.recipients_per_login_per_day, &message.login) {
            let sent = of(&|m| m.login == message.login);
            counts.push((QuotaLimit::RecipientsPerLoginPerDay, limit, sent));
        }
        if let (Some(limit), Some(_)) = (self.limits.recipients_per_client_per_day, message.client)
        {
            let sent = of(&|m| m.client == message.client);
            counts.push((QuotaLimit::RecipientsPerClientPerDay, limit, sent));
        }
        if message.user.is_some() {
            let theirs: Vec<&Logged> = self
                .log
                .iter()
                .filter(|m| m.user == message.user && !m.recipients.is_empty() && in_window(m, day))
                .collect();
            if message.recipients.is_empty() {
                let limit = self.limits.messages_per_user_per_day;
                counts.push((QuotaLimit::MessagesPerUserPerDay, limit, theirs.len()));
            }
            let mut unique: Vec<_> = theirs.iter().flat_map(|m| &m.recipients).collect();
            unique.sort();
            unique.dedup();
            // The end of the longer window may hold what is new to the ledger again.
            let is_known =
                |m: &&Logged| in_window(m, DAY) && m.recipients.iter().any(|to| to == recipient);
            if !theirs.iter().any(is_known) {
                let limit = self.limits.unique_recipients_per_user_per_day;
                counts.push((QuotaLimit::UniqueRecipientsPerUserPerDay, limit, unique.len()));
            }
        }
        let over =
            |(_, limit, count): &(_, u32, usize)| *count + 1 > usize::try_from(*limit).unwrap();
        counts.iter().filter(|count| over(count)).map(|(limit, ..)| *limit).collect()
    }

    /// The journal's commits, played again, give the same use.
    fn replayed(mut self) {
        self.open.clear();
        let mut again = Ledger::new([9; 16]);
        for commit in &self.commits {
            again.replay(commit);
        }
        for user in [None, Some(mailbox("user", 1)), Some(mailbox("user", 3))] {
            let now = self.now;
            let used = |ledger: &mut Ledger| {
                ledger
                    .usage(now, "Solarmora", user.as_ref(), &self.limits)
                    .map(|found| (found.limit, found.used, found.reserved))
            };
            assert_eq!(used(&mut again), used(&mut self.ledger), "replay counts otherwise");
        }
        for number in [0, 1] {
            let caller = QuotaSubject {
                login: Some(mailbox("login", number)),
                client: Some(IpAddr::from([192, 0, 2, number])),
                ..QuotaSubject::new("Solarmora".into(), None, self.limits)
            };
            let used = |ledger: &mut Ledger| ledger.usage_of_caller(self.now, &caller);
            assert_eq!(used(&mut again), used(&mut self.ledger), "replay counts otherwise");
        }
    }
}

fn mailbox(name: &str, number: u8) -> Mailbox {
    format!("{name}{number}@elsewhere.example").parse().unwrap()
}
