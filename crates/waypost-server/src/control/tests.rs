//! The desk and its socket inside one process.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use waypost_config::policy::Policy;
use waypost_net::server::Clock;
use waypost_queue::{Event, QuotaCommit, Record};
use waypost_relay::{Ledger, QuotaSubject};
use waypost_store::Committer;
use waypost_types::Timestamp;

use super::quotas::{Subject, lines, subjects};
use super::socket::{Patience, bind, serve};
use super::{Answer, Desk, End, Request};
use crate::core::Core;
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::spool::Spool;

const CONFIGURATION: &str = r#"
server = { hostname = "mx.s.example", spool = "spool" }
listener = [{ name = "mx", role = "mx", bind = "127.0.0.1:0" }]
[[organization]]
name = "Solarmora"
domains = ["s.example"]
licences = 1
user = [{ address = "marie@s.example", aliases = ["m@s.example"] }]
[[organization]]
name = "Lunamora"
domains = ["l.example"]
licences = 2
limits = { mode = "observe" }
"#;

fn metrics(clock: Clock) -> Arc<Metrics> {
    Arc::new(Metrics::new(clock.now()))
}

fn policy(folder: &std::path::Path) -> Arc<Policy> {
    let path = folder.join("waypost.toml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(CONFIGURATION.as_bytes()).unwrap();
    let loaded = crate::load(&path).unwrap();
    let shown = loaded.report.render(false);
    loaded.policy.expect(&shown)
}

fn desk(folder: &std::path::Path) -> (Arc<Desk>, Committer) {
    let clock = Clock::start();
    let (spool, committer, _) = Spool::open(&folder.join("spool"), clock, metrics(clock)).unwrap();
    let core = Core::new(policy(folder), spool, Ledger::new([0; 16]), clock);
    (Arc::new(Desk::new(Arc::new(core), None)), committer)
}

#[tokio::test]
async fn a_client_that_says_nothing_is_told_so_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _committer) = desk(folder.path());
    let socket = bind(folder.path()).unwrap();
    let patience = Patience { request: Duration::from_millis(50), answer: Duration::from_secs(60) };
    let server = tokio::spawn(serve(socket, desk, patience));
    for said in [b"".as_slice(), b"{\"list\"", b"\"rel"] {
        let mut client = UnixStream::connect(folder.path().join("control.sock")).await.unwrap();
        client.write_all(said).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("no request came in"), "{answer}");
    }
    server.abort();
}

#[tokio::test]
async fn requests_that_need_a_server_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _committer) = desk(folder.path());
    let (out, _answers) = mpsc::channel(8);
    let scope = waypost_queue::RetryScope::All;
    for request in [Request::Reload, Request::Retry { scope }] {
        let end = desk.answer(request, "root (uid 0)", &out).await;
        let End::Unusable { because } = end else { panic!("{end:?}") };
        assert!(because.starts_with("no server runs"), "{because}");
    }
}

#[tokio::test]
async fn a_reload_is_carried_out_by_whoever_took_the_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _committer) = desk(folder.path());
    let mut requests = desk.reload_requests();
    assert!(desk.reload_requests().next().await.is_none(), "the first caller has them");
    let asked = Arc::clone(&desk);
    let (out, mut answers) = mpsc::channel(8);
    let end = tokio::spawn(async move { asked.answer(Request::Reload, "marie", &out).await });
    let request = requests.next().await.unwrap();
    assert_eq!(request.who(), "marie");
    request.answer(super::ReloadAnswer::InForce { version: "7".to_owned() });
    assert_eq!(end.await.unwrap(), End::Done { count: 1 });
    let answer = answers.recv().await;
    assert!(matches!(answer, Some(Answer::Reloaded { version }) if version == "7"));
    // Nobody is left to carry it out.
    drop(requests);
    let (out, _answers) = mpsc::channel(8);
    let end = desk.answer(Request::Reload, "marie", &out).await;
    assert!(matches!(&end, End::Unusable { because } if because.contains("ending")), "{end:?}");
}

#[tokio::test]
async fn quotas_are_of_organizations_and_of_active_users_d13() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path());
    let organization = |name: &str| Subject::Organization(name.into());
    let marie = || Subject::User("Solarmora".into(), "marie@s.example".parse().unwrap());
    for (of, want) in [
        (None, Ok(vec![organization("Solarmora"), organization("Lunamora")])),
        (Some("lunamora"), Ok(vec![organization("Lunamora")])),
        (Some("m@s.example"), Ok(vec![marie()])),
        (Some("x@s.example"), Err("x@s.example is no active user here")),
        (Some("Terramora"), Err("there is no organization `Terramora`; there are: Solarmora, ")),
    ] {
        match (subjects(&policy, of), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{of:?}"),
            (Err(got), Err(want)) => assert!(got.starts_with(want), "{of:?}: {got}"),
            (got, want) => panic!("{of:?}: {got:?}, not {want:?}"),
        }
    }

    let (quotas, now) =
        (Quotas::new(Ledger::new([0; 16]), Arc::default()), Timestamp::from_millis(1 << 40));
    let limits = policy.relay().limits("Solarmora", None).unwrap();
    let marie_sends = "marie@s.example".parse().unwrap();
    let subject = QuotaSubject::new("Solarmora".into(), Some(marie_sends), limits);
    let mut open = quotas.begin(subject);
    assert!(quotas.reserve(now, &mut open, &"a@b.example".parse().unwrap()).await.is_ok());
    let read = async |subject: &Subject| -> Vec<(u32, u32, u32)> {
        let lines = lines(&policy, &quotas, now, subject).await;
        lines.iter().map(|l| (l.quota.used, l.quota.reserved, l.quota.allowed)).collect()
    };
    let all = [(0, 1, 10_000), (0, 1, 130), (0, 1, 130), (0, 1, 9)];
    assert_eq!(read(&marie()).await, all, "the user's before the organization's");
    assert!(open.counted(now).is_some());
    quotas.commit(now, open).await;
    assert_eq!(read(&organization("Solarmora")).await, [(1, 0, 130), (1, 0, 9)]);
    assert_eq!(read(&organization("Lunamora")).await, [(0, 0, 260), (0, 0, 18)]);
}

#[tokio::test]
async fn quota_commits_that_no_window_reaches_are_forgotten_d13() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let hours = |hours: u64| clock.now().before(Duration::from_secs(hours * 3600));
    let commit = |at| {
        Event::QuotaCommitted(QuotaCommit {
            at,
            organization: "Solarmora".into(),
            user: None,
            recipients: vec!["a@b.example".parse().unwrap()],
            login: None,
            client: None,
        })
    };
    let (spool, committer, _) = Spool::open(folder.path(), clock, metrics(clock)).unwrap();
    let all = vec![commit(hours(48)), commit(hours(26)), commit(hours(24)), commit(hours(1))];
    spool.commit(Record::from(all)).await.unwrap();
    spool.forget_quota().await;
    committer.shutdown().unwrap();
    let (_spool, _committer, recovered) =
        Spool::open(folder.path(), clock, metrics(clock)).unwrap();
    assert_eq!(recovered.quota.len(), 2, "of the last 25 hours");
}
