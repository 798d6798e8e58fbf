//! `waypost serve` with a filter that sees each message before it is accepted (D17, E2, E10, E11).

use crate::support;

use support::serving::{Folder, HOSTNAME, Serve, queue_id};
use support::sink::{Sink, reserved};
use support::smtp_client::SmtpClient;
use support::waypost;
use waypost_milter::{FieldName, FieldValue, HeaderEdit, Modification, Step};
use waypost_net::test_kit::{FakeMilter, MilterAnswer, MilterFault, MilterPhase, MilterScript};
use waypost_types::Reply;

/// A filter that goes by what stands in the message: the subject says what it finds.
fn by_subject() -> MilterScript {
    let refuse = |code, enhanced, text| MilterAnswer::refuse(Reply::new(code, enhanced, text));
    let name = |name: &str| FieldName::new(name).unwrap();
    let value = |value: &str| FieldValue::new(value).unwrap();
    let changes = [
        HeaderEdit::Change { name: name("Subject"), nth: 1, value: value("[SPAM] changed") },
        HeaderEdit::Delete { name: name("X-Spam"), nth: 1 },
        HeaderEdit::Change { name: name("X-Other"), nth: 1, value: value("new") },
    ];
    let changing = changes
        .into_iter()
        .fold(MilterAnswer::accept(), |answer, edit| answer.change(Modification::Header(edit)));
    let adding = |fields: &[(&str, &str)]| {
        let fields = fields.iter();
        fields.fold(MilterAnswer::accept(), |answer, (name, value)| {
            answer.field(name, value).unwrap()
        })
    };
    MilterScript::new()
        .token("gtube", refuse(554, (5, 7, 1), "Gtube pattern"))
        .token("no code", MilterAnswer::refuse(Reply::plain(550, "Command rejected")))
        .token("virus", refuse(554, (5, 7, 1), "clamav: virus found: \"Eicar-Signature\""))
        .token("later", refuse(451, (4, 7, 1), "Try again later"))
        .token("large", refuse(552, (5, 3, 4), "Too many attachments"))
        .token("discard", MilterAnswer::discard())
        .token("hold", MilterAnswer::quarantine("score 7 of 15"))
        .token("spam", adding(&[("X-Spam", "Yes"), ("X-Spamd-Bar", "++++++")]))
        .token(
            "signed",
            adding(&[
                ("DKIM-Signature", "v=1; a=rsa-sha256;\n\tb=abc\n\tdef"),
                ("X-Spam-Status", "No, score=-1.0"),
                ("X-Note", "é"),
            ]),
        )
        .token("changed", changing)
}

/// Organizations that mark, keep and refuse spam, with a user each.
const ORGANIZATIONS: &str = r#"
[[organization]]
name = "Mark"
domains = ["mark.org"]
[[organization.user]]
address = "marie@mark.org"

[[organization]]
name = "Keep"
domains = ["keep.org"]
spam_action = "quarantine"
[[organization.user]]
address = "marie@keep.org"

[[organization]]
name = "Reject"
domains = ["reject.org"]
spam_action = "reject"
[[organization.user]]
address = "marie@reject.org"
[[organization.user]]
address = "postmaster@reject.org"
[[organization.rule]]
description = "Everything for the postmaster"
affects = ["inbound"]
envelope = { recipients = [{ address = "postmaster@reject.org" }] }
then = { modify = { bypass_spam = true } }
"#;

struct Stage {
    filter: FakeMilter,
    folder: Folder,
    serve: Serve,
}

impl Stage {
    /// A server with a filter that goes by the subject, `more` lines of `[server.filter]`, and these
    /// organizations.
    fn new(more: &str, organizations: &str) -> Self {
        Self::with(by_subject(), more, organizations)
    }

    fn with(script: MilterScript, more: &str, organizations: &str) -> Self {
        let filter = script.start().unwrap();
        let address = filter.address().to_string();
        let folder = Folder::new(&configuration(&address, more, organizations));
        let serve = folder.serve();
        Self { filter, folder, serve }
    }

    /// In order: what is to be written some time later is written.
    fn restart(self) -> Self {
        let Self { filter, folder, serve } = self;
        serve.terminate();
        let serve = folder.serve();
        Self { filter, folder, serve }
    }

    fn send(&self, to: &[&str], subject: &str) -> String {
        self.serve.session("mx").message("a@elsewhere.example", to, letter(subject).as_bytes())
    }

