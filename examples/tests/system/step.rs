//! Steps: what statements mean.

use std::time::Duration;

use waypost_net::test_kit::Phase;

use super::claim::Claim;
use super::support::dns::Entry;
use super::text::{Keyword, Statement, Words, Wrong, statements};

/// A step and its line.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) step: Step,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Dns(Vec<Entry>),
    DnsCloses,
    DnsOpens,
    Sink(String, Manner),
    SinkCloses(String),
    SinkOpens(String),
    /// MiB.
    Disk(String, u32),
    /// Up to so many MiB.
    Fill(String, u32),
    Empty(String),
    Clock,
    /// Seconds.
    ClockSteps(i64),
    Redis,
    File {
        server: String,
        path: String,
        text: String,
    },
    Server(String, String),
    Configure(String, String),
    Kill(String),
    Stop(String),
    Start(String),
    Reload {
        server: String,
        refused: Option<String>,
    },
    Waypost(Ask),
    Send(Mail),
    Load(Mail),
    LoadStops(String),
    LoadGot(String, usize),
    Repeat(usize, Vec<Placed>),
    Then(Claim),
}

/// A command of administrators.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) server: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) holds: Vec<String>,
}

/// Mail that a client sends.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) name: String,
    pub(crate) server: String,
    pub(crate) listener: String,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) count: usize,
    pub(crate) sessions: usize,
    /// KiB.
    pub(crate) size: usize,
    pub(crate) is_tls: bool,
    pub(crate) login: Option<(String, String)>,
    /// How the last reply begins; `None`: any will do.
    pub(crate) expecting: Option<String>,
    /// It is sent again and again until the last reply begins like this.
    pub(crate) until: Option<String>,
    /// `None`: one of the runner's own.
    pub(crate) text: Option<String>,
}

/// What a sink is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// The kind of certificate and its name.
    pub(crate) tls: Option<(String, String)>,
    pub(crate) faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) phase: Phase,
    /// The command must hold this.
    pub(crate) text: Option<String>,
    pub(crate) act: Act,
    pub(crate) times: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Says(String),
    SaysAndDrops(String),
    Drops,
    Hangs,
    Trickles(Duration),
}

type Numbers<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the steps of statements.
pub(crate) fn steps(found: &[Statement], numbers: Numbers<'_>) -> Result<Vec<Placed>, Wrong> {
    found
        .iter()
        .map(|one| {
            let text = Words::of(one).text();
            let step = match one.keyword {
                Keyword::Then => Step::Then(Claim::read(one)?),
                Keyword::Given | Keyword::When => step(one, numbers)?,
            };
            Ok(Placed { line: one.line, text, step })
        })
        .collect()
}

/// What a `given` or a `when` begins with.
pub(crate) const VERBS: &str = "dns, sink, disk, fill, empty, clock, redis, file, server, configure, kill, stop, \
                     start, reload, run, send, load, repeat";

