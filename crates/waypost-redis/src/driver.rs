//! The task behind a ledger: connects, tells what waits, renews leases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisError, Value};
use tokio::sync::mpsc;
use waypost_relay::{LimitMode, Limits, QuotaCommit, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

use crate::call::{Call, JOURNALING, Now, Order, SCRIPT, Script};
use crate::connection::Connection;
use crate::counter;
use crate::digest::{Digest, DigestKey};
use crate::history::{History, Told};
use crate::keys::{self, Keys};
use crate::mark::Mark;
use crate::outbox::Task;
use crate::shared::{Shared, Unavailable, Up, told};

/// Jobs that are sent together.
const TOGETHER: usize = 128;

/// How far back the history is asked for: a day and a bucket.
const DAY: Duration = Duration::from_secs(86_400 + 300);

/// What is known of Redis from one connection to the next.
#[derive(Default)]
struct Memory {
    key: Option<DigestKey>,
    /// The last commit that Redis confirmed: organization and number.
    confirmed: Option<(Arc<str>, u64)>,
}

/// Goes on until it is aborted.
pub(crate) async fn run(shared: Arc<Shared>, history: Arc<dyn History>) {
    let mut memory = Memory::default();
    loop {
        let next = shared.state().link.next_try();
        if let Some(next) = next {
            tokio::time::sleep(next.since(shared.now())).await;
        }
        if let Err(because) = turn(&shared, &history, &mut memory).await {
            let generation = shared.state().link.generation();
            shared.failed(generation, &because);
        }
    }
}

/// From connecting to the loss of the connection.
async fn turn(
    shared: &Shared,
    history: &Arc<dyn History>,
    memory: &mut Memory,
) -> Result<(), String> {
    let (up, evicts) = connect(shared).await.map_err(|error| told(&error))?;
    let is_same = memory.key == Some(up.key) && has_confirmed(shared, &up, memory).await?;
    memory.key = Some(up.key);
    if !is_same || shared.state().outbox.has_overflowed() {
        tell_history(shared, &up, history).await?;
        memory.confirmed = None;
    }
    let up = shared.connected(up, evicts);
    // A failure is known already where it was met.
    let _ = serve(shared, &up, history, memory).await;
    Ok(())
}

async fn connect(shared: &Shared) -> Result<(Up, Option<Box<str>>), RedisError> {
    let mut connection = Connection::open(&shared.settings).await?;
    let name = keys::digest_key(shared.settings.prefix());
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).map_err(|error| RedisError::from(std::io::Error::other(error)))?;
    // Whoever is first draws the key; it is gone with everything else when Redis is emptied.
    let (key, sha): (Vec<u8>, String) = Pipeline::new()
        .cmd("SET")
        .arg(&name)
        .arg(DigestKey::new(drawn).octets())
        .arg("NX")
        .ignore()
        .cmd("GET")
        .arg(&name)
        .cmd("SCRIPT")
        .arg("LOAD")
        .arg(SCRIPT)
        .query_async(&mut connection)
        .await?;
    let key = <[u8; 16]>::try_from(key)
        .map_err(|_| std::io::Error::other(format!("{name} is not what this program wrote")))?;
    // Not everybody may ask; then nobody can be warned.
    let mut asks = redis::cmd("CONFIG");
    asks.arg("GET").arg("maxmemory-policy");
    let policy = asks.query_async::<Vec<String>>(&mut connection).await.unwrap_or_default();
    let evicts = policy.into_iter().nth(1).filter(|policy| policy != "noeviction");
    let key = DigestKey::new(key);
    let script = Arc::new(Script::new(sha, name, key));
    let up = Up { connection, script, key, generation: 0 };
    Ok((up, evicts.map(Into::into)))
}

/// Whether Redis still has the last commit that it confirmed: after a restart it may have gone back.
async fn has_confirmed(shared: &Shared, up: &Up, memory: &Memory) -> Result<bool, String> {
    let Some((organization, number)) = &memory.confirmed else { return Ok(true) };
    let mark = Keys::new(shared.settings.prefix(), organization).mark(shared.settings.node());
    let mut asks = redis::cmd("HMGET");
    asks.arg(mark).arg("s").arg("n");
    let (start, found): (Option<String>, Option<u64>) =
        asks.query_async(&mut up.connection.clone()).await.map_err(|error| told(&error))?;
    Ok(start.as_deref() == Some(&*shared.start) && found >= Some(*number))
}

