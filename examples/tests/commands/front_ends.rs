//! `waypost policy-server` and `waypost milter` as services: sockets that are handed over, Unix sockets, privileges, limits, what is
//! told once, what is recorded.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::Value;
use waypost_milter::{Command as Told, Response};

use crate::milter_server::{LISTEN, milter, organization};
use crate::mta::Mta;
use crate::support::serving::{Folder, Serve};
use crate::support::sink::Sink;
use crate::support::{alone, waypost};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port on which nobody listens.
const NOWHERE: u16 = 2599;

fn free() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// Nothing here is delivered.
fn folder() -> Folder {
    Folder::new(&organization(NOWHERE, ""))
}

/// Starts a front end, and waits until it is ready.
fn started(folder: &Folder, command: &str, arguments: &[&str]) -> Serve {
    let server = spawned(folder, command, arguments);
    server.log.wait_text("ready");
    server
}

fn spawned(folder: &Folder, command: &str, arguments: &[&str]) -> Serve {
    let mut run = Command::new(env!("CARGO_BIN_EXE_waypost"));
    run.args([command, &folder.configuration()]).args(arguments);
    Serve::run(run)
}

/// One answer of policy delegation over a connection, to a recipient that exists.
fn policy_answers(stream: &mut (impl Read + Write)) -> bool {
    let request = "request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=1\n\
                   client_address=192.0.2.1\nsender=a@elsewhere.example\n\
                   recipient=marie@solarmora.com\n\n";
    let mut answer = Vec::new();
    stream.write_all(request.as_bytes()).is_ok() && {
        let mut octet = [0];
        while !answer.ends_with(b"\n\n") && stream.read(&mut octet).unwrap_or(0) > 0 {
            answer.push(octet[0]);
        }
        answer == b"action=DUNNO\n\n"
    }
}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// By its name a Unix socket is for policy delegation, by its address a port is for a table and another one for metrics.
#[test]
fn sockets_that_are_handed_over_are_answered() {
    let (table, table_address) = free();
    let folder = folder();
    let path = folder.path("policy");
    let policy = UnixListener::bind(&path).unwrap();
    let named = format!("transport={table_address}");
    let configuration = folder.configuration();
    let arguments = ["policy-server", &*configuration, "--tcp-table", &*named];
    let sockets = vec![OwnedFd::from(policy), OwnedFd::from(table)];
    let server = Serve::activated_as(&arguments, "policy:waypost.socket", sockets);
    server.log.wait_text("ready");
    assert!(policy_answers(&mut unix(&path)));
    assert_eq!(server.address("tcp-table").to_string(), table_address);
    server.log.wait_text(&format!("name=\"policy\" address=unix:{}", path.display()));
    server.terminate();
    assert!(path.exists(), "the file is the service manager's");

    let (admin, admin_address) = free();
    folder.configure(&format!("admin = \"127.0.0.1:0\"\n{}", organization(NOWHERE, "")));
    let milter = UnixListener::bind(folder.path("milter")).unwrap();
    let sockets = vec![OwnedFd::from(milter), OwnedFd::from(admin)];
    let server = Serve::activated_as(&["milter", &configuration], "Milter:admin", sockets);
    server.log.wait_text("ready");
    assert_eq!(server.address("admin").to_string(), admin_address);
    drop(Mta::over(unix(&folder.path("milter"))));
    assert!(!server.log.holds("10033"), "the usual port is not in use then");
    server.terminate();

    // As the units have it: the name is that of the unit, the address is on both sides.
    let path = folder.path("by-address");
    let socket = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let address = format!("unix:{}", path.display());
    let arguments = ["milter", &*configuration, "--listen", &*address];
    let server = Serve::activated_as(&arguments, "waypost-milter.socket", vec![socket]);
    server.log.wait_text("ready");
    drop(Mta::over(unix(&path)));
    server.terminate();
    assert!(path.exists());
}

/// Clients wait in the socket while nobody runs: a restart loses no connection.
#[test]
fn a_mail_server_that_connected_before_the_start_is_answered() {
    let (socket, address) = free();
    let folder = folder();
    let mut early = tcp(&address);
    let configuration = folder.configuration();
    let kept = OwnedFd::from(socket.try_clone().unwrap());
    let arguments = ["policy-server", &*configuration];
    let server = Serve::activated_as(&arguments, "policy", vec![socket.into()]);
    assert!(policy_answers(&mut early));
    server.terminate();
    let mut between = tcp(&address);
    let server = Serve::activated_as(&arguments, "policy", vec![kept]);
    assert!(policy_answers(&mut between));
    server.terminate();
}

