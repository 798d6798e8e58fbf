//! Notices as they are sent: one file of `testdata/` a case (RFC 3461 to 3464, RFC 6533).

use std::time::Duration;

use waypost_types::{
    Body as BodyType, Destination, Failure, FailureScope, Notify, Outcome, QueueId, Reply, Ret,
    Timestamp,
};

use crate::testing::{at, deferred, delivered, entry, failed, host_down, owed};
use crate::{Ended, Entry, Handover, Hold, Limits, Queue, Schedule};

const HOUR: u64 = 3600;
const ORIGINAL: &str = "From: s@f.example\r\nSubject: An offer\r\n\r\n..a line\r\nThe end\r\n";

fn asked(success: bool, failure: bool, delay: bool) -> Notify {
    Notify::On { success, failure, delay }
}

fn insecure() -> Outcome {
    let text = "the certificate of mx.example is not made out to it";
    let reply = Reply::new(550, (5, 7, 5), text);
    let host = "mx.example:25".parse().ok();
    Outcome::Failed(Failure { scope: FailureScope::Tls, host, reply })
}

/// One message, the outcomes of one attempt at an hour, and what its sender is sent.
struct Case {
    entry: Entry,
    original: String,
    hour: u64,
    outcomes: Vec<(Outcome, Handover)>,
}

impl Case {
    fn new(to: &[&str], outcomes: Vec<Outcome>) -> Self {
        let outcomes = outcomes.into_iter().map(|outcome| (outcome, Handover::default())).collect();
        Self { entry: entry(1, "s@f.example", to), original: ORIGINAL.into(), hour: 1, outcomes }
    }

    fn at(self, hour: u64) -> Self {
        Self { hour, ..self }
    }

    fn with(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        change(&mut self.entry);
        self
    }

    fn notify(self, notify: Notify) -> Self {
        let all = |owed: &mut crate::Owed| owed.delivery.notify = notify;
        self.with(|entry| entry.deliveries.iter_mut().for_each(all))
    }

    fn handed_over(mut self, handover: Handover) -> Self {
        self.outcomes.iter_mut().for_each(|(_, how)| *how = handover);
        self
    }

    /// The notice; it is committed with the attempt's events, and no second one follows from it.
    fn notice(self) -> Option<(Entry, String)> {
        let Case { mut entry, original, hour, outcomes } = self;
        let end = original.find("\r\n\r\n").unwrap() + 4;
        entry.size = u64::try_from(original.len()).unwrap();
        entry.header_size = u64::try_from(end).unwrap();
        let now: Timestamp = at(hour * HOUR);
        let limits =
            Limits { delay_notice: Some(Duration::from_secs(4 * HOUR)), ..Limits::default() };
        let mut queue = Queue::new(limits);
        assert_eq!(queue.accept(entry, None, at(0)), Ok(None));
        let work = queue.take(now)?;
        let ended = |(place, (outcome, handover)): (u32, (Outcome, Handover))| Ended {
            handover,
            ..Ended::new(place, outcome)
        };
        let results = (0..).zip(outcomes).map(ended).collect();
        let notice = queue.finished(work, results, &Schedule::default(), now).notice?;
        let host = "mx.here.example".parse().unwrap();
        let (bounce, body) =
            notice.compose(QueueId::new(2), &host, original.as_bytes(), Destination::Mx);
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(bounce.sender.is_null() && bounce.deliveries.len() == 1);
        assert_eq!(bounce.size, u64::try_from(text.len()).unwrap());
        let header = usize::try_from(bounce.header_size).unwrap();
        assert!(text[..header].ends_with("\r\n\r\n"));
        assert!(
            text.split_terminator("\r\n")
                .all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
        );
        let eight_bit = bounce.parameters.body == BodyType::EightBitMime;
        assert_eq!(eight_bit, !text.is_ascii());
        let mut queue = Queue::new(Limits::default());
        assert_eq!(queue.accept(bounce.clone(), None, now), Ok(None));
        let work = queue.take(now)?;
        let results = vec![Ended::new(0, failed(550, "no"))];
        assert!(queue.finished(work, results, &Schedule::default(), now).notice.is_none());
        Some((bounce, text))
    }
}

