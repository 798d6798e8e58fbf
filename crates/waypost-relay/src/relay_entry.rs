//! One relay entry: whose mail is relayed, and what a client must prove.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use waypost_types::Mailbox;

use crate::address_list::{AddressList, is_private, parse_range};
use crate::relay_error::{RelayError, RelayErrorKind, RelayPlace, RelayWarning, RelayWarningKind};

/// The settings of a relay entry as they stand in `[[organization.relay]]`, not yet checked.
///
/// A relay entry belongs to the organization as a whole (D1), so there is no org unit here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// What the entry is called; unique in its organization, compared without case (D1).
    pub description: String,
    /// Whose envelope senders are taken (D2).
    pub allowed_senders: AllowedSenders,
    /// The clients that are taken (D3, D4); entries that are not enabled do not count.
    pub addresses: Vec<AddressSettings>,
    /// SMTP AUTH is required, and therefore TLS before it (D3).
    pub require_auth: bool,
    /// TLS is required (D5).
    pub require_tls: bool,
    /// What a client hears whose address is not listed (D3).
    pub unlisted_address: UnlistedAddress,
    /// Where a copy of each relayed message goes (D16): `sender-mailbox`, or an address.
    pub copy_to: Option<String>,
    /// Whether the entry is in force (O6).
    pub mode: RelayMode,
}

impl RelaySettings {
    /// Settings without an address, AUTH, TLS or copies, in force; other addresses are rejected.
    #[must_use]
    pub fn new(description: &str, allowed_senders: AllowedSenders) -> Self {
        Self {
            description: description.to_owned(),
            allowed_senders,
            addresses: Vec::new(),
            require_auth: false,
            require_tls: false,
            unlisted_address: UnlistedAddress::Reject,
            copy_to: None,
            mode: RelayMode::Enforce,
        }
    }
}

/// One of a relay entry's addresses (D4), not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSettings {
    /// An address or a CIDR range, IPv4 or IPv6.
    pub range: String,
    /// Whose it is.
    pub description: String,
    /// Whether it counts.
    pub enabled: bool,
}

impl AddressSettings {
    /// An address or range that counts.
    #[must_use]
    pub fn enabled(range: &str, description: &str) -> Self {
        Self { range: range.to_owned(), description: description.to_owned(), enabled: true }
    }
}

/// Whose envelope senders a relay entry takes (D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum AllowedSenders {
    /// An address or alias of an active user of the organization.
    RegisteredUsers,
    /// Any address in a verified domain or below one.
    MyDomains,
    /// Any address; a foreign one is rewritten (D8), and the client must be known (D7).
    Any,
}

/// What a client hears whose address a relay entry does not list (D3).
///
/// Clients bounce what is rejected. While addresses are being moved, or lists are written by hand,
/// deferring keeps the mail in the client's queue until the list is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum UnlistedAddress {
    /// `550 5.7.1`.
    #[default]
    Reject,
    /// `450 4.7.1`.
    Defer,
}

/// Whether a relay entry is in force (O6).
///
/// An entry that is observed never opens the relay: it admits exactly what it would admit in force.
/// What it would refuse is written down ([`ObservedRefusal`](crate::ObservedRefusal)) and the
/// transaction is judged by the other entries; if none of them admits it, it is refused. So a
/// stricter entry can be tried beside the one that it is to replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum RelayMode {
    /// It admits and refuses.
    #[default]
    Enforce,
    /// It admits; what it refuses is only written down.
    Observe,
    /// It is not looked at.
    Off,
}

/// Where a copy of each relayed message goes (D16). Text form: `sender-mailbox`, or the address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub enum CopyTo {
    /// The mailbox of the registered user who sent it; nowhere when there is none.
    SenderMailbox,
    /// An archive.
    Address(Mailbox),
}

impl FromStr for CopyTo {
    type Err = RelayErrorKind;

    fn from_str(text: &str) -> Result<Self, RelayErrorKind> {
        match text {
            "sender-mailbox" => Ok(CopyTo::SenderMailbox),
            text => text
                .parse()
                .map(CopyTo::Address)
                .map_err(|_| RelayErrorKind::CopyTo(text.chars().take(320).collect())),
        }
    }
}