    /// The messages of a mailbox, with LF.
    fn mail(&self, address: &str, sub: &str, count: usize) -> Vec<String> {
        let all = self.folder.mailbox(address, sub, count);
        assert_eq!(all.len(), count, "{all:?}");
        all.into_iter().map(|text| text.replace("\r\n", "\n")).collect()
    }

    /// What is held, as `waypost queue list` tells it.
    fn queue(&self) -> String {
        let ran = waypost(&["queue", &self.folder.configuration(), "list"], "");
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        ran.stdout
    }

    fn explanation(&self, id: &str) -> String {
        let ran = waypost(&["queue", &self.folder.configuration(), "show", id], "");
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        ran.stdout
    }
}

fn configuration(filter: &str, more: &str, organizations: &str) -> String {
    format!(
        "admin = \"127.0.0.1:0\"\n[server.filter]\naddress = \"{filter}\"\n{more}\n{organizations}"
    )
}

fn letter(subject: &str) -> String {
    format!("From: a@elsewhere.example\r\nSubject: {subject}\r\n\r\nHello\r\n..dots\r\n")
}

/// What stands behind our own trace line.
fn behind_trace(message: &str) -> &str {
    let end = message.find("\nReceived: ").map_or(0, |at| at + 1);
    let trace = &message[end..];
    let mut at = 0;
    for (place, line) in trace.split_inclusive('\n').enumerate() {
        if place > 0 && !line.starts_with('\t') {
            break;
        }
        at += line.len();
    }
    &trace[at..]
}

#[test]
fn d17_each_organization_acts_on_the_filters_verdict() {
    let stage = Stage::new("", ORGANIZATIONS);
    let refused = "550 5.7.1 Message refused";
    for (subject, mark, keep, reject) in [
        ("hello", "250", "250", "250"),
        ("spam", "250", "250", refused),
        (
            "gtube",
            "250",
            "250",
            "550 5.7.1 Message refused as spam: a filter says so: Gtube pattern",
        ),
        ("no code", "250", "250", refused),
        ("virus", "250", "250", "550 5.7.1 Message refused: it holds malware"),
        ("discard", "250", "250", refused),
        ("hold", "250", "250", refused),
        ("later", "451 4.7.1 Try again later", "451 4.7.1", "451 4.7.1"),
        ("large", "552 5.3.4 Too many attachments", "552 5.3.4", "552 5.3.4"),
    ] {
        for (organization, want) in [("mark", mark), ("keep", keep), ("reject", reject)] {
            let reply = stage.send(&[&format!("marie@{organization}.org")], subject);
            assert!(reply.starts_with(want), "{subject} {organization}: {reply}");
        }
    }
    // Marked: hello in the inbox; spam, gtube and the plain refusal in Junk.
    let inbox = stage.mail("marie@mark.org", "", 1);
    assert!(inbox[0].contains("Subject: hello\n"), "{inbox:?}");
    let junk = stage.mail("marie@mark.org", ".Junk", 3);
    for letter in &junk {
        assert!(letter.contains("\nX-Spam-Flag: YES\n"), "{letter}");
        assert!(letter.ends_with("\n\nHello\n..dots\n"), "{letter}");
    }
    let told = junk.iter().find(|letter| letter.contains("Subject: spam\n")).unwrap();
    assert!(told.contains("\nX-Spam: Yes\n") && told.contains("\nX-Spamd-Bar: ++++++\n"), "{told}");
    stage.mail("marie@keep.org", "", 1);
    stage.mail("marie@reject.org", "", 1);
    // Kept: of the one that marks virus, discard and hold; of the one that keeps six.
    let queue = stage.queue();
    assert_eq!(queue.matches("marie@mark.org").count(), 3, "{queue}");
    assert_eq!(queue.matches("marie@keep.org").count(), 6, "{queue}");
    assert!(!queue.contains("marie@reject.org"), "{queue}");
    assert_eq!(stage.filter.asked().len(), 27);
    for (finding, count) in
        [("clean", 3), ("spam", 15), ("malware", 3), ("defer", 3), ("refuse", 3), ("unanswered", 0)]
    {
        let name = format!("waypost_filter_answers_total{{finding=\"{finding}\"}}");
        assert_eq!(stage.serve.metric(&name), count, "{finding}");
    }
    assert_eq!(stage.serve.metric("waypost_filter_seconds_count"), 27);
    let refusals = |reason, code, enhanced| {
        stage.serve.metric(&format!(
            "waypost_refusals_total{{at=\"data\",code=\"{code}\",enhanced=\"{enhanced}\",reason=\"{reason}\"}}"
        ))
    };
    assert_eq!(refusals("spam", 550, "5.7.1"), 5);
    assert_eq!(refusals("malware", 550, "5.7.1"), 1);
    assert_eq!(refusals("filter", 451, "4.7.1"), 3);
    stage.serve.log.wait_text("finding=\"malware\"");
}

