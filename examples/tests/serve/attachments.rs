//! `waypost serve`: a message whose attachments are removed for one delivery and kept for another (C6).

use crate::support;

use support::serving::{Folder, queue_id};
use support::sink::{Received, Sink};
use support::waypost;
use waypost_net::test_kit::{Framing, Script};

/// Each route's mail for Marie loses its attachments; the archive gets all of it.
fn without_files(slim: &[(&Sink, &str)], archive: &Sink, maildir: bool) -> String {
    let route = |name: &str, sink: &Sink, protocol: &str| {
        format!(
            "\n[[organization.route]]\nname = \"{name}\"\nhost = \"{}\"\nport = {}\n\
             require_tls = false\nprotocol = \"{protocol}\"\n",
            sink.address.ip(),
            sink.address.port()
        )
    };
    let mut routes = route("archive", archive, "smtp");
    let mut copies = String::new();
    for (place, (sink, protocol)) in slim.iter().enumerate() {
        routes.push_str(&route(&format!("slim{place}"), sink, protocol));
        copies.push_str(&format!(
            "[[organization.rule.then.modify.also_deliver_to]]\nlocal_part = \"slim{place}\"\n\
             route = \"slim{place}\"\nremove_attachments = true\nsubject_prefix = \"[É] \"\n\
             add_headers = [{{ name = \"X-Team\", value = \"Qualité\" }}]\n"
        ));
    }
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"
{routes}
[[organization.rule]]
description = "No files for anyone"
affects = ["inbound"]
accounts = ["users"]
[organization.rule.then.modify]
remove_attachments = {maildir}
[[organization.rule.then.modify.also_deliver_to]]
local_part = "archive"
route = "archive"
{copies}"#
    )
}

/// What stands before the attachment, the attachment, and what stands behind it.
fn message(size: usize) -> [Vec<u8>; 3] {
    let before = "From: a@elsewhere.example\r\nSubject: The file\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed;\r\n\tboundary=\"=_b\"\r\n\r\nPreamble\r\n--=_b\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\n.\r\n..two dots\r\nSee the file.\r\n--=_b\r\n";
    let file = "Content-Type: application/pdf; name=\"r\u{e9}sum\u{e9}.pdf\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n";
    let lines = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=\r\n".repeat(size / 38);
    let behind =
        "--=_b\r\nContent-Type: text/html\r\n\r\n<p>.</p>\r\n.\r\n--=_b--\r\n.\r\nEpilogue\r\n";
    [before.into(), [file, &lines].concat().into(), behind.into()]
}

/// The notice in what came, when all the rest is what it should be.
fn notice(came: &[u8], before: &[u8], behind: &[u8], what: &str) -> String {
    assert!(came.starts_with(before), "{what}: {}", String::from_utf8_lossy(came));
    assert!(came.ends_with(behind), "{what}: {}", String::from_utf8_lossy(came));
    let notice = &came[before.len()..came.len() - behind.len()];
    String::from_utf8(notice.to_vec()).unwrap()
}

/// `SIZE=` of MAIL is that of what came.
fn size_is_right(came: &Received) {
    let size = came.from.split(" SIZE=").nth(1).unwrap_or_else(|| panic!("{}", came.from));
    let size: usize = size.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(size, came.message.len());
}

