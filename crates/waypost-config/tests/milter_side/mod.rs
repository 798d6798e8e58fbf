//! The same transaction as a mail server tells it to a milter: what the milter says must be what the dry run
//! says.

use serde_json::Value;
use waypost_config::milter::{MilterPlan, MilterVerdict, recipient, sender, session};
use waypost_config::policy::{Decision, DryRun, Known, Policy, RcptVerdict, Transaction};
use waypost_milter::{
    Actions, Command, Event, Intake, IntakeLimits, Options, Peer, Response, Step, Steps,
};
use waypost_types::{Changes, HeaderBlock, ListenerRole, Recipient, Reply, TlsState};

/// What an MTA hears: replies, and at the end the decision and what becomes of it.
#[derive(Default)]
struct Heard {
    mail: Option<Reply>,
    rcpt: Vec<Option<Reply>>,
    transaction: Option<Transaction>,
    recipients: Vec<Recipient>,
    header: Vec<u8>,
}

/// What does not hold.
pub(super) fn faults(
    policy: &Policy,
    run: &DryRun<'_>,
    known: Known<'_>,
    got: &Value,
) -> Vec<String> {
    let heard = told(policy, run);
    let mut faults = Vec::new();
    let mut same = |what: &str, milter: Value, serve: &Value| {
        if milter != *serve {
            faults.push(format!("a milter: {what} is {milter}, and {serve} for serve"));
        }
    };
    let replies = &got["replies"];
    if let Some(refused) = &heard.mail {
        same("mail", refused.to_string().into(), &replies["mail"]);
        return faults;
    }
    assert!(replies["mail"].as_str().unwrap().starts_with("250"), "{replies}");
    for (at, told) in heard.rcpt.iter().enumerate() {
        match told {
            Some(refused) => same("rcpt", refused.to_string().into(), &replies["rcpt"][at]),
            None => same("rcpt", 250.into(), &code(&replies["rcpt"][at])),
        }
    }
    let (Some(transaction), false) = (&heard.transaction, heard.recipients.is_empty()) else {
        return faults;
    };
    let decision = decided(policy, transaction, &heard, known);
    let source = decision.organizations.first().and_then(|view| view.source.ip);
    let source = source.map_or(Value::Null, |ip| ip.to_string().into());
    same("source_ip", source, &got["source_ip"]);
    let plan = MilterPlan::of(&decision, &transaction.sender, &heard.recipients, Actions::ALL);
    if let MilterVerdict::Refuse(reply, _) = &plan.verdict {
        same("data", reply.to_string().into(), &replies["data"]);
        return faults;
    }
    same("data", 250.into(), &code(&replies["data"]));
    // Everybody who gets it, and nobody else.
    let mut to: Vec<String> = heard
        .recipients
        .iter()
        .map(|one| &one.address)
        .filter(|one| !plan.delete.contains(one))
        .chain(&plan.add)
        // One who is given twice in other letters gets it once from most mail servers.
        .map(|one| one.to_string().to_lowercase())
        .collect();
    to.sort();
    to.dedup();
    let kept = decision.quarantined.iter().flat_map(|kept| &kept.deliveries);
    let mut wanted: Vec<String> = decision
        .deliveries
        .iter()
        .chain(kept)
        .map(|one| one.delivery.recipient.to_string().to_lowercase())
        .collect();
    wanted.sort();
    wanted.dedup();
    same("recipients", to.into(), &wanted.into());
    let is_held = matches!(plan.verdict, MilterVerdict::Quarantine(_));
    same("quarantined", is_held.into(), &(!decision.quarantined.is_empty()).into());
    // A message for one recipient gets just the changes that serve makes, and one sender.
    if let ([one], []) = (&*decision.deliveries, &*decision.quarantined) {
        let told = |changes: &Changes| serde_json::to_value(changes).unwrap();
        same("changes", told(&plan.changes), &told(&one.delivery.changes));
        let sender = plan.sender.as_ref().unwrap_or(&transaction.sender);
        same("sender", sender.to_string().into(), &one.delivery.sender.to_string().into());
        same("unfollowed", serde_json::json!(plan.unfollowed), &serde_json::json!([]));
    }
    faults
}

