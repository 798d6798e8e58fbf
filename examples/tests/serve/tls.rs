//! Every combination of `require_tls`, `require_ca_signed` and `verify_hostname` against servers that
//! speak TLS well, badly or not at all, through a whole server: the table of `docs/TLS.md`, which is
//! written by `UPDATE_GOLDENS=1` (A5, A6, A7, A10).

use crate::support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::date_time_ymd;
use serde_json::Value;
use support::smtp_client::SmtpClient;
use support::tls_sink::{Authority, Manner, Tls, TlsSink, params, server};
use waypost_net::dns::StaticResolver;
use waypost_server::{Options, Server, load};

/// The host of the routes.
const NAME: &str = "mx.partner.example";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of the table.
struct Row {
    what: &'static str,
    manner: Manner,
    host: &'static str,
    /// Further keys of the route.
    route: &'static str,
}

/// The switches that are on: T(LS), C(A-signed), N(ame).
fn combinations() -> impl Iterator<Item = [bool; 3]> {
    (0..8).map(|bits| [bits & 4 != 0, bits & 2 != 0, bits & 1 != 0])
}

fn heading(switches: [bool; 3]) -> String {
    let on: String =
        switches.iter().zip(["T", "C", "N"]).filter(|(on, _)| **on).map(|(_, l)| l).collect();
    if on.is_empty() { "none".to_owned() } else { on }
}

/// OpenSSL with nothing but TLS 1.0. Where there is no OpenSSL, a server that sends the alert which it
/// sends.
struct OldTls {
    address: SocketAddr,
    child: Option<Child>,
}

impl OldTls {
    fn start(folder: &std::path::Path) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        std::fs::write(folder.join("old.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("old.key"), made.signing_key.serialize_pem()).unwrap();
        let child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-tls1", "-cipher", "ALL:@SECLEVEL=0"])
            .args(["-cert", "old.pem", "-key", "old.key"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("there is no openssl; an alert stands in for it");
            return Self { address: alerting(), child: None };
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok())
            .expect("openssl s_server says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, child: Some(child) }
    }
}

impl Drop for OldTls {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Answers whatever comes with the alert `protocol_version` in a record of TLS 1.0.
fn alerting() -> SocketAddr {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let _ = tcp.read(&mut [0; 4096]);
            let _ = tcp.write_all(&[21, 3, 1, 0, 2, 2, 70]);
        }
    });
    address
}

fn rows(ours: &Authority, theirs: &Authority, old: SocketAddr) -> Vec<Row> {
    let row = |what, tls: Tls| Row { what, manner: tls.into(), host: NAME, route: "" };
    let good = ours.server(&[NAME]);
    let self_signed = server(params(&[NAME]), None);
    let mut expired = params(&[NAME]);
    (expired.not_before, expired.not_after) =
        (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let by_ip = Tls::Upgraded(ours.server(&["127.0.0.1"]));
    let at_ip = |row: Row| Row { host: "127.0.0.1", ..row };
    let with = |row: Row, route| Row { route, ..row };
    vec![
        row("good certificate", Tls::Upgraded(good.clone())),
        row("self-signed", Tls::Upgraded(self_signed.clone())),
        row("wrong name", Tls::Upgraded(ours.server(&["mail.other.example"]))),
        row("expired", Tls::Upgraded(server(expired, Some(ours)))),
        row("unknown CA", Tls::Upgraded(theirs.server(&[NAME]))),
        row("no STARTTLS offered", Tls::Absent),
        row("STARTTLS refused (454)", Tls::Refused),
        row("handshake broken", Tls::Broken),
        row("TLS 1.0 only", Tls::HandedTo(old)),
        at_ip(row("IP address, certificate for it", by_ip)),
        at_ip(row("IP address, certificate for a name", Tls::Upgraded(good.clone()))),
        row("connection dropped in the handshake", Tls::Dropped),
        row("replies injected behind 220", Tls::Injecting("250 2.1.0 Ok\r\n", good.clone())),
        with(row("implicit TLS", Tls::Implicit(good.clone())), "tls = \"implicit\"\n"),
        with(
            row("implicit TLS, self-signed", Tls::Implicit(self_signed.clone())),
            "tls = \"implicit\"\n",
        ),
        with(row("LMTP", Tls::Upgraded(good)), "protocol = \"lmtp\"\n"),
        with(row("LMTP, self-signed", Tls::Upgraded(self_signed.clone())), "protocol = \"lmtp\"\n"),
        with(
            row("self-signed, `on_tls_failure = \"defer\"`", Tls::Upgraded(self_signed)),
            "on_tls_failure = \"defer\"\n",
        ),
        with(
            row("no STARTTLS, `on_tls_failure = \"defer\"`", Tls::Absent),
            "on_tls_failure = \"defer\"\n",
        ),
    ]
}

const HEAD: &str = r#"
[server]
hostname = "mx.solarmora.com"
spool = "spool"
tls_check = "off"

[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:0"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
"#;

/// One route a server and combination, each with a port of its own, so that no host rests for what
/// another route asked of it.
fn route(case: &str, row: &Row, port: u16, [tls, ca_signed, hostname]: [bool; 3]) -> String {
    format!(
        r#"
[[organization.route]]
name = "{case}"
host = "{}"
port = {port}
require_tls = {tls}
require_ca_signed = {ca_signed}
verify_hostname = {hostname}
roots = "roots.pem"
{}
[[organization.rule]]
description = "{case}"
affects = ["inbound"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ address = "{case}@solarmora.com" }}] }}
then = {{ modify = {{ route = "{case}" }} }}
"#,
        row.host, row.route
    )
}

