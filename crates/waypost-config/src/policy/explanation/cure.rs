//! What an administrator can do about a refusal.

use super::super::decision::RefusalCause;

/// The cure, in words for the one who owns the configuration; `None` where the reply says it.
pub(super) fn cure(cause: RefusalCause) -> Option<&'static str> {
    Some(match cause {
        RefusalCause::NotAGateway => {
            "send through an address of [organization.inbound_gateway], add the client to its \
             addresses, or set reject_other_clients = false or \"observe\""
        }
        RefusalCause::GatewayInClearText => {
            "let the gateway use STARTTLS, or set require_tls = false or \"observe\" in \
             [organization.inbound_gateway]"
        }
        RefusalCause::RelayingDenied => {
            "to receive for the recipient, add its domain to an organization's domains; to relay, \
             send through a relay listener"
        }
        RefusalCause::NotAdmitted(_) => {
            "to receive for the recipient, add its domain to an organization's domains; to relay, \
             meet what a relay entry asks for"
        }
        RefusalCause::UnknownRecipient => {
            "add a user, an alias or a group of this address, or a rule with accounts = \
             [\"unrecognized\"] that changes the route (split delivery)"
        }
        RefusalCause::EmptyGroup => "give the group members, or name a mailbox_route",
        RefusalCause::Rule => {
            "narrow the rule's envelope filter or accounts, or set its mode to \"observe\" to see \
             what it would refuse"
        }
        RefusalCause::Spam => {
            "look at the line that the tag matches, or at what the filter says; spam_action = \
             \"mark\" or \"quarantine\" refuses nothing"
        }
        RefusalCause::Malware => "spam_action = \"mark\" or \"quarantine\" keeps it instead",
        RefusalCause::Filter => "see the filter's own log and settings",
        RefusalCause::FilterUnanswered => {
            "see whether the filter runs; on_failure = \"accept\" takes mail without it; the client \
             tries again by itself"
        }
        RefusalCause::Authentication(_) => {
            "the sending domain mends its SPF, DKIM or DMARC; authenticate = \"report\" refuses \
             nothing"
        }
        RefusalCause::DirectoryUnavailable => {
            "mend the organization's directory; the client tries again by itself"
        }
        RefusalCause::Loop => "find the next hop that sends the mail back: read its Received lines",
        RefusalCause::TooLarge => {
            "send a smaller one, or raise message_size or header_size in [server.limits]"
        }
        _ => return None,
    })
}
