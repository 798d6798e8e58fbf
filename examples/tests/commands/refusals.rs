//! Every refusal of the relay service in one table, `docs/REFUSALS.md` (D2-D15).

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waypost_net::server::{ConnectionRefusal, LoginRefusal};
use waypost_relay::{
    AddressSettings, AllowedSenders, OrganizationRelay, QuotaLimit, QuotaRefusal, RefusalReason,
    RelayEntry, RelayService, RelaySettings, at_recipient,
};
use waypost_smtp::server::{AuthOffer, Event, Server, Settings, TlsOffer};
use waypost_types::{ListenerRole, Reply, ReversePath, Session, Timestamp, TlsState};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const RCPT: &str = "RCPT TO:<b@elsewhere.example>";

const HEAD: &str = "\
# What clients of the relay service are told

Every reply by which the relay service refuses something: to a connection, HELO, AUTH, MAIL and RCPT. Each names the
requirement or RFC that it rests on and what to do; none names a relay entry, or tells whether a user exists. A test
writes this page from the code. What each stands for in the log and in metrics is in [METRICS.md](METRICS.md).
";

/// Where a client is refused, why in short, and the reply.
struct Row {
    at: &'static str,
    why: String,
    reply: String,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |at: &'static str, why: &str, reply: Reply| {
        rows.push(Row { at, why: why.to_owned(), reply: reply.to_string() });
    };
    for (at, why, refusal) in [
        ("connect", "all places are taken", ConnectionRefusal::Total { limit: 10_000 }),
        ("connect", "many open, one address", ConnectionRefusal::PerClient { limit: 100 }),
        ("connect", "many open, one network", ConnectionRefusal::PerNetwork { limit: 1000 }),
        ("connect", "too often", ConnectionRefusal::TooOften { limit: 600 }),
        ("connect", "too many to count", ConnectionRefusal::TooManyClients),
        ("HELO", "a generic name, too often", ConnectionRefusal::GenericHello { limit: 10 }),
    ] {
        row(at, why, refusal.reply());
    }
    for (why, lines) in [
        ("in clear text", &["AUTH PLAIN AG1hcmllAHNlY3JldA=="][..]),
        ("another mechanism", &["!", "AUTH CRAM-MD5"]),
        ("cancelled", &["!", "AUTH PLAIN", "*"]),
        ("no base64", &["!", "AUTH PLAIN x"]),
        ("PLAIN, but not three parts", &["!", "AUTH PLAIN AGE="]),
        ("PLAIN, for another user", &["!", "AUTH PLAIN cGF1bABtYXJpZQBzZWNyZXQ="]),
        ("no name of a user", &["!", "AUTH LOGIN ="]),
    ] {
        row("AUTH", why, by_the_machine(lines));
    }
    let window = Duration::from_secs(900);
    for (why, refusal) in [
        ("wrong password, or no such user", LoginRefusal::WrongCredentials),
        ("the directory is down", LoginRefusal::Unchecked),
        ("failed too often", LoginRefusal::TooManyFailures { limit: 20, window, wait: window / 2 }),
        ("too many to count", LoginRefusal::TooManyClients),
    ] {
        row("AUTH", why, refusal.reply());
    }
    for reason in RefusalReason::ALL {
        row("MAIL", &reason.to_string(), reason.reply());
        if reason == RefusalReason::AddressNotListed {
            row("MAIL", "the same, where an entry asks for AUTH", unlisted_beside_auth());
        }
    }
    let anybody: ReversePath = "a@solarmora.com".parse().unwrap();
    let limits = [("a null sender's second", &ReversePath::Null, 1), ("too many", &anybody, 1000)];
    for (why, sender, standing) in limits {
        row("RCPT", why, at_recipient(sender, standing, 1000).unwrap_err());
    }
    // Of too many the machine speaks first, and in the same words (D14).
    let commands = ["!", "MAIL FROM:<a@solarmora.com>"].into_iter();
    let commands: Vec<&str> = commands.chain([RCPT; 1001]).collect();
    assert_eq!(by_the_machine(&commands), at_recipient(&anybody, 1000, 1000).unwrap_err());
    for (limit, allowed) in [
        (QuotaLimit::MessagesPerUserPerDay, 10_000),
        (QuotaLimit::UniqueRecipientsPerUserPerDay, 32_500),
        (QuotaLimit::RecipientsPerDay, 32_500),
        (QuotaLimit::RecipientsPer10Minutes, 2250),
    ] {
        let room_at = Some(NOW + Duration::from_secs(300));
        let refusal = QuotaRefusal { limit, allowed, used: allowed, reserved: 0, room_at };
        row("RCPT", &format!("quota: {limit}"), refusal.reply());
    }
    let none = QuotaRefusal {
        limit: QuotaLimit::RecipientsPerDay,
        allowed: 0,
        used: 0,
        reserved: 0,
        room_at: None,
    };
    row("RCPT", "quota: a limit of 0", none.reply());
    rows
}

