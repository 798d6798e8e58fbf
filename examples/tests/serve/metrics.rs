//! `waypost serve`: what is counted, whether it is ready, and what a line of the log says (O4).

use crate::support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::exposition::Exposition;
use support::serving::{Folder, Serve, queue_id};
use support::sink::{Sink, reserved};
use support::smtp_client::SmtpClient;

const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGE: &[u8] = b"From: a@elsewhere.example\r\n\r\nx\r\n";

fn organization(admin: SocketAddr, second: SocketAddr) -> String {
    format!(
        r#"
admin = "{admin}"

[server.limits]
message_size = 20000
header_size = 10000
recipients = 2
generic_helo_connections_per_minute = 1

[[organization]]
name = 'Sol"arm\ora'
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "second"
host = "{}"
port = {}
require_tls = false
retry = {{ delays = ["1h"] }}

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ pattern = "^(x|gone|later|big)@" }}] }}
then = {{ modify = {{ route = "second" }} }}

[[organization.rule]]
description = "No adverts"
affects = ["inbound"]
envelope = {{ senders = [{{ pattern = '@adverts\.example$' }}] }}
then = {{ reject = "No adverts" }}

[[organization.rule]]
description = "Kept"
affects = ["inbound"]
envelope = {{ senders = [{{ pattern = '@kept\.example$' }}] }}
then = {{ quarantine = "look" }}

[[organization]]
name = "Second"
domains = ["second.example"]
licences = 1

[[organization.user]]
address = "paul@second.example"

[[organization.relay]]
description = "Here"
allowed_senders = "registered-users"
addresses = [{{ range = "127.0.0.1", description = "this machine", enabled = true }}]
require_tls = false

[organization.limits]
recipients_per_10_minutes = 1
"#,
        second.ip(),
        second.port()
    )
}

