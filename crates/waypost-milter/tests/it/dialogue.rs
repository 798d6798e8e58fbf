//! The server's side against the filter's side (D17).

use crate::support;

use proptest::prelude::*;
use support::{Chunks, Message, play};
use waypost_milter::client::{Client, Limits};
use waypost_milter::server::{AnswerError, Server};
use waypost_milter::{
    Actions, Command, FieldName, FieldValue, FilterAction, FilterVerdict, Frames, HeaderEdit,
    Ignored, Modification, Options, Response, Step, Steps,
};
use waypost_types::Reply;

const TEXT: &[u8] = b"Subject: one\r\n two\r\nX: y\r\n\r\nfirst\r\n..dot\r\n";
const WHOLE: Chunks = (usize::MAX, usize::MAX);

fn ask(
    filter: &mut Server,
    answers: impl FnMut(Step, &str) -> Vec<Response>,
) -> (Vec<String>, FilterVerdict) {
    let message = Message::new(TEXT);
    let mut client = Client::new(Limits::default());
    let (told, verdict) = play(&mut client, filter, &message.question(), WHOLE, answers);
    (told, verdict.unwrap())
}

/// Answers so at the nth time that a step comes, else goes on.
fn at(step: Step, nth: usize, answer: Response) -> impl FnMut(Step, &str) -> Vec<Response> {
    let mut seen = 0;
    move |now, _| {
        seen += usize::from(now == step);
        let is_it = now == step && seen == nth;
        vec![if is_it { answer.clone() } else { Response::Continue }]
    }
}

fn add(name: &str, value: &str) -> Response {
    let (name, value) = (FieldName::new(name).unwrap(), FieldValue::new(value).unwrap());
    Response::Modify(Modification::Header(HeaderEdit::Add { name, value }))
}

fn everything() -> Server {
    Server::new(Actions::ALL, Steps::SKIP)
}

#[test]
fn a_filter_is_told_all_in_this_order_d17_e2() {
    let (told, verdict) = ask(&mut everything(), |_, _| vec![Response::Continue]);
    assert_eq!(
        told,
        [
            "connect unknown Ip(203.0.113.9, 0)",
            "helo client.example",
            "mail <a@elsewhere.example>",
            "rcpt <marie@solarmora.com>",
            "rcpt <paul@solarmora.com>",
            "data",
            "header Subject:one\\n two",
            "header X:y",
            "end of header",
            "body first\\r\\n.dot\\r\\n",
            "end of message ",
            "quit, new connection",
        ]
    );
    assert_eq!(verdict.action, FilterAction::Accept);
    assert_eq!(&*verdict.reason, "the filter answered `continue` to end of message");
}

#[test]
fn each_answer_at_each_step_has_its_verdict_d17() {
    let reply = Response::Reply(Reply::new(554, (5, 7, 1), "Spam"));
    let later = Response::Reply(Reply::new(451, (4, 7, 1), "Later"));
    for (step, answer, want, end) in [
        (Step::Connect, Response::Accept, "accept", "quit"),
        (
            Step::Connect,
            Response::Reject,
            "reject: 550 5.7.1 The filter rejects this message",
            "quit",
        ),
        (Step::Helo, reply.clone(), "reject: 554 5.7.1 Spam", "quit"),
        (
            Step::Mail,
            Response::TempFail,
            "tempfail: 451 4.7.1 The filter cannot judge",
            "abort quit",
        ),
        (Step::Rcpt, Response::Accept, "accept", "abort quit"),
        (Step::Rcpt, Response::Discard, "discard", "abort quit"),
        (Step::Data, later, "tempfail: 451 4.7.1 Later", "abort quit"),
        (Step::Header, Response::Reject, "reject: 550", "abort quit"),
        (Step::EndOfHeader, Response::Discard, "discard", "abort quit"),
        (Step::Body, reply.clone(), "reject: 554 5.7.1 Spam", "abort quit"),
        (Step::EndOfMessage, Response::Continue, "accept", "quit, new connection"),
        (Step::EndOfMessage, Response::Accept, "accept", "quit"),
        (Step::EndOfMessage, Response::Discard, "discard", "quit"),
        (Step::EndOfMessage, reply, "reject: 554 5.7.1 Spam", "quit"),
        (Step::EndOfMessage, Response::Shutdown, "tempfail: 451 4.3.2", "quit"),
        (Step::EndOfMessage, Response::ConnectionFailed, "tempfail: 451 4.3.2", "quit"),
    ] {
        let (told, verdict) = ask(&mut everything(), at(step, 1, answer.clone()));
        let shown = verdict.action.to_string();
        assert!(shown.starts_with(want), "{answer:?} to {step}: {shown}");
        assert!(verdict.reason.contains(&format!("`{}` to {step}", answer.name())), "{verdict:?}");
        let last = told.iter().rposition(|one| one != "abort" && !one.starts_with("quit"));
        assert_eq!(told[last.unwrap() + 1..].join(" "), end, "{answer:?} to {step}");
    }
}

