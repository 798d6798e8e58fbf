//! Whatever a configuration says, no line is injected into a header, a reply or an envelope (C6).
use std::collections::HashMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use waypost_config::diagnostics::SourceFile;
use waypost_config::policy::Policy;
use waypost_config::raw;
use waypost_types::{HeaderBlock, ListenerRole, Recipient, Session, TlsState};

/// A TOML string that holds exactly this text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        write!(out, "\\U{:08X}", u32::from(c)).unwrap();
    }
    out + "\""
}

/// The policy, unless the texts are refused.
fn policy(texts: &[String; 6]) -> Option<Policy> {
    let [name, value, prefix, local_part, reject, quarantine] =
        texts.each_ref().map(|it| quoted(it));
    let rule = |to: &str, then: String| {
        format!(
            "[[organization.rule]]\ndescription = \"{to}\"\naffects = [\"inbound\"]\n\
             accounts = [\"unrecognized\"]\n\
             envelope = {{ recipients = [{{ address = \"{to}@a.example\" }}] }}\nthen = {then}\n"
        )
    };
    let text = format!(
        "[server]\nhostname = \"mx.a.example\"\n[[organization]]\nname = \"A\"\n\
         domains = [\"a.example\"]\n{}{}{}",
        rule(
            "changed",
            format!(
                "{{ modify = {{ add_headers = [{{ name = {name}, value = {value} }}], subject_prefix = {prefix}, replace_recipient = {{ local_part = {local_part} }} }} }}"
            )
        ),
        rule("rejected", format!("{{ reject = {reject} }}")),
        rule("kept", format!("{{ quarantine = {quarantine} }}")),
    );
    let (config, mut report) = raw::read(SourceFile::new("given", text), Vec::new())
        .unwrap_or_else(|error| panic!("{}", error.report.render(false)));
    let files = HashMap::<String, Vec<u8>>::new();
    Some(waypost_config::compile(&config, &files, &mut report)?.into_policy("1"))
}

fn plain(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

fn holds(texts: &[String; 6]) -> Result<bool, TestCaseError> {
    let Some(policy) = policy(texts) else { return Ok(false) };
    let session = Session {
        client_ip: [192, 0, 2, 1].into(),
        role: ListenerRole::Mx,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    };
    let transaction = policy.at_mail(&session, &"b@b.example".parse().unwrap()).unwrap();
    let header = HeaderBlock::of(b"From: b@b.example\r\nSubject: x\r\n\r\n");
    for to in ["changed", "rejected", "kept"] {
        let to: waypost_types::Mailbox = format!("{to}@a.example").parse().unwrap();
        let decision = policy.at_data(&transaction, &[Recipient::from(to)], &header);
        for refused in &decision.refusals {
            let wire = refused.reply.to_string();
            let lines: Vec<_> = wire.split("\r\n").filter(|line| !line.is_empty()).collect();
            prop_assert!(
                lines.iter().all(|line| plain(line) && line.starts_with("550")),
                "{wire:?}"
            );
        }
        for one in &decision.deliveries {
            for line in &one.delivery.changes.added_headers {
                prop_assert!(plain(&line.to_string()), "{line:?}");
                prop_assert_eq!(line.name(), texts[0].as_str());
            }
            prop_assert!(plain(&one.delivery.recipient.to_string()));
            prop_assert!(one.delivery.changes.subject_prefix.as_deref().is_none_or(plain));
        }
        prop_assert!(decision.quarantined.iter().all(|one| plain(&one.quarantine)));
    }
    Ok(true)
}

fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\r\nBcc: x@y.example",
        ":",
        " ",
        "\t",
        "\u{85}",
        "\u{2028}",
        "é",
        "\r\n.\r\n",
        "\u{7f}",
        "\u{1b}[2J",
        "",
    ]);
    let word = prop::sample::select(vec!["X-A", "a", "550", "x y", ""]);
    prop::collection::vec(
        prop_oneof![odd.prop_map(str::to_owned), word.prop_map(str::to_owned)],
        1..4,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_of_a_configuration_injects_a_line_c6(
        odd in prop::array::uniform6(text()),
        place in 0..6_usize,
        all in any::<bool>(),
    ) {
        let usual = ["X-A", "1", "[A] ", "a", "no", "q"].map(str::to_owned);
        let mut texts = usual;
        if all {
            texts = odd;
        } else {
            texts[place].clone_from(&odd[place]);
        }
        holds(&texts)?;
    }
}

#[test]
fn each_line_end_is_refused_wherever_it_stands_c6() {
    let usual = ["X-A", "1", "[A] ", "a", "no", "q"].map(str::to_owned);
    assert!(holds(&usual).unwrap());
    for place in 0..6 {
        for end in ["\r", "\n", "\r\n", "\0", "\u{85}"] {
            let mut texts = usual.clone();
            texts[place] = format!("a{end}b");
            assert!(!holds(&texts).unwrap(), "{place} {end:?}");
        }
    }
}
