//! One command line to one [`Command`], or to the reply that refuses it.
//!
//! **In:** a line without its CR LF, in which no CR, LF or NUL is left. **Out:** a command whose
//! addresses and parameters are typed. **Bounds:** linear in the line, whose limit depends on the
//! verb (512, 4,096 or 12,288 octets). **Errors:** a [`Reply`] with the cure. **Source:** RFC 5321
//! section 4.1, RFC 1870 (SIZE), 3030 (BDAT), 3461 (DSN), 4954 (AUTH), 6152 (8BITMIME), 6531
//! (SMTPUTF8).
//!
//! The parser is our own, because a command here is refused rather than repaired: a control
//! character inside an address, a contradicting `NOTIFY`, a parameter given twice, `ENVID` that is
//! no xtext, arguments where none may stand; and `ENVID` and `ORCPT` travel on as they were given.

use waypost_types::{Mailbox, Reply, ReversePath};

use super::parameters::{self, MailArguments, RcptArguments};

/// Limit of a line, by verb; CR LF included (RFC 5321 section 4.5.3.1.4, RFC 4954 section 4).
const COMMAND_LINE: usize = 512;
const PATH_LINE: usize = 4096;
/// Several names of 255 octets may stand in XCLIENT.
const XCLIENT_LINE: usize = 2048;
/// The longest line there is: an AUTH command or response.
pub(super) const LONGEST_LINE: usize = 12_288;

/// EHLO or HELO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// HELO: no extensions.
    Helo,
    /// EHLO.
    Ehlo,
}

/// Who a RCPT is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ForwardPath {
    /// `<postmaster>` without a domain (RFC 5321 section 4.5.1).
    Postmaster,
    Mailbox(Mailbox),
}

/// Whether an address was written in ASCII alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Ascii,
    NeedsSmtpUtf8,
}

/// What stands behind the length in BDAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkMarker {
    /// Nothing: more chunks follow.
    More,
    Last,
    /// Something else. How many octets follow is known all the same.
    Unknown,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Hello {
        kind: HelloKind,
        name: &'a str,
    },
    Mail {
        sender: ReversePath,
        script: Script,
        arguments: MailArguments,
    },
    Rcpt {
        path: ForwardPath,
        script: Script,
        arguments: RcptArguments,
    },
    Data,
    Bdat {
        octets: u64,
        marker: ChunkMarker,
    },
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
    /// Its attributes are read once it is known whether it may be given.
    Xclient {
        attributes: &'a str,
    },
}

pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, Reply> {
    let Ok(text) = str::from_utf8(line) else {
        return Err(Reply::new(500, (5, 5, 2), "The command is no UTF-8 (RFC 6531 section 3.2)"));
    };
    let text = text.trim_end_matches(' ');
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_start_matches(' ');
    let verb = verb.to_ascii_uppercase();
    let limit = match verb.as_str() {
        "MAIL" | "RCPT" => PATH_LINE,
        "AUTH" => LONGEST_LINE,
        "XCLIENT" => XCLIENT_LINE,
        _ => COMMAND_LINE,
    };
    if line.len() + 2 > limit {
        return Err(line_too_long(limit));
    }
    match verb.as_str() {
        "HELO" => hello(HelloKind::Helo, rest),
        "EHLO" => hello(HelloKind::Ehlo, rest),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "AUTH" => auth(rest),
        "DATA" => bare("DATA", rest, Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => bare("RSET", rest, Command::Rset),
        "QUIT" => bare("QUIT", rest, Command::Quit),
        "STARTTLS" => bare("STARTTLS", rest, Command::StartTls),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" if rest.is_empty() => Err(arguments("Write VRFY and an address")),
        "VRFY" => Ok(Command::Vrfy),
        "XCLIENT" => Ok(Command::Xclient { attributes: rest }),
        "EXPN" | "TURN" | "ETRN" | "SEND" | "SOML" | "SAML" | "XFORWARD" => {
            Err(Reply::new(502, (5, 5, 1), &format!("{verb} is not offered here; see EHLO")))
        }
        _ => Err(Reply::new(500, (5, 5, 2), "Unknown command; HELP names the known ones")),
    }
}

pub(super) fn line_too_long(limit: usize) -> Reply {
    let text = format!("The line has more than {limit} octets (RFC 5321 section 4.5.3.1)");
    Reply::new(500, (5, 5, 2), &text)
}

pub(super) fn response_too_long(limit: usize) -> Reply {
    Reply::new(500, (5, 5, 6), &format!("The response has more than {limit} octets (RFC 4954)"))
}

pub(super) fn arguments(text: &str) -> Reply {
    Reply::new(501, (5, 5, 4), text)
}

/// A text that came from the client, for use in a reply: ASCII only (RFC 6531 section 3.7.4.2).
pub(super) fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

fn bare<'a>(verb: &str, rest: &str, command: Command<'a>) -> Result<Command<'a>, Reply> {
    if rest.is_empty() { Ok(command) } else { Err(arguments(&format!("{verb} takes no argument"))) }
}

