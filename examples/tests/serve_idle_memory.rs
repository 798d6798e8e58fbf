//! `waypost serve`, and the front ends for other mail servers: what sessions that wait cost in memory.
//!
//! `WAYPOST_IDLE=10000 cargo test --release -p waypost-examples --test serve_idle_memory -- --nocapture`
//! prints the figures of `docs/PERFORMANCE.md`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]
#![cfg(target_os = "linux")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::serving::{Folder, Serve};
use support::smtp_client::SmtpClient;

/// The most that an idle session may hold resident, in octets.
const MOST: usize = 7 << 10;
/// Sessions that come and go first, so that what threads and the allocator take once is not counted.
const WARM_UP: usize = 16;

/// How many sessions are opened.
fn sessions() -> usize {
    std::env::var("WAYPOST_IDLE").map_or(1000, |text| text.parse().unwrap())
}

fn folder(sessions: usize) -> Folder {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(most > sessions as u64 + 100, "only {most} files may be open; ulimit -Hn");
    let limit = 2 * sessions + 2 * WARM_UP;
    Folder::new(&format!(
        "\n[server.limits]\nconnections = {limit}\nconnections_per_client = {limit}\n\
         connections_per_client_per_minute = {limit}\n\n\
         [[organization]]\nname = \"Solarmora\"\ndomains = [\"solarmora.com\"]\nlicences = 250\n"
    ))
}

/// Octets that the server holds resident.
fn resident(serve: &Serve) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

fn until(stream: &mut TcpStream, end: &str) {
    let mut said = String::new();
    let mut chunk = [0; 512];
    while !(said.contains(end) && said.ends_with("\r\n")) {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server hung up: {said}");
        said.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
}

/// A session past EHLO, without a buffer of its own.
fn idle(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    until(&mut stream, "220 ");
    stream.write_all(b"EHLO client.elsewhere.example\r\n").unwrap();
    until(&mut stream, "\r\n250 ");
    stream
}

#[test]
fn an_idle_session_holds_at_most_8_kib() {
    let _alone = support::alone();
    let count = sessions();
    let folder = folder(count);
    let serve = folder.serve();
    let address = serve.address("mx");
    drop((0..WARM_UP).map(|_| idle(address)).collect::<Vec<_>>());
    let before = resident(&serve);
    let open: Vec<TcpStream> = (0..count).map(|_| idle(address)).collect();
    let each = resident(&serve).saturating_sub(before) / count;
    println!("{count} idle sessions: {each} octets resident for each, {before} before");
    assert!(each <= MOST, "{each} octets for each of {count} idle sessions, more than {MOST}");
    drop(open);
    serve.terminate();
}

#[test]
fn the_cost_of_an_idle_session_inside_tls_is_known() {
    let _alone = support::alone();
    let count = sessions() / 10;
    let folder = folder(count);
    let serve = folder.serve();
    let address = serve.address("mx");
    let session = || {
        SmtpClient::hello(address, "client.elsewhere.example")
            .start_tls(folder.certificate(), "client.elsewhere.example")
    };
    drop((0..WARM_UP).map(|_| session()).collect::<Vec<_>>());
    let before = resident(&serve);
    let open: Vec<SmtpClient> = (0..count).map(|_| session()).collect();
    let each = resident(&serve).saturating_sub(before) / count;
    println!("{count} idle sessions inside TLS: {each} octets resident for each");
    assert!(each <= 64 << 10, "{each} octets for each of {count} idle sessions inside TLS");
    drop(open);
    serve.terminate();
}

/// The most that an idle connection of a mail server may hold resident, in octets. One read buffer is more.
const MOST_OF_A_FRONT: usize = 6 << 10;

/// Of a front end, each connection after it was used: what a request needed is given back.
fn front_connections_are_small(front: &str, use_it: impl Fn(&mut TcpStream)) {
    let _alone = support::alone();
    let count = sessions();
    let folder = folder(count);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["policy-server", &folder.configuration(), &format!("--{front}"), "127.0.0.1:0"]);
    let server = Serve::run(command);
    server.log.wait_text("ready");
    let address = server.address(front);
    let used = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        use_it(&mut stream);
        stream
    };
    drop((0..WARM_UP).map(|_| used()).collect::<Vec<_>>());
    let before = resident(&server);
    let open: Vec<TcpStream> = (0..count).map(|_| used()).collect();
    let each = resident(&server).saturating_sub(before) / count;
    println!("{count} idle connections of {front}: {each} octets resident for each");
    assert!(each <= MOST_OF_A_FRONT, "{each} octets for each of {count} idle connections");
    drop(open);
    server.terminate();
}

#[test]
fn an_idle_connection_of_postfix_holds_no_buffer() {
    front_connections_are_small("policy", |stream| {
        // A request with much in it, and its answer.
        let padding = "x".repeat(20_000);
        let request = format!(
            "request=smtpd_access_policy\nprotocol_state=CONNECT\ninstance=1\n\
             client_address=192.0.2.1\nccert_subject={padding}\n\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 14];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"action=DUNNO\n\n");
    });
}

#[test]
fn an_idle_connection_of_a_milter_holds_no_buffer() {
    front_connections_are_small("milter", |stream| {
        let mut octets = Vec::new();
        let all = waypost_milter::Options::new(
            6,
            waypost_milter::Actions::ALL,
            waypost_milter::Steps::OFFERED,
        );
        waypost_milter::Command::Options(all).encode(&mut octets);
        // A long command that wants no answer.
        waypost_milter::Command::Unknown(&[b'x'; 100_000]).encode(&mut octets);
        stream.write_all(&octets).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], b'O');
    });
}
