use proptest::prelude::*;
use waypost_types::{OrgUnit, TlsState, User};

use super::*;
use crate::relay_entry::{AddressSettings, RelaySettings};
use crate::{LimitMode, UserLimitOverrides};

/// Marie (alias m.paul) is a user of Solarmora, Ole one of Nordlys; `down@` cannot be looked up.
struct People;

impl Directory for People {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        let user = |text: &str| {
            Account::User(User { address: text.parse().unwrap(), org_unit: OrgUnit::root() })
        };
        match address.to_string().to_lowercase().as_str() {
            "marie@solarmora.com" | "m.paul@solarmora.fr" => Ok(user("marie@solarmora.com")),
            "ole@nordlys.example" => Ok(user("ole@nordlys.example")),
            "team@solarmora.com" => Ok(Account::Group { address: address.clone() }),
            "down@solarmora.com" => Err(Unavailable { because: "test".to_owned() }),
            _ => Ok(Account::Unrecognized),
        }
    }

    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> {
        Ok(false)
    }

    fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> {
        Ok(())
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }
}

const LYON: &str = "203.0.113.5";
const ELSEWHERE: &str = "198.51.100.9";

/// An entry from words: `users`, `domains` or `any`; `ip` (203.0.113.0/28), `auth`, `tls`,
/// `observe`, `off`; anything else is the description.
fn entry(words: &str) -> RelayEntry {
    let mut settings = RelaySettings::new("entry", AllowedSenders::Any);
    for word in words.split_whitespace() {
        match word {
            "users" => settings.allowed_senders = AllowedSenders::RegisteredUsers,
            "domains" => settings.allowed_senders = AllowedSenders::MyDomains,
            "any" => settings.allowed_senders = AllowedSenders::Any,
            "ip" => settings.addresses.push(AddressSettings::enabled("203.0.113.0/28", "Lyon")),
            "auth" => settings.require_auth = true,
            "tls" => settings.require_tls = true,
            "observe" => settings.mode = RelayMode::Observe,
            "off" => settings.mode = RelayMode::Off,
            "defer" => settings.unlisted_address = UnlistedAddress::Defer,
            name => settings.description = name.to_owned(),
        }
    }
    RelayEntry::new(settings).unwrap()
}

fn organization(name: &str, domains: &[&str], entries: &str) -> OrganizationRelay {
    let domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
    OrganizationRelay {
        entries: entries.split(';').filter(|words| !words.trim().is_empty()).map(entry).collect(),
        ..OrganizationRelay::new(name, domains, 250)
    }
}

/// Solarmora with these entries, and Nordlys, which has none.
fn service(entries: &str) -> RelayService {
    RelayService::new(vec![
        organization("Solarmora", &["solarmora.com", "solarmora.fr"], entries),
        organization("Nordlys", &["nordlys.example"], ""),
    ])
    .unwrap()
}

/// A session from words: an IP address, `tls`, `auth=…`, `helo=…`, `mx`, `both`.
fn session(words: &str) -> Session {
    let mut session = Session {
        client_ip: ELSEWHERE.parse().unwrap(),
        role: ListenerRole::Relay,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    };
    for word in words.split_whitespace() {
        match word.split_once('=') {
            Some(("auth", user)) => session.auth = Some(user.parse().unwrap()),
            Some((_, helo)) => session.helo = Some(helo.into()),
            None => match word {
                "tls" => session.tls = TlsState::Encrypted,
                "mx" => session.role = ListenerRole::Mx,
                "both" => session.role = ListenerRole::Both,
                ip => session.client_ip = ip.parse().unwrap(),
            },
        }
    }
    session
}

fn ask(service: &RelayService, client: &str, sender: &str) -> Result<Admission, Refusal> {
    service.admit(&session(client), &sender.parse().unwrap(), &People)
}

/// `250 sender [user]`, or `code enhanced reason`.
fn answer(service: &RelayService, client: &str, sender: &str) -> String {
    match ask(service, client, sender) {
        Ok(admission) => {
            let user = admission.quota.user.map_or_else(String::new, |user| format!(" {user}"));
            format!("250 <{}>{user}", admission.sender)
        }
        Err(refusal) => format!(
            "{} {} {:?}",
            refusal.reply.code(),
            refusal.reply.enhanced().unwrap(),
            refusal.because
        ),
    }
}

