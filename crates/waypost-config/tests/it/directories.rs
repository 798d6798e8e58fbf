//! Directories of several files, and one that is filled from elsewhere and fails (C4, C8).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::directory::{ReloadableDirectory, StaticDirectory};
use waypost_config::policy::{DataReply, Policy, RcptVerdict};
use waypost_config::{Compiled, compile, raw};
use waypost_types::{
    Account, Directory, HeaderBlock, ListenerRole, Mailbox, Recipient, ReversePath, Session,
    Timestamp, TlsState,
};

const MAIN: &str = r#"
[server]
hostname = "mx.solarmora.com"
spool = "spool"

[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:2525"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 10
directory = ["more.toml", "people.CSV"]

[[organization.user]]
address = "inline@solarmora.com"

[[organization.route]]
name = "second"
host = "second.example"

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = { modify = { route = "second" } }
"#;

const TOML: &str = "[[user]]\naddress = \"toml@solarmora.com\"\n[[group]]\naddress = \
                    \"all@solarmora.com\"\nmembers = [\"csv@solarmora.com\", \"inline@solarmora.com\"]\n";

const CSV: &str = "address,aliases\ncsv@solarmora.com,c@solarmora.com\n";

fn compiled(csv: &str) -> (Option<Compiled>, Report) {
    let files: HashMap<String, Vec<u8>> =
        [("more.toml", TOML), ("people.CSV", csv)].map(|(n, t)| (n.to_owned(), t.into())).into();
    let (config, mut report) =
        raw::read(SourceFile::new("waypost.toml", MAIN), Vec::new()).unwrap();
    let needed: Vec<_> =
        config.needed_files().iter().map(|one| one.path.as_str().to_owned()).collect();
    assert_eq!(needed, ["more.toml", "people.CSV"]);
    (compile(&config, &files, &mut report), report)
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

#[test]
fn c4_several_files_and_the_main_one_are_one_directory() {
    let (compiled, report) = compiled(CSV);
    assert_eq!(report.diagnostics().len(), 0, "{}", report.render(false));
    let directory = &compiled.unwrap().directories[0];
    for address in ["inline@solarmora.com", "toml@solarmora.com", "C@solarmora.com"] {
        let account = directory.account(&mailbox(address)).unwrap();
        assert!(matches!(account, Account::User(_)), "{address}");
    }
    let all = directory.members(&mailbox("all@solarmora.com")).unwrap();
    assert_eq!(all.len(), 2, "over the border of files: {all:?}");
}

#[test]
fn c4_what_two_files_contradict_is_told_with_both_places() {
    let (compiled, report) = compiled("address\ntoml@solarmora.com\nx@elsewhere.example\n");
    let shown = report.render(false);
    assert!(compiled.is_none());
    for part in [
        "people.CSV:2:1",
        "was given at more.toml:2 already",
        "people.CSV:3:1",
        "`x@elsewhere.example` is outside the organization's domains",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// What the client is told of a message to one recipient, at RCPT or after DATA.
fn reply(policy: &Policy, to: &str) -> String {
    let session = Session {
        client_ip: [203, 0, 113, 1].into(),
        role: ListenerRole::Mx,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    };
    let sender: ReversePath = "a@elsewhere.example".parse().unwrap();
    let transaction = policy.at_mail(&session, &sender).unwrap();
    let recipient = Recipient::from(mailbox(to));
    if let RcptVerdict::Refuse(refused) = policy.at_rcpt(&transaction, &recipient, 0) {
        return refused.reply.to_string();
    }
    let header = HeaderBlock::of(b"From: a@elsewhere.example\r\n\r\n");
    let decision = policy.at_data(&transaction, &[recipient], &header);
    match decision.reply {
        DataReply::Accept => format!("250 by {}", decision.deliveries[0].delivery.destination),
        DataReply::Refuse(reply) => reply.to_string(),
    }
}

#[test]
fn c8_a_directory_that_fails_is_451_and_nobody_is_unrecognized_meanwhile() {
    let directory = Arc::new(ReloadableDirectory::new(Duration::from_secs(600)));
    let (compiled, _) = compiled(CSV);
    let mut compiled = compiled.unwrap();
    compiled.organizations[0].directory = directory.clone();
    let snapshot = compiled.directories[0].clone();
    let policy = compiled.into_policy("1");
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    let known = |policy: &Policy| reply(policy, "csv@solarmora.com");
    let unknown = |policy: &Policy| reply(policy, "nobody@solarmora.com");

    // Before the first snapshot.
    assert!(known(&policy).starts_with("451 4.3.0"), "{}", known(&policy));
    assert!(unknown(&policy).starts_with("451 4.3.0"), "{}", unknown(&policy));
    // With one: the known user to the mailbox system, the others to the second one.
    directory.replace(snapshot.clone(), at(0));
    assert!(known(&policy).starts_with("250 by ") && !known(&policy).contains("second"));
    assert!(unknown(&policy).contains("second"), "{}", unknown(&policy));
    // The source fails: the last snapshot is good for ten minutes, then it is 451 again.
    assert!(directory.source_failed("timed out", at(599)));
    assert!(unknown(&policy).contains("second"));
    assert!(!directory.source_failed("timed out", at(600)));
    assert!(known(&policy).starts_with("451 4.3.0"), "{}", known(&policy));
    assert!(unknown(&policy).starts_with("451 4.3.0"), "never unrecognized");
    assert_eq!(directory.taken_at(), Some(at(0)));
    // Another snapshot, in which she is no more.
    directory.replace(Arc::new(StaticDirectory::default()), at(700));
    assert!(known(&policy).contains("second"), "{}", known(&policy));
    // At once, however new it is.
    directory.unavailable("the last answer was cut off");
    let told = directory.account(&mailbox("csv@solarmora.com")).unwrap_err().to_string();
    assert!(told.contains("cut off"), "{told}");
    assert!(known(&policy).starts_with("451 4.3.0"));
}

#[test]
fn c8_each_answer_is_of_one_snapshot_while_they_are_replaced() {
    let (compiled, _) = compiled(CSV);
    let full: Arc<dyn Directory> = compiled.unwrap().directories[0].clone();
    let empty: Arc<dyn Directory> = Arc::new(StaticDirectory::default());
    let directory = Arc::new(ReloadableDirectory::new(Duration::ZERO));
    directory.replace(full.clone(), Timestamp::from_millis(0));
    let asking = Arc::clone(&directory);
    let asks = std::thread::spawn(move || {
        for _ in 0..20_000 {
            match asking.members(&mailbox("all@solarmora.com")) {
                Ok(members) => assert!(matches!(members.len(), 0 | 2), "{members:?}"),
                Err(unavailable) => assert_eq!(unavailable.because, "down"),
            }
        }
    });
    let mut round = 0;
    while !asks.is_finished() {
        round += 1;
        match round % 3 {
            0 => directory.replace(full.clone(), Timestamp::from_millis(round)),
            1 => directory.replace(empty.clone(), Timestamp::from_millis(round)),
            _ => assert!(!directory.source_failed("down", Timestamp::from_millis(round))),
        }
    }
    asks.join().unwrap();
}
