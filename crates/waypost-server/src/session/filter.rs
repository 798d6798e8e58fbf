//! What a filter's answer does to the message (D17).

use waypost_config::policy::{Decision, with_edits};
use waypost_queue::Body;

/// The message with the changes that the filter may make to its own fields.
pub(crate) fn edited(decision: &Decision, body: Body) -> Body {
    if decision.filter_edits.is_empty() {
        return body;
    }
    Body::from(with_edits(body.into(), &decision.filter_edits))
}
