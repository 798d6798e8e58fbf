//! Where requests are answered, from a socket or for a spool that no server has open.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};
use waypost_queue::{
    DeliveryState, DeliveryStatus, Event, Queue, QueueChange, QueueCommand, QueueError, Record,
    RetryScope, Site, Status,
};
use waypost_types::{Destination, QueueId, RouteName};

use super::answer::{Answer, AuditLine, Audited, Change, Changed, End, Message, Shown};
use super::quotas;
use super::reload::{ReloadAnswer, ReloadRequest, ReloadRequests};
use super::request::{Request, State};
use crate::core::Core;
use crate::delivery::Deliverer;
use crate::held::counted_past_limits;

/// Messages whose waiting deliveries are made due with one lock of the queue.
const RETRIED_AT_ONCE: usize = 256;
/// Lines of the audit log in one read.
const AUDIT_PAGE: usize = 256;
/// Reload requests that may wait.
const RELOADS: usize = 16;

const NO_SERVER_RETRY: &str =
    "no server runs, so nothing can be tried now; `waypost serve` tries what is due when it starts";
const NO_SERVER_RELOAD: &str =
    "no server runs; `waypost serve` reads the configuration when it starts";

/// Answers requests.
pub(crate) struct Desk {
    pub(super) core: Arc<Core>,
    /// `None` where no server runs.
    pub(super) deliverer: Option<Arc<Deliverer>>,
    reloads: OnceLock<mpsc::Sender<ReloadRequest>>,
}

/// Who asked is gone.
struct Gone;

/// A command about one message.
#[derive(Clone, Copy)]
enum Command {
    Hold,
    Release,
    Remove,
}

impl Command {
    /// Whether it does something to a delivery in a state.
    fn touches(self, state: State) -> bool {
        match self {
            Self::Hold => matches!(state, State::Waiting | State::Ready),
            Self::Release => state == State::Held,
            Self::Remove => state.is_open(),
        }
    }
}

/// Where answers go.
type Out = mpsc::Sender<Answer>;

impl Desk {
    pub(crate) fn new(core: Arc<Core>, deliverer: Option<Arc<Deliverer>>) -> Self {
        Self { core, deliverer, reloads: OnceLock::new() }
    }

    /// The requests for reloads; the first caller gets them.
    pub(crate) fn reload_requests(&self) -> ReloadRequests {
        let (sender, receiver) = mpsc::channel(RELOADS);
        // For a second caller the sender is dropped here, and his requests are over.
        let _ = self.reloads.set(sender);
        ReloadRequests(receiver)
    }

    /// Answers a request: its lines go `out`, and the end is returned. Stops early when nobody reads.
    pub(crate) async fn answer(&self, request: Request, who: &str, out: &Out) -> End {
        let done = |count: Result<u64, Gone>| End::Done { count: count.unwrap_or_default() };
        match request {
            Request::List { route, state } => done(self.list(route.as_ref(), state, out).await),
            Request::Show { id } => self.show(id, out).await,
            Request::Hold { id } => self.change(Command::Hold, id, who, out).await,
            Request::Release { id } => self.change(Command::Release, id, who, out).await,
            Request::Remove { id } => self.change(Command::Remove, id, who, out).await,
            Request::Retry { scope } => self.retry(scope, who, out).await,
            Request::Reload => self.reload(who, out).await,
            Request::Audit => self.audit(out).await,
            Request::Quota { of } => self.quota(of.as_deref(), out).await,
        }
    }

