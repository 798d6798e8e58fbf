//! The committer: groups, errors, reopening, shutdown.

use crate::common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use common::{accepted, body, done, id, messages};
use waypost_queue::{
    Body, Durability, Entry, Event, ModelStore, Record, SetAside, Store, StoreError, Timestamp,
};
use waypost_store::{Batch, CommitError, Committer, CommitterOptions, FjallStore};
use waypost_types::QueueId;

/// A store that says when a commit begins and lets it go on when told.
struct Gate {
    store: Arc<ModelStore>,
    begun: Mutex<Sender<usize>>,
    go_on: Mutex<Receiver<()>>,
}

impl Store for Gate {
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        if !records.is_empty() {
            self.begun.lock().unwrap().send(records.len()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        self.store.commit(records, durability)
    }

    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
        self.store.recover(visit)
    }

    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        self.store.body(id)
    }

    fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        self.store.entry(id)
    }

    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
        self.store.forget_quota(before)
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn never<S>() -> impl FnMut() -> Result<S, StoreError> {
    || Err(StoreError::Closed)
}

fn quick() -> CommitterOptions {
    CommitterOptions {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        lazy: Duration::from_secs(3600),
        ..CommitterOptions::default()
    }
}

#[test]
fn all_that_waits_during_a_sync_shares_the_next_one() {
    let store = Arc::new(ModelStore::new());
    let (begun, began) = channel();
    let (go, go_on) = channel();
    let gate =
        Gate { store: Arc::clone(&store), begun: Mutex::new(begun), go_on: Mutex::new(go_on) };
    let batches = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&batches);
    let observe = move |batch: &Batch| seen.lock().unwrap().push((batch.records, batch.durability));
    let committer = Committer::start_observed(gate, never(), quick(), observe).unwrap();
    assert!(committer.handle().is_open());
    run(tokio::task::LocalSet::new().run_until(async {
        let commit = |number| {
            let handle = committer.handle();
            tokio::task::spawn_local(async move { handle.commit(accepted(number)).await })
        };
        let first = commit(0);
        while began.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (1..=50).map(commit).collect();
        for _ in 0..100 {
            tokio::task::yield_now().await; // each hands its record over
        }
        assert_eq!(store.syncs(), 0);
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        go.send(()).unwrap();
        for commit in rest {
            assert_eq!(commit.await.unwrap(), Ok(()));
        }
        assert_eq!(began.recv().unwrap(), 50);
        assert_eq!(store.syncs(), 2);
        assert_eq!(committer.handle().counts().records, 51);
    }));
    let handle = committer.handle();
    committer.shutdown().unwrap();
    assert!(!handle.is_open());
    assert_eq!(messages(&*store).len(), 51);
    let synced = [1, 50, 0].map(|records| (records, Durability::Synced));
    assert_eq!(*batches.lock().unwrap(), synced);
}

#[test]
fn removals_need_no_sync_of_their_own() {
    let store = Arc::new(ModelStore::new());
    let committer = Committer::start(Arc::clone(&store), never(), quick()).unwrap();
    let handle = committer.handle();
    run(async {
        for number in 0..5 {
            handle.commit(accepted(number)).await.unwrap();
        }
        let syncs = store.syncs();
        for number in 0..4 {
            handle.commit_lazily(vec![done(number)].into()).await.unwrap();
        }
        while handle.counts().records < 9 {
            std::thread::yield_now();
        }
        assert_eq!(store.syncs(), syncs);
        // The next acceptance's sync takes them along.
        handle.commit(accepted(9)).await.unwrap();
        assert_eq!(store.syncs(), syncs + 1);
    });
    store.crash();
    assert_eq!(messages(&*store), [4, 9]);
}

#[test]
fn lazy_records_are_synced_after_a_while_d13() {
    let store = Arc::new(ModelStore::new());
    let options = CommitterOptions { lazy: Duration::from_millis(1), ..quick() };
    let committer = Committer::start(Arc::clone(&store), never(), options).unwrap();
    let handle = committer.handle();
    run(handle.commit_lazily(accepted(1))).unwrap();
    while handle.counts().syncs == 0 {
        std::thread::yield_now();
    }
    store.crash();
    assert_eq!(messages(&*store), [1]);
}

