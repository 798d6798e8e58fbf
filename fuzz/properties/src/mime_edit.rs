//! What a delivery may change of a message.

use waypost_mime::{
    Edits, HeaderText, Prefixed, Removal, field, prefix_subject, remove_attachments,
};
use waypost_smtp::client::{Message, SharedBytes};
use waypost_smtp::end_of_data::stuff;
use waypost_types::HeaderBlock;

use crate::steer::Steer;

/// Octets that a notice may have.
const NOTICE: usize = 3 << 10;

/// A prefix, a field's value and a message, all from the bytes.
///
/// What comes out is the message with ranges replaced, in whole lines that can be sent on; no attachment is
/// left, neither by doing it again nor by a reader that takes exact delimiters alone and the outermost
/// first; it grows by no more than a notice for each attachment; a prefix and a value stay inside of their
/// field.
pub fn mime_edit(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let flags = steer.byte();
    let length = usize::from(steer.byte() & 0x3f);
    let text = String::from_utf8_lossy(steer.take(length)).into_owned();
    let message = lines(steer.rest(), flags & 1 == 1);

    let removal = remove_attachments(&message, &[&text]);
    let edited = removal.edits.apply(&message);
    sendable(&removal.edits, &message);
    assert_eq!(removal.edits.is_empty(), removal.attachments.is_empty());
    let most = removal.attachments.len() * NOTICE;
    assert!(edited.len() <= message.len() + most, "{} from {}", edited.len(), message.len());
    let again = remove_attachments(&edited, &[&text]);
    assert_eq!(
        again,
        Removal::default(),
        "{}\n=>\n{}",
        message.escape_ascii(),
        edited.escape_ascii()
    );
    for attachment in &removal.attachments {
        let name = attachment.name.as_deref().unwrap_or_default();
        assert!(name.chars().count() <= 121 && !name.chars().any(char::is_control), "{name:?}");
        assert!(attachment.size <= message.len() as u64);
    }
    let rest: Vec<&[u8]> = edited.split_inclusive(|octet| *octet == b'\n').collect();
    naive(&rest, 0, &edited);
    if !removal.is_whole {
        // Nothing of the header, and no line of what stays.
        let header = HeaderBlock::of(&message).body_offset();
        assert_eq!(edited[..header], message[..header]);
    }

    let prefixed = match prefix_subject(&edited, &text) {
        Prefixed::Already => edited.clone(),
        Prefixed::Missing(field) => [field.as_bytes(), &edited].concat(),
        Prefixed::Changed(edit) => {
            let edits = Edits::default().and([edit]);
            sendable(&edits, &edited);
            edits.apply(&edited)
        }
    };
    let subjects =
        |message: &[u8]| HeaderBlock::of(message).fields().filter(|f| f.is("subject")).count();
    let fields = |message: &[u8]| HeaderBlock::of(message).fields().count();
    let had = subjects(&edited);
    let added = usize::from(had == 0 && prefixed.len() > edited.len());
    assert_eq!(subjects(&prefixed), had + added);
    assert_eq!(fields(&prefixed), fields(&edited) + added);
    let body = |message: &[u8]| message[HeaderBlock::of(message).body_offset()..].to_vec();
    assert!(body(&prefixed) == body(&edited), "the prefix {text:?} reaches the body");
    assert!(remove_attachments(&prefixed, &[]).attachments.is_empty());

    for kind in [HeaderText::Ascii, HeaderText::Utf8] {
        let line = field("X-Legacy", &text, kind);
        assert_eq!(fields(line.as_bytes()), 1, "{line:?}");
        assert!(kind == HeaderText::Utf8 || line.is_ascii());
        assert!(line.ends_with("\r\n") && !line.contains("\r\n\r\n"));
    }
}

/// Lines ended by CR LF, no CR or NUL elsewhere; stuffed, or without a dot at the beginning of a line.
fn lines(bytes: &[u8], stuffed: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for line in bytes.split(|octet| *octet == b'\n') {
        text.extend(line.iter().filter(|octet| !matches!(octet, b'\r' | 0)));
        text.extend_from_slice(b"\r\n");
    }
    match stuffed {
        true => stuff(&text).into_owned(),
        false => {
            let mut at_start = true;
            text.retain(|octet| {
                let dot = at_start && *octet == b'.';
                at_start = *octet == b'\n' || dot;
                !dot
            });
            text
        }
    }
}

/// The pieces are whole lines that a client would send, and what it sends is the edited message.
fn sendable(edits: &Edits, message: &[u8]) {
    let mut at = 0;
    for edit in edits.iter() {
        assert!(edit.range.start >= at && edit.range.end >= edit.range.start);
        at = edit.range.end;
        assert!(edit.text.split(|octet| *octet == b'\n').all(|line| line.len() <= 999));
    }
    assert!(at <= message.len());
    let pieces = edits.clone().into_pieces(message.len()).into_iter().map(|piece| match piece {
        waypost_mime::Piece::Original(range) => message[range].to_vec(),
        waypost_mime::Piece::New(text) => text,
    });
    let sent = Message::new(pieces.map(SharedBytes::new));
    assert!(sent.is_ok(), "{:?} for {}", sent.err(), message.escape_ascii());
}

/// A reader of mail without finesse: what it finds in an edited message is no attachment.
fn naive(part: &[&[u8]], depth: usize, whole: &[u8]) {
    let end = part.iter().position(|line| line.trim_ascii().is_empty() && line.len() <= 2);
    let (header, body) = part.split_at(end.unwrap_or(part.len()));
    let field = |name: &[u8]| {
        let is = |line: &&[u8]| {
            line.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name))
                && line.get(name.len()) == Some(&b':')
        };
        let at = header.iter().position(is)?;
        let folds = header[at + 1..]
            .iter()
            .take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
        let folds = folds.count();
        let value = header[at..=at + folds].concat().split_off(name.len() + 1);
        Some(String::from_utf8_lossy(&value).trim().to_owned())
    };
    let Some(kind) = field(b"Content-Type") else { return };
    let lower = kind.to_ascii_lowercase();
    if lower.starts_with("multipart/") && depth < 40 {
        let Some(at) = lower.find("boundary=") else { return };
        // A fold may stand in front of it.
        let value = kind[at + "boundary=".len()..].trim_start();
        let boundary = match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => value.split([';', ' ', '\r', '\t']).next(),
        };
        let boundary = boundary.unwrap_or_default().as_bytes();
        let open = [b"--", boundary].concat();
        let close = [&open[..], b"--"].concat();
        let marks: Vec<usize> = (0..body.len())
            .filter(|at| [&open, &close].iter().any(|mark| body[*at].trim_ascii_end() == **mark))
            .collect();
        for (place, at) in marks.iter().enumerate() {
            if body[*at].trim_ascii_end() == close {
                break;
            }
            let end = marks.get(place + 1).map_or(body.len(), |end| *end);
            naive(&body[at + 1..end], depth + 1, whole);
        }
        return;
    }
    let harmless = [
        "text",
        "image/",
        "application/pgp-signature",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "message/",
        "multipart/",
    ];
    assert!(
        harmless.iter().any(|known| lower.starts_with(known)),
        "{kind} is left in {}",
        whole.escape_ascii()
    );
    assert!(!lower.starts_with("message/rfc822"), "a message is left in {}", whole.escape_ascii());
}
