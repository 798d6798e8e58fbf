//! What is to be found out.

use std::net::IpAddr;

use waypost_types::{Domain, ReversePath};

use crate::result::{Authentication, Dmarc, DmarcResult, Identity, MAX_AUTHORS, Spf, SpfResult};

/// What is to be found out about a message, for one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address to ask SPF about; `None`: no check is due.
    pub checked: Option<IpAddr>,
    /// The argument of HELO, as given.
    pub helo: Option<Box<str>>,
    /// The sender of MAIL.
    pub sender: ReversePath,
    /// The domains in `From:`, each once.
    pub authors: Vec<Domain>,
    /// Our own name.
    pub receiver: Domain,
}

impl Question {
    /// Whose domain SPF is asked about, and which: that of the sender, or for the null sender that of
    /// HELO (RFC 7208 section 2.4). `None`: there is none, as for an address literal.
    #[must_use]
    pub fn identity(&self) -> (Identity, Option<Domain>) {
        match &self.sender {
            ReversePath::Mailbox(mailbox) => (Identity::MailFrom, mailbox.domain().cloned()),
            ReversePath::Null => {
                (Identity::Helo, self.helo.as_deref().and_then(|helo| helo.parse().ok()))
            }
        }
    }

    /// Whether `From:` names more domains than are asked about.
    #[must_use]
    pub fn has_too_many_authors(&self) -> bool {
        self.authors.len() > MAX_AUTHORS
    }

    /// The answer where nothing can be found out now.
    #[must_use]
    pub fn unanswered(&self) -> Authentication {
        let (identity, domain) = self.identity();
        let spf = match (self.checked, &domain) {
            (Some(_), Some(_)) => SpfResult::TempError,
            _ => SpfResult::None,
        };
        let dmarc = match self.authors.first() {
            None => Dmarc::new(DmarcResult::None, None),
            Some(_) if self.has_too_many_authors() => Dmarc::of_too_many_authors(),
            Some(author) => Dmarc::new(DmarcResult::TempError, Some(author.clone())),
        };
        Authentication {
            checked: self.checked,
            spf: Spf::new(spf, identity, domain.as_ref().map(Domain::as_str)),
            dkim: Vec::new(),
            dmarc,
        }
    }
}