impl TryFrom<String> for CopyTo {
    type Error = RelayErrorKind;

    fn try_from(text: String) -> Result<Self, RelayErrorKind> {
        text.parse()
    }
}

impl fmt::Display for CopyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyTo::SenderMailbox => f.write_str("sender-mailbox"),
            CopyTo::Address(address) => address.fmt(f),
        }
    }
}

impl From<CopyTo> for String {
    fn from(copy_to: CopyTo) -> String {
        copy_to.to_string()
    }
}

/// A relay entry that keeps the rules D1 to D5: something is always checked before mail is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    pub(crate) description: Arc<str>,
    pub(crate) allowed_senders: AllowedSenders,
    pub(crate) proof: Proof,
    pub(crate) encryption: Encryption,
    pub(crate) unlisted_address: UnlistedAddress,
    pub(crate) copy_to: Option<CopyTo>,
    pub(crate) mode: RelayMode,
    warnings: Vec<RelayWarning>,
}

/// What a client must prove (D3). There is no variant for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Address(AddressList),
    Auth,
    AuthFromAddress(AddressList),
}

impl Proof {
    pub(crate) fn asks_for_auth(&self) -> bool {
        !matches!(self, Proof::Address(_))
    }

    pub(crate) fn addresses(&self) -> Option<&AddressList> {
        match self {
            Proof::Address(list) | Proof::AuthFromAddress(list) => Some(list),
            Proof::Auth => None,
        }
    }
}

/// Whether TLS is asked for: by `require_tls`, or because AUTH is (D3, D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    Optional,
    Required,
}