#[test]
fn d17_one_message_for_several_organizations() {
    let stage = Stage::new("", ORGANIZATIONS);
    let all = ["marie@mark.org", "marie@keep.org", "marie@reject.org", "postmaster@reject.org"];
    let reply = stage.send(&all, "gtube");
    let id = queue_id(&reply);
    stage.mail("marie@mark.org", ".Junk", 1);
    // bypass_spam: it comes as it is.
    let bypassed = stage.mail("postmaster@reject.org", "", 1);
    assert!(!bypassed[0].contains("X-Spam"), "{bypassed:?}");
    // The one that would refuse keeps it: no bounce goes to whom the spam pretends to be from.
    let told = stage.explanation(id);
    assert!(told.contains("spam_action = \"reject\", and the filter says spam"), "{told}");
    let queue = stage.queue();
    assert!(
        queue.contains("marie@keep.org and 1 more") && queue.ends_with("1 message\n"),
        "{queue}"
    );
    assert_eq!(stage.filter.asked().len(), 1, "asked once for all");
    assert_eq!(stage.filter.asked()[0].recipients.len(), 4);
    // A released message goes its way.
    let ran = waypost(&["queue", &stage.folder.configuration(), "release", id], "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    stage.folder.mailbox("marie@keep.org", "", 1);
}

#[test]
fn d17_fields_of_the_filter_stand_on_top_and_the_rest_is_untouched() {
    let stage = Stage::new("", ORGANIZATIONS);
    queue_id(&stage.send(&["marie@mark.org"], "signed"));
    let came = stage.mail("marie@mark.org", "", 1).remove(0);
    let behind = behind_trace(&came);
    let want = "DKIM-Signature: v=1; a=rsa-sha256;\n\tb=abc\n\tdef\nX-Spam-Status: No, score=-1.0\n\
                X-Note: =?utf-8?B?w6k=?=\nFrom: a@elsewhere.example\nSubject: signed\n\nHello\n..dots\n";
    assert_eq!(behind, want);
    // What the filter was shown are the message's own octets.
    let asked = stage.filter.asked().remove(0);
    assert_eq!(asked.body, b"Hello\r\n..dots\r\n");
    assert_eq!(asked.fields.len(), 2, "{asked:?}");
}

#[test]
fn b1_b3_what_the_filter_takes_without_a_word_leaves_as_it_came() {
    let sink = Sink::start();
    let relay = format!(
        "[[organization]]\nname = \"S\"\ndomains = [\"s.org\"]\nlicences = 250\n\
         outbound_gateway = \"{}\"\n[[organization.user]]\naddress = \"marie@s.org\"\n\
         [[organization.relay]]\ndescription = \"Loopback\"\nallowed_senders = \"my-domains\"\n\
         addresses = [{{ range = \"127.0.0.1\" }}]\nrequire_tls = false\n",
        sink.address
    );
    let stage = Stage::new("", &relay);
    let octets = b"Subject:  odd   blanks \r\nX-Spam: No\r\nx: \t y\r\n\r\n.\r\n..\r\n\x80\xff\r\n";
    let mut client = stage.serve.session("relay");
    let reply = client.message("marie@s.org", &["x@elsewhere.example"], octets);
    queue_id(&reply);
    assert_eq!(sink.only().behind_trace(), octets);
    let asked = stage.filter.asked().remove(0);
    assert_eq!(asked.body, b".\r\n..\r\n\x80\xff\r\n");
    assert_eq!(
        (asked.sender.as_str(), asked.recipients.len()),
        ("marie@s.org", 1),
        "relayed mail is filtered"
    );
}

#[test]
fn d17_changes_to_the_messages_own_fields_take_a_switch() {
    for (more, subject, spam, other) in [
        ("", "Subject: changed\n", true, "X-Other: old\n"),
        ("header = \"all\"", "Subject: [SPAM] changed\n", false, "X-Other: new\n"),
    ] {
        let stage = Stage::new(more, ORGANIZATIONS);
        let message = letter("changed")
            .replace("\r\n\r\n", "\r\nX-Spam: forged\r\n\tfold\r\nX-Other: old\r\n\r\n");
        let reply = stage.serve.session("mx").message(
            "a@b.example",
            &["marie@mark.org"],
            message.as_bytes(),
        );
        let told = stage.serve.log.clone();
        let id = queue_id(&reply).to_owned();
        let came = stage.mail("marie@mark.org", "", 1).remove(0);
        assert!(came.contains(subject) && came.contains(other), "{more}: {came}");
        assert_eq!(came.contains("X-Spam: forged\n\tfold\n"), spam, "{more}: {came}");
        assert!(came.ends_with("\n\nHello\n..dots\n"), "{came}");
        told.wait_text(&id);
    }
}

#[test]
fn d17_a_filter_that_is_down_defers_or_is_done_without_and_comes_back() {
    let nobody = reserved();
    for (more, want) in [("", "451 4.7.1"), ("on_failure = \"accept\"", "250")] {
        let folder = Folder::new(&configuration(&format!("milter:{nobody}"), more, ORGANIZATIONS));
        let serve = folder.serve();
        let send = || {
            let mut client = serve.session("mx");
            client.message("a@b.example", &["marie@reject.org"], letter("gtube").as_bytes())
        };
        let reply = send();
        assert!(reply.starts_with(want), "{more}: {reply}");
        serve.log.wait_text("the filter gave no answer");
        let unanswered = "waypost_filter_answers_total{finding=\"unanswered\"}";
        assert_eq!(serve.metric(unanswered), 1);
        // A reload names another one, which is asked at once.
        let filter = by_subject().start().unwrap();
        let address = filter.address().to_string();
        folder.configure(&configuration(&address, more, ORGANIZATIONS));
        serve.signal("HUP");
        serve.log.wait_text("reloaded");
        let reply = send();
        assert!(reply.starts_with("550 5.7.1 Message refused as spam"), "{reply}");
        assert_eq!(serve.metric(unanswered), 1);
        // And one without any asks nobody.
        folder.configure(&format!("admin = \"127.0.0.1:0\"\n{ORGANIZATIONS}"));
        serve.signal("HUP");
        serve.log.wait_for("the second reload", |line| {
            line.contains("reloaded") && !line.contains(address.as_str())
        });
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !send().starts_with("250") {
            assert!(std::time::Instant::now() < until, "the filter is still asked");
        }
    }
}

#[test]
fn d17_a_slow_filter_has_its_time() {
    let silent = MilterPhase::Step(Step::EndOfMessage);
    let script = by_subject().first(1, silent, MilterFault::Silent);
    let stage = Stage::with(script, "timeout = \"5s\"", ORGANIZATIONS);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| stage.send(&["marie@mark.org"], "hello"));
        stage.filter.wait(1).unwrap();
        // Others are not held up by it.
        queue_id(&stage.send(&["marie@mark.org"], "hello"));
        let reply = waits.join().unwrap();
        assert!(reply.starts_with("451 4.7.1 The message cannot be filtered now"), "{reply}");
    });
    stage.serve.log.wait_text("gave no verdict within 5s");
}

