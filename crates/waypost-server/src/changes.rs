//! A message as one delivery sends it.

use std::ops::Range;

use waypost_auth::folded;
use waypost_mime::{
    Attachment, Edits, HeaderText, Piece, Prefixed, field, prefix_subject, remove_attachments,
};
use waypost_queue::Body;
use waypost_smtp::client::SharedBytes;
use waypost_smtp::end_of_data::stuff;
use waypost_types::{Changes, HeaderLine};

/// What one delivery sends.
pub(crate) struct Sent {
    /// The message: whole lines, dot-stuffed and ended by CR LF.
    pub(crate) pieces: Vec<SharedBytes>,
    /// What is not in it any more.
    pub(crate) removed: Vec<Attachment>,
    /// All content is gone: it was one attachment, or could not be read.
    pub(crate) is_whole: bool,
}

/// A message for one delivery: the lines it adds, our trace lines, the message as it was accepted with
/// its changes. Of the message only the first line of a changed subject is copied.
///
/// Lines are added on top, the trace line first, so that every signed byte below stays as it was (B3).
/// Results of SPF, DKIM and DMARC go above the trace line (RFC 7208 section 9.1). `rules` are named in the
/// place of a removed attachment.
#[must_use]
pub(crate) fn sent(
    trace: &str,
    body: &Body,
    changes: &Changes,
    text: HeaderText,
    rules: &[&str],
) -> Sent {
    let lines = &changes.added_headers;
    let mut top: String = lines.iter().filter(|line| is_result(line)).map(folded).collect();
    top.push_str(trace);
    for line in lines.iter().filter(|line| !is_result(line)) {
        top.push_str(&field(line.name(), line.value(), text));
    }
    let mut sent = Sent { pieces: Vec::new(), removed: Vec::new(), is_whole: false };
    let mut edits = Edits::default();
    if changes.remove_attachments {
        let removal = remove_attachments(body, rules);
        (edits, sent.removed, sent.is_whole) =
            (removal.edits, removal.attachments, removal.is_whole);
    }
    match changes.subject_prefix.as_deref().map(|prefix| prefix_subject(body, prefix)) {
        None | Some(Prefixed::Already) => {}
        Some(Prefixed::Missing(field)) => top.push_str(&field),
        Some(Prefixed::Changed(edit)) => edits = edits.and([edit]),
    }
    // A field's name may begin with a dot.
    sent.pieces.push(SharedBytes::new(stuff(top.as_bytes()).into_owned()));
    sent.pieces.extend(edits.into_pieces(body.len()).into_iter().map(|piece| match piece {
        Piece::Original(range) => SharedBytes::new(Shared { body: body.clone(), range }),
        Piece::New(text) => SharedBytes::new(text),
    }));
    sent
}

fn is_result(line: &HeaderLine) -> bool {
    ["authentication-results", "received-spf"]
        .iter()
        .any(|name| line.name().eq_ignore_ascii_case(name))
}

/// A part of a shared body.
struct Shared {
    body: Body,
    range: Range<usize>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.body.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waypost_smtp::client::Message;
    use waypost_smtp::end_of_data::unstuff;
    use waypost_types::HeaderBlock;

    use super::*;

    fn joined(message: &[u8], changes: &Changes, text: HeaderText) -> Vec<u8> {
        let body = Body::from(message.to_vec());
        let sent = sent("T: 1\r\n", &body, changes, text, &["No files"]);
        let all: Vec<u8> = sent.pieces.iter().flat_map(|piece| piece.as_bytes().to_vec()).collect();
        let wire = Message::new(sent.pieces).unwrap();
        assert_eq!(wire.octets(), u64::try_from(unstuff(&all).len()).unwrap(), "SIZE");
        all
    }

    #[test]
    fn lines_go_on_top_and_the_rest_stays_b3() {
        let header = || vec![HeaderLine::new("X-Legacy", "yes").unwrap()];
        for (prefix, message, want) in [
            (None, "A: b\r\n\r\n..x\r\n", "T: 1\r\nX-Legacy: yes\r\nA: b\r\n\r\n..x\r\n"),
            (
                Some("[EXT] "),
                "A: b\r\nSubject: Hi\r\n\r\nSubject: no\r\n",
                "T: 1\r\nX-Legacy: yes\r\nA: b\r\nSubject: [EXT] Hi\r\n\r\nSubject: no\r\n",
            ),
            (
                Some("[EXT]"),
                "subject :\r\n Hi\r\n\r\n",
                "T: 1\r\nX-Legacy: yes\r\nsubject : [EXT]\r\n Hi\r\n\r\n",
            ),
            (
                Some("[EXT] "),
                "A: b\r\n\r\n",
                "T: 1\r\nX-Legacy: yes\r\nSubject: [EXT]\r\nA: b\r\n\r\n",
            ),
        ] {
            let changes = Changes {
                added_headers: header(),
                subject_prefix: prefix.map(Into::into),
                remove_attachments: false,
            };
            let got = joined(message.as_bytes(), &changes, HeaderText::Ascii);
            assert_eq!(String::from_utf8(got).unwrap(), want);
        }
    }

