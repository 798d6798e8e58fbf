//! `waypost serve` tests the TLS of its routes' hosts by itself, and warns (A8).

use crate::support;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use rcgen::CertificateParams;
use support::exposition::Exposition;
use support::serving::Folder;
use support::sink::reserved;
use support::tls_sink::{Authority, Tls, TlsSink, params, server};

const PATIENCE: Duration = Duration::from_secs(60);

fn page(admin: SocketAddr) -> Exposition {
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Exposition::read(answer.split_once("\r\n\r\n").unwrap().1)
}

/// Waits until the page is as wanted.
fn wait(admin: SocketAddr, what: &str, wanted: impl Fn(&Exposition) -> bool) -> Exposition {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = page(admin);
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn organization(admin: SocketAddr, check: &str, routes: &[(&str, &TlsSink, &str)]) -> String {
    let mut text = format!(
        "admin = \"{admin}\"\ntls_check = \"{check}\"\n\n[[organization]]\nname = \"Solarmora\"\n\
         domains = [\"solarmora.com\"]\n"
    );
    for (name, sink, more) in routes {
        text += &format!(
            "\n[[organization.route]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {}\n\
             roots = \"roots.pem\"\n{more}\n",
            sink.address.port()
        );
    }
    text
}

/// A certificate that expires in so many days and a half.
fn expiring(days: u64) -> CertificateParams {
    let mut made = params(&["127.0.0.1"]);
    let end = SystemTime::now() + Duration::from_secs(days * 86_400 + 43_200);
    made.not_after = end.into();
    made
}

#[test]
fn a8_serve_warns_before_a_certificate_expires_and_when_a_demand_fails() {
    let ours = Authority::new("Ours");
    let long = TlsSink::start(Tls::Upgraded(server(expiring(200), Some(&ours))));
    let short = TlsSink::start(Tls::Upgraded(server(expiring(10), Some(&ours))));
    let bad = TlsSink::start(Tls::Upgraded(server(expiring(200), None)));
    let clear = TlsSink::start(Tls::Absent);
    let admin = reserved();
    let routes = [
        ("long", &long, ""),
        ("short", &short, ""),
        ("bad", &bad, ""),
        ("any", &clear, "require_tls = false"),
    ];
    let folder = Folder::new(&organization(admin, "1s", &routes));
    folder.write("roots.pem", &ours.pem);
    let serve = folder.serve();
    let series = |family: &str, route: &str, sink: &TlsSink| {
        let host = sink.address;
        format!("{family}{{organization=\"Solarmora\",route=\"{route}\",host=\"{host}\"}}")
    };
    let days = |route, sink| series("waypost_tls_certificate_days_left", route, sink);
    let failing = |route, sink| series("waypost_tls_check_failing_addresses", route, sink);
    let checks = |result| format!("waypost_tls_checks_total{{result=\"{result}\"}}");
    let found = wait(admin, "the second round", |page| {
        page.value(&checks("ok")) >= 4.0 && page.value(&checks("failed")) >= 2.0
    });
    for (route, sink, left, fails) in
        [("long", &long, 200.5, 0.0), ("short", &short, 10.5, 0.0), ("bad", &bad, 200.5, 1.0)]
    {
        let shown = found.value(&days(route, sink));
        assert!((shown - left).abs() < 0.1, "{route}: {shown}");
        assert_eq!(found.value(&failing(route, sink)), fails, "{route}");
    }
    assert_eq!(found.nonzero("waypost_tls_certificate_days_left").len(), 3);
    let line = serve.log.wait_text("expires soon");
    assert!(line.contains("route=short") && line.contains("days_left=10"), "{line}");
    let line = serve.log.wait_text("the TLS test of a route fails");
    assert!(line.contains("route=bad") && line.contains("not signed by"), "{line}");
    assert!(!serve.log.to_string().contains("route=long"), "{}", serve.log);
    assert!(clear.heard().is_empty(), "a route that asks nothing of TLS is left alone");

    // The certificate is accepted now; `short` is gone, and with it what was found at it.
    let routes = [("long", &long, ""), ("bad", &bad, "require_ca_signed = false")];
    folder.configure(&organization(admin, "1s", &routes));
    let found = wait(admin, "a test that passes", |page| page.value(&failing("bad", &bad)) == 0.0);
    assert_eq!(found.value(&days("short", &short)), 0.0);
    let heard = [long.heard(), short.heard(), bad.heard()].concat();
    assert!(!heard.iter().any(|line| line.starts_with("MAIL")), "{heard:?}");
    serve.terminate();
}

#[test]
fn a8_off_is_off_and_a_reload_tests_the_routes_that_changed() {
    let ours = Authority::new("Ours");
    let sink = TlsSink::start(Tls::Upgraded(server(expiring(200), Some(&ours))));
    let admin = reserved();
    let folder = Folder::new(&organization(admin, "off", &[("second", &sink, "")]));
    folder.write("roots.pem", &ours.pem);
    let serve = folder.serve();
    let tested = |page: &Exposition| {
        page.nonzero("waypost_tls_checks_total").iter().map(|(_, count)| count).sum::<f64>()
    };
    assert_eq!(tested(&page(admin)), 0.0);
    // A day until the next test, but for what is new.
    folder.configure(&organization(admin, "1d", &[("second", &sink, "")]));
    wait(admin, "a test", |page| tested(page) == 1.0);
    folder.configure(&organization(admin, "1d", &[("second", &sink, "verify_hostname = false")]));
    wait(admin, "another test", |page| tested(page) == 2.0);
    serve.terminate();
    assert_eq!(sink.heard().iter().filter(|line| line.starts_with("EHLO")).count(), 4);
}
