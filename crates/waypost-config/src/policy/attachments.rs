//! Which attachments a dry run would take out of a message (C6).

use waypost_mime::remove_attachments;

use super::Decision;
use super::explanation::{ExplainedAttachment, Explanation};

/// Fills in what each delivery would lose, and warns of what an administrator may not expect. The
/// message is looked at once, and only if a delivery asks for it.
pub(super) fn explain(message: &[u8], decision: &Decision, explanation: &mut Explanation) {
    let asks = |place: usize| {
        let decided = decision.deliveries.get(place);
        decided.is_some_and(|decided| decided.delivery.changes.remove_attachments)
    };
    if !(0..decision.deliveries.len()).any(asks) {
        return;
    }
    let removal = remove_attachments(message, &[]);
    let removed: Vec<_> = removal
        .attachments
        .iter()
        .map(|attachment| ExplainedAttachment {
            name: attachment.name.clone(),
            r#type: attachment.media.clone(),
            size: attachment.size,
            because: attachment.why.to_string(),
        })
        .collect();
    for (place, delivery) in explanation.deliveries.iter_mut().enumerate() {
        if !asks(place) {
            continue;
        }
        delivery.removed_attachments = Some(removed.clone());
        if let (true, [only]) = (removal.is_whole, removal.attachments.as_slice()) {
            delivery
                .warnings
                .push(format!("all content of the message is removed: {} (C6)", only.why));
        }
        if removal.breaks_signature {
            delivery.warnings.push(
                "the message is signed (multipart/signed), and removing a part breaks the \
                 signature (C6)"
                    .to_owned(),
            );
        }
    }
}
