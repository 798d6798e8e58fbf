//! One message to some recipients of one host, and the commands for it.

use waypost_types::{
    Body, EnhancedCode, Envelope, Failure, FailureScope, HostPort, MailParameters, Notify, Outcome,
    Recipient, Reply, Ret, ReversePath,
};

use super::config::EightBitPolicy;
use super::extensions::{Extensions, Size};
use super::message::Message;

/// One message to some recipients of one host. Cloning copies the envelope and shares the message.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The sender to name.
    pub sender: ReversePath,
    /// Parameters of MAIL; those that the peer does not offer are left out where that changes
    /// nothing, and fail the transaction where it would.
    pub parameters: MailParameters,
    /// The recipients; outcomes have their order.
    pub recipients: Vec<Recipient>,
    /// The message.
    pub message: Message,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One outcome for each recipient, in their order.
    pub outcomes: Vec<Outcome>,
    /// Whether the peer answered MAIL with anything but 421. If it did not, nothing was sent that
    /// could be delivered, and an old connection may simply have been closed on us: a fresh one may
    /// do better.
    pub mail_answered: bool,
    /// What the peer offered: with `dsn` it answers for the notices of success that it was asked
    /// for, without it we do (RFC 3461 section 5.2). Nothing when there was no session.
    pub offered: Extensions,
}

impl Transaction {
    /// A message to all recipients of an envelope, as a server's side took it.
    #[must_use]
    pub fn new(envelope: Envelope, message: Message) -> Self {
        let Envelope { sender, parameters, recipients } = envelope;
        Self { sender, parameters, recipients, message }
    }

    /// Why nothing of this may go to such a peer, if so.
    pub(super) fn refusal(&self, offered: &Extensions, policy: EightBitPolicy) -> Option<Reply> {
        if !offered.smtputf8 && self.content_needs_smtputf8() {
            return Some(no_smtputf8());
        }
        let declared = self.parameters.body == Body::EightBitMime;
        let refused = match policy {
            EightBitPolicy::RefuseDeclared => declared,
            EightBitPolicy::Refuse => true,
            EightBitPolicy::SendAsIs => false,
        };
        if refused && self.message.is_eight_bit() && !offered.eight_bit_mime {
            let text = "the message holds 8-bit text and the next hop does not offer 8BITMIME \
                        (RFC 6152); it is not converted, so send it as 7-bit MIME";
            return Some(Reply::new(554, (5, 6, 3), text));
        }
        match offered.size {
            Size::AtMost(limit) if self.message.octets() > limit => {
                let size = self.message.octets();
                let text = format!(
                    "the message has {size} octets and the next hop takes {limit} (RFC 1870); \
                     make it smaller"
                );
                Some(Reply::new(552, (5, 3, 4), &text))
            }
            _ => None,
        }
    }

    fn content_needs_smtputf8(&self) -> bool {
        self.sender.mailbox().is_some_and(|sender| sender.needs_smtputf8())
            || (self.parameters.smtputf8 && self.message.has_eight_bit_header())
    }

    /// Why one recipient may not be named to such a peer, if so.
    pub(super) fn recipient_refusal(recipient: &Recipient, offered: &Extensions) -> Option<Reply> {
        (!offered.smtputf8 && recipient.address.needs_smtputf8()).then(no_smtputf8)
    }

    /// Appends the MAIL command.
    pub(super) fn write_mail(&self, offered: &Extensions, out: &mut String) {
        out.push_str(&format!("MAIL FROM:<{}>", self.sender));
        if offered.size != Size::Unsaid {
            out.push_str(&format!(" SIZE={}", self.message.octets()));
        }
        let eight_bit = self.parameters.body == Body::EightBitMime || self.message.is_eight_bit();
        if offered.eight_bit_mime && eight_bit {
            out.push_str(" BODY=8BITMIME");
        }
        let utf8 = self.parameters.smtputf8
            || self.content_needs_smtputf8()
            || self.recipients.iter().any(|recipient| recipient.address.needs_smtputf8());
        if offered.smtputf8 && utf8 {
            out.push_str(" SMTPUTF8");
        }
        if offered.dsn {
            match self.parameters.ret {
                Some(Ret::Full) => out.push_str(" RET=FULL"),
                Some(Ret::Headers) => out.push_str(" RET=HDRS"),
                None => {}
            }
            write_value(out, " ENVID=", self.parameters.envid.as_deref(), 100);
        }
        out.push_str("\r\n");
    }

    /// Appends the RCPT command for a recipient.
    pub(super) fn write_rcpt(recipient: &Recipient, offered: &Extensions, out: &mut String) {
        out.push_str(&format!("RCPT TO:<{}>", recipient.address));
        if offered.dsn {
            match recipient.notify {
                Notify::Unsaid => {}
                Notify::Never => out.push_str(" NOTIFY=NEVER"),
                Notify::On { success, failure, delay } => {
                    let named = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                    let chosen = named.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
                    let chosen = chosen.collect::<Vec<_>>().join(",");
                    if !chosen.is_empty() {
                        out.push_str(" NOTIFY=");
                        out.push_str(&chosen);
                    }
                }
            }
            write_value(out, " ORCPT=", recipient.orcpt.as_deref(), 500);
        }
        out.push_str("\r\n");
    }
}

/// A value from outside is written only if it can be nothing but one value.
fn write_value(out: &mut String, key: &str, value: Option<&str>, longest: usize) {
    if let Some(value) = value
        && !value.is_empty()
        && value.len() <= longest
        && value.bytes().all(|b| b.is_ascii_graphic())
    {
        out.push_str(key);
        out.push_str(value);
    }
}

fn no_smtputf8() -> Reply {
    let text = "an address or the header is not ASCII and the next hop does not offer SMTPUTF8 \
                (RFC 6531); use an ASCII address";
    Reply::new(553, (5, 6, 7), text)
}

/// What a reply to MAIL, RCPT, DATA or the dot means for a recipient.
pub(super) fn refused(host: &HostPort, reply: Reply) -> Outcome {
    Outcome::from_refusal(FailureScope::Message, Some(host.clone()), reply)
}

/// The same for RCPT, where 552 for "too many recipients" is but a wrong 452 (RFC 5321 section
/// 4.5.3.1.10).
pub(super) fn rcpt_refused(host: &HostPort, reply: Reply) -> Outcome {
    let too_many = reply.code() == 552
        && reply
            .enhanced()
            .is_none_or(|EnhancedCode(_, subject, detail)| (subject, detail) == (5, 3));
    if too_many {
        let host = Some(host.clone());
        return Outcome::Deferred(Failure { scope: FailureScope::Message, host, reply });
    }
    refused(host, reply)
}
