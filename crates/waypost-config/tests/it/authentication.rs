//! What organizations make of SPF and DMARC together (E2): whatever the results, each recipient has
//! one fate, and a gateway's mail is never refused for them.
use crate::support;

use proptest::prelude::*;
use waypost_auth::{
    Aligned, Authentication, Dmarc, DmarcPolicy, DmarcResult, Identity, RefusedFor, Spf, SpfResult,
};
use waypost_config::policy::{DataReply, Decision, Policy, RefusalCause, Transaction};
use waypost_types::{HeaderBlock, ListenerRole, Recipient, Session, TlsState};

use support::policy_of;

const GATEWAY: &str = "198.51.100.1";
const MESSAGE: &[u8] = b"Received: from h.example (h.example [203.0.113.7]) by gw.example; d\r\n\
    From: a@b.example, c@d.example, A@B.example, e@[192.0.2.1]\r\n\r\nx\r\n";

/// Three organizations: one without gateway, one behind it, one behind it with an allow list.
fn policy(modes: [&str; 3], spam_action: &str) -> Policy {
    let mut text = "[server]\nhostname = \"mx.s.example\"\nspool = \"spool\"\n\
        [[listener]]\nname = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:2525\"\n"
        .to_owned();
    for (place, mode) in modes.iter().enumerate() {
        text.push_str(&format!(
            "[[organization]]\nname = \"o{place}\"\ndomains = [\"o{place}.example\"]\n\
             authenticate = \"{mode}\"\nspam_action = \"{spam_action}\"\n\
             [[organization.user]]\naddress = \"marie@o{place}.example\"\n"
        ));
        if place > 0 {
            text.push_str(&format!(
                "[organization.inbound_gateway]\naddresses = [\"{GATEWAY}\"]\n\
                 detect_external_ip = true\n"
            ));
        }
        if place == 2 {
            text.push_str("allow_list = [\"192.0.2.1\"]\n");
        }
    }
    policy_of(&text, "1")
}

fn transaction(policy: &Policy, client: &str) -> Transaction {
    let session = Session {
        client_ip: client.parse().unwrap(),
        role: ListenerRole::Mx,
        helo: Some("h.example".into()),
        auth: None,
        tls: TlsState::Clear,
    };
    policy.at_mail(&session, &"a@b.example".parse().unwrap()).unwrap()
}

fn recipients(places: &[usize]) -> Vec<Recipient> {
    let address = |place: &usize| format!("marie@o{place}.example").parse().unwrap();
    places
        .iter()
        .map(|place| Recipient::from(waypost_types::Mailbox::clone(&address(place))))
        .collect()
}

fn answer(checked: Option<&str>, spf: SpfResult, dmarc: DmarcResult) -> Authentication {
    let failed = dmarc == DmarcResult::Fail;
    Authentication {
        checked: checked.map(|ip| ip.parse().unwrap()),
        spf: Spf::new(spf, Identity::MailFrom, Some("b.example")),
        dkim: Vec::new(),
        dmarc: Dmarc {
            result: dmarc,
            author: Some("b.example".parse().unwrap()),
            policy: failed.then_some(DmarcPolicy::Quarantine),
            aligned: (dmarc == DmarcResult::Pass).then_some(Aligned::Spf),
        },
    }
}

#[test]
fn e2_one_question_for_each_source() {
    let policy = policy(["report", "enforce", "enforce"], "mark");
    let header = HeaderBlock::of(MESSAGE);
    let asked = |client: &str, to: &[usize]| -> Vec<Option<String>> {
        let transaction = transaction(&policy, client);
        let due = policy.authentication_due(&transaction, &recipients(to), &header);
        for question in &due {
            let authors: Vec<_> = question.authors.iter().map(|one| one.as_str()).collect();
            assert_eq!(authors, ["b.example", "d.example"], "each once, and what is no domain not");
            assert_eq!(question.receiver.as_str(), "mx.s.example");
        }
        due.iter().map(|one| one.checked.map(|ip| ip.to_string())).collect()
    };
    let some = |ip: &str| Some(ip.to_owned());
    assert_eq!(asked("192.0.2.1", &[0, 1, 2, 0]), [some("192.0.2.1")]);
    assert_eq!(asked(GATEWAY, &[1, 2]), [some("203.0.113.7")]);
    assert_eq!(asked(GATEWAY, &[0, 1]), [some(GATEWAY), some("203.0.113.7")]);
    let off = super_off();
    let transaction = transaction(&off, "192.0.2.1");
    assert!(off.authentication_due(&transaction, &recipients(&[0, 1, 2]), &header).is_empty());
    assert!(!off.vouches_for_results(&recipients(&[0, 1, 2])));
    assert!(policy.vouches_for_results(&recipients(&[0])));
}

