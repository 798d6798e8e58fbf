//! What is told beside the commands: macros.

use std::net::IpAddr;

use waypost_types::{Mailbox, ReversePath};

use crate::command::Macro;
use crate::options::Step;
use crate::question::FilterQuestion;

/// Values of macros, made once for a question.
#[derive(Debug)]
pub(super) struct Facts<'q> {
    host_name: &'q str,
    /// In angle brackets, as the recipient's.
    sender: String,
    recipient: String,
    /// Name and value; no value is empty.
    known: Vec<(&'static str, String)>,
}

/// What is told where the filter does not choose. What servers in use tell, filters expect.
const USUAL: [(Step, &[&str]); 7] = [
    (
        Step::Connect,
        &[
            "j",
            "{daemon_name}",
            "v",
            "{client_addr}",
            "{client_name}",
            "{client_port}",
            "{client_ptr}",
            "{gateway_addr}",
        ],
    ),
    (Step::Helo, &["{tls_version}", "{cipher}", "{cipher_bits}"]),
    (Step::Mail, &["i", "{auth_type}", "{auth_authen}", "{mail_addr}"]),
    (Step::Rcpt, &["i", "{rcpt_addr}"]),
    (Step::Data, &["i"]),
    (Step::EndOfHeader, &["i"]),
    (Step::EndOfMessage, &["i"]),
];

impl<'q> Facts<'q> {
    pub(super) fn of(question: &'q FilterQuestion<'q>) -> Self {
        let told: IpAddr = question.told_ip();
        let host_name = question.host_name.unwrap_or("unknown");
        let sender = match question.sender {
            ReversePath::Null => String::new(),
            ReversePath::Mailbox(mailbox) => mailbox.to_string(),
        };
        let tls = question.tls.unwrap_or_default();
        let number = |number: u16| if number == 0 { String::new() } else { number.to_string() };
        let gateway = question.source_ip.filter(|_| told != question.client_ip.to_canonical());
        let mut known = vec![
            ("j", question.own_name.to_string()),
            ("{daemon_name}", question.own_name.to_string()),
            ("v", "Waypost".to_owned()),
            ("_", format!("{host_name} [{told}]")),
            ("{client_addr}", told.to_string()),
            ("{client_name}", host_name.to_owned()),
            ("{client_port}", number(question.port)),
            ("{client_ptr}", host_name.to_owned()),
            (
                "{gateway_addr}",
                gateway.map_or_else(String::new, |_| question.client_ip.to_string()),
            ),
            ("{tls_version}", tls.version.to_owned()),
            ("{cipher}", tls.cipher.to_owned()),
            ("{cipher_bits}", number(tls.bits)),
            ("i", question.queue_id.map_or_else(String::new, |id| id.to_string())),
            ("{auth_type}", question.auth_mechanism.unwrap_or_default().to_owned()),
            ("{auth_authen}", question.auth.unwrap_or_default().to_owned()),
            ("{mail_addr}", sender.clone()),
            ("{mail_host}", question.sender.domain().map_or_else(String::new, ToString::to_string)),
        ];
        known.retain(|(_, value)| !value.is_empty());
        Self { host_name, sender: format!("<{sender}>"), recipient: String::new(), known }
    }

    pub(super) fn host_name(&self) -> &'q [u8] {
        self.host_name.as_bytes()
    }

    pub(super) fn sender(&self) -> &str {
        &self.sender
    }

    /// Goes to a recipient; false: there is none with this number.
    pub(super) fn recipient(&mut self, all: &[&Mailbox], nth: usize) -> bool {
        let Some(mailbox) = all.get(nth) else { return false };
        self.recipient = format!("<{mailbox}>");
        true
    }

    pub(super) fn recipient_path(&self) -> &str {
        &self.recipient
    }

    /// The macros of a step: those that the filter chose, else the usual ones. Without braces means the
    /// same as with them.
    pub(super) fn macros<'a>(
        &'a self,
        step: Step,
        chosen: Option<&'a [Box<str>]>,
    ) -> Vec<Macro<'a>> {
        match chosen {
            Some(names) => names.iter().filter_map(|name| self.value(name, step)).collect(),
            None => {
                let usual = USUAL.iter().find(|(usual, _)| *usual == step);
                let names = usual.map_or(&[][..], |(_, names)| names);
                names.iter().filter_map(|name| self.value(name, step)).collect()
            }
        }
    }

    fn value<'a>(&'a self, name: &'a str, step: Step) -> Option<Macro<'a>> {
        let plain = |name: &'a str| name.trim_start_matches('{').trim_end_matches('}');
        if plain(name) == "rcpt_addr" {
            let address = self.recipient.trim_start_matches('<').trim_end_matches('>');
            let is_now = step == Step::Rcpt && !address.is_empty();
            return is_now.then_some((b"{rcpt_addr}", address.as_bytes()));
        }
        let (name, value) = self.known.iter().find(|(known, _)| plain(known) == plain(name))?;
        Some((name.as_bytes(), value.as_bytes()))
    }
}
