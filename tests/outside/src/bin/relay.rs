// From README.md, by scripts/outside --update.
use waypost_relay::{Ledger, LimitOverrides, Limits, Payment, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = LimitOverrides { recipients_per_10_minutes: Some(1), ..LimitOverrides::default() };
    let limits = Limits::new(250, Payment::Settled, &own, None); // 250 licences
    let marie = "marie@solarmora.com".parse()?;
    let subject = QuotaSubject::new("Solarmora".into(), Some(marie), limits);
    let (mut ledger, now) = (Ledger::new([7; 16]), Timestamp::from_millis(1_600_000_000_000));
    let (mut one, mut two) = (ledger.begin(subject.clone()), ledger.begin(subject));
    let client: Mailbox = "client@elsewhere.example".parse()?;
    assert!(ledger.reserve(now, &mut one, &client).is_ok());
    let refusal = ledger.reserve(now, &mut two, &client).unwrap_err();
    assert_eq!(refusal.reply().code(), 450); // and says when there is room again
    assert!(ledger.commit(now, one).is_some()); // goes into your journal, beside the message
    Ok(())
}