#[test]
fn a_socket_that_is_of_no_front_end_is_refused() {
    let folder = folder();
    let configuration = folder.configuration();
    let unix = |name: &str| {
        let path = folder.path(name);
        let _ = fs::remove_file(&path);
        OwnedFd::from(UnixListener::bind(path).unwrap())
    };
    let datagram = || OwnedFd::from(UnixDatagram::unbound().unwrap());
    let connection = || OwnedFd::from(UnixStream::pair().unwrap().0);
    for (command, name, socket, told) in [
        (
            "milter",
            "policy",
            free().0.into(),
            "give it the name of one (`FileDescriptorName=` milter)",
        ),
        (
            "policy-server",
            "mx",
            free().0.into(),
            "policy, socketmap, milter or tcp-table-transport",
        ),
        ("policy-server", "tcp-table-none", unix("x"), "is of no front end"),
        ("policy-server", "policy", datagram(), "\"policy\" (number 0) is of no use"),
        (
            "milter",
            "milter",
            connection(),
            "is a connection, no listening socket; write `Accept=no`",
        ),
        ("serve", "mx", unix("y"), "it is unix:/"),
    ] {
        let mut server = Serve::activated_as(&[command, &configuration], name, vec![socket]);
        assert_eq!(server.wait().code(), Some(2), "{command} {name}");
        server.log.wait_text(told);
    }
}

#[test]
fn a_unix_socket_has_its_rights_and_only_a_dead_one_is_replaced() {
    let folder = folder();
    let path = folder.path("policy");
    let address = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    let group = Group::from_gid(Gid::effective()).unwrap().unwrap().name;
    let arguments = ["--policy", &*address, "--socket-mode", "0660", "--socket-group", &*group];
    let server = started(&folder, "policy-server", &arguments);
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.mode() & 0o777, found.gid()), (0o660, Gid::effective().as_raw()));
    assert!(policy_answers(&mut unix(&path)));
    // Another one, with a spool of its own, does not take the address away.
    let other = self::folder();
    let ran = waypost(&["milter", &other.configuration(), "--listen", &address], "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("another program answers there"), "{}", ran.stderr);
    assert!(policy_answers(&mut unix(&path)));
    server.terminate();
    assert!(!path.exists());
    // After a kill it is in the way, and is replaced.
    started(&folder, "policy-server", &arguments).kill();
    assert!(path.exists());
    started(&folder, "policy-server", &arguments).terminate();
    // A file that is no socket stays.
    fs::write(&path, "precious").unwrap();
    let ran = waypost(&["milter", &folder.configuration(), "--listen", &address], "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("no socket; remove it"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let configuration = folder.configuration();
    for (arguments, want) in [
        (["--socket-mode", "rw"], "in octal, such as 0660"),
        (["--socket-mode", "4755"], "in octal, such as 0660"),
        (["--socket-user", "no-such-user"], "--socket-user no-such-user: this machine knows none"),
        (
            ["--socket-group", "no-such-group"],
            "--socket-group no-such-group: this machine knows none",
        ),
    ] {
        let all = [&["milter", &*configuration], &arguments[..]].concat();
        let ran = waypost(&all, "");
        assert_eq!(ran.status, 2, "{arguments:?}");
        assert!(ran.stderr.contains(want), "{arguments:?}: {}", ran.stderr);
    }
}

/// Root binds where its user may not, and then is that user in every thread.
#[test]
fn root_binds_and_becomes_the_user_for_good() {
    let nobody = User::from_name("nobody").unwrap();
    let (true, Some(nobody)) = (Uid::effective().is_root(), nobody) else {
        eprintln!("skipped, since it needs root and a user nobody");
        return;
    };
    let folder = folder();
    folder.configure(&format!("user = \"nobody\"\n{}", organization(NOWHERE, "")));
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o755)).unwrap();
    let (policy, milter) = (folder.path("policy"), folder.path("milter"));
    let addresses = [&policy, &milter].map(|path| format!("unix:{}", path.display()));
    let [policy_address, milter_address] = &addresses;
    let arguments = [
        "--policy",
        policy_address,
        "--milter",
        milter_address,
        "--socket-user",
        "nobody",
        "--socket-mode",
        "0600",
    ];
    for _ in 0..2 {
        let server = started(&folder, "policy-server", &arguments);
        server.log.wait_text("privileges given up");
        assert!(policy_answers(&mut unix(&policy)));
        drop(Mta::over(unix(&milter)));
        for path in [&policy, &milter] {
            let found = fs::symlink_metadata(path).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o777), (nobody.uid.as_raw(), 0o600));
        }
        let mut threads = 0;
        for task in fs::read_dir(format!("/proc/{}/task", server.id())).unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
            let uid = nobody.uid.to_string();
            assert_eq!(line.trim(), [&*uid; 4].join("\t"));
            let none = |set: &str| status.contains(&format!("{set}\t0000000000000000"));
            assert!(none("CapPrm:") && none("CapEff:") && none("CapAmb:"), "{status}");
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
            threads += 1;
        }
        assert!(threads > 2);
        let spool = fs::metadata(folder.path("spool")).unwrap();
        assert_eq!((spool.uid(), spool.mode() & 0o777), (nobody.uid.as_raw(), 0o700));
        // The folder is root's: the file stays, and the next start, by root, replaces it.
        let log = server.log.clone();
        server.terminate();
        log.wait_text("the socket stays; the next start replaces it");
    }
}

