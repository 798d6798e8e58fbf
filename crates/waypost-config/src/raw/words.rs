//! The keys that take one of a few words.

use toml::de::DeValue;

use super::keys::Form;
use super::leaf::{Fault, Leaf, Words, short};

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Mail from the world.
    Mx,
    /// Mail relayed for clients (D).
    Relay,
    /// Relays where a relay entry admits client and sender; else an MX.
    Both,
}

impl Words for Role {
    const EXPECTED: &'static str = "a listener's role";
    const EXAMPLE: &'static str = "\"mx\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("mx", Role::Mx), ("relay", Role::Relay), ("both", Role::Both)];
}

/// The protocol of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
}

impl Words for Protocol {
    const EXPECTED: &'static str = "a protocol";
    const EXAMPLE: &'static str = "\"smtp\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("smtp", Protocol::Smtp), ("lmtp", Protocol::Lmtp)];
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsStart {
    /// By the command STARTTLS.
    StartTls,
    /// At once.
    Implicit,
}

impl Words for TlsStart {
    const EXPECTED: &'static str = "a way to begin TLS";
    const EXAMPLE: &'static str = "\"starttls\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("starttls", TlsStart::StartTls), ("implicit", TlsStart::Implicit)];
}

/// What a TLS failure on every host of a route does (A10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnTlsFailure {
    /// The message bounces.
    Bounce,
    /// It waits.
    Defer,
}

impl Words for OnTlsFailure {
    const EXPECTED: &'static str = "a way to treat TLS failures";
    const EXAMPLE: &'static str = "\"bounce\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("bounce", OnTlsFailure::Bounce), ("defer", OnTlsFailure::Defer)];
}

/// Whether something is enforced (O6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It acts.
    Enforce,
    /// It is counted and logged what it would have done.
    Observe,
    /// It is as if it were not written.
    Off,
}

impl Words for Mode {
    const EXPECTED: &'static str = "a mode";
    const EXAMPLE: &'static str = "\"enforce\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("enforce", Mode::Enforce), ("observe", Mode::Observe), ("off", Mode::Off)];
}

/// What a client hears whose address a relay entry does not list (D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnlistedAddress {
    /// Its mail bounces.
    Reject,
    /// Its mail waits.
    Defer,
}

impl Words for UnlistedAddress {
    const EXPECTED: &'static str = "a way to refuse unlisted addresses";
    const EXAMPLE: &'static str = "\"reject\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("reject", UnlistedAddress::Reject), ("defer", UnlistedAddress::Defer)];
}

/// What proves that a sender is internal (C3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InternalSenders {
    /// The domain of `From:` alone.
    FromHeader,
    /// It, and AUTH, a relay address, or an aligned DKIM or SPF pass.
    Authenticated,
}

impl Words for InternalSenders {
    const EXPECTED: &'static str = "a way to tell internal senders";
    const EXAMPLE: &'static str = "\"from-header\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("from-header", InternalSenders::FromHeader),
        ("authenticated", InternalSenders::Authenticated),
    ];
}

/// What SPF and DMARC do (E2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authenticate {
    /// They are not evaluated.
    Off,
    /// They are evaluated and reported.
    Report,
    /// They may refuse.
    Enforce,
}

impl Words for Authenticate {
    const EXPECTED: &'static str = "a way to treat SPF and DMARC";
    const EXAMPLE: &'static str = "\"off\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Authenticate::Off),
        ("report", Authenticate::Report),
        ("enforce", Authenticate::Enforce),
    ];
}

/// What happens to spam (D17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpamAction {
    /// It is delivered with a mark.
    Mark,
    /// It is kept back.
    Quarantine,
    /// It is refused.
    Reject,
}

impl Words for SpamAction {
    const EXPECTED: &'static str = "a way to treat spam";
    const EXAMPLE: &'static str = "\"mark\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("mark", SpamAction::Mark),
        ("quarantine", SpamAction::Quarantine),
        ("reject", SpamAction::Reject),
    ];
}

/// What happens to mail over a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverLimit {
    /// It is refused for good (D10-D12).
    Reject,
    /// It is refused for now.
    Defer,
    /// It is accepted and waits.
    Hold,
}

impl Words for OverLimit {
    const EXPECTED: &'static str = "a way to treat mail over a limit";
    const EXAMPLE: &'static str = "\"reject\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("reject", OverLimit::Reject), ("defer", OverLimit::Defer), ("hold", OverLimit::Hold)];
}

