//! Several ledgers over one server, and a server that goes away and comes back.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use waypost_relay::{LimitMode, Limits, QuotaCommit, QuotaLimit, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

use super::server::Server;
use crate::history::History;
use crate::ledger::SharedLedger;
use crate::settings::Settings;
use crate::shared::Standing;

mod states;

const LONG: Duration = Duration::from_secs(20);
/// Of the nodes here: a machine that is busy with other things renews in time, and answers.
const LEASE: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);

/// A journal in memory.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<QuotaCommit>>>);

impl History for Journal {
    fn since(
        &self,
        since: Timestamp,
        visit: &mut dyn FnMut(QuotaCommit) -> bool,
    ) -> Result<(), String> {
        let commits = self.0.lock().unwrap().clone();
        let _ = commits.into_iter().filter(|commit| commit.at >= since).all(visit);
        Ok(())
    }
}

/// One node.
struct Node {
    ledger: SharedLedger,
    journal: Journal,
}

impl Node {
    async fn start(server: &Server, name: u8, waiting: usize) -> Self {
        Self::again(server, name, waiting, Journal::default()).await
    }

    async fn again(server: &Server, name: u8, waiting: usize, journal: Journal) -> Self {
        let mut settings = Settings::new(&server.address(), "test", [name; 16]).unwrap();
        (settings.lease, settings.timeout) = (LEASE, TIMEOUT);
        settings.waiting = waiting;
        let ledger = SharedLedger::start(settings, journal.clone());
        let node = Self { ledger, journal };
        assert!(node.ledger.ready(LONG).await, "node {name}");
        node
    }

    /// Sends a message to some recipients, each with a RCPT of its own; how many were taken.
    async fn send(&self, limit: u32, to: &[String]) -> Result<usize, crate::Unavailable> {
        let mut message = self.ledger.begin(subject(limit));
        let to: Vec<Mailbox> = to.iter().map(|to| to.parse().unwrap()).collect();
        let verdicts = self.ledger.reserve(&mut message, &to).await?;
        self.commit(message);
        Ok(verdicts.iter().filter(|verdict| verdict.is_ok()).count())
    }

    fn commit(&self, message: crate::SharedTransaction) {
        let at = wall();
        let Some(first) = message.recipients().first() else { return };
        assert!(first.domain().is_some());
        // In the journal first, as a server does.
        self.writes(at, &message);
        assert!(self.ledger.commit(at, message).is_some());
    }

    fn writes(&self, at: Timestamp, message: &crate::SharedTransaction) {
        let mut journal = self.journal.0.lock().unwrap();
        journal.push(QuotaCommit {
            at,
            organization: "S".into(),
            user: message.subject().user.clone(),
            recipients: message.recipients().into(),
            login: None,
            client: None,
        });
        journal.sort_by_key(|commit| commit.at);
    }

    async fn used(&self) -> (u32, u32) {
        let found = self.ledger.usage("S", None, &limits(1000)).await.unwrap();
        assert_eq!(found[0].limit, QuotaLimit::RecipientsPerDay);
        (found[0].used, found[0].reserved)
    }

