//! Requests to read the configuration anew, which the program that runs the server carries out.

use tokio::sync::{mpsc, oneshot};

/// The requests for a reload, as they come: the program loads the configuration, gives it to
/// [`Server::reload`](crate::Server::reload), and says what came of it.
#[derive(Debug)]
pub struct ReloadRequests(pub(crate) mpsc::Receiver<ReloadRequest>);

impl ReloadRequests {
    /// The next one; `None` when there will be none.
    pub async fn next(&mut self) -> Option<ReloadRequest> {
        self.0.recv().await
    }
}

/// One request for a reload. Dropped without an answer, it is refused.
#[derive(Debug)]
pub struct ReloadRequest {
    pub(crate) who: String,
    pub(crate) answer: oneshot::Sender<ReloadAnswer>,
}

impl ReloadRequest {
    /// Who asks, for the audit log.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Says what came of it.
    pub fn answer(self, answer: ReloadAnswer) {
        // Who asked may be gone; what was done stays done.
        let _ = self.answer.send(answer);
    }
}

/// What came of a reload.
#[derive(Clone, Debug)]
pub enum ReloadAnswer {
    /// The configuration is in force.
    InForce {
        /// Its version.
        version: String,
    },
    /// It is not; the one before it is.
    Refused {
        /// What is wrong, for people: all of it.
        text: String,
        /// The same for programs.
        report: serde_json::Value,
    },
}
