//! The headers of one file: of one message, or of each message of an mbox file.
//!
//! A file is an mbox file when it begins with `From `. Its messages are parted by lines that begin so,
//! behind an empty line, and hold a time of day; lines of a body that look alike are quoted by whoever
//! writes such files.

use std::io::{self, BufRead};

use super::{HEADER_SIZE, Message, unreadable};
use crate::answer::{self, Answer, Failure};

/// Octets of a line of a body that are looked at.
const BODY_LINE: usize = 256;

/// Reads a file; a message that `take` finds unusable is told, and the rest goes on.
pub(super) fn read(
    file: &str,
    input: &mut impl BufRead,
    take: &mut impl FnMut(Message<'_>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let failed = |error: io::Error| unreadable(file, &error);
    let mut ended = Answer::Done;
    let mut header = Vec::new();
    let first = line(input, &mut header, HEADER_SIZE).map_err(failed)?;
    if first.is_none() {
        return Err(Failure::Input(format!("{file}: is empty; name a file with a message")));
    }
    let is_mailbox = header.starts_with(b"From ");
    let mut number = 1;
    if is_mailbox {
        header.clear();
    } else if is_empty(&header) {
        take(Message { file, number: None, header: b"", cut: false })?;
        return Ok(ended);
    }
    loop {
        let cut = rest_of_header(input, &mut header).map_err(failed)?;
        let number_or_none = is_mailbox.then_some(number);
        match take(Message { file, number: number_or_none, header: &header, cut }) {
            Err(Failure::Input(error)) if is_mailbox => {
                answer::tell(&error);
                ended = Answer::Unusable;
            }
            other => other?,
        }
        if !is_mailbox || !skip_body(input).map_err(failed)? {
            return Ok(ended);
        }
        number += 1;
        header.clear();
    }
}

/// Reads up to the empty line, and says whether something was left out.
fn rest_of_header(input: &mut impl BufRead, header: &mut Vec<u8>) -> io::Result<bool> {
    let mut cut = false;
    loop {
        let before = header.len();
        let Some(length) = line(input, header, HEADER_SIZE.saturating_sub(before))? else {
            return Ok(cut);
        };
        let kept = header.len() - before;
        cut |= kept < length;
        if length <= 2 && (kept < length || is_empty(header.get(before..).unwrap_or_default())) {
            return Ok(cut);
        }
    }
}

/// Reads up to the line that begins the next message; false: there is none.
fn skip_body(input: &mut impl BufRead) -> io::Result<bool> {
    let mut text = Vec::with_capacity(BODY_LINE);
    let mut behind_empty = true;
    loop {
        text.clear();
        if line(input, &mut text, BODY_LINE)?.is_none() {
            return Ok(false);
        }
        if behind_empty && begins_message(&text) {
            return Ok(true);
        }
        behind_empty = is_empty(&text);
    }
}

fn begins_message(line: &[u8]) -> bool {
    let digits = |pair: &[u8]| pair.iter().all(u8::is_ascii_digit);
    let is_time = |window: &[u8]| match window {
        [a, b, b':', c, d] => digits(&[*a, *b, *c, *d]),
        _ => false,
    };
    line.starts_with(b"From ") && line.windows(5).any(is_time)
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

/// Adds one line with its end to `out`, at most `most` octets of it; its length, `None` at the end.
fn line(input: &mut impl BufRead, out: &mut Vec<u8>, most: usize) -> io::Result<Option<usize>> {
    let (mut length, mut left) = (0, most);
    loop {
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            return Ok((length > 0).then_some(length));
        }
        let end = memchr::memchr(b'\n', buffer).map(|end| end + 1);
        let taken = end.unwrap_or(buffer.len());
        let kept = taken.min(left);
        out.extend_from_slice(buffer.get(..kept).unwrap_or_default());
        (length, left) = (length + taken, left - kept);
        input.consume(taken);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(bytes: &[u8], capacity: usize) -> Vec<(Option<u64>, String, bool)> {
        let mut found = Vec::new();
        let mut input = io::BufReader::with_capacity(capacity, bytes);
        let read = read("f", &mut input, &mut |message: Message<'_>| {
            let text = String::from_utf8_lossy(message.header).into_owned();
            found.push((message.number, text, message.cut));
            Ok(())
        });
        assert!(read.is_ok() || found.is_empty());
        found
    }

    #[test]
    fn headers_of_messages_and_mailboxes() {
        // (file, number of the message or 0, header)
        let table: &[(&str, &[(u64, &str)])] = &[
            ("A: b\n\nbody", &[(0, "A: b\n\n")]),
            ("A: b\r\n\r\nbody", &[(0, "A: b\r\n\r\n")]),
            ("A: b", &[(0, "A: b")]),
            ("\nbody", &[(0, "")]),
            ("", &[]),
            ("A: b\n\n\nFrom x Mon Jan  1 00:00:00 2024\nC: d\n", &[(0, "A: b\n\n")]),
            (
                "From x Mon Jan  1 00:00:00 2024\nA: b\n\nFrom here\n\nFrom y on\n\n\
                 From z@y Mon Jan  1 00:00:00 2024\nC: d\n\nx\nFrom w Mon Jan  1 00:00:00 2024\n",
                &[(1, "A: b\n\n"), (2, "C: d\n\n")],
            ),
            (
                "From x Mon Jan  1 00:00:00 2024\r\nA: b\r\n\r\n\r\n\
                 From z Mon Jan  1 00:00:00 2024\r\n",
                &[(1, "A: b\r\n\r\n"), (2, "")],
            ),
        ];
        for (text, want) in table {
            for capacity in [1, 2, 3, 7, 4096] {
                let found = headers(text.as_bytes(), capacity);
                let found: Vec<_> =
                    found.iter().map(|(n, header, _)| (n.unwrap_or(0), header.as_str())).collect();
                assert_eq!(found, *want, "{text:?} by {capacity}");
            }
        }
    }

    #[test]
    fn a_header_without_an_end_is_cut_e12() {
        let first = format!("From x 00:00\nA: {}\n", "y".repeat(2 * HEADER_SIZE));
        let text = format!("{first}{}\nbody\n\nFrom z 00:00\nC: d\n", "B: c\n".repeat(HEADER_SIZE));
        let found = headers(text.as_bytes(), 4096);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].1.len(), found[0].2), (HEADER_SIZE, true));
        assert_eq!(found[1], (Some(2), "C: d\n".to_owned(), false));
    }
}
