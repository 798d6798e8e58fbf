//! Settings to routes: every rule of A1 to A7, all mistakes at once, each at its place.

use std::time::Duration;

use waypost_route::{
    AuthSettings, Check, HostSettings, OnTlsFailure, Protocol, RetrySettings, Route,
    RouteErrorKind, RouteSettings, Tier, TlsStart,
};
use waypost_types::TlsDemand;

fn single(host: &str, port: Option<i64>) -> RouteSettings {
    RouteSettings {
        name: "exchange".into(),
        host: Some(host.into()),
        port,
        ..RouteSettings::default()
    }
}

fn entry(host: &str, port: i64, load: i64) -> HostSettings {
    HostSettings { host: host.into(), port: Some(port), load: Some(load), tls: None }
}

fn list(primary: &[(&str, i64, i64)], secondary: &[(&str, i64, i64)]) -> RouteSettings {
    let entries =
        |list: &[(&str, i64, i64)]| list.iter().map(|(h, p, l)| entry(h, *p, *l)).collect();
    RouteSettings {
        name: "edge".into(),
        primary: Some(entries(primary)),
        secondary: Some(entries(secondary)),
        ..RouteSettings::default()
    }
}

/// Each error as `field: kind` cut to what a table can show.
fn errors(settings: RouteSettings) -> Vec<String> {
    match Route::new(settings) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn ports_of_a_single_host_a2() {
    for (port, smtp, lmtp) in [
        (Some(25), true, true),
        (None, true, true),
        (Some(587), true, true),
        (Some(1024), true, true),
        (Some(65535), true, true),
        (Some(24), false, true),
        (Some(26), false, true),
        (Some(465), false, true),
        (Some(586), false, true),
        (Some(1023), false, true),
        (Some(0), false, false),
        (Some(-1), false, false),
        (Some(65536), false, false),
        (Some(i64::MAX), false, false),
    ] {
        for (protocol, good) in [(Protocol::Smtp, smtp), (Protocol::Lmtp, lmtp)] {
            let settings = RouteSettings { protocol: Some(protocol), ..single("a.example", port) };
            let errors = errors(settings);
            assert_eq!(errors.is_empty(), good, "{port:?} {protocol}: {errors:?}");
            if let Some(port) = port.filter(|_| !good) {
                assert!(errors[0].starts_with(&format!("port: port {port} ")), "{errors:?}");
                assert!(errors[0].contains("A2"), "{errors:?}");
            }
        }
    }
}

#[test]
fn ports_of_a_list_a3() {
    for (port, start) in [
        (25, Some(TlsStart::Starttls)),
        (465, Some(TlsStart::Implicit)),
        (587, Some(TlsStart::Starttls)),
        (2525, Some(TlsStart::Starttls)),
        (26, None),
        (0, None),
        (1023, None),
        (70000, None),
    ] {
        let route = Route::new(list(&[("a.example", port, 100)], &[]));
        let got = route.as_ref().ok().map(|route| route.hosts()[0].tls().start);
        assert_eq!(got, start, "{port}");
        if let Err(errors) = route {
            assert_eq!(errors[0].field(), "primary[0].port");
        }
    }
}

#[test]
fn defaults_a2_a5_a6_a7_a10() {
    let route = Route::new(single("exchange.corp.example", None)).unwrap();
    let host = &route.hosts()[0];
    assert_eq!(host.at().to_string(), "exchange.corp.example:25");
    assert_eq!((host.tier(), host.load()), (Tier::Primary, 100));
    assert_eq!(host.tls().requirement, TlsDemand::Required);
    assert_eq!((host.tls().ca_signed, host.tls().hostname), (Check::On, Check::On));
    assert_eq!(host.tls().start, TlsStart::Starttls);
    assert!(!route.mx_lookup());
    assert_eq!(route.org_unit().as_str(), "/");
    assert_eq!((route.protocol(), route.on_tls_failure()), (Protocol::Smtp, OnTlsFailure::Bounce));
    assert_eq!((route.roots(), route.auth(), route.retry()), (None, None, None));
    assert!(route.warnings().is_empty(), "{:?}", route.warnings());
}

#[test]
fn when_tls_begins_a3() {
    // port, the route's word, the host's word
    use TlsStart::{Implicit, Starttls};
    for (port, route, host, want) in [
        (25, None, None, Starttls),
        (25, Some(Implicit), None, Implicit),
        (25, Some(Implicit), Some(Starttls), Starttls),
        (2525, None, Some(Implicit), Implicit),
        (465, None, None, Implicit),
        (465, Some(Starttls), Some(Starttls), Implicit),
    ] {
        let mut settings = list(&[("a.example", port, 100)], &[]);
        settings.tls = route;
        settings.primary.as_mut().unwrap()[0].tls = host;
        assert_eq!(Route::new(settings).unwrap().hosts()[0].tls().start, want, "{port}");
    }
    let implicit = RouteSettings { tls: Some(Implicit), ..single("a.example", Some(2465)) };
    assert_eq!(Route::new(implicit).unwrap().hosts()[0].tls().start, Implicit);
}

#[test]
fn every_mistake_has_its_place_rule_and_cure() {
    let good = [("a.example", 25, 60), ("b.example", 25, 40)];
    let named = |name: &str| RouteSettings { name: name.into(), ..single("a.example", None) };
    let with = |change: fn(&mut RouteSettings)| {
        let mut settings = single("a.example", None);
        change(&mut settings);
        settings
    };
    let table: Vec<(RouteSettings, &[&str])> = vec![
        (named(""), &["name: a route's name is empty (A1); give it one, such as `exchange`"]),
        (named("  "), &["name: a route's name is empty (A1)"]),
        (named(&"x".repeat(129)), &["name: a route's name has 129 characters; at most 128"]),
        (single("a.example", Some(465)), &["port: port 465 is not allowed for a single host (A2)"]),
        (single("a.example", Some(26)), &["port: port 26 is not allowed; write 25, 587 or a port"]),
        (single("a b", None), &["host: `a b` is no host name: "]),
        (single("", None), &["host: `` is no host name: "]),
        (single("192.0.2.256", None), &["host: `192.0.2.256` is no host name: "]),
        (with(|s| s.host = None), &["host: the route names no host; write `host = "]),
        (
            with(|s| (s.host, s.port) = (None, Some(465))),
            &["host: the route names no host", "port: port 465 is not allowed"],
        ),
        (
            with(|s| (s.host, s.mx_lookup) = (Some("192.0.2.1".into()), Some(true))),
            &["host: MX lookup is on, but `192.0.2.1` is an IP address and has no MX records (A4)"],
        ),
        (
            with(|s| (s.host, s.mx_lookup) = (Some("[2001:db8::1]".into()), Some(true))),
            &["host: MX lookup is on, but `2001:db8::1` is an IP address"],
        ),
        (
            with(|s| s.org_unit = Some("sales".into())),
            &["org_unit: `sales` is no organizational unit (A11): "],
        ),
        (with(|s| s.roots = Some(" ".into())), &["roots: ` ` is empty or holds a control"]),
        (
            with(|s| s.auth = Some(AuthSettings { user: "u\n".into(), password_file: "".into() })),
            &["auth.user: `u\\n` is empty or holds", "auth.password_file: `` is empty"],
        ),
        (
            with(|s| {
                let zero = Some(Duration::ZERO);
                s.retry = Some(RetrySettings { lifetime: zero, ..RetrySettings::default() });
            }),
            &["retry.lifetime: a time of zero is not allowed; write one such as `\"5m\"` (O2)"],
        ),
        (
            list(&[], &[]),
            &["primary: the list of primary hosts is empty; a route has at least one"],
        ),
        (
            list(&[("a.example", 25, 60), ("b.example", 25, 30)], &[]),
            &[
                "primary: the loads of the primary hosts add up to 90; make them add up to exactly 100",
            ],
        ),
        (
            list(&good, &[("c.example", 25, 99)]),
            &["secondary: the loads of the secondary hosts add up to 99; "],
        ),
        (
            list(&[("a.example", 25, 0)], &[("c.example", 25, 0)]),
            &[
                "primary: the loads of the primary hosts add up to 0; ",
                "secondary: the loads of the secondary hosts add up to 0; ",
            ],
        ),
        (
            list(&[("a.example", 25, 101), ("b.example", 25, -1)], &[]),
            &[
                "primary[0].load: load 101 is not allowed; write a whole percentage from 0 to 100",
                "primary[1].load: load -1 is not allowed",
            ],
        ),
        (
            list(&[("a.example", 26, 50), ("", 25, 50)], &[]),
            &["primary[0].port: port 26 is not allowed; write 25, 465, 587", "primary[1].host: "],
        ),
    ];
    for (settings, want) in table {
        let got = errors(settings.clone());
        assert_eq!(got.len(), want.len(), "{settings:?}: {got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.starts_with(want), "{got}\n is not {want}");
        }
    }
}

#[test]
fn forms_do_not_mix_a2_a3() {
    let mut both = list(&[("a.example", 25, 100)], &[]);
    (both.host, both.port) = (Some("b.example".into()), Some(25));
    let got: Vec<_> = Route::new(both).unwrap_err().iter().map(|e| e.field().to_owned()).collect();
    assert_eq!(got, ["host", "port"]);

    let alone = RouteSettings {
        name: "x".into(),
        secondary: Some(vec![entry("a.example", 25, 100)]),
        ..RouteSettings::default()
    };
    let got = Route::new(alone).unwrap_err();
    assert_eq!(got[0].kind(), &RouteErrorKind::SecondaryAlone);

    let mut unsaid = list(&[("a.example", 25, 100)], &[]);
    unsaid.primary.as_mut().unwrap()[0].load = None;
    let got = Route::new(unsaid).unwrap_err();
    assert_eq!((got.len(), got[0].field()), (1, "primary[0].load"));

    let mut mx = list(&[("a.example", 25, 50), ("192.0.2.1", 25, 50)], &[]);
    mx.mx_lookup = Some(true);
    let got = Route::new(mx).unwrap_err();
    assert_eq!((got.len(), got[0].field()), (1, "primary[1].host"));
}

#[test]
fn all_mistakes_come_at_once() {
    let mut settings = list(&[("a b", 26, 500)], &[("c.example", 25, 99)]);
    (settings.name, settings.org_unit) = (" ".into(), Some("x".into()));
    settings.roots = Some(String::new());
    let got: Vec<_> =
        Route::new(settings).unwrap_err().iter().map(|e| e.field().to_owned()).collect();
    assert_eq!(
        got,
        [
            "name",
            "org_unit",
            "primary[0].host",
            "primary[0].port",
            "primary[0].load",
            "secondary",
            "roots"
        ]
    );
}

#[test]
fn warnings_have_ids_and_places() {
    let with = |change: fn(&mut RouteSettings)| {
        let mut settings = single("a.example", None);
        change(&mut settings);
        settings
    };
    let table: Vec<(RouteSettings, &[&str])> = vec![
        (with(|_| ()), &[]),
        (with(|s| s.require_tls = Some(false)), &["require_tls tls-not-required"]),
        (
            with(|s| (s.require_tls, s.require_ca_signed) = (Some(false), Some(true))),
            &["require_tls tls-not-required", "require_ca_signed check-without-tls"],
        ),
        (
            with(|s| (s.require_tls, s.verify_hostname) = (Some(false), Some(true))),
            &["require_tls tls-not-required", "verify_hostname check-without-tls"],
        ),
        (with(|s| s.require_ca_signed = Some(false)), &["require_ca_signed any-issuer"]),
        (with(|s| s.verify_hostname = Some(false)), &["verify_hostname any-name"]),
        (single("192.0.2.1", None), &["host hostname-on-ip"]),
        (
            // The built-in example of a mailbox system: nothing to say about loopback.
            RouteSettings {
                require_tls: Some(false),
                protocol: Some(Protocol::Lmtp),
                ..single("127.0.0.1", Some(24))
            },
            &[],
        ),
        (with(|s| s.protocol = Some(Protocol::Lmtp)), &["port lmtp-on-25"]),
        (
            with(|s| (s.require_ca_signed, s.roots) = (Some(false), Some("ca.pem".into()))),
            &["require_ca_signed any-issuer", "roots roots-unused"],
        ),
        (
            with(|s| (s.require_tls, s.tls) = (Some(false), Some(TlsStart::Implicit))),
            &["require_tls tls-not-required", "tls implicit-not-required"],
        ),
        (
            with(|s| {
                let auth = AuthSettings { user: "u".into(), password_file: "p".into() };
                (s.require_tls, s.auth) = (Some(false), Some(auth));
            }),
            &["require_tls tls-not-required", "auth auth-not-required"],
        ),
        (
            list(&[("a.example", 25, 50), ("a.example", 25, 50)], &[("192.0.2.1", 465, 100)]),
            &["primary[1].host same-host-twice", "secondary[0].host hostname-on-ip"],
        ),
    ];
    for (settings, want) in table {
        let route = Route::new(settings.clone()).unwrap();
        let got: Vec<_> =
            route.warnings().iter().map(|w| format!("{} {}", w.field(), w.kind().id())).collect();
        assert_eq!(got, want, "{settings:?}");
        assert!(route.warnings().iter().all(|w| w.to_string().contains(';')), "a cure");
    }
    let mut plain = list(&[("a.example", 465, 100)], &[]);
    plain.primary.as_mut().unwrap()[0].tls = Some(TlsStart::Starttls);
    let route = Route::new(plain).unwrap();
    assert_eq!(route.warnings()[0].kind().id(), "port-465-starttls");
}

#[test]
fn rules_of_the_unit_and_below_may_name_it_a11() {
    let settings = RouteSettings { org_unit: Some("/Sales".into()), ..single("a.example", None) };
    let route = Route::new(settings).unwrap();
    for (unit, want) in
        [("/", false), ("/sales", true), ("/sales/emea", true), ("/salesmen", false)]
    {
        assert_eq!(route.is_visible_from(&unit.parse().unwrap()), want, "{unit}");
    }
}

#[cfg(feature = "serde")]
#[test]
fn settings_are_read_from_text() {
    let text = r#"{ "name": "edge", "protocol": "smtp", "tls": "implicit",
        "on_tls_failure": "defer", "org_unit": "/sales",
        "primary": [{ "host": "a.example", "port": 25, "load": 60 },
                    { "host": "b.example", "load": 40, "tls": "starttls" }],
        "secondary": [{ "host": "dr.example", "port": 25, "load": 100 }] }"#;
    let settings: RouteSettings = serde_json::from_str(text).unwrap();
    let route = Route::new(settings).unwrap();
    assert_eq!(route.hosts().len(), 3);
    let json = serde_json::to_value(&route).unwrap();
    assert_eq!(json["hosts"][1]["at"], "b.example:25");
    assert_eq!(json["hosts"][1]["tls"]["start"], "starttls");
    let draw = waypost_route::Draw::from_value(255);
    let attempts = route.attempts(draw, &waypost_route::Health::default(), Default::default());
    let json = serde_json::to_value(&attempts).unwrap();
    assert_eq!(json["draw"], "00000000000000ff");
    assert_eq!(json["order"][0]["at"], "a.example:25");
    assert!(serde_json::from_str::<RouteSettings>(r#"{ "hots": "a" }"#).is_err());
}
