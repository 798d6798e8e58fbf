//! The server without privileges: sockets that are handed over, and root that becomes somebody else (O1).

use crate::support;

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use nix::unistd::{Uid, User};
use support::serving::{Folder, MARIE_RELAYS, Serve};

const HELLO: &[u8] = b"Subject: hello\r\n\r\nhello\r\n";

fn free() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn greeting(stream: TcpStream) -> String {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

/// The listener is found by the name of its socket, and the page of metrics by its address.
#[test]
fn inherited_sockets_are_served() {
    let (mx, mx_address) = free();
    let (admin, admin_address) = free();
    let folder = Folder::new(&format!("admin = \"{admin_address}\"\n{MARIE_RELAYS}"));
    let sockets = vec![OwnedFd::from(mx), OwnedFd::from(admin)];
    let serve = Serve::activated(&folder.configuration(), "mx:waypost.socket", sockets);
    serve.log.wait_text("ready");
    assert_eq!(serve.address("mx").to_string(), mx_address);
    assert_eq!(serve.address("admin").to_string(), admin_address);
    // One that was not handed over is bound as always.
    assert_ne!(serve.address("relay").to_string(), mx_address);
    serve.session("mx").message("jean@elsewhere.example", &["marie@solarmora.com"], HELLO);
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1);
    serve.terminate();
}

/// Clients wait in the socket while nobody runs: a restart loses no connection.
#[test]
fn who_connected_before_the_start_is_served() {
    let (mx, address) = free();
    let folder = Folder::new(MARIE_RELAYS);
    let early = TcpStream::connect(&address).unwrap();
    let kept = mx.try_clone().unwrap();
    let serve = Serve::activated(&folder.configuration(), "mx", vec![mx.into()]);
    assert!(greeting(early).starts_with("220 "));
    serve.terminate();
    let between = TcpStream::connect(&address).unwrap();
    let serve = Serve::activated(&folder.configuration(), "mx", vec![kept.into()]);
    assert!(greeting(between).starts_with("220 "));
    serve.terminate();
}

#[test]
fn what_is_no_listening_socket_of_a_listener_is_refused() {
    let folder = Folder::new(MARIE_RELAYS);
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = || OwnedFd::from(UnixDatagram::unbound().unwrap());
    let connection = || {
        let (socket, address) = free();
        let client = TcpStream::connect(address).unwrap();
        drop(socket);
        OwnedFd::from(client)
    };
    let file = || OwnedFd::from(fs::File::open(folder.configuration()).unwrap());
    for (name, socket, told) in [
        ("mx", udp(), "\"mx\" (number 0) is of no use"),
        ("mx", unix(), "ListenStream=ADDRESS:PORT"),
        ("mx", file(), "not a socket"),
        ("mx", connection(), "is a connection, no listening socket; write `Accept=no`"),
        ("submission", free().0.into(), "is of no listener; give it the name of one"),
    ] {
        let mut serve = Serve::activated(&folder.configuration(), name, vec![socket]);
        assert_eq!(serve.wait().code(), Some(2), "{name}");
        serve.log.wait_text(told);
    }
}

/// By the tool of the service manager itself, where it is installed.
#[test]
fn sockets_of_systemd_are_served() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-socket-activate");
        return;
    }
    let (socket, address) = free();
    drop(socket);
    let folder = Folder::new(MARIE_RELAYS);
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", &address, "--fdname", "mx", env!("CARGO_BIN_EXE_waypost"), "serve"]);
    let serve = Serve::run({
        command.arg(folder.configuration());
        command
    });
    serve.log.wait_text("Listening on");
    let client = TcpStream::connect(&address).unwrap();
    assert!(greeting(client).starts_with("220 "));
    assert_eq!(serve.address("mx").to_string(), address);
    serve.terminate();
}

/// A manager hears of the start, of reloads and of the end.
#[test]
fn the_service_manager_is_told() {
    let folder = Folder::new(MARIE_RELAYS);
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let told = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let set = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let serve = Serve::with_environment(&folder.configuration(), &set);
    assert_eq!(told(), "READY=1\n");
    serve.signal("HUP");
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), "READY=1\n");
    serve.terminate();
    assert_eq!(told(), "STOPPING=1\n");
}

/// Whether the tests run as root, and somebody can be become.
fn can_drop(test: &str) -> Option<User> {
    let nobody = User::from_name("nobody").unwrap();
    if !Uid::effective().is_root() || nobody.is_none() {
        eprintln!("{test}: skipped, since it needs root and a user nobody");
        return None;
    }
    nobody
}

/// A folder that others may look into, with a key for root alone.
fn open_folder(configuration: &str) -> Folder {
    let folder = Folder::new(configuration);
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder.path("mx.key"), Permissions::from_mode(0o600)).unwrap();
    folder
}