/// What holds while Redis does not answer (O5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedisFallback {
    /// Relayed mail waits.
    Defer,
    /// Each node counts for itself.
    Local,
}

impl Words for RedisFallback {
    const EXPECTED: &'static str = "a way to go on without Redis";
    const EXAMPLE: &'static str = "\"defer\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("defer", RedisFallback::Defer), ("local", RedisFallback::Local)];
}

/// Whom a relay entry lets send (D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowedSenders {
    /// Addresses and aliases of active users.
    RegisteredUsers,
    /// Any address in or below a verified domain.
    MyDomains,
    /// Anybody.
    Any,
}

impl Words for AllowedSenders {
    const EXPECTED: &'static str = "a kind of allowed senders";
    const EXAMPLE: &'static str = "\"my-domains\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("registered-users", AllowedSenders::RegisteredUsers),
        ("my-domains", AllowedSenders::MyDomains),
        ("any", AllowedSenders::Any),
    ];
}

/// A direction of mail (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Affects {
    /// From outside to us.
    Inbound,
    /// From us to outside.
    Outbound,
    /// Between internal addresses, seen from the sender.
    InternalSending,
    /// Between internal addresses, seen from the recipient.
    InternalReceiving,
}

impl Affects {
    /// Whether the direction is seen from the sender.
    #[must_use]
    pub fn is_outgoing(self) -> bool {
        matches!(self, Affects::Outbound | Affects::InternalSending)
    }
}

impl Words for Affects {
    const EXPECTED: &'static str = "a direction of mail";
    const EXAMPLE: &'static str = "\"inbound\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("inbound", Affects::Inbound),
        ("outbound", Affects::Outbound),
        ("internal-sending", Affects::InternalSending),
        ("internal-receiving", Affects::InternalReceiving),
    ];
}

/// A kind of account (C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountKind {
    /// Users.
    Users,
    /// Groups.
    Groups,
    /// Addresses nobody has.
    Unrecognized,
}

impl Words for AccountKind {
    const EXPECTED: &'static str = "a kind of account";
    const EXAMPLE: &'static str = "\"users\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("users", AccountKind::Users),
        ("groups", AccountKind::Groups),
        ("unrecognized", AccountKind::Unrecognized),
    ];
}

/// By what a test of the configuration expects a delivery to go (O7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The mailbox system.
    Mailbox,
    /// The MX hosts of the recipient's domain.
    Mx,
    /// The outbound gateway.
    Gateway,
}

impl Words for Via {
    const EXPECTED: &'static str = "a way of delivery";
    const EXAMPLE: &'static str = "\"mailbox\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("mailbox", Via::Mailbox), ("mx", Via::Mx), ("gateway", Via::Gateway)];
}

/// A switch that can be tried first (O6): `true`, `false` or `"observe"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// It acts.
    On,
    /// It does not.
    Off,
    /// It is counted and logged what it would have done.
    Observe,
}

impl Leaf for Switch {
    const EXPECTED: &'static str = "`true`, `false` or \"observe\"";
    const EXAMPLE: &'static str = "true";

    fn form() -> Form {
        Form::Either(vec![Form::Flag, Form::Words(vec!["observe"])])
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        match (value.as_bool(), value.as_str()) {
            (Some(true), _) => Ok(Switch::On),
            (Some(false), _) => Ok(Switch::Off),
            (None, Some("observe")) => Ok(Switch::Observe),
            (None, Some(text)) => Err(Fault::Value {
                message: format!("`{}` is no switch", short(text)),
                cure: Some("write `true`, `false` (without quotes) or \"observe\"".into()),
            }),
            (None, None) => Err(Fault::Type),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            Switch::On => "true",
            Switch::Off => "false",
            Switch::Observe => "\"observe\"",
        }
        .into()
    }
}

/// The code of a refusal by the inbound gateway (E7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// `550 5.7.1`.
    Permanent,
    /// `421 4.7.0`.
    Temporary,
}

impl Leaf for RejectCode {
    const EXPECTED: &'static str = "550 or 421";
    const EXAMPLE: &'static str = "550";

    fn form() -> Form {
        Form::Numbers(&[550, 421])
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        match u64::from_value(value)? {
            550 => Ok(RejectCode::Permanent),
            421 => Ok(RejectCode::Temporary),
            other => Err(Fault::Value {
                message: format!("{other} is no reject code"),
                cure: Some("write 550 (refused for good) or 421 (for now)".into()),
            }),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            RejectCode::Permanent => "550",
            RejectCode::Temporary => "421",
        }
        .into()
    }
}