fn step(statement: &Statement, numbers: Numbers<'_>) -> Result<Step, Wrong> {
    let mut words = Words::of(statement);
    let block = statement.block.as_slice();
    let has_block = !block.is_empty();
    let verb = words.word("a verb")?;
    let step = match verb.as_str() {
        "dns" if words.take("closes") => Step::DnsCloses,
        "dns" if words.take("opens") => Step::DnsOpens,
        "dns" => {
            words.take("becomes");
            let zone = block.iter().filter(|(_, line)| !line.is_empty());
            let zone =
                zone.map(|(number, line)| record(*number, line)).collect::<Result<_, _>>()?;
            words.end(has_block)?;
            return Ok(Step::Dns(zone));
        }
        "sink" => {
            let name = words.word("a name")?;
            if words.take("closes") {
                Step::SinkCloses(name)
            } else if words.take("opens") {
                Step::SinkOpens(name)
            } else {
                words.take("becomes");
                words.end(has_block)?;
                return Ok(Step::Sink(name, manner(block)?));
            }
        }
        "disk" => {
            words.expect("of")?;
            let server = words.word("a server")?;
            words.expect("is")?;
            let mib = u32::try_from(words.number("its size")?).unwrap_or(u32::MAX);
            words.expect("MiB")?;
            Step::Disk(server, mib)
        }
        "fill" => {
            let server = words.word("a server")?;
            let mut left = 0;
            if words.take("but") {
                left = u32::try_from(words.number("what is left")?).unwrap_or(u32::MAX);
                words.expect("MiB")?;
            }
            Step::Fill(server, left)
        }
        "empty" => Step::Empty(words.word("a server")?),
        "clock" if words.take("steps by") => {
            let by = words.word("a span")?;
            Step::ClockSteps(span(&by).ok_or_else(|| {
                words.wrong("a step begins with `+` or `-`", "write it as `+2d`, `-1h` or `+90s`")
            })?)
        }
        "clock" => Step::Clock,
        "redis" => Step::Redis,
        "file" => {
            let path = words.word("a path")?;
            words.expect("of")?;
            let server = words.word("a server")?;
            let text = joined(block);
            words.end(has_block)?;
            return Ok(Step::File { server, path, text });
        }
        "server" | "configure" => {
            let name = words.word("a name")?;
            words.expect("with")?;
            words.end(true)?;
            let text = joined(block);
            return Ok(match verb.as_str() {
                "server" => Step::Server(name, text),
                _ => Step::Configure(name, text),
            });
        }
        "kill" => Step::Kill(words.word("a server")?),
        "stop" => Step::Stop(words.word("a server")?),
        "start" => Step::Start(words.word("a server")?),
        "reload" => {
            let server = words.word("a server")?;
            let refused = match words.take("refused") {
                true => Some(words.word("a text of the refusal")?),
                false => None,
            };
            Step::Reload { server, refused }
        }
        "run" => Step::Waypost(ask(&mut words)?),
        "load" => {
            let name = words.word("a name")?;
            if words.take("stops") {
                Step::LoadStops(name)
            } else if words.take("got") {
                let more = words.number("a count")?;
                words.expect("more")?;
                Step::LoadGot(name, more)
            } else {
                let mail = mail(name, &mut words, block)?;
                words.end(has_block)?;
                return Ok(Step::Load(mail));
            }
        }
        "send" => {
            let name = words.word("a name")?;
            let mail = mail(name, &mut words, block)?;
            words.end(has_block)?;
            return Ok(Step::Send(mail));
        }
        "repeat" => {
            let times = words.number("how often")?;
            words.expect("times")?;
            words.end(true)?;
            let inner = statements(block, &mut Default::default(), numbers)?;
            return Ok(Step::Repeat(times, steps(&inner, numbers)?));
        }
        _ => {
            let rule = format!("no verb begins like that; known are {VERBS}");
            return Err(words.wrong(&rule, "look it up in README.md"));
        }
    };
    words.end(false)?;
    Ok(step)
}

/// `ARGUMENT... on SERVER [holds "text"...]`.
pub(crate) fn ask(words: &mut Words<'_>) -> Result<Ask, Wrong> {
    let mut arguments = vec![words.word("a command")?];
    while !words.take("on") {
        arguments.push(words.word("`on` and a server")?);
    }
    let server = words.word("a server")?;
    let mut holds = Vec::new();
    if words.take("holds") {
        while let Some(text) = words.quoted() {
            holds.push(text);
        }
    }
    Ok(Ask { server, arguments, holds })
}

fn mail(name: String, words: &mut Words<'_>, block: &[(usize, String)]) -> Result<Mail, Wrong> {
    words.expect("to")?;
    let at = words.word("a server")?;
    let (server, listener) = at.split_once('.').unwrap_or((&at, "mx"));
    words.expect("from")?;
    let from = words.word("a sender")?;
    words.expect("to")?;
    let to = words.list("a recipient")?;
    let mut mail = Mail {
        name,
        server: server.to_owned(),
        listener: listener.to_owned(),
        from: if from == "<>" { String::new() } else { from },
        to,
        count: 1,
        sessions: 1,
        size: 0,
        is_tls: false,
        login: None,
        expecting: Some("250".to_owned()),
        until: None,
        text: (!block.is_empty()).then(|| joined(block)),
    };
    loop {
        if words.take("count") {
            mail.count = words.number("a count")?;
        } else if words.take("sessions") {
            mail.sessions = words.number("a count")?;
        } else if words.take("size") {
            mail.size = words.number("a size")?;
            words.expect("KiB")?;
        } else if words.take("over tls") {
            mail.is_tls = true;
        } else if words.take("as") {
            (mail.is_tls, mail.login) =
                (true, Some((words.word("a user")?, words.word("a password")?)));
        } else if words.take("until") {
            mail.until = Some(words.word("a reply")?);
            mail.expecting.clone_from(&mail.until);
        } else if words.take("expecting any") {
            mail.expecting = None;
        } else if words.take("expecting") {
            mail.expecting = Some(words.word("a reply")?);
        } else {
            return Ok(mail);
        }
    }
}