#[test]
fn who_may_relay_d2_d3_d5_d7_d8() {
    const MARIE: &str = "250 <marie@solarmora.com> marie@solarmora.com";
    const TLS: &str = "530 5.7.0 TlsRequired";
    const AUTH: &str = "530 5.7.0 AuthenticationRequired";
    const OTHER: &str = "550 5.7.1 AuthenticatedElsewhere";
    const IP: &str = "550 5.7.1 AddressNotListed";
    const USER: &str = "550 5.7.1 SenderNotRegistered";
    const DOMAIN: &str = "550 5.7.1 SenderNotInDomains";
    const UNKNOWN: &str = "550 5.7.1 Unidentified";
    const DOWN: &str = "451 4.3.0 DirectoryUnavailable";
    const NULL: &str = "250 <>";
    const PRINTER: &str = "250 <printer@solarmora.com>";
    for (entries, client, sender, want) in [
        // D3: the IP address.
        ("domains ip", LYON, "marie@solarmora.com", MARIE),
        ("domains ip", ELSEWHERE, "marie@solarmora.com", IP),
        ("domains ip", "::ffff:203.0.113.5", "marie@solarmora.com", MARIE),
        ("domains ip", "203.0.113.16", "marie@solarmora.com", IP),
        ("domains ip", "198.51.100.9 tls auth=marie@solarmora.com", "marie@solarmora.com", IP),
        ("domains ip", "198.51.100.9 helo=solarmora.com", "marie@solarmora.com", IP),
        // D3, D5: AUTH after TLS, whoever the client is.
        ("domains auth", LYON, "marie@solarmora.com", TLS),
        ("domains auth", "203.0.113.5 auth=marie@solarmora.com", "marie@solarmora.com", TLS),
        ("domains auth", "203.0.113.5 tls", "marie@solarmora.com", AUTH),
        ("domains auth", "tls auth=marie@solarmora.com", "marie@solarmora.com", MARIE),
        ("domains auth", "tls auth=marie@solarmora.com", "printer@solarmora.com", PRINTER),
        ("domains auth", "tls auth=ole@nordlys.example", "marie@solarmora.com", OTHER),
        ("domains auth", "tls auth=x@elsewhere.example", "marie@solarmora.com", OTHER),
        ("domains auth", "tls auth=x@[192.0.2.1]", "marie@solarmora.com", OTHER),
        ("domains tls ip", LYON, "marie@solarmora.com", TLS),
        ("domains tls ip", ELSEWHERE, "marie@solarmora.com", TLS),
        ("domains tls ip", "203.0.113.5 tls", "marie@solarmora.com", MARIE),
        // D3: both, TLS before AUTH before IP before the sender.
        ("domains ip auth", "203.0.113.5", "x@elsewhere.example", TLS),
        ("domains ip auth", "203.0.113.5 tls", "x@elsewhere.example", AUTH),
        ("domains ip auth", "198.51.100.9 tls", "x@elsewhere.example", AUTH),
        ("domains ip auth", "tls auth=marie@solarmora.com", "x@elsewhere.example", IP),
        (
            "domains ip auth",
            "203.0.113.5 tls auth=marie@solarmora.com",
            "x@elsewhere.example",
            DOMAIN,
        ),
        (
            "domains ip auth",
            "203.0.113.5 tls auth=marie@solarmora.com",
            "marie@solarmora.com",
            MARIE,
        ),
        // D2: registered users, their aliases, in any case; nobody else.
        ("users ip", LYON, "marie@solarmora.com", MARIE),
        ("users ip", LYON, "MARIE@Solarmora.com", "250 <MARIE@solarmora.com> marie@solarmora.com"),
        ("users ip", LYON, "m.paul@solarmora.fr", "250 <m.paul@solarmora.fr> marie@solarmora.com"),
        ("users ip", LYON, "printer@solarmora.com", USER),
        ("users ip", LYON, "team@solarmora.com", USER),
        ("users ip", LYON, "marie@mail.solarmora.com", USER),
        ("users ip", LYON, "x@elsewhere.example", USER),
        ("users ip", LYON, "ole@nordlys.example", USER),
        ("users ip", LYON, "down@solarmora.com", DOWN),
        ("users ip", ELSEWHERE, "down@solarmora.com", IP),
        // D2: our domains and below, secondary ones too.
        ("domains ip", LYON, "printer@solarmora.com", PRINTER),
        ("domains ip", LYON, "printer@solarmora.fr", "250 <printer@solarmora.fr>"),
        ("domains ip", LYON, "printer@a.b.solarmora.com", "250 <printer@a.b.solarmora.com>"),
        ("domains ip", LYON, "team@solarmora.com", "250 <team@solarmora.com>"),
        ("domains ip", LYON, "printer@notsolarmora.com", DOMAIN),
        ("domains ip", LYON, "printer@com", DOMAIN),
        ("domains ip", LYON, "printer@[203.0.113.5]", DOMAIN),
        ("domains ip", LYON, "ole@nordlys.example", DOMAIN),
        ("domains ip", "203.0.113.5 helo=solarmora.com", "x@elsewhere.example", DOMAIN),
        ("domains ip", LYON, "down@solarmora.com", DOWN),
        // D2, D7, D8: any sender, if it is known who sends.
        ("any ip", LYON, "marie@solarmora.com", MARIE),
        ("any ip", LYON, "printer@mail.solarmora.com", "250 <printer@mail.solarmora.com>"),
        ("any ip", LYON, "x@elsewhere.example", UNKNOWN),
        ("any ip", "203.0.113.5 helo=localhost", "x@elsewhere.example", UNKNOWN),
        ("any ip", "203.0.113.5 helo=[203.0.113.5]", "x@elsewhere.example", UNKNOWN),
        ("any ip", "203.0.113.5 helo=notsolarmora.com", "x@elsewhere.example", UNKNOWN),
        ("any ip", "203.0.113.5 helo=com", "x@elsewhere.example", UNKNOWN),
        ("any ip", "203.0.113.5 helo=nordlys.example", "x@elsewhere.example", UNKNOWN),
        (
            "any ip",
            "203.0.113.5 helo=solarmora.com",
            "x@elsewhere.example",
            "250 <postmaster@solarmora.com>",
        ),
        (
            "any ip",
            "203.0.113.5 helo=Mail.Solarmora.FR.",
            "x@elsewhere.example",
            "250 <postmaster@solarmora.fr>",
        ),
        (
            "any ip",
            "203.0.113.5 helo=solarmora.com",
            "x@[192.0.2.1]",
            "250 <postmaster@solarmora.com>",
        ),
        (
            "any ip",
            "203.0.113.5 helo=solarmora.com",
            "ole@nordlys.example",
            "250 <postmaster@solarmora.com>",
        ),
        ("any ip", "198.51.100.9 helo=solarmora.com", "x@elsewhere.example", IP),
        (
            "any auth",
            "tls auth=m.paul@solarmora.fr",
            "x@elsewhere.example",
            "250 <postmaster@solarmora.fr>",
        ),
        (
            "any auth",
            "tls auth=m.paul@solarmora.fr helo=solarmora.com",
            "x@elsewhere.example",
            "250 <postmaster@solarmora.fr>",
        ),
        ("any auth", "tls helo=solarmora.com", "x@elsewhere.example", AUTH),
        (
            "any ip",
            "203.0.113.5 tls auth=marie@solarmora.com",
            "x@elsewhere.example",
            "250 <postmaster@solarmora.com>",
        ),
        ("any ip", "203.0.113.5 auth=marie@solarmora.com", "x@elsewhere.example", UNKNOWN),
        // D7: the empty sender, in every mode.
        ("users ip", LYON, "<>", UNKNOWN),
        ("domains ip", LYON, "<>", UNKNOWN),
        ("any ip", LYON, "<>", UNKNOWN),
        ("users ip", "203.0.113.5 helo=mail.solarmora.com", "<>", NULL),
        ("domains ip", "203.0.113.5 helo=mail.solarmora.com", "<>", NULL),
        ("any ip", "203.0.113.5 helo=mail.solarmora.com", "<>", NULL),
        ("users auth", "tls auth=marie@solarmora.com", "<>", NULL),
        ("users auth", "tls helo=solarmora.com", "<>", AUTH),
        ("users ip", "198.51.100.9 helo=solarmora.com", "<>", IP),
        // Listeners.
        ("any ip", "203.0.113.5 mx", "marie@solarmora.com", "550 5.7.1 NotARelayListener"),
        ("any ip", "203.0.113.5 both", "marie@solarmora.com", MARIE),
        ("", LYON, "marie@solarmora.com", "550 5.7.1 NoRelayEntry"),
        ("any ip off", LYON, "marie@solarmora.com", "550 5.7.1 NoRelayEntry"),
    ] {
        assert_eq!(
            answer(&service(entries), client, sender),
            want,
            "{entries} | {client} | {sender}"
        );
    }
}