/// Keeps a connection busy until it is lost.
async fn serve(
    shared: &Shared,
    up: &Up,
    history: &Arc<dyn History>,
    memory: &mut Memory,
) -> Result<(), Unavailable> {
    let period = (shared.settings.lease / 3).clamp(Duration::from_millis(20), LOOK);
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.wake.notified() => {}
            _ = tick.tick() => {
                look(shared, up).await?;
                renew(shared, up).await?;
            }
        }
        if shared.state().link.generation() != up.generation {
            return Ok(());
        }
        flush(shared, up, memory).await?;
        if shared.state().outbox.has_overflowed() {
            let told = tell_history(shared, up, history).await;
            told.map_err(|because| shared.failed(up.generation, &because))?;
        }
    }
}

/// How often it is looked at whether Redis is still the same, at least.
const LOOK: Duration = Duration::from_secs(5);

async fn look(shared: &Shared, up: &Up) -> Result<(), Unavailable> {
    let mut asks = redis::cmd("GET");
    asks.arg(keys::digest_key(shared.settings.prefix()));
    let failed = |because: &str| shared.failed(up.generation, because);
    let key: Option<Vec<u8>> = asks
        .query_async(&mut up.connection.clone())
        .await
        .map_err(|error| failed(&told(&error)))?;
    match key.as_deref() == Some(up.key.octets()) {
        true => Ok(()),
        false => Err(failed("it was emptied")),
    }
}

/// Renews the leases of messages that have been under way for long.
async fn renew(shared: &Shared, up: &Up) -> Result<(), Unavailable> {
    let (now, lease) = (shared.now(), shared.settings.lease);
    let mut due: HashMap<Arc<str>, Vec<String>> = HashMap::new();
    for (id, open) in &mut shared.state().open {
        if now.since(open.renewed) >= lease / 3 {
            open.renewed = now;
            due.entry(Arc::clone(&open.organization)).or_default().push(shared.id_of(*id));
        }
    }
    for (organization, ids) in due {
        let keys = Keys::new(shared.settings.prefix(), &organization);
        for ids in ids.chunks(TOGETHER) {
            shared.ask(up, &Call::renew(&keys, Now::OfRedis, lease, ids)).await?;
        }
    }
    Ok(())
}

/// Tells what waits, in its order.
async fn flush(shared: &Shared, up: &Up, memory: &mut Memory) -> Result<(), Unavailable> {
    loop {
        let jobs = shared.state().outbox.next(TOGETHER);
        if jobs.is_empty() {
            return Ok(());
        }
        let (mut pipeline, mut last) = (Pipeline::with_capacity(jobs.len()), None);
        for sending in &jobs {
            let job = &sending.job;
            let subject = &job.subject;
            let keys = Keys::new(shared.settings.prefix(), &subject.organization);
            let id = shared.id_of(job.id);
            let call = match &job.task {
                Task::Commit { at, recipients } => {
                    last = Some((Arc::clone(&subject.organization), sending.number));
                    commit(shared, up, &keys, &id, (sending.number, *at), subject, recipients)
                }
                Task::Release { recipients } => {
                    let digests = digests(up.key, recipients);
                    Call::release(&keys, Now::OfRedis, &id, &digests)
                }
            };
            pipeline.add_command(call.command(&up.script));
        }
        let asked = pipeline.query_async::<Vec<Value>>(&mut up.connection.clone()).await;
        asked.map_err(|error| shared.failed(up.generation, &told(&error)))?;
        let mut state = shared.state();
        state.outbox.done(jobs.len());
        let waiting = state.outbox.len();
        drop(state);
        shared.waiting.send_replace(waiting);
        if last.is_some() {
            memory.confirmed = last;
        }
    }
}

fn commit(
    shared: &Shared,
    up: &Up,
    keys: &Keys,
    id: &str,
    (number, at): (u64, Timestamp),
    subject: &QuotaSubject,
    recipients: &[Mailbox],
) -> Call {
    let age = shared.now().since(at);
    // What is counted at once is counted now, whatever the clocks' grain.
    let age = if age < Duration::from_secs(1) { Duration::ZERO } else { age };
    let counters = counter::of_subject(keys, up.key, subject);
    let digests = digests(up.key, recipients);
    let digest = up.key.of_commit(subject, &digests);
    let order = Order { start: &shared.start, number, at, age, digest };
    Call::commit(keys, shared.settings.node(), Now::OfRedis, id, &order, &counters, &digests)
}

