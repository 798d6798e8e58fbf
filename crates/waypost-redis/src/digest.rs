//! Addresses as 128 bits, the same on every node.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};
use waypost_relay::QuotaSubject;
use waypost_types::Mailbox;

/// The key of the digests; all nodes have the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DigestKey([u8; 16]);

/// An address: two with one digest will not be met, and nobody without the key can make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u128);

impl DigestKey {
    pub(crate) fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The digest of an address, whose local part counts without case, as mailboxes are compared.
    pub(crate) fn of(self, mailbox: &Mailbox) -> Digest {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        let local_part = mailbox.local_part();
        if local_part.is_ascii() {
            hasher.write(local_part.to_ascii_lowercase().as_bytes());
        } else {
            let folded: String = local_part.chars().flat_map(char::to_lowercase).collect();
            hasher.write(folded.as_bytes());
        }
        hasher.write(b"@");
        hasher.write(mailbox.host().to_string().to_ascii_lowercase().as_bytes());
        Digest(hasher.finish128().as_u128())
    }
}

impl DigestKey {
    /// The digest of all that a commit counts for but its time and organization.
    pub(crate) fn of_commit(self, subject: &QuotaSubject, recipients: &[Digest]) -> Digest {
        let QuotaSubject { organization: _, user, limits: _, login, client } = subject;
        let mut hasher = SipHasher13::new_with_key(&self.0);
        for mailbox in [user, login] {
            let digest = mailbox.as_ref().map_or([0; 16], |mailbox| self.of(mailbox).octets());
            hasher.write(&digest);
        }
        let client = client.map_or_else(String::new, |client| client.to_string());
        hasher.write(client.as_bytes());
        hasher.write(b"@");
        for recipient in recipients {
            hasher.write(&recipient.octets());
        }
        Digest(hasher.finish128().as_u128())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

impl Digest {
    /// Reads what it displays as.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }

    pub(crate) fn octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_equal_have_one_digest_and_others_do_not_d10() {
        let digest = |text: &str| DigestKey::new([7; 16]).of(&text.parse().unwrap());
        for (one, other, same) in [
            ("marie@solarmora.com", "MARIE@Solarmora.COM", true),
            ("\"marie\"@solarmora.com", "marie@solarmora.com", true),
            ("Jörg@solarmora.com", "jÖRG@solarmora.com", true),
            ("a@[192.0.2.1]", "A@[192.0.2.1]", true),
            ("marie@solarmora.com", "marie@solarmora.fr", false),
            ("marie+x@solarmora.com", "marie@solarmora.com", false),
        ] {
            assert_eq!(digest(one) == digest(other), same, "{one} {other}");
        }
        // All nodes, whatever their build: these octets are part of what is stored.
        assert_eq!(digest("marie@solarmora.com").to_string(), GOLDEN);
        let other = DigestKey::new([8; 16]).of(&"marie@solarmora.com".parse().unwrap());
        assert_ne!(digest("marie@solarmora.com"), other);
    }

    const GOLDEN: &str = "9cc4a735ec9dac0958deb0b43ff3ed59";
}