fn code(reply: &Value) -> Value {
    reply.as_str().and_then(|reply| reply[..3].parse::<u16>().ok()).into()
}

fn decided(
    policy: &Policy,
    transaction: &Transaction,
    heard: &Heard,
    known: Known<'_>,
) -> Decision {
    let header = HeaderBlock::of(&heard.header);
    policy.at_data_knowing(transaction, &heard.recipients, &header, known)
}

/// The transaction as octets of the protocol, and the milter's half of it.
fn told(policy: &Policy, run: &DryRun<'_>) -> Heard {
    let mx = policy.server.listeners.iter().find(|one| match run.auth {
        Some(_) => one.role != ListenerRole::Mx,
        None => one.role != ListenerRole::Relay,
    });
    let name = run.listener.or(mx.map(|one| &*one.name)).unwrap();
    let macros = |step, macros| Command::Macros { step, macros };
    let mut wire = Vec::new();
    let sender = format!("<{}>", run.mail_from.trim_matches(['<', '>']));
    let recipients: Vec<String> = run.rcpt_to.iter().map(|to| format!("<{to}>")).collect();
    let mut commands = vec![
        Command::Options(Options::new(6, Actions::ALL, Steps::OFFERED)),
        macros(Step::Connect, vec![(&b"{daemon_name}"[..], name.as_bytes())]),
        Command::Connect { host_name: b"unknown", peer: Peer::Ip(run.client_ip, 25) },
    ];
    if run.tls == TlsState::Encrypted {
        commands.push(macros(Step::Helo, vec![(b"{tls_version}", b"TLSv1.3")]));
    }
    commands.extend(run.helo.map(|name| Command::Helo(name.as_bytes())));
    if let Some(auth) = run.auth {
        commands.push(macros(Step::Mail, vec![(b"{auth_authen}", auth.as_bytes())]));
    }
    commands.push(Command::Mail { path: sender.as_bytes(), parameters: Vec::new() });
    for to in &recipients {
        commands.push(Command::Rcpt { path: to.as_bytes(), parameters: Vec::new() });
    }
    let block = HeaderBlock::of(run.message);
    for field in block.fields() {
        commands.push(Command::Header { name: field.name, value: field.raw });
    }
    commands.push(Command::EndOfMessage(b""));
    commands.iter().for_each(|command| command.encode(&mut wire));

    let limits = IntakeLimits { header: policy.server.limits.header_size, body: None };
    let mut intake = Intake::new(Actions::ALL, limits);
    intake.handle_bytes(&wire);
    let (mut heard, mut out) = (Heard::default(), Vec::new());
    while let Some(event) = intake.next(&mut out).unwrap() {
        match event {
            Event::Mail { client, sender: from, .. } => {
                let session = session(policy, &client, ListenerRole::Both).unwrap();
                match policy.at_mail(&session, &sender_of(&from)) {
                    Ok(transaction) => heard.transaction = Some(transaction),
                    Err(refusal) => heard.mail = Some(refusal.reply),
                }
            }
            Event::Rcpt { recipient: to } => {
                let Some(transaction) = &heard.transaction else { return heard };
                let one = Recipient::from(recipient(policy, &to).unwrap());
                let standing = heard.recipients.len();
                match policy.at_rcpt(transaction, &one, standing) {
                    RcptVerdict::Accept { .. } => {
                        heard.recipients.push(one);
                        heard.rcpt.push(None);
                    }
                    RcptVerdict::Refuse(refused) => heard.rcpt.push(Some(refused.reply)),
                }
            }
            Event::Message(message) => {
                assert_eq!(message.too_large, None);
                let told = HeaderBlock::of(&message.header).fields();
                let told: Vec<_> = told.map(|field| (field.name, field.unfolded())).collect();
                let want: Vec<_> =
                    block.fields().map(|field| (field.name, field.unfolded())).collect();
                assert_eq!(told, want, "a header is gathered as it was");
                heard.header = message.header;
            }
        }
        intake.answer(&Response::Continue, &mut out).unwrap();
    }
    heard
}

fn sender_of(text: &str) -> waypost_types::ReversePath {
    sender(text).unwrap()
}