/// The log as JSON lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn listening() -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone());
        log.with_max_level(tracing::Level::INFO).init();
        lines
    }

    /// Waits until each of so many recipients has its outcome; the fields of those lines, by recipient.
    fn outcomes(&self, count: usize) -> HashMap<String, Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let found: HashMap<String, Value> = text
                .lines()
                .filter_map(|line| {
                    let fields = serde_json::from_str::<Value>(line).ok()?["fields"].take();
                    fields.get("outcome")?;
                    Some((fields["recipient"].as_str()?.to_owned(), fields))
                })
                .collect();
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < until, "{} of {count} outcomes:\n{text}", found.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a cell says, and the text of the reply if mail did not go.
fn cell(fields: &Value) -> (String, Option<String>) {
    let text = |key: &str| fields[key].as_str().unwrap_or_default().to_owned();
    match (text("outcome").as_str(), text("tls").as_str()) {
        ("delivered", "none") => ("clear".to_owned(), None),
        ("delivered", tls) => {
            assert_eq!(tls, "TLSv1.3");
            ("TLS".to_owned(), None)
        }
        (outcome, _) => {
            let reply = text("reply");
            let mut words = reply.splitn(3, ' ');
            let (code, enhanced) = (words.next().unwrap(), words.next().unwrap());
            let outcome = if outcome == "failed" { "bounced" } else { outcome };
            (format!("{outcome} {code} {enhanced}"), Some(words.next().unwrap().to_owned()))
        }
    }
}

