//! A sender who is relayed: for whom, as whom, and why.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use waypost_types::{Domain, Mailbox, Reply, ReversePath};

use crate::quota::QuotaSubject;
use crate::refusal::RefusalReason;
use crate::relay_entry::CopyTo;

/// A sender is relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The description of the entry that admits.
    pub entry: Arc<str>,
    /// The envelope sender to go on with: the one given, or `postmaster@DOMAIN` (D8).
    pub sender: ReversePath,
    /// The envelope sender as given in MAIL.
    pub original_sender: ReversePath,
    /// What the message's recipients count for: the organization and, if the sender as given is a
    /// registered user, that user by primary address (D10, D11). Goes to [`Ledger::begin`].
    ///
    /// [`Ledger::begin`]: crate::Ledger::begin
    pub quota: QuotaSubject,
    /// Where a copy goes (D16).
    pub copy_to: Option<CopyTo>,
    /// The proofs.
    pub because: Because,
    /// What observed entries would have refused (O6).
    pub observed: Vec<ObservedRefusal>,
}

/// The proofs that an entry found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// The user that AUTH proved, where the entry asks for AUTH.
    pub auth: Option<Mailbox>,
    /// The listed range that holds the client's address, with its description, where the entry
    /// lists any.
    pub address: Option<(IpNet, Box<str>)>,
    /// Who the organization was known by (D2, D7).
    pub identity: Identity,
}

/// How the sender belongs to the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The sender is an address or alias of this active user, shown by primary address.
    User(Mailbox),
    /// The sender is in or below this verified domain.
    Domain(Domain),
    /// The sender is foreign or empty; the user that AUTH proved is in or below this domain (D7).
    Auth(Domain),
    /// The sender is foreign or empty; HELO or EHLO is in or below this domain (D7).
    Helo(Domain),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(auth) = &self.auth {
            write!(f, "authenticated as {auth}, ")?;
        }
        match &self.address {
            Some((range, description)) if description.is_empty() => write!(f, "from {range}, ")?,
            Some((range, description)) => write!(f, "from {range} ({description}), ")?,
            None => {}
        }
        match &self.identity {
            Identity::User(user) => write!(f, "sender is the user {user}"),
            Identity::Domain(domain) => write!(f, "sender is in {domain}"),
            Identity::Auth(domain) => write!(f, "known as {domain} by AUTH"),
            Identity::Helo(domain) => write!(f, "known as {domain} by HELO"),
        }
    }
}

/// What an entry in observe mode would have refused (O6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRefusal {
    /// The organization of the entry.
    pub organization: Arc<str>,
    /// The description of the entry.
    pub entry: Arc<str>,
    /// Why it would have refused.
    pub because: RefusalReason,
}

/// Whether a transaction of `sender` with `accepted` recipients may have one more: a null sender may
/// have one in all (D9), any other `most` (D14).
///
/// # Errors
/// The reply `452 4.5.3`; the recipients before stand.
pub fn at_recipient(sender: &ReversePath, accepted: usize, most: usize) -> Result<(), Reply> {
    if sender.is_null() && accepted >= 1 {
        return Err(Reply::new(
            452,
            (4, 5, 3),
            "An empty envelope sender may have one recipient only; send to the others one by one (D9)",
        ));
    }
    if accepted >= most {
        // In the words of `waypost-smtp`, which answers before this where both have one limit.
        let text = format!(
            "No more than {most} recipients at once; send the rest in another transaction (RFC 5321 section 4.5.3.1.10)"
        );
        return Err(Reply::new(452, (4, 5, 3), &text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_of_a_transaction_d9_d14() {
        for (sender, accepted, most, want) in [
            ("<>", 0, 1000, None),
            ("<>", 1, 1000, Some("(D9)")),
            ("<>", 0, 0, Some("4.5.3.1.10")),
            ("a@b.example", 1, 1000, None),
            ("a@b.example", 100, 1000, None),
            ("a@b.example", 999, 1000, None),
            ("a@b.example", 1000, 1000, Some("4.5.3.1.10")),
        ] {
            let got = at_recipient(&sender.parse().unwrap(), accepted, most);
            match (got, want) {
                (Ok(()), None) => {}
                (Err(reply), Some(rule)) => {
                    assert!(reply.to_string().starts_with("452 4.5.3 "), "{reply}");
                    assert!(reply.text().contains(rule), "{reply}");
                }
                (got, want) => panic!("{sender} {accepted} {most}: {got:?}, not {want:?}"),
            }
        }
    }
}
