//! Messages and what is left of them (C6). `N(name)` stands for a notice that names `name`.

use waypost_mime::{MOST_DEEP, MOST_PARTS, Removal, Unreadable, Why, remove_attachments};

/// The edited message with each notice shortened to one line.
fn left(message: &str) -> (String, Removal) {
    let removal = remove_attachments(message.as_bytes(), &["No files"]);
    let edited = removal.edits.apply(message.as_bytes());
    let again = remove_attachments(&edited, &["No files"]);
    assert_eq!(again, Removal::default(), "not idempotent:\n{}", edited.escape_ascii());
    let mut text = String::from_utf8(edited).unwrap();
    for (place, attachment) in removal.attachments.iter().enumerate() {
        let name = attachment.name.as_deref().unwrap_or("?");
        let at = text
            .find("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n");
        let (from, end) = (at.unwrap(), "By rule: \"No files\"\r\n");
        let to = from + text[from..].find(end).unwrap() + end.len();
        let notice = &text[from..to];
        assert!(notice.contains(&format!("Type: {}\r\n", attachment.media)), "{place}: {notice}");
        let named = notice.contains(&format!("File name: {name}\r\n"));
        assert!(named || attachment.name.is_none() || removal.attachments.len() > 1, "{notice}");
        text.replace_range(from..to, &format!("N({name})\r\n"));
    }
    (text, removal)
}

const HEAD: &str = "A: b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
const PDF: &str = "Content-Type: application/pdf; name=a.pdf\r\n\r\n%PDF\r\n";

fn check(table: &[(&str, String, String)]) {
    for (what, message, want) in table {
        let message = message.replace("HEAD", HEAD).replace("PDF", PDF);
        let (got, _) = left(&message);
        assert_eq!(got, want.replace("HEAD", HEAD).replace("PDF", PDF), "{what}");
    }
}

fn row(what: &'static str, message: &str, want: &str) -> (&'static str, String, String) {
    (what, message.to_owned(), want.to_owned())
}

#[test]
fn c6_only_the_attachment_changes() {
    check(&[
        row("no MIME", "A: b\r\n\r\n--b\r\nPDF--b--\r\n", "A: b\r\n\r\n--b\r\nPDF--b--\r\n"),
        row("empty", "", ""),
        row("header alone", "A: b\r\n", "A: b\r\n"),
        row(
            "last",
            "HEADpre\r\n--b\r\n\r\nx\r\n--b\r\nPDF--b--\r\nepi\r\n",
            "HEADpre\r\n--b\r\n\r\nx\r\n--b\r\nN(a.pdf)\r\n--b--\r\nepi\r\n",
        ),
        row(
            "first and middle",
            "HEAD--b\r\nPDF--b\r\n\r\nx\r\n--b\r\nPDF--b\r\n\r\ny\r\n--b--\r\n",
            "HEAD--b\r\nN(a.pdf)\r\n--b\r\n\r\nx\r\n--b\r\nN(a.pdf)\r\n--b\r\n\r\ny\r\n--b--\r\n",
        ),
        row(
            "no closing",
            "HEAD--b\r\n\r\nx\r\n--b\r\nPDF",
            "HEAD--b\r\n\r\nx\r\n--b\r\nN(a.pdf)\r\n",
        ),
        row(
            "no last line end",
            "HEAD--b\r\n\r\nx\r\n--b\r\nContent-Type: a/b\r\n\r\nx",
            "HEAD--b\r\n\r\nx\r\n--b\r\nN(?)\r\n",
        ),
        row(
            "no last line end behind the closing",
            "HEAD--b\r\nPDF--b--",
            "HEAD--b\r\nN(a.pdf)\r\n--b--",
        ),
        row("blanks behind", "HEAD--b \t\r\nPDF--b-- \r\n", "HEAD--b \t\r\nN(a.pdf)\r\n--b-- \r\n"),
        row("no part at all", "HEAD\r\n", "HEAD\r\n"),
        row(
            "empty parts",
            "HEAD--b\r\n--b\r\n\r\n--b\r\nPDF--b--\r\n",
            "HEAD--b\r\n--b\r\n\r\n--b\r\nN(a.pdf)\r\n--b--\r\n",
        ),
        row(
            "a header without an empty line",
            "HEAD--b\r\nContent-Type: a/b\r\n--b\r\n\r\nx\r\n--b--\r\n",
            "HEAD--b\r\nN(?)\r\n--b\r\n\r\nx\r\n--b--\r\n",
        ),
        row(
            "dot-stuffed text stays",
            "HEAD--b\r\n\r\n..\r\n..x\r\n--b\r\nPDF--b--\r\n..\r\n",
            "HEAD--b\r\n\r\n..\r\n..x\r\n--b\r\nN(a.pdf)\r\n--b--\r\n..\r\n",
        ),
        row(
            "LF alone",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: a/b\n\nx\n--b\n\ny\n--b--\n",
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nN(?)\r\n--b\n\ny\n--b--\n",
        ),
    ]);
}

