//! The kinds of refusals: where, and for which reason, by names that never come from outside.

use prometheus_client::encoding::EncodeLabelValue;
use prometheus_client::encoding::LabelValueEncoder;
use waypost_auth::RefusedFor;
use waypost_config::policy::RefusalCause;
use waypost_net::server::{ConnectionRefusal, LoginRefusal};
use waypost_relay::{QuotaLimit, RefusalReason};
use waypost_smtp::end_of_data::DataFault;
use waypost_smtp::server::{CloseCause, OwnRefusal};
use waypost_types::EnhancedCode;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Connect,
    Hello,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// A command for its form or order.
    Protocol,
}

impl At {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Hello => "hello",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Protocol => "protocol",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    // The state of the server.
    QueueFull,
    DiskFull,
    MemoryFull,
    StoreFailed,
    ShuttingDown,
    DirectoryUnavailable,
    // The client.
    TooManyConnections,
    TooManyConnectionsOfClient,
    TooManyConnectionsOfNetwork,
    TooFrequent,
    TooManyClients,
    GenericHello,
    EarlyTalker,
    TooSlow,
    TooManyErrors,
    WrongCredentials,
    CredentialsUnchecked,
    TooManyFailedLogins,
    // The policy.
    RecipientLimit,
    NotAGateway,
    GatewayInClearText,
    RelayingDenied,
    UnknownRecipient,
    EmptyGroup,
    Rule,
    Spam,
    Malware,
    Filter,
    FilterUnanswered,
    SpfFail,
    SpfTempError,
    Dmarc,
    DmarcTempError,
    SenderUndecided,
    Loop,
    WithOthers,
    // The relay entries.
    NotARelayListener,
    NoRelayEntry,
    TlsRequired,
    AuthenticationRequired,
    AuthenticationFailed,
    AuthenticatedElsewhere,
    AddressNotListed,
    AddressDeferred,
    SenderNotRegistered,
    SenderNotInDomains,
    Unidentified,
    // The quotas.
    QuotaMessagesOfUser,
    QuotaRecipientsOfUser,
    QuotaRecipientsPerDay,
    QuotaRecipientsPer10Minutes,
    QuotaRecipientsOfLogin,
    QuotaRecipientsOfClient,
    QuotaUnknown,
    // The message and the protocol.
    MessageTooLarge,
    HeaderTooLarge,
    BareCrOrLf,
    Nul,
    NoRecipient,
    Syntax,
    Arguments,
    OutOfOrder,
    NotOffered,
    NeedsSmtpUtf8,
    /// None of these: a kind that this list does not know yet.
    Other,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::DiskFull => "disk-full",
            Self::MemoryFull => "memory-full",
            Self::StoreFailed => "store-failed",
            Self::ShuttingDown => "shutting-down",
            Self::DirectoryUnavailable => "directory-unavailable",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyConnectionsOfClient => "too-many-connections-of-client",
            Self::TooManyConnectionsOfNetwork => "too-many-connections-of-network",
            Self::TooFrequent => "too-frequent",
            Self::TooManyClients => "too-many-clients",
            Self::GenericHello => "generic-hello",
            Self::EarlyTalker => "early-talker",
            Self::TooSlow => "too-slow",
            Self::TooManyErrors => "too-many-errors",
            Self::WrongCredentials => "wrong-credentials",
            Self::CredentialsUnchecked => "credentials-unchecked",
            Self::TooManyFailedLogins => "too-many-failed-logins",
            Self::RecipientLimit => "recipient-limit",
            Self::NotAGateway => "not-a-gateway",
            Self::GatewayInClearText => "gateway-in-clear-text",
            Self::RelayingDenied => "relaying-denied",
            Self::UnknownRecipient => "unknown-recipient",
            Self::EmptyGroup => "empty-group",
            Self::Rule => "rule",
            Self::Spam => "spam",
            Self::Malware => "malware",
            Self::Filter => "filter",
            Self::FilterUnanswered => "filter-unanswered",
            Self::SpfFail => "spf-fail",
            Self::SpfTempError => "spf-temperror",
            Self::Dmarc => "dmarc",
            Self::DmarcTempError => "dmarc-temperror",
            Self::SenderUndecided => "sender-undecided",
            Self::Loop => "loop",
            Self::WithOthers => "with-others",
            Self::NotARelayListener => "not-a-relay-listener",
            Self::NoRelayEntry => "no-relay-entry",
            Self::TlsRequired => "tls-required",
            Self::AuthenticationRequired => "authentication-required",
            Self::AuthenticationFailed => "authentication-failed",
            Self::AuthenticatedElsewhere => "authenticated-elsewhere",
            Self::AddressNotListed => "address-not-listed",
            Self::AddressDeferred => "address-deferred",
            Self::SenderNotRegistered => "sender-not-registered",
            Self::SenderNotInDomains => "sender-not-in-domains",
            Self::Unidentified => "unidentified",
            Self::QuotaMessagesOfUser => "quota-messages-of-user",
            Self::QuotaRecipientsOfUser => "quota-recipients-of-user",
            Self::QuotaRecipientsPerDay => "quota-recipients-per-day",
            Self::QuotaRecipientsPer10Minutes => "quota-recipients-per-10-minutes",
            Self::QuotaRecipientsOfLogin => "quota-recipients-of-login",
            Self::QuotaRecipientsOfClient => "quota-recipients-of-client",
            Self::QuotaUnknown => "quota-unknown",
            Self::MessageTooLarge => "message-too-large",
            Self::HeaderTooLarge => "header-too-large",
            Self::BareCrOrLf => "bare-cr-or-lf",
            Self::Nul => "nul",
            Self::NoRecipient => "no-recipient",
            Self::Syntax => "syntax",
            Self::Arguments => "arguments",
            Self::OutOfOrder => "out-of-order",
            Self::NotOffered => "not-offered",
            Self::NeedsSmtpUtf8 => "needs-smtputf8",
            Self::Other => "other",
        }
    }
}

