//! What a test of a route's TLS finds (A8).

use crate::support;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use support::{Step, goodbye, greeting, hop, peer, settings};
use tempfile::TempDir;
use waypost_net::client::{
    Checked, HostReport, PROBE_TIME, Passage, ProbeError, RouteProbe, TlsReport, probe,
};
use waypost_net::dns::StaticResolver;
use waypost_net::tls::{Roots, TlsClients, TlsFailure, TlsPolicy, TlsSwitch, server_config};
use waypost_route::{HostSettings, Protocol, Route, RouteSettings, Tier};
use waypost_smtp::client::{Credentials, TlsUse};
use waypost_types::Timestamp;

/// A folder with the roots, and servers whose certificates they sign or not.
struct Place {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "our authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("roots.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn roots(&self) -> PathBuf {
        self.folder.path().join("roots.pem")
    }

    fn strict(&self) -> TlsPolicy {
        TlsPolicy { roots: Roots::File(self.roots()), ..TlsPolicy::strict() }
    }

    fn server(&self, names: &[&str], signed: bool) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = match signed {
            true => params.signed_by(&key, &self.issuer).unwrap(),
            false => params.self_signed(&key).unwrap(),
        };
        let (chain, secret) = (self.folder.path().join("c.pem"), self.folder.path().join("k.pem"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        server_config(&chain, &secret).unwrap()
    }
}

fn starttls(hello: &'static str, config: &Arc<ServerConfig>) -> Vec<Step> {
    let script = vec![
        Step::Say("220 mx.example\r\n"),
        Step::Hear(hello),
        Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
        Step::Hear("STARTTLS"),
        Step::Say("220 go\r\n"),
        Step::Tls(config.clone()),
        Step::Hear(hello),
        Step::Say("250-mx.example\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n"),
    ];
    [script, goodbye()].concat()
}

fn results(report: &TlsReport) -> String {
    let word = |switch| match report.finding(switch) {
        Checked::Passes => "passes",
        Checked::Fails(_) => "fails",
        Checked::Unknown => "unknown",
    };
    TlsSwitch::ALL.map(word).join(" ")
}

#[tokio::test]
async fn every_switch_is_judged_whether_it_is_on_or_not_a8() {
    let place = Place::new();
    let good = place.server(&["mx.example"], true);
    let bad = place.server(&["b.example", "*.c.example"], false);
    let refused = vec![
        Step::Say("220 mx.example\r\n"),
        Step::Hear("EHLO"),
        Step::Say("250-mx.example\r\n250 STARTTLS\r\n"),
        Step::Hear("STARTTLS"),
        Step::Say("454 4.7.0 not now\r\n"),
    ];
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
    let off = TlsPolicy { roots: Roots::File(place.roots()), ..TlsPolicy::opportunistic() };
    let checks = TlsPolicy { tls: TlsUse::Opportunistic, ..place.strict() };
    let tls_alone = TlsPolicy { tls: TlsUse::Required, ..off.clone() };
    for (script, policy, found, passage, failures) in [
        (starttls("EHLO", &good), place.strict(), "passes passes passes", Passage::Encrypted, 0),
        (starttls("EHLO", &bad), place.strict(), "passes fails fails", Passage::Stopped, 2),
        (starttls("EHLO", &bad), tls_alone, "passes fails fails", Passage::Encrypted, 0),
        (starttls("EHLO", &bad), off.clone(), "passes fails fails", Passage::Encrypted, 0),
        (greeting(), place.strict(), "fails unknown unknown", Passage::Stopped, 1),
        (greeting(), checks.clone(), "fails unknown unknown", Passage::Clear, 0),
        (greeting(), off.clone(), "fails unknown unknown", Passage::Clear, 0),
        (refused.clone(), place.strict(), "fails unknown unknown", Passage::Stopped, 1),
        (refused, off.clone(), "fails unknown unknown", Passage::Clear, 0),
        (broken.clone(), checks, "fails unknown unknown", Passage::Stopped, 1),
        (broken, off, "fails unknown unknown", Passage::Clear, 0),
    ] {
        let (address, peer) = peer(vec![script]).await;
        let mut hop = hop(address, policy);
        let secret = Credentials { user: "u".into(), password: "p".into() };
        hop.credentials = Some(secret);
        let report =
            probe(address.ip(), &hop, &settings(), &TlsClients::default(), PROBE_TIME).await;
        assert_eq!(results(&report), found, "{report:?}");
        assert_eq!(report.passage(), passage, "{report:?}");
        assert_eq!(report.failures().count(), failures, "{report:?}");
        assert_eq!(report.remedies().is_empty(), failures == 0, "{report:?}");
        assert_eq!(report.address, address);
        let heard = peer.await.unwrap().concat();
        let said = |verb: &str| heard.iter().any(|line| line.starts_with(verb));
        assert!(!said("AUTH") && !said("MAIL"), "{heard:?}");
        if report.session.is_some() {
            assert_eq!(heard.last().unwrap(), "QUIT");
            let left = report.certificate().unwrap().days_left(Timestamp::default());
            assert!(left > 700_000, "{left}");
        }
    }
}

#[tokio::test]
async fn remedies_are_those_of_the_failure_and_name_the_name_to_use_a8() {
    let place = Place::new();
    for (names, signed, want) in [
        (
            &["b.example", "*.c.example"][..],
            true,
            &[
                "If the host is known by several names, use the one on its certificate as the \
                 route's host: `b.example`.",
                "If the server is yours, install a certificate of a trusted authority that names \
                 `mx.example`.",
                "If the host belongs to a mail relay service, ask its provider about this failure.",
                "Or switch off `verify_hostname`; it is better to leave it on.",
            ][..],
        ),
        (
            &["mx.example"],
            false,
            &[
                "If the server is yours, install a certificate of a trusted authority that names \
                 `mx.example`.",
                "If the authority is your own, name its root certificate in the route's `roots`.",
                "If the host belongs to a mail relay service, ask its provider about this failure.",
                "Or switch off `require_ca_signed`; it is better to leave it on.",
            ],
        ),
    ] {
        let script = starttls("EHLO", &place.server(names, signed));
        let (address, _peer) = peer(vec![script]).await;
        let hop = hop(address, place.strict());
        let report =
            probe(address.ip(), &hop, &settings(), &TlsClients::default(), PROBE_TIME).await;
        assert_eq!(report.remedies(), want);
        let wrong = matches!(report.failures().next(), Some(TlsFailure::WrongName { .. }));
        assert_eq!(report.names_to_use(), if wrong { vec!["b.example"] } else { vec![] });
    }
}

#[tokio::test]
async fn an_address_that_says_nothing_costs_the_limit_and_no_more_a8() {
    let (address, _peer) = peer(vec![vec![Step::Stall]]).await;
    let hop = hop(address, TlsPolicy::strict());
    let limit = Duration::from_millis(50);
    let report = probe(address.ip(), &hop, &settings(), &TlsClients::default(), limit).await;
    assert!(matches!(report.error, Some(ProbeError::TimedOut(_))), "{report:?}");
    assert_eq!(report.passage(), Passage::Stopped);
    assert_eq!(results(&report), "unknown unknown unknown");
}

fn route(settings: RouteSettings) -> Route {
    Route::new(RouteSettings { name: "r".into(), ..settings }).unwrap()
}

async fn look(place: &Place, resolver: &StaticResolver, route: &Route) -> Vec<HostReport> {
    let probe = RouteProbe {
        resolver,
        tls: &TlsClients::default(),
        hostname: &"us.example".parse().unwrap(),
        base: place.folder.path(),
        limit: PROBE_TIME,
        at_once: 4,
    };
    let report = probe.run(route).await;
    let all_good = report.hosts.iter().all(HostReport::is_good);
    assert_eq!(report.is_good(), all_good);
    report.hosts
}

#[tokio::test]
async fn every_host_and_every_address_of_a_route_is_looked_at_a8() {
    let place = Place::new();
    let good = place.server(&["mx.example", "second.example"], true);
    let (first, _one) = peer(vec![starttls("EHLO", &good)]).await;
    let (second, _two) = peer(vec![starttls("EHLO", &good)]).await;
    let host = |host: &str, at: SocketAddr| HostSettings {
        host: host.into(),
        port: Some(at.port().into()),
        load: Some(100),
        tls: None,
    };
    let route = route(RouteSettings {
        primary: Some(vec![host("mx.example", first)]),
        secondary: Some(vec![host("second.example", second)]),
        roots: Some("roots.pem".into()),
        ..RouteSettings::default()
    });
    // The second address of the first host refuses connections.
    let resolver = StaticResolver::default()
        .with_addresses("mx.example", &["127.0.0.1", "127.9.9.9"])
        .with_addresses("second.example", &["127.0.0.1"]);
    let hosts = look(&place, &resolver, &route).await;
    assert_eq!(hosts.len(), 2);
    let found: Vec<_> = hosts[0].addresses.iter().map(|one| (one.address, one.passage())).collect();
    let other = SocketAddr::new("127.9.9.9".parse().unwrap(), first.port());
    assert_eq!(found, [(first, Passage::Encrypted), (other, Passage::Stopped)]);
    assert!(hosts[0].addresses[1].error.is_some());
    assert_eq!((hosts[0].tier, hosts[1].tier), (Tier::Primary, Tier::Secondary));
    assert!(!hosts[0].is_good() && hosts[1].is_good());
}

#[tokio::test]
async fn mx_hosts_are_looked_up_and_a_name_that_leads_here_is_named_a4_a8() {
    let place = Place::new();
    let other = place.server(&["elsewhere.example", "other.example"], true);
    let of_route = place.server(&["route.example"], true);
    for (config, is_good) in [(other, false), (of_route, true)] {
        let (address, _peer) = peer(vec![starttls("EHLO", &config)]).await;
        let route = route(RouteSettings {
            host: Some("route.example".into()),
            port: Some(address.port().into()),
            mx_lookup: Some(true),
            roots: Some("roots.pem".into()),
            ..RouteSettings::default()
        });
        let resolver = StaticResolver::default()
            .with_mx("route.example", &[(10, "mx.example"), (20, "gone.example")])
            .with_addresses("mx.example", &["127.0.0.1"])
            .with_addresses("elsewhere.example", &["192.0.2.9"])
            .with_addresses("other.example", &["192.0.2.9", "127.0.0.1"]);
        let hosts = look(&place, &resolver, &route).await;
        let [host] = &hosts[..] else { panic!("{hosts:?}") };
        assert_eq!(host.left_out.len(), 1, "{host:?}");
        let [report] = &host.addresses[..] else { panic!("{host:?}") };
        assert_eq!(report.host.host.to_string(), "mx.example");
        assert_eq!(host.is_good(), is_good, "{host:?}");
        if !is_good {
            assert_eq!(report.names_to_use(), ["other.example", "elsewhere.example"]);
            let first = report.remedies().swap_remove(0);
            assert!(first.contains("`other.example`") && first.contains("leads to"), "{first}");
        }
    }
}

#[tokio::test]
async fn lmtp_implicit_tls_and_hosts_without_an_address_a8() {
    let place = Place::new();
    let good = place.server(&["mx.example"], true);
    let implicit = [vec![Step::Tls(good.clone())], greeting(), goodbye()].concat();
    let lmtp = starttls("LHLO", &good);
    let resolver = StaticResolver::default().with_addresses("mx.example", &["127.0.0.1"]);
    for (script, protocol, tls) in [
        (implicit, Protocol::Smtp, waypost_route::TlsStart::Implicit),
        (lmtp, Protocol::Lmtp, waypost_route::TlsStart::Starttls),
    ] {
        let (address, peer) = peer(vec![script]).await;
        let route = route(RouteSettings {
            host: Some("mx.example".into()),
            port: Some(address.port().into()),
            protocol: Some(protocol),
            tls: Some(tls),
            roots: Some("roots.pem".into()),
            ..RouteSettings::default()
        });
        let hosts = look(&place, &resolver, &route).await;
        assert!(hosts[0].is_good(), "{hosts:?}");
        let session = hosts[0].addresses[0].session.as_ref().unwrap();
        assert_eq!(session.version, "TLSv1_3");
        assert!(peer.await.unwrap().concat().contains(&"QUIT".to_owned()));
    }
    let nowhere = route(RouteSettings { host: Some("no.example".into()), ..Default::default() });
    let hosts = look(&place, &resolver, &nowhere).await;
    assert!(hosts[0].addresses.is_empty() && !hosts[0].is_good());
    assert!(hosts[0].failure.as_ref().unwrap().to_string().contains("no.example"));
    let missing = route(RouteSettings {
        host: Some("127.0.0.1".into()),
        roots: Some("gone.pem".into()),
        ..Default::default()
    });
    assert_eq!(missing.roots(), Some("gone.pem"));
}

#[tokio::test]
async fn a_root_file_that_is_missing_is_named_a8() {
    let place = Place::new();
    let good = place.server(&["mx.example"], true);
    let (address, _peer) = peer(vec![starttls("EHLO", &good)]).await;
    let gone = Path::new("no/such.pem").to_owned();
    let hop = hop(address, TlsPolicy { roots: Roots::File(gone), ..TlsPolicy::strict() });
    let local: IpAddr = address.ip();
    let report = probe(local, &hop, &settings(), &TlsClients::default(), PROBE_TIME).await;
    assert_eq!(report.passage(), Passage::Stopped);
    let error = report.error.unwrap().to_string();
    assert!(error.contains("no/such.pem"), "{error}");
}
