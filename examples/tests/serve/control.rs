//! The command socket, and `waypost reload`, `audit` and `quota`.

use crate::support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::control::{Gate, MESSAGE, ask, done, lines, organization, send, stable, wait_for};
use support::serving::{Folder, Serve, queue_id};
use support::sink::{Sink, reserved};
use support::waypost;
use waypost_store::FjallStore;

#[test]
fn without_a_spool_nothing_is_made_and_the_cure_is_told() {
    let folder = Folder::new(&organization(reserved()));
    for command in [&["queue", "list"][..], &["audit"], &["quota"]] {
        let ran = ask(&folder, command);
        assert_eq!(ran.status, 2, "{command:?}");
        assert!(ran.stderr.contains("there is no spool at "), "{}", ran.stderr);
    }
    assert!(!folder.path("spool").exists());
    assert_eq!(waypost(&["queue", "none.toml", "list"], "").status, 2);
    let nowhere = folder.path("").display().to_string();
    let ran = ask(&folder, &["queue", "list", "--spool", &nowhere]);
    assert!(ran.status == 2 && ran.stderr.contains("no server runs"), "{}", ran.stderr);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn one_server_a_spool_and_one_socket_for_its_owner_alone() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let socket = folder.path("spool/control.sock");
    assert_eq!((mode(&socket), mode(&folder.path("spool"))), (0o600, 0o700));
    let mut other = Serve::spawn(&folder.configuration());
    assert_eq!(other.wait().code(), Some(2), "{}", other.log);
    other.log.wait_text("is in use by another process");
    assert_eq!(lines(&folder, &["queue", "list"]).len(), 0, "the first one's socket still answers");

    // A socket of a dead server is replaced, and an orderly end removes its own.
    serve.kill();
    assert!(UnixStream::connect(&socket).is_err());
    let serve = folder.serve();
    assert!(UnixStream::connect(&socket).is_ok());
    assert_eq!(mode(&socket), 0o600);
    serve.terminate();
    assert!(!socket.exists());
    // A locked spool without a socket: the cure is told.
    let lock = FjallStore::open(&folder.path("spool")).unwrap();
    let ran = ask(&folder, &["queue", "list"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("in use by another process; stop it"), "{}", ran.stderr);
    drop(lock);
}

#[test]
fn a_spool_with_a_long_path_has_its_socket_too() {
    let second = Sink::start();
    let folder = Folder::new("");
    let long = format!("{}/{}", "a".repeat(90), "b".repeat(90));
    let text = fs::read_to_string(folder.configuration()).unwrap();
    let text = text.replace("spool = \"spool\"", &format!("spool = \"{long}\""));
    folder.write("waypost.toml", &format!("{text}{}", organization(second.address)));
    let serve = folder.serve();
    assert!(folder.path(&long).join("control.sock").exists());
    assert_eq!(done(&folder, &["queue", "list"]), "0 messages\n");
    serve.terminate();
}

fn talk(socket: &Path, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A server that has heard enough hangs up.
    let _ = stream.write_all(line);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn garbage_on_the_socket_is_answered_and_bounded() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let socket = folder.path("spool/control.sock");
    let long = [b"\"".as_slice(), &[b'x'; 1 << 20], b"\"\n"].concat();
    for (line, said) in [
        (b"\n".as_slice(), "this is no request"),
        (b"GET / HTTP/1.1\r\n\r\n", "this is no request"),
        (b"\xff\xfe\0\n", "this is no request"),
        (b"\"shutdown\"\n", "unknown variant"),
        (b"{\"hold\":{\"id\":\"x\"}}\n", "is no queue id"),
        (b"{\"hold\":{\"id\":\"0000000000000\",\"force\":true}}\n", "unknown field"),
        (b"{\"list\":{}}{\"list\":{}}\n", "trailing characters"),
        (&long, "more than 4096 octets"),
    ] {
        let answer = talk(&socket, line);
        assert_eq!(answer.lines().count(), 1, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let because = answer["end"]["unusable"]["because"].as_str().unwrap();
        assert!(because.contains(said), "{said}: {because}");
    }
    assert_eq!(talk(&socket, b"{\"list\":{}}\n"), "{\"end\":{\"done\":{\"count\":0}}}\n");

    // So many at a time; the next one is told, and there is room again when they are gone.
    let mut idle = Vec::new();
    let full = loop {
        let ran = ask(&folder, &["queue", "list"]);
        if ran.status != 0 {
            break ran;
        }
        assert!(idle.len() < 64, "nobody bounds them");
        idle.push(UnixStream::connect(&socket).unwrap());
    };
    assert!(full.status == 2 && idle.len() >= 16, "{}", idle.len());
    assert!(full.stderr.contains("16 clients are served already"), "{}", full.stderr);
    drop(idle);
    let until = Instant::now() + Duration::from_secs(30);
    while ask(&folder, &["queue", "list"]).status != 0 {
        assert!(Instant::now() < until, "there is room again");
        std::thread::sleep(Duration::from_millis(20));
    }
    send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    second.only();
    serve.terminate();
}

#[test]
fn a12_reload_takes_effect_or_says_everything_that_is_wrong() {
    let second = Sink::start();
    let good = organization(second.address);
    let folder = Folder::new(
        &good.replace("[[organization.user]]", "[[organization.user]]\nactive = false"),
    );
    let serve = folder.serve();
    folder.configure(&good);
    let text = done(&folder, &["reload"]);
    assert!(text.starts_with("reloaded: version ") && text.ends_with(" is in force\n"), "{text}");
    let version = lines(&folder, &["reload"])[0]["version"].as_str().unwrap().to_owned();
    assert!(text.contains(&version), "{text}");
    queue_id(&serve.session("mx").message(
        "a@elsewhere.example",
        &["marie@solarmora.com"],
        MESSAGE,
    ));
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1, "she is active now");

    // Refused: all of it is told, in the words of `check`, and the running one stays.
    let wrong =
        good.replace("licences", "licenses").replace("route = \"second\" }", "route = \"third\" }");
    let wrong = format!(
        "{wrong}\n[[organization.route]]\nname = \"port\"\nhost = \"a.example\"\nport = 465\n"
    );
    folder.configure(&wrong);
    let no = ask(&folder, &["reload"]);
    assert_eq!(no.status, 1, "{}", no.stderr);
    for part in ["licenses", "licences", "third", "not usable; "] {
        assert!(no.stdout.contains(part), "{part}: {}", no.stdout);
    }
    assert_eq!(no.stdout, ask(&folder, &["check"]).stdout);
    let no = ask(&folder, &["reload", "--json"]);
    assert_eq!((no.status, &no.json_lines()[0]["usable"]), (1, &Value::Bool(false)));
    assert_eq!(no.json_lines(), ask(&folder, &["check", "--json"]).json_lines());
    let failing = "\n[[expect]]\ndescription = \"never\"\nfrom = \"a@b.example\"\n\
                   to = \"x@solarmora.com\"\nreply = \"550\"\n";
    folder.configure(&format!("{good}{failing}"));
    let no = ask(&folder, &["reload"]);
    assert!(no.status == 1 && no.stdout.contains("never"), "{}", no.stdout);
    folder.configure("\n[");
    let unread = ask(&folder, &["audit"]);
    assert_eq!(unread.status, 2, "no TOML, as check says");
    assert!(unread.stderr.contains("a server that still runs answers with `--spool DIR`"));
    assert_eq!(ask(&folder, &["reload"]).status, 2);
    let spool = folder.path("spool").display().to_string();
    for command in [&["audit"][..], &["queue", "list"], &["quota"]] {
        done(&folder, &[command, &["--spool", &spool]].concat());
    }
    // What only a restart can change.
    folder.configure(&good);
    let moved = fs::read_to_string(folder.configuration()).unwrap();
    let moved = moved.replace("[server]", "[server]\nadmin = \"127.0.0.1:0\"");
    folder.write("waypost.toml", &moved);
    let no = ask(&folder, &["reload"]);
    assert_eq!(no.status, 1);
    assert!(no.stdout.contains("the admin address cannot change"), "{}", no.stdout);
    queue_id(&serve.session("mx").message(
        "a@elsewhere.example",
        &["marie@solarmora.com"],
        MESSAGE,
    ));

    // Who: the user at the other end of the socket.
    let audit = done(&folder, &["audit"]);
    let by_user: Vec<_> =
        audit.lines().filter(|line| line.contains(" (uid ") && !line.contains("owner")).collect();
    assert!(by_user.len() >= 2, "{audit}");
    // The look at the files may have been first.
    let said = |text: &str| by_user.iter().any(|line| line.contains(text));
    assert!(
        said("configuration: from version ") || said("configuration: nothing changed"),
        "{audit}"
    );
    assert!(said("configuration: refused: it has errors; version "), "{audit}");
    assert!(
        audit.contains("not allowed for a single host (A2); "),
        "the rule stands once: {audit}"
    );
    serve.terminate();
    assert_eq!(done(&folder, &["audit"]), audit, "the same without a server");
}

#[test]
fn audit_names_who_changed_the_queue() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    let id = send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    wait_for(&folder, "waiting", 1);
    for command in [&["hold", &id][..], &["release", &id]] {
        done(&folder, &[&["queue"], command].concat());
    }
    wait_for(&folder, "waiting", 1);
    for command in [&["retry", "--route", "second"][..], &["retry", "--all"]] {
        done(&folder, &[&["queue"], command].concat());
        wait_for(&folder, "waiting", 1);
    }
    done(&folder, &["queue", "remove", &id]);
    assert_eq!(
        ask(&folder, &["queue", "remove", &id]).status,
        1,
        "changes nothing, leaves no line"
    );
    let audit = done(&folder, &["audit"]);
    let said = audit.lines().filter(|line| line.contains("  queue: "));
    let said: Vec<_> = said.filter_map(|line| line.split_once(")  ")).collect();
    let what: Vec<_> = said.iter().map(|(_, what)| what.replace(&id, "ID")).collect();
    assert_eq!(
        what,
        [
            "queue: hold ID",
            "queue: release ID",
            "queue: retry route second, 1 messages",
            "queue: retry all, 1 messages",
            "queue: remove ID from <a@elsewhere.example>, 1 deliveries owed",
        ],
        "{audit}"
    );
    assert!(said.iter().all(|(who, _)| who.contains("(uid ")), "{audit}");
    // The first line is that of the first start.
    let line = &lines(&folder, &["audit"])[1];
    assert_eq!(line["queue"]["hold"]["id"], *id);
    assert!(line["at"].is_u64() && line["who"].is_string(), "{line}");
    serve.terminate();
}

