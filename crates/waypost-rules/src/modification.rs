//! What a rule changes.

use waypost_types::{Domain, HeaderLine, Mailbox, MailboxError, RouteName, TlsDemand};

/// How a recipient becomes another one (C6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientChange {
    /// The whole address.
    Address(Mailbox),
    /// The local part, the domain, or both; `None` keeps the recipient's own.
    Parts {
        /// The new local part in wire form; it was parsed once with some domain.
        local_part: Option<Box<str>>,
        /// The new domain.
        domain: Option<Domain>,
    },
}

impl RecipientChange {
    /// The recipient unchanged.
    pub const SAME: RecipientChange = RecipientChange::Parts { local_part: None, domain: None };

    /// A change of parts, with the local part checked.
    ///
    /// # Errors
    /// [`MailboxError`] when the local part could stand in no mailbox.
    pub fn parts(local_part: Option<&str>, domain: Option<Domain>) -> Result<Self, MailboxError> {
        let local_part = match local_part {
            None => None,
            Some(text) => {
                let probe = std::net::IpAddr::from([192, 0, 2, 1]);
                Some(Mailbox::new(text, probe)?.local_part().into())
            }
        };
        Ok(RecipientChange::Parts { local_part, domain })
    }

    /// The recipient after the change.
    #[must_use]
    pub fn apply(&self, recipient: &Mailbox) -> Mailbox {
        match self {
            RecipientChange::Address(address) => address.clone(),
            RecipientChange::Parts { local_part, domain } => {
                let moved = match domain {
                    Some(domain) => recipient.with_domain(domain.clone()),
                    None => recipient.clone(),
                };
                match local_part {
                    Some(local_part) => {
                        Mailbox::new(local_part, moved.host().clone()).unwrap_or(moved)
                    }
                    None => moved,
                }
            }
        }
    }
}

/// A recipient that a rule adds: dual delivery (C6).
#[derive(Clone, Debug, PartialEq)]
pub struct CopyTo {
    /// Who gets the copy, made from the recipient as it came in RCPT.
    pub recipient: RecipientChange,
    /// The route of the copy; without one it goes where mail for its recipient goes.
    pub route: Option<RouteName>,
    /// TLS demanded for the copy.
    pub tls: TlsDemand,
    /// The copy is not sent when the message is spam.
    pub no_spam: bool,
    /// A copy that fails bounces to nobody.
    pub suppress_bounces: bool,
    /// Lines added on top of the copy's header.
    pub add_headers: Vec<HeaderLine>,
    /// Put before the copy's subject.
    pub subject_prefix: Option<Box<str>>,
    /// Adds the line that names the original recipient.
    pub original_to_header: bool,
    /// Adds the line that tells the spam verdict.
    pub spam_headers: bool,
    /// Attachments are replaced by a notice.
    pub remove_attachments: bool,
}

impl Default for CopyTo {
    fn default() -> Self {
        Self {
            recipient: RecipientChange::SAME,
            route: None,
            tls: TlsDemand::Opportunistic,
            no_spam: false,
            suppress_bounces: false,
            add_headers: Vec::new(),
            subject_prefix: None,
            original_to_header: false,
            spam_headers: false,
            remove_attachments: false,
        }
    }
}

/// What a rule changes (C6). Single-valued parts that are absent change nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Modification {
    /// The route to take.
    pub route: Option<RouteName>,
    /// Whether `route` is taken for spam too (default); otherwise spam stays with the mailbox system.
    pub also_reroute_spam: bool,
    /// What onward delivery demands of TLS; `None` leaves it to farther rules.
    pub tls: Option<TlsDemand>,
    /// The new envelope recipient.
    pub replace_recipient: Option<RecipientChange>,
    /// Lines added on top of the header.
    pub add_headers: Vec<HeaderLine>,
    /// Adds the line that names the original recipient.
    pub original_to_header: bool,
    /// Adds the line that tells the spam verdict.
    pub spam_headers: bool,
    /// Put before the subject.
    pub subject_prefix: Option<Box<str>>,
    /// Clears the spam filter's verdict, never that of a gateway's tag.
    pub bypass_spam: bool,
    /// Attachments are replaced by a notice.
    pub remove_attachments: bool,
    /// A failed delivery bounces to nobody.
    pub suppress_bounces: bool,
    /// Added recipients.
    pub also_deliver_to: Vec<CopyTo>,
}

impl Default for Modification {
    fn default() -> Self {
        Self {
            route: None,
            also_reroute_spam: true,
            tls: None,
            replace_recipient: None,
            add_headers: Vec::new(),
            original_to_header: false,
            spam_headers: false,
            subject_prefix: None,
            bypass_spam: false,
            remove_attachments: false,
            suppress_bounces: false,
            also_deliver_to: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_change_by_parts_c6() {
        let marie: Mailbox = "Marie@solarmora.com".parse().unwrap();
        let legacy: Domain = "legacy.example".parse().unwrap();
        for (local_part, domain, want) in [
            (None, None, "Marie@solarmora.com"),
            (None, Some(legacy.clone()), "Marie@legacy.example"),
            (Some("office"), None, "office@solarmora.com"),
            (Some("office"), Some(legacy), "office@legacy.example"),
        ] {
            let change = RecipientChange::parts(local_part, domain).unwrap();
            assert_eq!(change.apply(&marie).to_string(), want);
        }
        assert!(RecipientChange::parts(Some("a\r\nb"), None).is_err());
        assert!(RecipientChange::parts(Some(""), None).is_err());
    }
}