#[test]
fn after_an_error_everyone_is_told_and_intake_resumes() {
    let store = Arc::new(ModelStore::new());
    let (reopenings, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let reopen = {
        let (store, reopenings, works) = (store.clone(), reopenings.clone(), works.clone());
        move || {
            reopenings.fetch_add(1, Ordering::SeqCst);
            let opened = works.load(Ordering::SeqCst).then(|| store.clone());
            opened.ok_or(StoreError::Failed { doing: "open", because: "as told".to_owned() })
        }
    };
    let committer = Committer::start(store.clone(), reopen, quick()).unwrap();
    let handle = committer.handle();
    run(async {
        handle.commit(accepted(1)).await.unwrap();
        store.fail(1);
        let error = handle.commit(accepted(2)).await.unwrap_err();
        assert!(matches!(error, CommitError::Store(StoreError::Failed { .. })), "{error}");
        // Closed: acceptances are refused, removals are kept.
        while reopenings.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        let error = handle.commit(accepted(3)).await.unwrap_err();
        assert_eq!(error, CommitError::Store(StoreError::Closed));
        assert_eq!(handle.body(id(1)), Err(StoreError::Closed));
        handle.commit_lazily(vec![done(1)].into()).await.unwrap();
        works.store(true, Ordering::SeqCst);
        let mut number = 4;
        while handle.commit(accepted(number)).await.is_err() {
            number += 1;
        }
        assert_eq!(handle.body(id(number)), Ok(Some(body(number))));
        assert_eq!(messages(&*store), [number], "1 is done, 2 and 3 were refused");
        assert!(handle.counts().failures >= 3);
    });
    committer.shutdown().unwrap();
}

#[test]
fn a_closed_store_refuses_at_once_though_kept_records_fill_the_room() {
    let store = Arc::new(ModelStore::new());
    let options = CommitterOptions { waiting: 4 << 10, records: 2, ..quick() };
    let committer = Committer::start(store.clone(), never(), options).unwrap();
    let handle = committer.handle();
    store.fail(1);
    run(async {
        assert!(handle.commit(accepted(1)).await.is_err());
        while handle.counts().failures == 0 {
            std::thread::yield_now();
        }
        for number in 2..=3 {
            handle.commit_lazily(vec![done(number)].into()).await.unwrap();
        }
        let error = handle.commit(accepted(4)).await.unwrap_err();
        assert_eq!(error, CommitError::Store(StoreError::Closed));
        // What is kept is bounded: whoever brings more waits.
        let mut more = pin!(handle.commit_lazily(vec![done(5)].into()));
        let waits = poll_fn(|context| Poll::Ready(more.as_mut().poll(context).is_pending())).await;
        assert!(waits);
    });
    assert!(committer.shutdown().is_err(), "what was kept could not be written, and that is said");
}

/// Stores everything and then says that it failed, as a sync can.
struct Liar {
    store: Arc<ModelStore>,
    lies: Arc<AtomicUsize>,
}

impl Store for Liar {
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        self.store.commit(records, durability)?;
        let lies = self.lies.load(Ordering::SeqCst);
        if lies == 0 {
            return Ok(());
        }
        self.lies.store(lies - 1, Ordering::SeqCst);
        Err(StoreError::Failed { doing: "sync", because: "as told".to_owned() })
    }

    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
        self.store.recover(visit)
    }

    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        self.store.body(id)
    }

    fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        self.store.entry(id)
    }

    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
        self.store.forget_quota(before)
    }
}

#[test]
fn what_was_refused_is_not_delivered_after_the_next_start() {
    let store = Arc::new(ModelStore::new());
    let lies = Arc::new(AtomicUsize::new(1));
    let open = {
        let (store, lies) = (store.clone(), lies.clone());
        move || Liar { store: store.clone(), lies: lies.clone() }
    };
    let committer = Committer::start(open(), move || Ok(open()), quick()).unwrap();
    let handle = committer.handle();
    run(async {
        assert!(handle.commit(accepted(1)).await.is_err());
        while handle.commit(accepted(2)).await.is_err() {}
    });
    committer.shutdown().unwrap();
    assert_eq!(messages(&*store), [2]);
}