#[test]
fn e2_e10_e11_the_filter_is_told_the_source_behind_a_gateway() {
    let gateway = |more: &str| {
        format!(
            "[organization.inbound_gateway]\naddresses = [\"127.0.0.1\"]\nallow_private = true\n\
             detect_external_ip = true\n{more}"
        )
    };
    let mut organizations = String::new();
    for (name, gateway) in [
        ("plain", String::new()),
        ("gated", gateway("allow_list = [\"203.0.113.9\"]\n")),
        ("tagged", gateway("spam_tag = { regex = '^X-Gw: spam$' }\nonly_spam_tag = true\n")),
    ] {
        organizations.push_str(&format!(
            "[[organization]]\nname = \"{name}\"\ndomains = [\"{name}.org\"]\nspam_action = \"reject\"\n\
             [[organization.user]]\naddress = \"marie@{name}.org\"\n{gateway}"
        ));
    }
    let stage = Stage::new("", &organizations);
    let send = |to: &[&str], source: &str, subject: &str| {
        let received = format!("Received: from x (y [{source}]) by gw.example; now\r\n");
        let message = received + &letter(subject);
        stage.serve.session("mx").message("a@b.example", to, message.as_bytes())
    };
    let clients = || {
        let asked = stage.filter.asked().into_iter();
        asked.map(|one| one.address.unwrap().to_string()).collect::<Vec<_>>()
    };
    assert!(send(&["marie@plain.org"], "203.0.113.9", "gtube").starts_with("550 5.7.1"));
    assert_eq!(clients(), ["127.0.0.1"]);
    // On the allow list (E11).
    queue_id(&send(&["marie@gated.org"], "203.0.113.9", "gtube"));
    let asked = stage.filter.asked().pop().unwrap();
    assert_eq!(asked.address, "203.0.113.9".parse().ok());
    assert_eq!(asked.facts["gateway_addr"], "127.0.0.1");
    assert!(send(&["marie@gated.org"], "203.0.113.10", "gtube").starts_with("550 5.7.1"));
    assert_eq!(clients()[2], "203.0.113.10");
    // Malware is no spam: the allow list is not for it.
    assert!(send(&["marie@gated.org"], "203.0.113.9", "virus").starts_with("550 5.7.1"));
    // The tag alone decides (E10).
    queue_id(&send(&["marie@tagged.org"], "203.0.113.10", "gtube"));
    // Two sources: the filter is asked of each, and each organization hears its own answer.
    let before = clients().len();
    let reply = send(&["marie@plain.org", "marie@gated.org"], "203.0.113.9", "gtube");
    let told = stage.explanation(queue_id(&reply));
    assert!(told.contains("marie@plain.org is kept"), "{told}");
    let mut asked = clients().split_off(before);
    asked.sort();
    assert_eq!(asked, ["127.0.0.1", "203.0.113.9"]);
    stage.mail("marie@gated.org", "", 2);
}

