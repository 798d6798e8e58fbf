//! The store on real files.

use crate::common;

use std::fs;
use std::path::Path;

use common::{accepted, at, attempted, body, done, entry, events, id, messages};
use fjall::{Database, KeyspaceCreateOptions};
use waypost_queue::{
    ConfigChange, ConfigOutcome, DecodeError, Durability, Event, Limits, QueueChange, QueueCommand,
    Recovery, Store, StoreError,
};
use waypost_store::FjallStore;

#[test]
fn what_was_synced_is_there_after_a_drop_o1() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    store.commit(&[accepted(1), accepted(2), accepted(3)], Durability::Synced).unwrap();
    store.commit(&[vec![attempted(2, 1)].into()], Durability::Lazy).unwrap();
    store.commit(&[vec![done(1)].into(), vec![attempted(2, 2)].into()], Durability::Lazy).unwrap();
    drop(store);

    let store = FjallStore::open(folder.path()).unwrap();
    assert_eq!(messages(&store), [2, 3]);
    assert_eq!(store.body(id(1)), Ok(None));
    assert_eq!(store.body(id(2)), Ok(Some(body(2))));
    assert_eq!(store.entry(id(3)), Ok(Some(entry(3))), "with its decision");
    let attempts: Vec<_> =
        events(&store).into_iter().filter(|e| matches!(e, Event::Attempted(_))).collect();
    assert_eq!(attempts, [attempted(2, 1), attempted(2, 2)], "in order");

    let mut recovery = Recovery::new();
    store.recover(&mut |event| recovery.event(event)).unwrap();
    let recovered = recovery.finish(Limits::default(), at(500));
    assert_eq!((recovered.queue.len(), recovered.quota.len()), (2, 3));
    assert_eq!(recovered.queue.next_due(), Some(at(1002)));
    assert_eq!(events(&store), events(&store), "recover twice = once");
}

/// A message that waits for its first attempt is in memory once, until the engine has sorted it into a table.
#[test]
fn a_framed_body_is_shared_with_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let framed = body(1).framed();
    let mut record = accepted(1);
    record.bodies = vec![(id(1), framed.clone())];
    store.commit(&[record, accepted(2)], Durability::Synced).unwrap();
    let found = store.body(id(1)).unwrap().unwrap();
    assert_eq!(found.as_ptr_range(), framed.as_ptr_range());
    assert_eq!((found, store.body(id(2))), (body(1), Ok(Some(body(2)))));
}

#[test]
fn events_stay_in_order_over_many_openings() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=5 {
        let store = FjallStore::open(folder.path()).unwrap();
        if number == 1 {
            store.commit(&[accepted(1)], Durability::Synced).unwrap();
        }
        let record = vec![attempted(1, number * 2), attempted(1, number * 2 + 1)];
        store.commit(&[record.into()], Durability::Synced).unwrap();
    }
    let store = FjallStore::open(folder.path()).unwrap();
    let numbers: Vec<_> = events(&store)
        .into_iter()
        .filter_map(|event| match event {
            Event::Attempted(attempt) => Some(attempt.number),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, (2..=11).collect::<Vec<_>>());
    store.commit(&[vec![done(1)].into()], Durability::Synced).unwrap();
    drop(store);
    assert_eq!(raw_keys(folder.path()), [("quota".to_owned(), 1)], "the end leaves nothing behind");
}

/// The octets of the journals up to their last that is not 0.
fn journals(spool: &std::path::Path) -> Vec<Vec<u8>> {
    let found = fs::read_dir(spool.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let journals = found.filter(|path| path.extension().is_some_and(|ending| ending == "jnl"));
    let mut octets: Vec<_> = journals.map(|path| fs::read(path).unwrap()).collect();
    for journal in &mut octets {
        let end = journal.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        journal.truncate(end);
    }
    octets.sort();
    octets
}

/// So that a server can start, and deliver, on a disk without room for a single octet.
#[test]
fn an_opening_writes_nothing_o1() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    store.commit(&[accepted(1)], Durability::Synced).unwrap();
    drop(store);
    let before = journals(folder.path());
    for _ in 0..3 {
        let store = FjallStore::open(folder.path()).unwrap();
        assert_eq!(messages(&store), [1]);
        drop(store);
        assert!(journals(folder.path()) == before, "the journal is as it was");
    }
}