impl RelayEntry {
    /// Checks the settings of an entry.
    ///
    /// # Errors
    /// Every rule that the settings break, in the order of the settings; disabled addresses are
    /// checked too.
    pub fn new(settings: RelaySettings) -> Result<Self, Vec<RelayError>> {
        let entry: String = settings
            .description
            .trim()
            .chars()
            .take(256)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let mut wrong = |place, kind| errors.push(RelayError { entry: entry.clone(), place, kind });
        let mut odd =
            |place, kind| warnings.push(RelayWarning { entry: entry.clone(), place, kind });

        let description = settings.description.trim();
        if description.is_empty() {
            wrong(RelayPlace::Description, RelayErrorKind::EmptyDescription);
        } else if description.len() > 256 || description.contains(char::is_control) {
            wrong(RelayPlace::Description, RelayErrorKind::Description);
        }
        if settings.allowed_senders == AllowedSenders::Any {
            odd(RelayPlace::AllowedSenders, RelayWarningKind::AnySender);
        }

        let mut list = AddressList::default();
        let mut seen = BTreeSet::new();
        let mut enabled = false;
        for (index, address) in settings.addresses.iter().enumerate() {
            let place = RelayPlace::Address(index);
            enabled |= address.enabled;
            let range = match parse_range(&address.range) {
                Ok(range) => range,
                Err(kind) => {
                    wrong(place, kind);
                    continue;
                }
            };
            if !seen.insert(range) {
                odd(place, RelayWarningKind::RepeatedRange(range));
            }
            if address.enabled {
                list.insert(range, address.description.trim());
                if is_private(&range) {
                    odd(place, RelayWarningKind::PrivateRange(range));
                }
            }
        }
        if !enabled && !settings.require_auth {
            wrong(RelayPlace::Authentication, RelayErrorKind::NoAuthentication);
        }
        let copy_to = match settings.copy_to.as_deref().map(str::parse).transpose() {
            Ok(copy_to) => copy_to,
            Err(kind) => {
                wrong(RelayPlace::CopyTo, kind);
                None
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let proof = match (list.is_empty(), settings.require_auth) {
            (false, false) => Proof::Address(list),
            (false, true) => Proof::AuthFromAddress(list),
            (true, _) => Proof::Auth,
        };
        let encryption = if settings.require_tls || proof.asks_for_auth() {
            Encryption::Required
        } else {
            Encryption::Optional
        };
        Ok(Self {
            description: description.into(),
            allowed_senders: settings.allowed_senders,
            proof,
            encryption,
            unlisted_address: settings.unlisted_address,
            copy_to,
            mode: settings.mode,
            warnings,
        })
    }

    /// What the entry is called.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Whose envelope senders it takes (D2).
    #[must_use]
    pub fn allowed_senders(&self) -> AllowedSenders {
        self.allowed_senders
    }

    /// Where a copy of each message goes (D16).
    #[must_use]
    pub fn copy_to(&self) -> Option<&CopyTo> {
        self.copy_to.as_ref()
    }

    /// Whether the entry is in force.
    #[must_use]
    pub fn mode(&self) -> RelayMode {
        self.mode
    }

    /// What is allowed but unwise: private ranges, ranges listed twice, any sender (D2, D4).
    #[must_use]
    pub fn warnings(&self) -> &[RelayWarning] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(addresses: &[(&str, bool)], require_auth: bool) -> RelaySettings {
        let addresses = addresses
            .iter()
            .map(|(range, enabled)| AddressSettings {
                range: (*range).to_owned(),
                description: "DC".to_owned(),
                enabled: *enabled,
            })
            .collect();
        RelaySettings {
            addresses,
            require_auth,
            ..RelaySettings::new("Lyon", AllowedSenders::MyDomains)
        }
    }

    #[test]
    fn something_is_always_checked_d3() {
        for (addresses, auth, want) in [
            (&[("192.0.2.1", true)][..], false, true),
            (&[("192.0.2.1", true)], true, true),
            (&[("192.0.2.1", false)], true, true),
            (&[], true, true),
            (&[("192.0.2.1", false)], false, false),
            (&[("192.0.2.1", false), ("192.0.2.2", false)], false, false),
            (&[], false, false),
        ] {
            let got = RelayEntry::new(settings(addresses, auth));
            assert_eq!(got.is_ok(), want, "{addresses:?} {auth}");
            if let Err(errors) = got {
                assert_eq!(errors[0].place, RelayPlace::Authentication);
                assert!(errors[0].to_string().contains("D3"), "{errors:?}");
            }
        }
    }

    #[test]
    fn all_errors_come_at_once() {
        let mut bad = settings(&[("192.0.2.1/24", true), ("x", false), ("0.0.0.0/0", true)], false);
        bad.description = "  ".to_owned();
        bad.copy_to = Some("nowhere".to_owned());
        let errors = RelayEntry::new(bad).unwrap_err();
        let places: Vec<_> = errors.iter().map(|error| error.place).collect();
        assert_eq!(
            places,
            [
                RelayPlace::Description,
                RelayPlace::Address(0),
                RelayPlace::Address(1),
                RelayPlace::Address(2),
                RelayPlace::CopyTo,
            ]
        );
        for error in &errors {
            assert!(error.to_string().contains("(D"), "{error}");
        }
    }

    #[test]
    fn auth_needs_tls_d3() {
        let entry = RelayEntry::new(settings(&[], true)).unwrap();
        assert_eq!(entry.encryption, Encryption::Required);
        let entry = RelayEntry::new(settings(&[("192.0.2.1", true)], false)).unwrap();
        assert_eq!(entry.encryption, Encryption::Optional);
    }

    #[test]
    fn warnings_d2_d4() {
        let mut odd = settings(&[("10.0.0.0/24", true), ("192.168.1.1", false)], false);
        odd.addresses.push(AddressSettings::enabled("10.0.0.0/24", "again"));
        odd.allowed_senders = AllowedSenders::Any;
        let entry = RelayEntry::new(odd).unwrap();
        let texts: Vec<_> = entry.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 4, "{texts:#?}");
        assert!(texts[0].contains("prefer `my-domains`"));
        assert!(texts[1].contains("private range (D4)"));
        assert!(texts[2].contains("listed twice"));
    }

    #[test]
    fn copies_go_to_the_sender_or_an_archive_d16() {
        assert_eq!("sender-mailbox".parse(), Ok(CopyTo::SenderMailbox));
        let archive: CopyTo = "archive@solarmora.com".parse().unwrap();
        assert_eq!(archive.to_string(), "archive@solarmora.com");
        assert!("archive".parse::<CopyTo>().is_err());
    }
}
