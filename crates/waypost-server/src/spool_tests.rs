//! What the spool reads, and what it does when the store fails.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use waypost_queue::{DecodeError, DeliveryState, Durability, Hold, ModelStore};
use waypost_types::{
    Changes, Delivery, Failure, FailureScope, MailParameters, Notify, Outcome, Reply, Timestamp,
    TlsDemand,
};

use super::*;

/// A store that counts the bodies read, and loses or damages them when told.
#[derive(Clone, Default)]
struct Counting {
    store: Arc<ModelStore>,
    read: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Bodies>>,
}

#[derive(Clone, Copy, Default)]
enum Bodies {
    #[default]
    Kept,
    Lost,
    Damaged,
}

impl Store for Counting {
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        self.store.commit(records, durability)
    }

    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
        self.store.recover(visit)
    }

    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        self.read.fetch_add(1, Ordering::SeqCst);
        match *self.bodies.lock().unwrap() {
            Bodies::Kept => self.store.body(id),
            Bodies::Lost => Ok(None),
            Bodies::Damaged => Err(StoreError::Value {
                what: format!("body {id}"),
                because: DecodeError::Checksum { said: 1, found: 2 },
            }),
        }
    }

    fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        self.store.entry(id)
    }

    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
        self.store.forget_quota(before)
    }
}

