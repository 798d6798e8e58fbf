//! `waypost source-ip` and `received` for people: tables, mailboxes, folders, summaries.

use crate::support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::waypost;
use waypost_types::misleads;

const GATEWAYS: [&str; 4] = ["--gateway", "192.0.2.2", "--gateway", "192.0.2.55"];

/// Through two gateways, as the receiving server stored it.
const LETTER: &str = "Received: by 2002:a05::1 with SMTP id e3cs239nzb; Tue, 24 Mar 2020 15:11:49 +0000\n\
    Received: from gw.example (gw.example [192.0.2.2]) by mx.google.com with ESMTPS id h19;\n\
    \x20Tue, 24 Mar 2020 08:11:47 -0700 (PDT)\n\
    From: a@b.example\n\
    Received: from filter (filter.example [192.0.2.55]) by gw.example (Postfix) with ESMTP id 4F2;\n\
    \tTue, 24 Mar 2020 15:11:45 +0000 (UTC)\n\
    Received: from host.example ([192.0.2.110] helo=laptop) by filter.example with esmtp (Exim 4.97) id 1x-1;\n\
    \tTue, 24 Mar 2020 15:08:40 +0000\n\
    Received: from [10.0.0.7] by host.example via HTTP; Tue, 24 Mar 2020 13:08:40 PST\n\
    \n\
    Received: from a ([8.8.8.8]) by b; no header\n";

fn source_ip(arguments: &[&str], stdin: &str) -> support::Ran {
    waypost(&[&["source-ip"], &GATEWAYS[..], arguments].concat(), stdin)
}

#[test]
fn a_message_is_a_table_with_names_formats_delays_and_the_end_of_trust_e4() {
    let ran = source_ip(&["-"], LETTER);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let want = "\
-
  client     192.0.2.2 (taken from the message's first `Received: from` line; --client-ip names another)
  gateways   192.0.2.2, 192.0.2.55; detecting the external IP

      hop  host                         address      format    delay     verdict
      1    by 2002:a05::1               -            Gmail     2 s       no hop: does not begin with `from`
      2    gw.example                   192.0.2.2    Gmail     2 s       the receiving server's own line
      3    filter.example (HELO filter) 192.0.2.55   Postfix   3 min 5 s passed over: a listed gateway
  =>  4    host.example (HELO laptop)   192.0.2.110  Exim      -6 h      the source IP
  ---- trust ends here: anybody may have written what is below ----
      5    -                            10.0.0.7     web mail  -         not looked at

  source IP  192.0.2.110
  because    first-external: the first public address from the top that is no gateway (E4)
  SPF check  due, for this address

";
    // Blanks between columns, and how long the drawn line is, are a matter of taste.
    let words = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines = text.lines().map(|text| line(text.trim_end_matches('-')));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(words(&ran.stdout), words(want), "{}", ran.stdout);
}

/// The table on the page about the inbound gateway is what the program prints.
#[test]
fn the_page_shows_the_table_that_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/INBOUND.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- hop table: begin -->\n", "<!-- hop table: end -->\n");
    let from = text.find(begin).unwrap() + begin.len();
    let to = text.find(end).unwrap();
    let want = format!("```text\n{}\n```\n", source_ip(&["-"], LETTER).stdout.trim_end());
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, [&text[..from], &want, &text[to..]].concat()).unwrap();
        return;
    }
    assert_eq!(&text[from..to], want, "write it anew with UPDATE_GOLDENS=1");
}

#[test]
fn trust_ends_where_the_source_is_named_e3_e4_e5() {
    // (arguments, the hop behind which trust ends)
    for (arguments, want) in [
        (&["source-ip", "-"][..], Some(2)),
        (&["source-ip", "--gateway", "192.0.2.2", "--no-detect", "-"], Some(3)),
        (&["source-ip", "--gateway", "192.0.2.0/24", "-"], None),
        (&["source-ip", "--gateway", "192.0.2.2", "--client-ip", "203.0.113.9", "-"], Some(0)),
    ] {
        let ran = waypost(arguments, LETTER);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let found = lines.iter().position(|line| line.contains("trust ends here"));
        let above = found.map(|at| {
            let hop = lines[at - 1].trim_start_matches([' ', '=', '>']);
            hop.split_whitespace().next().unwrap().parse().unwrap_or(0)
        });
        assert_eq!(above, want, "{arguments:?}: {}", ran.stdout);
        let json = &waypost(&[arguments, &["--json"]].concat(), LETTER).json_lines()[0];
        assert_eq!(json["trusted_lines"], want.map_or(Value::Null, Value::from), "{json}");
    }
}