#[test]
fn c6_nested_multiparts() {
    let inner = |kind: &str, name: &str, parts: &str| {
        format!("Content-Type: multipart/{kind}; boundary={name}\r\n\r\n{parts}--{name}--\r\n")
    };
    let text = "--b\r\n\r\nx\r\n";
    let alternative =
        inner("alternative", "i", "--i\r\n\r\np\r\n--i\r\nContent-Type: text/html\r\n\r\nh\r\n");
    let related = inner(
        "related",
        "r",
        "--r\r\nContent-Type: text/html\r\n\r\nh\r\n--r\r\nContent-Type: image/png\r\nContent-ID: <1>\r\n\r\nx\r\n",
    );
    check(&[
        row(
            "forms of the text stay",
            &format!("HEAD--b\r\n{alternative}--b\r\nPDF--b--\r\n"),
            &format!("HEAD--b\r\n{alternative}--b\r\nN(a.pdf)\r\n--b--\r\n"),
        ),
        row(
            "pictures of the text stay",
            &format!("HEAD--b\r\n{related}--b\r\nPDF--b--\r\n"),
            &format!("HEAD--b\r\n{related}--b\r\nN(a.pdf)\r\n--b--\r\n"),
        ),
        row(
            "inside",
            &format!("HEAD--b\r\n{}{text}--b--\r\n", inner("mixed", "i", "--i\r\nPDF")),
            &format!("HEAD--b\r\n{}{text}--b--\r\n", inner("mixed", "i", "--i\r\nN(a.pdf)\r\n")),
        ),
        row(
            "an inner end that is missing",
            &format!(
                "HEAD--b\r\n{}{text}--b--\r\n",
                inner("mixed", "i", "--i\r\nPDF").replace("--i--\r\n", "")
            ),
            &format!(
                "HEAD--b\r\n{}{text}--b--\r\n",
                inner("mixed", "i", "--i\r\nN(a.pdf)\r\n").replace("--i--\r\n", "")
            ),
        ),
        row(
            "an inner boundary that begins with the outer one",
            &format!(
                "HEAD--b\r\n{}{text}--b--\r\n",
                inner("mixed", "bi", "--bi\r\nPDF--bi\r\n\r\ny\r\n")
            ),
            &format!(
                "HEAD--b\r\n{}{text}--b--\r\n",
                inner("mixed", "bi", "--bi\r\nN(a.pdf)\r\n--bi\r\n\r\ny\r\n")
            ),
        ),
        row(
            "an outer boundary that begins with the inner one",
            &format!(
                "Content-Type: multipart/mixed; boundary=bo\r\n\r\n--bo\r\n{}--bo\r\nPDF--bo--\r\n",
                inner("mixed", "b", "--b\r\nPDF--b\r\n\r\ny\r\n")
            ),
            &format!(
                "Content-Type: multipart/mixed; boundary=bo\r\n\r\n--bo\r\n{}--bo\r\nN(a.pdf)\r\n--bo--\r\n",
                inner("mixed", "b", "--b\r\nN(a.pdf)\r\n--b\r\n\r\ny\r\n")
            ),
        ),
        row(
            "the same boundary twice",
            &format!("HEAD--b\r\n{}--b\r\nPDF--b--\r\n", inner("related", "b", "--b\r\n\r\nh\r\n")),
            &format!(
                "HEAD--b\r\n{}--b\r\nN(a.pdf)\r\n--b--\r\n",
                inner("related", "b", "--b\r\n\r\nh\r\n")
            ),
        ),
        row(
            "an attached multipart goes whole",
            &format!(
                "HEAD--b\r\nContent-Disposition: attachment\r\n{}{text}--b--\r\n",
                inner("mixed", "bi", "--bi\r\nPDF--bi\r\n\r\ny\r\n")
            ),
            &format!("HEAD--b\r\nN(?)\r\n{text}--b--\r\n"),
        ),
        row(
            "an attached message goes whole",
            &format!(
                "HEAD--b\r\nContent-Type: message/rfc822\r\n\r\n{HEAD}--c\r\nPDF--c--\r\n{text}--b--\r\n"
            ),
            &format!("HEAD--b\r\nN(?)\r\n{text}--b--\r\n"),
        ),
        row(
            "behind the end, where some readers go on",
            "HEAD--b\r\n\r\nx\r\n--b--\r\nPDF--b\r\nPDF",
            "HEAD--b\r\n\r\nx\r\n--b--\r\nN(a.pdf)\r\n--b\r\nN(a.pdf)\r\n",
        ),
        row(
            "a delimiter to some readers only",
            "HEAD--b\r\n\r\nx\r\n--bc\r\nPDF--b--\r\n",
            "HEAD--b\r\n\r\nx\r\n--bc\r\nN(a.pdf)\r\n--b--\r\n",
        ),
    ]);
}

