//! Each frame of the protocol: its octets, as written down by hand, are its value and back (D17).

use proptest::prelude::*;
use waypost_milter::{
    Actions, Command, Fault, FieldName, FieldValue, Frame, Frames, HeaderEdit, Modification,
    Options, Peer, Response, Step, Steps,
};
use waypost_types::Reply;

/// A frame of a letter and what stands behind it.
fn frame(bytes: &[u8]) -> Frame<'_> {
    Frame { letter: bytes[0], payload: &bytes[1..] }
}

/// What was encoded, without the length, which is right.
fn unframed(out: &[u8]) -> &[u8] {
    let (length, rest) = out.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
    rest
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn name(text: &str) -> FieldName {
    FieldName::new(text).unwrap()
}

fn value(text: &str) -> FieldValue {
    FieldValue::new(text).unwrap()
}

#[test]
fn commands_have_these_octets_d17() {
    let offered = Options::new(6, Actions(0x131), Steps(0x1f_f7ff));
    let ip = |text: &str, port| Peer::Ip(text.parse().unwrap(), port);
    let told = |peer| Command::Connect { host_name: b"c.a", peer };
    let mail = |path, parameters| Command::Mail { path, parameters };
    let macros = |step, macros: &[_]| Command::Macros { step, macros: macros.to_vec() };
    let table: [(&[u8], Command<'_>); 22] = [
        (b"O\0\0\0\x06\0\0\x01\x31\0\x1f\xf7\xff", Command::Options(offered)),
        (b"DCj\0mx.a\0v\0W\0", macros(Step::Connect, &[(b"j", b"mx.a"), (b"v", b"W")])),
        (b"DE", macros(Step::EndOfMessage, &[])),
        (b"Cc.a\x004\x30\x391.2.3.4\0", told(ip("1.2.3.4", 12345))),
        (b"Cc.a\x006\0\x002001:db8::1\0", told(ip("2001:db8::1", 0))),
        (b"Cc.a\0L\0\0/run/x\0", told(Peer::Unix(b"/run/x"))),
        (b"Cc.a\0U", told(Peer::Unknown)),
        (b"Hc.a\0", Command::Helo(b"c.a")),
        (b"M<a@b>\0SIZE=1\0\0", mail(b"<a@b>", vec![b"SIZE=1", b""])),
        (b"M<>\0", mail(b"<>", vec![])),
        (b"R<c@d>\0", Command::Rcpt { path: b"<c@d>", parameters: vec![] }),
        (b"T", Command::Data),
        (b"LSubject\0a\n b\0", Command::Header { name: b"Subject", value: b"a\n b" }),
        (b"L\0\0", Command::Header { name: b"", value: b"" }),
        (b"N", Command::EndOfHeader),
        (b"Ba\0\r\n", Command::Body(b"a\0\r\n")),
        (b"E", Command::EndOfMessage(b"")),
        (b"Ex", Command::EndOfMessage(b"x")),
        (b"UVRFY\0", Command::Unknown(b"VRFY")),
        (b"A", Command::Abort),
        (b"Q", Command::Quit),
        (b"K", Command::QuitNewConnection),
    ];
    for (bytes, command) in table {
        assert_eq!(Command::decode(frame(bytes)), Ok(command.clone()), "{}", shown(bytes));
        let mut out = Vec::new();
        command.encode(&mut out);
        assert_eq!(shown(unframed(&out)), shown(bytes));
    }
    // Read, and never written so.
    let tagged = Command::decode(frame(b"Cc.a\x006\0\x00IPv6:2001:db8::1\0"));
    assert_eq!(tagged, Ok(told(ip("2001:db8::1", 0))));
    assert_eq!(Command::decode(frame(b"Cc.a\0U\0\0\0")), Ok(told(Peer::Unknown)));
}

#[test]
fn responses_have_these_octets_d17() {
    let mut options = Options::new(2, Actions(1), Steps(0));
    options.macros = vec![(Step::EndOfMessage, vec!["i".into(), "{x}".into()])];
    let edit = |edit| Response::Modify(Modification::Header(edit));
    let add = |text| HeaderEdit::Add { name: name("X-A"), value: value(text) };
    let parameters = Some("NOTIFY=NEVER".into());
    let more = Modification::AddRecipient { address: "<a@b>".into(), parameters };
    let one = Modification::AddRecipient { address: "<a@b>".into(), parameters: None };
    let sender = |parameters: &str| {
        let (address, parameters) = ("<a@b>".into(), parameters.into());
        Response::Modify(Modification::ChangeSender { address, parameters })
    };
    let table: [(&[u8], Response); 26] = [
        (b"O\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\x05i {x}\0", Response::Options(options)),
        (b"c", Response::Continue),
        (b"a", Response::Accept),
        (b"r", Response::Reject),
        (b"t", Response::TempFail),
        (b"d", Response::Discard),
        (b"s", Response::Skip),
        (b"p", Response::Progress),
        (b"4", Response::Shutdown),
        (b"f", Response::ConnectionFailed),
        (b"y554 5.7.1 Spam\0", Response::Reply(Reply::new(554, (5, 7, 1), "Spam"))),
        (b"y451 Later\0", Response::Reply(Reply::plain(451, "Later"))),
        (b"y550-5.7.1 a\r\n550 5.7.1 b\0", Response::Reply(Reply::new(550, (5, 7, 1), "a\nb"))),
        (b"hX-A\0yes\0", edit(add("yes"))),
        (b"hX-A\0a\n\tb\0", edit(add("a\r\n\tb"))),
        (b"hX-A\0\0", edit(add(""))),
        (
            b"i\0\0\0\x02X-A\0v\0",
            edit(HeaderEdit::Insert { at: 2, name: name("X-A"), value: value("v") }),
        ),
        (
            b"m\0\0\0\x01X-A\0v\0",
            edit(HeaderEdit::Change { nth: 1, name: name("X-A"), value: value("v") }),
        ),
        (b"m\0\0\0\x03X-A\0\0", edit(HeaderEdit::Delete { nth: 3, name: name("X-A") })),
        (b"bpiece", Response::Modify(Modification::Body(b"piece".to_vec()))),
        (b"+<a@b>\0", Response::Modify(one)),
        (b"2<a@b>\0NOTIFY=NEVER\0", Response::Modify(more)),
        (b"-<a@b>\0", Response::Modify(Modification::DeleteRecipient("<a@b>".into()))),
        (b"e<a@b>\0", sender("")),
        (b"e<a@b>\0SIZE=1\0", sender("SIZE=1")),
        (b"qheld\0", Response::Modify(Modification::Quarantine("held".into()))),
    ];
    for (bytes, response) in table {
        assert_eq!(Response::decode(frame(bytes)), Ok(response.clone()), "{}", shown(bytes));
        let mut out = Vec::new();
        response.encode(&mut out);
        assert_eq!(shown(unframed(&out)), shown(bytes));
    }
}

#[test]
fn answers_that_others_write_are_read() {
    for (bytes, want) in [
        (&b"c\0"[..], "Ok(Continue)"),
        (b"y554 5.7.1 Gtube pattern", "554 5.7.1 Gtube pattern"),
        (b"y554 5.7.1 Spam\r\n\0", "554 5.7.1 Spam"),
        (b"y550-a\n550 b\0", "550 a b"),
        (b"y450 5.7.1 other class\0", "450 5.7.1 other class"),
        (b"y421\0", "421 "),
        (b"hX-A\0 yes\0", "yes"),
        (b"hX-A\0caf\xe9\0", "caf\u{fffd}"),
        (b"qheld", "held"),
    ] {
        let read = Response::decode(frame(bytes));
        let found = match &read {
            Ok(Response::Reply(reply)) => reply.to_string(),
            Ok(Response::Modify(Modification::Header(edit))) => edit.value().unwrap().to_string(),
            Ok(Response::Modify(Modification::Quarantine(why))) => why.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(found, want, "{}", shown(bytes));
    }
}

#[test]
fn nonsense_is_a_fault_that_names_what_came_and_the_rule_d17() {
    for (bytes, want) in [
        (&b"Z"[..], "a frame `Z` came"),
        (b"\xff", "a frame `ÿ` came"),
        (b"cx", "a frame `continue` came with `x`: nothing stands in it"),
        (b"y250 2.0.0 ok\0", "one code from 400 to 599"),
        (b"y554x\0", "`554x\\x00`: lines with one code"),
        (b"y55\0", "one code"),
        (b"y554-a\r\n553 b\0", "one code"),
        (b"y554 a\r\n554 b\0", "one code"),
        (b"y554 a\0b\0", "one code"),
        ("y5é4 a\0".as_bytes(), "one code"),
        (b"hX-A\0a\r\nBcc: x\0", "a line of the value `a  Bcc: x` begins without a blank"),
        (b"hX-A\0a\x1b\0", "holds '\\u{1b}'"),
        (b"hX A\0a\0", "`X A` is no header field name"),
        (b"h\0a\0", "`` is no header field name"),
        (b"hX-A\0a", "a name and a value stand in it"),
        (b"hX-A\0a\0b", "a name and a value stand in it"),
        (b"i\0\0", "a number of four octets stands first"),
        (b"m\0\0\0\0X-A\0v\0", "counted from 1"),
        (b"q\0a", "one text stands in it"),
        (b"O\0\0\0\x06", "three numbers"),
        (b"O\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x09i\0", "steps from 0 to 6"),
        (b"O\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x01i\0\0\0\0\x01j\0", "each once"),
    ] {
        let fault = Response::decode(frame(bytes)).unwrap_err().to_string();
        assert!(fault.contains(want), "{}: {fault}", shown(bytes));
    }
    for (bytes, want) in [
        (&b"c"[..], "a frame `c` came"),
        (b"Cc.a", "a name, a family"),
        (b"Cc.a\0", "a name, a family"),
        (b"Cc.a\x004\0\x00::1\0", "an address of that family"),
        (b"Cc.a\x009\0\x00x\0", "a family"),
        (b"Hc.a", "one text stands in it"),
        (b"M", "a path and its parameters"),
        (b"M<a@b>", "a path and its parameters"),
        (b"D", "the letter of a step"),
        (b"DZ", "the letter of a step"),
        (b"DCj\0", "pairs of texts"),
        (b"LA\0b", "a name and a value"),
        (b"Nx", "`end of header` came with `x`"),
    ] {
        let fault = Command::decode(frame(bytes)).unwrap_err().to_string();
        assert!(fault.contains(want), "{}: {fault}", shown(bytes));
    }
    let many = [b"M".as_slice(), &[0; 5000]].concat();
    assert!(matches!(Command::decode(frame(&many)), Err(Fault::TooMuch { .. })));
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1_u8..=255, 0..12)
}

/// A text that is shown as it is.
fn plain() -> impl Strategy<Value = Box<str>> {
    "[a-z<>@.é]{0,12}".prop_map(Box::from)
}

fn field() -> impl Strategy<Value = (FieldName, FieldValue)> {
    ("[!-9;-~]{1,12}", "([a-zé]{1,5}(\r\n[ \t][a-z]{1,3})?){0,2}")
        .prop_map(|(a, b)| (name(&a), value(&b)))
}

fn response() -> impl Strategy<Value = Response> {
    let edit = |edit| Response::Modify(Modification::Header(edit));
    let code = (4_u16..6, 0_u16..100).prop_map(|(class, rest)| class * 100 + rest);
    prop_oneof![
        proptest::sample::select(vec![
            Response::Continue,
            Response::Accept,
            Response::Reject,
            Response::TempFail,
            Response::Discard,
            Response::Skip,
            Response::Progress,
            Response::Shutdown,
            Response::ConnectionFailed,
        ]),
        (2_u32..7, any::<u32>(), any::<u32>()).prop_map(|(version, actions, steps)| {
            Response::Options(Options::new(version, Actions(actions), Steps(steps)))
        }),
        (code, 0_u16..999, "[a-z ]{0,9}(\n[a-z ]{0,9}){0,2}").prop_map(|(code, detail, text)| {
            let class = u8::try_from(code / 100).unwrap();
            Response::Reply(Reply::new(code, (class, 7, detail), &text))
        }),
        field().prop_map(move |(name, value)| edit(HeaderEdit::Add { name, value })),
        (field(), any::<u32>()).prop_map(move |((name, value), at)| edit(HeaderEdit::Insert {
            at,
            name,
            value
        })),
        (field(), 1_u32..).prop_map(move |((name, value), nth)| match value.as_str() {
            "" => edit(HeaderEdit::Delete { name, nth }),
            _ => edit(HeaderEdit::Change { name, nth, value }),
        }),
        proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|piece| Response::Modify(Modification::Body(piece))),
        (plain(), proptest::option::of(plain())).prop_map(|(address, parameters)| {
            Response::Modify(Modification::AddRecipient { address, parameters })
        }),
        plain().prop_map(|reason| Response::Modify(Modification::Quarantine(reason))),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(response in response()) {
        let mut out = Vec::new();
        response.encode(&mut out);
        let mut frames = Frames::new(u32::MAX);
        frames.push(&out);
        let frame = frames.take().unwrap().unwrap();
        prop_assert_eq!(Response::decode(frame), Ok(response));
        prop_assert!(frames.is_empty());
    }

    #[test]
    fn commands_are_decoded_as_they_were(
        a in text(), parts in proptest::collection::vec((text(), text()), 0..4), kind in 0_u8..6,
    ) {
        let command = match kind {
            0 => Command::Macros {
                step: Step::ALL[parts.len()],
                macros: parts.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect(),
            },
            1 => Command::Mail { path: &a, parameters: parts.iter().map(|(one, _)| one.as_slice()).collect() },
            2 => Command::Connect { host_name: &a, peer: Peer::Unix(parts.first().map_or(b"", |one| &one.0)) },
            3 => Command::Header { name: &a, value: parts.first().map_or(b"", |one| &one.0) },
            4 => Command::Body(&a),
            _ => Command::Helo(&a),
        };
        let mut out = Vec::new();
        command.encode(&mut out);
        prop_assert_eq!(Command::decode(frame(unframed(&out))), Ok(command));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
        // What is read can be written, and is then read as the same.
        if let Ok(command) = Command::decode(frame(&bytes)) {
            let mut out = Vec::new();
            command.encode(&mut out);
            prop_assert_eq!(Command::decode(frame(unframed(&out))), Ok(command));
        }
        if let Ok(response) = Response::decode(frame(&bytes)) {
            let mut out = Vec::new();
            response.encode(&mut out);
            prop_assert_eq!(Response::decode(frame(unframed(&out))), Ok(response));
        }
    }
}
