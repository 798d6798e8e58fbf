//! The results, as values.

use std::fmt;
use std::net::IpAddr;

use waypost_types::Domain;

/// Domains in `From:` that DMARC is asked about; a message with more is not judged.
pub const MAX_AUTHORS: usize = 4;

/// DKIM signatures that are looked at, from the top; further ones count as absent.
pub const MAX_SIGNATURES: usize = 8;

/// Gives an enum its registered words.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $name {
            /// The registered word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// The result of SPF (RFC 7208 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum SpfResult {
    /// The domain says nothing, or there is no domain or address to check.
    None,
    /// The domain says nothing about the address.
    Neutral,
    /// The address may send for the domain.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// The DNS does not answer now.
    TempError,
    /// What the domain says cannot be understood.
    PermError,
}

words!(SpfResult {
    None = "none",
    Neutral = "neutral",
    Pass = "pass",
    Fail = "fail",
    SoftFail = "softfail",
    TempError = "temperror",
    PermError = "permerror",
});

/// Whose domain SPF was asked about (RFC 7208 section 2.3, 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Identity {
    /// The sender of MAIL.
    MailFrom,
    /// The argument of HELO: the sender is the null one.
    Helo,
}

words!(Identity { MailFrom = "mailfrom", Helo = "helo" });

/// What SPF says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Spf {
    /// The result.
    pub result: SpfResult,
    /// Whose domain.
    pub identity: Identity,
    /// The domain; `None`: there was none to ask about.
    pub domain: Option<Box<str>>,
}

impl Spf {
    /// A result.
    #[must_use]
    pub fn new(result: SpfResult, identity: Identity, domain: Option<&str>) -> Self {
        Self { result, identity, domain: domain.map(Into::into) }
    }
}

/// The result of one DKIM signature (RFC 8601 section 2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum DkimResult {
    /// It is right.
    Pass,
    /// It is wrong, or the message was changed.
    Fail,
    /// It is not accepted for what it is, such as one that leaves a part of the body unsigned.
    Policy,
    /// It cannot be understood, or its time is over.
    Neutral,
    /// Its key cannot be had now.
    TempError,
    /// Its key is missing or unusable.
    PermError,
}

words!(DkimResult {
    Pass = "pass",
    Fail = "fail",
    Policy = "policy",
    Neutral = "neutral",
    TempError = "temperror",
    PermError = "permerror",
});

/// What one DKIM signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Dkim {
    /// The result.
    pub result: DkimResult,
    /// The domain that signed (`d=`), if that can be read.
    pub domain: Box<str>,
    /// The selector of its key (`s=`), if that can be read.
    pub selector: Box<str>,
    /// Why, in words of this program; empty for a pass.
    pub because: Box<str>,
}

/// The result of DMARC (RFC 8601 section 2.7, RFC 9989 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum DmarcResult {
    /// The author's domain has no policy, or there is no author.
    None,
    /// A domain that SPF or DKIM vouches for belongs to the author's.
    Pass,
    /// None does.
    Fail,
    /// That cannot be found out now.
    TempError,
    /// The policy, or `From:`, cannot be judged.
    PermError,
}

words!(DmarcResult {
    None = "none",
    Pass = "pass",
    Fail = "fail",
    TempError = "temperror",
    PermError = "permerror",
});

/// What a domain wants done with mail that fails (RFC 9989 section 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum DmarcPolicy {
    /// Nothing.
    None,
    /// It is suspicious.
    Quarantine,
    /// It is to be refused.
    Reject,
}

words!(DmarcPolicy { None = "none", Quarantine = "quarantine", Reject = "reject" });

/// What made DMARC pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Aligned {
    /// SPF.
    Spf,
    /// A DKIM signature.
    Dkim,
}

words!(Aligned { Spf = "spf", Dkim = "dkim" });

/// What DMARC says; of several authors, about the one that fares worst.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Dmarc {
    /// The result.
    pub result: DmarcResult,
    /// The domain of `From:`; `None`: there is none that could be read, or there are too many.
    pub author: Option<Domain>,
    /// The policy that applies.
    pub policy: Option<DmarcPolicy>,
    /// What made it pass.
    pub aligned: Option<Aligned>,
}

impl Dmarc {
    /// A result without policy.
    #[must_use]
    pub fn new(result: DmarcResult, author: Option<Domain>) -> Self {
        Self { result, author, policy: None, aligned: None }
    }

    /// More authors than [`MAX_AUTHORS`], so that none of them can be judged.
    #[must_use]
    pub fn of_too_many_authors() -> Self {
        Self::new(DmarcResult::PermError, None)
    }

    /// How bad it is, to compare those of several authors (RFC 7489 section 6.6.1: the strictest policy
    /// among those that fail applies).
    #[must_use]
    pub fn severity(&self) -> u8 {
        match (self.result, self.policy) {
            (DmarcResult::Fail, Some(DmarcPolicy::Reject)) => 6,
            (DmarcResult::Fail, Some(DmarcPolicy::Quarantine)) => 5,
            (DmarcResult::TempError, _) => 4,
            (DmarcResult::Fail, _) => 3,
            (DmarcResult::PermError, _) => 2,
            (DmarcResult::None, _) => 1,
            (DmarcResult::Pass, _) => 0,
        }
    }
}

/// What was found out about a message that came from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Authentication {
    /// The address that SPF was asked about; `None`: no check is due, since the message is internal or
    /// its source is not known (E2, E4, E5).
    pub checked: Option<IpAddr>,
    /// SPF.
    pub spf: Spf,
    /// DKIM, a result for each signature, topmost first.
    pub dkim: Vec<Dkim>,
    /// DMARC.
    pub dmarc: Dmarc,
}
