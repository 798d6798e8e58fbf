//! What a spool holds (`waypost-store`).
//!
//! Opens the spool of a server that is stopped (a running one holds its lock, and answers over its
//! socket), folds its journal and lists each message with what is owed to whom. Nothing is written
//! to the queue; values that cannot be read are set aside and named, as at a server's start.
//!
//! ```text
//! spool_show /var/lib/waypost
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use waypost_queue::{DeliveryState, Limits, Recovery, Store};
use waypost_store::FjallStore;
use waypost_types::Timestamp;

fn main() -> ExitCode {
    let Some(spool) = std::env::args_os().nth(1) else {
        eprintln!("usage: spool_show SPOOL");
        return ExitCode::from(2);
    };
    match show(Path::new(&spool)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spool_show: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(spool: &Path) -> Result<(), Box<dyn Error>> {
    if !spool.is_dir() {
        return Err(format!("{} is no folder; name a spool", spool.display()).into());
    }
    let store = FjallStore::open(spool)?;
    let mut recovery = Recovery::new();
    for damaged in store.recover(&mut |event| recovery.event(event))? {
        println!("set aside: {}: {}", damaged.what, damaged.because);
    }
    // At the beginning of time nothing is due yet, so that each delivery shows when it will be.
    let recovered = recovery.finish(Limits::default(), Timestamp::default());
    for status in recovered.queue.list() {
        let entry = &status.entry;
        println!("{} from <{}>, {} octets", entry.id, entry.sender, entry.size);
        for (owed, delivery) in entry.deliveries.iter().zip(&status.deliveries) {
            let state = match &delivery.state {
                DeliveryState::Waiting { due } => format!("due at {due}"),
                state => format!("{state:?}").to_lowercase(),
            };
            let (recipient, way) = (&owed.delivery.recipient, &owed.delivery.destination);
            println!("    {recipient} by {way}: {state}, {} attempts", delivery.attempts);
            if let Some(failure) = &delivery.failure {
                println!("        {}", failure.reply);
            }
        }
    }
    let (messages, quota) = (recovered.queue.len(), recovered.quota.len());
    let version = recovered.in_force.map_or_else(|| "none".into(), |change| change.version);
    println!("{messages} messages, {quota} quota commits, configuration in force: {version}");
    Ok(())
}