/// The name is kept as given, but only characters of names and address literals may stand in it: it
/// ends up in `Received:` lines, where a comment or a bracket too many would mislead readers.
fn hello(kind: HelloKind, name: &str) -> Result<Command<'_>, Reply> {
    if !is_hello_name(name) {
        return Err(arguments(
            "Give one host name or address literal, such as EHLO mail.example.com",
        ));
    }
    Ok(Command::Hello { kind, name })
}

/// Whether a name may stand behind HELO or EHLO.
pub(super) fn is_hello_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    (1..=255).contains(&name.len()) && name.chars().all(fits)
}

fn mail(rest: &str) -> Result<Command<'_>, Reply> {
    let syntax = || arguments("Write MAIL FROM:<address> and its parameters");
    let path = after_keyword(rest, "FROM:").ok_or_else(syntax)?;
    let (inside, after) = split_path(path).ok_or_else(syntax)?;
    let bad = |why: String| Reply::new(501, (5, 1, 7), &ascii(&why));
    let sender = match inside {
        "" => ReversePath::Null,
        path => ReversePath::Mailbox(mailbox(path).map_err(bad)?),
    };
    let arguments = parameters::mail(after)?;
    Ok(Command::Mail { sender, script: script(inside), arguments })
}

fn rcpt(rest: &str) -> Result<Command<'_>, Reply> {
    let syntax = || arguments("Write RCPT TO:<address> and its parameters");
    let path = after_keyword(rest, "TO:").ok_or_else(syntax)?;
    let (inside, after) = split_path(path).ok_or_else(syntax)?;
    let bad = |why: String| Reply::new(501, (5, 1, 3), &ascii(&why));
    let path = if inside.eq_ignore_ascii_case("postmaster") {
        ForwardPath::Postmaster
    } else {
        ForwardPath::Mailbox(mailbox(inside).map_err(bad)?)
    };
    let arguments = parameters::rcpt(after)?;
    Ok(Command::Rcpt { path, script: script(inside), arguments })
}

fn script(path: &str) -> Script {
    if path.is_ascii() { Script::Ascii } else { Script::NeedsSmtpUtf8 }
}

fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| tail.trim_start_matches(' '))
}

/// The inside of `<…>` and what follows it; a `>` inside quotes ends nothing.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('<')?;
    let mut quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => {
                chars.next()?;
            }
            '>' if !quoted => {
                let (inside, after) = (text.get(..at)?, text.get(at + 1..)?);
                return (after.is_empty() || after.starts_with(' ')).then_some((inside, after));
            }
            _ => {}
        }
    }
    None
}

