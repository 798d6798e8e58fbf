//! One recorded message: a line of JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use waypost_auth::Authentication;

use crate::policy::{Answers, FilterAnswer, Known};

/// The longest line that is read, in octets.
pub const MAX_LINE: usize = 4 << 20;

/// What decisions about a message depend on, and what was decided then.
///
/// The fields up to `message` are those of `waypost explain CONFIG --batch`, so that a line can be
/// asked about as it is. Those behind it may be absent in lines from elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// So many lines before this one could not be written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The message's id: a recorded one's is the queue id, or one like it where none was given.
    #[serde(default)]
    pub id: Value,
    /// When it was decided, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Box<str>>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The listener; `None`: the first that fits.
    #[serde(default)]
    pub listener: Option<Box<str>>,
    /// HELO's argument.
    #[serde(default)]
    pub helo: Option<Box<str>>,
    /// The user that AUTH proved.
    #[serde(default)]
    pub auth: Option<Box<str>>,
    /// Whether the session was inside TLS.
    #[serde(default)]
    pub tls: Option<bool>,
    /// The envelope sender; empty for the null one.
    #[serde(default)]
    pub mail_from: Option<Box<str>>,
    /// The recipients of RCPT, refused ones too; empty where MAIL was refused.
    pub rcpt_to: Vec<Box<str>>,
    /// The header fields that can matter, and no body.
    pub message: String,
    /// Some of those fields, or recipients, did not find room.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// The fingerprint of the key that local parts are hashed with; `None`: they are as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashed: Option<Box<str>>,
    /// What SPF, DKIM and DMARC said, where that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authentication: Vec<Authentication>,
    /// What the filter said, where it was asked; of the fields that it adds, those that tell its verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<FilterAnswer>,
    /// The version of the configuration that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Box<str>>,
    /// The queue id of an accepted message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<Box<str>>,
    /// What became of it then; for people, and not read back.
    #[serde(default, skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub fate: Option<RecordedFate>,
}

/// What became of a message when it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordedFate {
    /// The reply to MAIL.
    pub mail: String,
    /// The reply to each RCPT.
    pub rcpt: Vec<String>,
    /// The reply to the message; `None`: it was not reached.
    pub data: Option<String>,
    /// Where it went.
    pub deliveries: Vec<RecordedGoing>,
}

/// One delivery of a recorded message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedGoing {
    /// The recipient after all changes.
    pub recipient: Box<str>,
    /// `mailbox`, `route`, `mx` or `gateway`.
    pub via: &'static str,
    /// The route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Box<str>>,
    /// The quarantine that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Box<str>>,
}

/// Why a line is no recorded message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordedError {
    /// It is too long.
    #[error("the line has {0} octets, and {MAX_LINE} are read at most; leave the body out")]
    TooLong(usize),
    /// It is something else.
    #[error("the line is no JSON object; each is {{\"id\": …, \"client_ip\": …}} on one line")]
    NoObject,
    /// A field is missing, or is not what it should be.
    #[error("the line is not the JSON object that is needed: {0}")]
    Json(String),
}

impl Default for Recorded {
    /// Of no client, to nobody, empty.
    fn default() -> Self {
        Self {
            lost: 0,
            id: Value::Null,
            time: None,
            client_ip: unspecified(),
            listener: None,
            helo: None,
            auth: None,
            tls: None,
            mail_from: None,
            rcpt_to: Vec::new(),
            message: String::new(),
            cut: false,
            hashed: None,
            authentication: Vec::new(),
            filter: Vec::new(),
            version: None,
            queue_id: None,
            fate: None,
        }
    }
}

impl Recorded {
    /// Reads a line; keys that are not known are passed over.
    ///
    /// # Errors
    /// [`RecordedError`] says what is wrong with it.
    pub fn read(line: &[u8]) -> Result<Self, RecordedError> {
        if line.len() > MAX_LINE {
            return Err(RecordedError::TooLong(line.len()));
        }
        // An array of the values alone would be taken for the object.
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err(RecordedError::NoObject);
        }
        serde_json::from_slice(line).map_err(|error| RecordedError::Json(error.to_string()))
    }

    /// What was known of the message when it was decided.
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        let answers = self.authentication.as_slice();
        let dns = (!answers.is_empty()).then_some(Answers::Given(answers));
        Known { dns, filter: &self.filter }
    }

    /// The line, with its line end.
    #[must_use]
    pub fn to_line(&self) -> String {
        // A value of texts and numbers can be written.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

fn unspecified() -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_are_none_say_why_c9() {
        for (line, want) in [
            ("", "no JSON object"),
            ("[1]", "no JSON object"),
            ("{", "EOF"),
            ("{}", "missing field"),
            (r#"{"rcpt_to":[],"message":""}"#, "missing field `client_ip`"),
            (r#"{"client_ip":"x","rcpt_to":[],"message":""}"#, "invalid IP"),
            (r#"{"client_ip":"192.0.2.1","rcpt_to":"a","message":""}"#, "expected a sequence"),
        ] {
            let error = Recorded::read(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{line}: {error}");
        }
        let long = vec![b' '; MAX_LINE + 1];
        assert!(matches!(Recorded::read(&long), Err(RecordedError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_octets_are_a_message_or_an_error(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Recorded::read(&line);
        }

        #[test]
        fn what_is_written_reads_back(text in "\\PC{0,30}", lost in any::<u64>(), tls in any::<bool>()) {
            let line = Recorded {
                lost,
                id: Value::String(text.clone()),
                client_ip: [192, 0, 2, 1].into(),
                helo: Some(text.as_str().into()),
                tls: Some(tls),
                rcpt_to: vec![text.as_str().into()],
                message: text,
                cut: tls,
                ..Recorded::default()
            };
            let written = line.to_line();
            prop_assert_eq!(written.matches('\n').count(), 1);
            prop_assert_eq!(Recorded::read(written.as_bytes()).unwrap(), line);
        }
    }
}
