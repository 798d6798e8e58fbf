//! The notice to a sender whose recipients are refused while others are not.

use waypost_config::policy::{Decision, Explanation, Refused};
use waypost_queue::{Body, Entry};
use waypost_route::Draw;
use waypost_types::{HeaderBlock, MailParameters, QueueId, Recipient, ReversePath, RouteName};

use super::judge::Open;
use crate::core::Core;
use crate::session::owed_notice;

/// What the queue is to hold so that `sender` is told of the `refused` recipients of a message, and of
/// nothing else: what the mail server delivers is not owed here.
pub(super) fn notice(
    core: &Core,
    open: &Open,
    decision: &Decision,
    (sender, refused): (&ReversePath, &[Refused]),
    (body, id): (&Body, QueueId),
) -> Entry {
    let owed = refused.iter().map(|refused| {
        owed_notice(&Recipient::from(refused.recipient.clone()), sender, &refused.reply)
    });
    let draw = |route: &RouteName| Draw::new(core.draw_key, id, route);
    let mut own = decision.clone();
    own.deliveries.clear();
    own.quarantined.clear();
    let explanation = Explanation::of_taken(&open.policy, &own, &draw);
    let session = &open.transaction.session;
    let helo = session.helo.as_deref().unwrap_or("?");
    Entry {
        id,
        accepted_at: core.clock.now(),
        sender: sender.clone(),
        parameters: MailParameters::default(),
        client: format!("{helo} [{}]", session.client_ip).into(),
        trace: Box::default(),
        deliveries: owed.collect(),
        decision: serde_json::to_string(&explanation).unwrap_or_default().into(),
        size: u64::try_from(body.len()).unwrap_or(u64::MAX),
        header_size: u64::try_from(HeaderBlock::of(body).body_offset()).unwrap_or(u64::MAX),
    }
}
