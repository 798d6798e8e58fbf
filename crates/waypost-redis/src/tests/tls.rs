//! TLS to a real server, with certificates made here, as they should be and as they should not.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::server::Server;
use crate::ledger::SharedLedger;
use crate::settings::Settings;
use crate::shared::Standing;
use crate::tls::{Identity, TlsFiles};

const LONG: Duration = Duration::from_secs(20);

/// An authority, with the files of what it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Solarmora's machines");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem())
            .unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for these names, valid to the end of a year.
    fn signs(&self, names: &[&str], year: i32) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let label = format!("{}-{year}", names.join("-"));
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = [(".pem", certificate.pem()), (".key", key.serialize_pem())];
        let [certificate, key] = files.map(|(end, text)| {
            let file = self.file(&format!("{label}{end}"));
            std::fs::write(&file, text).unwrap();
            file
        });
        Identity { certificate, key }
    }

    fn trusted(&self) -> TlsFiles {
        TlsFiles { ca: Some(self.file("ca.pem")), identity: None }
    }

    fn server(&self, shows: &Identity, more: &[&str]) -> (Server, u16) {
        let path = |file: &PathBuf| file.to_str().unwrap().to_owned();
        let (ca, certificate, key) =
            (path(&self.file("ca.pem")), path(&shows.certificate), path(&shows.key));
        let files =
            ["--tls-ca-cert-file", &ca, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        Server::start_with_tls(&[&files[..], more].concat())
    }
}

fn ledger(address: &str, files: &TlsFiles) -> SharedLedger {
    let mut settings = Settings::with_tls(address, "waypost", [1; 16], files).unwrap();
    // The handshake of a build without optimisation, on a busy machine.
    settings.timeout = Duration::from_secs(5);
    SharedLedger::start(settings, ())
}

/// Nothing when it can be asked; else why not.
async fn complaint(address: &str, files: &TlsFiles) -> Option<Box<str>> {
    let ledger = ledger(address, files);
    let mut standing = ledger.standing();
    let known = standing.wait_for(|standing| *standing != Standing::Connecting);
    match tokio::time::timeout(LONG, known).await.unwrap().unwrap().clone() {
        Standing::Down { because } => Some(because),
        _ => None,
    }
}