#[test]
fn a_message_is_one_object_e4() {
    let json = &source_ip(&["--json", "-"], LETTER).json_lines()[0];
    assert_eq!(json["file"], "-");
    assert_eq!(json["message"], Value::Null);
    assert_eq!(
        json["hops"],
        json!([{"ip": "192.0.2.55", "skipped": "gateway"}, {"ip": "192.0.2.110", "skipped": null}])
    );
    assert_eq!(json["trace"].as_array().unwrap().len(), 5);
    let want = json!({
        "line": 4, "kind": "from", "ip": "192.0.2.110", "host": "host.example", "helo": "laptop",
        "by": "filter.example", "with": "esmtp", "id": "1x-1", "format": "Exim",
        "date": 1_585_062_520, "delay": -21_600, "role": "source",
    });
    assert_eq!(json["trace"][3], want);
    let roles: Vec<_> =
        json["trace"].as_array().unwrap().iter().map(|line| &line["role"]).collect();
    assert_eq!(roles, ["no-hop", "own", "gateway", "source", "not-looked-at"]);
}

/// A mailbox: the letter, one without a trace, one from elsewhere, one whose body holds a `From ` line.
fn mailbox() -> String {
    let from = "From MAILER-DAEMON Tue Mar 24 15:11:49 2020\n";
    let other = LETTER.replace("192.0.2.110", "203.0.113.9");
    format!(
        "{from}{LETTER}\n{from}Subject: sent\n\nx\n\n{from}{other}\nFrom here on\n\n{from}{LETTER}"
    )
}

#[test]
fn a_mailbox_is_read_message_by_message_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inbox");
    fs::write(&path, mailbox()).unwrap();
    let path = path.to_str().unwrap();
    let ran = source_ip(&[path], "");
    // The message without a trace has no client: that is told, and the rest goes on.
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains(&format!("{path}, message 2: it has no `Received: from` line")));
    for part in [
        &format!("{path}, message 1\n"),
        &format!("{path}, message 3\n"),
        &format!("{path}, message 4\n"),
        "\n3 messages\n",
        "  messages  because\n  3         first-external\n",
        "  messages  source network\n  2         192.0.2.0/24\n  1         203.0.113.0/24\n",
        "  messages  source host\n  3         host.example (HELO laptop)\n",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let numbers: Vec<_> = source_ip(&["--json", path], "")
        .json_lines()
        .iter()
        .map(|one| one["message"].clone())
        .collect();
    assert_eq!(numbers, [1, 3, 4]);
    let summary = &source_ip(&["--json", "--summary", path], "").json_lines()[0];
    assert_eq!(summary["messages"], 3);
    assert_eq!(summary["because"], json!([{"name": "first-external", "messages": 3}]));
    // Standard input may be a mailbox, too.
    assert_eq!(source_ip(&["--json", "-"], &mailbox()).json_lines().len(), 3);
    // What a tag says is shown for each message.
    let tags = waypost(&["test-tag", "^Subject: sent$", "--json", path], "").json_lines();
    let spam: Vec<_> = tags.iter().map(|one| one["spam"].as_bool().unwrap()).collect();
    assert_eq!(spam, [false, true, false, false]);
}

