//! What a peer saw.

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Each command line as it came, without CR LF; the content of messages is not among them.
    pub commands: Vec<String>,
    /// Each transaction whose MAIL was taken, in order, however far it came.
    pub transactions: Vec<Received>,
    /// How many of the commands came before TLS; `None` while it is in clear text.
    pub clear_commands: Option<usize>,
    /// Octets that followed STARTTLS in clear text, and were thrown away.
    pub behind_starttls: Vec<u8>,
    /// Whether it is over.
    pub is_over: bool,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The connection, counted from 0.
    pub session: usize,
    /// It came inside TLS.
    pub over_tls: bool,
    /// The address of MAIL, without brackets.
    pub sender: String,
    /// The parameters of MAIL, as written.
    pub parameters: Vec<String>,
    /// The addresses of the RCPTs that were taken, without brackets.
    pub recipients: Vec<String>,
    /// The parameters of each of these RCPTs.
    pub recipient_parameters: Vec<Vec<String>>,
    /// The content as far as it came, without stuffed dots.
    pub content: Vec<u8>,
    /// How the content came; `None`: none did.
    pub framing: Option<Framing>,
    /// The content came to its end: as which of all that came so far, counted from 0.
    pub whole: Option<usize>,
    /// What was said to the end of the content: one reply, or for LMTP one for each recipient.
    pub verdicts: Vec<String>,
}

/// How the content of a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// By DATA, up to the final dot.
    Data,
    /// By BDAT, in so many chunks (RFC 3030).
    Chunks(usize),
}

impl Received {
    /// Whether the content came to its end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether the message was taken, for one recipient at least.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.verdicts.iter().any(|verdict| verdict.starts_with('2'))
    }

    /// The content as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}
