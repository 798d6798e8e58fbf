//! `waypost serve`: a smart host that demands AUTH (A5, RFC 4954).

use crate::support;

use std::os::unix::fs::PermissionsExt as _;

use support::serving::{Folder, MARIE_RELAYS, Serve, queue_id};
use support::tls_sink::{Authority, Manner, Tls, TlsSink};
use support::waypost;

const PASSWORD: &str = "c0rrect-horse";
const MESSAGE: &[u8] = b"From: marie@solarmora.com\r\nSubject: x\r\n\r\nbody\r\n";

/// The route `NAME` for recipients at `NAME.example`, with this login.
fn route(name: &str, sink: &TlsSink, more: &str) -> String {
    format!(
        r#"
[[organization.route]]
name = "{name}"
host = "127.0.0.1"
port = {}
roots = "roots.pem"
retry = {{ delays = ["1h"] }}
auth = {{ user = "{name}", password_file = "{name}.secret" }}
{more}

[[organization.rule]]
description = "By {name}"
affects = ["outbound"]
envelope = {{ recipients = [{{ pattern = '@{name}\.example$' }}] }}
then = {{ modify = {{ route = "{name}" }} }}
"#,
        sink.address.port()
    )
}

fn organization(routes: &str) -> String {
    format!(
        r#"
tls_check = "off"

{MARIE_RELAYS}{routes}"#
    )
}

/// A sink inside TLS that knows one user, offering these mechanisms there.
fn demanding(authority: &Authority, user: &'static str, offers: [&'static str; 2]) -> TlsSink {
    let tls = Tls::Upgraded(authority.server(&["127.0.0.1"]));
    TlsSink::start(Manner { tls, offers, login: Some((user, PASSWORD)) })
}

fn folder(authority: &Authority, routes: &str, passwords: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(&organization(routes));
    folder.write("roots.pem", &authority.pem);
    for (name, password) in passwords {
        secret(&folder, name, password);
    }
    folder
}

fn secret(folder: &Folder, name: &str, password: &str) {
    let file = format!("{name}.secret");
    folder.write(&file, password);
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.path(&file), mode).unwrap();
}

fn send(serve: &Serve, to: &str) -> String {
    let mut client = serve.session("relay");
    queue_id(&client.message("marie@solarmora.com", &[to], MESSAGE)).to_owned()
}

#[test]
fn a5_plain_and_login_inside_tls_and_nobody_goes_under_anothers_name() {
    let authority = Authority::new("Ours");
    let plain = "PIPELINING|AUTH LOGIN PLAIN";
    // What is offered in clear text is not heeded (RFC 3207 section 4.2).
    let first = demanding(&authority, "first", ["AUTH PLAIN|SIZE 10", plain]);
    let login = demanding(&authority, "login", ["", "PIPELINING|AUTH LOGIN"]);
    // The same host and port, and a user whom it does not know.
    let routes =
        [route("first", &first, ""), route("login", &login, ""), route("other", &first, "")]
            .concat();
    let passwords =
        [("first", "c0rrect-horse\n"), ("login", "c0rrect-horse\r\n"), ("other", PASSWORD)];
    let folder = folder(&authority, &routes, &passwords);
    let serve = folder.serve();
    for number in 1..=3 {
        send(&serve, "a@first.example");
        let taken = first.wait(number);
        assert!(taken.iter().all(|one| one.inside_tls && one.connection == 0), "{taken:?}");
        assert!(taken[0].commands[1].contains("a@first.example"), "{taken:?}");
    }
    send(&serve, "a@login.example");
    assert!(login.wait(1)[0].inside_tls);

    // A connection that the first user opened is free, and is not used.
    let id = send(&serve, "a@other.example");
    let line =
        serve.log.wait_for("deferred", |line| line.contains("deferred") && line.contains(&id));
    assert!(line.contains("535 5.7.8 Wrong credentials"), "{line}");
    assert!(line.contains("correct the user or the password"), "{line}");
    assert_eq!(first.taken().len(), 3);

    let log = serve.log.to_string();
    serve.terminate();
    for said in [PASSWORD, "YzBycmVjdC1ob3JzZQ", "AGZpcnN0AGMwcnJlY3QtaG9yc2U"] {
        assert!(!log.contains(said), "{log}");
    }
    let heard = first.heard().join("\n");
    let (clear, inside) = heard.split_once("STARTTLS").unwrap();
    assert!(!clear.contains("AUTH") && inside.contains("AUTH PLAIN"), "{heard}");
}