#[test]
fn of_several_entries_any_admits_and_the_furthest_refuses() {
    for (entries, client, sender, want) in [
        ("users auth one; domains ip two", LYON, "printer@solarmora.com", "two admits"),
        ("domains ip one; domains ip two", LYON, "printer@solarmora.com", "one admits"),
        ("users ip one; domains ip two", LYON, "printer@solarmora.com", "two admits"),
        // TLS is judged per entry: one's does not matter to two.
        (
            "users tls ip one; users ip two",
            LYON,
            "printer@solarmora.com",
            "two SenderNotRegistered",
        ),
        ("domains auth one; domains ip two", ELSEWHERE, "a@solarmora.com", "two AddressNotListed"),
        ("domains ip one; domains auth two", "tls", "a@solarmora.com", "one AddressNotListed"),
        ("domains auth one; domains tls ip two", ELSEWHERE, "a@solarmora.com", "one TlsRequired"),
        ("domains ip one; users ip two", LYON, "x@elsewhere.example", "one SenderNotInDomains"),
        ("domains ip one; any ip two", LYON, "x@elsewhere.example", "two Unidentified"),
        // O6: an observed entry admits what it admits, its refusal is not the answer.
        ("domains ip observe one", LYON, "a@solarmora.com", "one admits"),
        (
            "domains ip observe one",
            ELSEWHERE,
            "a@solarmora.com",
            "one AddressNotListed, one observed",
        ),
        (
            "users ip observe one; domains ip two",
            LYON,
            "a@solarmora.com",
            "two admits, one observed",
        ),
        (
            "users ip observe one; domains tls ip two",
            LYON,
            "a@solarmora.com",
            "two TlsRequired, one observed",
        ),
        ("any ip off one; domains ip two", LYON, "x@elsewhere.example", "two SenderNotInDomains"),
    ] {
        let (text, observed) = match ask(&service(entries), client, sender) {
            Ok(admission) => (format!("{} admits", admission.entry), admission.observed),
            Err(refusal) => {
                (format!("{} {:?}", refusal.entry.unwrap(), refusal.because), refusal.observed)
            }
        };
        let seen: String =
            observed.iter().map(|found| format!(", {} observed", found.entry)).collect();
        assert_eq!(text + &seen, want, "{entries} | {client} | {sender}");
    }
}