#[test]
fn one_recipient_refused_is_reported_and_all_of_them_are_a_refusal() {
    let refusal = Response::Reply(Reply::new(550, (5, 1, 1), "Nobody"));
    let (told, verdict) = ask(&mut everything(), at(Step::Rcpt, 2, refusal.clone()));
    assert!(told.iter().any(|one| one.starts_with("end of message")), "{told:?}");
    assert_eq!(verdict.action, FilterAction::Accept);
    let reply = Reply::new(550, (5, 1, 1), "Nobody");
    assert_eq!(verdict.ignored, [Ignored::RefuseRecipient { nth: 1, reply }]);
    let (_, verdict) = ask(&mut everything(), |step, _| {
        vec![if step == Step::Rcpt { refusal.clone() } else { Response::Continue }]
    });
    assert_eq!(verdict.action.to_string(), "reject: 550 5.1.1 Nobody");
}

#[test]
fn skip_leaves_out_what_is_of_the_same_kind() {
    for (step, left_out) in [(Step::Rcpt, "paul@"), (Step::Header, "X:y"), (Step::Body, "nothing")]
    {
        let (told, verdict) = ask(&mut everything(), at(step, 1, Response::Skip));
        assert!(!told.iter().any(|one| one.contains(left_out)), "{told:?}");
        assert!(told.iter().any(|one| one.starts_with("end of message")), "{told:?}");
        assert_eq!(verdict.action, FilterAction::Accept);
    }
}

#[test]
fn what_is_done_to_the_header_is_in_the_verdict_with_its_because_d17() {
    let modify = |wanted| Response::Modify(Modification::Header(wanted));
    let name = |text| FieldName::new(text).unwrap();
    let value = |text| FieldValue::new(text).unwrap();
    let answers = [
        add("X-Spam-Status", "Yes, score=5.00"),
        Response::Progress,
        modify(HeaderEdit::Insert { at: 0, name: name("X-Top"), value: value("a\r\n\tb") }),
        modify(HeaderEdit::Change { nth: 1, name: name("X-Spam"), value: value("Yes") }),
        modify(HeaderEdit::Delete { nth: 2, name: name("X") }),
        Response::Modify(Modification::Quarantine("looks odd".into())),
        Response::Continue,
    ];
    // With and without blanks before values.
    for steps in [Steps::SKIP, Steps::LEADING_BLANK] {
        let mut filter = Server::new(Actions::ALL, steps);
        let (told, verdict) = ask(&mut filter, |step, _| match step {
            Step::EndOfMessage => answers.to_vec(),
            _ => vec![Response::Continue],
        });
        let blank = if steps == Steps::LEADING_BLANK { " " } else { "" };
        assert!(told.contains(&format!("header X:{blank}y")), "{told:?}");
        let edits: Vec<_> = verdict.headers.iter().map(ToString::to_string).collect();
        let want = [
            "add `X-Spam-Status: Yes, score=5.00`",
            "insert `X-Top: a\tb` at 0",
            "change X-Spam 1 to `Yes`",
            "delete X 2",
        ];
        assert_eq!(edits, want);
        assert_eq!(verdict.action, FilterAction::Quarantine("looks odd".into()));
        assert_eq!(
            &*verdict.reason,
            "the filter answered `continue` to end of message, quarantine: looks odd; \
             X-Spam-Status: Yes, score=5.00; X-Spam: Yes"
        );
        assert_eq!(verdict.field("x-SPAM").map(FieldValue::as_str), Some("Yes"));
        assert_eq!(verdict.field("X"), None, "it is gone");
    }
}

