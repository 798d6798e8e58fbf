//! Due work is handed to deliverers, and what came of it to the spool.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use waypost_config::policy::{Organization, Policy};
use waypost_queue::{Entry, Work};
use waypost_types::{
    Delivery, Destination, HeaderBlock, ListenerRole, Mailbox, Recipient, ReversePath, Session,
    TlsState,
};

use crate::core::Core;
use crate::delivery::Deliverer;
use crate::schedule::schedule;
use crate::spool::Notices;

/// Hands due works to deliverers, as many at a time as the queue gives, until it is told to stop.
pub(super) async fn dispatch(
    core: Arc<Core>,
    deliverer: Arc<Deliverer>,
    mut stop: watch::Receiver<bool>,
) {
    let mut running = JoinSet::new();
    let mut sweep = tokio::time::interval(Duration::from_secs(5));
    let mut forget = tokio::time::interval(Duration::from_secs(3600));
    loop {
        while !*stop.borrow()
            && let Some(work) = core.spool.take()
        {
            running.spawn(deliver(Arc::clone(&core), Arc::clone(&deliverer), work));
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = core.spool.ready() => {}
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a delivery ended abnormally");
                }
            }
            _ = forget.tick() => {
                let core = Arc::clone(&core);
                tokio::spawn(async move { core.spool.forget_quota().await });
            }
            _ = sweep.tick() => {
                deliverer.sweep();
                core.quotas.prune_some(core.clock.now());
            }
        }
    }
    while running.join_next().await.is_some() {}
}

/// Does one work, and writes down what came of it.
async fn deliver(core: Arc<Core>, deliverer: Arc<Deliverer>, work: Work) {
    let done = deliverer.deliver(&work).await;
    let policy = core.policy();
    let entry = Arc::clone(&work.entry);
    let destination = |to: &Mailbox| notice_destination(&policy, &entry, to);
    let notices = Notices { hostname: &policy.server.hostname, destination: &destination };
    let schedule = schedule(&policy, &work.site);
    match done {
        Ok(results) => core.spool.finished(work, results, &schedule, &notices).await,
        Err(resting) => core.spool.postponed(work, resting, &schedule, &notices).await,
    }
}

/// Where a notice to a sender goes: for one of ours where the policy sends mail for it, so that a
/// split delivery holds for notices too; for others the outbound way of the organization that the
/// message was for, by setting or rule.
fn notice_destination(policy: &Policy, entry: &Entry, to: &Mailbox) -> Option<Destination> {
    if policy.receiving(to).is_none() {
        let owner = entry.deliveries.iter().find_map(|owed| owner(policy, &owed.delivery));
        return Some(owner.map_or(Destination::Mx, |owner| owner.notice_destination(to)));
    }
    let session = Session {
        client_ip: Ipv4Addr::LOCALHOST.into(),
        role: ListenerRole::Mx,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    };
    let transaction = policy.at_mail(&session, &ReversePath::Null).ok()?;
    let header = format!("From: <MAILER-DAEMON@{}>\r\n\r\n", policy.server.hostname);
    let header = HeaderBlock::of(header.as_bytes());
    let decision = policy.at_data(&transaction, &[Recipient::from(to.clone())], &header);
    decision.deliveries.into_iter().next().map(|decided| decided.delivery.destination)
}

fn owner<'p>(policy: &'p Policy, delivery: &Delivery) -> Option<&'p Organization> {
    match &delivery.destination {
        Destination::Mailbox { organization } | Destination::Route { organization, .. } => {
            policy.organization(organization)
        }
        _ => policy.receiving(&delivery.original_recipient),
    }
}