#[test]
fn organizations_that_share_a_client() {
    let shared = RelayService::new(vec![
        organization("Solarmora", &["solarmora.com"], "any ip; domains auth own"),
        organization(
            "Nordlys",
            &["nordlys.example", "sub.solarmora.com"],
            "domains ip; any auth own",
        ),
    ])
    .unwrap();
    for (client, sender, want) in [
        // The sender's own organization is taken before one that would rewrite it.
        ("203.0.113.5 helo=solarmora.com", "ole@nordlys.example", "Nordlys ole@nordlys.example"),
        ("203.0.113.5", "marie@solarmora.com", "Solarmora marie@solarmora.com"),
        ("203.0.113.5", "x@sub.solarmora.com", "Nordlys x@sub.solarmora.com"),
        ("203.0.113.5", "x@other.solarmora.com", "Solarmora x@other.solarmora.com"),
        (
            "203.0.113.5 helo=solarmora.com",
            "x@elsewhere.example",
            "Solarmora postmaster@solarmora.com",
        ),
        ("203.0.113.5 helo=nordlys.example", "<>", "Nordlys "),
        // AUTH names the organization before HELO does.
        (
            "203.0.113.5 tls auth=ole@nordlys.example helo=solarmora.com",
            "x@elsewhere.example",
            "Nordlys postmaster@nordlys.example",
        ),
    ] {
        let admission = ask(&shared, client, sender).unwrap();
        assert_eq!(format!("{} {}", admission.quota.organization, admission.sender), want);
    }
}