/// An organization whose users relay with a password, and its administrators.
fn relaying(more: &str) -> String {
    let ran = waypost(&["hash-password"], "correct horse");
    let hash = ran.stdout.trim().to_owned();
    format!(
        "[[organization]]\nname = \"S\"\ndomains = [\"s.org\"]\nlicences = 250\n{more}\
         [[organization.user]]\naddress = \"marie@s.org\"\npassword = \"{hash}\"\n\
         [[organization.user]]\naddress = \"jean@s.org\"\npassword = \"{hash}\"\n\
         [[organization.relay]]\ndescription = \"Users\"\nallowed_senders = \"registered-users\"\n\
         require_auth = true\nrequire_tls = true\n"
    )
}

fn submitting(stage: &Stage, user: &str) -> SmtpClient {
    let client = stage.serve.session("relay");
    let mut client = client.start_tls(stage.folder.certificate(), "client.s.org");
    let reply = client.auth_plain(user, "correct horse");
    assert!(reply.starts_with("235"), "{reply}");
    client
}

#[test]
fn d17_the_filter_is_told_who_sends_and_how() {
    let stage = Stage::new("", &relaying("spam_action = \"reject\"\n"));
    let mut client = submitting(&stage, "marie@s.org");
    let reply = client.message("marie@s.org", &["jean@s.org"], letter("hello").as_bytes());
    let asked = stage.filter.asked().remove(0);
    assert_eq!(asked.facts["auth_authen"], "marie@s.org");
    assert_eq!(asked.facts["tls_version"], "TLSv1.3");
    assert!(asked.facts["cipher"].starts_with("TLS13_"), "{asked:?}");
    assert_eq!(asked.facts["i"], queue_id(&reply));
    assert_eq!(asked.facts["j"], HOSTNAME);
    assert_eq!(asked.helo, "client.s.org");
    assert_eq!(
        (asked.sender.as_str(), asked.recipients[0].as_str()),
        ("marie@s.org", "jean@s.org")
    );
    let reply = client.message("marie@s.org", &["x@b.example"], letter("gtube").as_bytes());
    assert!(reply.starts_with("550 5.7.1 Message refused as spam"), "{reply}");
}

