//! What organizations make of a filter's answer (D17, E2, E10, E11): against a naive model, and for
//! several organizations at once.
use crate::support;

use std::net::IpAddr;

use proptest::prelude::*;
use waypost_config::policy::{
    DataReply, Decision, FilterAnswer, FilterSaid, Known, Policy, RefusalCause, Transaction,
    with_edits,
};
use waypost_milter::{FieldName, FieldValue, FilterAction, FilterVerdict, HeaderEdit};
use waypost_types::{HeaderBlock, ListenerRole, Mailbox, Recipient, Reply, Session, TlsState};

use support::policy_of;

const GATEWAY: &str = "198.51.100.1";
const MESSAGE: &[u8] = b"Received: from h.example (h.example [203.0.113.7]) by gw.example; d\r\n\
    From: a@b.example\r\n\r\nx\r\n";

const ACTIONS: [&str; 3] = ["mark", "quarantine", "reject"];

/// How an organization looks at spam.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stance {
    Plain,
    /// A rule bypasses the filter.
    Bypass,
    /// Behind the gateway, with the source of MESSAGE on the allow list.
    Allowed,
    /// Behind the gateway, whose tag alone decides.
    OnlyTag,
    /// Behind the gateway, whose tag says spam.
    Tagged,
}

const STANCES: [Stance; 5] =
    [Stance::Plain, Stance::Bypass, Stance::Allowed, Stance::OnlyTag, Stance::Tagged];

fn policy(organizations: &[(usize, Stance)]) -> Policy {
    let mut text = "[server]\nhostname = \"mx.s.example\"\nspool = \"spool\"\n\
        filter = \"milter:127.0.0.1:1\"\n\
        [[listener]]\nname = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:2525\"\n\
        [[listener]]\nname = \"relay\"\nrole = \"relay\"\nbind = \"127.0.0.1:2587\"\n"
        .to_owned();
    for (place, (action, stance)) in organizations.iter().enumerate() {
        text.push_str(&format!(
            "[[organization]]\nname = \"o{place}\"\ndomains = [\"o{place}.example\"]\nlicences = 10\n\
             spam_action = \"{}\"\n[[organization.user]]\naddress = \"marie@o{place}.example\"\n\
             [[organization.relay]]\ndescription = \"Servers\"\nallowed_senders = \"my-domains\"\n\
             addresses = [{{ range = \"203.0.113.1\" }}]\n",
            ACTIONS[*action]
        ));
        let gateway = format!(
            "[organization.inbound_gateway]\naddresses = [\"{GATEWAY}\"]\ndetect_external_ip = true\n"
        );
        text.push_str(&match stance {
            Stance::Plain => String::new(),
            Stance::Bypass => "[[organization.rule]]\ndescription = \"Bypass\"\n\
                affects = [\"inbound\", \"outbound\"]\naccounts = [\"users\", \"unrecognized\"]\n\
                then = { modify = { bypass_spam = true } }\n"
                .to_owned(),
            Stance::Allowed => gateway + "allow_list = [\"203.0.113.7\"]\n",
            Stance::OnlyTag => gateway + "spam_tag = { regex = '^X-Gw:' }\nonly_spam_tag = true\n",
            Stance::Tagged => gateway + "spam_tag = { regex = '^From:' }\n",
        });
    }
    policy_of(&text, "1")
}

fn transaction(policy: &Policy, client: &str, role: ListenerRole, sender: &str) -> Transaction {
    let session = Session {
        client_ip: client.parse().unwrap(),
        role,
        helo: Some("h.example".into()),
        auth: None,
        tls: TlsState::Encrypted,
    };
    policy.at_mail(&session, &sender.parse().unwrap()).unwrap()
}

fn inbound(policy: &Policy) -> Transaction {
    transaction(policy, GATEWAY, ListenerRole::Mx, "a@b.example")
}

fn to(places: impl IntoIterator<Item = usize>) -> Vec<Recipient> {
    let address = |place| -> Mailbox { format!("marie@o{place}.example").parse().unwrap() };
    places.into_iter().map(|place| address(place).into()).collect()
}

/// What a filter may say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Nothing,
    Clean,
    Line,
    Rejects,
    Discards,
    Holds,
    Virus,
    Other,
    Later,
}

const SAYS: [Says; 9] = [
    Says::Nothing,
    Says::Clean,
    Says::Line,
    Says::Rejects,
    Says::Discards,
    Says::Holds,
    Says::Virus,
    Says::Other,
    Says::Later,
];

