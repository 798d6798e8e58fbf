//! What a ledger takes of memory, counted at the allocator.
#![allow(clippy::unwrap_used, reason = "a test says what it means")]

use std::time::Duration;

use waypost_relay::{Ledger, LimitMode, Limits, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

const LIMITS: Limits = Limits {
    recipients_per_day: u32::MAX,
    recipients_per_10_minutes: u32::MAX,
    messages_per_user_per_day: u32::MAX,
    unique_recipients_per_user_per_day: u32::MAX,
    recipients_per_login_per_day: None,
    recipients_per_client_per_day: None,
    mode: LimitMode::Enforce,
};

/// `messages` of each of `users` in the course of a day, each to other recipients.
fn a_day(users: u32, messages: u32, recipients: u32) -> Ledger {
    let mut ledger = Ledger::new([1; 16]);
    let mut now = Timestamp::from_millis(1_600_000_000_000);
    for message in 0..messages {
        now = now + Duration::from_secs(u64::from(86_000 / messages));
        for user in 0..users {
            let mailbox: Mailbox = format!("u{user}@a.example").parse().unwrap();
            let organization = format!("o{}", user % 10).into();
            let subject = QuotaSubject::new(organization, Some(mailbox), LIMITS);
            let mut transaction = ledger.begin(subject);
            for recipient in 0..recipients {
                let to = format!("r{}@b.example", message * recipients + recipient);
                assert!(ledger.reserve(now, &mut transaction, &to.parse().unwrap()).is_ok());
            }
            ledger.commit(now, transaction);
        }
    }
    ledger
}

#[test]
fn a_user_takes_96_octets_and_a_unique_recipient_32_d10() {
    for (messages, recipients) in [(1, 1), (2, 3), (11, 1)] {
        let users = 10_000;
        let mut ledger = None;
        let info = allocation_counter::measure(|| {
            ledger = Some(a_day(users, messages, recipients));
        });
        let size = ledger.expect("it ran").size();
        assert_eq!(size.recipients, (users * messages * recipients) as usize);
        let (got, counted) = (info.bytes_current, i64::from(users * messages * recipients));
        let bound = 96 * i64::from(users) + 32 * counted;
        println!("{messages} messages to {recipients}: {got} octets, {bound} allowed");
        assert!(got <= bound, "{messages} messages to {recipients}: {got} octets, {bound} allowed");
    }
}