/// A mailbox, its source route stripped if it has one (RFC 5321 appendix C).
fn mailbox(path: &str) -> Result<Mailbox, String> {
    let address = match path.strip_prefix('@') {
        None => path,
        Some(_) => {
            let (route, address) = path
                .split_once(':')
                .ok_or_else(|| format!("`{path}` is a source route without an address"))?;
            for hop in route.split(',') {
                hop.strip_prefix('@')
                    .and_then(|domain| domain.parse::<waypost_types::Domain>().ok())
                    .ok_or_else(|| {
                        format!("`{hop}` is no hop of a source route; leave the route out")
                    })?;
            }
            address
        }
    };
    address.parse::<Mailbox>().map_err(|error| error.to_string())
}

/// A length that no 64 bits hold is the largest one, so that what follows it is no command either.
fn bdat(rest: &str) -> Result<Command<'_>, Reply> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let digits = words.next().unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(arguments("Write BDAT, a number of octets, and LAST for the last ones"));
    }
    let marker = match (words.next(), words.next()) {
        (None, _) => ChunkMarker::More,
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => ChunkMarker::Last,
        _ => ChunkMarker::Unknown,
    };
    Ok(Command::Bdat { octets: digits.parse().unwrap_or(u64::MAX), marker })
}

fn auth(rest: &str) -> Result<Command<'_>, Reply> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(arguments("Write AUTH, a mechanism, and its initial response if there is one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match parse(line.as_bytes()) {
            Ok(Command::Mail { sender, .. }) => format!("mail <{sender}>"),
            Ok(Command::Rcpt { path: ForwardPath::Mailbox(to), .. }) => format!("rcpt <{to}>"),
            Ok(command) => format!("{command:?}"),
            Err(reply) => {
                let enhanced = reply.enhanced().map(|code| code.to_string()).unwrap_or_default();
                format!("{} {enhanced}", reply.code())
            }
        }
    }

    #[test]
    fn addresses() {
        for (line, want) in [
            ("MAIL FROM:<a@b.example>", "mail <a@b.example>"),
            ("mail from:<a@b.example>", "mail <a@b.example>"),
            ("MAIL FROM: <a@b.example>", "mail <a@b.example>"),
            ("MAIL FROM:<a@b.example> ", "mail <a@b.example>"),
            ("MAIL FROM:<>", "mail <>"),
            ("MAIL FROM:<\"a>b\"@c.example>", "mail <\"a>b\"@c.example>"),
            ("MAIL FROM:<\"a\\\"> b\"@c.example>", "mail <\"a\\\"> b\"@c.example>"),
            ("MAIL FROM:<@x.example,@y.example:a@b.example>", "mail <a@b.example>"),
            ("MAIL FROM:<@x.example:>", "501 5.1.7"),
            ("MAIL FROM:<@x.example>", "501 5.1.7"),
            ("MAIL FROM:<x.example:a@b.example>", "501 5.1.7"),
            ("MAIL FROM:<a@b@c.example>", "501 5.1.7"),
            ("MAIL FROM:<a\u{1}@b.example>", "501 5.1.7"),
            ("MAIL FROM:<\"a\u{1}\"@b.example>", "501 5.1.7"),
            ("MAIL FROM:<a\t@b.example>", "501 5.1.7"),
            ("MAIL FROM:<a;/bin/sh@b.example>", "501 5.1.7"),
            ("MAIL FROM:<postmaster>", "501 5.1.7"),
            ("MAIL FROM:a@b.example", "501 5.5.4"),
            ("MAIL FROM:<a@b.example", "501 5.5.4"),
            ("MAIL FROM:<a@b.example>SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<\"a@b.example>", "501 5.5.4"),
            ("MAIL a@b.example", "501 5.5.4"),
            ("MAIL", "501 5.5.4"),
            ("MAIL TO:<a@b.example>", "501 5.5.4"),
            ("RCPT TO:<a@b.example>", "rcpt <a@b.example>"),
            ("RCPT TO:<a@[192.0.2.1]>", "rcpt <a@[192.0.2.1]>"),
            ("RCPT TO:<a@[IPv6:2001:db8::1]>", "rcpt <a@[IPv6:2001:db8::1]>"),
            ("RCPT TO:<@a.example,@b.example:u@c.example>", "rcpt <u@c.example>"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<a>", "501 5.1.3"),
            ("RCPT TO:<a b@c.example>", "501 5.1.3"),
            ("RCPT TO:<a@c.example> X=1", "555 5.5.4"),
        ] {
            assert_eq!(shown(line), want, "{line:?}");
        }
        for line in ["RCPT TO:<postmaster>", "RCPT TO:<PostMaster>"] {
            let got = parse(line.as_bytes());
            assert!(matches!(got, Ok(Command::Rcpt { path: ForwardPath::Postmaster, .. })));
        }
    }

    #[test]
    fn verbs_and_arguments() {
        for (line, want) in [
            ("NOOP", "Noop"),
            ("noop anything", "Noop"),
            ("HELP me", "Help"),
            ("VRFY a", "Vrfy"),
            ("VRFY", "501 5.5.4"),
            ("DATA", "Data"),
            ("DATA ", "Data"),
            ("DATA x", "501 5.5.4"),
            ("QUIT x", "501 5.5.4"),
            ("STARTTLS now", "501 5.5.4"),
            ("EHLO", "501 5.5.4"),
            ("EHLO a b", "501 5.5.4"),
            ("EHLO a(b)", "501 5.5.4"),
            ("EHLO a\tb", "501 5.5.4"),
            ("EHLO \u{e9}.example", "501 5.5.4"),
            ("EHLO [192.0.2.1]", "Hello { kind: Ehlo, name: \"[192.0.2.1]\" }"),
            ("helo a_b", "Hello { kind: Helo, name: \"a_b\" }"),
            ("AUTH PLAIN", "Auth { mechanism: \"PLAIN\", initial: None }"),
            ("AUTH PLAIN =", "Auth { mechanism: \"PLAIN\", initial: Some(\"=\") }"),
            ("AUTH", "501 5.5.4"),
            ("AUTH PLAIN a b", "501 5.5.4"),
            ("EXPN list", "502 5.5.1"),
            ("xclient  ADDR=1.2.3.4 ", "Xclient { attributes: \"ADDR=1.2.3.4\" }"),
            ("BDAT -1", "501 5.5.4"),
            ("BDAT", "501 5.5.4"),
            ("BDAT LAST", "501 5.5.4"),
            ("BDAT 0x10", "501 5.5.4"),
            ("BDAT +5", "501 5.5.4"),
            ("BDAT 0", "Bdat { octets: 0, marker: More }"),
            ("bdat  86 last", "Bdat { octets: 86, marker: Last }"),
            ("BDAT 007 LAST", "Bdat { octets: 7, marker: Last }"),
            ("BDAT 5 FIRST", "Bdat { octets: 5, marker: Unknown }"),
            ("BDAT 5 LAST LAST", "Bdat { octets: 5, marker: Unknown }"),
            ("BDAT 18446744073709551616", "Bdat { octets: 18446744073709551615, marker: More }"),
            ("", "500 5.5.2"),
            (" NOOP", "500 5.5.2"),
            ("GET / HTTP/1.1", "500 5.5.2"),
        ] {
            assert_eq!(shown(line), want, "{line:?}");
        }
        assert!(parse(b"MAIL FROM:<\xff@b.example>").is_err());
    }

    #[test]
    fn line_limits_depend_on_the_verb() {
        for (head, limit) in [
            ("NOOP ", 512),
            ("XCLIENT A=", 2048),
            ("RCPT TO:<a@b.example> X=", 4096),
            ("AUTH X ", 12_288),
        ] {
            let line = format!("{head}{}", "x".repeat(limit - head.len() - 2));
            assert_ne!(shown(&line), "500 5.5.2", "{head}");
            assert_eq!(shown(&format!("{line}x")), "500 5.5.2", "{head}");
        }
    }
}