#[test]
fn the_service_manager_is_told_of_front_ends() {
    let folder = folder();
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["milter", &folder.configuration()]).args(LISTEN).env("NOTIFY_SOCKET", &path);
    let server = Serve::run(command);
    assert_eq!(told(), "READY=1\n");
    server.signal("HUP");
    assert!(told().starts_with("RELOADING=1\n"));
    assert_eq!(told(), "READY=1\n");
    server.terminate();
    assert_eq!(told(), "STOPPING=1\n");
}

/// Of all addresses together; who has no place is closed at once, and the mail server asks again.
#[test]
fn connections_are_limited_and_counted() {
    let folder = folder();
    let limited = |most: usize| {
        format!(
            "admin = \"127.0.0.1:0\"\nlimits = {{ connections = {most} }}\n{}",
            organization(NOWHERE, "")
        )
    };
    folder.configure(&limited(3));
    let arguments = ["--policy", "127.0.0.1:0", "--milter", "127.0.0.1:0"];
    let server = started(&folder, "policy-server", &arguments);
    let policy = server.address("policy").to_string();
    let mut open: Vec<TcpStream> = (0..2).map(|_| tcp(&policy)).collect();
    assert!(open.iter_mut().all(policy_answers));
    let milter = Mta::of(&server);
    assert_eq!(server.metric("waypost_connections_open"), 3);
    assert_eq!(tcp(&policy).read(&mut [0]).unwrap_or(0), 0, "there is no place");
    server.log.wait_text("the server has 3 connections open");
    assert_eq!(
        server.metric("waypost_connections_refused_total{reason=\"too-many-connections\"}"),
        1
    );
    // A reload makes room, and so does who goes away.
    folder.configure(&limited(4));
    server.log.wait_text("reloaded");
    assert!(policy_answers(&mut tcp(&policy)));
    drop((open, milter));
    let until = Instant::now() + PATIENCE;
    while server.metric("waypost_connections_open") > 0 {
        assert!(Instant::now() < until);
    }
    assert!(policy_answers(&mut tcp(&policy)));
    server.terminate();
}