/// What a filter that keeps to nothing agreed upon says to one question; its frames go out as they
/// are, one answer at a time.
fn against(answers: &[&[u8]], limits: Limits) -> Result<FilterVerdict, String> {
    let message = Message::new(TEXT);
    let question = message.question();
    let mut client = Client::new(limits);
    let mut dialogue = client.ask(&question);
    let mut answers = answers.iter();
    loop {
        let mut out = Vec::new();
        dialogue.write(&mut out);
        let Some(answer) = answers.next() else { return Err("no verdict".into()) };
        for frame in answer.split(|octet| *octet == b'|') {
            let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
            let framed = [&length, frame].concat();
            dialogue.handle_bytes(&framed).map_err(|fault| fault.to_string())?;
        }
        if let Some(verdict) = dialogue.take_verdict() {
            return Ok(verdict);
        }
    }
}

/// Options of version 6 in which all but the end of the message is left out, and what may be done.
const ALL_OUT: &[u8] = b"O\0\0\0\x06\0\0\x01\xff\0\0\x03\x7f";

#[test]
fn what_was_not_offered_is_reported_and_not_done_d17() {
    let verdict = against(
        &[ALL_OUT, b"bone|btwo|+<a@b>\0|2<c@d>\0X=1\0|-<e@f>\0|e<g@h>\0|hX-A\0b\0|qheld\0|r"],
        Limits::default(),
    );
    let verdict = verdict.unwrap();
    let ignored: Vec<_> = verdict.ignored.iter().map(ToString::to_string).collect();
    let want = [
        "recipient <a@b> added",
        "recipient <c@d> added",
        "recipient <e@f> deleted",
        "sender changed to <g@h>",
        "another body of 6 octets",
        "quarantine: held",
    ];
    assert_eq!(ignored, want);
    assert_eq!(verdict.headers.len(), 1);
}

#[test]
fn a_filter_that_keeps_to_no_rule_is_a_fault_d17() {
    let small = Limits { frame: 64, modifications: 3, text: 20, body: 5, progress: 2 };
    for (answers, want) in [
        (&[&b"c"[..]][..], "a frame `continue` came in answer to options"),
        (&[b"O\0\0\0\x01\0\0\0\0\0\0\0\0"], "version 1 of the protocol was asked for, and 2 to 6"),
        (&[b"O\0\0\0\x07\0\0\0\0\0\0\0\0"], "version 7"),
        (&[b"O\0\0\0\x06\0\0\0\0\x80\0\0\0"], "the steps 0x80000000 were asked for"),
        (&[b"O\0\0\0\x06\0\0\0\0\0\0\x08\0"], "the steps 0x800 were asked for"),
        (&[ALL_OUT, ALL_OUT], "`options` came in answer to end of message"),
        (&[ALL_OUT, b"s"], "a frame `skip` came in answer to end of message"),
        (&[b"O\0\0\0\x06\0\0\0\0\0\0\0\0", b"s"], "in answer to connection, unagreed"),
        (
            &[b"O\0\0\0\x06\0\0\0\0\0\0\0\0", b"hX-A\0b\0"],
            "`add header` came in answer to connection",
        ),
        (&[b"O\0\0\0\x06\0\0\0\0\0\0\0\0", b"c|c"], "`continue` came before anything was asked"),
        (&[ALL_OUT, b"p|p|p"], "more than 2 answers `progress`"),
        (&[ALL_OUT, b"hA\0b\0|hA\0b\0|hA\0b\0|hA\0b\0"], "more than 3 changes"),
        (&[ALL_OUT, b"hA\0bbbbbbbbbbbbbbbbbbbb\0"], "more than 20 octets of changes"),
        (&[ALL_OUT, b"bsix|bsix"], "more than 5 octets of another body"),
        (&[ALL_OUT, &[b'b'; 65]], "a frame of 65 octets came, and 64 are the most"),
        (&[ALL_OUT, b""], "a frame of no octets"),
        (&[ALL_OUT, b"x"], "a frame `x` came"),
    ] {
        let got = against(answers, small).unwrap_err();
        assert!(got.contains(want), "{answers:?}: {got}");
    }
}

