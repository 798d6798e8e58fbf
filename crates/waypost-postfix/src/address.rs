//! Addresses as Postfix has them inside: without quotes.

use waypost_types::{Mailbox, MailboxError};

/// A mailbox from Postfix's *internal* form, in which policy requests hold addresses: the local part
/// stands without quotes and backslashes, whatever is in it; the last `@` parts it from the domain.
///
/// ```
/// use waypost_postfix::from_internal;
/// assert_eq!(from_internal("a b@c.example")?.to_string(), r#""a b"@c.example"#);
/// assert_eq!(from_internal("marie@c.example")?.to_string(), "marie@c.example");
/// # Ok::<(), waypost_types::MailboxError>(())
/// ```
///
/// # Errors
/// [`MailboxError`] of a text without `@`, and of one that is no mailbox however it is quoted.
pub fn from_internal(text: &str) -> Result<Mailbox, MailboxError> {
    let Some((local_part, domain)) = text.rsplit_once('@') else { return text.parse() };
    if local_part.is_empty() {
        return text.parse();
    }
    if !local_part.starts_with('"')
        && let Ok(mailbox) = text.parse()
    {
        return Ok(mailbox);
    }
    let mut quoted = String::with_capacity(text.len() + 8);
    quoted.push('"');
    for c in local_part.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted.push('@');
    quoted.push_str(domain);
    quoted.parse()
}

/// A mailbox from the key of a table, where Postfix tries the form with quotes first and then the
/// internal one.
///
/// # Errors
/// [`MailboxError`] of a key that is no whole address, such as `@domain` or `domain`.
pub fn from_key(key: &str) -> Result<Mailbox, MailboxError> {
    key.parse().or_else(|error| from_internal(key).map_err(|_| error))
}

/// A mailbox in Postfix's internal form.
#[must_use]
pub fn to_internal(mailbox: &Mailbox) -> String {
    let wire = mailbox.to_string();
    let (Some(inside), Some((_, host))) =
        (mailbox.local_part().strip_prefix('"'), wire.rsplit_once('@'))
    else {
        return wire;
    };
    let mut internal = String::with_capacity(wire.len());
    let mut chars = inside.strip_suffix('"').unwrap_or(inside).chars();
    while let Some(c) = chars.next() {
        internal.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    internal.push('@');
    internal.push_str(host);
    internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_forms() {
        for (internal, wire) in [
            ("marie@solarmora.com", "marie@solarmora.com"),
            ("a b@c.example", r#""a b"@c.example"#),
            ("a@b@c.example", r#""a@b"@c.example"#),
            (r#""a"@c.example"#, r#""\"a\""@c.example"#),
            (r"a\b@c.example", r#""a\\b"@c.example"#),
            (".a@c.example", r#"".a"@c.example"#),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ] {
            let mailbox = from_internal(internal).unwrap();
            assert_eq!(mailbox.to_string(), wire);
            assert_eq!(to_internal(&mailbox), internal);
            assert_eq!(from_key(wire).unwrap(), mailbox, "{wire}");
        }
        for wrong in ["", "a", "@c.example", "a@", "a\n@c.example", "a@b c"] {
            assert!(from_internal(wrong).is_err(), "{wrong}");
            assert!(from_key(wrong).is_err(), "{wrong}");
        }
    }
}