/// What the SMTP machine says by itself to the last of these; inside TLS if the first is `!`.
fn by_the_machine(lines: &[&str]) -> Reply {
    let mut settings = Settings::new("mx.solarmora.com".parse().unwrap());
    settings.auth = AuthOffer::InsideTls;
    let (tls, lines) = match lines {
        ["!", lines @ ..] => (TlsOffer::Implicit, lines),
        lines => (TlsOffer::StartTls, lines),
    };
    settings.tls = tls;
    let mut server = Server::new(Arc::new(settings), NOW);
    let mut said = String::new();
    for line in std::iter::once(&"").chain(&["EHLO client.example"]).chain(lines) {
        if !line.is_empty() {
            server.handle_bytes(NOW, format!("{line}\r\n").as_bytes());
        }
        while let Some(event) = server.poll_event(NOW) {
            let begins = matches!(event, Event::Connect | Event::Hello { .. });
            assert!(begins || matches!(event, Event::Mail { .. } | Event::Rcpt(_)), "{event:?}");
            server.accept(NOW);
        }
        said = String::from_utf8(server.take_output()).unwrap();
    }
    let (code, text) = said.trim_end().split_at(3);
    let (enhanced, text) = text.trim_start().split_once(' ').unwrap();
    let enhanced: Vec<u16> = enhanced.split('.').map(|part| part.parse().unwrap()).collect();
    let class = u8::try_from(enhanced[0]).unwrap();
    Reply::new(code.parse().unwrap(), (class, enhanced[1], enhanced[2]), text)
}

fn unlisted_beside_auth() -> Reply {
    let mut servers = RelaySettings::new("Servers", AllowedSenders::MyDomains);
    servers.addresses.push(AddressSettings::enabled("203.0.113.1", ""));
    let mut staff = RelaySettings::new("Staff", AllowedSenders::RegisteredUsers);
    staff.require_auth = true;
    let entries = [servers, staff].map(|entry| RelayEntry::new(entry).unwrap()).into();
    let domains = vec!["solarmora.com".parse().unwrap()];
    let organization =
        OrganizationRelay { entries, ..OrganizationRelay::new("Solarmora", domains, 1) };
    let service = RelayService::new(vec![organization]).unwrap();
    let session = Session {
        client_ip: "192.0.2.1".parse().unwrap(),
        role: ListenerRole::Relay,
        helo: None,
        auth: None,
        tls: TlsState::Encrypted,
    };
    let sender = "a@solarmora.com".parse().unwrap();
    service.admit(&session, &sender, &Nobody).unwrap_err().reply
}

/// A directory without anybody.
struct Nobody;

impl waypost_types::Directory for Nobody {
    fn account(
        &self,
        _: &waypost_types::Mailbox,
    ) -> Result<waypost_types::Account, waypost_types::Unavailable> {
        Ok(waypost_types::Account::Unrecognized)
    }

    fn is_member(
        &self,
        _: &waypost_types::Mailbox,
        _: &waypost_types::Mailbox,
    ) -> Result<bool, waypost_types::Unavailable> {
        Ok(false)
    }

    fn for_each_group(
        &self,
        _: &waypost_types::Mailbox,
        _: &mut dyn FnMut(&waypost_types::Mailbox),
    ) -> Result<(), waypost_types::Unavailable> {
        Ok(())
    }

    fn members(
        &self,
        _: &waypost_types::Mailbox,
    ) -> Result<Vec<waypost_types::Mailbox>, waypost_types::Unavailable> {
        Ok(Vec::new())
    }
}

#[test]
fn each_refusal_names_rule_and_cure_and_tells_of_no_user_d2_to_d15() {
    // A cure tells the client or its owner what to do, or that waiting helps.
    let cures = [
        "try again",
        "issue ",
        "use ",
        "give ",
        "send ",
        "ask ",
        "authenticate",
        "correct ",
        "close ",
        "must ",
        "leave ",
        "room again",
        "later",
        "cancelled",
        "takes an identity",
        "no base64",
        "is empty",
    ];
    for Row { at, why, reply } in rows() {
        assert!(reply.ends_with(')'), "{at}, {why}: no rule: {reply}");
        let rule = reply.rsplit('(').next().unwrap();
        assert!(rule.starts_with(['C', 'D']) || rule.starts_with("RFC"), "{at}, {why}: {reply}");
        assert!(cures.iter().any(|cure| reply.contains(cure)), "{at}, {why}: no cure: {reply}");
        for word in ["exist", "unknown user", "no such user", "inactive", "Servers", "Staff"] {
            assert!(!reply.contains(word), "{at}, {why}: {reply}");
        }
        assert!(reply.starts_with(['4', '5']) && reply.len() < 250, "{reply}");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the page is a file")]
fn the_page_holds_every_refusal_d2_to_d15() {
    let mut page = format!("{HEAD}\n| to | because | reply |\n| --- | --- | --- |\n");
    for Row { at, why, reply } in rows() {
        writeln!(page, "| {at} | {why} | `{reply}` |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/REFUSALS.md");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == page, "docs/REFUSALS.md is stale; UPDATE_GOLDENS=1 rewrites it");
}