#[test]
fn logins_and_clients_are_told_where_they_are_limited_d11() {
    let listed = AddressSettings::enabled("2001:db8:0:1::/112", "v6");
    for (client, login, want) in [
        ("203.0.113.5", true, "203.0.113.5"),
        ("::ffff:203.0.113.5", false, "203.0.113.5"),
        ("2001:db8:0:1::7", false, "2001:db8:0:1::"),
    ] {
        let mut settings = RelaySettings::new("any", AllowedSenders::Any);
        settings.addresses = vec![AddressSettings::enabled("203.0.113.0/28", "v4"), listed.clone()];
        let mut solarmora = organization("Solarmora", &["solarmora.com"], "");
        solarmora.entries = vec![RelayEntry::new(settings).unwrap()];
        solarmora.limits.recipients_per_client_per_day = Some(5);
        solarmora.limits.recipients_per_login_per_day = login.then_some(5);
        let service = RelayService::new(vec![solarmora]).unwrap();
        let client = format!("{client} tls auth=marie@solarmora.com helo=localhost");
        let quota = ask(&service, &client, "x@elsewhere.example").unwrap().quota;
        assert_eq!(quota.login, login.then(|| "marie@solarmora.com".parse().unwrap()));
        assert_eq!(quota.client, Some(want.parse().unwrap()));
    }
}

#[test]
fn admissions_say_why_and_what_counts_d10_d12_d16() {
    let mut solarmora =
        organization("Solarmora", &["solarmora.com", "solarmora.fr"], "any ip auth");
    let limits = UserLimitOverrides { messages_per_user_per_day: Some(5), ..Default::default() };
    solarmora.user_limits.insert("marie@solarmora.com".parse().unwrap(), limits);
    solarmora.payment = Payment::Overdue;
    solarmora.limits.mode = LimitMode::Observe;
    let service = RelayService::new(vec![solarmora]).unwrap();

    let client = "203.0.113.5 tls auth=marie@solarmora.com helo=localhost";
    let admission = ask(&service, client, "m.paul@solarmora.fr").unwrap();
    assert_eq!(
        admission.because.to_string(),
        "authenticated as marie@solarmora.com, from 203.0.113.0/28 (Lyon), sender is the user marie@solarmora.com"
    );
    assert_eq!(admission.quota.user, Some("marie@solarmora.com".parse().unwrap()));
    assert_eq!(admission.quota.limits.messages_per_user_per_day, 5);
    assert_eq!(admission.quota.limits.recipients_per_day, 100);
    assert_eq!(
        Some(admission.quota.limits),
        service.limits("Solarmora", admission.quota.user.as_ref())
    );

    assert_eq!((&admission.quota.login, admission.quota.client), (&None, None), "not limited");

    // Neither AUTH nor the rewritten sender make a user of a foreign sender.
    let admission = ask(&service, client, "x@elsewhere.example").unwrap();
    assert_eq!(admission.quota.user, None);
    assert_eq!(admission.original_sender.to_string(), "x@elsewhere.example");
    assert!(admission.because.to_string().ends_with("known as solarmora.com by AUTH"));
    assert_eq!(service.limits("Nobody", None), None);
}