    async fn list(
        &self,
        route: Option<&RouteName>,
        state: Option<State>,
        out: &Out,
    ) -> Result<u64, Gone> {
        // What comes in meanwhile is not listed, or a busy server's list would not end.
        let end = self.core.spool.next_id();
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self.core.spool.page(after);
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.entry.id);
            for status in page {
                if status.entry.id > end {
                    return Ok(count);
                }
                if self.fits(&status, route, state) {
                    count += 1;
                    tell(out, Answer::Message(Box::new(Message::of(&status)))).await?;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn fits(&self, status: &Status, route: Option<&RouteName>, state: Option<State>) -> bool {
        let deliveries = status.entry.deliveries.iter().zip(&status.deliveries);
        let mut fitting = deliveries.filter(|(owed, now)| {
            state.is_none_or(|state| State::of(&now.state) == state)
                && route.is_none_or(|route| self.is_over(&owed.delivery.destination, route))
        });
        (route.is_none() && state.is_none()) || fitting.next().is_some()
    }

    /// Whether mail to a destination goes over a route of this name, in whichever organization.
    fn is_over(&self, destination: &Destination, name: &RouteName) -> bool {
        match destination {
            Destination::Route { route, .. } => route == name,
            Destination::Mailbox { organization } => {
                let policy = self.core.policy();
                let owner = policy.organization(organization);
                owner.and_then(|owner| owner.mailbox_route.as_ref()) == Some(name)
            }
            _ => false,
        }
    }

    async fn show(&self, id: QueueId, out: &Out) -> End {
        let Some(status) = self.core.spool.change(|queue| queue.show(id)) else {
            return no(&QueueError::Unknown(id));
        };
        let decision = match self.core.spool.entry(id).await {
            Ok(entry) => entry.and_then(|entry| serde_json::from_str(&entry.decision).ok()),
            Err(error) => {
                tracing::error!(%id, %error, "a message's decision cannot be read");
                None
            }
        };
        let entry = &status.entry;
        let now = self.now(&status, decision.as_ref()).await;
        let shown = Shown {
            now: Some(now),
            message: Message::of(&status),
            parameters: entry.parameters.clone(),
            envelopes: entry.deliveries.iter().map(|owed| owed.delivery.clone()).collect(),
            trace: entry.trace.clone(),
            decision: decision.unwrap_or(serde_json::Value::Null),
        };
        let _ = tell(out, Answer::Shown(Box::new(shown))).await;
        End::Done { count: 1 }
    }

    async fn change(&self, command: Command, id: QueueId, who: &str, out: &Out) -> End {
        let now = self.core.clock.now();
        let (before, event) = self.core.spool.change(|queue| {
            let before = queue.show(id);
            let event = match command {
                Command::Hold => queue.hold(id, who, now),
                Command::Release => queue.release(id, who, now),
                Command::Remove => queue.remove(id, who, now),
            };
            (before, event)
        });
        let Some(before) = before else { return no(&QueueError::Unknown(id)) };
        let event = match event {
            Ok(event) => event,
            Err(error) => return no(&error),
        };
        let deliveries = count(&before, |state| command.touches(State::of(state)));
        let running = count(&before, |state| *state == DeliveryState::Running);
        let (done, command) = match command {
            Command::Hold => (Change::Held, QueueCommand::Hold { id }),
            Command::Release => (Change::Released, QueueCommand::Release { id }),
            Command::Remove => {
                let sender = before.entry.sender.clone();
                (Change::Removed, QueueCommand::Remove { id, sender, owed: deliveries })
            }
        };
        tracing::info!(who, ?command, running, "the queue was changed");
        let changed = QueueChange { at: now, who: who.into(), command };
        // What was over a limit counts now, past it.
        let (counted, reserved) = match done {
            Change::Released => counted_past_limits(&self.core, &before, now).await.unzip(),
            _ => (None, None),
        };
        let mut events = vec![event, Event::QueueChanged(changed)];
        events.extend(counted.map(Event::QuotaCommitted));
        if done != Change::Held {
            self.core.held.gone(&before);
        }
        let written = self.commit(events).await;
        // The journal has the same moment, by which Redis is told of it once, and it goes all the same.
        if let Some(reserved) = reserved {
            self.core.quotas.commit(now, reserved).await;
        }
        if let Err(end) = written {
            return end;
        }
        self.core.spool.wake();
        let message = Message::of(&before);
        let changed = Changed { done, deliveries, running, message };
        let _ = tell(out, Answer::Changed(Box::new(changed))).await;
        End::Done { count: 1 }
    }

    /// Makes what waits due. Nothing of it is written but the line of the audit log: after a crash it
    /// waits for its time again.
    async fn retry(&self, scope: RetryScope, who: &str, out: &Out) -> End {
        let Some(deliverer) = &self.deliverer else {
            return End::Unusable { because: NO_SERVER_RETRY.to_owned() };
        };
        let of_scope = |site: &Site| match &scope {
            RetryScope::Route(name) => self.is_over(&site.destination, name),
            RetryScope::Message(_) | RetryScope::All => true,
        };
        let spool = &self.core.spool;
        // First, or what is due at once would meet the old pauses.
        deliverer.forget_failures();
        let (messages, told) = match &scope {
            RetryScope::Message(id) => {
                let (before, retried) = spool.change(|queue| (queue.show(*id), queue.retry(*id)));
                let Some(before) = before.filter(|_| retried.is_ok()) else {
                    return no(&QueueError::Unknown(*id));
                };
                if retried == Ok(0) {
                    return nothing_waits(&before);
                }
                (1, Some(before))
            }
            RetryScope::Route(_) | RetryScope::All => {
                let (mut after, mut messages) = (None, 0);
                loop {
                    let (last, retried) = spool.change(|queue| retry_page(queue, after, &of_scope));
                    messages += retried;
                    spool.wake();
                    if last.is_none() {
                        break;
                    }
                    after = last;
                    tokio::task::yield_now().await;
                }
                (messages, None)
            }
        };
        spool.wake();
        if let RetryScope::Route(name) = &scope
            && messages == 0
            && !self.is_configured(name)
        {
            return End::No {
                because: format!("no organization has a route `{name}`, and no mail waits for one"),
            };
        }
        tracing::info!(who, ?scope, messages, "deliveries are tried at once");
        let command = QueueCommand::Retry { scope, messages };
        let changed = QueueChange { at: self.core.clock.now(), who: who.into(), command };
        if let Err(end) = self.commit(vec![Event::QueueChanged(changed)]).await {
            return end;
        }
        if let Some(before) = told {
            let waiting = |state: &DeliveryState| {
                matches!(state, DeliveryState::Waiting { .. } | DeliveryState::Ready)
            };
            let changed = Changed {
                done: Change::Retried,
                deliveries: count(&before, waiting),
                running: count(&before, |state| *state == DeliveryState::Running),
                message: Message::of(&before),
            };
            let _ = tell(out, Answer::Changed(Box::new(changed))).await;
        }
        End::Done { count: messages }
    }

    fn is_configured(&self, name: &RouteName) -> bool {
        let policy = self.core.policy();
        policy.organizations().iter().any(|one| one.routes.contains_key(name))
    }

    /// Writes down what was done, synced. A store that fails keeps it for when it is open again: the
    /// queue in memory has changed already.
    async fn commit(&self, events: Vec<Event>) -> Result<(), End> {
        let record = Record::from(events);
        match self.core.spool.commit(record.clone()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "an administrator's command is not on disk yet");
                let because = match self.core.spool.commit_lazily(record).await {
                    Ok(()) => format!(
                        "it is done, but not on disk yet: {error}; it is written as soon as the \
                         store works, and lost if the server ends before that"
                    ),
                    Err(error) => format!("it is not on disk: {error}; repeat it"),
                };
                Err(End::Unusable { because })
            }
        }
    }

