// From README.md, by scripts/outside --update.
use std::time::Duration;

use waypost_redis::{Settings, SharedLedger};
use waypost_relay::{LimitOverrides, Limits, Payment, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ledger = SharedLedger::start(Settings::new("redis://127.0.0.1", "waypost", [1; 16])?, ());
    ledger.ready(Duration::from_secs(1)).await;
    let limits = Limits::new(250, Payment::Settled, &LimitOverrides::default(), None);
    let mut message = ledger.begin(QuotaSubject::new("Solarmora".into(), None, limits));
    let to: Mailbox = "paul@elsewhere.example".parse()?;
    for verdict in ledger.reserve(&mut message, &[to]).await? {
        println!("{}", verdict.map_or_else(|refusal| refusal.to_string(), |_| "taken".into()));
    }
    ledger.commit(Timestamp::from_millis(1_600_000_000_000), message);
    ledger.flush(Duration::from_secs(1)).await;
    Ok(())
}