#[test]
fn d17_administrators_are_told_of_much_spam_once_a_user_and_day() {
    for action in ["mark", "reject"] {
        let more = format!("spam_action = \"{action}\"\nabuse_threshold = 3\n");
        let stage = Stage::new("", &relaying(&more));
        let told = || stage.serve.metric("waypost_abuse_told_total");
        let spam = |client: &mut SmtpClient, user: &str, subject: &str| {
            client.message(user, &["x@127.0.0.1.invalid"], letter(subject).as_bytes());
        };
        let mut marie = submitting(&stage, "marie@s.org");
        // What is no spam, and inbound spam in her name, does not count against her.
        spam(&mut marie, "marie@s.org", "hello");
        for _ in 0..3 {
            let mut stranger = stage.serve.session("mx");
            stranger.message("marie@s.org", &["jean@s.org"], letter("gtube").as_bytes());
        }
        for subject in ["spam", "virus"] {
            spam(&mut marie, "marie@s.org", subject);
        }
        assert_eq!(told(), 0, "{action}: below the threshold");
        let mut jean = submitting(&stage, "jean@s.org");
        spam(&mut jean, "jean@s.org", "spam");
        assert_eq!(told(), 0, "{action}: each user counts alone");
        spam(&mut marie, "marie@s.org", "gtube");
        assert_eq!(told(), 1, "{action}");
        stage.serve.log.wait_text("3 messages that marie@s.org relayed in the last 24 hours");
        for _ in 0..4 {
            spam(&mut marie, "marie@s.org", "gtube");
        }
        assert_eq!(told(), 1, "{action}: once a user and day");
        for _ in 0..2 {
            spam(&mut jean, "jean@s.org", "gtube");
        }
        assert_eq!(told(), 2, "{action}");
    }
}

#[test]
fn d17_spam_is_counted_and_told_once_over_a_restart() {
    let more = "administrators = [\"jean@s.org\"]\nspam_action = \"reject\"\nabuse_threshold = 3\n";
    let stage = Stage::new("", &relaying(more));
    let spam = |stage: &Stage, count: usize| {
        let mut marie = submitting(stage, "marie@s.org");
        for _ in 0..count {
            marie.message("marie@s.org", &["x@127.0.0.1.invalid"], letter("gtube").as_bytes());
        }
    };
    let told = |stage: &Stage| stage.serve.metric("waypost_abuse_told_total");
    spam(&stage, 2);
    let stage = stage.restart();
    spam(&stage, 1);
    assert_eq!(told(&stage), 1, "two were sent before");
    let mail = stage.mail("jean@s.org", "", 1);
    assert!(mail[0].contains("3 messages that marie@s.org relayed"), "{mail:?}");
    let stage = stage.restart();
    spam(&stage, 4);
    assert_eq!(told(&stage), 0, "once a day");
    stage.serve.terminate();
    assert_eq!(stage.folder.mailbox_size("jean@s.org", ""), 1);
}

#[test]
fn c9_what_the_filter_said_is_recorded_and_replayed() {
    for local_parts in ["plain", "hashed"] {
        let record =
            format!("record = {{ file = \"envelopes.jsonl\", local_parts = \"{local_parts}\" }}\n");
        let filter = by_subject().start().unwrap();
        let address = filter.address().to_string();
        let with_record =
            |organizations: &str| record.clone() + &configuration(&address, "", organizations);
        let folder = Folder::new(&with_record(ORGANIZATIONS));
        let serve = folder.serve();
        for subject in ["hello", "spam", "gtube", "virus", "large"] {
            for to in ["marie@mark.org", "marie@keep.org", "marie@reject.org"] {
                let mut client = serve.session("mx");
                client.message("a@b.example", &[to], letter(subject).as_bytes());
            }
        }
        serve.terminate();
        let diff = |new: &str| {
            folder.write("new.toml", &format!("{}{}", support::serving::head(), with_record(new)));
            let (old, new) = (folder.configuration(), folder.path("new.toml"));
            let (new, lines) = (new.to_string_lossy(), folder.path("envelopes.jsonl"));
            let ran = waypost(&["diff", "--messages", &lines.to_string_lossy(), &old, &new], "");
            (ran.status, ran.stdout + &ran.stderr)
        };
        let (status, text) = diff(ORGANIZATIONS);
        assert_eq!(status, 0, "{local_parts}: {text}");
        // Another action for spam: the recorded answers decide anew.
        let (status, text) = diff(&ORGANIZATIONS.replace("\"quarantine\"", "\"reject\""));
        assert_eq!(status, 1, "{local_parts}: {text}");
        assert!(text.contains("keep.org"), "{text}");
    }
}
