//! Random MIME trees: the edited tree is the same but for the attachments (C6).

use proptest::prelude::*;
use waypost_mime::{HeaderText, Removal, field, remove_attachments};

/// A part, and whether it is an attachment where it stands.
#[derive(Clone, Debug)]
enum Tree {
    Leaf { header: String, body: String, goes: bool },
    Multi { kind: &'static str, parts: Vec<Tree>, closed: bool, preamble: String, epilogue: String },
}

/// What of a tree is left, as a naive reader lists it: a line for the octets of each leaf.
fn listed(tree: &Tree, parent: &str, out: &mut Vec<String>) {
    match tree {
        Tree::Leaf { header, body, goes } => {
            let goes = *goes || (header.contains("image/png") && parent != "related");
            out.push(if goes { "notice".into() } else { format!("{header}\r\n{body}") });
        }
        Tree::Multi { kind, parts, preamble, epilogue, closed } => {
            out.push(format!("{kind}({preamble}"));
            let mut inner = Vec::new();
            for (place, part) in parts.iter().enumerate() {
                let mut one = Vec::new();
                listed(part, kind, &mut one);
                // A notice that is not the first form moves before all others.
                if *kind == "alternative" && place > 0 && one == ["notice"] {
                    inner.insert(0, one);
                } else {
                    inner.push(one);
                }
            }
            out.extend(inner.concat());
            out.push(format!("{})", if *closed { epilogue } else { "" }));
        }
    }
}

/// Writes a part. Boundaries are numbers in the order of writing, each with an end of its own.
fn write(tree: &Tree, next: &mut usize, out: &mut String) {
    match tree {
        Tree::Leaf { header, body, .. } => out.push_str(&format!("{header}\r\n{body}\r\n")),
        Tree::Multi { kind, parts, closed, preamble, epilogue } => {
            let boundary = format!("=_{next}.");
            *next += 1;
            out.push_str(&format!(
                "Content-Type: multipart/{kind};\r\n\tboundary=\"{boundary}\"\r\n\r\n{preamble}\r\n"
            ));
            for part in parts {
                out.push_str(&format!("--{boundary}\r\n"));
                write(part, next, out);
            }
            if *closed {
                out.push_str(&format!("--{boundary}--\r\n{epilogue}\r\n"));
            }
        }
    }
}

/// A naive reader of what `write` writes: recursive, by splitting text.
fn read(text: &str, out: &mut Vec<String>) {
    let (header, body) = match text.strip_prefix("\r\n") {
        Some(body) => ("", body),
        None => text.split_once("\r\n\r\n").unwrap_or((text, "")),
    };
    let Some(kind) = header.strip_prefix("Content-Type: multipart/") else {
        if body.contains(" removed on the way.") {
            out.push("notice".into());
        } else {
            let header = if header.is_empty() { "".into() } else { format!("{header}\r\n") };
            out.push(format!("{header}\r\n{}", body.strip_suffix("\r\n").unwrap_or(body)));
        }
        return;
    };
    let (kind, boundary) = kind.split_once(";\r\n\tboundary=").unwrap();
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let (body, epilogue) = match body.split_once(&format!("{delimiter}--\r\n")) {
        Some((body, epilogue)) => (body, epilogue.strip_suffix("\r\n").unwrap()),
        None => (body, ""),
    };
    let line = format!("{delimiter}\r\n");
    let mut parts = body.split(&line);
    out.push(format!("{kind}({}", parts.next().unwrap().strip_suffix("\r\n").unwrap()));
    parts.for_each(|part| read(part, out));
    out.push(format!("{epilogue})"));
}

fn leaf() -> impl Strategy<Value = Tree> {
    let headers = prop::sample::select(vec![
        ("", false),
        ("Content-Type: text/plain\r\n", false),
        ("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n", false),
        ("X-Note: a\r\n b\r\nContent-Type: text/calendar; method=REQUEST\r\n", false),
        ("Content-Type: image/png\r\nContent-Disposition: inline; filename=a.png\r\n", false),
        ("Content-Type: application/pdf; name=\"a b.pdf\"\r\n", true),
        ("Content-Disposition: attachment;\r\n filename=a.txt\r\n", true),
        ("Content-Type: message/rfc822\r\n", true),
        ("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n", true),
        ("Content-Type: what\r\n", true),
    ]);
    // Lines that look like something, but are no delimiter of this message.
    let lines = prop::sample::select(vec![
        "",
        "text",
        "..",
        "..text",
        "--",
        "-- ",
        "--=",
        "--=_",
        "Content-Type: a/b",
        "é",
        " x",
        "AAAA",
    ]);
    let body = prop::collection::vec(lines, 0..4).prop_map(|lines| lines.join("\r\n"));
    (headers, body).prop_map(|((header, goes), body)| Tree::Leaf {
        header: header.into(),
        body,
        goes,
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let kinds = prop::sample::select(vec!["mixed", "alternative", "related", "x-other"]);
        let words = || prop::sample::select(vec!["", "This is MIME.", "..", "--"]);
        let parts = prop::collection::vec(inner, 1..4);
        (kinds, parts, any::<bool>(), words(), words()).prop_map(
            |(kind, parts, closed, preamble, epilogue)| Tree::Multi {
                kind,
                parts,
                closed,
                preamble: preamble.into(),
                epilogue: epilogue.into(),
            },
        )
    })
}

/// Text of a multipart that is not closed runs to the end of what it stands in, so its last leaf has
/// the line end that a delimiter would take.
fn normal(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| line.trim_end_matches("\r\n").to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn c6_a_tree_loses_its_attachments_and_nothing_else(tree in tree()) {
        prop_assume!(matches!(tree, Tree::Multi { .. }));
        let mut message = String::from("From: a@b.example\r\nMIME-Version: 1.0\r\n");
        let head = message.len();
        write(&tree, &mut 0, &mut message);
        let mut want = Vec::new();
        listed(&tree, "", &mut want);

        let removal = remove_attachments(message.as_bytes(), &["R"]);
        prop_assert!(!removal.is_whole);
        let edited = String::from_utf8(removal.edits.apply(message.as_bytes())).unwrap();
        prop_assert_eq!(&edited[..head], &message[..head]);
        let mut got = Vec::new();
        read(&edited[head..], &mut got);
        prop_assert_eq!(normal(&got), normal(&want), "{}\n=>\n{}", message, edited);
        let notices = want.iter().filter(|line| *line == "notice").count();
        prop_assert_eq!(removal.attachments.len(), notices);
        prop_assert_eq!(removal.edits.is_empty(), notices == 0);
        prop_assert_eq!(remove_attachments(edited.as_bytes(), &["R"]), Removal::default());
        // Each piece is whole lines.
        for edit in removal.edits.iter() {
            for at in [edit.range.start, edit.range.end] {
                prop_assert!(at == 0 || message.as_bytes()[at - 1] == b'\n');
            }
            prop_assert!(edit.text.is_empty() || edit.text.ends_with(b"\r\n"));
        }
    }

    /// Whatever a name or value holds, one field comes of it: no more, no less.
    #[test]
    fn c6_a_field_is_one_field(
        value in "\\PC{0,60}|[a-z é\u{1f600}=?_\t]{0,1200}|[\r\n\0\t :a\u{85}]{0,20}",
        utf8 in any::<bool>(),
    ) {
        let text = if utf8 { HeaderText::Utf8 } else { HeaderText::Ascii };
        let written = field("X-Legacy", &value, text);
        let message = format!("{written}A: b\r\n\r\n");
        let header = waypost_types::HeaderBlock::of(message.as_bytes());
        let names: Vec<_> = header.fields().map(|field| field.name).collect();
        prop_assert_eq!(names, [b"X-Legacy".as_slice(), b"A"], "{:?}", written);
        prop_assert!(written.ends_with("\r\n") && !written.contains("\r\n\r\n"));
        prop_assert!(utf8 || written.is_ascii());
        for line in written.split_inclusive("\r\n") {
            prop_assert!(line.ends_with("\r\n") && line.len() <= 1000, "{}", line.len());
            prop_assert!(!line.trim().is_empty() && !line.starts_with('.'), "{:?}", written);
            prop_assert_eq!(line.matches(['\r', '\n']).count(), 2);
        }
    }
}
