//! `waypost test-tls` (A8).

use crate::support;

use rcgen::date_time_ymd;
use support::serving::Folder;
use support::sink::reserved;
use support::tls_sink::{Authority, Manner, Tls, TlsSink, params, server};
use support::{Ran, waypost};

const ORGANIZATION: &str = r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
"#;

fn test(route: &str, authority: &Authority, arguments: &[&str]) -> Ran {
    let text = format!("{ORGANIZATION}\n[[organization.route]]\nname = \"second\"\n{route}");
    let folder = Folder::new(&text);
    folder.write("roots.pem", &authority.pem);
    folder.write("secret", "hidden-horse\n");
    let config = folder.configuration();
    waypost(&[&["test-tls", &config, "second"], arguments].concat(), "")
}

fn single(sink: &TlsSink, more: &str) -> String {
    let port = sink.address.port();
    format!("host = \"127.0.0.1\"\nport = {port}\nroots = \"roots.pem\"\n{more}\n")
}

#[test]
fn a8_text_says_what_fails_and_what_helps() {
    let authority = Authority::new("Ours");
    let mut other = params(&["mail.other.example", "*.other.example"]);
    other.distinguished_name.push(rcgen::DnType::CommonName, "other");
    (other.not_before, other.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2999, 1, 1));
    let sink = TlsSink::start(Tls::Upgraded(server(other, None)));
    let ran = test(&single(&sink, ""), &authority, &[]);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let port = sink.address.port().to_string();
    let shown = ran.stdout.replace(&port, "PORT");
    let (before, left) = shown.split_once("2999-01-01, ").unwrap();
    let (_, after) = left.split_once(" days left").unwrap();
    let want = "\
route `second` of Solarmora: smtp

127.0.0.1:PORT (primary, STARTTLS)

  127.0.0.1:PORT: mail would NOT go
    TLSv1.3, TLS13_AES_256_GCM_SHA384
    option             set  result
    require_tls        on   passes
    require_ca_signed  on   fails   the certificate is not signed by a trusted authority (A6)
    verify_hostname    on   fails   the certificate is for mail.other.example, *.other.example (A7)
    certificate  CN=other
                 for mail.other.example, *.other.example
                 by itself
                 valid from 2020-01-01 to 2999-01-01, N days left
    what helps:
      - If the host is known by several names, use the one on its certificate as the route's host: \
`mail.other.example`.
      - If the server is yours, install a certificate of a trusted authority that names `127.0.0.1`.
      - If the authority is your own, name its root certificate in the route's `roots`.
      - If the host belongs to a mail relay service, ask its provider about this failure.
      - Or switch off `require_ca_signed` and `verify_hostname`; it is better to leave them on.

Mail would not go by every address. The route can be kept as it is: its mail then waits or comes \
back, as `on_tls_failure` says.
";
    assert_eq!(format!("{before}2999-01-01, N days left{after}"), want);
    assert!(sink.taken().is_empty(), "no mail is sent");
}

