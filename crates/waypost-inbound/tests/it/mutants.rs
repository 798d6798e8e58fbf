//! Mutants of every layout: a forger's address is never read, and what leaves the client's part alone
//! leaves it readable (E4).
//!
//! The base lines are those of `layouts/table.rs`; the mutants are the same on every run. Three kinds:
//! *honest* ones plant addresses where senders can write and change folds, blanks and letter case: they
//! are to be read as before. *Wild* ones plant shapes that make a line doubtful: they may be unreadable,
//! but never read wrongly. *Garbled* ones spoil the client's address itself: they are to be unreadable.

use std::collections::BTreeMap;
use std::net::IpAddr;

use waypost_inbound::Reading;

use crate::layouts::table::{READ, clients, filled};

/// What is planted; none of them is a client's.
const PLANTED: [&str; 3] = ["8.8.4.4", "2001:db8:bad::1", "127.99.1.2"];

/// How a forger writes one of them where no blank can stand.
const WORDS: [&str; 24] = [
    "8.8.4.4",
    "[8.8.4.4]",
    "127.99.1.2",
    "[IPv6:2001:db8:bad::1]",
    "[2001:db8:bad::1]",
    "2001:db8:bad::1",
    "IPv6:2001:db8:bad::1",
    "::ffff:8.8.4.4",
    "[::ffff:8.8.4.4]",
    "[8.8.4.4]:25",
    "8.8.4.4:25",
    "[8.8.4.4.25]",
    "[2001:db8:bad::1%eth0]",
    "8.8.4.4.example",
    "[8.8.4.4].example",
    "a@8.8.4.4",
    "a@[8.8.4.4]",
    "x[8.8.4.4]",
    "?8.8.4.4?",
    "\"8.8.4.4\"",
    "<[8.8.4.4]>",
    "[8.8.4.4",
    "8.8.4.4]",
    "x/8.8.4.4",
];

/// Words with parentheses: no server lets them pass as they are, so a line with one is doubtful.
const FORKED: [&str; 12] = [
    "(8.8.4.4)",
    "([8.8.4.4])",
    "x(8.8.4.4)",
    "x([8.8.4.4])",
    "x(r[8.8.4.4])",
    "x)(8.8.4.4)",
    "x)([8.8.4.4]",
    "x(8.8.4.4",
    "x\\(8.8.4.4\\)",
    "x(8.8.4.4)by",
    "8.8.4.4;",
    "[8.8.4.4];by",
];

/// Comments that hold what a sender said.
const COMMENTS: [&str; 19] = [
    "(envelope-from <a@[8.8.4.4]>)",
    "(envelope-sender <a@8.8.4.4>)",
    "(envelope-from a@[8.8.4.4])",
    "(Authenticated sender: 8.8.4.4)",
    "(Authenticated sender: a@[8.8.4.4])",
    "(authenticated user 8.8.4.4)",
    "(AUTH: LOGIN a@8.8.4.4, TLS: TLSv1)",
    "(smtp-auth username 8.8.4.4, mechanism plain)",
    "(using TLSv1.2 with cipher 8.8.4.4 (256/256 bits))",
    "(Client CN \"[8.8.4.4]\", Issuer \"([8.8.4.4])\" (verified OK))",
    "(X-Originating-IP: [8.8.4.4])",
    "(helo=[8.8.4.4])",
    "(helo=8.8.4.4 ident=[8.8.4.4])",
    "(HELO [8.8.4.4])",
    "(HELO [IPv6:2001:db8:bad::1])",
    "(EHLO 8.8.4.4)",
    "(for <a@[8.8.4.4]>)",
    "(sender 8.8.4.4)",
    "(original client (8.8.4.4))",
];

/// Comments that look like a server's own.
const LOOKALIKES: [&str; 8] = [
    "([8.8.4.4])",
    "(8.8.4.4)",
    "(r.example [8.8.4.4])",
    "(unverified [8.8.4.4])",
    "(a@8.8.4.4)",
    "(8.8.4.4 is not us)",
    "([2001:db8:bad::1] helo=x)",
    "((8.8.4.4))",
];

/// A small generator, seeded.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A line cut at its first word `by`: what stands before it, and the rest with it.
fn at_by(line: &str) -> Option<(&str, &str)> {
    let at = line.find(" by ").or_else(|| line.find(" BY "))?;
    line.split_at_checked(at)
}

