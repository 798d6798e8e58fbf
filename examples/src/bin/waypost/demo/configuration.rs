//! The gateway's configuration in the demo.

use std::path::Path;
use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_relay::hash_password;

use super::input;
use super::letters::PASSWORD;
use super::receivers::{Receivers, System};
use crate::answer::Failure;

/// Writes `waypost.toml` into the folder and loads it as `serve` would.
pub(super) fn write_and_load(folder: &Path, receivers: &Receivers) -> Result<Arc<Policy>, Failure> {
    let path = folder.join("waypost.toml");
    let text = text(receivers)?;
    std::fs::write(&path, text).map_err(|error| input("no configuration can be written", error))?;
    let loaded = waypost_server::load(&path)
        .map_err(|error| input("the configuration cannot be read", error))?;
    let shown = loaded.report.render(false);
    loaded.policy.ok_or_else(|| input("the configuration has errors", shown))
}

fn text(receivers: &Receivers) -> Result<String, Failure> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| input("no random bytes", error))?;
    let password = hash_password(PASSWORD.as_bytes(), salt)
        .map_err(|error| input("no password can be hashed", error))?;
    let closed = closed_port()?;
    let [mailboxes, second, smarthost, standby] =
        [System::Mailboxes, System::Second, System::SmartHost, System::Standby]
            .map(|system| receivers.port(system));
    Ok(format!(
        r#"# What `waypost demo` runs with.
[server]
hostname = "gateway.demo.example"
spool = "spool"

[server.retry]
first = "1s"
longest = "5s"

[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:0"
tls = {{ certificate = "gateway.demo.example.pem", key = "gateway.demo.example.key" }}

[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:0"
tls = {{ certificate = "gateway.demo.example.pem", key = "gateway.demo.example.key" }}

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
mailbox_route = "mailboxes"

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.com"]
password = "{password}"

[[organization.user]]
address = "paul@solarmora.com"

[[organization.user]]
address = "billing@solarmora.com"

[[organization.user]]
address = "legacy@solarmora.com"

# A: routes, with TLS demanded, an authority of our own, and the name checked.
[[organization.route]]
name = "mailboxes"
host = "mailboxes.demo.example"
port = {mailboxes}
roots = "ca.pem"

[[organization.route]]
name = "second"
host = "second.demo.example"
port = {second}
roots = "ca.pem"

[[organization.route]]
name = "smarthost"
host = "smarthost.demo.example"
port = {smarthost}
roots = "ca.pem"

[[organization.route]]
name = "billing pair"
roots = "ca.pem"
primary = [{{ host = "standby.demo.example", port = {closed}, load = 100 }}]
secondary = [{{ host = "standby.demo.example", port = {standby}, load = 100 }}]

[[organization.route]]
name = "wrong name"
host = "other-name.demo.example"
port = {second}
roots = "ca.pem"

[[organization.rule]]
description = "Billing to its pair of hosts"
affects = ["inbound", "internal-receiving"]
envelope.recipients = [{{ address = "billing@solarmora.com" }}]
then.modify = {{ route = "billing pair" }}

[[organization.rule]]
description = "Legacy over a host with a wrong name"
affects = ["inbound", "internal-receiving"]
envelope.recipients = [{{ address = "legacy@solarmora.com" }}]
then.modify = {{ route = "wrong name" }}

# B: all outbound mail through the smart host.
[[organization.rule]]
description = "Outbound through the smart host"
affects = ["outbound"]
then.modify = {{ route = "smarthost", require_tls = true }}

# C: split and dual delivery.
[[organization.rule]]
description = "Split delivery to the second system"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
then.modify = {{ route = "second" }}

[[organization.rule]]
description = "Copy of Paul's mail to the second system"
affects = ["inbound"]
envelope.recipients = [{{ address = "paul@solarmora.com" }}]
then.modify.also_deliver_to = [{{ address = "archive@solarmora.com", route = "second" }}]

# D: who may relay, and how much.
[[organization.relay]]
description = "Registered users with a password"
allowed_senders = "registered-users"
require_auth = true
require_tls = true

[organization.limits]
recipients_per_10_minutes = 4

# E: the sender's address behind a gateway, and the gateway's spam tag.
[organization.inbound_gateway]
addresses = ["127.0.0.1", "198.51.100.7"]
allow_private = true
detect_external_ip = true
require_tls = true
spam_tag = {{ regex = '^X-spam-gw: spam$' }}
"#
    ))
}

/// A port that nobody listens on: one that was free a moment ago.
fn closed_port() -> Result<u16, Failure> {
    let failed = |error| input("no port is free", error);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.port())
}
