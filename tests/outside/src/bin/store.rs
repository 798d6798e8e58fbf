// From README.md, by scripts/outside --update.
use waypost_queue::{ConfigChange, ConfigOutcome, Event, Limits, Recovery, Store, Timestamp};
use waypost_store::{Committer, CommitterOptions, FjallStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (spool, now) = (std::path::PathBuf::from("spool"), Timestamp::from_millis(1_600_000_000_000));
    let (store, mut recovery) = (FjallStore::open(&spool)?, Recovery::new());
    store.recover(&mut |event| recovery.event(event))?;
    let queue = recovery.finish(Limits::default(), now).queue;
    println!("{} messages are owed", queue.len());

    let committer = Committer::start(store, move || FjallStore::open(&spool), CommitterOptions::default())?;
    let change = ConfigChange {
        at: now, version: "1".into(), who: "root".into(), what: "start".into(),
        from: None, outcome: ConfigOutcome::InForce, lines: Vec::new(),
    };
    committer.handle().commit(vec![Event::ConfigChanged(change)].into()).await?; // synced
    Ok(committer.shutdown()?)
}