/// Another HELO, where the first word is one: a comment or a literal behind it tells the client.
fn helo(line: &str, word: &str) -> Option<String> {
    let rest = line.strip_prefix("from ")?;
    let (first, behind) = rest.split_at_checked(rest.find(' ')?)?;
    let is_helo = !first.contains(['(', '[', ':', ';']) && !first.contains("192.0.2.77");
    let told = behind.starts_with(" (") || behind.starts_with(" [");
    // `(HELO x)([ip])` is doubtful as it stands: HELO may have said `x)([ip]`.
    (is_helo && told && !line.contains(")(")).then(|| format!("from {word}{behind}"))
}

/// Another text behind a label that announces what the client said.
fn labelled(line: &str, word: &str, draw: &mut Draw) -> Option<String> {
    const LABELS: [&str; 10] = [
        "HELO ",
        "EHLO ",
        "LHLO ",
        "helo=",
        "ident=",
        "IDENT:",
        "account ",
        "user ",
        "sender: ",
        "envelope-from <",
    ];
    let found: Vec<_> =
        LABELS.iter().filter_map(|label| Some(line.find(label)? + label.len())).collect();
    let at = *found.get(draw.below(found.len().max(1)))?;
    let (head, tail) = line.split_at_checked(at)?;
    let end = tail.find([' ', ')', ',', ';', '"', '>', '@'])?;
    // What a comment begins with must not become its end.
    Some(format!("{head}{word}{}", &tail[end..]))
}

fn behind_by(line: &str, word: &str, draw: &mut Draw) -> Option<String> {
    let (head, tail) = at_by(line)?;
    let tail = &tail[4..];
    Some(match draw.below(6) {
        0 => format!("{head} by {word} {tail}"),
        1 => format!("{head} by mx.example ({word}) {tail}"),
        2 => format!("{head} by {tail} (r.example [{word}])"),
        3 => format!("{head} by mx.example ([8.8.4.4]) with ESMTP id {word}; d"),
        4 => format!("{head} by mx.example with ESMTP id 1 for <a@{word}>; d"),
        _ => format!("{head} by mx.example for <\"([8.8.4.4]) by x\"@b.example>; d ({word})"),
    })
}

fn comment(line: &str, text: &str) -> Option<String> {
    let (head, tail) = at_by(line)?;
    head.ends_with([')', ']']).then(|| format!("{head} {text}{tail}"))
}

/// Folds, blanks and letter case, which say nothing.
fn dressed(line: &str, draw: &mut Draw) -> String {
    let blank = draw.of(&[" ", " ", "  ", "\t", "\r\n\t", "\r\n ", "\n ", "\n\t\t", "\r\n \r\n "]);
    let everywhere = draw.one_in(2);
    let mut out = String::new();
    for c in line.chars() {
        if c == ' ' && (everywhere || draw.one_in(3)) {
            out.push_str(blank);
        } else {
            out.push(c);
        }
    }
    match draw.below(4) {
        0 => out.make_ascii_uppercase(),
        1 => out.make_ascii_lowercase(),
        _ => {}
    }
    if draw.one_in(3)
        && let Some((head, tail)) = at_by(&out)
        && head.ends_with([')', ']'])
        // A comment with no blank at all could be HELO's.
        && head.rfind('(').is_some_and(|open| head[..open].ends_with(char::is_whitespace))
    {
        out = format!("{head}{}", &tail[1..]);
    }
    // Bytes that are no text, where nobody looks.
    if draw.one_in(4) {
        out.push_str("; d\u{e9}\u{ff}");
    }
    out
}

/// An honest mutant, and what was done to it.
fn honest(line: &str, draw: &mut Draw) -> (String, Vec<&'static str>) {
    let (mut line, mut done) = (line.to_owned(), Vec::new());
    let word = draw.of(&WORDS);
    let mut take = |mutant: Option<String>, what| {
        if let Some(mutant) = mutant {
            line = mutant;
            done.push(what);
        }
        line.clone()
    };
    let mut now = take(None, "");
    if draw.one_in(2) {
        now = take(helo(&now, word), "HELO");
    }
    if draw.one_in(2) {
        let word = draw.of(&WORDS[..21]).replace(['"', '<', '>'], "");
        now = take(labelled(&now, &word, draw), "label");
    }
    if draw.one_in(3) {
        now = take(comment(&now, draw.of(&COMMENTS)), "comment");
    }
    if draw.one_in(2) {
        now = take(behind_by(&now, word, draw), "behind by");
    }
    (dressed(&now, draw), done)
}

