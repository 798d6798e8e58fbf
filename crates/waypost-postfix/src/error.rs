//! What cannot be read as a request.

/// The octets are no request. What follows them cannot be told from them: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// More octets than a request may have.
    #[error("a request of more than {most} octets; nothing that Postfix sends is so long")]
    TooLong {
        /// The most that is read.
        most: usize,
    },
    /// More attributes than a request may have.
    #[error("a request of more than {most} attributes; Postfix sends some thirty")]
    TooManyAttributes {
        /// The most that is read.
        most: usize,
    },
    /// A line without `=`, or with nothing before it.
    #[error("`{0}` is no attribute; each line is `name=value` (SMTPD_POLICY_README)")]
    NotAnAttribute(String),
    /// An attribute that every request has is missing or empty.
    #[error("the attribute `{0}` is missing; Postfix sends it with each request")]
    Missing(&'static str),
    /// An attribute with a value of another kind.
    #[error("the attribute {name} cannot be `{value}`; {wanted}")]
    Attribute {
        /// The attribute.
        name: &'static str,
        /// Its value, cut short.
        value: String,
        /// What it can be.
        wanted: &'static str,
    },
    /// What should be a netstring is none.
    #[error("no netstring: {0}; write `3:abc,`")]
    Netstring(&'static str),
    /// A socketmap request without a blank between name and key.
    #[error(
        "`{0}` is no request; write the table's name, a blank, and the key (socketmap_table(5))"
    )]
    NoKey(String),
    /// A line that does not begin with `get `.
    #[error("`{0}` is no request; write `get` and a key (tcp_table(5))")]
    NotGet(String),
    /// `%` that two hexadecimal digits do not follow, or an octet that must be written so.
    #[error(
        "`{0}` is not encoded as tcp_table(5) asks; write blanks, `%` and control characters as %XX"
    )]
    Encoding(String),
    /// An answer that a server of this protocol does not give.
    #[error("`{0}` is no answer of this protocol")]
    NotAnAnswer(String),
}