#[test]
fn root_becomes_the_user_for_good_in_every_thread() {
    let Some(nobody) = can_drop("root_becomes_the_user_for_good_in_every_thread") else { return };
    let folder = open_folder(&format!("user = \"nobody\"\n{MARIE_RELAYS}"));
    let serve = folder.serve();
    serve.log.wait_text("privileges given up");
    serve.session("mx").message("jean@elsewhere.example", &["marie@solarmora.com"], HELLO);
    folder.mailbox("marie@solarmora.com", "", 1);
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", serve.id())).unwrap() {
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
        assert_eq!(field("Uid:"), [&*uid; 4].join(" "));
        assert_eq!(field("Gid:"), [&*gid; 4].join(" "));
        assert_eq!(field("Groups:"), gid, "those of nobody, and none of root's");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        threads += 1;
    }
    assert!(threads > 2, "{threads} threads");
    let spool = fs::metadata(folder.path("spool")).unwrap();
    assert_eq!((spool.uid(), spool.mode() & 0o777), (nobody.uid.as_raw(), 0o700));
    serve.terminate();
    // The spool is that user's, so the next start has it again.
    folder.serve().terminate();
}

/// The key is for root alone, so a reload goes on with the one from the start, and says so.
#[test]
fn a_reload_without_privileges_keeps_the_key_a12() {
    if can_drop("a_reload_without_privileges_keeps_the_key_a12").is_none() {
        return;
    }
    let folder = open_folder(&format!("user = \"nobody\"\n{MARIE_RELAYS}"));
    let serve = folder.serve();
    let changed = MARIE_RELAYS.replace("licences = 250", "licences = 251");
    folder.configure(&format!("user = \"nobody\"\n{changed}"));
    let told = serve.log.wait_text("the certificate from before stays in force");
    assert!(told.contains("mx.key") && told.contains("user=nobody"), "{told}");
    serve.log.wait_text("reloaded version=");
    serve.session("mx").start_tls(folder.certificate(), "client.elsewhere.example");
    // Another key is no case for the old one.
    fs::copy(folder.path("mx.key"), folder.path("other.key")).unwrap();
    fs::set_permissions(folder.path("other.key"), Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(folder.path("waypost.toml")).unwrap();
    folder.write("waypost.toml", &text.replace("mx.key", "other.key"));
    let refused = serve.log.wait_text("the running configuration stays");
    assert!(refused.contains("other.key"), "{refused}");
    serve.terminate();
}

#[test]
fn who_cannot_be_become_is_refused() {
    if can_drop("who_cannot_be_become_is_refused").is_none() {
        return;
    }
    for (keys, told) in [
        ("user = \"no-such-user\"", "no user of that name"),
        ("user = \"nobody\"\ngroup = \"no-such-group\"", "no group of that name"),
        ("user = \"nobody\"\ngroup = \"root\"", "the group of root"),
    ] {
        let folder = open_folder(&format!("{keys}\n{MARIE_RELAYS}"));
        let mut serve = Serve::spawn(&folder.configuration());
        assert_eq!(serve.wait().code(), Some(2), "{keys}");
        serve.log.wait_text(told);
    }
    // A spool of root's.
    let folder = open_folder(&format!("user = \"nobody\"\n{MARIE_RELAYS}"));
    fs::create_dir(folder.path("spool")).unwrap();
    let mut serve = Serve::spawn(&folder.configuration());
    assert_eq!(serve.wait().code(), Some(2));
    serve.log.wait_text("chown -R");
}

/// Nothing is asked of who starts it as a user of its own; root without a user is warned.
#[test]
fn root_without_a_user_is_warned() {
    let folder = Folder::new(MARIE_RELAYS);
    let serve = folder.serve();
    assert_eq!(serve.log.holds("running as root"), Uid::effective().is_root());
    serve.terminate();
}

#[test]
fn the_unit_is_sound_and_shut_in() {
    let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let service = fs::read_to_string(packaging.join("waypost.service")).unwrap();
    for line in [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "StateDirectory=waypost",
        "SystemCallFilter=@system-service",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    ] {
        assert!(service.lines().any(|found| found == line), "{line}");
    }
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["waypost.service", "waypost.socket"] {
        let unit = fs::read_to_string(packaging.join(name)).unwrap();
        let unit = unit.replace("/usr/bin/waypost", env!("CARGO_BIN_EXE_waypost"));
        fs::write(folder.path().join(name), unit).unwrap();
    }
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let ran = command.args(arguments).current_dir(folder.path()).output().unwrap();
        let told = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8_lossy(&told).into_owned())
    };
    let (sound, told) = analyze(&["verify", "--man=no", "./waypost.service", "./waypost.socket"]);
    let about_us = told.lines().filter(|line| line.contains("waypost"));
    assert!(sound && about_us.count() == 0, "{told}");
    // 0 is shut in as far as can be, 100 not at all.
    let (shut, told) =
        analyze(&["security", "--offline=true", "--threshold=15", "./waypost.service"]);
    assert!(shut, "{told}");
}