#[test]
fn c6_only_the_attachment_is_missing_and_the_other_delivery_is_as_it_came() {
    let (smtp, lmtp, archive) = (Sink::start(), Sink::start(), Sink::start());
    let chunks = Sink::run(Script::new().offers("CHUNKING"));
    let slim = [(&smtp, "smtp"), (&lmtp, "lmtp"), (&chunks, "smtp")];
    let folder = Folder::new(&without_files(&slim, &archive, true));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let [before, file, behind] = message(100_000);
    let whole = [&before[..], &file, &behind].concat();
    queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], &whole));

    let kept = archive.only();
    assert!(kept.behind_trace() == whole, "the other delivery is not what came");
    size_is_right(&kept);

    let head = "X-Team: =?utf-8?B?UXVhbGl0w6k=?=\r\n";
    let text = String::from_utf8(before.clone()).unwrap();
    let prefixed = text.replace("Subject: The", "Subject: =?utf-8?B?W8OJXQ==?= The");
    let want = [head, &prefixed].concat();
    for (sink, what) in [(&smtp, "SMTP"), (&lmtp, "LMTP"), (&chunks, "BDAT")] {
        let came = sink.only();
        let notice = notice(came.behind_trace(), want.as_bytes(), &behind, what);
        assert!(notice.starts_with("Content-Type: text/plain; charset=utf-8\r\n"), "{notice}");
        assert!(notice.is_ascii() && notice.len() < 1500, "{notice}");
        size_is_right(&came);
        assert!(came.message.len() < 4000, "{what}");
    }
    let filed = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
    let lines = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap().replace("\r\n", "\n");
    assert!(filed.contains(&lines(&before)), "{filed}");
    assert!(filed.ends_with(&lines(&behind)), "{filed}");
    assert!(!filed.contains("QUJDREVGR0"), "{filed}");
    serve.log.wait_for("attachment removed", |line| {
        line.contains("attachment removed") && line.contains("No files for anyone")
    });

    // The same by one message with a plain name and no line that begins with a dot: one whole chunk.
    let plain = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nText\r\n--b\r\n\
        Content-Type: application/zip; name=a.zip\r\n\r\nPK\r\n--b--\r\n";
    queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], plain));
    let came = chunks.wait(2).remove(1);
    assert!(
        came.text().contains("File name: a.zip\r\nType: application/zip\r\nSize: 2 octets\r\n")
    );
    assert!(
        came.text().contains("By rule: \"No files for anyone\"\r\n--b--\r\n"),
        "{}",
        came.text()
    );
    assert_eq!(chunks.peer().received()[1].framing, Some(Framing::Chunks(1)));
    size_is_right(&came);
    serve.terminate();
}

/// What a recipient does not get, the sender gets back: his own message, as he sent it.
#[test]
fn c6_a_bounce_returns_the_message_as_it_came() {
    let archive = Sink::start();
    let gone = Sink::answering(|command| {
        command.starts_with("RCPT TO:").then(|| "550 5.1.1 No such user".to_owned())
    });
    let configuration = without_files(&[(&gone, "smtp")], &archive, false);
    let configuration =
        configuration.replace("affects = [\"inbound\"]", "affects = [\"internal-receiving\"]");
    let folder = Folder::new(&configuration);
    let serve = folder.serve();
    let [before, file, behind] = message(1000);
    let text = String::from_utf8([&before[..], &file, &behind].concat()).unwrap();
    let text = text.replace("a@elsewhere.example", "marie@solarmora.com");
    let mut client = serve.session("mx");
    client.ask("MAIL FROM:<marie@solarmora.com> RET=FULL", "250");
    client.ask("RCPT TO:<marie@solarmora.com> NOTIFY=FAILURE", "250");
    queue_id(&client.data(text.as_bytes()));
    assert!(archive.only().behind_trace() == text.as_bytes());
    let filed = folder.mailbox("marie@solarmora.com", "", 2);
    let report = filed.iter().find(|text| text.contains("multipart/report")).unwrap();
    assert!(report.contains(&text.replace("\r\n", "\n")), "{report}");
    serve.terminate();
}

/// `explain` says beforehand what would go.
#[test]
fn c6_explain_names_the_attachments() {
    let (slim, archive) = (Sink::start(), Sink::start());
    let folder = Folder::new(&without_files(&[(&slim, "smtp")], &archive, false));
    let [before, file, behind] = message(38);
    let whole = [&before[..], &file, &behind].concat();
    std::fs::write(folder.path("message.eml"), whole).unwrap();
    let (path, eml) = (folder.configuration(), folder.path("message.eml"));
    let eml = eml.to_string_lossy().into_owned();
    let to = ["--from", "a@elsewhere.example", "--to", "marie@solarmora.com"];
    let at = ["--listener", "mx", "--client-ip", "203.0.113.1"];
    let ran = waypost(&[&["explain", &path, &eml][..], &to, &at].concat(), "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let line = "  removes     résumé.pdf, application/pdf, 26 octets: it is no text\n";
    assert_eq!(ran.stdout.matches(line).count(), 1, "{}", ran.stdout);
}
