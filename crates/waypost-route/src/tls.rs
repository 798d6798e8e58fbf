//! What a route asks of TLS.

use std::fmt;
use std::str::FromStr;

use waypost_types::TlsDemand;

use crate::UnknownWord;

/// When TLS begins on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum TlsStart {
    /// After EHLO, by the command STARTTLS (RFC 3207).
    #[default]
    Starttls,
    /// At once, before the banner (RFC 8314), as on port 465 (A3).
    Implicit,
}

impl FromStr for TlsStart {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "starttls" => Ok(TlsStart::Starttls),
            "implicit" => Ok(TlsStart::Implicit),
            _ => Err(UnknownWord::new(text, "`starttls` or `implicit`")),
        }
    }
}

impl fmt::Display for TlsStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsStart::Starttls => "starttls",
            TlsStart::Implicit => "implicit",
        })
    }
}

/// Whether one property of the peer's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Check {
    /// Checked wherever TLS is negotiated; a certificate that fails is a TLS failure.
    On,
    /// Not looked at.
    Off,
}

impl Check {
    fn from_switch(on: bool) -> Self {
        if on { Check::On } else { Check::Off }
    }
}

/// The three switches of a route and the start of TLS, for one host (A5, A6, A7).
///
/// The switches are independent: eight combinations. What is left unsaid is filled in by
/// [`TlsPolicy::from_switches`]:
///
/// | `require_tls` | `require_ca_signed` | `verify_hostname` | needs TLS | CA check | name check |
/// | --- | --- | --- | --- | --- | --- |
/// | unsaid, or true | unsaid | unsaid | yes | on | on |
/// | unsaid, or true | as said | as said | yes | as said | as said |
/// | false | unsaid | unsaid | no | off | off |
/// | false | as said | as said | no | as said | as said |
///
/// With `require_tls = false`, a check that is said to be on binds wherever TLS is negotiated: its
/// failure is a TLS failure and never a fall back to clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TlsPolicy {
    /// TLS or no delivery, or TLS where offered (A5).
    pub requirement: TlsDemand,
    /// When TLS begins.
    pub start: TlsStart,
    /// The chain ends in a trusted root and is valid today (A6).
    pub ca_signed: Check,
    /// The certificate names the host that was connected to (A7).
    pub hostname: Check,
}

impl TlsPolicy {
    /// TLS where offered, any certificate, else clear text: the policy of delivery by MX and of
    /// the setting `outbound_gateway` (B1).
    pub const OPPORTUNISTIC: TlsPolicy = TlsPolicy {
        requirement: TlsDemand::Opportunistic,
        start: TlsStart::Starttls,
        ca_signed: Check::Off,
        hostname: Check::Off,
    };

    /// Fills in what is unsaid: `require_tls` is on, the other two are as `require_tls` is (A7).
    #[must_use]
    pub fn from_switches(
        start: TlsStart,
        require_tls: Option<bool>,
        require_ca_signed: Option<bool>,
        verify_hostname: Option<bool>,
    ) -> Self {
        let required = require_tls.unwrap_or(true);
        Self {
            requirement: if required { TlsDemand::Required } else { TlsDemand::Opportunistic },
            start,
            ca_signed: Check::from_switch(require_ca_signed.unwrap_or(required)),
            hostname: Check::from_switch(verify_hostname.unwrap_or(required)),
        }
    }

    /// The policy with a rule's demand added; a demand never loosens a policy (B2, C6).
    #[must_use]
    pub fn with_demand(self, demand: TlsDemand) -> Self {
        Self { requirement: self.requirement.max(demand), ..self }
    }

    /// Whether the message may go in clear text when the host offers no STARTTLS.
    #[must_use]
    pub fn allows_clear_text(&self) -> bool {
        self.requirement == TlsDemand::Opportunistic && self.start == TlsStart::Starttls
    }

    /// Whether a handshake that failed may be followed by a second try in clear text: only when
    /// nothing is asked of TLS at all.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        self.allows_clear_text() && self.ca_signed == Check::Off && self.hostname == Check::Off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsaid_switches_a5_a6_a7() {
        let (yes, no) = (Some(true), Some(false));
        // require_tls, require_ca_signed, verify_hostname; needs TLS, checks CA, checks name,
        // clear text when not offered, clear text after a failed handshake
        for (said, want) in [
            ([None, None, None], [true, true, true, false, false]),
            ([yes, None, None], [true, true, true, false, false]),
            ([None, no, None], [true, false, true, false, false]),
            ([None, None, no], [true, true, false, false, false]),
            ([no, None, None], [false, false, false, true, true]),
            ([no, yes, None], [false, true, false, true, false]),
            ([no, None, yes], [false, false, true, true, false]),
            ([yes, yes, yes], [true, true, true, false, false]),
            ([yes, yes, no], [true, true, false, false, false]),
            ([yes, no, yes], [true, false, true, false, false]),
            ([yes, no, no], [true, false, false, false, false]),
            ([no, yes, yes], [false, true, true, true, false]),
            ([no, yes, no], [false, true, false, true, false]),
            ([no, no, yes], [false, false, true, true, false]),
            ([no, no, no], [false, false, false, true, true]),
        ] {
            let policy = TlsPolicy::from_switches(TlsStart::Starttls, said[0], said[1], said[2]);
            let got = [
                policy.requirement == TlsDemand::Required,
                policy.ca_signed == Check::On,
                policy.hostname == Check::On,
                policy.allows_clear_text(),
                policy.falls_back(),
            ];
            assert_eq!(got, want, "{said:?}");
        }
    }

    #[test]
    fn implicit_tls_is_never_clear_text_a3() {
        let policy = TlsPolicy { start: TlsStart::Implicit, ..TlsPolicy::OPPORTUNISTIC };
        assert!(!policy.allows_clear_text() && !policy.falls_back());
    }

    #[test]
    fn a_demand_only_tightens_b2() {
        let strict = TlsPolicy::OPPORTUNISTIC.with_demand(TlsDemand::Required);
        assert_eq!(strict.requirement, TlsDemand::Required);
        assert_eq!(strict.with_demand(TlsDemand::Opportunistic), strict);
    }
}
