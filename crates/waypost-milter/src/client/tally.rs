//! What a filter has said so far about a message, within bounds.

use std::fmt::Write as _;

use waypost_types::Reply;

use super::Limits;
use crate::fault::Fault;
use crate::field::{HeaderEdit, excerpt};
use crate::options::Step;
use crate::response::Modification;
use crate::verdict::{FilterAction, FilterVerdict, Ignored};

#[derive(Debug)]
pub(super) struct Tally {
    limits: Limits,
    headers: Vec<HeaderEdit>,
    ignored: Vec<Ignored>,
    quarantine: Option<Box<str>>,
    text: usize,
    body: Option<u64>,
    progress: u32,
    refused: usize,
}

impl Tally {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            headers: Vec::new(),
            ignored: Vec::new(),
            quarantine: None,
            text: 0,
            body: None,
            progress: 0,
            refused: 0,
        }
    }

    pub(super) fn progress(&mut self) -> Result<(), Fault> {
        self.progress += 1;
        if self.progress > self.limits.progress {
            let limit = self.limits.progress.into();
            return Err(Fault::TooMuch { what: "answers `progress`", limit });
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, nth: usize, reply: Reply) -> Result<(), Fault> {
        self.refused += 1;
        self.ignore(Ignored::RefuseRecipient { nth, reply })
    }

    pub(super) fn refused_recipients(&self) -> usize {
        self.refused
    }

    pub(super) fn take(&mut self, wanted: Modification) -> Result<(), Fault> {
        match wanted {
            Modification::Header(edit) => {
                let value = edit.value().map_or(0, |value| value.as_str().len());
                self.count(edit.name().as_str().len() + value)?;
                self.headers.push(edit);
                Ok(())
            }
            Modification::Body(piece) => {
                let octets = self.body.unwrap_or(0).saturating_add(piece.len() as u64);
                if octets > self.limits.body {
                    let limit = self.limits.body;
                    return Err(Fault::TooMuch { what: "octets of another body", limit });
                }
                self.body = Some(octets);
                Ok(())
            }
            Modification::AddRecipient { address, .. } => {
                self.ignore(Ignored::AddRecipient(address))
            }
            Modification::DeleteRecipient(address) => {
                self.ignore(Ignored::DeleteRecipient(address))
            }
            Modification::ChangeSender { address, .. } => {
                self.ignore(Ignored::ChangeSender(address))
            }
            Modification::Quarantine(reason) => {
                self.count(reason.len())?;
                let reason =
                    if reason.is_empty() { "the filter gives no reason".into() } else { reason };
                self.quarantine = Some(reason);
                Ok(())
            }
        }
    }

    fn ignore(&mut self, ignored: Ignored) -> Result<(), Fault> {
        self.count(match &ignored {
            Ignored::AddRecipient(text)
            | Ignored::DeleteRecipient(text)
            | Ignored::ChangeSender(text)
            | Ignored::Quarantine(text) => text.len(),
            Ignored::RefuseRecipient { reply, .. } => reply.text().len(),
            Ignored::Body(_) => 0,
        })?;
        self.ignored.push(ignored);
        Ok(())
    }

    fn count(&mut self, octets: usize) -> Result<(), Fault> {
        self.text = self.text.saturating_add(octets);
        if self.headers.len() + self.ignored.len() >= self.limits.modifications {
            let limit = self.limits.modifications as u64;
            return Err(Fault::TooMuch { what: "changes to one message", limit });
        }
        if self.text > self.limits.text {
            let limit = self.limits.text as u64;
            return Err(Fault::TooMuch { what: "octets of changes to one message", limit });
        }
        Ok(())
    }

    /// The verdict, once the filter has answered to the last step.
    pub(super) fn verdict(
        mut self,
        step: Step,
        answer: &'static str,
        action: FilterAction,
    ) -> FilterVerdict {
        if let Some(octets) = self.body {
            self.ignored.push(Ignored::Body(octets));
        }
        let action = match (action, self.quarantine) {
            (FilterAction::Accept, Some(reason)) => FilterAction::Quarantine(reason),
            (action, Some(reason)) => {
                self.ignored.push(Ignored::Quarantine(reason));
                action
            }
            (action, None) => action,
        };
        let mut reason = format!("the filter answered `{answer}` to {step}");
        if let FilterAction::Reject(reply) | FilterAction::TempFail(reply) = &action {
            // Writing to a String cannot fail.
            let _ = write!(reason, ": {}", excerpt(&reply.to_string()));
        }
        if let FilterAction::Quarantine(why) = &action {
            let _ = write!(reason, ", quarantine: {}", excerpt(why));
        }
        let mut verdict = FilterVerdict::new(action, "");
        verdict.headers = self.headers;
        verdict.ignored = self.ignored;
        for edit in verdict.telling().take(MAX_TOLD) {
            let value = edit.value().map(|value| excerpt(&value.unfolded())).unwrap_or_default();
            let _ = write!(reason, "; {}: {value}", edit.name());
        }
        verdict.reason = reason.into();
        verdict
    }
}

/// Fields that a reason names.
const MAX_TOLD: usize = 8;
