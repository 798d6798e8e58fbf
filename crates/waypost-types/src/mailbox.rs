//! An e-mail address as it stands in MAIL and RCPT.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Domain, DomainError, Host};

/// A mailbox, `local-part@domain` or `local-part@[address]` (RFC 5321 section 4.1.2, RFC 6531).
///
/// The local part is kept as written, but a quoted one that needs no quotes loses them and one that
/// does is quoted in the shortest way, so that equal mailboxes have one wire form. Equality, order
/// and hash ignore the letter case of the local part; a plus tag is ordinary characters. The local
/// part has at most 64 octets and never holds a control character, so a mailbox can stand in any
/// SMTP command or header line as it is.
///
/// ```
/// use waypost_types::Mailbox;
/// let a: Mailbox = r#""Marie"@Solarmora.com"#.parse()?;
/// assert_eq!(a.to_string(), "Marie@solarmora.com");
/// assert_eq!(a, "MARIE@solarmora.com".parse()?);
/// assert!("a@b@c".parse::<Mailbox>().is_err());
/// # Ok::<(), waypost_types::MailboxError>(())
/// ```
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct Mailbox {
    local_part: Box<str>,
    host: Host,
}

/// Why a text is no mailbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// There is no `@`, or nothing before it.
    #[error("`{0}` is no mailbox; write `local-part@domain`")]
    Shape(String),
    /// The local part has more than 64 octets.
    #[error("the local part of `{0}` has more than 64 octets (RFC 5321 section 4.5.3.1.1)")]
    LocalPartTooLong(String),
    /// The local part holds a character that must be quoted, or may not stand there at all.
    #[error("the local part of `{text}` holds {character:?}, which may not stand there unquoted")]
    LocalPartCharacter {
        /// The text as given.
        text: String,
        /// The first offending character.
        character: char,
    },
    /// The domain is no domain.
    #[error("the domain of `{text}` is wrong: {source}")]
    Domain {
        /// The text as given.
        text: String,
        /// The rule that it breaks.
        source: DomainError,
    },
    /// Brackets that hold no IP address.
    #[error(
        "`{0}` has brackets that hold no IP address; write `[192.0.2.1]` or `[IPv6:2001:db8::1]`"
    )]
    Literal(String),
}

impl Mailbox {
    /// A mailbox of a local part in wire form (quoted if it must be) and a host.
    ///
    /// # Errors
    /// [`MailboxError`] when the local part breaks a rule of the type.
    pub fn new(local_part: &str, host: impl Into<Host>) -> Result<Self, MailboxError> {
        let host = host.into();
        Ok(Self { local_part: parse_local_part(local_part, local_part)?, host })
    }

    /// `postmaster` at a domain, which every domain has (RFC 5321 section 4.5.1).
    #[must_use]
    pub fn postmaster(domain: Domain) -> Self {
        Self { local_part: "postmaster".into(), host: Host::Name(domain) }
    }

    /// The local part in wire form, with its quotes if it needs them.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// What stands behind the `@`.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The domain; `None` for an address literal.
    #[must_use]
    pub fn domain(&self) -> Option<&Domain> {
        self.host.name()
    }

    /// The same local part at another domain.
    #[must_use]
    pub fn with_domain(&self, domain: Domain) -> Self {
        Self { local_part: self.local_part.clone(), host: Host::Name(domain) }
    }

    /// Whether the local part needs SMTPUTF8 on the wire.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local_part.is_ascii()
    }

    fn folded(&self) -> impl Iterator<Item = char> {
        self.local_part.chars().flat_map(char::to_lowercase)
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        let (local_part, host) =
            text.rsplit_once('@').ok_or_else(|| MailboxError::Shape(shown(text)))?;
        let local_part = parse_local_part(local_part, text)?;
        let host = if host.starts_with('[') {
            host.parse().map_err(|_| MailboxError::Literal(shown(text)))?
        } else {
            Host::Name(
                host.parse()
                    .map_err(|source| MailboxError::Domain { text: shown(text), source })?,
            )
        };
        Ok(Self { local_part, host })
    }
}

/// The text for an error message: bounded, and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(320).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn parse_local_part(local_part: &str, text: &str) -> Result<Box<str>, MailboxError> {
    if local_part.is_empty() {
        return Err(MailboxError::Shape(shown(text)));
    }
    let wire = match local_part.strip_prefix('"') {
        None => match dot_string_error(local_part) {
            None => local_part.to_owned(),
            Some(character) => {
                return Err(MailboxError::LocalPartCharacter { text: shown(text), character });
            }
        },
        Some(rest) => {
            let content = unquoted(rest).map_err(|character| MailboxError::LocalPartCharacter {
                text: shown(text),
                character,
            })?;
            if dot_string_error(&content).is_none() { content } else { quoted(&content) }
        }
    };
    if wire.len() > 64 {
        return Err(MailboxError::LocalPartTooLong(shown(text)));
    }
    Ok(wire.into())
}

