//! Local parts as keyed hashes: the same address has the same one, and its domain stays.

use std::collections::HashMap;
use std::fmt::Write as _;

use siphasher::sip128::SipHasher24;
use waypost_rules::AddressMatch;
use waypost_types::{Directory as _, Mailbox};

use crate::policy::Policy;

/// A key that local parts are hashed with. `Debug` does not show it.
///
/// The hash is SipHash-2-4 with 128 bits over the address in lower case, written as 32 hexadecimal
/// digits. Whoever has the key can try addresses; without it nothing can be told but that two
/// addresses are the same.
#[derive(Clone)]
pub struct LocalPartKey([u8; 16]);

impl std::fmt::Debug for LocalPartKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalPartKey").finish_non_exhaustive()
    }
}

impl LocalPartKey {
    /// A key of 16 random octets.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// What a line says of its key, so that another one is noticed: 8 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // No address: it has no `@`.
        let (first, _) = SipHasher24::new_with_key(&self.0).hash(b"fingerprint").as_u64();
        format!("{:08x}", first >> 32)
    }

    /// The address with its local part hashed.
    #[must_use]
    pub fn hashed(&self, address: &Mailbox) -> Mailbox {
        let hidden = Mailbox::new(&digits(self.token(address)), address.host().clone());
        // 32 hexadecimal digits are a local part.
        hidden.unwrap_or_else(|_| address.clone())
    }

    /// A text with the local part of each address in it hashed. What stands before an `@` is one,
    /// even where the whole is no address.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 32);
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let (before, behind) = rest.split_at(at);
            let local = local_part_of(before);
            out.push_str(before.strip_suffix(local).unwrap_or(before));
            let domain = domain_of(behind.get(1..).unwrap_or_default());
            if !local.is_empty() {
                let token = match format!("{local}@{domain}").parse::<Mailbox>() {
                    Ok(address) => self.token(&address),
                    Err(_) => self.token_of(&format!("{local}@{domain}")),
                };
                out.push_str(&digits(token));
            }
            out.push('@');
            out.push_str(domain);
            rest = behind.get(1 + domain.len()..).unwrap_or_default();
        }
        out.push_str(rest);
        out
    }

    fn token(&self, address: &Mailbox) -> u128 {
        self.token_of(&address.to_string())
    }

    fn token_of(&self, text: &str) -> u128 {
        let folded: String = text.chars().flat_map(char::to_lowercase).collect();
        SipHasher24::new_with_key(&self.0).hash(folded.as_bytes()).as_u128()
    }
}

fn digits(token: u128) -> String {
    let mut out = String::with_capacity(32);
    // Writing to a String cannot fail.
    let _ = write!(out, "{token:032x}");
    out
}

/// The token that an address's local part is, if it can be one.
pub(super) fn token_in(address: &Mailbox) -> Option<u128> {
    let local = address.local_part();
    let plain = local.len() == 32 && local.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u128::from_str_radix(local, 16).ok()).flatten()
}

/// The local part that a text ends with.
pub(super) fn local_part_of(before: &str) -> &str {
    if let Some(inside) = before.strip_suffix('"') {
        return before.get(inside.rfind('"').unwrap_or(0)..).unwrap_or_default();
    }
    let is_in =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    before.get(before.trim_end_matches(is_in).len()..).unwrap_or_default()
}

/// The domain or address literal that a text begins with.
pub(super) fn domain_of(text: &str) -> &str {
    let end = match text.strip_prefix('[') {
        Some(literal) => literal.find(']').map_or(0, |end| end + 2),
        None => {
            let is_in = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || ".-".contains(c);
            text.find(|c| !is_in(c)).unwrap_or(text.len())
        }
    };
    text.get(..end).unwrap_or_default()
}

/// The addresses that configurations know, by their hashes: those of users, aliases, groups and
/// members, and those that rules name.
#[derive(Debug, Default)]
pub struct KnownAddresses {
    by_token: HashMap<u128, Mailbox>,
}

impl KnownAddresses {
    /// Hashes what the policies know. Time and memory are linear in that.
    #[must_use]
    pub fn of(key: &LocalPartKey, policies: &[&Policy]) -> Self {
        let mut by_token = HashMap::new();
        let mut add = |address: &Mailbox| {
            by_token.insert(key.token(address), address.clone());
        };
        for policy in policies {
            policy.each_address(&mut add);
            for organization in policy.organizations() {
                for domain in &organization.domains {
                    add(&Mailbox::postmaster(domain.clone()));
                }
                for rule in organization.rules.rules() {
                    for entry in rule.envelope.senders.iter().chain(&rule.envelope.recipients) {
                        match entry {
                            AddressMatch::Address(address) | AddressMatch::Group(address) => {
                                add(address);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        Self { by_token }
    }

    /// The address that was hashed, if it is known; else the hashed one.
    #[must_use]
    pub fn found(&self, address: Mailbox) -> Mailbox {
        let known = token_in(&address).and_then(|token| self.by_token.get(&token));
        match known.filter(|known| known.host() == address.host()) {
            Some(known) => known.clone(),
            None => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: LocalPartKey = LocalPartKey::new([7; 16]);

    fn mailbox(text: &str) -> Mailbox {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_address_has_the_same_token_and_its_domain_stays_c9() {
        let one = KEY.hashed(&mailbox("Marie.Paul@S.example"));
        assert_eq!(one, KEY.hashed(&mailbox("\"marie.PAUL\"@s.example")));
        assert_eq!(one.domain().unwrap().as_str(), "s.example");
        assert!(token_in(&one).is_some() && !one.to_string().contains("arie"));
        assert_ne!(one.local_part(), KEY.hashed(&mailbox("marie.paul@t.example")).local_part());
        let other = LocalPartKey::new([8; 16]);
        assert_ne!(one, other.hashed(&mailbox("marie.paul@s.example")));
        assert_ne!(KEY.fingerprint(), other.fingerprint());
        assert_eq!(format!("{KEY:?}"), "LocalPartKey { .. }");
    }

    #[test]
    fn every_address_in_a_text_is_hidden_c9() {
        let token = |text: &str| KEY.hashed(&mailbox(text)).to_string();
        for (text, want) in [
            ("no address", "no address".to_owned()),
            ("", String::new()),
            ("a@b.example", token("a@b.example")),
            ("for <a@b.example>; date", format!("for <{}>; date", token("a@b.example"))),
            ("x a@[192.0.2.1] y", format!("x {} y", token("a@[192.0.2.1]"))),
            (
                "\"a b\"@b.example,c@d.example",
                format!("{},{}", token("\"a b\"@b.example"), token("c@d.example")),
            ),
            ("@b.example", "@b.example".to_owned()),
        ] {
            assert_eq!(KEY.hide(text), want, "{text}");
        }
        // What is no address is hidden all the same.
        for text in ["marie@", "ma..rie@x", "marie@[x", "é.marie@@x", "\"marie@x", "marie\"@x"] {
            assert!(!KEY.hide(text).contains("marie") || text.contains('"'), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_hidden_without_panic(text in "\\PC{0,40}", c in "[a-z]{1,9}") {
            let _ = KEY.hide(&text);
            let whole = format!("{text} <{c}@d.example>");
            prop_assert!(!KEY.hide(&whole).contains(&format!("<{c}@")), "{}", whole);
        }
    }
}