#[test]
fn c6_the_last_form_is_not_hidden_by_a_notice() {
    let head = "Content-Type: multipart/alternative; boundary=b\r\n\r\n";
    let html = "--b\r\nContent-Type: text/html\r\n\r\nh\r\n";
    check(&[
        row(
            "last",
            &format!("{head}pre\r\n--b \r\n\r\nx\r\n{html}--b\r\nPDF--b--\r\n"),
            &format!("{head}pre\r\n--b\r\nN(a.pdf)\r\n--b \r\n\r\nx\r\n{html}--b--\r\n"),
        ),
        row(
            "several",
            &format!("{head}{html}--b\r\nPDF--b\r\nPDF"),
            &format!("{head}--b\r\nN(a.pdf)\r\n--b\r\nN(a.pdf)\r\n{html}"),
        ),
        row(
            "first and last",
            &format!("{head}--b\r\nPDF{html}--b\r\nPDF--b--\r\n"),
            &format!("{head}--b\r\nN(a.pdf)\r\n--b\r\nN(a.pdf)\r\n{html}--b--\r\n"),
        ),
    ]);
}

#[test]
fn c6_a_message_that_is_an_attachment_becomes_a_notice() {
    for (what, message, want) in [
        (
            "one part",
            "A: b\r\nContent-Type: application/pdf\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\
             Subject: s\r\n\r\nAAAA\r\n",
            "A: b\r\nMIME-Version: 1.0\r\nSubject: s\r\nN(?)\r\n",
        ),
        (
            "folded, without MIME-Version",
            "A: b\r\nContent-Type:\r\n application/pdf;\r\n name=x\r\n\r\n..\r\n",
            "A: b\r\nMIME-Version: 1.0\r\nN(x)\r\n",
        ),
        ("header alone", "Content-Type: a/b\r\n", "MIME-Version: 1.0\r\nN(?)\r\n"),
        ("no line end", "A: b\r\nContent-Type: a/b", "A: b\r\nMIME-Version: 1.0\r\nN(?)\r\n"),
        (
            "no line end, other field",
            "Content-Type: a/b\r\nA: b",
            "A: b\r\nMIME-Version: 1.0\r\nN(?)\r\n",
        ),
        (
            "no boundary",
            "A: b\r\nContent-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx\r\n",
            "A: b\r\nMIME-Version: 1.0\r\nN(?)\r\n",
        ),
        (
            "encrypted",
            "A: b\r\nContent-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
            "A: b\r\nMIME-Version: 1.0\r\nN(?)\r\n",
        ),
    ] {
        let (got, removal) = left(message);
        assert_eq!(got, want, "{what}");
        assert!(removal.is_whole);
    }
}

