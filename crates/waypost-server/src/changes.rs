//! A message as one delivery sends it.

use waypost_auth::folded;
use waypost_queue::Body;
use waypost_smtp::client::SharedBytes;
use waypost_types::{Changes, HeaderBlock, HeaderLine};

/// The pieces of a message for one delivery: the lines it adds, our trace lines, the message as it
/// was accepted. Of the message only a subject that is changed is copied.
///
/// All pieces are whole lines, dot-stuffed and ended by CR LF. Lines are added on top, the trace line
/// first, so that every signed byte below stays as it was (B3). Results of SPF, DKIM and DMARC go above
/// the trace line (RFC 7208 section 9.1).
#[must_use]
pub(crate) fn pieces(trace: &str, body: &Body, changes: &Changes) -> Vec<SharedBytes> {
    let lines = &changes.added_headers;
    let mut top: String = lines.iter().filter(|line| is_result(line)).map(folded).collect();
    top.push_str(trace);
    for line in lines.iter().filter(|line| !is_result(line)) {
        top.push_str(&format!("{line}\r\n"));
    }
    let prefix = changes.subject_prefix.as_deref().filter(|prefix| !prefix.is_empty());
    let Some(prefix) = prefix else {
        return vec![SharedBytes::new(top.into_bytes()), SharedBytes::new(Shared::whole(body))];
    };
    let header = HeaderBlock::of(body);
    let Some(subject) = header.first("subject") else {
        top.push_str(&format!("Subject: {}\r\n", prefix.trim_end()));
        return vec![SharedBytes::new(top.into_bytes()), SharedBytes::new(Shared::whole(body))];
    };
    let field = header.as_bytes().get(subject.offset..).unwrap_or_default();
    let colon = field.iter().position(|b| *b == b':').unwrap_or_default();
    let value = subject.offset + colon + 1;
    let end = value + subject.raw.len();
    let line_end =
        if body.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n")) { 2 } else { 0 };
    let mut changed = field.get(..=colon).unwrap_or_default().to_vec();
    changed.extend_from_slice(format!(" {}", prefix.trim_end()).as_bytes());
    changed.extend_from_slice(subject.raw);
    changed.extend_from_slice(b"\r\n");
    vec![
        SharedBytes::new(top.into_bytes()),
        SharedBytes::new(Shared { body: body.clone(), from: 0, to: subject.offset }),
        SharedBytes::new(changed),
        SharedBytes::new(Shared { body: body.clone(), from: end + line_end, to: body.len() }),
    ]
}

fn is_result(line: &HeaderLine) -> bool {
    ["authentication-results", "received-spf"]
        .iter()
        .any(|name| line.name().eq_ignore_ascii_case(name))
}

/// A part of a shared body.
struct Shared {
    body: Body,
    from: usize,
    to: usize,
}

impl Shared {
    fn whole(body: &Body) -> Self {
        Self { body: body.clone(), from: 0, to: body.len() }
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.body.get(self.from..self.to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let body = Body::from(message.as_bytes().to_vec());
            let sent: Vec<u8> = pieces("T: 1\r\n", &body, &changes)
                .iter()
                .flat_map(|piece| piece.as_bytes().to_vec())
                .collect();
            assert_eq!(String::from_utf8(sent).unwrap(), want);
        }
    }
}
