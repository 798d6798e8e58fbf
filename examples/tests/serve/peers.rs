//! `waypost serve`: a client of others, where it is installed. `scripts/interop` tries more of them.

use crate::support;

use std::process::Command;

use support::serving::{Folder, HOSTNAME};
use support::sink::Sink;
use support::waypost;

/// Sends one message in the clear to the first port, and one with STARTTLS and AUTH to the second.
const SCRIPT: &str = r#"
import smtplib, ssl, sys
mx, relay, roots, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
text = "From: a@elsewhere.example\r\nSubject: caf\u00e9\r\n\r\n.\r\n..\r\nblanks  \r\n".encode()
with smtplib.SMTP("127.0.0.1", mx, "client.elsewhere.example") as client:
    client.sendmail("a@elsewhere.example", ["x@solarmora.com"], text, ["BODY=8BITMIME"])
client = smtplib.SMTP("127.0.0.1", relay, "client.elsewhere.example")
client._host = name
client.starttls(context=ssl.create_default_context(cafile=roots))
client.login("marie@solarmora.com", "correct horse")
refused = client.sendmail("marie@solarmora.com", ["one@f.example", "two@f.example"], text)
assert not refused, refused
try:
    client.sendmail("nobody@elsewhere.example", ["one@f.example"], text)
    raise SystemExit("a foreign sender was accepted")
except smtplib.SMTPSenderRefused as refused:
    assert refused.smtp_code == 550, refused
client.quit()
"#;

#[test]
fn d18_python_smtplib_sends_in_the_clear_and_with_starttls_and_auth() {
    let found = Command::new("python3").args(["-c", "import smtplib, ssl"]).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no python3");
        return;
    }
    let sink = Sink::start();
    let hashed = waypost(&["hash-password"], "correct horse\n").stdout;
    let folder = Folder::new(&format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 10
outbound_gateway = "{sink}"

[[organization.user]]
address = "marie@solarmora.com"
password = "{hash}"

[[organization.route]]
name = "second"
host = "127.0.0.1"
port = {port}
require_tls = false

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "second" }} }}

[[organization.relay]]
description = "Users anywhere"
allowed_senders = "registered-users"
require_auth = true
"#,
        sink = sink.address,
        hash = hashed.trim_end(),
        port = sink.address.port(),
    ));
    let serve = folder.serve();
    let ports = ["mx", "relay"].map(|name| serve.address(name).port().to_string());
    let roots = folder.path("mx.pem");
    let ran = Command::new("python3")
        .args(["-c", SCRIPT, &ports[0], &ports[1], &roots.to_string_lossy(), HOSTNAME])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let want = "From: a@elsewhere.example\r\nSubject: caf\u{e9}\r\n\r\n.\r\n..\r\nblanks  \r\n";
    let came = sink.wait(2);
    let to: usize = came.iter().map(|one| one.to.len()).sum();
    assert_eq!((came.len(), to), (2, 3), "{came:?}");
    assert!(came.iter().all(|one| one.behind_trace() == want.as_bytes()), "{came:?}");
    serve.terminate();
}