/// Messages that come at the same time share the room that they have in `serve`: who finds none is not read from.
#[test]
fn messages_under_way_take_bounded_memory_e12() {
    const CONNECTIONS: usize = 40;
    /// One large message may have its size, its header's, and a frame's: 10 of 128 MiB.
    const AT_ONCE: usize = 12;
    let _alone = alone();
    let rule = r#"
[[organization.rule]]
description = "No files"
affects = ["inbound"]
then = { modify = { remove_attachments = true } }
"#;
    let folder = Folder::new("");
    folder.configure(&format!(
        "limits = {{ message_size = \"8 MiB\" }}\n{}",
        organization(NOWHERE, rule)
    ));
    let path = folder.path("milter");
    let server = started(&folder, "milter", &["--listen", &format!("unix:{}", path.display())]);
    let before = server.memory().resident;
    let (sent, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(AT_ONCE + 1)));
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (stream, sent, go_on) = (unix(&path), Arc::clone(&sent), Arc::clone(&go_on));
            std::thread::spawn(move || {
                let mut mta = Mta::over(stream);
                mta.client("mx", "203.0.113.7");
                mta.asked(&Told::Mail { path: b"<a@elsewhere.example>", parameters: vec![] })
                    .unwrap();
                mta.asked(&Told::Rcpt { path: b"<marie@solarmora.com>", parameters: vec![] })
                    .unwrap();
                mta.tell(&Told::Header { name: b"Subject", value: b" large" });
                for _ in 0..7 * 16 {
                    mta.tell(&Told::Body(&[b'x'; 64 << 10]));
                }
                if sent.fetch_add(1, Ordering::SeqCst) < AT_ONCE {
                    go_on.wait();
                }
                mta.tell(&Told::EndOfMessage(b""));
                loop {
                    match mta.response() {
                        Response::Modify(_) | Response::Progress => {}
                        last => return last.name().to_owned(),
                    }
                }
            })
        })
        .collect();
    let until = Instant::now() + PATIENCE;
    while sent.load(Ordering::SeqCst) < AT_ONCE {
        assert!(Instant::now() < until, "{} were read", sent.load(Ordering::SeqCst));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(sent.load(Ordering::SeqCst), AT_ONCE, "the others are not read from");
    let grown = server.memory().resident.saturating_sub(before);
    assert!(grown <= 32 + 32 + 128, "{grown} MiB for messages under way");
    go_on.wait();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "continue");
    }
    server.terminate();
}

/// The mail server lost its milter, or its client did not hear the 250: the message comes again, and the notice about
/// a recipient who was refused does not.
#[test]
fn a_message_that_is_told_again_brings_one_notice_c6() {
    let hop = Sink::start();
    let folder = Folder::new(&organization(hop.address.port(), ""));
    let server = milter(&folder, LISTEN);
    let from = "banned@elsewhere.example";
    let (marie, jean) = ("marie@solarmora.com", "jean@solarmora.com");
    let message =
        |id: &str| format!("Message-ID: <{id}@elsewhere.example>\r\nSubject: {id}\r\n\r\ntext\r\n");
    let session = |server: &Serve| {
        let mut mta = Mta::of(server);
        mta.client("mx", "203.0.113.7");
        mta
    };
    // The connection is lost before the answer.
    let mut lost = session(&server);
    lost.send(from, &[marie, jean], &message("one"));
    server.log.wait_text("550 5.7.1 Not from you");
    drop(lost);
    // At the same time in many sessions.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (mut mta, text) = (session(&server), message("one"));
            std::thread::spawn(move || mta.message(from, &[marie, jean], &text))
        })
        .collect();
    for thread in threads {
        let outcome = thread.join().unwrap();
        assert_eq!(outcome.deleted, [format!("<{jean}>")], "refused as before: {outcome:?}");
    }
    server.log.wait_text("the sender was told before");
    // After a crash.
    server.kill();
    let server = milter(&folder, LISTEN);
    let again = session(&server).message(from, &[marie, jean], &message("one"));
    assert_eq!((&*again.reply, again.deleted), ("continue", vec![format!("<{jean}>")]));
    server.log.wait_text("the sender was told before");
    // Without bodies, a header that bears no id may be that of two messages.
    for _ in 0..2 {
        session(&server).message(from, &[marie, jean], "Subject: like-others\r\n\r\ntext\r\n");
    }
    // Another message is another matter.
    session(&server).message(from, &[marie, jean], &message("two"));
    let until = Instant::now() + PATIENCE;
    let notices = loop {
        let all = hop.received();
        let about = |subject: &str| {
            let own = |text: &str| {
                let (_, rest) = text.split_once("Message-ID: ").unwrap();
                rest.lines().next().unwrap().to_owned()
            };
            let texts = all.iter().map(|one| one.text());
            let about = texts.filter(|text| text.contains(&format!("Subject: {subject}\r\n")));
            about.map(|text| own(&text)).collect::<BTreeSet<String>>()
        };
        let found = (about("one"), about("like-others"), about("two"));
        if found.1.len() == 2 && !found.2.is_empty() {
            break found;
        }
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((notices.0.len(), notices.1.len(), notices.2.len()), (1, 2, 1), "{notices:?}");
    server.terminate();
}