/// The first character that keeps the text from being a dot-string, if there is one.
fn dot_string_error(text: &str) -> Option<char> {
    if text.is_empty() || text.starts_with('.') || text.ends_with('.') || text.contains("..") {
        return Some('.');
    }
    text.chars().find(|c| match c {
        '.' => false,
        c if c.is_ascii() => !c.is_ascii_alphanumeric() && !"!#$%&'*+-/=?^_`{|}~".contains(*c),
        c => c.is_control(),
    })
}

/// The content of a quoted string whose opening quote is gone, or the character that breaks it.
fn unquoted(rest: &str) -> Result<String, char> {
    let inside = rest.strip_suffix('"').ok_or('"')?;
    let mut content = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let kept = match c {
            '\\' => chars.next().ok_or('\\')?,
            '"' => return Err('"'),
            c => c,
        };
        if kept.is_control() {
            return Err(kept);
        }
        content.push(kept);
    }
    Ok(content)
}

fn quoted(content: &str) -> String {
    let mut wire = String::with_capacity(content.len() + 2);
    wire.push('"');
    for c in content.chars() {
        if matches!(c, '"' | '\\') {
            wire.push('\\');
        }
        wire.push(c);
    }
    wire.push('"');
    wire
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(domain) => write!(f, "{}@{domain}", self.local_part),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{}@[{ip}]", self.local_part),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "{}@[IPv6:{ip}]", self.local_part),
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

impl PartialEq for Mailbox {
    fn eq(&self, other: &Self) -> bool {
        let (own, others) = (&*self.local_part, &*other.local_part);
        self.host == other.host
            && match own.is_ascii() && others.is_ascii() {
                true => own.eq_ignore_ascii_case(others),
                false => self.folded().eq(other.folded()),
            }
    }
}

impl Eq for Mailbox {}

impl PartialOrd for Mailbox {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mailbox {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.host.cmp(&other.host).then_with(|| self.folded().cmp(other.folded()))
    }
}

impl Hash for Mailbox {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        let local_part = self.local_part.as_bytes();
        let mut folded = [0; 64];
        match folded.get_mut(..local_part.len()) {
            // In one piece, since a directory is asked for each address of each message.
            Some(folded) if local_part.is_ascii() => {
                folded.copy_from_slice(local_part);
                folded.make_ascii_lowercase();
                state.write(folded);
            }
            _ => state.write(self.folded().collect::<String>().as_bytes()),
        }
        state.write_u8(0xff);
    }
}

impl TryFrom<String> for Mailbox {
    type Error = MailboxError;

    fn try_from(text: String) -> Result<Self, MailboxError> {
        text.parse()
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> String {
        mailbox.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_and_refuses() {
        let long = format!("{}@b.example", "a".repeat(65));
        for (text, want) in [
            ("a@b.example", Some("a@b.example")),
            ("A.b+tag@B.example", Some("A.b+tag@b.example")),
            (r#""a b"@b.example"#, Some(r#""a b"@b.example"#)),
            (r#""a\.b"@b.example"#, Some("a.b@b.example")),
            (r#""a@b"@b.example"#, Some(r#""a@b"@b.example"#)),
            (r#""a\"b"@b.example"#, Some(r#""a\"b"@b.example"#)),
            ("a@[192.0.2.1]", Some("a@[192.0.2.1]")),
            ("a@[IPv6:2001:db8::1]", Some("a@[IPv6:2001:db8::1]")),
            ("é@b.example", Some("é@b.example")),
            ("a@b@c.example", None),
            ("a", None),
            ("@b.example", None),
            ("a@", None),
            (".a@b.example", None),
            ("a..b@b.example", None),
            ("a b@b.example", None),
            ("\"a\rb\"@b.example", None),
            ("\"a\\\rb\"@b.example", None),
            ("\"a\0b\"@b.example", None),
            ("\"a@b.example", None),
            ("\"a\"b\"@b.example", None),
            ("a@192.0.2.1", None),
            ("a@[b.example]", None),
            ("a|/bin/sh;@b.example", None),
            (&long, None),
        ] {
            let got = text.parse::<Mailbox>().ok().map(|found| found.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn equality_ignores_the_case_of_the_local_part() {
        let mut set = std::collections::HashSet::new();
        for text in ["a@b.example", "A@B.EXAMPLE", r#""A"@b.example"#] {
            set.insert(text.parse::<Mailbox>().unwrap());
        }
        assert_eq!(set.len(), 1);
        // U+212A is a K in lower case, and so the same as an ASCII one.
        set.extend(
            ["k@b.example", "\u{212a}@b.example", "K@b.example"].map(|one| one.parse().unwrap()),
        );
        assert_eq!(set.len(), 2);
        assert_ne!("a+x@b.example".parse::<Mailbox>(), "a@b.example".parse::<Mailbox>());
    }

    proptest! {
        #[test]
        fn display_parses_back(text in "\\PC{1,12}|\"\\PC{0,12}\"", domain in "[a-z]{1,8}\\.example") {
            if let Ok(mailbox) = format!("{text}@{domain}").parse::<Mailbox>() {
                let wire = mailbox.to_string();
                prop_assert_eq!(wire.parse::<Mailbox>().unwrap().to_string(), wire.clone());
                prop_assert!(!wire.contains(char::is_control));
            }
        }
    }
}