/// Sends octets to the admin page; all that comes back until it closes.
fn ask(address: SocketAddr, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(octets).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str, fields: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let answer = ask(address, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    (head.to_owned(), body.to_owned())
}

fn metrics(admin: SocketAddr) -> Exposition {
    let (head, body) = get(admin, "/metrics", "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    Exposition::read(&body)
}

/// Waits until a series has a value.
fn wait_for(admin: SocketAddr, series: &str, want: f64) -> Exposition {
    wait_until(admin, &format!("{series} {want}"), |found| found.value(series) == want)
}

/// Waits until the page is as wanted.
fn wait_until(admin: SocketAddr, what: &str, wanted: impl Fn(&Exposition) -> bool) -> Exposition {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = metrics(admin);
        if wanted(&found) {
            return found;
        }
        let queue = found.nonzero("waypost_queue_messages");
        let deliveries = found.nonzero("waypost_deliveries_total");
        assert!(Instant::now() < until, "not {what}: {queue:?} {deliveries:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn o4_everything_is_counted_exactly() {
    let second = Sink::answering(|command| {
        if command.starts_with("RCPT TO:<gone@") {
            Some("550 5.1.1 No such user".to_owned())
        } else {
            command.starts_with("RCPT TO:<later@").then(|| "450 4.2.0 Later".to_owned())
        }
    });
    let admin = reserved();
    let folder = Folder::new(&organization(admin, second.address));
    let serve = folder.serve();
    let mut client = serve.session("mx");

    // Accepted: two delivered by the route, one by Maildir, one bounced, one deferred, one kept.
    queue_id(&client.message("a@elsewhere.example", &["x@solarmora.com"], MESSAGE));
    queue_id(&client.message(
        "a@elsewhere.example",
        &["x@solarmora.com", "marie@solarmora.com"],
        MESSAGE,
    ));
    queue_id(&client.message("marie@solarmora.com", &["gone@solarmora.com"], MESSAGE));
    queue_id(&client.message("", &["later@solarmora.com"], MESSAGE));
    queue_id(&client.message("a@kept.example", &["marie@solarmora.com"], MESSAGE));

    // Refused, each for another reason.
    client.ask("DATA", "503 5.5.1");
    client.ask("FNORD", "500 5.5.2");
    client.ask("MAIL FROM:<a@b@c>", "501");
    client.ask("MAIL FROM:<a@elsewhere.example> SIZE=20001", "552 5.3.4");
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<x@victim.example>", "550 5.7.1");
    client.ask("RCPT TO:<nobody@solarmora.com>", "550 5.1.1");
    client.ask("RCPT TO:<nobody@solarmora.com>", "550 5.1.1");
    client.ask("DATA", "554 5.5.1");
    client.ask("RSET", "250");
    let over = client.message("a@adverts.example", &["marie@solarmora.com"], MESSAGE);
    assert!(over.starts_with("550 5.7.1 No adverts"), "{over}");
    let to = &["x@solarmora.com"];
    let looped = [b"Received: from a by b; x\r\n".repeat(51).as_slice(), MESSAGE].concat();
    assert!(client.message("", to, &looped).starts_with("554 5.4.6"));
    assert!(client.message("", to, b"From: a@b.example\r\n\r\na\nb\r\n").starts_with("550 5.6.0"));
    let long = [b"X: y\r\n".repeat(2000).as_slice(), MESSAGE].concat();
    assert!(client.message("", to, &long).starts_with("552 5.3.4"));
    assert!(client.message("", to, &b"x\r\n".repeat(7000)).starts_with("552 5.3.4"));
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<x@solarmora.com>", "250");
    client.ask("RCPT TO:<gone@solarmora.com>", "250");
    client.ask("RCPT TO:<later@solarmora.com>", "452 4.5.3");
    client.ask("RSET", "250");

    // The relay listener: AUTH, TLS, and a quota of one recipient.
    let mut relay = serve.session("relay");
    relay.ask("MAIL FROM:<stranger@elsewhere.example>", "550 5.7.1");
    queue_id(&relay.message("paul@second.example", &["marie@solarmora.com"], MESSAGE));
    relay.ask("MAIL FROM:<paul@second.example>", "250");
    relay.ask("RCPT TO:<marie@solarmora.com>", "450 4.2.1");
    let mut relay = relay.start_tls(folder.certificate(), "client.elsewhere.example");
    let said = relay.auth_plain("paul@second.example", "wrong");
    assert!(said.starts_with("535 5.7.8"), "{said}");

    // Generic names: the second one is turned away.
    let _first = SmtpClient::hello(serve.address("mx"), "localhost");
    let mut generic = SmtpClient::connect(serve.address("mx"));
    assert!(generic.say("EHLO localhost").starts_with("421 4.7.0"));

    // All is done when the notice about `gone@` is in Marie's Maildir, and `later@` waits.
    wait_for(
        admin,
        r#"waypost_deliveries_total{via="mailbox",organization="Sol\"arm\\ora",route="",outcome="delivered"}"#,
        3.0,
    );
    // An attempt is counted before the queue knows of its end.
    let queued = |state| format!("waypost_queue_messages{{state=\"{state}\"}}");
    let now = wait_until(admin, "one waits, and none runs", |now| {
        ["waiting", "ready", "running"].map(|state| now.value(&queued(state))) == [1.0, 0.0, 0.0]
    });

    let accepted = "waypost_messages_accepted_total";
    assert_eq!(now.value(&format!("{accepted}{{listener=\"mx\"}}")), 5.0);
    assert_eq!(now.value(&format!("{accepted}{{listener=\"relay\"}}")), 1.0);
    let mut refusals: Vec<_> = [
        ("protocol", 503, "5.5.1", "out-of-order", 1.0),
        ("protocol", 500, "5.5.2", "syntax", 1.0),
        ("protocol", 501, "5.1.7", "arguments", 1.0),
        ("mail", 552, "5.3.4", "message-too-large", 1.0),
        ("rcpt", 550, "5.7.1", "relaying-denied", 1.0),
        ("rcpt", 550, "5.1.1", "unknown-recipient", 2.0),
        ("data", 554, "5.5.1", "no-recipient", 1.0),
        ("data", 550, "5.7.1", "rule", 1.0),
        ("data", 554, "5.4.6", "loop", 1.0),
        ("data", 550, "5.6.0", "bare-cr-or-lf", 1.0),
        ("data", 552, "5.3.4", "header-too-large", 1.0),
        ("data", 552, "5.3.4", "message-too-large", 1.0),
        ("rcpt", 452, "4.5.3", "recipient-limit", 1.0),
        ("mail", 550, "5.7.1", "sender-not-registered", 1.0),
        ("rcpt", 450, "4.2.1", "quota-recipients-per-10-minutes", 1.0),
        ("auth", 535, "5.7.8", "wrong-credentials", 1.0),
        ("hello", 421, "4.7.0", "generic-hello", 1.0),
    ]
    .into_iter()
    .map(|(at, code, enhanced, reason, count)| {
        let labels =
            format!("{{at=\"{at}\",code=\"{code}\",enhanced=\"{enhanced}\",reason=\"{reason}\"}}");
        (format!("waypost_refusals_total{labels}"), count)
    })
    .collect();
    refusals.sort_by(|a, b| a.0.cmp(&b.0));
    let found: Vec<_> = now
        .nonzero("waypost_refusals_total")
        .into_iter()
        .map(|(series, count)| (series.to_owned(), count))
        .collect();
    assert_eq!(found, refusals);

    let by = r#"organization="Sol\"arm\\ora",route="second""#;
    let host = second.address;
    for (series, want) in [
        (format!("waypost_deliveries_total{{via=\"route\",{by},outcome=\"delivered\"}}"), 2.0),
        (format!("waypost_deliveries_total{{via=\"route\",{by},outcome=\"deferred\"}}"), 1.0),
        (format!("waypost_deliveries_total{{via=\"route\",{by},outcome=\"bounced\"}}"), 1.0),
        (format!("waypost_deliveries_total{{via=\"route\",{by},outcome=\"expired\"}}"), 0.0),
        (format!("waypost_host_deliveries_total{{host=\"{host}\",outcome=\"delivered\"}}"), 2.0),
        (format!("waypost_host_deliveries_total{{host=\"{host}\",outcome=\"deferred\"}}"), 1.0),
        (format!("waypost_host_deliveries_total{{host=\"{host}\",outcome=\"bounced\"}}"), 1.0),
        ("waypost_delivery_latency_seconds_count".into(), 5.0),
        (r#"waypost_notices_total{action="failed"}"#.into(), 1.0),
        (r#"waypost_queue_messages{state="held"}"#.into(), 1.0),
        (r#"waypost_queue_messages{state="ready"}"#.into(), 0.0),
        (r#"waypost_queue_messages{state="running"}"#.into(), 0.0),
        (r#"waypost_queue_bytes{state="held"}"#.into(), MESSAGE.len() as f64),
        (r#"waypost_quota_refusals_total{limit="quota-recipients-per-10-minutes"}"#.into(), 1.0),
        (
            r#"waypost_tls_handshakes_total{side="server",result="ok",version="TLSv1.3"}"#.into(),
            1.0,
        ),
        ("waypost_connections_accepted_total".into(), 4.0),
        ("waypost_store_failures_total".into(), 0.0),
        ("waypost_store_open".into(), 1.0),
        (r#"waypost_build_info{version="0.1.0"}"#.into(), 1.0),
    ] {
        assert_eq!(now.value(&series), want, "{series}");
    }
    assert_eq!(now.nonzero("waypost_config_info").len(), 1);
    assert!(now.value("waypost_queue_oldest_seconds") > 0.0);
    let syncs = now.value("waypost_store_syncs_total");
    assert!(syncs >= 1.0 && syncs == now.value("waypost_store_sync_seconds_count"), "{syncs}");
    let records = now.value("waypost_store_batch_records_sum");
    assert!(records >= 6.0, "a synced record a message: {records}");
    for gauge in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
        assert!(now.value(gauge) > 1.0, "{gauge}");
    }
    serve.terminate();
}

#[test]
fn o4_a_stopping_server_is_alive_and_not_ready() {
    let second = Sink::start();
    let admin = reserved();
    let folder = Folder::new(&organization(admin, second.address));
    let serve = folder.serve();
    assert!(get(admin, "/readyz", "").0.starts_with("HTTP/1.1 200 "));
    let (head, body) = get(admin, "/readyz", "Accept: application/json\r\n");
    assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
    assert_eq!(body.trim(), r#"{"ready":true,"reasons":[]}"#);
    let mut client = serve.session("mx");
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<x@solarmora.com>", "250");
    client.ask("DATA", "354");
    serve.signal("TERM");
    let until = Instant::now() + PATIENCE;
    let body = loop {
        let (head, body) = get(admin, "/readyz", "");
        if head.starts_with("HTTP/1.1 503 ") {
            break body;
        }
        assert!(Instant::now() < until, "{head}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(body, "stopping: the server is stopping\n");
    let (_, body) = get(admin, "/readyz", "Accept: application/json\r\n");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["ready"], &body["reasons"][0]["reason"]),
        (&false.into(), &"stopping".into())
    );
    assert!(get(admin, "/healthz", "").0.starts_with("HTTP/1.1 200 "), "alive");
    // The message that is on its way may end.
    queue_id(&client.text(MESSAGE));
    let mut serve = serve;
    assert!(serve.wait().success());
}

#[test]
fn o4_the_admin_page_is_no_way_in() {
    let second = Sink::start();
    let admin = reserved();
    let folder = Folder::new(&organization(admin, second.address));
    let serve = folder.serve();
    for (request, status) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", "200 "),
        ("GET /health HTTP/1.1\r\n\r\n", "200 "),
        ("GET /ready HTTP/1.1\r\n\r\n", "200 "),
        ("GET /healthy HTTP/1.1\r\n\r\n", "404 "),
        ("GET /healthz?x HTTP/1.1\r\n\r\n", "200 "),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 "),
        ("GET / HTTP/1.1\r\n\r\n", "404 "),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", "404 "),
        ("GET /../healthz HTTP/1.1\r\n\r\n", "404 "),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 "),
        ("DELETE /metrics HTTP/1.1\r\n\r\n", "405 "),
        ("EHLO x\r\n\r\n", "400 "),
        ("\r\n\r\n", "400 "),
        ("GET /metrics HTTP/3\r\n\r\n", "505 "),
    ] {
        let answer = ask(admin, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
        if request.starts_with("HEAD") {
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
    // A head without end is not read without end; whoever sends it may be cut off before the answer.
    let mut endless = TcpStream::connect(admin).unwrap();
    endless.set_read_timeout(Some(PATIENCE)).unwrap();
    let written = endless.write_all(&[b'a'; 9000]);
    let mut answer = String::new();
    let read = endless.read_to_string(&mut answer);
    assert!(written.is_ok() && read.is_ok() && answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // Silent ones take nothing from the others.
    let silent: Vec<_> = (0..32).map(|_| TcpStream::connect(admin).unwrap()).collect();
    let (head, body) = get(admin, "/metrics", "Accept: application/openmetrics-text\r\n");
    assert!(
        head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    drop(silent);
    serve.terminate();
}

#[test]
fn o4_lines_of_the_log_say_why() {
    let second = Sink::answering(|command| {
        command.starts_with("RCPT TO:<later@").then(|| "450 4.2.0 Later".to_owned())
    });
    let admin = reserved();
    let folder = Folder::new(&organization(admin, second.address));
    let serve = Serve::with_arguments(&folder.configuration(), &["--json"]);
    serve.log.wait_text("ready");
    let line = serve.log.wait_for("mx", |line| line.contains(r#""name":"mx""#));
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line["fields"]["address"].as_str().unwrap().parse().unwrap();
    let mut client = SmtpClient::hello(address, "client.elsewhere.example");
    let to = ["x@solarmora.com", "later@solarmora.com"];
    let said = client.message("a@elsewhere.example", &to, MESSAGE);
    let id = queue_id(&said).to_owned();
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<nobody@solarmora.com>", "550 5.1.1");
    client.ask("RSET", "250");
    let line = |message: &str| -> Value {
        let message = format!("\"message\":\"{message}\"");
        let line = serve.log.wait_for(&message, |line| line.contains(&message));
        serde_json::from_str(&line).unwrap()
    };
    let accepted = line("accepted");
    for (field, want) in [
        ("id", Value::from(&*id)),
        ("listener", "mx".into()),
        ("sender", "a@elsewhere.example".into()),
        ("recipients", 2.into()),
        ("size", MESSAGE.len().into()),
    ] {
        assert_eq!(accepted["fields"][field], want, "{field}: {accepted}");
    }
    let refused = line("refused");
    for (field, want) in [
        ("at", "rcpt"),
        ("reason", "unknown-recipient"),
        ("client", "127.0.0.1"),
        ("sender", "a@elsewhere.example"),
        ("recipient", "nobody@solarmora.com"),
        ("reply", "550 5.1.1 No such user here"),
    ] {
        assert_eq!(refused["fields"][field], want, "{field}: {refused}");
    }
    let delivered = line("delivered");
    let host = second.address.to_string();
    for (field, want) in [
        ("id", Value::from(&*id)),
        ("recipient", "x@solarmora.com".into()),
        ("sender", "a@elsewhere.example".into()),
        ("destination", "route second".into()),
        ("because", "rule \"Split delivery\"".into()),
        ("host", host.as_str().into()),
        ("address", "127.0.0.1".into()),
        ("tls", "none".into()),
        ("attempt", 1.into()),
    ] {
        assert_eq!(delivered["fields"][field], want, "{field}: {delivered}");
    }
    assert!(delivered["fields"]["ms"].as_u64().is_some(), "{delivered}");
    assert_eq!(delivered["level"], "INFO");
    let deferred = line("deferred");
    assert_eq!(deferred["fields"]["reply"], "450 4.2.0 Later", "{deferred}");
    assert_eq!(deferred["fields"]["scope"], "Message", "{deferred}");
    assert_eq!(deferred["level"], "WARN");
    serve.terminate();

    // Levels are those that were asked for.
    let serve = Serve::with_arguments(&folder.configuration(), &["--log", "warn"]);
    serve.log.wait_text("ready");
    assert!(!serve.log.holds("listening"), "{}", serve.log);
    serve.terminate();
    let mut serve = Serve::with_arguments(&folder.configuration(), &["--log", "no=such=level"]);
    assert_eq!(serve.wait().code(), Some(2));
    serve.log.wait_text("--log: \"no=such=level\" says not what to log");
}

#[test]
fn o4_what_is_rare_is_counted_too() {
    let admin = reserved();
    let nobody = reserved();
    let text = |version: &str| {
        format!(
            r#"
admin = "{admin}"

# {version}

[server.limits]
connections_per_client = 1

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "dead"
host = "{}"
port = {}
require_tls = false
retry = {{ delays = ["1s"], lifetime = "1s" }}

[[organization.rule]]
description = "To nobody"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "dead" }} }}

[[organization.rule]]
description = "Only looked at"
affects = ["inbound"]
mode = "observe"
then = {{ reject = "No" }}
"#,
            nobody.ip(),
            nobody.port()
        )
    };
    let folder = Folder::new(&text("first"));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    queue_id(&client.message("", &["marie@solarmora.com"], MESSAGE));
    queue_id(&client.message("marie@solarmora.com", &["x@solarmora.com"], MESSAGE));
    let mut second = SmtpClient::silent(serve.address("mx"));
    assert!(second.reply().starts_with("421 4.7.0"));
    let outcome = |outcome: &str| {
        let labels = r#"via="route",organization="Solarmora",route="dead""#;
        format!("waypost_deliveries_total{{{labels},outcome=\"{outcome}\"}}")
    };
    // The notice is made, and counted, last.
    let now = wait_for(admin, r#"waypost_notices_total{action="failed"}"#, 1.0);
    assert_eq!(now.value(&outcome("expired")), 1.0);
    assert!(now.value(&outcome("deferred")) >= 1.0);
    assert_eq!(now.value(&outcome("bounced")), 0.0);
    let observed = r#"organization="Solarmora",kind="rule",name="Only looked at""#;
    assert_eq!(now.value(&format!("waypost_observed_total{{{observed}}}")), 1.0);
    let reason = "reason=\"too-many-connections-of-client\"";
    let refused = format!("waypost_connections_refused_total{{{reason}}}");
    assert_eq!(now.value(&refused), 1.0);
    let refused = format!(
        "waypost_refusals_total{{at=\"connect\",code=\"421\",enhanced=\"4.7.0\",{reason}}}"
    );
    assert_eq!(now.value(&refused), 1.0);
    assert_eq!(now.value("waypost_connections_open"), 1.0);

    // A client whose TLS fails.
    client.ask("STARTTLS", "220");
    client.send(b"this is no TLS at all, whatever it is\r\n");
    let failed = r#"waypost_tls_handshakes_total{side="server",result="failed",version="none"}"#;
    wait_for(admin, failed, 1.0);

    // Reloads: the version in force is the only one shown.
    let version = |now: &Exposition| {
        let shown = now.nonzero("waypost_config_info");
        assert_eq!(shown.len(), 1);
        shown[0].0.to_owned()
    };
    let (was, at) = (version(&now), now.value("waypost_config_last_success_timestamp_seconds"));
    folder.configure("not = [toml");
    let now = wait_for(admin, r#"waypost_config_reloads_total{result="failed"}"#, 1.0);
    assert_eq!(version(&now), was);
    folder.configure(&text("second"));
    let now = wait_for(admin, r#"waypost_config_reloads_total{result="ok"}"#, 1.0);
    assert_ne!(version(&now), was);
    assert!(now.value("waypost_config_last_success_timestamp_seconds") > at);
    serve.terminate();
}
