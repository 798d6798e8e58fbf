//! What a filter was asked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use waypost_milter::{Command, Peer};

/// What a filter was told of one message, as text; octets that are no UTF-8 are shown as U+FFFD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Over which connection, counted from 0.
    pub connection: usize,
    /// The client's name.
    pub host_name: String,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The client's port.
    pub port: u16,
    /// The argument of HELO.
    pub helo: String,
    /// The sender, without brackets.
    pub sender: String,
    /// The recipients, without brackets.
    pub recipients: Vec<String>,
    /// The fields: name and value.
    pub fields: Vec<(String, String)>,
    /// The body as far as it came.
    pub body: Vec<u8>,
    /// Macros by name, without braces, as they were told last.
    pub facts: BTreeMap<String, String>,
    /// The message came to its end.
    pub is_whole: bool,
}

impl Asked {
    pub(super) fn note(&mut self, command: &Command<'_>) {
        match command {
            Command::Connect { host_name, peer } => {
                self.host_name = text(host_name);
                if let Peer::Ip(ip, port) = peer {
                    (self.address, self.port) = (Some(*ip), *port);
                }
            }
            Command::Helo(name) => self.helo = text(name),
            Command::Mail { path, .. } => self.sender = inside(path),
            Command::Rcpt { path, .. } => self.recipients.push(inside(path)),
            Command::Header { name, value } => self.fields.push((text(name), text(value))),
            Command::Body(piece) => self.body.extend_from_slice(piece),
            Command::EndOfMessage(piece) => {
                self.body.extend_from_slice(piece);
                self.is_whole = true;
            }
            _ => {}
        }
    }

    /// Whether the text stands in a value of a field or in the body.
    #[must_use]
    pub fn contains(&self, token: &str) -> bool {
        self.fields.iter().any(|(_, value)| value.contains(token))
            || memchr::memmem::find(&self.body, token.as_bytes()).is_some()
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// What is known of the client when the next message of its session begins.
    pub(super) fn next_message(&self) -> Self {
        Self {
            connection: self.connection,
            host_name: self.host_name.clone(),
            address: self.address,
            port: self.port,
            helo: self.helo.clone(),
            ..Self::default()
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn inside(path: &[u8]) -> String {
    text(path).trim_start_matches('<').trim_end_matches('>').to_owned()
}
