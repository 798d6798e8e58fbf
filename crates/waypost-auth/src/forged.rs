//! Lines that claim to be ours.

use std::ops::Range;

use waypost_types::{Domain, Field, HeaderBlock};

/// A message without the lines that claim our name: each `Authentication-Results` whose authserv-id is
/// `by` (RFC 8601 section 5), and each `Received-SPF` whose receiver is. Also how many they were.
///
/// Whoever reads results of ours can so believe each line that bears our name. A line whose
/// authserv-id cannot be read goes too if our name occurs in it. All other octets stay as they are;
/// nothing is copied.
#[must_use]
pub fn without_forged(mut message: Vec<u8>, by: &Domain) -> (Vec<u8>, usize) {
    let header = HeaderBlock::of(&message);
    let block = header.as_bytes();
    let forged: Vec<Range<usize>> = header
        .fields()
        .filter(|field| {
            (field.is("authentication-results") && claims_results(field, by))
                || (field.is("received-spf") && claims_spf(field, by))
        })
        .map(|field| field.offset..end_of(&field, block))
        .collect();
    let mut kept = 0;
    let mut from = 0;
    for range in &forged {
        message.copy_within(from..range.start, kept);
        kept += range.start.saturating_sub(from);
        from = range.end;
    }
    if from > 0 {
        let end = message.len();
        message.copy_within(from..end, kept);
        message.truncate(kept + end.saturating_sub(from));
    }
    (message, forged.len())
}

/// Where the field ends, with its line end.
fn end_of(field: &Field<'_>, block: &[u8]) -> usize {
    let rest = block.get(field.offset..).unwrap_or_default();
    let colon = rest.iter().position(|b| *b == b':').unwrap_or_default();
    let end = field.offset + colon + 1 + field.raw.len();
    let line_end = block.get(end..).unwrap_or_default();
    end + match line_end {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] | [b'\r'] => 1,
        _ => 0,
    }
}

fn claims_results(field: &Field<'_>, by: &Domain) -> bool {
    match authserv_id(field.raw) {
        Some(id) => is_name(&id, by),
        None => mentions(field.raw, by),
    }
}

fn claims_spf(field: &Field<'_>, by: &Domain) -> bool {
    let text = String::from_utf8_lossy(field.raw).to_ascii_lowercase();
    let pressed: String =
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\\')).collect();
    pressed.match_indices("receiver=").any(|(at, key)| {
        let value = pressed.get(at + key.len()..).unwrap_or_default();
        let name = value.split([';', '(']).next().unwrap_or_default();
        is_name(name.as_bytes(), by)
    })
}

fn is_name(name: &[u8], by: &Domain) -> bool {
    name.strip_suffix(b".").unwrap_or(name).eq_ignore_ascii_case(by.as_str().as_bytes())
}

fn mentions(value: &[u8], by: &Domain) -> bool {
    String::from_utf8_lossy(value).to_ascii_lowercase().contains(by.as_str())
}

/// The authserv-id: a token or a quoted string, behind blanks and comments (RFC 8601 section 2.2);
/// `None`: it cannot be read.
fn authserv_id(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        rest = rest.trim_ascii_start();
        match rest {
            [b'(', ..] => rest = behind_comment(rest)?,
            [b'"', quoted @ ..] => {
                let mut name = Vec::new();
                let mut octets = quoted.iter();
                loop {
                    match octets.next()? {
                        b'"' => return Some(name),
                        b'\\' => name.push(*octets.next()?),
                        octet => name.push(*octet),
                    }
                }
            }
            _ => {
                let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b';' | b'(');
                let end = rest.iter().position(ends).unwrap_or(rest.len());
                let token = rest.get(..end).unwrap_or_default();
                let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
                return token.iter().all(is_plain).then(|| token.to_vec());
            }
        }
    }
}

fn behind_comment(value: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, octet) in value.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return value.get(at + 1..);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by() -> Domain {
        "mx.solarmora.com".parse().unwrap()
    }

    #[test]
    fn e2_a_line_that_claims_our_name_goes_rfc_8601() {
        for (line, goes) in [
            ("Authentication-Results: mx.solarmora.com; dmarc=pass", true),
            ("Authentication-Results: mx.solarmora.com 1; dmarc=pass", true),
            ("Authentication-Results: mx.solarmora.com", true),
            ("Authentication-Results: MX.Solarmora.COM.; dmarc=pass", true),
            ("authentication-results :\r\n (a (b) \\) c)\r\n\tmx.solarmora.com; spf=pass", true),
            ("Authentication-Results: \"mx.solarmora.com\"; spf=pass", true),
            ("Authentication-Results: \"mx.\\solarmora.com\"; spf=pass", true),
            ("Authentication-Results: (open mx.solarmora.com; spf=pass", true),
            ("Authentication-Results: \"mx.solarmora.com; spf=pass", true),
            ("Authentication-Results: mx.solarmora.com/1; spf=pass", true),
            ("Authentication-Results: mx.solarmora.com(c); spf=pass", true),
            ("Authentication-Results: x=mx.solarmora.com; spf=pass", true),
            ("Authentication-Results: mx.friend.example; spf=pass (mx.solarmora.com)", false),
            ("Authentication-Results: amx.solarmora.com; spf=pass", false),
            ("Authentication-Results: (open mx.friend.example; spf=pass", false),
            ("Authentication-Results:", false),
            ("ARC-Authentication-Results: i=1; mx.solarmora.com; spf=pass", false),
            ("X-Authentication-Results: mx.solarmora.com; spf=pass", false),
            ("Received-SPF: pass (x) receiver=mx.solarmora.com; client-ip=192.0.2.1", true),
            ("received-spf: pass receiver = \"MX.solarmora.com\"", true),
            ("Received-SPF: pass receiver=mx.friend.example", false),
        ] {
            let message = format!("A: b\r\n{line}\r\nC: d\r\n\r\n{line}\r\n").into_bytes();
            let (left, removed) = without_forged(message.clone(), &by());
            assert_eq!(removed, usize::from(goes), "{line}");
            let want = match goes {
                true => format!("A: b\r\nC: d\r\n\r\n{line}\r\n").into_bytes(),
                false => message,
            };
            assert_eq!(String::from_utf8(left), String::from_utf8(want), "{line}");
        }
    }

    proptest! {
        #[test]
        fn only_whole_forged_lines_go(
            lines in proptest::collection::vec((any::<bool>(), "[a-zA-Z(\\\\\"]{0,9}"), 0..8),
            body in "[a-z\r\n]{0,20}",
        ) {
            let (mut message, mut want) = (String::new(), String::new());
            for (ours, text) in &lines {
                let name = if *ours { "mx.solarmora.com" } else { "mx.friend.example" };
                let line = format!("Authentication-Results: {name};\r\n\tspf=pass {text}\r\n");
                message.push_str(&line);
                if !ours {
                    want.push_str(&line);
                }
            }
            let end = format!("\r\n{body}");
            let (left, removed) = without_forged((message + &end).into_bytes(), &by());
            prop_assert_eq!(String::from_utf8(left).unwrap(), want + &end);
            prop_assert_eq!(removed, lines.iter().filter(|(ours, _)| *ours).count());
        }

        #[test]
        fn any_octets_are_read(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (left, removed) = without_forged(message.clone(), &by());
            prop_assert!(left.len() <= message.len());
            prop_assert!(removed > 0 || left == message);
        }
    }
}
