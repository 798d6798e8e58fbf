//! The client of filters against the kit's own filter (D17).

use std::time::Duration;

use waypost_milter::{Actions, Modification, Options, Step, Steps};
use waypost_net::milter::{
    FilterAction, FilterError, FilterQuestion, FilterVerdict, Ignored, MilterAddress, MilterClient,
    MilterLimits, TlsFacts,
};
use waypost_net::test_kit::{FakeMilter, MilterAnswer, MilterFault, MilterPhase, MilterScript};
use waypost_smtp::end_of_data::stuff;
use waypost_types::{Domain, Mailbox, QueueId, Reply, ReversePath};

struct Message {
    own: Domain,
    sender: ReversePath,
    recipients: Vec<Mailbox>,
    stored: Vec<u8>,
}

impl Message {
    fn new(body: &str) -> Self {
        let text = format!("From: a@elsewhere.example\r\nSubject: one\r\n two\r\n\r\n{body}\r\n");
        let mailbox = |text: &str| text.parse::<Mailbox>().unwrap();
        Self {
            own: "mx.solarmora.com".parse().unwrap(),
            sender: ReversePath::Mailbox(mailbox("a@elsewhere.example")),
            recipients: vec![mailbox("marie@solarmora.com"), mailbox("paul@solarmora.com")],
            stored: stuff(text.as_bytes()).into_owned(),
        }
    }

    fn question(&self) -> FilterQuestion<'_> {
        let client = "192.0.2.25".parse().unwrap();
        FilterQuestion::new(&self.own, client, &self.sender, &self.recipients, &self.stored)
    }
}

fn client(filter: &FakeMilter) -> MilterClient {
    MilterClient::new(filter.address(), MilterLimits::default())
}

async fn ask(client: &MilterClient, body: &str) -> Result<FilterVerdict, FilterError> {
    client.filter(&Message::new(body).question()).await
}

fn spam() -> Reply {
    Reply::new(554, (5, 7, 1), "Spam")
}

#[tokio::test]
async fn a_message_is_judged_by_what_stands_in_it_d17() {
    let field = |name, value| MilterAnswer::accept().field(name, value).unwrap();
    let later = Reply::new(451, (4, 7, 1), "Later");
    let filter = MilterScript::new()
        .token("GTUBE", MilterAnswer::refuse(spam()))
        .token("pills", field("X-Spam", "Yes"))
        .token("virus", MilterAnswer::quarantine("EICAR").field("X-Virus", "EICAR").unwrap())
        .token("slow", MilterAnswer::refuse(later.clone()))
        .token("nothing", MilterAnswer::discard())
        .start()
        .unwrap();
    let client = client(&filter);
    for (body, action, because) in [
        ("hello", FilterAction::Accept, "the filter answered `continue` to end of message"),
        ("GTUBE", FilterAction::Reject(spam()), ": 554 5.7.1 Spam"),
        ("cheap pills", FilterAction::Accept, "; X-Spam: Yes"),
        ("a virus", FilterAction::Quarantine("EICAR".into()), "quarantine: EICAR; X-Virus: EICAR"),
        ("slow", FilterAction::TempFail(later), ": 451 4.7.1 Later"),
        ("nothing", FilterAction::Discard, "`discard`"),
    ] {
        let verdict = ask(&client, body).await.unwrap();
        assert_eq!(verdict.action, action, "{body}");
        assert!(verdict.reason.contains(because), "{body}: {}", verdict.reason);
    }
    assert_eq!(filter.connections(), 3, "used again behind `continue` alone");
    assert_eq!(filter.faults(), [""; 0]);
}