#[test]
fn each_notice_is_as_its_golden_file_rfc_3464() {
    let one = || vec!["a@x.example"];
    let cases = [
        (
            "failure",
            Case::new(
                &["a@x.example", "b@x.example"],
                vec![failed(550, ".no such\nuser: \u{e9}"), failed(552, "full")],
            )
            .with(|entry| {
                entry.parameters.envid = Some("QQ+2B314".into());
                entry.deliveries[0].delivery.orcpt = Some("rfc822;old+2Da@x.example".into());
                entry.deliveries[1].delivery.recipient = "b2@x.example".parse().unwrap();
            }),
        ),
        ("failure-whole", {
            let whole = |entry: &mut Entry| entry.parameters.ret = Some(Ret::Full);
            Case::new(&one(), vec![failed(554, "not like this")]).with(whole)
        }),
        ("failure-header", {
            let header = |entry: &mut Entry| entry.parameters.ret = Some(Ret::Headers);
            Case::new(&one(), vec![failed(554, "not like this")]).with(header)
        }),
        (
            "several",
            Case::new(
                &["a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example"],
                vec![
                    failed(550, "gone"),
                    delivered(),
                    host_down(),
                    delivered(),
                    failed(550, "gone"),
                ],
            )
            .with(|entry| {
                entry.deliveries[2].delivery.notify = asked(false, true, true);
                entry.deliveries[3].delivery.notify = asked(true, false, false);
                entry.deliveries[4].delivery.notify = Notify::Never;
            })
            .handed_over(Handover::Relayed)
            .at(5),
        ),
        ("expired", Case::new(&one(), vec![host_down()]).at(5 * 24)),
        ("insecure", Case::new(&one(), vec![insecure()])),
        (
            "delay",
            Case::new(&one(), vec![deferred("greylisted")]).notify(asked(false, true, true)).at(4),
        ),
        (
            "relayed",
            Case::new(&one(), vec![delivered()])
                .notify(asked(true, true, false))
                .handed_over(Handover::Relayed)
                .with(|entry| entry.parameters.ret = Some(Ret::Full)),
        ),
        (
            "delivered",
            Case::new(&one(), vec![delivered()])
                .notify(asked(true, false, false))
                .handed_over(Handover::Final),
        ),
        ("utf8", {
            let case = Case::new(
                &["\u{e9}mile@x.example", "a@x.example"],
                vec![failed(553, "n\u{e3}o"), failed(550, "no")],
            );
            let original = "From: s@f.example\r\nSubject: \u{e9}t\u{e9}\r\n\r\nx\r\n".into();
            Case { original, ..case }.with(|entry| {
                entry.parameters.smtputf8 = true;
                entry.deliveries[0].delivery.orcpt = Some("utf-8;\\x{E9}mile@x.example".into());
            })
        }),
        ("utf8-whole", {
            let case = Case::new(&["\"\u{e9} x+y\"@x.example"], vec![failed(553, "no")]);
            let original = "From: s@f.example\r\nSubject: \u{e9}t\u{e9}\r\n\r\nx\r\n".into();
            Case { original, ..case }.with(|entry| {
                entry.parameters.smtputf8 = true;
                entry.parameters.ret = Some(Ret::Full);
            })
        }),
        ("utf8-sender", {
            let mut case = Case::new(&one(), vec![failed(550, "no")]);
            case.entry.sender = "\u{e9}va@f.example".parse().unwrap();
            case.entry.deliveries = vec![owed("\u{e9}va@f.example", "a@x.example")];
            case
        }),
    ];
    for (name, case) in cases {
        let utf8 = name == "utf8-sender";
        let (bounce, text) = case.notice().unwrap_or_else(|| panic!("{name}: no notice"));
        assert_eq!(bounce.parameters.smtputf8, utf8, "{name}: for its own header alone");
        golden(&format!("{name}.eml"), &text);
    }
}

#[test]
fn nobody_is_told_rfc_3461_c6() {
    let case = |outcome| Case::new(&["a@x.example"], vec![outcome]);
    let failed = || failed(550, "no");
    let quarantine = || Hold::Quarantine { name: "q".into(), because: "a rule".into() };
    for (what, case) in [
        ("NOTIFY=NEVER", case(failed()).notify(Notify::Never)),
        ("success asked for alone", case(failed()).notify(asked(true, false, false))),
        ("a delay nobody asked for", case(deferred("later")).at(5)),
        ("a delay too young", case(deferred("later")).notify(asked(false, false, true)).at(3)),
        ("a delivery nobody asked for", case(delivered()).handed_over(Handover::Final)),
        ("the next hop tells", case(delivered()).notify(asked(true, true, true))),
        (
            "suppress_bounces",
            case(failed()).with(|e| e.deliveries[0].delivery.suppress_bounces = true),
        ),
        ("quarantined", case(failed()).with(|e| e.deliveries[0].hold = Some(quarantine()))),
        ("sender named as null", {
            case(failed()).with(|e| e.deliveries[0].delivery.sender = "".parse().unwrap())
        }),
        ("null sender, renamed", case(failed()).with(|e| e.sender = "".parse().unwrap())),
        ("null sender expires", {
            let case = case(host_down()).at(9 * 24).notify(asked(true, true, true));
            case.with(|e| {
                e.sender = "".parse().unwrap();
                e.deliveries[0].delivery.sender = "".parse().unwrap();
            })
        }),
    ] {
        assert!(case.notice().is_none(), "{what}");
    }
}

/// Compares with a file of `testdata/`, whose lines end in LF; `UPDATE_GOLDENS=1` rewrites it.
fn golden(name: &str, text: &str) {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = text.replace("\r\n", "\n");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        #[expect(clippy::disallowed_methods, reason = "a test rewrites its golden on demand")]
        std::fs::write(&path, &text).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "a test reads its golden")]
    let want = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, want, "{name}");
}
