//! The three switches against real handshakes: every kind of certificate under all combinations.

use crate::support;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use support::{Step, greeting, hop, message, peer, settings, transaction};
use waypost_net::client::{ConnectError, Connection, Hop, Over, Pool, PoolLimits, connect};
use waypost_net::tls::{
    Roots, TlsClients, TlsFailure, TlsPolicy, TlsSwitch, TlsVersion, server_config,
};
use waypost_smtp::client::TlsUse;
use waypost_types::{FailureScope, HostPort, Outcome};

const TEXT: &str = "Subject: x\r\n\r\nbody\r\n";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

/// A server's configuration by way of PEM files, as a listener has it.
fn server(folder: &Path, params: CertificateParams, by: Option<&Authority>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let (chain, secret) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    server_config(&chain, &secret).unwrap()
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn starttls(config: &Arc<ServerConfig>) -> Vec<Step> {
    vec![
        Step::Say("220 mx.example\r\n"),
        Step::Hear("EHLO"),
        Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
        Step::Hear("STARTTLS"),
        Step::Say("220 go\r\n"),
        Step::Tls(config.clone()),
        Step::Hear("EHLO"),
        Step::Say("250-mx.example\r\n250 PIPELINING\r\n"),
    ]
}

async fn reach(hop: &Hop) -> Result<Connection, ConnectError> {
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    connect(local, hop, &settings(), &TlsClients::default()).await
}

/// (require_tls, require_ca_signed, verify_hostname)
fn combinations() -> impl Iterator<Item = (bool, bool, bool)> {
    (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
}

#[tokio::test]
async fn every_certificate_under_all_eight_combinations_a5_a6_a7() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, &ours.pem).unwrap();
    let mut expired = named("mx.example");
    (expired.not_before, expired.not_after) =
        (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let mut early = named("mx.example");
    (early.not_before, early.not_after) = (date_time_ymd(2996, 1, 1), date_time_ymd(2997, 1, 1));
    let wrong = |name: &str| Some(TlsFailure::WrongName { names: vec![name.to_owned()] });

    // Certificate, host connected to, what A6 finds, what A7 finds.
    let name = "mx.example";
    let table = vec![
        ("good", named(name), Some(&ours), name, None, None),
        ("self-signed", named(name), None, name, Some(TlsFailure::Untrusted), None),
        ("wrong name", named("b.example"), Some(&ours), name, None, wrong("b.example")),
        ("wild card", named("*.w.example"), Some(&ours), "mx.w.example", None, None),
        ("expired", expired, Some(&ours), name, Some(TlsFailure::Expired), None),
        ("too early", early, Some(&ours), name, Some(TlsFailure::NotYetValid), None),
        ("unknown CA", named(name), Some(&theirs), name, Some(TlsFailure::Untrusted), None),
        ("IP SAN", named("127.0.0.1"), Some(&ours), "127.0.0.1", None, None),
        ("name for an IP", named(name), Some(&ours), "127.0.0.1", None, wrong(name)),
        (
            "both wrong",
            named("b.example"),
            None,
            name,
            Some(TlsFailure::Untrusted),
            wrong("b.example"),
        ),
    ];
    for (kind, params, by, host, chain, name) in table {
        let config = server(folder.path(), params, by);
        for (require_tls, require_ca_signed, verify_hostname) in combinations() {
            let case = format!("{kind} {require_tls} {require_ca_signed} {verify_hostname}");
            let script = [starttls(&config), message()].concat();
            let (address, peer) = peer(vec![script]).await;
            let tls = TlsPolicy {
                tls: if require_tls { TlsUse::Required } else { TlsUse::Opportunistic },
                require_ca_signed,
                verify_hostname,
                roots: Roots::File(roots.clone()),
            };
            let mut hop = hop(address, tls);
            hop.host = HostPort::parse_or(host, address.port()).unwrap();
            let want = chain.clone().filter(|_| require_ca_signed);
            let want = want.or(name.clone().filter(|_| verify_hostname));
            match (reach(&hop).await, want) {
                (Ok(mut connection), None) => {
                    let facts = connection.tls().unwrap();
                    assert_eq!((facts.version.as_str(), facts.chain.len()), ("TLSv1_3", 1));
                    let outcomes = connection.send(transaction(TEXT)).await;
                    assert!(matches!(&outcomes[..], [Outcome::Delivered { .. }]), "{case}");
                    drop(connection);
                    let heard = peer.await.unwrap();
                    assert_eq!(heard[0][2], "(TLS)", "{case}");
                }
                (Err(error), Some(want)) => {
                    assert_eq!(error.tls(), Some(&want), "{case}");
                    let failure = error.to_failure(&hop.host);
                    assert_eq!(failure.scope, FailureScope::Tls, "{case}");
                    assert!(failure.to_string().contains("switch "), "{case}: {failure}");
                    // Never clear text where a certificate was refused.
                    assert!(!peer.await.unwrap().concat().iter().any(|l| l.starts_with("MAIL")));
                }
                (got, want) => panic!("{case}: {:?}, not {want:?}", got.err()),
            }
        }
    }
}

#[tokio::test]
async fn without_starttls_only_a5_fails() {
    for (require_tls, require_ca_signed, verify_hostname) in combinations() {
        for refused in [false, true] {
            let script = match refused {
                false => greeting(),
                true => vec![
                    Step::Say("220 mx.example\r\n"),
                    Step::Hear("EHLO"),
                    Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
                    Step::Hear("STARTTLS"),
                    Step::Say("454 4.7.0 not now\r\n"),
                ],
            };
            let (address, _peer) = peer(vec![script]).await;
            let tls = TlsPolicy {
                tls: if require_tls { TlsUse::Required } else { TlsUse::Opportunistic },
                require_ca_signed,
                verify_hostname,
                roots: Roots::System,
            };
            match reach(&hop(address, tls)).await {
                Ok(connection) => assert!(!require_tls && connection.tls().is_none()),
                Err(error) => {
                    assert!(require_tls, "{error}");
                    let failure = error.tls().unwrap();
                    assert_eq!(failure.switch(), Some(TlsSwitch::RequireTls));
                    assert_eq!(matches!(failure, TlsFailure::StartTlsRefused(_)), refused);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_broken_handshake_leads_to_clear_text_only_with_all_switches_off() {
    for (require_tls, require_ca_signed, verify_hostname) in combinations() {
        let broken = vec![
            Step::Say("220 mx.example\r\n"),
            Step::Hear("EHLO"),
            Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
            Step::Hear("STARTTLS"),
            Step::Say("220 go\r\n"),
            // Waits for the client to begin, so that this is no injection.
            Step::Octet,
            Step::Say("this is no TLS record at all\r\n"),
            Step::Stall,
        ];
        let (address, peer) = peer(vec![broken, [greeting(), message()].concat()]).await;
        let tls = TlsPolicy {
            tls: if require_tls { TlsUse::Required } else { TlsUse::Opportunistic },
            require_ca_signed,
            verify_hostname,
            roots: Roots::System,
        };
        match reach(&hop(address, tls.clone())).await {
            Ok(mut connection) => {
                assert!(tls.falls_back() && connection.tls().is_none());
                connection.send(transaction(TEXT)).await;
                drop(connection);
                let heard = peer.await.unwrap();
                assert!(!heard[1].iter().any(|line| line == "STARTTLS"));
            }
            Err(error) => {
                assert!(!tls.falls_back(), "{error}");
                assert!(matches!(error.tls(), Some(TlsFailure::Handshake(_))), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn implicit_tls_begins_with_the_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, &ours.pem).unwrap();
    let config = server(folder.path(), named("mx.example"), Some(&ours));
    let script = [vec![Step::Tls(config)], greeting(), message()].concat();
    let (address, peer) = peer(vec![script]).await;
    let tls = TlsPolicy { tls: TlsUse::Implicit, roots: Roots::File(roots), ..TlsPolicy::strict() };
    let mut connection = reach(&hop(address, tls)).await.unwrap();
    let outcomes = connection.send(transaction(TEXT)).await;
    assert!(matches!(&outcomes[..], [Outcome::Delivered { .. }]));
    drop(connection);
    assert_eq!(peer.await.unwrap()[0][..2], ["(TLS)", "EHLO us.example"]);
}

#[tokio::test]
async fn a_certificate_may_bear_the_alias_of_the_host_a7() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, &ours.pem).unwrap();
    let config = server(folder.path(), named("route.example"), Some(&ours));
    let (address, _peer) = peer(vec![starttls(&config)]).await;
    let mut hop = hop(address, TlsPolicy { roots: Roots::File(roots), ..TlsPolicy::strict() });
    hop.alias = Some("route.example".parse().unwrap());
    assert!(reach(&hop).await.is_ok());
}

#[tokio::test]
async fn a_root_file_that_is_missing_is_named() {
    let (address, _peer) = peer(vec![vec![
        Step::Say("220 x\r\n"),
        Step::Hear("EHLO"),
        Step::Say("250-x\r\n250 STARTTLS\r\n"),
        Step::Hear("STARTTLS"),
        Step::Say("220 go\r\n"),
        Step::Stall,
    ]])
    .await;
    let tls = TlsPolicy { roots: Roots::File("no/such.pem".into()), ..TlsPolicy::strict() };
    let error = reach(&hop(address, tls)).await.err().unwrap().to_string();
    assert!(error.contains("no/such.pem"), "{error}");
}

#[tokio::test]
async fn a_delivery_says_over_which_connection_it_went_o4() {
    let folder = tempfile::tempdir().unwrap();
    let config = server(folder.path(), named("mx.example"), None);
    let secure = [starttls(&config), message(), message()].concat();
    let broken = vec![
        Step::Say("220 mx.example\r\n"),
        Step::Hear("EHLO"),
        Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
        Step::Hear("STARTTLS"),
        Step::Say("220 go\r\n"),
        Step::Octet,
        Step::Say("this is no TLS record at all\r\n"),
        Step::Stall,
    ];
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    let over =
        |tls, is_new, handshakes_failed| Over { ip: Some(local), tls, is_new, handshakes_failed };
    let tls = Some(TlsVersion::V1_3);
    for (scripts, want) in [
        (vec![secure], vec![over(tls, true, 0), over(tls, false, 0)]),
        (vec![broken, [greeting(), message()].concat()], vec![over(None, true, 1)]),
    ] {
        let (address, _peer) = peer(scripts).await;
        let pool = Pool::new(settings(), PoolLimits::default());
        let hop = hop(address, TlsPolicy::opportunistic());
        for want in want {
            let (report, over) = pool.deliver_over(&hop, &[local], transaction(TEXT)).await;
            assert!(matches!(&report.outcomes[..], [Outcome::Delivered { .. }]));
            assert_eq!(over, want);
        }
        let (_, over) = pool.deliver_over(&hop, &[], transaction(TEXT)).await;
        assert_eq!(over, Over::default(), "there was no address to try");
    }
}

#[tokio::test]
async fn nothing_that_was_heard_before_tls_survives_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = server(folder.path(), named("mx.example"), None);
    // RFC 3207 section 6: replies in clear text behind the 220, whole or cut, at once or later.
    for behind in ["220 go\r\n250 2.1.0 ok\r\n", "220 go\r\n25", "220 go\r\n\0", "220 go\r\n\r\n"] {
        for tls in [TlsPolicy::opportunistic(), TlsPolicy::strict()] {
            let script = vec![
                Step::Say("220 mx.example\r\n"),
                Step::Hear("EHLO"),
                Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
                Step::Hear("STARTTLS"),
                Step::Say(behind),
                Step::Tls(config.clone()),
                Step::Hear("EHLO"),
                Step::Say("250 mx.example\r\n"),
            ];
            let (address, peer) = peer(vec![script]).await;
            let hop = hop(address, tls);
            let Err(error) = reach(&hop).await else { panic!("{behind:?}") };
            let failure = error.to_failure(&hop.host);
            assert_eq!(failure.scope, FailureScope::Host, "{behind:?}: {failure}");
            assert!(failure.to_string().contains("RFC 3207 section 6"), "{behind:?}: {failure}");
            let heard = peer.await.unwrap().concat();
            assert_eq!(heard.last().unwrap(), "STARTTLS", "no clear text instead: {heard:?}");
        }
    }
    // RFC 3207 section 4.2: what was offered in clear text is forgotten.
    let script = vec![
        Step::Say("220 mx.example\r\n"),
        Step::Hear("EHLO"),
        Step::Say(
            "250-mx.example\r\n250-SIZE 1\r\n250-AUTH PLAIN\r\n250-SMTPUTF8\r\n250 STARTTLS\r\n",
        ),
        Step::Hear("STARTTLS"),
        Step::Say("220 go\r\n"),
        Step::Tls(config),
        Step::Hear("EHLO"),
        Step::Say("250-mx.example\r\n250 DSN\r\n"),
    ];
    let (address, _peer) = peer(vec![script]).await;
    let connection = reach(&hop(address, TlsPolicy::opportunistic())).await.unwrap();
    let want = waypost_smtp::client::Extensions { dsn: true, ..Default::default() };
    assert_eq!(*connection.extensions(), want);
}
