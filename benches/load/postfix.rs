//! Postfix: an instance of its own, with queue and configuration in a folder, that relays all to the sink.
//!
//! Left as by default: what is synced and when, the checks of a transaction, and its caches. Changed: no name
//! server is asked (there is none here), as many processes and deliveries at a time as there are sessions,
//! no pause on intake nor after errors, so that nothing but its own work holds it back.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::{Group, Uid, User};

use crate::program::Needs;
use crate::source::REFUSED;
use crate::trouble::{Doing, Trouble};
use crate::wire::SERVER;

const OWNER: &str = "postfix";
const DROP: &str = "postdrop";
const DAEMONS: &str = "usr/lib/postfix/sbin";
const LIBRARIES: &str = "usr/lib/postfix";

/// Folders of the queue that are the owner's alone.
const PRIVATE: [&str; 11] = [
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
    "saved", "trace",
];

/// Services: name, type, private, unprivileged, wake-up, most processes, program. None is in a chroot.
const SERVICES: [(&str, &str, &str, &str, &str, &str, &str); 20] = [
    ("pickup", "unix", "n", "-", "60", "1", "pickup"),
    ("cleanup", "unix", "n", "-", "-", "0", "cleanup"),
    ("qmgr", "unix", "n", "-", "300", "1", "qmgr"),
    ("tlsmgr", "unix", "-", "-", "1000?", "1", "tlsmgr"),
    ("rewrite", "unix", "-", "-", "-", "-", "trivial-rewrite"),
    ("bounce", "unix", "-", "-", "-", "0", "bounce"),
    ("defer", "unix", "-", "-", "-", "0", "bounce"),
    ("trace", "unix", "-", "-", "-", "0", "bounce"),
    ("verify", "unix", "-", "-", "-", "1", "verify"),
    ("flush", "unix", "n", "-", "1000?", "0", "flush"),
    ("proxymap", "unix", "-", "-", "-", "-", "proxymap"),
    ("proxywrite", "unix", "-", "-", "-", "1", "proxymap"),
    ("smtp", "unix", "-", "-", "-", "-", "smtp"),
    ("relay", "unix", "-", "-", "-", "-", "smtp"),
    ("showq", "unix", "n", "-", "-", "-", "showq"),
    ("error", "unix", "-", "-", "-", "-", "error"),
    ("retry", "unix", "-", "-", "-", "-", "error"),
    ("discard", "unix", "-", "-", "-", "-", "discard"),
    ("anvil", "unix", "-", "-", "-", "1", "anvil"),
    ("scache", "unix", "-", "-", "-", "1", "scache"),
];

/// Writes the configuration and makes the queue.
pub(crate) fn prepare(
    root: &Path,
    folder: &Path,
    address: SocketAddr,
    needs: &Needs,
) -> Result<Command, Trouble> {
    let master = root.join(DAEMONS).join("master");
    if !master.is_file() {
        return Err(Trouble::NoPostfix(root.to_owned()));
    }
    if !Uid::effective().is_root() {
        return Err(Trouble::NotRoot);
    }
    let user = User::from_name(OWNER).ok().flatten().ok_or(Trouble::NoUser(OWNER))?;
    let group = Group::from_name(DROP).ok().flatten().ok_or(Trouble::NoGroup(DROP))?;
    for above in folder.ancestors().skip(1) {
        let open = fs::metadata(above).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        if !open && !above.as_os_str().is_empty() {
            return Err(Trouble::Closed(above.to_owned()));
        }
    }
    let (owner, drop) = (user.uid.as_raw(), group.gid.as_raw());
    let make = |name: &str, mode: u32, owner: u32, group: u32| {
        let path = folder.join(name);
        let made = fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .and_then(|()| chown(&path, Some(owner), Some(group)));
        made.doing(|| format!("making {}", path.display()))
    };
    make("", 0o755, 0, 0)?;
    make("queue", 0o755, 0, 0)?;
    for name in PRIVATE {
        make(&format!("queue/{name}"), 0o700, owner, 0)?;
    }
    make("queue/pid", 0o755, 0, 0)?;
    make("queue/maildrop", 0o730, owner, drop)?;
    make("queue/public", 0o710, owner, drop)?;
    make("data", 0o700, owner, 0)?;
    make("etc", 0o755, 0, 0)?;
    let write = |name: &str, text: &str| {
        let path = folder.join("etc").join(name);
        fs::write(&path, text).doing(|| format!("writing {}", path.display()))
    };
    write("main.cf", &settings(root, folder, needs))?;
    write("master.cf", &services(address))?;
    let mut command = Command::new(master);
    command.arg("-c").arg(folder.join("etc")).arg("-d");
    command.env("LD_LIBRARY_PATH", root.join(LIBRARIES));
    Ok(command)
}

fn settings(root: &Path, folder: &Path, needs: &Needs) -> String {
    let (root, folder) = (root.display(), folder.display());
    let sink = format!("[{}]:{}", needs.sink.ip(), needs.sink.port());
    let processes = needs.sessions + 100;
    let at_a_time = needs.sessions.max(20);
    let refused = REFUSED.rsplit('@').next().unwrap_or_default();
    let mut text = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {folder}/queue\n\
         data_directory = {folder}/data\n\
         command_directory = {root}/usr/sbin\n\
         daemon_directory = {root}/{DAEMONS}\n\
         shlib_directory = {root}/{LIBRARIES}\n\
         import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH\n\
         mail_owner = {OWNER}\n\
         setgid_group = {DROP}\n\
         myhostname = {SERVER}\n\
         mydestination =\n\
         alias_maps =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         relayhost = {sink}\n\
         smtp_dns_support_level = disabled\n\
         smtp_host_lookup = native\n\
         smtpd_peername_lookup = no\n\
         smtpd_client_connection_count_limit = 0\n\
         smtpd_recipient_restrictions = check_recipient_access inline:{{{refused}=REJECT}},\n    \
             permit_mynetworks, reject\n\
         default_process_limit = {processes}\n\
         initial_destination_concurrency = {at_a_time}\n\
         default_destination_concurrency_limit = {at_a_time}\n\
         smtpd_error_sleep_time = 0\n\
         in_flow_delay = 0\n"
    );
    if let Some((certificate, key)) = &needs.tls {
        let (certificate, key) = (certificate.display(), key.display());
        let _ = write!(
            text,
            "smtpd_tls_security_level = may\n\
             smtpd_tls_chain_files = {key} {certificate}\n"
        );
    }
    text
}

fn services(address: SocketAddr) -> String {
    let mut text = format!("{address} inet n - n - - smtpd\n");
    for (name, kind, private, unprivileged, wake_up, most, program) in SERVICES {
        let _ =
            writeln!(text, "{name} {kind} {private} {unprivileged} n {wake_up} {most} {program}");
    }
    text
}