impl Counting {
    fn reads(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

struct Opened {
    store: Counting,
    spool: Spool,
    _committer: Committer,
    _folder: tempfile::TempDir,
}

fn opened(store: &Counting) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let given = store.clone();
    let open = move || Ok(given.clone());
    let (spool, committer, _) = Spool::open_with(folder.path(), Clock::start(), open).unwrap();
    Opened { store: store.clone(), spool, _committer: committer, _folder: folder }
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

const TEXT: &[u8] = b"Subject: x\r\n\r\nx\r\n";

fn message(spool: &Spool) -> (Entry, Body) {
    let delivery = Delivery {
        recipient: "to@x.example".parse().unwrap(),
        original_recipient: "to@x.example".parse().unwrap(),
        sender: "from@y.example".parse().unwrap(),
        destination: Destination::Mx,
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: Notify::Unsaid,
        orcpt: None,
    };
    let entry = Entry {
        id: spool.next_id(),
        accepted_at: spool.clock.now(),
        sender: "from@y.example".parse().unwrap(),
        parameters: MailParameters::default(),
        client: "192.0.2.1".into(),
        trace: "Received: from y.example\r\n".into(),
        deliveries: vec![delivery.into()],
        decision: "{}".into(),
        size: u64::try_from(TEXT.len()).unwrap(),
        header_size: 14,
    };
    (entry, Body::from(TEXT.to_vec()))
}

async fn accepted(spool: &Spool) -> QueueId {
    let (entry, body) = message(spool);
    let id = entry.id;
    spool.accept(entry, body, Vec::new()).await.unwrap();
    id
}

fn outcomes(work: &Work, outcome: Outcome) -> Vec<Ended> {
    work.deliveries.iter().map(|place| Ended::new(*place, outcome.clone())).collect()
}

async fn finish(spool: &Spool, work: Work, outcome: Outcome) {
    let results = outcomes(&work, outcome);
    let hostname = "mx.solarmora.com".parse().unwrap();
    let notices = Notices { hostname: &hostname, destination: &|_| None };
    spool.finished(work, results, &Schedule::default(), &notices).await;
}

fn delivered() -> Outcome {
    Outcome::Delivered { host: None, reply: Reply::new(250, (2, 0, 0), "ok") }
}

fn deferred() -> Outcome {
    let reply = Reply::new(451, (4, 4, 1), "no");
    Outcome::Deferred(Failure { scope: FailureScope::Host, host: None, reply })
}

#[test]
fn mail_just_committed_is_delivered_from_memory_and_waiting_mail_leaves_it() {
    run(async {
        let opened = opened(&Counting::default());
        let (spool, store) = (&opened.spool, &opened.store);
        accepted(spool).await;
        let work = spool.take().unwrap();
        assert_eq!(work.body.as_deref(), Some(TEXT));
        finish(spool, work, delivered()).await;
        assert_eq!((store.reads(), spool.messages()), (0, 0));

        let id = accepted(spool).await;
        let work = spool.take().unwrap();
        assert!(work.body.is_some());
        finish(spool, work, deferred()).await;
        assert!(spool.take().is_none(), "it waits");
        spool.queue().retry(id).unwrap();
        let work = spool.take().unwrap();
        assert!(work.body.is_none(), "it left the memory while it waited");
        let body = spool.body(id, work.entry.size).await.unwrap();
        assert_eq!((&**body, store.reads(), spool.counts().bodies_read), (TEXT, 1, 1));
        assert!(spool.reading.used() > 0);
        drop(body);
        assert_eq!(spool.reading.used(), 0);
        finish(spool, work, delivered()).await;
    });
}

#[test]
fn a_start_reads_entries_and_no_bodies() {
    run(async {
        let store = Counting::default();
        let first = opened(&store);
        for _ in 0..50 {
            accepted(&first.spool).await;
        }
        store.store.crash(); // all of them were synced
        let again = opened(&store);
        assert_eq!((again.spool.messages(), store.reads()), (50, 0));
        let work = again.spool.take().unwrap();
        assert!(work.body.is_none());
        assert!(again.spool.body(work.entry.id, work.entry.size).await.is_some());
        assert_eq!(store.reads(), 1);
    });
}

#[test]
fn a_message_whose_bytes_are_lost_is_held_with_the_reason() {
    for (bodies, reason) in [
        (Bodies::Lost, "its bytes are not in the spool"),
        (Bodies::Damaged, "checksum is 00000002"),
    ] {
        run(async {
            let opened = opened(&Counting::default());
            let spool = &opened.spool;
            let id = accepted(spool).await;
            let work = spool.take().unwrap();
            finish(spool, work, deferred()).await;
            spool.queue().retry(id).unwrap();
            let work = spool.take().unwrap();
            *opened.store.bodies.lock().unwrap() = bodies;
            assert!(spool.body(id, 1).await.is_none());
            finish(spool, work, deferred()).await;
            assert!(spool.take().is_none());
            assert!(spool.queue().next_due().is_none(), "no attempt could do better");
            let status = spool.queue().show(id).unwrap();
            let DeliveryState::Held(Hold::Operator { by }) = &status.deliveries[0].state else {
                panic!("{status:?}")
            };
            assert!(by.contains(reason), "{by}");
            assert_eq!(spool.damaged(), 1);
        });
    }
}

#[test]
fn while_the_store_is_opened_anew_mail_waits_and_intake_is_refused() {
    run(async {
        let opened = opened(&Counting::default());
        let spool = &opened.spool;
        let id = accepted(spool).await;
        assert!(spool.room(1000).is_ok());
        opened.store.store.fail(2);
        let (entry, body) = message(spool);
        assert!(spool.accept(entry, body, Vec::new()).await.is_err());
        assert!(matches!(spool.room(1000), Err(NoRoom::Store)));
        let begun = Instant::now();
        assert!(spool.body(id, 1).await.is_some(), "it waits for the store");
        while spool.room(1000).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "intake resumes by itself");
        accepted(spool).await;
        assert_eq!(spool.counts().failures, 2);
    });
}

#[test]
fn less_room_than_two_messages_is_none() {
    run(async {
        let opened = opened(&Counting::default());
        let free = opened.spool.disk.free(opened.spool.clock.now());
        assert!(opened.spool.room((free - RESERVE) / 2 - (64 << 20)).is_ok());
        let error = opened.spool.room(free / 2).unwrap_err();
        assert!(matches!(error, NoRoom::Disk { .. }), "{error}");
        assert!(opened.spool.space(free - RESERVE - (64 << 20)).is_ok());
        assert!(opened.spool.space(free + 1).is_err());
    });
}
