//! Replays `testdata/*.talk`: each whole, octet by octet, and in chunks of every small size; the
//! transcript is the same each time (split-invariance).
//!
//! A line of such a file is one of
//!
//! ```text
//! # a comment
//! SET: starttls auth size=1000 …      what the listener offers; first lines only (`xclient`: to this client)
//! C: text      the client sends text and CR LF; \r \n \0 \\ \xNN are octets
//! C+: text     the same without CR LF
//! TLS:         the handshake is done          EOF:   the client ends the connection
//! TIME: 300    seconds pass                   STOP:  the server is to go down
//! S: line      the server says this line
//! APP: event -> answer      the application is asked this, and answers: ok, a reply, or user ADDRESS
//! APP: event                the application is told this
//! ```
//!
//! `C` lines that follow each other go out together. What the server says and what the application
//! hears are compared one by one, each in its own order, after each such step.

// A test reads its scenarios.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use waypost_smtp::server::{
    AuthOffer, CloseCause, Event, HelloKind, ResetCause, Server, Settings, TlsOffer, Told,
};
use waypost_types::{Body, MailParameters, Notify, Reply, Timestamp};

const START: Timestamp = Timestamp::from_millis(1_000_000);

#[derive(Debug)]
enum Input {
    Connect,
    Octets(Vec<u8>),
    Tls,
    Eof,
    Time(u64),
    Stop,
}

#[derive(Debug)]
struct Step {
    line: usize,
    input: Input,
    says: Vec<String>,
    application: VecDeque<(String, Option<String>)>,
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        if octet != b'\\' {
            out.push(octet);
            continue;
        }
        out.push(match octets.next().unwrap() {
            b'r' => b'\r',
            b'n' => b'\n',
            b'0' => 0,
            b'x' => {
                let hex = [octets.next().unwrap(), octets.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    out
}

fn settings(words: &[&str]) -> Settings {
    let mut settings = Settings::new("mx.solarmora.com".parse().unwrap());
    settings.timeouts.auth_failure_pause = Duration::ZERO;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, "0"));
        let number: u64 = value.parse().unwrap();
        match key {
            "starttls" => settings.tls = TlsOffer::StartTls,
            "implicit" => settings.tls = TlsOffer::Implicit,
            "xclient" => {}
            "auth" => settings.auth = AuthOffer::InsideTls,
            "size" => settings.limits.message_size = number,
            "recipients" => settings.limits.recipients = number as usize,
            "errors" => settings.limits.errors = number as u32,
            "idle" => settings.limits.idle_commands = number as u32,
            "fruitless" => settings.limits.fruitless = number as u32,
            "greeting_pause" => settings.timeouts.greeting_pause = Duration::from_secs(number),
            "auth_pause" => settings.timeouts.auth_failure_pause = Duration::from_secs(number),
            other => panic!("SET: {other}"),
        }
    }
    settings
}

fn parse(text: &str) -> (Server, Vec<Step>) {
    let step = |line, input| Step { line, input, says: vec![], application: VecDeque::new() };
    let mut words = Vec::new();
    let mut steps = vec![step(0, Input::Connect)];
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (tag, rest) = line.split_once(':').unwrap();
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let last = steps.last_mut().unwrap();
        let fresh = last.says.is_empty() && last.application.is_empty();
        match tag {
            "SET" => words.extend(rest.split(' ')),
            "S" => last.says.push(rest.to_owned()),
            "APP" => last.application.push_back(match rest.split_once(" -> ") {
                Some((event, answer)) => (event.to_owned(), Some(answer.to_owned())),
                None => (rest.to_owned(), None),
            }),
            "C" | "C+" => {
                let mut octets = unescaped(rest);
                octets.extend_from_slice(if tag == "C" { b"\r\n" } else { b"" });
                match &mut last.input {
                    Input::Octets(before) if fresh => before.extend(octets),
                    _ => steps.push(step(number + 1, Input::Octets(octets))),
                }
            }
            "TLS" => steps.push(step(number + 1, Input::Tls)),
            "EOF" => steps.push(step(number + 1, Input::Eof)),
            "STOP" => steps.push(step(number + 1, Input::Stop)),
            "TIME" => steps.push(step(number + 1, Input::Time(rest.parse().unwrap()))),
            other => panic!("line {}: {other}", number + 1),
        }
    }
    let mut server = Server::new(Arc::new(settings(&words)), START);
    if words.contains(&"xclient") {
        server.offer_xclient();
    }
    (server, steps)
}