    async fn waits_for(&self, used: u32, reserved: u32) {
        let begun = Instant::now();
        loop {
            let found = self.used().await;
            if found == (used, reserved) {
                return;
            }
            assert!(begun.elapsed() < LONG, "{found:?}, not {:?}", (used, reserved));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn down(&self) {
        let mut standing = self.ledger.standing();
        let gone = standing.wait_for(|standing| matches!(standing, Standing::Down { .. }));
        tokio::time::timeout(LONG, gone).await.unwrap().unwrap();
    }
}

fn wall() -> Timestamp {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(wall.as_millis()).unwrap())
}

fn limits(limit: u32) -> Limits {
    Limits {
        recipients_per_day: limit,
        recipients_per_10_minutes: u32::MAX,
        messages_per_user_per_day: u32::MAX,
        unique_recipients_per_user_per_day: u32::MAX,
        recipients_per_login_per_day: None,
        recipients_per_client_per_day: None,
        mode: LimitMode::Enforce,
    }
}

fn subject(limit: u32) -> QuotaSubject {
    let user = Some("marie@s.example".parse().unwrap());
    QuotaSubject::new("S".into(), user, limits(limit))
}

fn to(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}@elsewhere.example")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: run scripts/redis"]
async fn nodes_together_never_pass_a_limit_d13_o5() {
    let server = Server::start();
    let nodes = [Node::start(&server, 1, 100_000).await, Node::start(&server, 2, 100_000).await];
    let nodes = nodes.map(Arc::new);
    let mut sessions = Vec::new();
    for session in 0..40 {
        let node = Arc::clone(&nodes[session % 2]);
        sessions.push(tokio::spawn(async move {
            let mut taken = 0;
            for _ in 0..20 {
                taken += node.send(500, &to(1 + session % 3)).await.unwrap();
            }
            taken
        }));
    }
    let mut taken = 0;
    for session in sessions {
        taken += session.await.unwrap();
    }
    assert_eq!(taken, 500, "all of it, and no more");
    assert!(nodes[0].ledger.flush(LONG).await && nodes[1].ledger.flush(LONG).await);
    assert_eq!(nodes[0].used().await, (500, 0));
    // More than one call's worth; the 66th is beyond.
    let verdict = nodes[0].send(500 + 65, &to(70)).await;
    assert_eq!(verdict.unwrap(), 65);
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn what_is_dropped_or_left_behind_is_given_back_d13_o5() {
    let server = Server::start();
    let (one, other) = (Node::start(&server, 1, 100).await, Node::start(&server, 2, 100).await);
    let mut message = one.ledger.begin(subject(3));
    let recipients: Vec<Mailbox> = to(3).iter().map(|to| to.parse().unwrap()).collect();
    let verdicts = one.ledger.reserve(&mut message, &recipients).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(other.used().await, (0, 3));
    assert!(one.ledger.release_recipient(&mut message, &recipients[0]));
    assert!(!one.ledger.release_recipient(&mut message, &recipients[0]));
    other.waits_for(0, 2).await;
    drop(message);
    other.waits_for(0, 0).await;

    // A living node renews what is under way for longer than its lease; a dead one does not.
    let mut message = one.ledger.begin(subject(3));
    let _ = one.ledger.reserve(&mut message, &recipients).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < 2 * LEASE {
        assert_eq!(other.used().await, (0, 3));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::mem::forget(message);
    drop(one);
    other.waits_for(0, 0).await;
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_redis_that_comes_back_empty_is_told_of_everything_once_o5() {
    let mut server = Server::start();
    let (one, other) = (Node::start(&server, 1, 1000).await, Node::start(&server, 2, 1000).await);
    for _ in 0..10 {
        assert_eq!(one.send(1000, &to(2)).await.unwrap(), 2);
        assert_eq!(other.send(1000, &to(1)).await.unwrap(), 1);
    }
    let mut before = one.ledger.begin(subject(1000));
    let _ = one.ledger.reserve(&mut before, &[to(1)[0].parse().unwrap()]).await.unwrap();
    server.kill();
    one.down().await;
    other.down().await;
    assert!(one.send(1000, &to(1)).await.is_err(), "at once");
    // Accepted without Redis, and what was reserved before.
    let mut alone = one.ledger.begin(subject(1000));
    alone.take_unreserved(to(1)[0].parse().unwrap());
    one.commit(alone);
    one.commit(before);
    server.restart(&[]);
    assert!(one.ledger.ready(LONG).await && other.ledger.ready(LONG).await);
    other.waits_for(32, 0).await;
    assert_eq!(one.send(1000, &to(1)).await.unwrap(), 1);
    other.waits_for(33, 0).await;

    // Emptied by hand, while all are connected.
    let () = redis::cmd("FLUSHALL").query(&mut server.connection()).unwrap();
    one.waits_for_again(33).await;
    other.waits_for_again(33).await;
    let marie = "marie@s.example".parse().unwrap();
    let uses = one.ledger.usage("S", Some(&marie), &limits(1000)).await.unwrap();
    assert_eq!(uses.iter().map(|one| one.used).collect::<Vec<_>>(), [23, 2]);
}

impl Node {
    /// As [`Node::waits_for`], over a loss.
    async fn waits_for_again(&self, used: u32) {
        let begun = Instant::now();
        loop {
            let found = self.ledger.usage("S", None, &limits(1000)).await;
            if found.as_ref().is_ok_and(|found| (found[0].used, found[0].reserved) == (used, 0)) {
                return;
            }
            assert!(begun.elapsed() < LONG, "{found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_node_that_starts_again_tells_what_redis_misses_and_no_more_d13_o5() {
    let mut server = Server::start();
    let one = Node::start(&server, 1, 1000).await;
    for _ in 0..5 {
        assert_eq!(one.send(1000, &to(1)).await.unwrap(), 1);
    }
    assert!(one.ledger.flush(LONG).await);
    let journal = one.journal.clone();
    drop(one);
    let one = Node::again(&server, 1, 1000, journal.clone()).await;
    assert_eq!(one.used().await, (5, 0), "nothing twice");
    // Died with commits in the journal that Redis never heard of.
    drop(one);
    let at = wall() + Duration::from_millis(1);
    let lost = QuotaCommit {
        at,
        organization: "S".into(),
        user: None,
        recipients: vec![to(1)[0].parse().unwrap()].into(),
        login: None,
        client: None,
    };
    journal.0.lock().unwrap().push(lost);
    while wall() <= at {
        tokio::task::yield_now().await;
    }
    let one = Node::again(&server, 1, 1000, journal.clone()).await;
    assert_eq!(one.used().await, (6, 0));

    // More waits than memory holds: it comes from the journal.
    server.kill();
    one.down().await;
    // Two of one name would both tell.
    drop(one);
    server.restart(&[]);
    let few = Node::again(&server, 1, 3, journal).await;
    assert_eq!(few.used().await.0, 6);
    server.kill();
    few.down().await;
    for _ in 0..20 {
        let mut alone = few.ledger.begin(subject(1000));
        alone.take_unreserved(to(1)[0].parse().unwrap());
        few.commit(alone);
    }
    assert!(few.ledger.waiting() <= 3);
    server.restart(&[]);
    assert!(few.ledger.ready(LONG).await);
    few.waits_for(26, 0).await;
}

/// Messages accepted at nearly one moment reach Redis in any order, and a kill leaves any of them behind.
#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_kill_forgets_nothing_of_the_last_moment_and_counts_nothing_twice_d13_o5() {
    let server = Server::start();
    let mut node = Node::start(&server, 1, 1000).await;
    let (journal, last) = (node.journal.clone(), wall());
    // Milliseconds before the last one that Redis hears of, which recipient, and whether it hears.
    let messages = [
        (0, 0, true),
        (0, 0, true),
        (0, 0, false),
        (0, 1, false),
        (1, 1, true),
        (1, 1, false),
        (3, 2, false),
        (2_000, 0, false),
        (29_000, 1, true),
        (29_000, 2, false),
    ];
    for (before, name, is_heard_of) in messages {
        let at = last.before(Duration::from_millis(before));
        let mut message = node.ledger.begin(subject(1000));
        message.take_unreserved(to(3)[name].parse().unwrap());
        node.writes(at, &message);
        if is_heard_of {
            assert!(node.ledger.commit(at, message).is_some());
        }
    }
    assert!(node.ledger.flush(LONG).await);
    assert_eq!(node.used().await, (4, 0));
    for _ in 0..3 {
        drop(node);
        node = Node::again(&server, 1, 1000, journal.clone()).await;
        assert_eq!(node.used().await, (10, 0));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_redis_that_is_of_no_use_counts_as_gone_o5() {
    let mut server = Server::start();
    let node = Node::start(&server, 1, 1000).await;
    let set = |server: &Server, name: &str, value: &str| {
        let mut set = redis::cmd("CONFIG");
        let () = set.arg("SET").arg(name).arg(value).query(&mut server.connection()).unwrap();
    };
    // Out of memory.
    set(&server, "maxmemory", "1");
    let error = node.send(10, &to(1)).await.unwrap_err();
    assert!(error.because.contains("OOM"), "{error}");
    set(&server, "maxmemory", "0");
    assert!(node.ledger.ready(LONG).await);
    // A replica.
    let replicate = |to: [&str; 2]| {
        let mut replicate = redis::cmd("REPLICAOF");
        let () = replicate.arg(&to).query(&mut server.connection()).unwrap();
    };
    replicate(["127.0.0.1", "1"]);
    let error = node.send(10, &to(1)).await.unwrap_err();
    assert!(error.because.contains("READONLY") || error.because.contains("read only"), "{error}");
    replicate(["NO", "ONE"]);
    assert!(node.ledger.ready(LONG).await);
    // The script forgotten.
    let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.connection()).unwrap();
    assert!(node.send(10, &to(1)).await.is_err());
    assert!(node.ledger.ready(LONG).await);
    assert_eq!(node.send(10, &to(1)).await.unwrap(), 1);
    // Stopped: it takes connections, and does not answer.
    server.pause();
    let begun = Instant::now();
    let error = node.send(10, &to(1)).await.unwrap_err();
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    assert!(error.because.contains("in time"), "{error}");
    let begun = Instant::now();
    assert!(node.send(10, &to(1)).await.is_err());
    assert!(begun.elapsed() < TIMEOUT, "nobody else waits");
    server.resume();
    assert!(node.ledger.ready(LONG).await);
    node.waits_for(1, 0).await;
    // One that drops keys is warned of.
    set(&server, "maxmemory-policy", "allkeys-lru");
    server.pause();
    assert!(node.send(10, &to(1)).await.is_err());
    server.resume();
    assert!(node.ledger.ready(LONG).await);
    let standing = node.ledger.standing().borrow().clone();
    assert_eq!(standing, Standing::Up { evicts: Some("allkeys-lru".into()) });
    server.kill();
}
