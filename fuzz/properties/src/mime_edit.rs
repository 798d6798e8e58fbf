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
/// left, and what is left has none of the lines that were to go; doing it again changes nothing; it grows
/// by no more than a notice for each attachment; a prefix and a value stay inside of their field.
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