#[test]
fn nothing_of_mail_misleads_who_reads_queue_and_audit() {
    // The next hop's words turn the direction of text too.
    let second = Sink::answering(|command| {
        command.starts_with("RCPT TO:").then(|| "451 4.2.0 \u{2067}Not\u{200f} now".to_owned())
    });
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    client.ask("MAIL FROM:<gpj.\u{202e}exe\u{61c}@elsewhere.example> SMTPUTF8", "250");
    client.ask("RCPT TO:<x\u{2066}y\u{200b}@solarmora.com>", "250");
    let id = queue_id(&client.data(MESSAGE)).to_owned();
    wait_for(&folder, "waiting", 1);
    let mut said = String::new();
    for command in [&["queue", "list"][..], &["queue", "show", &id], &["queue", "remove", &id]] {
        if command[1] != "remove" {
            said += &done(&folder, &[command, &["--json"]].concat());
        }
        said += &done(&folder, command);
    }
    for command in [&["audit"][..], &["audit", "--json"], &["quota"]] {
        said += &done(&folder, command);
    }
    let misleading = |c: char| waypost_types::misleads(c) && c != '\n';
    assert!(!said.contains(misleading), "{said:?}");
    for told in [
        r"gpj.\u{202e}exe\u{61c}@elsewhere.example",
        r"x\u{2066}y\u{200b}@solarmora.com",
        r"\u{2067}Not\u{200f} now",
        r"gpj.\u202eexe\u061c@",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    serve.terminate();
}

#[test]
fn d13_quota_shows_use_reservation_and_when_there_is_room() {
    let second = Sink::start();
    let limits = "[organization.limits]\nrecipients_per_day = 3\n";
    let folder = Folder::new("");
    let all = organization(second.address)
        .replace("[[organization.user]]", &format!("{limits}\n[[organization.user]]"));
    folder.configure(&all);
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let to = ["one@solarmora.com", "two@solarmora.com"];
    queue_id(&client.message("m@solarmora.com", &to, MESSAGE));
    client.ask("MAIL FROM:<marie@solarmora.com>", "250");
    client.ask("RCPT TO:<three@solarmora.com>", "250");
    let want = "\
whose                limit                                           used  under way  allowed  share  room
marie@solarmora.com  messages of this sender in 24 hours             1     1          10000    0 %    9998
marie@solarmora.com  different recipients of this sender in 24 hours  2     1          130      2 %    127
Solarmora            recipients of this organization in 24 hours     2     1          3        100 %  at 2026-MM-DDTHH:MM:SSZ or before
Solarmora            recipients of this organization in 10 minutes   2     1          9        33 %   6
";
    let text = done(&folder, &["quota", "m@solarmora.com"]);
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(words(&stable(&text, "no id", second.address)), words(want), "{text}");
    drop(client);
    let until = Instant::now() + Duration::from_secs(30);
    let quota = loop {
        let quota = lines(&folder, &["quota", "solarmora"]);
        if quota[0]["reserved"] == 0 {
            break quota;
        }
        assert!(Instant::now() < until, "{quota:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(quota.len(), 2);
    assert_eq!(
        (&quota[0]["organization"], &quota[0]["limit"], &quota[0]["used"], &quota[0]["allowed"]),
        (&"Solarmora".into(), &"recipients-per-day".into(), &2.into(), &3.into())
    );
    assert!(quota[0]["room_at"].is_null() && quota[0]["user"].is_null());
    assert_eq!(lines(&folder, &["quota"]).len(), 2, "all organizations");
    for (of, said) in [
        ("Lunamora", "there are: Solarmora"),
        ("nobody@solarmora.com", "no active user"),
        ("a@elsewhere.example", "no active user"),
    ] {
        let no = ask(&folder, &["quota", of]);
        assert!(no.status == 1 && no.stderr.contains(said), "{of}: {}", no.stderr);
    }
    serve.terminate();
    let again = lines(&folder, &["quota", "Solarmora"]);
    assert_eq!((&again[0]["used"], &again[1]["used"]), (&2.into(), &2.into()), "from the spool");
}