#[test]
fn a5_without_tls_or_without_auth_the_mail_waits_and_the_password_stays_here() {
    let authority = Authority::new("Ours");
    let login = Some(("smart", PASSWORD));
    let inside = "PIPELINING|AUTH PLAIN";
    let good = || Tls::Upgraded(authority.server(&["127.0.0.1"]));
    for (manner, more, want) in [
        (
            Manner { tls: Tls::Absent, offers: ["", inside], login },
            "require_tls = false\n",
            "credentials are only sent inside TLS",
        ),
        (
            Manner { tls: Tls::Refused, offers: [inside, inside], login },
            "require_tls = false\n",
            "credentials are only sent inside TLS",
        ),
        (
            Manner { tls: Tls::Broken, offers: [inside, inside], login },
            "require_tls = false\n",
            "credentials are only sent inside TLS",
        ),
        (
            Manner { tls: good(), offers: [inside, "PIPELINING"], login },
            "",
            "neither PLAIN nor LOGIN",
        ),
        (
            Manner { tls: good(), offers: ["", "AUTH CRAM-MD5"], login },
            "",
            "neither PLAIN nor LOGIN",
        ),
    ] {
        let sink = TlsSink::start(manner);
        let folder = folder(&authority, &route("smart", &sink, more), &[("smart", PASSWORD)]);
        let serve = folder.serve();
        let id = send(&serve, "a@smart.example");
        let line = serve.log.wait_for("an outcome", |line| {
            line.contains("reply=") && line.contains(&id) && !line.contains("accepted")
        });
        assert!(line.contains("deferred") && line.contains(want), "{want}: {line}");
        assert!(line.contains("scope=Host"), "{line}");
        serve.terminate();
        assert!(sink.taken().is_empty());
        let heard = sink.heard();
        assert!(!heard.iter().any(|line| line.starts_with("AUTH")), "{heard:?}");
    }
}

#[test]
fn a5_a_wrong_password_waits_and_a_corrected_file_takes_effect_by_itself() {
    let authority = Authority::new("Ours");
    let sink = demanding(&authority, "smart", ["", "PIPELINING|AUTH PLAIN"]);
    let more = route("smart", &sink, "").replace("\"1h\"", "\"1s\"");
    let folder = folder(&authority, &more, &[("smart", "wr0ng-horse\n")]);
    let serve = folder.serve();
    let id = send(&serve, "a@smart.example");
    let line =
        serve.log.wait_for("deferred", |line| line.contains("deferred") && line.contains(&id));
    assert!(line.contains("535 5.7.8") && !line.contains("wr0ng"), "{line}");
    secret(&folder, "smart", PASSWORD);
    assert_eq!(sink.wait(1).len(), 1);
    assert!(!serve.log.to_string().contains("wr0ng"));
    serve.terminate();
}

#[test]
fn a5_check_and_explain_never_show_the_password_and_warn_of_an_open_file() {
    let authority = Authority::new("Ours");
    let sink = demanding(&authority, "smart", ["", "AUTH PLAIN"]);
    let folder = folder(&authority, &route("smart", &sink, ""), &[("smart", PASSWORD)]);
    let config = folder.configuration();
    folder.write("m.eml", "From: marie@solarmora.com\n\nx\n");
    let message = folder.path("m.eml");
    let message = message.to_str().unwrap();
    let explained = waypost(
        &[
            "explain",
            &config,
            "--client-ip",
            "127.0.0.1",
            "--listener",
            "relay",
            "--from",
            "marie@solarmora.com",
            "--to",
            "a@smart.example",
            "--json",
            message,
        ],
        "",
    );
    assert_eq!(explained.status, 0, "{}", explained.stderr);
    assert!(explained.stdout.contains("\"route\":\"smart\""), "{}", explained.stdout);
    let checked = waypost(&["check", &config], "");
    assert_eq!(checked.status, 0, "{}", checked.stdout);
    assert!(!checked.stdout.contains("password-open-to-all"), "{}", checked.stdout);
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.path("smart.secret"), mode).unwrap();
    let open = waypost(&["check", &config], "");
    assert_eq!(open.status, 0);
    assert!(open.stdout.contains("warning[password-open-to-all]"), "{}", open.stdout);
    assert!(open.stdout.contains("chmod o-r"), "{}", open.stdout);
    std::fs::remove_file(folder.path("smart.secret")).unwrap();
    let gone = waypost(&["check", &config], "");
    assert_eq!(gone.status, 1);
    assert!(gone.stdout.contains("error[unreadable-file]"), "{}", gone.stdout);
    for ran in [explained, checked, open, gone] {
        assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD));
    }
}