#[test]
fn refusals_tell_nothing_of_users_or_entries() {
    let service = service("users ip secret");
    let unknown = ask(&service, LYON, "nobody@solarmora.com").unwrap_err();
    let foreign = ask(&service, LYON, "x@elsewhere.example").unwrap_err();
    assert_eq!(unknown.reply, foreign.reply);
    assert!(!unknown.reply.to_string().contains("secret"));
    assert_eq!(unknown.entry.as_deref(), Some("secret"));
    for because in RefusalReason::ALL {
        let reply = because.reply();
        assert!(
            reply.text().ends_with(')') && reply.text().contains(" ("),
            "{because:?}: its rule"
        );
        assert!(
            reply.text().contains([';', ',']) || reply.text().contains("must"),
            "{because:?}: its cure"
        );
        let is_down = because == RefusalReason::DirectoryUnavailable;
        let is_temporary = is_down || because == RefusalReason::AddressDeferred;
        assert_eq!(reply.code() < 500, is_temporary, "{because:?}");
        let says_rule = because.to_string().contains("(D") || is_down;
        let is_of_no_entry = because.stage() == 0;
        assert!(says_rule || is_of_no_entry, "{because:?} names its rule in the log");
    }
}

/// What a client hears that tried AUTH and failed before: of AUTH, where it would have helped.
#[test]
fn after_a_failed_auth_the_reason_is_auth_d3_d6() {
    use RefusalReason::{
        AddressNotListed, AuthenticationFailed, AuthenticationRequired, SenderNotInDomains,
        TlsRequired,
    };
    for (entries, client, sender, want) in [
        ("domains auth", "tls", "a@solarmora.com", AuthenticationFailed),
        ("domains ip one; domains auth two", "tls", "a@solarmora.com", AuthenticationFailed),
        // AUTH would not help where the address is wrong as well.
        ("domains ip auth", "tls", "a@solarmora.com", AuthenticationRequired),
        ("domains ip", "tls", "a@solarmora.com", AddressNotListed),
        ("domains ip one; any auth two", "tls 203.0.113.5", "x@y.example", AuthenticationFailed),
        ("domains ip", "tls 203.0.113.5", "x@y.example", SenderNotInDomains),
        ("any ip", "tls 203.0.113.5", "x@y.example", AuthenticationFailed),
        ("domains auth off one; domains ip two", "tls", "a@solarmora.com", AddressNotListed),
        ("domains auth observe one; domains ip two", "tls", "a@solarmora.com", AddressNotListed),
        ("domains ip tls", "", "a@solarmora.com", TlsRequired),
    ] {
        let before = ask(&service(entries), client, sender).unwrap_err();
        let after = before.clone().after_failed_auth();
        assert_eq!(after.because, want, "{entries} | {client} | {sender}");
        assert_eq!(after.reply == before.reply, want != AuthenticationFailed);
        assert_eq!(after.organization, before.organization);
    }
}

#[test]
fn an_unlisted_address_is_rejected_or_deferred_d3() {
    for (entries, client, want) in [
        ("domains ip", ELSEWHERE, "550 5.7.1 AddressNotListed"),
        ("domains ip defer", ELSEWHERE, "450 4.7.1 AddressDeferred"),
        ("domains ip one; domains ip defer two", ELSEWHERE, "450 4.7.1 AddressDeferred"),
        ("domains ip defer one; domains ip two", ELSEWHERE, "450 4.7.1 AddressDeferred"),
        ("domains ip observe defer one; domains ip two", ELSEWHERE, "550 5.7.1 AddressNotListed"),
        ("domains ip defer one; users ip two", LYON, "250 <a@solarmora.com>"),
        ("domains auth ip defer", ELSEWHERE, "530 5.7.0 TlsRequired"),
        ("domains auth ip defer", "tls", "530 5.7.0 AuthenticationRequired"),
        ("domains auth ip defer", "tls auth=marie@solarmora.com", "450 4.7.1 AddressDeferred"),
    ] {
        assert_eq!(
            answer(&service(entries), client, "a@solarmora.com"),
            want,
            "{entries} | {client}"
        );
    }
}

