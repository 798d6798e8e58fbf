//! What a mail server is told so that a message becomes what `serve` would send.

use waypost_config::policy::Decision;
use waypost_milter::{Actions, MAX_PIECE, Modification, Response, Rewrite};
use waypost_mime::{Attachment, HeaderText};
use waypost_queue::Body;
use waypost_smtp::end_of_data::unstuff;
use waypost_types::{Changes, HeaderBlock};

use crate::changes::sent;
use crate::session::stamps;

/// Stands for the mail server's own trace line, which no milter sees: results of ours go above it, other
/// lines below.
const OWN: &str = "Received: own\r\n";

/// Changes to a message, to be told.
pub(super) struct Changed {
    /// Fields, and then the body.
    pub(super) answers: Vec<Response>,
    /// What could not be told.
    pub(super) left: Vec<Box<str>>,
    /// What is not in it any more.
    pub(super) removed: Vec<Attachment>,
}

/// What makes of a message, as it was gathered, what `serve` would send: `edited` is the message with
/// the filter's own edits and without forged lines. Both are dot-stuffed. Time: linear.
pub(super) fn changed(
    message: &Body,
    edited: &Body,
    decision: &Decision,
    changes: &Changes,
    text: HeaderText,
    may: Actions,
) -> Changed {
    let top = stamps(decision) + OWN + &decision.filter_fields;
    let rules = rules(decision);
    let sent = sent(&top, edited, changes, text, &rules);
    let mut after = Vec::new();
    for piece in &sent.pieces {
        after.extend_from_slice(piece.as_bytes());
    }
    let (before, after) = ([OWN.as_bytes(), message].concat(), after);
    let rewrite = Rewrite::between(&unstuffed_header(&before), &unstuffed_header(&after));
    let mut answers: Vec<Response> = rewrite
        .edits
        .into_iter()
        .map(|edit| Response::Modify(Modification::Header(edit)))
        .collect();
    let mut left: Vec<Box<str>> = rewrite
        .left
        .iter()
        .map(|name| format!("{name} stays as it is: its text is no UTF-8").into())
        .collect();
    let body = |message: &[u8]| {
        let body = message.get(HeaderBlock::of(message).body_offset()..).unwrap_or_default();
        unstuff(body).into_owned()
    };
    if changes.remove_attachments {
        let (old, new) = (body(&before), body(&after));
        if old != new && may.has(Actions::CHANGE_BODY) {
            let pieces = new.chunks(MAX_PIECE);
            answers.extend(pieces.map(|one| Response::Modify(Modification::Body(one.to_vec()))));
        } else if old != new {
            left.push("attachments are not removed: the body may not be changed".into());
        }
    }
    Changed { answers, left, removed: sent.removed }
}

fn unstuffed_header(message: &[u8]) -> Vec<u8> {
    unstuff(HeaderBlock::of(message).as_bytes()).into_owned()
}

/// The rules that change something, each once, to be named in the place of a removed attachment.
fn rules(decision: &Decision) -> Vec<&str> {
    let mut rules: Vec<&str> = Vec::new();
    let own = decision.deliveries.iter().filter(|one| !one.is_copy);
    for rule in own.flat_map(|one| &one.because) {
        if !rules.contains(&&**rule) {
            rules.push(rule);
        }
    }
    rules
}