/// What the script is told of recipients.
pub(crate) fn digests(key: DigestKey, recipients: &[Mailbox]) -> Vec<Digest> {
    recipients.iter().map(|recipient| key.of(recipient)).collect()
}

/// Tells Redis whatever this node accepted in the last day and Redis does not have.
///
/// Commits made at nearly one moment reach the journal in another order than Redis, so the last of them that
/// it has does not say which others; those it knows by name.
async fn tell_history(shared: &Shared, up: &Up, history: &Arc<dyn History>) -> Result<(), String> {
    let now = shared.now();
    let waiting = shared.state().outbox.begin_history();
    let remember = waiting.unwrap_or(now).before(JOURNALING);
    let mut done = Told::until(now);
    let (send, mut commits) = mpsc::channel(4 * TOGETHER);
    let history = Arc::clone(history);
    let reading = tokio::task::spawn_blocking(move || {
        history.since(now.before(DAY), &mut |commit: QuotaCommit| {
            commit.at > now || send.blocking_send(commit).is_ok()
        })
    });
    let mut marks: HashMap<Arc<str>, Mark> = HashMap::new();
    let mut together = Vec::with_capacity(TOGETHER);
    while commits.recv_many(&mut together, TOGETHER).await > 0 {
        let mut pipeline = Pipeline::new();
        for commit in together.drain(..) {
            let keys = Keys::new(shared.settings.prefix(), &commit.organization);
            if !marks.contains_key(&commit.organization) {
                let found = mark(shared, up, &keys).await?;
                marks.insert(Arc::clone(&commit.organization), found);
            }
            let subject = subject_of(&commit);
            let digest = || up.key.of_commit(&subject, &digests(up.key, &commit.recipients));
            let mark = marks.entry(Arc::clone(&commit.organization)).or_default();
            if mark.has(commit.at, digest) || commit.recipients.is_empty() {
                continue;
            }
            if commit.at >= remember {
                done.add(&commit);
            }
            let id = shared.id_of(shared.next_id());
            let order = (shared.state().outbox.number(), commit.at);
            let call = self::commit(shared, up, &keys, &id, order, &subject, &commit.recipients);
            pipeline.add_command(call.command(&up.script));
        }
        if pipeline.is_empty() {
            continue;
        }
        let asked = pipeline.query_async::<Vec<Value>>(&mut up.connection.clone()).await;
        asked.map_err(|error| told(&error))?;
    }
    reading.await.map_err(|error| error.to_string())??;
    let mut state = shared.state();
    state.outbox.retain(|job| job.commit().is_none_or(|commit| !done.has(&commit)));
    state.told = done;
    Ok(())
}

/// Whom a commit of the history counts for. What is counted does not depend on what is allowed.
fn subject_of(commit: &QuotaCommit) -> QuotaSubject {
    let limits = Limits {
        recipients_per_day: 0,
        recipients_per_10_minutes: 0,
        messages_per_user_per_day: 0,
        unique_recipients_per_user_per_day: 0,
        recipients_per_login_per_day: commit.login.as_ref().map(|_| 0),
        recipients_per_client_per_day: commit.client.map(|_| 0),
        mode: LimitMode::Enforce,
    };
    QuotaSubject {
        organization: Arc::clone(&commit.organization),
        user: commit.user.clone(),
        limits,
        login: commit.login.clone(),
        client: commit.client,
    }
}

/// What Redis has of what this node accepted for an organization.
async fn mark(shared: &Shared, up: &Up, keys: &Keys) -> Result<Mark, String> {
    let node = shared.settings.node();
    let (last, names): (Option<u64>, Vec<(String, u64)>) = Pipeline::new()
        .cmd("HGET")
        .arg(keys.mark(node))
        .arg("a")
        .cmd("ZRANGE")
        .arg(keys.told(node))
        .arg(&[0, -1])
        .arg("WITHSCORES")
        .query_async(&mut up.connection.clone())
        .await
        .map_err(|error| told(&error))?;
    Ok(Mark::new(last.map(Timestamp::from_millis), &names))
}
