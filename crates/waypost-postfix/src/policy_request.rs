//! One request of policy delegation, typed.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use waypost_types::{Mailbox, MailboxError, ReversePath, TlsState};

use crate::address::{from_internal, to_internal};
use crate::attributes::Attribute;
use crate::error::RequestError;
use crate::text::{one_line, shown};

/// Where in an SMTP session Postfix asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolState {
    /// A client connected.
    Connect,
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// MAIL.
    Mail,
    /// RCPT: once for each recipient.
    Rcpt,
    /// DATA or the first BDAT.
    Data,
    /// The whole message came, and its reply is due.
    EndOfMessage,
    /// VRFY.
    Vrfy,
    /// ETRN.
    Etrn,
}

impl ProtocolState {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Connect, "CONNECT"),
        (Self::Ehlo, "EHLO"),
        (Self::Helo, "HELO"),
        (Self::Mail, "MAIL"),
        (Self::Rcpt, "RCPT"),
        (Self::Data, "DATA"),
        (Self::EndOfMessage, "END-OF-MESSAGE"),
        (Self::Vrfy, "VRFY"),
        (Self::Etrn, "ETRN"),
    ];

    /// The word that Postfix has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }
}

/// One request of the Postfix SMTP server (`request=smtpd_access_policy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRequest {
    /// Where in the session it is asked.
    pub state: ProtocolState,
    /// The same for all requests about one message, and for no other; at most 255 octets.
    pub instance: Box<str>,
    /// The client's address; 0.0.0.0 where Postfix does not know it (`unknown`).
    pub client: IpAddr,
    /// The argument of HELO or EHLO; `None` before it.
    pub helo: Option<Box<str>>,
    /// The envelope sender, [`ReversePath::Null`] for `<>` and before MAIL; an address that is none is
    /// told with its error.
    pub sender: Result<ReversePath, MailboxError>,
    /// The recipient: at RCPT; later only if it is the message's only one. A text without `@` is given as it
    /// is in the error.
    pub recipient: Option<Result<Mailbox, MailboxError>>,
    /// How many recipients were accepted; 0 before DATA.
    pub recipient_count: u32,
    /// The size that MAIL declares, at the end of the message its real one; 0: unknown.
    pub size: u64,
    /// The user whom SASL authenticated.
    pub sasl_username: Option<Box<str>>,
    /// Whether the session is inside TLS.
    pub tls: TlsState,
    /// What `policy_context` of this check says in main.cf.
    pub context: Option<Box<str>>,
    /// Postfix's queue id, once there is one.
    pub queue_id: Option<Box<str>>,
}

impl PolicyRequest {
    /// A request about a client, with nothing else known.
    #[must_use]
    pub fn new(state: ProtocolState, instance: &str, client: IpAddr) -> Self {
        Self {
            state,
            instance: instance.into(),
            client,
            helo: None,
            sender: Ok(ReversePath::Null),
            recipient: None,
            recipient_count: 0,
            size: 0,
            sasl_username: None,
            tls: TlsState::Clear,
            context: None,
            queue_id: None,
        }
    }

    pub(crate) fn from_attributes(attributes: Vec<Attribute<'_>>) -> Result<Self, RequestError> {
        let found = |name: &'static str| {
            let mut all = attributes.iter().rev();
            all.find(|one| one.name == name.as_bytes()).map(|one| one.value)
        };
        let wrong = |name: &'static str, value: &[u8], wanted| RequestError::Attribute {
            name,
            value: shown(value),
            wanted,
        };
        let text = |name| {
            let value = found(name).filter(|value| !value.is_empty());
            value.map(|value| Box::<str>::from(String::from_utf8_lossy(value)))
        };
        let number = |name: &'static str| match found(name) {
            None | Some(b"") => Ok(0),
            Some(value) => match std::str::from_utf8(value).ok().and_then(|n| n.parse().ok()) {
                Some(number) => Ok(number),
                None => Err(wrong(name, value, "a whole number is wanted")),
            },
        };
        match found("request") {
            Some(b"smtpd_access_policy") => {}
            None => return Err(RequestError::Missing("request")),
            Some(other) => {
                return Err(wrong("request", other, "only smtpd_access_policy is answered"));
            }
        }
        let state = found("protocol_state").ok_or(RequestError::Missing("protocol_state"))?;
        let known = ProtocolState::ALL.iter().find(|(_, word)| word.as_bytes() == state);
        let state = match known {
            Some((known, _)) => *known,
            None => return Err(wrong("protocol_state", state, "a state such as RCPT is wanted")),
        };
        let instance = text("instance").ok_or(RequestError::Missing("instance"))?;
        if instance.len() > 255 {
            return Err(wrong("instance", instance.as_bytes(), "255 octets are the most"));
        }
        let client = match found("client_address") {
            None | Some(b"") => return Err(RequestError::Missing("client_address")),
            Some(b"unknown") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(value) => match std::str::from_utf8(value).ok().and_then(|ip| ip.parse().ok()) {
                Some(ip) => IpAddr::to_canonical(&ip),
                None => return Err(wrong("client_address", value, "an IP address is wanted")),
            },
        };
        let recipient = found("recipient").filter(|value| !value.is_empty());
        Ok(Self {
            state,
            instance,
            client,
            helo: text("helo_name"),
            sender: match found("sender").unwrap_or_default() {
                b"" => Ok(ReversePath::Null),
                sender => address(sender).map(ReversePath::Mailbox),
            },
            recipient: recipient.map(address),
            recipient_count: u32::try_from(number("recipient_count")?).unwrap_or(u32::MAX),
            size: number("size")?,
            sasl_username: text("sasl_username"),
            tls: match found("encryption_protocol") {
                None | Some(b"") => TlsState::Clear,
                Some(_) => TlsState::Encrypted,
            },
            context: text("policy_context"),
            queue_id: text("queue_id"),
        })
    }

    /// The request as Postfix sends it, for clients of policy servers and for tests. Control characters
    /// in texts become blanks; an address that was none is sent as nothing.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = String::from("request=smtpd_access_policy\n");
        let sender = self.sender.as_ref().ok().and_then(ReversePath::mailbox).map(to_internal);
        let recipient = self.recipient.as_ref().and_then(|one| one.as_ref().ok()).map(to_internal);
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        for (name, value) in [
            ("protocol_state", Some(self.state.as_str().to_owned())),
            ("instance", Some(self.instance.to_string())),
            ("client_address", Some(self.client.to_string())),
            ("helo_name", text(&self.helo)),
            ("sender", sender),
            ("recipient", recipient),
            ("recipient_count", Some(self.recipient_count.to_string())),
            ("size", Some(self.size.to_string())),
            ("sasl_username", text(&self.sasl_username)),
            ("encryption_protocol", (self.tls == TlsState::Encrypted).then(|| "TLSv1.3".into())),
            ("policy_context", text(&self.context)),
            ("queue_id", text(&self.queue_id)),
        ] {
            let value = one_line(&value.unwrap_or_default(), 2048);
            // Writing to a text cannot fail.
            let _ = writeln!(out, "{name}={value}");
        }
        out.push('\n');
        out.into_bytes()
    }
}

fn address(value: &[u8]) -> Result<Mailbox, MailboxError> {
    match std::str::from_utf8(value) {
        Ok(text) => from_internal(text),
        Err(_) => Err(MailboxError::Shape(shown(value))),
    }
}