#[tokio::test]
async fn a_filter_is_told_the_source_and_all_that_is_known_d17_e2() {
    let filter = MilterScript::new().start().unwrap();
    let message = Message::new(".\r\n..\r\n.dot");
    let mut question = message.question();
    question.source_ip = Some("2001:db8::9".parse().unwrap());
    question.host_name = Some("out.elsewhere.example");
    question.port = 4711;
    question.helo = Some("client.example");
    question.auth = Some("marie@solarmora.com");
    question.queue_id = Some(QueueId::new(7));
    question.tls = Some(TlsFacts { version: "TLSv1.3", cipher: "TLS_X", bits: 256 });
    client(&filter).filter(&question).await.unwrap();
    let asked = &filter.asked()[0];
    assert_eq!(asked.address, Some("2001:db8::9".parse().unwrap()));
    assert_eq!((asked.host_name.as_str(), asked.port), ("out.elsewhere.example", 4711));
    assert_eq!(asked.helo, "client.example");
    assert_eq!(asked.sender, "a@elsewhere.example");
    assert_eq!(asked.recipients, ["marie@solarmora.com", "paul@solarmora.com"]);
    assert_eq!(asked.field("subject"), Some("one\n two"));
    assert_eq!(asked.body, b".\r\n..\r\n.dot\r\n", "without the stuffed dots, with CR LF");
    assert!(asked.is_whole);
    for (name, value) in [
        ("gateway_addr", "192.0.2.25"),
        ("client_addr", "2001:db8::9"),
        ("auth_authen", "marie@solarmora.com"),
        ("tls_version", "TLSv1.3"),
        ("i", "0000000000007"),
        ("j", "mx.solarmora.com"),
        ("mail_addr", "a@elsewhere.example"),
        ("rcpt_addr", "paul@solarmora.com"),
    ] {
        assert_eq!(asked.facts.get(name).map(String::as_str), Some(value), "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn a_large_message_comes_whole() {
    let filter = MilterScript::new().start().unwrap();
    let body = format!(".{}\r\n..x", "0123456789\r\n.".repeat(100_000));
    ask(&client(&filter), &body).await.unwrap();
    assert!(filter.asked()[0].body == format!("{body}\r\n").as_bytes());
}

#[tokio::test]
async fn it_listens_on_a_unix_socket_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("milter.sock");
    let filter =
        MilterScript::new().token("GTUBE", MilterAnswer::refuse(spam())).start_at(&path).unwrap();
    let address: MilterAddress = format!("milter:unix:{}", path.display()).parse().unwrap();
    assert_eq!(filter.address(), address);
    let client = MilterClient::new(address.clone(), MilterLimits::default());
    for _ in 0..3 {
        assert_eq!(ask(&client, "hello").await.unwrap().action, FilterAction::Accept);
    }
    assert_eq!(filter.connections(), 1);
    assert_eq!(ask(&client, "GTUBE").await.unwrap().action, FilterAction::Reject(spam()));
    drop(filter);
    let error = ask(&client, "x").await.unwrap_err();
    assert!(matches!(error, FilterError::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn an_old_filter_is_asked_over_a_connection_each() {
    for version in [2, 3, 4] {
        let options = Options::new(version, Actions(0x3f), Steps(0));
        let filter = MilterScript::new().options(options).start().unwrap();
        let client = client(&filter);
        for _ in 0..2 {
            assert_eq!(ask(&client, "x").await.unwrap().action, FilterAction::Accept);
        }
        assert_eq!(filter.connections(), 2, "version {version}");
        assert_eq!(filter.faults(), [""; 0]);
    }
}

#[tokio::test]
async fn what_a_filter_leaves_out_is_not_told() {
    let steps = Steps::NO_BODY.and(Steps::NO_HELO).and(Steps::NO_REPLY_HEADER);
    let options = Options::new(6, Actions::ALL, steps);
    let filter = MilterScript::new().options(options).start().unwrap();
    ask(&client(&filter), "x").await.unwrap();
    let asked = &filter.asked()[0];
    assert!(asked.body.is_empty() && asked.helo.is_empty(), "{asked:?}");
    assert_eq!(asked.fields.len(), 2);
}

#[tokio::test]
async fn what_was_not_offered_is_reported() {
    let change = Modification::AddRecipient { address: "<x@y>".into(), parameters: None };
    let answer = MilterAnswer::accept().change(change).change(Modification::Body(vec![b'x'; 9]));
    let filter = MilterScript::new().otherwise(answer).start().unwrap();
    let verdict = ask(&client(&filter), "x").await.unwrap();
    assert_eq!(verdict.ignored, [Ignored::AddRecipient("<x@y>".into()), Ignored::Body(9)]);
}

/// Each fault of a filter at each phase: an error that names the filter and what it owed.
#[tokio::test]
async fn each_fault_has_an_error_that_names_the_filter_d17() {
    let header = MilterPhase::Step(Step::Header);
    let end = MilterPhase::Step(Step::EndOfMessage);
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    for (phase, fault, want) in [
        (
            MilterPhase::Options,
            MilterFault::Drop,
            "broke off: it closed the connection while it owed the answer to options",
        ),
        (header, MilterFault::Drop, "while it owed the answer to header field"),
        (end, MilterFault::Drop, "while it owed the answer to end of message"),
        (end, MilterFault::Half, "while it owed the answer to end of message"),
        (MilterPhase::Options, MilterFault::Half, "broke off"),
        (
            MilterPhase::Options,
            MilterFault::Bytes(http.clone()),
            "a frame of 1213486160 octets came",
        ),
        (end, MilterFault::Bytes(http), "does not keep to the milter protocol"),
        (end, MilterFault::Bytes(b"\0\0\0\x01z".to_vec()), "a frame `z` came"),
        (end, MilterFault::Bytes(b"\0\0\0\x0chX\0a\nBcc: x\0".to_vec()), "field of its own"),
        (header, MilterFault::Bytes(b"\0\0\0\x05hX\0a\0".to_vec()), "in answer to header field"),
    ] {
        let filter = MilterScript::new().at(phase, fault.clone()).start().unwrap();
        let error = ask(&client(&filter), "x").await.unwrap_err().to_string();
        assert!(error.contains(want), "{phase:?} {fault:?}: {error}");
        assert!(error.contains(&filter.address().to_string()), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_an_error_with_its_cure() {
    let filter = MilterScript::new().start().unwrap();
    let client = client(&filter);
    drop(filter);
    let error = ask(&client, "x").await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("`[server] filter`"), "{error}");
}

#[tokio::test]
async fn a_silent_filter_is_given_its_time_and_no_more() {
    let hour = Duration::from_secs(3600);
    for (phase, dialogue, owed) in [
        (MilterPhase::Options, Duration::from_millis(60), "options"),
        (MilterPhase::Step(Step::EndOfMessage), hour, "end of message"),
    ] {
        let filter = MilterScript::new().at(phase, MilterFault::Silent).start().unwrap();
        let limits = MilterLimits { dialogue, ..MilterLimits::default() };
        let client = MilterClient::new(filter.address(), limits);
        let asking = ask(&client, "x");
        // The hour is over as soon as the filter has heard all, however long that took.
        let over = async {
            while dialogue == hour && filter.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            if dialogue == hour {
                tokio::time::pause();
                tokio::time::advance(hour).await;
            }
        };
        let (asked, ()) = tokio::join!(asking, over);
        let error = asked.unwrap_err();
        assert!(matches!(error, FilterError::Time { .. }), "{error}");
        assert!(error.to_string().contains(&format!("owed the answer to {owed}")), "{error}");
        assert!(error.to_string().contains(&format!("within {dialogue:?}")), "{error}");
    }
}

#[tokio::test]
async fn a_slow_filter_is_waited_for() {
    let end = MilterPhase::Step(Step::EndOfMessage);
    let slow = MilterFault::Slow(Duration::from_millis(1));
    let answer = MilterAnswer::refuse(spam()).field("X-Spam", "Yes").unwrap();
    let filter = MilterScript::new().otherwise(answer).at(end, slow).start().unwrap();
    let verdict = ask(&client(&filter), "x").await.unwrap();
    assert_eq!(verdict.action, FilterAction::Reject(spam()));
    assert_eq!(verdict.field("X-Spam").unwrap().as_str(), "Yes");
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_nothing() {
    let filter = MilterScript::new().start().unwrap();
    let client = client(&filter);
    for round in 1..=3 {
        ask(&client, "x").await.unwrap();
        assert_eq!(filter.connections(), round);
        filter.drop_connections();
    }
    assert_eq!(filter.asked().len(), 3);
}

#[tokio::test]
async fn an_idle_connection_grows_old() {
    let filter = MilterScript::new().start().unwrap();
    let limits = MilterLimits { idle: Duration::ZERO, ..MilterLimits::default() };
    let client = MilterClient::new(filter.address(), limits);
    for _ in 0..2 {
        ask(&client, "x").await.unwrap();
    }
    assert_eq!(filter.connections(), 2);
}

#[tokio::test]
async fn no_more_are_connected_at_once_than_may_be_and_the_others_wait_d17() {
    let end = MilterPhase::Step(Step::EndOfMessage);
    let filter = MilterScript::new().at(end, MilterFault::Silent).start().unwrap();
    let limits = MilterLimits { at_once: 2, ..MilterLimits::default() };
    let client = MilterClient::new(filter.address(), limits);
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask(&client, "x").await.map(|verdict| verdict.action) })
        })
        .collect();
    // Both that may are there before anybody is answered.
    while filter.asked().len() < 2 {
        tokio::task::yield_now().await;
    }
    filter.release();
    for one in asked {
        assert_eq!(one.await.unwrap().unwrap(), FilterAction::Accept);
    }
    assert_eq!(filter.most_at_once(), 2);
    assert_eq!(filter.asked().len(), 8);
}

/// Time is simulated, so that both have waited equally long.
#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_that_the_filter_was_busy() {
    let end = MilterPhase::Step(Step::EndOfMessage);
    let filter = MilterScript::new().at(end, MilterFault::Silent).start().unwrap();
    let dialogue = Duration::from_millis(80);
    let limits = MilterLimits { at_once: 1, dialogue, ..MilterLimits::default() };
    let client = MilterClient::new(filter.address(), limits);
    let (one, other) = tokio::join!(ask(&client, "x"), ask(&client, "x"));
    let errors = [one.unwrap_err(), other.unwrap_err()];
    assert!(
        errors.iter().any(|error| matches!(error, FilterError::Busy { at_once: 1, .. })),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_question_given_up_harms_no_other() {
    let end = MilterPhase::Step(Step::EndOfMessage);
    let filter = MilterScript::new().first(1, end, MilterFault::Silent).start().unwrap();
    let limits = MilterLimits { at_once: 1, ..MilterLimits::default() };
    let client = MilterClient::new(filter.address(), limits);
    let own = client.clone();
    let given_up = tokio::spawn(async move { ask(&own, "x").await.map(|_| ()) });
    while filter.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(ask(&client, "x").await.unwrap().action, FilterAction::Accept);
    assert_eq!(filter.connections(), 2, "the one given up was closed");
}

#[test]
fn a_question_can_be_asked_from_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    let client = MilterClient::new("milter:127.0.0.1:1".parse().unwrap(), MilterLimits::default());
    let message = Message::new("x");
    let question = message.question();
    is_send(&client.filter(&question));
}