#[test]
fn what_a_server_does_out_of_order_is_a_fault() {
    let open: &[Command<'_>] = &[
        Command::Options(Options::new(6, Actions::ALL, Steps::OFFERED)),
        Command::Connect { host_name: b"x", peer: waypost_milter::Peer::Unknown },
    ];
    let mail = Command::Mail { path: b"<>", parameters: vec![] };
    for (commands, want) in [
        (vec![Command::Helo(b"x")], "`helo` came before the options"),
        (vec![open[0].clone(), open[0].clone()], "`options` came before a connection was told"),
        (
            vec![open[0].clone(), open[1].clone(), open[1].clone()],
            "`connect` came outside a message",
        ),
        (vec![open[0].clone(), mail.clone(), mail.clone()], "`mail` came behind MAIL"),
        (
            vec![open[0].clone(), mail, Command::EndOfHeader, Command::Data],
            "`data` came behind the end of the header",
        ),
    ] {
        let mut filter = Server::new(Actions::ALL, Steps::default());
        let mut out = Vec::new();
        let mut fault = None;
        for command in commands {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            filter.handle_bytes(&bytes);
            match filter.next(&mut out).map(|event| event.is_some()) {
                Ok(true) => filter.answer(&Response::Continue, &mut out).unwrap(),
                Ok(false) => {}
                Err(found) => fault = Some(found.to_string()),
            }
        }
        let fault = fault.unwrap();
        assert!(fault.contains(want), "{fault}");
    }
}

#[test]
fn a_filter_cannot_answer_out_of_place() {
    let mut filter = Server::new(Actions::QUARANTINE, Steps::default());
    let mut out = Vec::new();
    let asked = filter.answer(&Response::Continue, &mut out);
    assert_eq!(asked, Err(AnswerError::Unasked("continue")));
    let (_, verdict) = ask(&mut filter, |_, _| vec![Response::Continue]);
    assert_eq!(verdict.action, FilterAction::Accept);
    for (step, answer, want) in [
        ("C", Response::Skip, "is no answer to connection"),
        ("C", add("X", "y"), "is no answer to connection"),
        ("B", Response::Skip, "`skip` was not agreed upon"),
        ("E", add("X", "y"), "`add header` was not agreed upon"),
    ] {
        let mut filter = Server::new(Actions::QUARANTINE, Steps::default());
        let mut bytes = Vec::new();
        Command::Options(Options::new(6, Actions::ALL, Steps::OFFERED)).encode(&mut bytes);
        match step {
            "C" => Command::Connect { host_name: b"", peer: waypost_milter::Peer::Unknown },
            "B" => Command::Body(b""),
            _ => Command::EndOfMessage(b""),
        }
        .encode(&mut bytes);
        filter.handle_bytes(&bytes);
        assert!(filter.next(&mut out).unwrap().is_some());
        let error = filter.answer(&answer, &mut out).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        filter.answer(&Response::Continue, &mut out).unwrap();
    }
}