/// The same lines as by `serve`, so that `diff` can compare configurations.
#[test]
fn a_milter_records_envelopes_as_serve_does() {
    let hop = Sink::start();
    let recording =
        format!("record = \"envelopes.jsonl\"\n{}", organization(hop.address.port(), ""));
    let folder = Folder::new(&recording);
    let server = milter(&folder, LISTEN);
    let mut mta = Mta::of(&server);
    mta.client("mx", "203.0.113.7");
    let text = "From: x@elsewhere.example\r\nSubject: Hi\r\n\r\ntext\r\n";
    let stranger = "a@elsewhere.example";
    let (marie, nobody) = ("marie@solarmora.com", "nobody@solarmora.com");
    mta.message(stranger, &[marie, nobody], text);
    mta.message(stranger, &[nobody], text);
    mta.message("banned@elsewhere.example", &["jean@solarmora.com"], text);
    drop(mta);
    server.terminate();
    let record = fs::read_to_string(folder.path("envelopes.jsonl")).unwrap();
    let lines: Vec<Value> =
        record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{record}");
    let data: Vec<&str> =
        lines.iter().map(|line| line["fate"]["data"].as_str().unwrap_or("-")).collect();
    assert!(data[0].starts_with("250 "), "{record}");
    assert_eq!(data[1..], ["-", "550 5.7.1 Not from you"]);
    assert_eq!((&lines[0]["listener"], &lines[0]["queue_id"]), (&"mx".into(), &"4QUEUEID".into()));
    assert_eq!(lines[0]["client_ip"], "203.0.113.7");
    assert_eq!(lines[0]["rcpt_to"].as_array().unwrap().len(), 2);
    assert!(lines[0]["message"].as_str().unwrap().contains("From: x@elsewhere.example"));
    assert_eq!(lines[0]["fate"]["deliveries"][0]["via"], "mailbox");
    // And it can be compared: another configuration refuses what this one took.
    let other = Folder::new(&recording.replace(
        "senders = [{ address = \"suspect@elsewhere.example\" }]",
        "senders = [{ address = \"a@elsewhere.example\" }]",
    ));
    let envelopes = folder.path("envelopes.jsonl");
    let ran = waypost(
        &[
            "diff",
            &folder.configuration(),
            &other.configuration(),
            "--messages",
            envelopes.to_str().unwrap(),
        ],
        "",
    );
    assert!(ran.stdout.contains("review"), "{}{}", ran.stdout, ran.stderr);
}

/// The units of the front ends, shut in like that of the server.
#[test]
fn the_units_of_front_ends_are_sound_and_shut_in() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let read = |name: &str| fs::read_to_string(packaging.join(name)).unwrap();
    let shut_in = |unit: &str| -> Vec<String> {
        let from = unit.lines().skip_while(|line| !line.starts_with("NoNewPrivileges="));
        from.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
    };
    let serve = shut_in(&read("waypost.service"));
    assert!(serve.len() > 20, "{serve:?}");
    let names = ["waypost-policy-server", "waypost-milter"];
    for name in names {
        let (service, socket) = (read(&format!("{name}.service")), read(&format!("{name}.socket")));
        assert_eq!(shut_in(&service), serve, "{name}: as waypost.service");
        // Each address of the socket unit is one of the command: that is how it is known.
        let paths = socket.lines().filter_map(|line| line.strip_prefix("ListenStream="));
        let mut count = 0;
        for path in paths {
            assert!(service.contains(&format!("unix:{path}")), "{name}: {path}");
            count += 1;
        }
        assert!(count > 0);
        for line in ["SocketMode=0660", "SocketGroup=postfix", "RemoveOnStop=yes"] {
            assert!(socket.lines().any(|found| found == line), "{name}: {line}");
        }
    }
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        for unit in [format!("{name}.service"), format!("{name}.socket")] {
            let text = read(&unit).replace("/usr/bin/waypost", env!("CARGO_BIN_EXE_waypost"));
            fs::write(folder.path().join(unit), text).unwrap();
        }
    }
    for name in names {
        let (service, socket) = (format!("./{name}.service"), format!("./{name}.socket"));
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", &service, &socket]).current_dir(folder.path());
        let ran = command.output().unwrap();
        let told = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        let about_us = told.lines().filter(|line| line.contains("waypost"));
        assert!(ran.status.success() && about_us.count() == 0, "{told}");
    }
}