/// A wild mutant.
fn wild(line: &str, client: IpAddr, draw: &mut Draw) -> Option<String> {
    let word = draw.of(&FORKED);
    // Where the first word is the client, a server's own comment would say that HELO said it.
    let told = line.find('(').is_some_and(|open| line.find(&client.to_string()) > Some(open));
    let mutant = match draw.below(4) {
        0 => helo(line, word),
        1 => labelled(line, word, draw),
        2 if told => comment(line, draw.of(&LOOKALIKES)),
        _ => helo(line, &format!("{} {}", draw.of(&["x", "8.8.4.4"]), draw.of(&WORDS[..7]))),
    }?;
    // The forgery is alone with the client, or there is another one.
    let mutant =
        if draw.one_in(2) { labelled(&mutant, word, draw).unwrap_or(mutant) } else { mutant };
    Some(dressed(&mutant, draw))
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn planted() -> Vec<IpAddr> {
    PLANTED.iter().map(|ip| ip.parse().unwrap()).collect()
}

/// Each row with each of its clients, many times.
fn each_base(times: usize, mut seen: impl FnMut(&str, IpAddr, &mut Draw)) {
    let mut draw = Draw(2006);
    for row in READ {
        for client in clients(row) {
            let line = filled(row, client);
            for _ in 0..times {
                seen(&line, client.parse().unwrap(), &mut draw);
            }
        }
    }
}

#[test]
fn honest_mutants_are_read_as_before_e4() {
    let planted = planted();
    let (mut all, mut missed) = (0, Vec::new());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    each_base(60, |line, client, draw| {
        let (mutant, done) = honest(line, draw);
        let reading = Reading::of(&latin1(&mutant));
        for what in done {
            *kinds.entry(what).or_default() += 1;
        }
        all += 1;
        match reading.ip() {
            Some(ip) if ip == client => {}
            Some(ip) => {
                assert!(!planted.contains(&ip), "planted: {mutant} -> {reading:?}");
                panic!("another: {mutant} -> {reading:?}");
            }
            None => missed.push(format!("{mutant:?} -> {reading:?}")),
        }
    });
    println!("honest mutants: {all}, {} missed, kinds {kinds:?}", missed.len());
    // 99.5 of 100 are to be read.
    assert!(missed.len() * 200 <= all, "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn wild_mutants_are_never_read_wrongly_e4() {
    let (mut all, mut missed) = (0, 0);
    let mut wrong = Vec::new();
    each_base(40, |line, client, draw| {
        let Some(mutant) = wild(line, client, draw) else { return };
        let reading = Reading::of(&latin1(&mutant));
        all += 1;
        match reading.ip() {
            Some(ip) if ip != client => wrong.push(format!("{mutant:?} -> {reading:?}")),
            Some(_) => {}
            None => missed += 1,
        }
    });
    println!("wild mutants: {all}, {missed} unreadable, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn garbled_addresses_are_unreadable_e4() {
    const GARBLED: [&str; 17] = [
        "192.0.2.256",
        "192.0.2",
        "192.0.2.077",
        "0192.0.2.77",
        "192.0.2.0x4d",
        "192.0.2.77.example",
        "192.0.2.-1",
        "192.0..77",
        "xxx.xxx.xxx.xxx",
        "XXX.0.2.77",
        "##.##.#.##",
        "?.?.?.?",
        "unknown",
        "",
        "2001:db8::77::1",
        "2001:db8:77",
        "fe80::77%",
    ];
    let (mut all, mut read) = (0, Vec::new());
    let mut draw = Draw(4);
    for row in READ {
        for client in &clients(row)[..1] {
            let line = filled(row, client);
            for garbled in GARBLED {
                let mut mutant = line.replace("::ffff:", "").replace("IPv6:", "");
                // What HELO said is an address of its own.
                mutant = helo(&mutant, draw.of(&WORDS[..13])).unwrap_or(mutant);
                mutant = mutant.replace(client, garbled);
                let mutant = dressed(&mutant, &mut draw);
                let reading = Reading::of(&latin1(&mutant));
                all += 1;
                if reading.ip().is_some() || reading == Reading::By {
                    read.push(format!("{mutant:?} -> {reading:?}"));
                }
            }
        }
    }
    println!("garbled mutants: {all}, {} read", read.len());
    assert!(read.is_empty(), "{} read:\n{}", read.len(), read.join("\n"));
}