impl From<RefusalCause> for Reason {
    fn from(cause: RefusalCause) -> Self {
        match cause {
            RefusalCause::RecipientLimit => Self::RecipientLimit,
            RefusalCause::NotAGateway => Self::NotAGateway,
            RefusalCause::GatewayInClearText => Self::GatewayInClearText,
            RefusalCause::RelayingDenied => Self::RelayingDenied,
            RefusalCause::NotAdmitted(reason) => reason.into(),
            RefusalCause::UnknownRecipient => Self::UnknownRecipient,
            RefusalCause::EmptyGroup => Self::EmptyGroup,
            RefusalCause::Rule => Self::Rule,
            RefusalCause::Spam => Self::Spam,
            RefusalCause::Malware => Self::Malware,
            RefusalCause::Filter => Self::Filter,
            RefusalCause::FilterUnanswered => Self::FilterUnanswered,
            RefusalCause::Authentication(cause) => cause.into(),
            RefusalCause::SenderUndecided => Self::SenderUndecided,
            RefusalCause::DirectoryUnavailable => Self::DirectoryUnavailable,
            RefusalCause::Loop => Self::Loop,
            RefusalCause::WithOthers => Self::WithOthers,
            _ => Self::Other,
        }
    }
}

impl From<RefusedFor> for Reason {
    fn from(cause: RefusedFor) -> Self {
        match cause {
            RefusedFor::SpfFail => Self::SpfFail,
            RefusedFor::SpfTempError => Self::SpfTempError,
            RefusedFor::Dmarc => Self::Dmarc,
            RefusedFor::DmarcTempError => Self::DmarcTempError,
            _ => Self::Other,
        }
    }
}

impl From<RefusalReason> for Reason {
    fn from(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::NotARelayListener => Self::NotARelayListener,
            RefusalReason::NoRelayEntry => Self::NoRelayEntry,
            RefusalReason::TlsRequired => Self::TlsRequired,
            RefusalReason::AuthenticationRequired => Self::AuthenticationRequired,
            RefusalReason::AuthenticationFailed => Self::AuthenticationFailed,
            RefusalReason::AuthenticatedElsewhere => Self::AuthenticatedElsewhere,
            RefusalReason::AddressNotListed => Self::AddressNotListed,
            RefusalReason::AddressDeferred => Self::AddressDeferred,
            RefusalReason::SenderNotRegistered => Self::SenderNotRegistered,
            RefusalReason::SenderNotInDomains => Self::SenderNotInDomains,
            RefusalReason::Unidentified => Self::Unidentified,
            RefusalReason::DirectoryUnavailable => Self::DirectoryUnavailable,
            _ => Self::Other,
        }
    }
}