    async fn reload(&self, who: &str, out: &Out) -> End {
        let unusable = |because: &str| End::Unusable { because: because.to_owned() };
        let Some(reloads) = self.reloads.get() else {
            return unusable(match self.deliverer {
                Some(_) => "this server takes no requests for a reload; restart it",
                None => NO_SERVER_RELOAD,
            });
        };
        let (answer, answered) = oneshot::channel();
        let ending = "the server is ending; nothing was reloaded";
        if reloads.send(ReloadRequest { who: who.to_owned(), answer }).await.is_err() {
            return unusable(ending);
        }
        match answered.await {
            Ok(ReloadAnswer::InForce { version }) => {
                let _ = tell(out, Answer::Reloaded { version }).await;
                End::Done { count: 1 }
            }
            Ok(ReloadAnswer::Refused { text, report }) => End::NotReloaded { text, report },
            Err(_) => unusable(ending),
        }
    }

    async fn audit(&self, out: &Out) -> End {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = match self.core.spool.audit(after, AUDIT_PAGE).await {
                Ok(page) => page,
                Err(error) => return End::Unusable { because: error.to_string() },
            };
            let Some((last, _)) = page.last() else { return End::Done { count } };
            after = Some(*last);
            for line in page.into_iter().filter_map(|(_, event)| audit_line(event)) {
                count += 1;
                if tell(out, Answer::Audited(Box::new(line))).await.is_err() {
                    return End::Done { count };
                }
            }
        }
    }

    async fn quota(&self, of: Option<&str>, out: &Out) -> End {
        let policy = self.core.policy();
        let subjects = match quotas::subjects(&policy, of) {
            Ok(subjects) => subjects,
            Err(because) => return End::No { because },
        };
        let mut count = 0;
        for subject in subjects {
            let now = self.core.clock.now();
            let lines = quotas::lines(&policy, &self.core.quotas, now, &subject).await;
            for line in lines {
                count += 1;
                if tell(out, Answer::Quota(Box::new(line))).await.is_err() {
                    return End::Done { count };
                }
            }
        }
        End::Done { count }
    }
}

async fn tell(out: &Out, answer: Answer) -> Result<(), Gone> {
    out.send(answer).await.map_err(|_| Gone)
}

fn no(error: &QueueError) -> End {
    End::No { because: error.to_string() }
}

/// Why a message has nothing to be tried again.
fn nothing_waits(status: &Status) -> End {
    let is_held = |one: &DeliveryStatus| matches!(one.state, DeliveryState::Held(_));
    let because = match status.deliveries.iter().any(is_held) {
        true => "it is held; release it",
        false => "it is being delivered now",
    };
    End::No { because: format!("nothing of message {} waits: {because}", status.entry.id) }
}

fn count(status: &Status, which: impl Fn(&DeliveryState) -> bool) -> u32 {
    let count = status.deliveries.iter().filter(|delivery| which(&delivery.state)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Retries some messages; the last one looked at, and of how many something is tried now.
fn retry_page(
    queue: &mut Queue,
    after: Option<QueueId>,
    which: &impl Fn(&Site) -> bool,
) -> (Option<QueueId>, u64) {
    let page = queue.list_after(after).take(RETRIED_AT_ONCE).map(|status| status.entry.id);
    let page: Vec<QueueId> = page.collect();
    let mut retried = 0;
    for id in &page {
        if queue.retry_if(*id, which).is_ok_and(|groups| groups > 0) {
            retried += 1;
        }
    }
    (page.last().copied(), retried)
}

fn audit_line(event: Event) -> Option<AuditLine> {
    match event {
        Event::ConfigChanged(change) => Some(AuditLine {
            at: change.at,
            who: change.who,
            what: Audited::Configuration {
                version: change.version,
                change: change.what,
                from: change.from,
                outcome: change.outcome,
                lines: change.lines,
            },
        }),
        Event::QueueChanged(change) => {
            let QueueChange { at, who, command } = change;
            Some(AuditLine { at, who, what: Audited::Queue(command) })
        }
        _ => None,
    }
}