    /// A name may begin with a dot (RFC 5322 section 2.2): unstuffed, it could never be sent.
    #[test]
    fn a_name_that_begins_with_a_dot_is_stuffed_c6() {
        let changes = Changes {
            added_headers: vec![HeaderLine::new(".Odd", "yes").unwrap()],
            ..Changes::default()
        };
        let got = joined(b"A: b\r\n", &changes, HeaderText::Ascii);
        assert_eq!(String::from_utf8(got).unwrap(), "T: 1\r\n..Odd: yes\r\nA: b\r\n");
    }

    #[test]
    fn attachments_go_and_the_stuffed_rest_stays_c6() {
        let message = "Subject: Hi\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n..\r\n..x\r\n\
                       --b\r\nContent-Type: a/b\r\n\r\n..gone\r\n--b\r\n\r\n...\r\n--b--\r\n";
        let changes = Changes {
            added_headers: Vec::new(),
            subject_prefix: Some("[EXT]".into()),
            remove_attachments: true,
        };
        let got =
            String::from_utf8(joined(message.as_bytes(), &changes, HeaderText::Ascii)).unwrap();
        let (before, rest) = got.split_once("Content-Type: text/plain; charset=utf-8").unwrap();
        let (notice, behind) = rest.split_once("By rule: \"No files\"\r\n").unwrap();
        let want = message.replace("Subject: Hi", "Subject: [EXT] Hi");
        let (want, _) = want.split_once("Content-Type: a/b").unwrap();
        assert_eq!(before, format!("T: 1\r\n{want}"));
        assert!(notice.contains("Size: 5 octets"), "{notice}");
        assert_eq!(behind, "--b\r\n\r\n...\r\n--b--\r\n");
    }

    /// Nothing of the message is copied, however big it is.
    #[test]
    fn the_rest_is_shared_c6() {
        let mut message =
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n\r\n\
            gone\r\n--b\r\n\r\n"
                .to_vec();
        message.extend("0123456789abcdef\r\n".repeat(50_000).bytes());
        message.extend_from_slice(b"--b--\r\n");
        let body = Body::from(message);
        let changes = Changes { remove_attachments: true, ..Changes::default() };
        let sent = sent("T: 1\r\n", &body, &changes, HeaderText::Ascii, &[]);
        let stored = body.as_ptr_range();
        let own = sent.pieces.iter().filter(|piece| !stored.contains(&piece.as_bytes().as_ptr()));
        assert!(own.map(|piece| piece.as_bytes().len()).sum::<usize>() < 1024);
    }

    /// The fields of a message, as names.
    fn names(message: &[u8]) -> Vec<String> {
        let fields = HeaderBlock::of(message).fields();
        fields.map(|field| String::from_utf8_lossy(field.name).into_owned()).collect()
    }

    proptest! {
        /// Any configured text is refused, or gives exactly one more field and no octet elsewhere.
        #[test]
        fn no_configured_text_injects_a_line_c6(
            name in "X-[a-zA-Z]{1,10}|\\PC{0,10}|[.!-~]{1,4}|[X:\r\n\t \0]{0,6}",
            value in "\\PC{0,60}|[a-z é]{0,1500}|[a:\r\n\t \0\u{85}\u{2028}]{0,12}",
            prefix in "\\PC{0,60}|[a-z é]{0,1500}|[a:\r\n\t \0\u{85}\u{2028}]{0,12}",
            utf8 in any::<bool>(),
        ) {
            let message = b"A: b\r\nSubject: Hi\r\n\r\nbody\r\n";
            let text = if utf8 { HeaderText::Utf8 } else { HeaderText::Ascii };
            let line = HeaderLine::new(&name, &value);
            let accepted = line.is_ok();
            let changes = Changes {
                added_headers: line.into_iter().collect(),
                subject_prefix: Some(prefix.into()),
                remove_attachments: false,
            };
            let got = unstuff(&joined(message, &changes, text)).into_owned();
            let mut want = vec!["T".to_owned()];
            want.extend(accepted.then(|| name.clone()));
            want.extend(["A".to_owned(), "Subject".to_owned()]);
            prop_assert_eq!(names(&got), want, "{}", got.escape_ascii());
            prop_assert!(got.ends_with(b"\r\n\r\nbody\r\n"));
            prop_assert_eq!(HeaderBlock::of(&got).body_offset(), got.len() - 6);
            for line in got.split(|octet| *octet == b'\n') {
                prop_assert!(line.len() <= 999, "{}", line.escape_ascii());
            }
            let header = HeaderBlock::of(&got);
            prop_assert!(utf8 || header.as_bytes().is_ascii(), "needs no SMTPUTF8");
        }
    }
}