#[test]
fn a_record_that_ends_what_it_begins_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let mut record = accepted(1);
    record.events.push(attempted(1, 1));
    record.events.push(done(1));
    store.commit(&[record], Durability::Synced).unwrap();
    store.commit(&[accepted(2), vec![attempted(2, 1), done(2)].into()], Durability::Lazy).unwrap();
    assert_eq!(messages(&store), [0u64; 0]);
    drop(store);
    assert_eq!(raw_keys(folder.path()), [("quota".to_owned(), 2)]);
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let error = FjallStore::open(folder.path()).unwrap_err();
    assert_eq!(error, StoreError::Locked { path: folder.path().to_owned() });
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(store);
    assert!(FjallStore::open(folder.path()).is_ok());
}

#[test]
fn a_damaged_value_is_set_aside_and_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let records: Vec<_> = (1..=4).map(accepted).collect();
    store.commit(&records, Durability::Synced).unwrap();
    let attempts = vec![attempted(1, 1), attempted(2, 1), attempted(3, 1)];
    store.commit(&[attempts.into()], Durability::Synced).unwrap();
    drop(store);
    damage(folder.path(), "entries", 1);
    damage(folder.path(), "bodies", 4);
    damage(folder.path(), "events", 3);
    damage(folder.path(), "quota", at(2).as_millis());

    let store = FjallStore::open(folder.path()).unwrap();
    let mut recovery = Recovery::new();
    let aside = store.recover(&mut |event| recovery.event(event)).unwrap();
    assert_eq!(aside.len(), 3, "{aside:?}");
    for aside in &aside {
        assert!(matches!(aside.because, DecodeError::Checksum { .. }));
        assert!(aside.kept_at.as_ref().unwrap().exists());
    }
    let recovered = recovery.finish(Limits::default(), at(500));
    let left: Vec<_> = recovered.queue.list().map(|status| status.entry.id.number()).collect();
    assert_eq!(left, [2, 3, 4], "the damaged attempt only means an early retry");
    let counted: Vec<_> = recovered.quota.iter().map(|commit| commit.at).collect();
    assert_eq!(counted, [at(1), at(3), at(4)], "what is damaged is not counted");
    assert!(folder.path().join("corrupt/body-0000000000000001").exists(), "may be saved by hand");
    assert_eq!(store.body(id(2)), Ok(Some(body(2))));
    assert!(matches!(store.body(id(4)), Err(StoreError::Value { .. })));
    assert!(folder.path().join("corrupt/body-0000000000000004").exists());
    assert_eq!(messages(&store), [2, 3, 4], "and is not met again");
    drop(store);
    assert!(raw_keys(folder.path()).contains(&("events".to_owned(), 1)), "1 and 3 are gone");
}

#[test]
fn a_creation_cut_short_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("db/keyspaces")).unwrap();
    fs::write(folder.path().join("db/0.jnl"), b"").unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    store.commit(&[accepted(1)], Durability::Synced).unwrap();
    assert!(folder.path().join("corrupt/db-0/0.jnl").exists());
}

#[test]
fn a_cut_journal_keeps_what_was_synced_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    store.commit(&[accepted(1)], Durability::Synced).unwrap();
    let whole = journal_end(folder.path());
    store.commit(&[accepted(2)], Durability::Lazy).unwrap();
    drop(store);
    let end = journal_end(folder.path());
    for cut in [whole, whole + 1, (whole + end) / 2, end - 1] {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        let journal = fs::File::options().write(true).open(copy.path().join("db/0.jnl")).unwrap();
        journal.set_len(cut).unwrap();
        let store = FjallStore::open(copy.path()).unwrap();
        assert_eq!(messages(&store), [1], "cut at {cut} of {end}");
        let counted = |event: &&Event| matches!(event, Event::QuotaCommitted(_));
        assert_eq!(events(&store).iter().filter(counted).count(), 1, "as many as messages");
        assert_eq!(store.body(id(1)), Ok(Some(body(1))));
    }
}