fn super_off() -> Policy {
    policy(["off", "off", "off"], "mark")
}

#[test]
fn e2_e11_the_allow_list_clears_spam_and_refuses_no_less() {
    let policy = policy(["off", "enforce", "enforce"], "quarantine");
    let header = HeaderBlock::of(MESSAGE);
    let transaction = transaction(&policy, "192.0.2.1");
    let decide = |place, answer: Authentication| -> Decision {
        policy.at_data_authenticated(&transaction, &recipients(&[place]), &header, &[answer])
    };
    let spam = || answer(Some("192.0.2.1"), SpfResult::Pass, DmarcResult::Fail);
    assert_eq!(decide(1, spam()).quarantined.len(), 1);
    assert_eq!(decide(2, spam()).deliveries.len(), 1, "on the allow list");
    for place in [1, 2] {
        let decision = decide(place, answer(Some("192.0.2.1"), SpfResult::Fail, DmarcResult::None));
        let cause = RefusalCause::Authentication(RefusedFor::SpfFail);
        assert_eq!(decision.refused_for(), Some(cause));
    }
}

proptest! {
    #[test]
    fn each_recipient_has_one_fate(
        modes in prop::array::uniform3(prop::sample::select(vec!["off", "report", "enforce"])),
        spam_action in prop::sample::select(vec!["mark", "quarantine", "reject"]),
        client in prop::sample::select(vec![GATEWAY, "192.0.2.1"]),
        to in prop::collection::vec(0..3_usize, 1..5),
        spf in prop::sample::select(vec![
            SpfResult::Pass, SpfResult::Fail, SpfResult::TempError, SpfResult::None,
        ]),
        dmarc in prop::sample::select(vec![
            DmarcResult::Pass, DmarcResult::Fail, DmarcResult::TempError, DmarcResult::None,
        ]),
    ) {
        let policy = policy(modes, spam_action);
        let header = HeaderBlock::of(MESSAGE);
        let transaction = transaction(&policy, client);
        let to = recipients(&to);
        let due = policy.authentication_due(&transaction, &to, &header);
        let answers: Vec<Authentication> = due
            .iter()
            .map(|question| {
                let ip = question.checked.map(|ip| ip.to_string());
                answer(ip.as_deref(), spf, dmarc)
            })
            .collect();
        let decision = policy.at_data_authenticated(&transaction, &to, &header, &answers);
        let is_accepted = decision.reply == DataReply::Accept;
        for recipient in &to {
            let address = &recipient.address;
            let delivered = decision
                .deliveries
                .iter()
                .filter(|one| one.delivery.original_recipient == *address);
            let refused = decision.refusals.iter().filter(|one| one.recipient == *address);
            let kept = decision.quarantined.iter().filter(|one| one.recipient == *address);
            let fates = delivered.count() + refused.clone().count() + kept.count();
            prop_assert_eq!(fates, 1, "{}", address);
            for refused in refused {
                // Nobody gets a bounce for what somebody else forged.
                let forged = matches!(refused.cause, RefusalCause::Authentication(_));
                prop_assert!(!(forged && is_accepted));
                let own = address.to_string();
                prop_assert!(client != GATEWAY || own.contains("o0") || !forged, "{own}");
            }
        }
        // An organization's lines reach its own deliveries, and nobody else's.
        for one in &decision.deliveries {
            let place: usize = one.organization.trim_start_matches('o').parse().unwrap();
            let own = one.delivery.changes.added_headers.iter();
            let stamps = own.chain(&decision.stamps).filter(|line| line.name() == "Received-SPF");
            prop_assert_eq!(stamps.count(), usize::from(modes[place] != "off"));
        }
    }
}