#[test]
fn folders_are_looked_through_in_order() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in
        ["maildir/cur/2:2,S", "maildir/new/1", "maildir/.Sent/cur/3", "eml/a.eml", "eml/b/c.EML"]
    {
        write(name, LETTER);
    }
    for name in ["maildir/tmp/4", "maildir/dovecot.index", "eml/readme.txt"] {
        write(name, "no message");
    }
    write("eml/old.mbox", &mailbox());
    fs::create_dir_all(root.path().join("empty")).unwrap();
    let read = |name: &str| {
        let path = root.path().join(name);
        let ran = source_ip(&["--json", path.to_str().unwrap()], "");
        let short = |one: &Value| {
            let file = one["file"].as_str().unwrap();
            Path::new(file).strip_prefix(root.path()).unwrap().to_string_lossy().into_owned()
        };
        (ran.status, ran.json_lines().iter().map(short).collect::<Vec<_>>())
    };
    let sorted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        read("maildir"),
        (0, sorted(&["maildir/cur/2:2,S", "maildir/new/1", "maildir/.Sent/cur/3"]))
    );
    let old = "eml/old.mbox";
    assert_eq!(read("eml"), (2, sorted(&["eml/a.eml", old, old, old, "eml/b/c.EML"])));
    assert_eq!(read("empty"), (2, vec![]));
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    fs::write(path("good"), LETTER).unwrap();
    fs::write(path("empty"), "").unwrap();
    let (good, none, empty) = (path("good"), path("none"), path("empty"));
    let ran = source_ip(&["--json", &good, &none, &empty, &good], "");
    assert_eq!(ran.status, 2);
    assert_eq!(ran.json_lines().len(), 2);
    for part in [&format!("{none}: cannot be read: "), &format!("{empty}: is empty")] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn a_mailbox_of_any_size_and_a_header_of_any_length_take_bounded_memory_e12() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.mbox");
    fs::write(&path, mailbox()).unwrap();
    // Half a gigabyte of NULs without a line end, which takes no room on disk.
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() + (1 << 29)).unwrap();
    let endless = folder.path().join("endless.eml");
    fs::write(&endless, LETTER.replace("\n\n", "\nX: ")).unwrap();
    let file = fs::OpenOptions::new().append(true).open(&endless).unwrap();
    file.set_len(1 << 29).unwrap();
    // 250 MB of address space, the program's own text and stacks included.
    let run = Command::new("sh")
        .args(["-c", "ulimit -v 250000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_waypost")])
        .args(["source-ip", "--json"])
        .args(GATEWAYS)
        .args([&path, &endless])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    let out = String::from_utf8(run.stdout).unwrap();
    assert_eq!(out.lines().count(), 4, "{errors}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["source_ip"], &last["header_cut"]), (&"192.0.2.110".into(), &true.into()));
}

#[test]
fn a_header_of_many_lines_has_a_short_table_e12() {
    let private = "Received: from a (b [10.0.0.1]) by c; d\n";
    let own = "Received: from gw (gw.example [192.0.2.2]) by mx.example; d\n";
    let last = "Received: from a (b [203.0.113.5]) by c; d\n";
    let letter = format!("{own}{}{last}\n", private.repeat(5000));
    let json = &source_ip(&["--json", "-"], &letter).json_lines()[0];
    assert_eq!(json["source_ip"], "203.0.113.5");
    assert_eq!(json["hops"].as_array().unwrap().len(), 1001);
    assert_eq!(json["more_hops"], 4000);
    assert_eq!(json["trace"].as_array().unwrap().len(), 1000);
    assert_eq!(json["more_lines"], 4002);
    assert_eq!(json["trusted_lines"], 5002);
    let text = source_ip(&["-"], &letter).stdout;
    assert!(text.contains("  and 4902 older lines\n"), "{text}");
    let batch = json!({
        "id": "1", "client_ip": "192.0.2.2", "gateways": ["192.0.2.2"], "headers": letter,
    });
    let answer = &waypost(&["source-ip", "--batch"], &batch.to_string()).json_lines()[0];
    assert_eq!((&answer["source_ip"], &answer["more_hops"]), (&"203.0.113.5".into(), &4000.into()));
}

#[test]
fn nothing_that_a_sender_wrote_steers_the_terminal() {
    let letter = "Received: from \x1b[31mred\x07 (\u{9b}2J\u{202e}\u{2066} [192.0.2.2]) by \
                  \x1b]0;title\x07\u{feff}\u{200f}\u{e0041}; d\n\n";
    for arguments in [
        &["source-ip", "-"][..],
        &["received", "-"],
        &["source-ip", "--json", "-"],
        &["received", "--json", "-"],
    ] {
        let ran = waypost(arguments, letter);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let misleading = |c: char| misleads(c) && c != '\n';
        assert!(!ran.stdout.contains(misleading), "{:?}", ran.stdout);
    }
}

#[test]
fn received_reads_the_lines_of_files_e4() {
    let ran = waypost(&["received", "-"], LETTER);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let row = ran.stdout.lines().find(|line| line.contains("192.0.2.110")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "4 from 192.0.2.110 client information host.example (HELO laptop) Exim -6 h"
    );
    let json = waypost(&["received", "--json", "-"], LETTER).json_lines();
    assert_eq!(json.len(), 5);
    assert_eq!((&json[0]["kind"], &json[0]["place"]), (&"by".into(), &"no hop".into()));
    assert_eq!((&json[4]["ip"], &json[4]["format"]), (&"10.0.0.7".into(), &"web mail".into()));
    assert_eq!(json[4].get("role"), None);
    assert_eq!(waypost(&["received"], "").status, 2);
}
