//! AUTH PLAIN and LOGIN beside another implementation of SASL (D6): where both agree, and the cases in
//! which ours does otherwise, which is why it is ours.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use rsasl::callback::{Context, SessionCallback, SessionData};
use rsasl::prelude::{Mechname, SASLConfig, SASLServer, State, Validation};
use rsasl::property::{AuthId, AuthzId, Password};
use rsasl::validate::{Validate, ValidationError};
use waypost_smtp::server::{AuthOffer, Event, Server, Settings, TlsOffer};
use waypost_types::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(0);

/// What an exchange ends with, challenges before it: `334 text`, then `check user password` (as octets
/// escaped), or `refused`, or nothing if it goes on.
type Told = Vec<String>;

fn check(user: &[u8], password: &[u8]) -> String {
    format!("check {} {}", user.escape_ascii(), password.escape_ascii())
}

/// Ours: the command and the lines behind it.
fn ours(lines: &[String]) -> Told {
    let mut settings = Settings::new("mx.solarmora.com".parse().unwrap());
    settings.tls = TlsOffer::Implicit;
    settings.auth = AuthOffer::InsideTls;
    let mut server = Server::new(Arc::new(settings), NOW);
    assert_eq!(server.poll_event(NOW), Some(Event::Connect));
    server.accept(NOW);
    drop(server.take_output());
    let mut told = Vec::new();
    let hello = "EHLO client.example".to_owned();
    for (place, line) in std::iter::once(&hello).chain(lines).enumerate() {
        server.handle_bytes(NOW, format!("{line}\r\n").as_bytes());
        while let Some(event) = server.poll_event(NOW) {
            match event {
                Event::Auth(found) => {
                    told.push(check(found.user.as_bytes(), found.password.as_bytes()));
                    return told;
                }
                _ => server.accept(NOW),
            }
        }
        let said = String::from_utf8(server.take_output()).unwrap();
        match said.split_once(' ') {
            _ if place == 0 => {}
            Some(("334", text)) => {
                told.push(format!("334 {}", unbased(text.trim_end()).escape_ascii()));
            }
            _ => {
                told.push("refused".to_owned());
                return told;
            }
        }
    }
    told
}

fn unbased(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

struct Outcome;

impl Validation for Outcome {
    type Value = String;
}

struct Callback;

impl SessionCallback for Callback {
    fn validate(
        &self,
        _: &SessionData,
        context: &Context<'_>,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        validate.with::<Outcome, _>(|| {
            let user = context.get_ref::<AuthId>().unwrap_or_default();
            let identity = context.get_ref::<AuthzId>().unwrap_or_default();
            let password = context.get_ref::<Password>().unwrap_or_default();
            Ok(match identity.is_empty() || identity == user {
                true => check(user.as_bytes(), password),
                false => "refused".to_owned(),
            })
        })?;
        Ok(())
    }
}

/// The other one, with what RFC 4954 asks of whoever uses it put around it: `=`, `*`, initial responses.
fn theirs(lines: &[String]) -> Told {
    let mut told = Vec::new();
    let mut words = lines[0].split(' ').skip(1);
    let mechanism = Mechname::parse(words.next().unwrap().as_bytes()).unwrap();
    let config = SASLConfig::builder().with_defaults().with_callback(Callback).unwrap();
    let Ok(mut session) = SASLServer::<Outcome>::new(config).start_suggested(mechanism) else {
        return vec!["refused".to_owned()];
    };
    let mut said: Vec<Option<&str>> = Vec::new();
    match words.next() {
        Some("=") => said.push(Some("")),
        Some(initial) => said.push(Some(initial)),
        None if session.are_we_first() => said.push(None),
        None => told.push("334 ".to_owned()),
    }
    said.extend(lines[1..].iter().map(|line| Some(&**line)));
    for response in said {
        if response == Some("*") {
            told.push("refused".to_owned());
            return told;
        }
        let mut out = Vec::new();
        match session.step64(response.map(str::as_bytes), &mut out) {
            Err(_) => {
                told.push("refused".to_owned());
                return told;
            }
            Ok(State::Finished(_)) => {
                told.push(session.validation().unwrap_or_else(|| "refused".to_owned()));
                return told;
            }
            Ok(State::Running) => {
                let text = unbased(std::str::from_utf8(&out).unwrap());
                told.push(format!("334 {}", text.escape_ascii()));
            }
        }
    }
    told
}

/// An exchange: the mechanism with its responses in clear; the first is initial if it begins with `:`.
fn exchange(mechanism: &str, responses: &[&[u8]]) -> Vec<String> {
    let mut lines = vec![format!("AUTH {mechanism}")];
    for response in responses {
        match response {
            [b'!', raw @ ..] => lines.push(String::from_utf8(raw.to_vec()).unwrap()),
            [b':', b'='] => lines[0] += " =",
            [b':', initial @ ..] => lines[0] += &format!(" {}", STANDARD.encode(initial)),
            response => lines.push(STANDARD.encode(response)),
        }
    }
    lines
}