#[test]
fn quotas_are_forgotten_and_the_audit_log_is_not_d13_a12() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let change = |version: &str| {
        Event::ConfigChanged(ConfigChange {
            at: at(1),
            version: version.into(),
            who: "root".into(),
            what: "x".into(),
            from: None,
            outcome: ConfigOutcome::InForce,
            lines: vec!["a: 1 -> 2".into()],
        })
    };
    let records: Vec<_> = (1..=10).map(accepted).collect();
    store.commit(&records, Durability::Lazy).unwrap();
    store.commit(&[vec![change("1"), change("2")].into()], Durability::Synced).unwrap();
    store.forget_quota(at(8)).unwrap();
    drop(store);
    let store = FjallStore::open(folder.path()).unwrap();
    let mut recovery = Recovery::new();
    store.recover(&mut |event| recovery.event(event)).unwrap();
    let recovered = recovery.finish(Limits::default(), at(500));
    let times: Vec<_> = recovered.quota.iter().map(|commit| commit.at).collect();
    assert_eq!(times, [at(8), at(9), at(10)]);
    assert_eq!(&*recovered.in_force.unwrap().version, "2", "the last one that took effect");
    let audit = store.audit(None, 9).unwrap();
    assert_eq!(
        audit.into_iter().map(|(_, event)| event).collect::<Vec<_>>(),
        [change("1"), change("2")]
    );
}

#[test]
fn the_audit_log_is_read_in_pages_and_outlives_the_messages_a12() {
    let folder = tempfile::tempdir().unwrap();
    let line = |number: u64| {
        Event::QueueChanged(QueueChange {
            at: at(number),
            who: "root".into(),
            command: QueueCommand::Hold { id: id(number) },
        })
    };
    let store = FjallStore::open(folder.path()).unwrap();
    store.commit(&[accepted(1)], Durability::Synced).unwrap();
    store.commit(&[vec![line(1), line(2)].into()], Durability::Synced).unwrap();
    drop(store);
    let store = FjallStore::open(folder.path()).unwrap();
    let removed = Event::Removed { id: id(1), at: at(3), by: "root".into() };
    store.commit(&[vec![removed, line(3)].into()], Durability::Synced).unwrap();
    for most in [1, 2, 3, 4] {
        let (mut after, mut read) = (None, Vec::new());
        loop {
            let page = store.audit(after, most).unwrap();
            assert!(page.len() <= most, "{page:?}");
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            read.extend(page.into_iter().map(|(_, event)| event));
        }
        assert_eq!(read, [line(1), line(2), line(3)], "{most}");
    }
    drop(store);
    assert_eq!(raw_keys(folder.path()), [("quota".to_owned(), 1), ("audit".to_owned(), 3)]);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_look_into_the_spool() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("new/spool");
    drop(FjallStore::open(&spool).unwrap());
    assert_eq!(fs::metadata(spool).unwrap().permissions().mode() & 0o777, 0o700);
}

fn damage(spool: &Path, keyspace: &str, message: u64) {
    let db = Database::builder(spool.join("db")).open().unwrap();
    let keyspace = db.keyspace(keyspace, KeyspaceCreateOptions::default).unwrap();
    let item = keyspace.prefix(message.to_be_bytes()).next().unwrap();
    let (key, value) = item.into_inner().unwrap();
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    keyspace.insert(key, value).unwrap();
}