fn answer(says: Says, source: Option<IpAddr>) -> FilterAnswer {
    let action = match says {
        Says::Nothing => {
            return FilterAnswer { source, said: FilterSaid::Nothing("it is down".into()) };
        }
        Says::Clean | Says::Line => FilterAction::Accept,
        Says::Rejects => FilterAction::Reject(Reply::new(554, (5, 7, 1), "Gtube")),
        Says::Discards => FilterAction::Discard,
        Says::Holds => FilterAction::Quarantine("score".into()),
        Says::Virus => FilterAction::Reject(Reply::new(554, (5, 7, 1), "virus found")),
        Says::Other => FilterAction::Reject(Reply::new(552, (5, 3, 4), "too large")),
        Says::Later => FilterAction::TempFail(Reply::new(451, (4, 7, 1), "later")),
    };
    let mut verdict = FilterVerdict::new(action, "");
    if says == Says::Line {
        verdict.headers.push(added("X-Spam", "Yes"));
    }
    if matches!(says, Says::Line | Says::Clean) {
        verdict.headers.push(added("X-Shared", "1"));
    }
    FilterAnswer { source, said: FilterSaid::Verdict(verdict) }
}

fn name(name: &str) -> FieldName {
    FieldName::new(name).unwrap()
}

fn value(value: &str) -> FieldValue {
    FieldValue::new(value).unwrap()
}

fn added(field: &str, text: &str) -> HeaderEdit {
    HeaderEdit::Add { name: name(field), value: value(text) }
}

fn decide(policy: &Policy, places: impl IntoIterator<Item = usize>, says: Says) -> Decision {
    let (transaction, recipients) = (inbound(policy), to(places));
    let header = HeaderBlock::of(MESSAGE);
    let due = policy.filter_due(&transaction, &recipients, &header);
    let answers: Vec<_> = due.into_iter().map(|source| answer(says, source)).collect();
    let known = Known { filter: &answers, ..Known::default() };
    policy.at_data_knowing(&transaction, &recipients, &header, known)
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Delivered { marked: bool },
    Kept(String),
    Refused(u16),
}

fn end(decision: &Decision, place: usize) -> Vec<End> {
    let recipient: Mailbox = format!("marie@o{place}.example").parse().unwrap();
    let delivered = decision.deliveries.iter().filter(|one| one.delivery.recipient == recipient);
    let delivered = delivered.map(|one| End::Delivered { marked: one.delivery.spam });
    let kept = decision.quarantined.iter().filter(|one| one.recipient == recipient);
    let kept = kept.map(|one| End::Kept(one.quarantine.to_string()));
    let refused = decision.refusals.iter().filter(|one| one.recipient == recipient);
    let refused = refused.map(|one| End::Refused(one.reply.code()));
    delivered.chain(kept).chain(refused).collect()
}

/// The requirements, as plainly as can be: what becomes of mail for one organization alone.
fn model(action: usize, stance: Stance, says: Says) -> End {
    match says {
        // Refused whatever the filter says; it is not even asked.
        _ if stance == Stance::Tagged && action == 2 => return End::Refused(550),
        Says::Nothing | Says::Later => return End::Refused(451),
        Says::Other => return End::Refused(552),
        _ => {}
    }
    let malware = says == Says::Virus;
    let by_filter = malware
        || (matches!(says, Says::Line | Says::Rejects | Says::Discards | Says::Holds)
            && matches!(stance, Stance::Plain | Stance::Tagged));
    if !by_filter && stance != Stance::Tagged {
        return End::Delivered { marked: false };
    }
    let held = malware || (by_filter && matches!(says, Says::Discards | Says::Holds));
    match (action, held) {
        (2, _) => End::Refused(550),
        (0, false) => End::Delivered { marked: true },
        _ => End::Kept(if malware { "malware" } else { "spam" }.to_owned()),
    }
}