/// The macros of each step, from the octets that are sent.
#[test]
fn the_facts_are_told_beside_the_steps_they_belong_to_d17() {
    let message = Message::new(TEXT);
    let mut question = message.question();
    question.host_name = Some("out.elsewhere.example");
    question.auth = Some("marie@solarmora.com");
    question.auth_mechanism = Some("PLAIN");
    let (version, cipher) = ("TLSv1.3", "TLS13_AES_256_GCM_SHA384");
    question.tls = Some(waypost_milter::TlsFacts { version, cipher, bits: 256 });
    question.queue_id = Some(waypost_types::QueueId::new(7));
    question.port = 4711;
    let told = |macros: Vec<(Step, Vec<Box<str>>)>| {
        let mut options = Options::new(6, Actions::CHOOSE_MACROS, Steps::default());
        options.macros = macros;
        let mut filter = Server::with_options(options);
        let mut client = Client::new(Limits::default());
        let mut dialogue = client.ask(&question);
        let mut lines = Vec::new();
        let mut back = Vec::new();
        loop {
            let mut out = Vec::new();
            dialogue.write(&mut out);
            let mut frames = Frames::new(u32::MAX);
            frames.push(&out);
            while let Some(frame) = frames.take().unwrap() {
                if let Command::Macros { step, macros } = Command::decode(frame).unwrap() {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let pairs: Vec<_> = macros
                        .iter()
                        .map(|(name, value)| text(name) + "=" + &text(value))
                        .collect();
                    lines.push(format!("{step}: {}", pairs.join(" ")));
                }
            }
            filter.handle_bytes(&out);
            while filter.next(&mut back).unwrap().is_some() {
                filter.answer(&Response::Continue, &mut back).unwrap();
            }
            dialogue.handle_bytes(&std::mem::take(&mut back)).unwrap();
            if dialogue.take_verdict().is_some() {
                return lines;
            }
        }
    };
    assert_eq!(
        told(Vec::new()),
        [
            "connection: j=mx.solarmora.com {daemon_name}=mx.solarmora.com v=Waypost \
             {client_addr}=203.0.113.9 {client_name}=out.elsewhere.example {client_port}=4711 \
             {client_ptr}=out.elsewhere.example {gateway_addr}=192.0.2.25",
            "HELO: {tls_version}=TLSv1.3 {cipher}=TLS13_AES_256_GCM_SHA384 {cipher_bits}=256",
            "MAIL: i=0000000000007 {auth_type}=PLAIN {auth_authen}=marie@solarmora.com \
             {mail_addr}=a@elsewhere.example",
            "RCPT: i=0000000000007 {rcpt_addr}=marie@solarmora.com",
            "RCPT: i=0000000000007 {rcpt_addr}=paul@solarmora.com",
            "DATA: i=0000000000007",
            "end of header: i=0000000000007",
            "end of message: i=0000000000007",
        ]
    );
    let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<_>>();
    let chosen = vec![
        (Step::Connect, names(&["_", "{nobody}", "{mail_host}"])),
        (Step::Mail, names(&[])),
        (Step::Rcpt, names(&["rcpt_addr"])),
        (Step::EndOfMessage, names(&["{i}", "rcpt_addr"])),
    ];
    assert_eq!(
        told(chosen),
        [
            "connection: _=out.elsewhere.example [203.0.113.9] {mail_host}=elsewhere.example",
            "HELO: {tls_version}=TLSv1.3 {cipher}=TLS13_AES_256_GCM_SHA384 {cipher_bits}=256",
            "RCPT: {rcpt_addr}=marie@solarmora.com",
            "RCPT: {rcpt_addr}=paul@solarmora.com",
            "DATA: i=0000000000007",
            "end of header: i=0000000000007",
            "end of message: i=0000000000007",
        ]
    );
}

/// What is told, straight from the rules: each step that is wanted and known to the version.
fn naive(steps: Steps, version: u32) -> Vec<(Step, &'static str)> {
    let blank = if steps.has(Steps::LEADING_BLANK) { " " } else { "" };
    let fields = match blank {
        "" => ["header Subject:one\\n two", "header X:y"],
        _ => ["header Subject: one\\n two", "header X: y"],
    };
    [
        (Step::Connect, Steps::NO_CONNECT, "connect unknown Ip(203.0.113.9, 0)"),
        (Step::Helo, Steps::NO_HELO, "helo client.example"),
        (Step::Mail, Steps::NO_MAIL, "mail <a@elsewhere.example>"),
        (Step::Rcpt, Steps::NO_RCPT, "rcpt <marie@solarmora.com>"),
        (Step::Rcpt, Steps::NO_RCPT, "rcpt <paul@solarmora.com>"),
        (Step::Data, Steps::NO_DATA, "data"),
        (Step::Header, Steps::NO_HEADER, fields[0]),
        (Step::Header, Steps::NO_HEADER, fields[1]),
        (Step::EndOfHeader, Steps::NO_END_OF_HEADER, "end of header"),
        (Step::Body, Steps::NO_BODY, "body first\\r\\n.dot\\r\\n"),
        (Step::EndOfMessage, Steps(0), "end of message "),
    ]
    .into_iter()
    .filter(|(step, unwanted, _)| !steps.has(*unwanted) && (*step != Step::Data || version >= 4))
    .map(|(step, _, text)| (step, text))
    .collect()
}