#[test]
fn a5_a6_a7_a10_every_combination_against_every_server() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("Our authority"), Authority::new("Another authority"));
    std::fs::write(folder.path().join("roots.pem"), &ours.pem).unwrap();
    let old = OldTls::start(folder.path());
    let rows = rows(&ours, &theirs, old.address);
    let mut configuration = HEAD.to_owned();
    let mut sinks = HashMap::new();
    for (number, row) in rows.iter().enumerate() {
        for switches in combinations() {
            let case = format!("{number}-{}", heading(switches).to_lowercase());
            let sink = TlsSink::start(row.manner.clone());
            configuration += &route(&case, row, sink.address.port(), switches);
            sinks.insert(case, sink);
        }
    }
    let file = folder.path().join("waypost.toml");
    std::fs::write(&file, configuration).unwrap();
    let loaded = load(&file).unwrap();
    let policy = loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)));
    let resolver = StaticResolver::default().with_addresses(NAME, &["127.0.0.1"]);
    let lines = Lines::listening();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = Options {
        policy,
        base: loaded.base,
        resolver: Some(Arc::new(resolver)),
        authenticator: None,
    };
    let server = runtime.block_on(Server::start(options)).unwrap();
    let (_, address) = server.addresses().next().unwrap();

    let mut client = SmtpClient::hello(address, "client.elsewhere.example");
    let recipients: Vec<String> =
        sinks.keys().map(|case| format!("{case}@solarmora.com")).collect();
    let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let reply = client.message("", &to, b"From: a@elsewhere.example\r\n\r\nx\r\n");
    assert!(reply.starts_with("250 "), "{reply}");
    let outcomes = lines.outcomes(sinks.len());
    runtime.block_on(server.stop(Duration::from_secs(10)));

    let mut texts: Vec<String> = Vec::new();
    let columns: Vec<String> = combinations().map(heading).collect();
    let mut table = format!("| server | {} |\n", columns.join(" | "));
    table += &format!("| --- |{}\n", " --- |".repeat(columns.len()));
    for (number, row) in rows.iter().enumerate() {
        let mut cells = vec![row.what.to_owned()];
        for switches in combinations() {
            let case = format!("{number}-{}", heading(switches).to_lowercase());
            let (cell, text) = cell(&outcomes[&format!("{case}@solarmora.com")]);
            check(row, switches, &cell, &sinks[&case]);
            cells.push(match text {
                None => cell,
                Some(text) => {
                    let at = texts.iter().position(|known| *known == text);
                    let at = at.unwrap_or_else(|| {
                        texts.push(text);
                        texts.len() - 1
                    });
                    format!("{cell} ({})", at + 1)
                }
            });
        }
        table += &format!("| {} |\n", cells.join(" | "));
    }
    table.push('\n');
    for (at, text) in texts.iter().enumerate() {
        table += &format!("{}. {text}\n", at + 1);
    }
    golden(&table);
}

/// What the sink saw agrees with the cell, and nothing went in clear text that must not.
fn check(row: &Row, [require_tls, ca_signed, hostname]: [bool; 3], cell: &str, sink: &TlsSink) {
    let what = row.what;
    let taken = sink.taken();
    match cell {
        "TLS" => assert!(taken.len() == 1 && taken[0].inside_tls, "{what}: {taken:?}"),
        "clear" => {
            assert!(taken.len() == 1 && !taken[0].inside_tls, "{what}: {taken:?}");
            assert!(!require_tls, "{what}: clear text though TLS is required (A5)");
            let offered = !matches!(row.manner.tls, Tls::Absent | Tls::Refused);
            assert!(!(offered && (ca_signed || hostname)), "{what}: clear text behind TLS (A7)");
        }
        _ => assert!(taken.is_empty(), "{what}: {cell}, {taken:?}"),
    }
    // RFC 6066 section 3: a name is sent, an address never.
    let want = (row.host == NAME).then(|| NAME.to_owned());
    assert!(sink.names().iter().all(|name| *name == want), "{what}: {:?}", sink.names());
    if cell == "TLS" {
        assert_eq!(sink.names().len(), 1, "{what}");
    }
}

fn golden(table: &str) {
    let path: std::path::PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "docs", "TLS.md"].iter().collect();
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->\n");
    let from = page.find(begin).unwrap() + begin.len();
    let to = page.find(end).unwrap();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let page = [&page[..from], "\n", table, "\n", &page[to..]].concat();
        std::fs::write(&path, page).unwrap();
        return;
    }
    assert_eq!(page[from..to].trim(), table.trim(), "write it anew with UPDATE_GOLDENS=1");
}