#[test]
fn c6_what_cannot_be_read_goes_with_a_reason() {
    let whole = |why: Unreadable| (true, vec![Why::Unreadable(why)]);
    let part = |why: Unreadable| (false, vec![Why::Unreadable(why)]);
    let deep = |depth: usize| {
        let open = |at: usize| {
            format!("Content-Type: multipart/mixed; boundary=\"{at}.\"\r\n\r\n--{at}.\r\n")
        };
        (0..depth).map(open).collect::<String>() + "\r\nx\r\n"
    };
    let many = |parts: usize| HEAD.to_owned() + &"--b\r\n\r\n\r\n".repeat(parts);
    let header =
        |fields: usize| format!("{HEAD}--b\r\n{}\r\nx\r\n--b--\r\n", "X: yyyy\r\n".repeat(fields));
    let named = |kind: &str| format!("{HEAD}--b\r\nContent-Type: {kind}\r\n\r\nx\r\n--b--\r\n");
    for (message, want) in [
        (HEAD.to_owned() + "no delimiter\r\n", whole(Unreadable::Delimiter)),
        (many(MOST_PARTS), (false, vec![])),
        (many(MOST_PARTS + 1), whole(Unreadable::TooMany)),
        (deep(MOST_DEEP), (false, vec![])),
        (deep(MOST_DEEP + 1), part(Unreadable::TooDeep)),
        (deep(5000), part(Unreadable::TooDeep)),
        (header(7000), (false, vec![])),
        (header(8000), part(Unreadable::Header)),
        (named("what"), part(Unreadable::Type)),
        (named("multipart/mixed; boundary=\"a\\\"b\""), part(Unreadable::Boundary)),
        (
            "Content-Type: text/plain\r\nContent-Type: a/b\r\n\r\nx\r\n".into(),
            whole(Unreadable::Type),
        ),
        (
            HEAD.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"),
            whole(Unreadable::Encoding),
        ),
    ] {
        let (_, removal) = left(&message);
        let whys = removal.attachments.iter().map(|attachment| attachment.why).collect();
        let short: String = message.chars().take(200).collect();
        assert_eq!((removal.is_whole, whys), want, "{short:?}");
    }
}

#[test]
fn c6_notices_say_name_type_and_size() {
    let hostile = "a\\\"\r\n\t--b--\r\n\tBcc: x";
    for (header, body, name, size) in [
        ("Content-Type: a/b; name=\"x y\"", "12345\r\n", Some("x y"), 5),
        ("Content-Type: a/b", "\r\n", None, 0),
        ("Content-Type: a/b", "..a\r\n..b\r\n", None, 6),
        ("Content-Type: a/b\r\nContent-Transfer-Encoding: base64", "QUJD\r\nREU=\r\n", None, 5),
        ("Content-Type: a/b\r\nContent-Transfer-Encoding: base64", "====\r\n", None, 1),
        ("Content-Type: a/b\r\nContent-Transfer-Encoding: base64", "=\r\n", None, 0),
        (
            "Content-Type: a/b\r\nContent-Transfer-Encoding: quoted-printable",
            "a=3D=\r\nb\r\n",
            None,
            3,
        ),
        ("Content-Disposition: attachment; filename=\"\"", "x\r\n", None, 1),
        (&format!("Content-Type: a/b; name=\"{hostile}\""), "x\r\n", Some("a\"\t--b--\tBcc: x"), 1),
    ] {
        let message = format!("{HEAD}--b\r\n{header}\r\n\r\n{body}--b--\r\n");
        let removal = remove_attachments(message.as_bytes(), &[]);
        let [attachment] = removal.attachments.as_slice() else { panic!("{message}") };
        let clean = name.map(|name| name.replace('\t', "?"));
        assert_eq!(attachment.size, size, "{message}");
        if !header.contains("Bcc") {
            assert_eq!(attachment.name, clean, "{message}");
        }
        let edited = String::from_utf8(removal.edits.apply(message.as_bytes())).unwrap();
        let lines: Vec<&str> = edited.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.starts_with("--b")).count(), 2, "{edited}");
        assert!(!lines.iter().any(|line| line.starts_with("Bcc")), "{edited}");
        assert!(!edited.contains("By rule"), "{edited}");
    }
}

#[test]
fn c6_a_name_of_any_language_is_readable() {
    let message = format!(
        "{HEAD}--b\r\nContent-Type: a/b; name*=utf-8''%C3%A9t%C3%A9.pdf\r\n\r\nx\r\n--b--\r\n"
    );
    let removal = remove_attachments(message.as_bytes(), &["R\u{e8}gle"]);
    assert_eq!(removal.attachments[0].name.as_deref(), Some("été.pdf"));
    let edited = String::from_utf8(removal.edits.apply(message.as_bytes())).unwrap();
    assert!(
        edited.is_ascii() && edited.contains("Content-Transfer-Encoding: base64\r\n"),
        "{edited}"
    );
    assert!(edited.lines().all(|line| line.len() <= 78), "{edited}");
}