fn shown(event: &Event) -> String {
    match event {
        Event::Connect => "connect".into(),
        Event::Hello { kind: HelloKind::Helo, name } => format!("helo {name}"),
        Event::Hello { kind: HelloKind::Ehlo, name } => format!("ehlo {name}"),
        Event::Auth(found) => {
            let password = String::from_utf8_lossy(found.password.as_bytes());
            format!("auth {:?} {} {password}", found.mechanism, found.user)
        }
        Event::Mail { sender, parameters, size } => {
            let MailParameters { body, smtputf8, ret, envid } = parameters;
            let mut text = format!("mail <{sender}>");
            text += &size.map(|size| format!(" size={size}")).unwrap_or_default();
            text += if *body == Body::EightBitMime { " 8bitmime" } else { "" };
            text += if *smtputf8 { " smtputf8" } else { "" };
            text += &ret.map(|ret| format!(" ret={ret:?}")).unwrap_or_default();
            text += &envid.as_ref().map(|envid| format!(" envid={envid}")).unwrap_or_default();
            text
        }
        Event::Xclient(said) => {
            let ip = said.address.as_ref().and_then(Told::known);
            let login = said.login.as_ref().and_then(Told::known);
            format!("xclient {ip:?} {login:?}").replace("Some", "").replace("None", "-")
        }
        Event::Rcpt(recipient) => {
            let mut text = format!("rcpt <{}>", recipient.address);
            if recipient.notify != Notify::Unsaid {
                text += &format!(" notify={:?}", recipient.notify);
            }
            text += &recipient.orcpt.as_ref().map(|o| format!(" orcpt={o}")).unwrap_or_default();
            text
        }
        Event::Data => "data".into(),
        Event::Message(data) => {
            format!("message {} {}", data.size, data.stuffed.escape_ascii())
        }
        Event::StartTls => "starttls".into(),
        Event::Reset(cause) => match cause {
            ResetCause::Rset => "reset rset".into(),
            ResetCause::Hello => "reset hello".into(),
            ResetCause::StartTls => "reset starttls".into(),
            ResetCause::Message(_) => "reset message".into(),
        },
        Event::Closed(cause) => match cause {
            CloseCause::Quit => "closed quit".into(),
            other => format!("closed {other:?}"),
        },
    }
}

fn reply(text: &str) -> Reply {
    let mut words = text.splitn(3, ' ');
    let code = words.next().unwrap().parse().unwrap();
    let digits: Vec<u16> =
        words.next().unwrap().split('.').map(|digit| digit.parse().unwrap()).collect();
    Reply::new(code, (digits[0] as u8, digits[1], digits[2]), words.next().unwrap())
}

/// Lets the server work until it waits for the client.
fn settle(server: &mut Server, now: Timestamp, step: &mut Step, output: &mut Vec<u8>, name: &str) {
    loop {
        while let Some(event) = server.poll_event(now) {
            let got = shown(&event);
            let (want, answer) = step
                .application
                .pop_front()
                .unwrap_or_else(|| panic!("{name}:{}: unexpected event {got}", step.line));
            assert_eq!(got, want, "{name}:{}", step.line);
            match answer.as_deref() {
                None => {}
                Some("ok") => server.accept(now),
                Some(text) => match text.strip_prefix("user ") {
                    Some(user) => server.accept_auth(now, user.parse().unwrap()),
                    None => server.answer(now, reply(text)),
                },
            }
        }
        let more = server.take_output();
        if more.is_empty() {
            return;
        }
        output.extend(more);
    }
}

fn replay(name: &str, text: &str, size: usize) {
    let (mut server, steps) = parse(text);
    let mut now = START;
    for mut step in steps {
        let mut output = Vec::new();
        match std::mem::replace(&mut step.input, Input::Connect) {
            Input::Connect => {}
            Input::Octets(octets) => {
                for chunk in octets.chunks(size) {
                    server.handle_bytes(now, chunk);
                    settle(&mut server, now, &mut step, &mut output, name);
                }
            }
            Input::Tls => server.handle_tls(now),
            Input::Eof => server.handle_eof(),
            Input::Stop => server.handle_shutdown(),
            Input::Time(seconds) => {
                now = now + Duration::from_secs(seconds);
                server.handle_timeout(now);
            }
        }
        settle(&mut server, now, &mut step, &mut output, name);
        let said = String::from_utf8(output).unwrap();
        let said: Vec<&str> = said.split_terminator("\r\n").collect();
        assert_eq!(said, step.says, "{name}:{} in chunks of {size}", step.line);
        assert!(step.application.is_empty(), "{name}:{}: {:?}", step.line, step.application);
    }
}

#[test]
fn scenarios_are_the_same_in_any_chunks() {
    let mut seen = 0;
    for entry in fs::read_dir("testdata").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "talk") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for size in [usize::MAX, 1, 2, 3, 5, 7, 11, 13, 17, 29, 64] {
            replay(&path.display().to_string(), &text, size);
        }
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} scenarios were found");
}