/// The bit that a step is not answered.
fn unanswered(step: Step) -> Steps {
    match step {
        Step::Connect => Steps::NO_REPLY_CONNECT,
        Step::Helo => Steps::NO_REPLY_HELO,
        Step::Mail => Steps::NO_REPLY_MAIL,
        Step::Rcpt => Steps::NO_REPLY_RCPT,
        Step::Data => Steps::NO_REPLY_DATA,
        Step::Header => Steps::NO_REPLY_HEADER,
        Step::EndOfHeader => Steps::NO_REPLY_END_OF_HEADER,
        Step::Body => Steps::NO_REPLY_BODY,
        Step::EndOfMessage | Step::Unknown => Steps(0),
    }
}

fn chunks() -> impl Strategy<Value = Chunks> {
    let size = prop_oneof![Just(usize::MAX), 1_usize..12];
    (size.clone(), size)
}

proptest! {
    /// Whatever is agreed upon, at whatever step an answer decides, however the octets are cut, and
    /// however often the connection is used: the filter is told what the rules say, and its answer is
    /// the verdict.
    #[test]
    fn both_sides_understand_each_other_d17(
        asked in any::<u32>(), version in 2_u32..=6, decides in 0_usize..14, accepts in any::<bool>(),
        chunks in chunks(), times in 1_usize..3,
    ) {
        let steps = Steps(asked).common(Steps::OFFERED);
        let mut options = Options::new(version, Actions::ALL, steps);
        options.macros = vec![(Step::Connect, vec!["j".into()])];
        let mut filter = Server::with_options(options);
        let message = Message::new(TEXT);
        let mut client = Client::new(Limits::default());
        let answer = if accepts { Response::Accept } else { Response::Discard };
        let mut wanted: Vec<String> = Vec::new();
        let mut decided = None;
        let mut mail_told = false;
        for (number, (step, text)) in naive(steps, version).into_iter().enumerate() {
            wanted.push(text.to_owned());
            mail_told |= step == Step::Mail;
            let answered = !steps.has(unanswered(step));
            if step == Step::EndOfMessage {
                mail_told = false;
                decided.get_or_insert(Step::EndOfMessage);
            } else if number == decides && answered {
                decided = Some(step);
            }
            if decided.is_some() {
                break;
            }
        }
        if mail_told {
            wanted.push("abort".to_owned());
        }
        // Behind any other answer libmilter does not go on to another session.
        let goes_on = version == 6 && accepts && decided == Some(Step::EndOfMessage) && wanted.len() - 1 != decides;
        wanted.push(if goes_on { "quit, new connection" } else { "quit" }.to_owned());
        for _ in 0..times {
            let mut number = 0;
            let decider = wanted.get(decides).filter(|_| decides < naive(steps, version).len());
            let (told, verdict) = play(&mut client, &mut filter, &message.question(), chunks, |step, text| {
                number += 1;
                let is_it = decider.is_some_and(|decider| decider == text);
                let last = step == Step::EndOfMessage && !is_it;
                vec![if is_it || (last && !accepts) { answer.clone() } else { Response::Continue }]
            });
            prop_assert_eq!(&told, &wanted);
            let want = if accepts { FilterAction::Accept } else { FilterAction::Discard };
            prop_assert_eq!(verdict.unwrap().action, want);
            prop_assert_eq!(client.is_reusable(), goes_on);
            if !goes_on {
                break;
            }
        }
    }

    /// Any octets from a filter give a verdict or a fault, or leave the question open.
    #[test]
    fn any_octets_from_a_filter_are_taken_or_a_fault(
        frames in proptest::collection::vec((proptest::sample::select(&b"Ocarydstpfhimbq+-2e4Zx\0"[..]),
            proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..14)), 0..12),
        agreed in any::<u16>(), chunk in 1_usize..9,
    ) {
        let message = Message::new(TEXT);
        let question = message.question();
        let mut client = Client::new(Limits::default());
        let mut dialogue = client.ask(&question);
        let mut wire = vec![0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0];
        wire.extend_from_slice(&agreed.to_be_bytes());
        for (letter, payload) in frames {
            wire.extend_from_slice(&(u32::try_from(payload.len()).unwrap() + 1).to_be_bytes());
            wire.push(letter);
            wire.extend_from_slice(&payload);
        }
        for chunk in wire.chunks(chunk) {
            let mut out = Vec::new();
            dialogue.write(&mut out);
            if dialogue.handle_bytes(chunk).is_err() || dialogue.take_verdict().is_some() {
                break;
            }
        }
    }
}
