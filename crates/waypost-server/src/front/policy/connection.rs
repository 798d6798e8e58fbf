//! One connection of Postfix, over which the requests about one message come in a row.

use std::sync::Arc;

use waypost_postfix::{Action, PolicyReader, RequestError};

use super::PolicyService;
use crate::front::connection::Conversation;
use crate::front::requests;

/// One connection of Postfix, over which the requests about one message come in a row.
pub(in crate::front) struct Connection {
    service: Arc<PolicyService>,
    reader: PolicyReader,
    /// The message that was last asked about.
    current: Option<Box<str>>,
}

impl Connection {
    pub(super) fn new(service: Arc<PolicyService>) -> Self {
        Self { service, reader: PolicyReader::default(), current: None }
    }
}

impl Conversation for Connection {
    fn feed(&mut self, octets: &[u8]) {
        self.reader.feed(octets);
    }

    fn octets(&self) -> usize {
        self.reader.octets()
    }

    async fn answer(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let Some(request) = self.reader.next_request()? else { return Ok(None) };
        if self.current.as_ref() != Some(&request.instance) {
            // Over one connection of Postfix a message is over when the next one is asked about.
            let before = self.current.replace(request.instance.clone());
            before.iter().for_each(|before| self.service.ended(before));
        }
        let action = self.service.answer(request).await;
        let answer = match &action {
            Action::Dunno => "dunno",
            Action::Permit => "permitted",
            Action::Refuse(reply) if reply.code() < 500 => "later",
            Action::Refuse(_) => "refused",
            _ => "held",
        };
        requests::count(&self.service.core.metrics.front, "policy", answer);
        Ok(Some(action.to_string().into_bytes()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(current) = &self.current {
            self.service.messages().closed(current, self.service.core.clock.now());
        }
    }
}