const ALONE: [&str; 2] = ["--tls-auth-clients", "no"];

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_chain_and_a_name_are_verified_and_a_refusal_says_what_to_do_o5() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = ours.signs(&["localhost", "127.0.0.1"], 2100);
    let named = ours.signs(&["redis.solarmora.com"], 2100);
    let old = ours.signs(&["localhost"], 2002);
    let nobody = TlsFiles::default();
    let (server, port) = ours.server(&good, &ALONE);
    let (_other, other) = ours.server(&named, &ALONE);
    let (_expired, expired) = ours.server(&old, &ALONE);
    for (address, files, want) in [
        (format!("rediss://localhost:{port}"), ours.trusted(), None),
        (format!("rediss://127.0.0.1:{port}/3"), ours.trusted(), None),
        (
            format!("rediss://localhost:{port}"),
            theirs.trusted(),
            Some("not signed by an authority that is trusted here (those in `"),
        ),
        (format!("rediss://localhost:{other}"), ours.trusted(), Some("and not for `localhost`")),
        (format!("rediss://127.0.0.1:{other}"), ours.trusted(), Some("and not for `127.0.0.1`")),
        (format!("rediss://localhost:{expired}"), ours.trusted(), Some("has expired")),
        (format!("redis://localhost:{port}"), nobody.clone(), Some("want TLS (`rediss://`)")),
    ] {
        let said = complaint(&address, &files).await;
        match (&said, want) {
            (None, None) => {}
            (Some(said), Some(want)) => assert!(said.contains(want), "{address}: {said}"),
            _ => panic!("{address} {files:?}: {said:?}"),
        }
    }
    // What the system trusts has not signed it; where the system trusts nobody, that is told at once.
    match Settings::new(&format!("rediss://localhost:{port}"), "waypost", [1; 16]) {
        Ok(_) => {
            let said = complaint(&format!("rediss://localhost:{port}"), &nobody).await.unwrap();
            assert!(said.contains("trusted here (those of the system)"), "{said}");
        }
        Err(error) => assert!(error.to_string().contains("`redis_ca`"), "{error}"),
    }
    // In the other database there is nothing.
    let keys = |database: u8| -> usize {
        let address = format!("{}?db={database}", server.address());
        let mut asks = redis::Client::open(address).unwrap().get_connection().unwrap();
        redis::cmd("DBSIZE").query(&mut asks).unwrap()
    };
    assert_eq!([0, 3, 4].map(keys), [1, 1, 0]);
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_port_without_tls_and_one_that_hangs_are_told_apart_o5() {
    let authority = Authority::new();
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (open, closed) = (port(), port());
    let _server = Server::start_with(&["--bind", "127.0.0.1", "--port", &open.to_string()]);
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = mute.local_addr().unwrap().port();
    // One that speaks first, as a mail server does.
    let greets = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let speaks = greets.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in greets.incoming() {
            let _ = stream.and_then(|mut stream| {
                stream.write_all(b"220 mx.solarmora.com ESMTP\r\n")?;
                stream.read_to_end(&mut Vec::new())
            });
        }
    });
    for (port, want) in [
        (open, "does this port speak TLS?"),
        (speaks, "does not speak TLS; write `redis://`"),
        (closed, "cannot be reached: Connection refused"),
        (hangs, "did not answer in time in the TLS handshake"),
    ] {
        let said = complaint(&format!("rediss://localhost:{port}"), &authority.trusted()).await;
        let said = said.unwrap();
        assert!(said.contains(want), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_server_that_asks_for_a_certificate_is_shown_one_that_may_be_renewed_o5() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let shows = ours.signs(&["localhost"], 2100);
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let (server, port) =
            ours.server(&shows, &["--tls-auth-clients", "yes", "--tls-protocols", protocol]);
        let address = format!("rediss://localhost:{port}");
        let with = |identity: Identity| TlsFiles { identity: Some(identity), ..ours.trusted() };
        let node = ours.signs(&["node.solarmora.com"], 2100);
        assert_eq!(complaint(&address, &with(node.clone())).await, None, "{protocol}");
        // Older versions of TLS have no alert of their own for it.
        let said = complaint(&address, &ours.trusted()).await.unwrap();
        let want = match protocol {
            "TLSv1.3" => "it asks for a certificate of this node; name one in `redis_certificate`",
            _ => "redis_certificate",
        };
        assert!(said.contains(want), "{protocol}: {said}");
        let said = complaint(&address, &with(theirs.signs(&["node.solarmora.com"], 2100))).await;
        let said = said.unwrap();
        assert!(
            said.contains("does not accept the certificate of this node"),
            "{protocol}: {said}"
        );

        // Expired while the node runs, and renewed: the next connection has the new one.
        let expired = ours.signs(&["node.solarmora.com"], 2002);
        let file = |name| ours.file(name);
        let copy = |from: &Identity| {
            std::fs::copy(&from.certificate, file("used.pem")).unwrap();
            std::fs::copy(&from.key, file("used.key")).unwrap();
        };
        copy(&expired);
        let used = Identity { certificate: file("used.pem"), key: file("used.key") };
        let ledger = ledger(&address, &with(used));
        let mut standing = ledger.standing();
        let down = standing.wait_for(|standing| matches!(standing, Standing::Down { .. }));
        tokio::time::timeout(LONG, down).await.unwrap().unwrap();
        copy(&node);
        assert!(ledger.ready(LONG).await);
        // Of no use for a while: told, and no end of it.
        std::fs::write(file("used.key"), "").unwrap();
        let () = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query(&mut server.connection())
            .map(|_: u64| ())
            .unwrap();
        let mut standing = ledger.standing();
        let told = standing.wait_for(|standing| {
            matches!(standing, Standing::Down { because } if because.contains("used.key` holds no private key"))
        });
        tokio::time::timeout(LONG, told).await.unwrap().unwrap();
        copy(&node);
        assert!(ledger.ready(LONG).await);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn users_passwords_and_databases_are_checked_and_never_shown_o5() {
    let authority = Authority::new();
    let shows = authority.signs(&["localhost"], 2100);
    let (server, port) = authority.server(&shows, &ALONE);
    let may = "on >hush ~waypost:* +@read +@write +@scripting -@dangerous +time +config|get";
    let users = [
        ("marie-node", may),
        ("paul-node", "on >hush ~other:* +@all"),
        ("anna-node", "on >hush ~waypost:* +@read"),
        ("default", "off"),
    ];
    let mut asks = server.connection();
    for (name, rules) in users {
        let mut sets = redis::cmd("ACL");
        let () = sets
            .arg("SETUSER")
            .arg(name)
            .arg(rules.split(' ').collect::<Vec<_>>())
            .query(&mut asks)
            .unwrap();
    }
    let files = authority.trusted();
    for (place, want) in [
        ("marie-node:hush@localhost", None),
        ("marie-node:h%75sh@localhost", None),
        ("marie-node:hushed@localhost", Some("(WRONGPASS)")),
        ("nobody-node:hush@localhost", Some("(WRONGPASS)")),
        (":hush@localhost", Some("(WRONGPASS)")),
        ("localhost", Some("(NOAUTH)")),
        ("paul-node:hush@localhost", Some("(NOPERM)")),
        ("anna-node:hush@localhost", Some("(NOPERM)")),
    ] {
        let address = format!("rediss://{place}:{port}");
        let settings = Settings::with_tls(&address, "waypost", [1; 16], &files).unwrap();
        let ledger = ledger(&address, &files);
        let mut standing = ledger.standing();
        let known = standing.wait_for(|standing| *standing != Standing::Connecting);
        let known = tokio::time::timeout(LONG, known).await.unwrap().unwrap().clone();
        match (&known, want) {
            (Standing::Up { evicts: None }, None) => {}
            (Standing::Down { because }, Some(want)) => {
                assert!(because.contains(want) && because.contains("; "), "{place}: {because}");
            }
            _ => panic!("{place}: {known:?}"),
        }
        let shown = format!("{known:?} {settings:?} {ledger:?}");
        assert!(!shown.contains("hush") && !shown.contains("-node"), "{shown}");
    }
    let address = format!("rediss://marie-node:hush@localhost:{port}/999");
    let said = complaint(&address, &files).await.unwrap();
    assert!(
        said.contains("no database of the number in its address") || said.contains("(NOPERM)"),
        "{said}"
    );
}
