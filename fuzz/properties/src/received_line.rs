//! One `Received` line.

use std::net::IpAddr;

use waypost_inbound::{Hop, Reading};
use waypost_types::HeaderBlock;

use crate::steer::Steer;

/// What stands behind the from clause: nothing in it may ever be taken for the client.
const BEHIND: &[u8] =
    b" by h.example (h.example [203.0.113.99]) with ESMTP for <a@[203.0.113.98]>; Tue, 24 Mar 2020";

/// The value of one `Received` field; the first byte says where it is folded.
///
/// The address found is a text of the value, inside the from clause, and reads as that address (E4).
/// What is appended behind the clause is never the client's address. Folds and letter case change
/// nothing.
pub fn received_line(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let seed = steer.byte();
    let value = steer.rest();

    let reading = Reading::of(value);
    if let Reading::From(hop) = &reading {
        found_in_the_clause(value, hop);
    }
    let longer = [value, BEHIND].concat();
    if let Reading::From(hop) = Reading::of(&longer) {
        found_in_the_clause(&longer, &hop);
        assert!(hop.text.end <= value.len(), "read behind the clause: {}", shown(&longer));
    }

    for other in [value.to_ascii_lowercase(), value.to_ascii_uppercase()] {
        assert_eq!(
            Reading::of(&other).ip(),
            reading.ip(),
            "letter case matters: {}",
            shown(&other)
        );
    }
    if !value.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        let folded = folded(value, seed);
        assert_eq!(Reading::of(&folded).ip(), reading.ip(), "a fold matters: {}", shown(&folded));
        let field = [b"Received:", &*folded, b"\r\n\r\n"].concat();
        let header = HeaderBlock::of(&field);
        if let Some(field) = header.fields().next() {
            assert_eq!(Reading::of(field.raw).ip(), reading.ip(), "{}", shown(field.raw));
        }
    }
}

fn found_in_the_clause(value: &[u8], hop: &Hop) {
    let text = value.get(hop.text.clone()).unwrap();
    let ip: IpAddr = std::str::from_utf8(text).unwrap().parse().unwrap();
    assert_eq!(ip.to_canonical(), hop.ip, "{}", shown(value));
    assert!(hop.text.end <= clause_end(value), "outside the clause: {}", shown(value));
}

/// Where the clause ends at the latest: at the first word `by`, `via`, `with`, `id` or `for` that
/// stands outside parentheses. (A `;` may end it earlier.)
fn clause_end(value: &[u8]) -> usize {
    let (mut depth, mut start) = (0_usize, 0);
    for at in 0..=value.len() {
        let octet = value.get(at).copied().unwrap_or(b' ');
        if !matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')') {
            continue;
        }
        let word = value[start..at].to_ascii_lowercase();
        if depth == 0 && matches!(&*word, b"by" | b"via" | b"with" | b"id" | b"for") {
            return start;
        }
        match octet {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        start = at + 1;
    }
    value.len()
}

/// Some blanks become folds.
fn folded(value: &[u8], seed: u8) -> Vec<u8> {
    let (mut out, mut state) = (Vec::new(), seed);
    for octet in value {
        state = state.rotate_left(1);
        if *octet == b' ' && state & 1 == 1 {
            out.extend_from_slice(b"\r\n\t");
        } else {
            out.push(*octet);
        }
    }
    out
}

fn shown(value: &[u8]) -> String {
    value.escape_ascii().to_string()
}