fn joined(block: &[(usize, String)]) -> String {
    block.iter().map(|(_, line)| format!("{line}\n")).collect()
}

/// Seconds of `+2d`, `-1h`, `+5m`, `-30s`.
fn span(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let rest = text.strip_prefix(['+', '-'])?;
    let unit = match rest.chars().last()? {
        'd' => 86_400,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let number: i64 = rest.get(..rest.len() - 1)?.parse().ok()?;
    Some(sign * unit * number)
}

fn record(number: usize, line: &str) -> Result<Entry, Wrong> {
    let kinds = ["MX", "A", "AAAA", "TXT", "PTR", "SERVFAIL", "SILENT", "NODATA"];
    let mut words = line.splitn(3, ' ').map(str::trim);
    let (owner, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(kind) = kinds.iter().find(|known| **known == kind) else {
        let cure =
            "write `OWNER TYPE VALUE`; types are MX, A, AAAA, TXT, PTR, SERVFAIL, SILENT, NODATA";
        return Err(Wrong::new(number, line, "this is no record", cure));
    };
    Ok((owner.to_owned(), kind, words.next().unwrap_or_default().to_owned()))
}

fn manner(block: &[(usize, String)]) -> Result<Manner, Wrong> {
    let mut manner = Manner::default();
    for (number, line) in block.iter().filter(|(_, line)| !line.is_empty()) {
        let one = [(*number, format!("given {line}"))];
        let found = statements(&one, &mut Default::default(), &|_| None)?;
        let mut words = found.iter().map(Words::of);
        let Some(words) = words.next() else { continue };
        let wrong = |rule: &str| Wrong::new(*number, line, rule, "look up sinks in README.md");
        manner_line(words, &mut manner).map_err(|error| wrong(&error.rule))?;
    }
    Ok(manner)
}

fn manner_line(mut words: Words<'_>, manner: &mut Manner) -> Result<(), Wrong> {
    let first = words.word("a phase")?;
    if first == "tls:" {
        let kind = words.word("a kind of certificate")?;
        manner.tls = Some((kind, words.word("a host name")?));
        return words.end(false);
    }
    let (text, is_over) = match words.quoted() {
        Some(text) => (Some(text), words.take(":")),
        None => (None, first.ends_with(':')),
    };
    let phase = match first.trim_end_matches(':') {
        "banner" => Phase::Banner,
        "hello" => Phase::Hello,
        "starttls" => Phase::StartTls,
        "handshake" => Phase::Handshake,
        "mail" => Phase::Mail,
        "rcpt" => Phase::Rcpt,
        "data" => Phase::Data,
        "content" => Phase::Content,
        "end" => Phase::End,
        _ => {
            return Err(words.wrong(
                "phases are banner, hello, starttls, handshake, mail, rcpt, data, content, end",
                "",
            ));
        }
    };
    if !is_over {
        return Err(words.wrong("a colon stands behind the phase and its text", ""));
    }
    let act = match words.word("an act")?.as_str() {
        "says" => {
            let text = words.word("a reply")?;
            if words.take("and drops") { Act::SaysAndDrops(text) } else { Act::Says(text) }
        }
        "drops" => Act::Drops,
        "hangs" => Act::Hangs,
        "trickles" => {
            let pause = u64::try_from(words.number("milliseconds")?).unwrap_or_default();
            words.expect("ms")?;
            Act::Trickles(Duration::from_millis(pause))
        }
        _ => return Err(words.wrong("acts are says, drops, hangs, trickles", "")),
    };
    let times = match (words.take("once"), words.peek()) {
        (true, _) => Some(1),
        (false, Some(_)) => {
            let times = words.number("how often")?;
            words.expect("times")?;
            Some(times)
        }
        (false, None) => None,
    };
    words.end(false)?;
    manner.faults.push(Fault { phase, text, act, times });
    Ok(())
}