#[test]
fn organizations_must_agree_d1() {
    let errors = RelayService::new(vec![
        organization("A", &["a.example"], "ip twice; ip TWICE; ip once"),
        organization("a", &["a.example", "b.example"], "ip twice"),
        organization("C", &[], ""),
        organization("D", &["d.example", "d.example"], ""),
    ])
    .unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4, "{texts:#?}");
    for (text, want) in
        texts.iter().zip(["`TWICE` (D1)", "name `a`", "of both `A` and `a`", "no domain"])
    {
        assert!(text.contains(want), "{text}");
    }
}

/// Admission as the requirements tell it, one entry, without a shared thought about order.
fn naive(words: &str, client: &Session, sender: &ReversePath) -> bool {
    let ours = |domain: &Domain| {
        ["solarmora.com", "solarmora.fr"]
            .iter()
            .any(|own| domain.is_at_or_below(&own.parse().unwrap()))
    };
    let has = |word: &str| words.split_whitespace().any(|found| found == word);
    let encrypted = client.tls == TlsState::Encrypted;
    let auth = encrypted && client.auth.as_ref().and_then(Mailbox::domain).is_some_and(ours);
    let helo = client
        .helo
        .as_deref()
        .and_then(|helo| helo.parse::<Domain>().ok())
        .is_some_and(|helo| ours(&helo));
    let registered = sender.mailbox().is_some_and(|sender| {
        ["marie@solarmora.com", "m.paul@solarmora.fr"]
            .iter()
            .any(|own| *sender == own.parse().unwrap())
    });
    let d3 = (!has("ip") || client.client_ip == LYON.parse::<std::net::IpAddr>().unwrap())
        && (!has("auth") || auth)
        && (!has("tls") || encrypted);
    let known = auth || helo;
    let d2 = match sender {
        ReversePath::Null => known,
        ReversePath::Mailbox(_) if has("users") => registered,
        ReversePath::Mailbox(_) => {
            let own = sender.domain().is_some_and(ours);
            own || (has("any") && known)
        }
    };
    d3 && d2
}

proptest! {
    #[test]
    fn admission_equals_the_naive_reading_and_is_never_open_d3(
        mode in prop::sample::select(vec!["users", "domains", "any"]),
        proof in prop::sample::select(vec!["ip", "auth", "ip auth"]),
        tls in prop::sample::select(vec!["", "tls"]),
        ip in prop::sample::select(vec![LYON, ELSEWHERE, "2001:db8::1"]),
        encrypted in prop::sample::select(vec!["", "tls"]),
        auth in prop::sample::select(vec!["", "auth=marie@solarmora.com", "auth=ole@nordlys.example"]),
        helo in prop::sample::select(vec!["", "helo=mx.solarmora.com", "helo=nordlys.example", "helo=\u{fffd}", "helo=."]),
        sender in prop::sample::select(vec![
            "<>", "marie@solarmora.com", "m.paul@solarmora.fr", "x@solarmora.com", "x@sub.solarmora.fr",
            "ole@nordlys.example", "x@elsewhere.example", "x@[192.0.2.1]",
        ]),
    ) {
        let words = format!("{mode} {proof} {tls}");
        let client = session(&format!("{ip} {encrypted} {auth} {helo}"));
        let sender: ReversePath = sender.parse().unwrap();
        let got = service(&words).admit(&client, &sender, &People);
        prop_assert_eq!(got.is_ok(), naive(&words, &client, &sender));
        if let Ok(admission) = got {
            let ours = |path: &ReversePath| path.domain().is_some_and(|domain| {
                domain.as_str().ends_with("solarmora.com") || domain.as_str().ends_with("solarmora.fr")
            });
            prop_assert!(admission.sender.is_null() || ours(&admission.sender), "D8");
            prop_assert_eq!(admission.sender == admission.original_sender, sender.is_null() || ours(&sender));
        }
    }

    #[test]
    fn no_helo_panics(helo in "\\PC{0,300}") {
        let mut client = session(LYON);
        client.helo = Some(helo.into());
        let _ = service("any ip").admit(&client, &"x@elsewhere.example".parse().unwrap(), &People);
    }
}