#[test]
fn too_much_at_once_waits_for_room() {
    let store = Arc::new(ModelStore::new());
    let (begun, began) = channel();
    let (go, go_on) = channel();
    let gate =
        Gate { store: Arc::clone(&store), begun: Mutex::new(begun), go_on: Mutex::new(go_on) };
    let options = CommitterOptions { waiting: 8 << 10, records: 4, ..quick() };
    let committer = Committer::start(gate, never(), options).unwrap();
    run(tokio::task::LocalSet::new().run_until(async {
        let commits: Vec<_> = (0..10)
            .map(|number| {
                let handle = committer.handle();
                tokio::task::spawn_local(async move { handle.commit(accepted(number)).await })
            })
            .collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut taken = 0;
        while taken < 10 {
            while let Ok(records) = began.try_recv() {
                assert!(records <= 4, "at most four wait or are written: {records}");
                taken += records;
                go.send(()).unwrap();
            }
            tokio::task::yield_now().await;
        }
        for commit in commits {
            assert_eq!(commit.await.unwrap(), Ok(()));
        }
        // One that is larger than everything is let through alone.
        let large = Record { bodies: vec![(id(99), vec![0; 1 << 20].into())], ..accepted(99) };
        go.send(()).unwrap();
        committer.handle().commit(large).await.unwrap();
    }));
}

/// What is not yet written when the process is killed is undone, so mail may come twice: how much has a
/// bound.
#[test]
fn only_so_many_lazy_records_wait_to_be_written() {
    let store = Arc::new(ModelStore::new());
    let (begun, began) = channel();
    let (go, go_on) = channel();
    let gate =
        Gate { store: Arc::clone(&store), begun: Mutex::new(begun), go_on: Mutex::new(go_on) };
    let options = CommitterOptions { lazy_records: 3, ..quick() };
    let committer = Committer::start(gate, never(), options).unwrap();
    run(tokio::task::LocalSet::new().run_until(async {
        let handle = committer.handle();
        let handed = Arc::new(AtomicUsize::new(0));
        for number in 0..10 {
            let (handle, handed) = (handle.clone(), Arc::clone(&handed));
            tokio::task::spawn_local(async move {
                handle.commit_lazily(vec![done(number)].into()).await.unwrap();
                handed.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut written = 0;
        while written < 10 {
            tokio::task::yield_now().await;
            assert!(handed.load(Ordering::SeqCst) <= written + 3);
            while let Ok(records) = began.try_recv() {
                go.send(()).unwrap();
                written += records;
            }
        }
    }));
}

#[test]
fn shutdown_writes_what_waits_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().to_owned();
    let reopen = {
        let spool = spool.clone();
        move || FjallStore::open(&spool)
    };
    let store = FjallStore::open(&spool).unwrap();
    let committer = Committer::start(store, reopen, quick()).unwrap();
    let handle = committer.handle();
    run(async {
        handle.commit(accepted(1)).await.unwrap();
        for number in 2..=100 {
            handle.commit_lazily(accepted(number)).await.unwrap();
        }
    });
    committer.shutdown().unwrap();
    assert_eq!(run(handle.commit(accepted(101))), Err(CommitError::Closed));
    assert_eq!(run(handle.commit_lazily(accepted(101))), Err(CommitError::Closed));
    assert_eq!(handle.body(id(1)), Err(StoreError::Closed));
    let store = FjallStore::open(&spool).unwrap();
    assert_eq!(messages(&store).len(), 100);
}

#[test]
fn one_record_that_cannot_be_written_refuses_no_other() {
    /// Takes no batch with message 13 in it.
    struct Picky(Arc<ModelStore>);
    impl Store for Picky {
        fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
            let thirteen = |event: &Event| event.id() == Some(id(13));
            if records.iter().any(|record| record.events.iter().any(thirteen)) {
                let because = waypost_queue::DecodeError::TooLarge(1);
                return Err(StoreError::Value { what: "13".to_owned(), because });
            }
            self.0.commit(records, durability)
        }
        fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
            self.0.recover(visit)
        }
        fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
            self.0.body(id)
        }
        fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
            self.0.entry(id)
        }
        fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
            self.0.forget_quota(before)
        }
    }
    let store = Arc::new(ModelStore::new());
    let committer = Committer::start(Picky(store.clone()), never(), quick()).unwrap();
    run(tokio::task::LocalSet::new().run_until(async {
        let commits: Vec<_> = (10..20)
            .map(|number| {
                let handle = committer.handle();
                tokio::task::spawn_local(
                    async move { (number, handle.commit(accepted(number)).await) },
                )
            })
            .collect();
        for commit in commits {
            let (number, result) = commit.await.unwrap();
            assert_eq!(result.is_ok(), number != 13, "{number}: {result:?}");
        }
    }));
    assert_eq!(messages(&*store).len(), 9);
}