/// How many values each keyspace holds, the store's own counter aside.
fn raw_keys(spool: &Path) -> Vec<(String, usize)> {
    let db = Database::builder(spool.join("db")).open().unwrap();
    ["entries", "events", "bodies", "quota", "audit"]
        .into_iter()
        .map(|name| {
            let keyspace = db.keyspace(name, KeyspaceCreateOptions::default).unwrap();
            (name.to_owned(), keyspace.iter().count())
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Where the journal's content ends; behind it there are zeros.
fn journal_end(spool: &Path) -> u64 {
    let journal = fs::read(spool.join("db/0.jnl")).unwrap();
    let end = journal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    u64::try_from(end).unwrap()
}

/// Below our values the engine has checksums of its own: what it cannot read it does not pass over.
#[test]
fn a_bit_turned_in_the_journal_is_noticed_and_the_start_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    for number in 1..=20 {
        store.commit(&[accepted(number)], Durability::Synced).unwrap();
    }
    drop(store);
    let journal = fs::read(folder.path().join("db/0.jnl")).unwrap();
    let place = |text: &str| journal.windows(text.len()).position(|part| part == text.as_bytes());
    for number in [4, 10, 16] {
        let at = place(&format!("Subject: {number}\r\n")).unwrap();
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        turn(&copy.path().join("db/0.jnl"), at);
        let error = FjallStore::open(copy.path()).unwrap_err();
        assert!(error.to_string().contains("ChecksumMismatch"), "turned at {at}: {error}");
    }
}

/// The engine takes what is wrong in its frame for the end of a write that was cut short, and cuts off what is
/// behind it; that is looked for before.
#[test]
fn a_bit_turned_in_the_frame_of_the_journal_loses_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    for number in 1..=6 {
        store.commit(&[accepted(number)], Durability::Synced).unwrap();
    }
    drop(store);
    // Without the zeros, so that there is less to copy.
    let end = journal_end(folder.path());
    let path = folder.path().join("db/0.jnl");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end).unwrap();
    let journal = fs::read(&path).unwrap();
    let octets = journal.windows(4).enumerate();
    let ends: Vec<usize> =
        octets.filter(|(_, four)| four == b"FJL\x03").map(|(at, _)| at).collect();
    let [.., third, _, _, _] = ends.as_slice() else { panic!("{ends:?}") };
    // The end of the third message's batch, the begin of the fourth's, and its first item.
    let (mut refused, mut harmless) = (0, 0);
    for at in third - 9..third + 4 + 13 + 21 {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        turn(&copy.path().join("db/0.jnl"), at);
        match FjallStore::open(copy.path()) {
            Ok(store) => {
                assert_eq!(messages(&store), [1, 2, 3, 4, 5, 6], "turned at {at}");
                harmless += 1;
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("damaged at") || error.contains("Journal"), "{at}: {error}");
                refused += 1;
            }
        }
        assert!(journal_end(copy.path()) >= end, "nothing is cut off, turned at {at}");
    }
    assert!(refused > 20, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_bit_turned_in_a_table_costs_the_body_in_that_block_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let large = |number| {
        let mut record = accepted(number);
        record.bodies[0].1 = vec![b'x'; 100_000].into();
        record
    };
    let table = folder.path().join("db/keyspaces/3/tables/0");
    for number in 1..=100 {
        store.commit(&[large(number)], Durability::Lazy).unwrap();
    }
    store.commit(&[], Durability::Synced).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !fs::metadata(&table).is_ok_and(|found| found.len() > 5_000_000) {
        assert!(std::time::Instant::now() < until, "it is sorted into a table");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(store);
    turn(&table, 2_050_000);
    let store = FjallStore::open(folder.path()).unwrap();
    assert_eq!(messages(&store).len(), 100);
    let wrong: Vec<u64> = (1..=100).filter(|number| store.body(id(*number)).is_err()).collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(matches!(store.body(id(wrong[0])), Err(StoreError::Failed { .. })));
}

/// Turns one bit of a file.
fn turn(path: &Path, at: usize) {
    let mut octets = fs::read(path).unwrap();
    octets[at] ^= 1;
    fs::write(path, octets).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
