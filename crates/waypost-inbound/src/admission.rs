//! Who may hand mail over at RCPT (E7, E8).

use waypost_types::Reply;

/// A rule that refuses, and how far it is to go (O6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "word::Word", into = "word::Word"))]
pub enum Switch {
    /// The rule is off.
    #[default]
    Off,
    /// What would be refused is reported, not refused.
    Observe,
    /// The rule refuses.
    On,
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// The configuration's form of a [`Switch`]: `true`, `false` or `"observe"`.
#[cfg(feature = "serde")]
mod word {
    use super::Switch;

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(untagged)]
    pub(super) enum Word {
        Bool(bool),
        Text(String),
    }

    impl TryFrom<Word> for Switch {
        type Error = String;

        fn try_from(word: Word) -> Result<Self, String> {
            match word {
                Word::Bool(on) => Ok(on.into()),
                Word::Text(text) if text == "observe" => Ok(Self::Observe),
                Word::Text(text) => {
                    Err(format!("`{text}` is no switch (O6); write true, false or \"observe\""))
                }
            }
        }
    }

    impl From<Switch> for Word {
        fn from(switch: Switch) -> Self {
            match switch {
                Switch::Off => Self::Bool(false),
                Switch::Observe => Self::Text("observe".to_owned()),
                Switch::On => Self::Bool(true),
            }
        }
    }
}

/// Whether a client may hand mail over to an organization behind gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It may, but only because the rule is observed, not enforced: to be counted and logged.
    Observed(Refusal),
    /// It may not.
    Refused(Refusal),
}

/// A refusal at RCPT: the reply, and the rule it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told.
    pub reply: Reply,
    /// Why.
    pub because: RefusedBecause,
}

/// The rule a refusal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum RefusedBecause {
    /// The client is not in the list of gateways (E7).
    NotAGateway,
    /// The client is a gateway that did not start TLS (E8).
    ClearText,
}

impl RefusedBecause {
    /// The word for it: `not-a-gateway`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAGateway => "not-a-gateway",
            Self::ClearText => "clear-text",
        }
    }
}

/// The code that clients which are no gateway get (E7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u16", into = "u16"))]
pub enum RejectCode {
    /// `550 5.7.1`: never.
    #[default]
    Permanent,
    /// `421 4.7.0`: not now; the client tries another host.
    Transient,
}

/// Why a number is no code to reject with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no code for clients that are no gateway (E7); write 550 or 421")]
pub struct RejectCodeError(pub u16);

impl TryFrom<u16> for RejectCode {
    type Error = RejectCodeError;

    fn try_from(code: u16) -> Result<Self, RejectCodeError> {
        match code {
            550 => Ok(Self::Permanent),
            421 => Ok(Self::Transient),
            code => Err(RejectCodeError(code)),
        }
    }
}

impl From<RejectCode> for u16 {
    fn from(code: RejectCode) -> u16 {
        match code {
            RejectCode::Permanent => 550,
            RejectCode::Transient => 421,
        }
    }
}
