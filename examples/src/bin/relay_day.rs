//! A day of relayed mail against the quotas (`waypost-relay`).
//!
//! An organization of ten licences sends one message every N seconds (60 by default) for 24 hours,
//! each to two recipients out of a hundred. Prints what was accepted, what each limit refused and
//! when there is room again. No clock runs: the day takes milliseconds.
//!
//! ```text
//! relay_day 20
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use waypost_relay::{Ledger, LimitOverrides, Limits, Payment, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds: u64 = std::env::args().nth(1).as_deref().unwrap_or("60").parse()?;
    let limits = Limits::new(10, Payment::Settled, &LimitOverrides::default(), None);
    let user: Mailbox = "marie@solarmora.com".parse()?;
    let subject = QuotaSubject::new("Solarmora".into(), Some(user.clone()), limits);
    let mut ledger = Ledger::new([7; 16]);
    let midnight = Timestamp::from_millis(1_600_041_600_000);
    let (mut accepted, mut refused) = (0, BTreeMap::new());

    let mut elapsed = 0;
    for message in 0_u64.. {
        if elapsed >= 86_400 {
            break;
        }
        let now = midnight + Duration::from_secs(elapsed);
        let mut transaction = ledger.begin(subject.clone());
        for number in [message % 100, message * 7 % 100] {
            let recipient = format!("customer{number}@elsewhere.example").parse()?;
            match ledger.reserve(now, &mut transaction, &recipient) {
                Ok(_) => accepted += 1,
                Err(refusal) => {
                    let first = refused.entry(refusal.reply().to_string()).or_insert((now, 0));
                    first.1 += 1;
                }
            }
        }
        // The message is accepted when a recipient is left; what is dropped counts for nothing.
        ledger.commit(now, transaction);
        elapsed += seconds.max(1);
    }

    println!("accepted {accepted} recipients");
    for (reply, (first, count)) in refused {
        println!("refused  {count} recipients, first at {first}: {reply}");
    }
    let night = midnight + Duration::from_secs(86_400);
    let of_organization = ledger.usage(night, "Solarmora", None, &limits);
    let of_user = ledger.usage(night, "Solarmora", Some(&user), &limits);
    for use_of in of_user.into_iter().chain(of_organization) {
        let room = use_of.room_at.map_or("now".to_owned(), |at| at.to_string());
        println!("{}: {} of {}, room {room}", use_of.limit, use_of.used, use_of.allowed);
    }
    Ok(())
}
