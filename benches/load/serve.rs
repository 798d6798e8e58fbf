//! `waypost serve`: a relay listener whose mail all goes to an outbound gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::program::Needs;
use crate::source::REFUSED;
use crate::trouble::{Doing, Trouble};
use crate::wire::SERVER;

/// Limits are as by default, but those that one client would meet who is all clients.
pub(crate) fn prepare(
    binary: &Path,
    folder: &Path,
    address: SocketAddr,
    needs: &Needs,
) -> Result<Command, Trouble> {
    if !binary.is_file() {
        return Err(Trouble::NoWaypost(binary.to_owned()));
    }
    let tls = needs.tls.as_ref().map_or_else(String::new, |(certificate, key)| {
        format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n")
    });
    let connections = needs.sessions + 1000;
    let refused = REFUSED.rsplit('@').next().unwrap_or_default();
    let sink = needs.sink;
    let text = format!(
        r#"[server]
hostname = "{SERVER}"
spool = "spool"

[server.limits]
connections = {connections}
connections_per_client = {connections}
connections_per_network = {connections}
connections_per_client_per_minute = 100000000
generic_helo_connections_per_minute = 100000000

[[listener]]
name = "relay"
role = "relay"
bind = "{address}"
{tls}
[[organization]]
name = "Source"
domains = ["source.example", "{refused}"]
licences = 10000
outbound_gateway = "{sink}"

[[organization.user]]
address = "postmaster@source.example"

[organization.limits]
recipients_per_day = 1000000000
recipients_per_10_minutes = 1000000000

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
"#
    );
    let path = folder.join("waypost.toml");
    std::fs::write(&path, text).doing(|| format!("writing {}", path.display()))?;
    let mut command = Command::new(binary);
    command.arg("serve").arg(&path).env_remove("RUST_LOG");
    Ok(command)
}