#[test]
fn a8_exit_status_and_json_for_each_kind_of_route() {
    let authority = Authority::new("Ours");
    let good = TlsSink::start(Tls::Upgraded(authority.server(&["127.0.0.1"])));
    let implicit = TlsSink::start(Tls::Implicit(authority.server(&["127.0.0.1"])));
    let demanding = TlsSink::start(Manner {
        tls: Tls::Upgraded(authority.server(&["127.0.0.1"])),
        offers: ["", "AUTH PLAIN"],
        login: Some(("smart", "hidden-horse")),
    });
    let clear = TlsSink::start(Tls::Absent);
    let refused = TlsSink::start(Tls::Refused);
    let broken = TlsSink::start(Tls::Broken);
    let off = "require_tls = false";
    let checks = "require_tls = false\nrequire_ca_signed = true";
    let auth = "auth = { user = \"smart\", password_file = \"secret\" }";
    for (sink, more, status, mail, tls) in [
        (&good, "", 0, "encrypted", Some("TLSv1.3")),
        (&good, "protocol = \"lmtp\"", 0, "encrypted", Some("TLSv1.3")),
        (&implicit, "tls = \"implicit\"", 0, "encrypted", Some("TLSv1.3")),
        (&demanding, auth, 0, "encrypted", Some("TLSv1.3")),
        (&clear, "", 1, "stopped", None),
        (&clear, off, 0, "clear", None),
        (&clear, checks, 0, "clear", None),
        (&refused, "", 1, "stopped", None),
        (&refused, off, 0, "clear", None),
        (&broken, "", 1, "stopped", None),
        (&broken, checks, 1, "stopped", None),
        (&broken, off, 0, "clear", None),
    ] {
        let ran = test(&single(sink, more), &authority, &["--json"]);
        assert_eq!(ran.status, status, "{more}: {}{}", ran.stdout, ran.stderr);
        let [reply] = &ran.json_lines()[..] else { panic!("{}", ran.stdout) };
        assert_eq!((&reply["route"], &reply["ok"]), (&"second".into(), &(status == 0).into()));
        let address = &reply["hosts"][0]["addresses"][0];
        assert_eq!(address["address"], sink.address.to_string());
        assert_eq!((&address["mail"], &address["tls"]), (&mail.into(), &tls.into()), "{reply}");
        let rules = address["options"].as_array().unwrap().iter().map(|option| &option["rule"]);
        assert_eq!(rules.collect::<Vec<_>>(), ["A5", "A6", "A7"]);
        let helped = address["remedies"].as_array().unwrap().len();
        assert_eq!(helped == 0, status == 0, "{reply}");
        if tls.is_some() {
            let own = &address["chain"][0];
            assert_eq!(own["names"][0], "127.0.0.1");
            assert_eq!(own["issuer"], "CN=Ours");
            assert!(own["days_left"].as_i64().unwrap() > 300_000);
            assert_eq!(own["days_left"], address["days_left"]);
        }
        assert!(!ran.stdout.contains("hidden-horse"));
        let heard = sink.heard();
        let forbidden = |line: &String| line.starts_with("MAIL") || line.starts_with("AUTH");
        assert!(!heard.iter().any(forbidden), "{heard:?}");
    }
}

#[test]
fn a8_every_host_counts_and_unusable_input_is_2() {
    let authority = Authority::new("Ours");
    let good = TlsSink::start(Tls::Upgraded(authority.server(&["127.0.0.1"])));
    let down = reserved();
    let route = format!(
        "roots = \"roots.pem\"\n\
         primary = [{{ host = \"127.0.0.1\", port = {}, load = 100 }}]\n\
         secondary = [{{ host = \"{}\", port = {}, load = 100 }}]\n",
        good.address.port(),
        down.ip(),
        down.port()
    );
    let ran = test(&route, &authority, &["--json"]);
    assert_eq!(ran.status, 1, "{}", ran.stdout);
    let reply = &ran.json_lines()[0];
    assert_eq!(reply["hosts"][0]["ok"], true);
    assert_eq!(reply["hosts"][1]["tier"], "secondary");
    assert_eq!(reply["hosts"][1]["ok"], false);
    let error = reply["hosts"][1]["addresses"][0]["error"].as_str().unwrap();
    assert!(error.contains("cannot connect"), "{error}");
    let text = test(&route, &authority, &[]);
    assert!(text.stdout.contains("(secondary, STARTTLS)"), "{}", text.stdout);

    let folder = Folder::new(&format!(
        "{ORGANIZATION}\n[[organization.route]]\nname = \"a\"\nhost = \"127.0.0.1\"\n"
    ));
    let config = folder.configuration();
    for arguments in [&["test-tls", &config, "none"][..], &["test-tls", "no-file.toml", "a"]] {
        let ran = waypost(arguments, "");
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
}