impl From<QuotaLimit> for Reason {
    fn from(limit: QuotaLimit) -> Self {
        match limit {
            QuotaLimit::MessagesPerUserPerDay => Self::QuotaMessagesOfUser,
            QuotaLimit::UniqueRecipientsPerUserPerDay => Self::QuotaRecipientsOfUser,
            QuotaLimit::RecipientsPerDay => Self::QuotaRecipientsPerDay,
            QuotaLimit::RecipientsPer10Minutes => Self::QuotaRecipientsPer10Minutes,
            QuotaLimit::RecipientsPerLoginPerDay => Self::QuotaRecipientsOfLogin,
            QuotaLimit::RecipientsPerClientPerDay => Self::QuotaRecipientsOfClient,
            _ => Self::Other,
        }
    }
}

impl From<ConnectionRefusal> for Reason {
    fn from(refusal: ConnectionRefusal) -> Self {
        match refusal {
            ConnectionRefusal::Total { .. } => Self::TooManyConnections,
            ConnectionRefusal::PerClient { .. } => Self::TooManyConnectionsOfClient,
            ConnectionRefusal::PerNetwork { .. } => Self::TooManyConnectionsOfNetwork,
            ConnectionRefusal::TooOften { .. } => Self::TooFrequent,
            ConnectionRefusal::GenericHello { .. } => Self::GenericHello,
            ConnectionRefusal::TooManyClients => Self::TooManyClients,
            _ => Self::Other,
        }
    }
}

impl From<LoginRefusal> for Reason {
    fn from(refusal: LoginRefusal) -> Self {
        match refusal {
            LoginRefusal::WrongCredentials => Self::WrongCredentials,
            LoginRefusal::Unchecked => Self::CredentialsUnchecked,
            LoginRefusal::TooManyFailures { .. } => Self::TooManyFailedLogins,
            LoginRefusal::TooManyClients => Self::TooManyClients,
            _ => Self::Other,
        }
    }
}

impl From<&DataFault> for Reason {
    fn from(fault: &DataFault) -> Self {
        match fault {
            DataFault::TooBig { .. } => Self::MessageTooLarge,
            DataFault::BareCr | DataFault::BareLf => Self::BareCrOrLf,
            DataFault::Nul => Self::Nul,
            DataFault::NoRoom => Self::MemoryFull,
            _ => Self::Other,
        }
    }
}

/// Where and why the SMTP machine refused, by the codes that it uses.
pub(crate) fn of_own(refusal: OwnRefusal) -> (At, Reason) {
    let enhanced = refusal.enhanced.map(|code| (code.1, code.2));
    match (refusal.code, enhanced) {
        (552, _) => (At::Mail, Reason::MessageTooLarge),
        (452, Some((5, 3))) => (At::Rcpt, Reason::RecipientLimit),
        (554, _) => (At::Data, Reason::NoRecipient),
        (535, _) => (At::Auth, Reason::WrongCredentials),
        (538, _) => (At::Auth, Reason::TlsRequired),
        (501, Some((7, 0))) => (At::Auth, Reason::Arguments),
        (500, _) => (At::Protocol, Reason::Syntax),
        (501 | 555, _) => (At::Protocol, Reason::Arguments),
        (502 | 504, _) => (At::Protocol, Reason::NotOffered),
        // XCLIENT from who is not listed.
        (550, _) => (At::Protocol, Reason::NotOffered),
        (503, _) => (At::Protocol, Reason::OutOfOrder),
        (553, _) => (At::Protocol, Reason::NeedsSmtpUtf8),
        _ => (At::Protocol, Reason::Other),
    }
}

/// Where and why, and the reply, where the SMTP machine ended a connection of its own accord.
pub(crate) fn of_close(cause: CloseCause) -> Option<(At, Reason, OwnRefusal)> {
    let own = |code, (class, subject, detail)| {
        let enhanced = Some(EnhancedCode(class, subject, detail));
        OwnRefusal { code, enhanced }
    };
    match cause {
        CloseCause::EarlyTalker => Some((At::Connect, Reason::EarlyTalker, own(554, (5, 5, 1)))),
        CloseCause::TimedOut => Some((At::Protocol, Reason::TooSlow, own(421, (4, 4, 2)))),
        CloseCause::TooManyErrors => {
            Some((At::Protocol, Reason::TooManyErrors, own(421, (4, 7, 0))))
        }
        CloseCause::ShuttingDown => Some((At::Protocol, Reason::ShuttingDown, own(421, (4, 3, 2)))),
        CloseCause::Quit
        | CloseCause::Disconnected
        | CloseCause::TlsFailed
        | CloseCause::Refused => None,
    }
}

impl EncodeLabelValue for At {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}