#[test]
fn d17_e10_e11_one_organization_against_the_model() {
    for (action, word) in ACTIONS.iter().enumerate() {
        for stance in STANCES {
            let policy = policy(&[(action, stance)]);
            for says in SAYS {
                let decision = decide(&policy, [0], says);
                let want = model(action, stance, says);
                assert_eq!(end(&decision, 0), [want], "{word} {stance:?} {says:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn d17_several_organizations_each_by_its_own_stance(
        organizations in prop::collection::vec((0..3usize, prop::sample::select(&STANCES[..])), 1..5),
        says in prop::sample::select(&SAYS[..]),
    ) {
        let policy = policy(&organizations);
        let decision = decide(&policy, 0..organizations.len(), says);
        let alone: Vec<End> =
            organizations.iter().map(|(action, stance)| model(*action, *stance, says)).collect();
        let all_refused = alone.iter().all(|end| matches!(end, End::Refused(_)));
        let is_refused = matches!(decision.reply, DataReply::Refuse(_));
        prop_assert_eq!(is_refused, all_refused);
        for (place, alone) in alone.iter().enumerate() {
            let want = match alone {
                // Taken for others, what would be refused is kept: nobody is sent a bounce.
                End::Refused(_) if !all_refused => {
                    End::Kept(if says == Says::Virus { "malware" } else { "spam" }.to_owned())
                }
                other => other.clone(),
            };
            prop_assert_eq!(end(&decision, place), [want], "{}", place);
        }
        if let DataReply::Refuse(reply) = &decision.reply {
            prop_assert!(decision.refusals.iter().any(|one| one.reply == *reply));
        }
        // A line that tells a verdict goes only where the verdict counts, any other to all.
        let tells = |one: &waypost_config::policy::DecidedDelivery| {
            one.delivery.changes.added_headers.iter().any(|line| line.name() == "X-Spam")
        };
        for one in &decision.deliveries {
            let place: usize = one.organization[1..].parse().unwrap();
            let stands = matches!(organizations[place].1, Stance::Plain | Stance::Tagged);
            prop_assert_eq!(tells(one), says == Says::Line && stands);
            let own = one.delivery.changes.added_headers.iter().any(|line| line.name() == "X-Shared");
            let shared = decision.filter_fields.contains("X-Shared: 1\r\n");
            prop_assert_eq!(own || shared, matches!(says, Says::Line | Says::Clean));
            prop_assert!(!(own && shared), "once");
        }
    }

    #[test]
    fn d17_edits_touch_nothing_but_the_named_fields(
        fields in prop::collection::vec(("[A-D]", "[a-z]{0,6}(\r\n [a-z]{1,4}){0,2}"), 0..8),
        edits in prop::collection::vec(("[a-e]", 0u32..4, prop::option::of("[x-z]{1,5}")), 0..6),
        body in "(\r\n)?[a-z\r\n]{0,40}",
    ) {
        let header: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let message = format!("{header}\r\n{body}").into_bytes();
        let edits: Vec<HeaderEdit> = edits
            .iter()
            .map(|(field, nth, text)| match text {
                Some(text) => HeaderEdit::Change { name: name(field), nth: *nth, value: value(text) },
                None => HeaderEdit::Delete { name: name(field), nth: *nth },
            })
            .collect();
        // The model: a list of fields, each with what the last edit says of it.
        let mut want = String::new();
        for (place, (field, text)) in fields.iter().enumerate() {
            let before = fields.iter().take(place).filter(|other| other.0 == *field).count();
            let nth = u32::try_from(before).unwrap() + 1;
            let last = edits.iter().rev().find(|edit| match edit {
                HeaderEdit::Change { name, nth: of, .. } | HeaderEdit::Delete { name, nth: of } => {
                    name.is(field) && (*of).max(1) == nth
                }
                _ => false,
            });
            match last {
                None => want.push_str(&format!("{field}: {text}\r\n")),
                Some(HeaderEdit::Change { name, value, .. }) => {
                    want.push_str(&format!("{name}: {}\r\n", value.as_str()));
                }
                Some(_) => {}
            }
        }
        let want = format!("{want}\r\n{body}");
        prop_assert_eq!(String::from_utf8(with_edits(message, &edits)).unwrap(), want);
    }
}

#[test]
fn e2_the_filter_is_to_be_told_of_each_source_once() {
    let policy = policy(&[(0, Stance::Plain), (0, Stance::Allowed), (0, Stance::Tagged)]);
    let header = HeaderBlock::of(MESSAGE);
    let due = |places: &[usize], client| -> Vec<String> {
        let transaction = transaction(&policy, client, ListenerRole::Mx, "a@b.example");
        let due = policy.filter_due(&transaction, &to(places.iter().copied()), &header);
        due.into_iter().map(|ip| ip.map_or("internal".into(), |ip| ip.to_string())).collect()
    };
    assert_eq!(due(&[0], GATEWAY), [GATEWAY]);
    assert_eq!(due(&[1, 2, 1], GATEWAY), ["203.0.113.7"]);
    assert_eq!(due(&[0, 1], GATEWAY), [GATEWAY, "203.0.113.7"]);
    assert_eq!(due(&[0, 1], "203.0.113.9"), ["203.0.113.9"]);
    let without = policy_of("[server]\nhostname = \"mx.s.example\"\n", "1");
    assert!(without.filter_due(&inbound(&policy), &to([0]), &header).is_empty());
}

#[test]
fn d17_each_source_has_its_own_answer() {
    let policy = policy(&[(2, Stance::Plain), (2, Stance::Tagged), (2, Stance::OnlyTag)]);
    let header = HeaderBlock::of(MESSAGE);
    let answers = [
        answer(Says::Clean, Some(GATEWAY.parse().unwrap())),
        answer(Says::Virus, Some("203.0.113.7".parse().unwrap())),
    ];
    let known = Known { filter: &answers, ..Known::default() };
    let decision = policy.at_data_knowing(&inbound(&policy), &to([0, 1, 2]), &header, known);
    assert_eq!(end(&decision, 0), [End::Delivered { marked: false }]);
    assert_eq!(end(&decision, 1), [End::Kept("malware".to_owned())]);
    assert_eq!(end(&decision, 2), [End::Kept("malware".to_owned())]);
    // They differ in their fields, so each delivery has its own.
    assert_eq!(&*decision.filter_fields, "");
    let headers = &decision.deliveries[0].delivery.changes.added_headers;
    assert_eq!(headers.iter().map(|line| line.name()).collect::<Vec<_>>(), ["X-Shared"]);
}

#[test]
fn d17_relayed_spam_counts_against_the_registered_sender() {
    for (stance, sender, says, want) in [
        (Stance::Plain, "marie@o0.example", Says::Rejects, Some("marie@o0.example")),
        (Stance::Plain, "marie@o0.example", Says::Virus, Some("marie@o0.example")),
        (Stance::Plain, "marie@o0.example", Says::Line, Some("marie@o0.example")),
        (Stance::Plain, "marie@o0.example", Says::Clean, None),
        (Stance::Plain, "marie@o0.example", Says::Later, None),
        (Stance::Plain, "nobody@o0.example", Says::Rejects, None),
        // What a rule says is no spam is none; malware is malware.
        (Stance::Bypass, "marie@o0.example", Says::Rejects, None),
        (Stance::Bypass, "marie@o0.example", Says::Virus, Some("marie@o0.example")),
    ] {
        for (action, word) in ACTIONS.iter().enumerate() {
            let policy = policy(&[(action, stance)]);
            let client = "203.0.113.1";
            let transaction = transaction(&policy, client, ListenerRole::Relay, sender);
            let header = HeaderBlock::of(MESSAGE);
            let recipients = [Recipient::from("x@y.example".parse::<Mailbox>().unwrap())];
            let answers = [answer(says, Some(client.parse().unwrap()))];
            let known = Known { filter: &answers, ..Known::default() };
            let decision = policy.at_data_knowing(&transaction, &recipients, &header, known);
            let abuse = decision.abuse().map(|abuse| abuse.user.to_string());
            assert_eq!(abuse.as_deref(), want, "{stance:?} {sender} {says:?} {word}");
        }
    }
    let policy = policy(&[(0, Stance::Plain)]);
    assert!(decide(&policy, [0], Says::Rejects).abuse().is_none(), "inbound spam is nobody's");
}

#[test]
fn d17_the_cause_of_a_refusal_is_counted_apart() {
    let policy = policy(&[(2, Stance::Plain)]);
    for (says, want) in [
        (Says::Rejects, Some(RefusalCause::Spam)),
        (Says::Virus, Some(RefusalCause::Malware)),
        (Says::Other, Some(RefusalCause::Filter)),
        (Says::Later, Some(RefusalCause::Filter)),
        (Says::Nothing, Some(RefusalCause::FilterUnanswered)),
        (Says::Clean, None),
    ] {
        assert_eq!(decide(&policy, [0], says).refused_for(), want, "{says:?}");
    }
}

#[test]
fn d17_what_is_recorded_decides_the_same() {
    let policy = policy(&[(1, Stance::Plain)]);
    let settings = policy.server.filter.as_ref();
    for says in SAYS {
        let mut whole = answer(says, None);
        if let FilterSaid::Verdict(verdict) = &mut whole.said {
            verdict.headers.push(added("X-Secret", "a@b.example"));
        }
        let kept = whole.deciding(settings);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("X-Secret"), "{text}");
        assert_eq!(serde_json::from_str::<FilterAnswer>(&text).unwrap(), kept);
        let header = HeaderBlock::of(MESSAGE);
        let (recipients, transaction) = (to([0]), inbound(&policy));
        let decide = |mut answer: FilterAnswer| {
            answer.source = transaction.session.client_ip.into();
            let answers = [answer];
            let known = Known { filter: &answers, ..Known::default() };
            end(&policy.at_data_knowing(&transaction, &recipients, &header, known), 0)
        };
        assert_eq!(decide(whole), decide(kept), "{says:?}");
    }
}