#[test]
fn where_both_agree_d6() {
    for (mechanism, responses, want) in [
        ("PLAIN", &[&b":\0marie\0secret"[..]][..], "check marie secret"),
        ("PLAIN", &[b"\0marie\0secret"], "check marie secret"),
        ("PLAIN", &[b":marie\0marie\0secret"], "check marie secret"),
        ("PLAIN", &[b":paul\0marie\0secret"], "refused"),
        ("PLAIN", &[b":\0marie\0\xff\xfe"], "check marie \\xff\\xfe"),
        ("PLAIN", &[b":="], "refused"),
        ("PLAIN", &[b"!*"], "refused"),
        ("PLAIN", &[b"!="], "refused"),
        ("PLAIN", &[b"!AG1hcmllAHNlY3JldA"], "refused"),
        ("PLAIN", &[b":marie\0secret"], "refused"),
        ("PLAIN", &[b":\0marie\0a\0b"], "refused"),
        ("PLAIN", &[b":\0\0secret"], "refused"),
        ("PLAIN", &[b":\0\xff\0secret"], "refused"),
        ("LOGIN", &[b"marie", b"secret"], "check marie secret"),
        ("LOGIN", &[b"marie", b"!*"], "refused"),
        ("LOGIN", &[b"!not base64"], "refused"),
        ("LOGIN", &[b"\xff"], "refused"),
        ("CRAM-MD5", &[], "refused"),
    ] {
        let lines = exchange(mechanism, responses);
        let (ours, theirs) = (ours(&lines), theirs(&lines));
        assert_eq!(ours.last().map(String::as_str), Some(want), "ours: {lines:?}");
        assert_eq!(theirs.last().map(String::as_str), Some(want), "theirs: {lines:?}");
    }
}

#[test]
fn where_ours_does_otherwise_d6() {
    for (why, mechanism, responses, ours_says, theirs_says) in [
        // Clients that look at the challenge know these words; the others are of an older draft.
        ("the words", "LOGIN", &[][..], &["334 Username:"][..], &["334 User Name\\x00"][..]),
        // The user in the AUTH command: thrown away, so that the password comes to be the user.
        (
            "an initial response",
            "LOGIN",
            &[&b":marie"[..], b"secret"],
            &["334 Password:", "check marie secret"],
            &["334 User Name\\x00", "334 Password\\x00"],
        ),
        (
            "no user",
            "LOGIN",
            &[b"", b"secret"],
            &["334 Username:", "refused"],
            &["334 User Name\\x00", "334 Password\\x00", "check  secret"],
        ),
        (
            "a control character",
            "LOGIN",
            &[b"a\rb", b"x"],
            &["334 Username:", "refused"],
            &["334 User Name\\x00", "334 Password\\x00", "check a\\rb x"],
        ),
        // A password is octets to us, by either mechanism. Prepared by one of them alone, it would have
        // to be hashed prepared, and LOGIN would never match.
        (
            "a password beyond ASCII",
            "PLAIN",
            &["\0marie\0\u{bd}\u{a0}x".as_bytes()],
            &["334 ", "check marie \\xc2\\xbd\\xc2\\xa0x"],
            &["334 ", "check marie 1\\xe2\\x81\\x842 x"],
        ),
        (
            "the same by LOGIN",
            "LOGIN",
            &[b"marie", "\u{bd}\u{a0}x".as_bytes()],
            &["334 Username:", "334 Password:", "check marie \\xc2\\xbd\\xc2\\xa0x"],
            &["334 User Name\\x00", "334 Password\\x00", "check marie \\xc2\\xbd\\xc2\\xa0x"],
        ),
        (
            "a tab in a password",
            "PLAIN",
            &[b"\0marie\0a\tb"],
            &["334 ", "check marie a\\tb"],
            &["334 ", "refused"],
        ),
        // Refused as a format and not as a password, it would neither be delayed nor counted.
        ("no password", "PLAIN", &[b"\0marie\0"], &["334 ", "check marie "], &["334 ", "refused"]),
    ] {
        let lines = exchange(mechanism, responses);
        assert_eq!(ours(&lines), ours_says, "ours: {why}");
        assert_eq!(theirs(&lines), theirs_says, "theirs: {why}");
    }
}

proptest! {
    #[test]
    fn what_people_type_is_read_alike_d6(
        identity in any::<bool>(), user in "[a-z0-9.@-]{1,30}", password in "[!-~]{2,40}", initial in any::<bool>(),
    ) {
        let identity = if identity { &*user } else { "" };
        let plain = format!("{}{identity}\0{user}\0{password}", if initial { ":" } else { "" });
        let want = check(user.as_bytes(), password.as_bytes());
        let plain = exchange("PLAIN", &[plain.as_bytes()]);
        prop_assert_eq!(ours(&plain).pop(), Some(want.clone()));
        prop_assert_eq!(theirs(&plain).pop(), Some(want.clone()));
        let lines = ["AUTH LOGIN".to_owned(), STANDARD.encode(&user), STANDARD.encode(&password)];
        prop_assert_eq!(ours(&lines).pop(), Some(want.clone()));
        prop_assert_eq!(theirs(&lines).pop(), Some(want.clone()));
    }
}
