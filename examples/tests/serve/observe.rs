//! `waypost serve`: every switch that can be observed tells what it would do, and then does it (O6).

use crate::support;

use std::time::{Duration, Instant};

use support::control::{Gate, lines};
use support::dns::{Dns, Entry};
use support::serving::{Folder, Serve, queue_id};

/// A switch, and a transaction that it matters for.
struct Switch {
    /// Its name and kind, as they are told.
    name: &'static str,
    kind: &'static str,
    /// Settings of the organization, and tables behind them: observed, then enforced.
    observed: (&'static str, &'static str),
    enforced: (&'static str, &'static str),
    listener: &'static str,
    from: &'static str,
    to: &'static str,
    /// How the replies begin: observed, then enforced.
    replies: (&'static str, &'static str),
    /// What is told; without one, the reply of the enforced switch.
    would: Option<&'static str>,
}

const RELAY: &str = r#"
[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#;

const SWITCHES: [Switch; 9] = [
    Switch {
        name: "No partners",
        kind: "rule",
        observed: (
            "",
            r#"
[[organization.rule]]
description = "No partners"
affects = ["inbound"]
mode = "observe"
then = { reject = "Write to the office" }
"#,
        ),
        enforced: (
            "",
            r#"
[[organization.rule]]
description = "No partners"
affects = ["inbound"]
then = { reject = "Write to the office" }
"#,
        ),
        listener: "mx",
        from: "a@none.example",
        to: "marie@solarmora.com",
        replies: ("250", "550 5.7.1 Write to the office"),
        would: None,
    },
    Switch {
        name: "To be looked at",
        kind: "rule",
        observed: (
            "",
            r#"
[[organization.rule]]
description = "To be looked at"
affects = ["inbound"]
mode = "observe"
then = { quarantine = "review" }
"#,
        ),
        enforced: (
            "",
            r#"
[[organization.rule]]
description = "To be looked at"
affects = ["inbound"]
then = { quarantine = "review" }
"#,
        ),
        listener: "mx",
        from: "a@none.example",
        to: "marie@solarmora.com",
        replies: ("250", "250"),
        would: Some("would have kept it in quarantine"),
    },
    Switch {
        name: "Split delivery",
        kind: "rule",
        observed: (
            "",
            r#"
[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
mode = "observe"
then = { modify = { route = "second" } }
"#,
        ),
        enforced: (
            "",
            r#"
[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = { modify = { route = "second" } }
"#,
        ),
        listener: "mx",
        from: "a@none.example",
        to: "new@solarmora.com",
        replies: ("550 5.1.1", "250"),
        would: Some("instead of being refused with 550 5.1.1 No such user here"),
    },
    Switch {
        name: "inbound_gateway: not-a-gateway",
        kind: "gateway",
        observed: (
            "",
            "[organization.inbound_gateway]\naddresses = [\"198.51.100.7\"]\nreject_other_clients = \"observe\"\n",
        ),
        enforced: (
            "",
            "[organization.inbound_gateway]\naddresses = [\"198.51.100.7\"]\nreject_other_clients = true\n",
        ),
        listener: "mx",
        from: "a@none.example",
        to: "marie@solarmora.com",
        replies: ("250", "550 5.7.1"),
        would: None,
    },
    Switch {
        name: "inbound_gateway: clear-text",
        kind: "gateway",
        observed: (
            "",
            "[organization.inbound_gateway]\naddresses = [\"127.0.0.1\"]\nallow_private = true\nrequire_tls = \"observe\"\n",
        ),
        enforced: (
            "",
            "[organization.inbound_gateway]\naddresses = [\"127.0.0.1\"]\nallow_private = true\nrequire_tls = true\n",
        ),
        listener: "mx",
        from: "a@none.example",
        to: "marie@solarmora.com",
        replies: ("250", "530 5.7.0"),
        would: None,
    },
    Switch {
        name: "Stricter",
        kind: "relay",
        observed: (
            "",
            r#"
[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{ range = "127.0.0.1" }]
require_tls = false

[[organization.relay]]
description = "Stricter"
allowed_senders = "registered-users"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
mode = "observe"
"#,
        ),
        enforced: (
            "",
            r#"
[[organization.relay]]
description = "Stricter"
allowed_senders = "registered-users"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#,
        ),
        listener: "relay",
        from: "tickets@solarmora.com",
        to: "marie@solarmora.com",
        replies: ("250", "550 5.7.1"),
        would: None,
    },
    Switch {
        // Nobody else admits: the observed entry refuses, and tells it too.
        name: "Alone",
        kind: "relay",
        observed: (
            "",
            r#"
[[organization.relay]]
description = "Alone"
allowed_senders = "registered-users"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
mode = "observe"
"#,
        ),
        enforced: (
            "",
            r#"
[[organization.relay]]
description = "Alone"
allowed_senders = "registered-users"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#,
        ),
        listener: "relay",
        from: "tickets@solarmora.com",
        to: "marie@solarmora.com",
        replies: ("550 5.7.1", "550 5.7.1"),
        would: None,
    },
    Switch {
        name: "limits: recipients of this organization in 24 hours",
        kind: "limits",
        observed: (RELAY, "[organization.limits]\nrecipients_per_day = 0\nmode = \"observe\"\n"),
        enforced: (RELAY, "[organization.limits]\nrecipients_per_day = 0\n"),
        listener: "relay",
        from: "marie@solarmora.com",
        to: "marie@solarmora.com",
        replies: ("250", "550 5.7.1"),
        would: None,
    },
    Switch {
        name: "authenticate",
        kind: "authentication",
        observed: ("authenticate = \"report\"", ""),
        enforced: ("authenticate = \"enforce\"", ""),
        listener: "mx",
        from: "a@fail.example",
        to: "marie@solarmora.com",
        replies: ("250", "550 5.7.23"),
        would: None,
    },
];

fn zone() -> Vec<Entry> {
    [("fail.example", "TXT", "v=spf1 ip4:192.0.2.9 -all"), ("none.example", "A", "192.0.2.1")]
        .map(|(owner, kind, value)| (owner.to_owned(), kind, value.to_owned()))
        .to_vec()
}

fn text(dns: &Dns, hop: &Gate, (settings, tables): (&str, &str)) -> String {
    // Tables of the organization may stand where settings do, behind the settings.
    let (settings, before) = if settings.contains('[') { ("", settings) } else { (settings, "") };
    let (ip, port) = (hop.sink.address.ip(), hop.sink.address.port());
    format!(
        r#"
dns = ["{}"]
admin = "127.0.0.1:0"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
mailbox_route = "mailboxes"
{settings}

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "mailboxes"
host = "{ip}"
port = {port}
require_tls = false
retry = {{ delays = ["1h"] }}

[[organization.route]]
name = "second"
host = "{ip}"
port = {port}
require_tls = false
retry = {{ delays = ["1h"] }}
{before}{tables}"#,
        dns.address
    )
}

/// The first negative reply, or that to the message.
fn send(serve: &Serve, switch: &Switch) -> String {
    let mut client = serve.session(switch.listener);
    for command in [format!("MAIL FROM:<{}>", switch.from), format!("RCPT TO:<{}>", switch.to)] {
        let reply = client.say(&command);
        if !reply.starts_with("250") {
            return reply;
        }
    }
    client.data(format!("From: {}\r\nSubject: x\r\n\r\nx\r\n", switch.from).as_bytes())
}

/// A reload is asked for, and in force.
fn reload(serve: &Serve, folder: &Folder, text: &str, count: &mut usize) {
    folder.configure(text);
    *count += 1;
    let until = Instant::now() + Duration::from_secs(60);
    while serve.metric(r#"waypost_config_reloads_total{result="ok"}"#) < *count {
        assert!(Instant::now() < until, "no reload\n{}", serve.log);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn o6_each_switch_tells_what_it_would_do_and_then_does_it() {
    let (dns, hop) = (Dns::start(zone()), Gate::closed());
    let folder = Folder::new(&text(&dns, &hop, ("", "")));
    let serve = folder.serve();
    let mut reloads = 0;
    for switch in &SWITCHES {
        let Switch { name, kind, .. } = switch;
        reload(&serve, &folder, &text(&dns, &hop, switch.observed), &mut reloads);
        let observed = send(&serve, switch);
        assert!(observed.starts_with(switch.replies.0), "{name}: {observed}");
        let field = format!("name=\"{name}\"");
        let line = serve
            .log
            .wait_for(name, |line| line.contains("only observed") && line.contains(&field));
        for part in ["organization=\"Solarmora\"", &format!("kind=\"{kind}\""), "client=127.0.0.1"]
        {
            assert!(line.contains(part), "{name}: {part} is not in {line}");
        }
        let series = format!(
            "waypost_observed_total{{organization=\"Solarmora\",kind=\"{kind}\",name=\"{name}\"}}"
        );
        assert_eq!(serve.metric(&series), 1, "{name}");
        if observed.starts_with("250") {
            // The message waits at the closed gate, with its explanation.
            let id = queue_id(&observed).to_owned();
            let shown = &lines(&folder, &["queue", "show", &id])[0]["decision"];
            let names = shown["observed"].as_array().unwrap();
            assert!(names.iter().any(|one| one == name), "{name}: {shown}");
            let detail = &shown["observed_details"][0];
            assert_eq!((&detail["kind"], &detail["name"]), (&(*kind).into(), &(*name).into()));
            assert!(line.contains(detail["would"].as_str().unwrap().split('"').next().unwrap()));
        }

        // In force: the same name, and the reply that was told.
        reload(&serve, &folder, &text(&dns, &hop, switch.enforced), &mut reloads);
        let enforced = send(&serve, switch);
        assert!(enforced.starts_with(switch.replies.1), "{name}: {enforced}");
        let would = switch.would.map_or_else(|| enforced.clone(), str::to_owned);
        assert!(line.contains(&would), "{name}: {would} is not in {line}");
        assert_eq!(serve.metric(&series), 1, "{name} is no longer observed");
        if !enforced.starts_with("250") {
            let refused = |line: &str| line.ends_with('\n') || line.contains(&enforced);
            let line = serve.log.wait_for(name, |line| line.contains(" refused ") && refused(line));
            let because =
                ["No partners", "inbound_gateway: ", "SPF", "registered", "Daily SMTP relay"];
            assert!(because.iter().any(|part| line.contains(part)), "{line}");
        }
    }
    assert_eq!(lines(&folder, &["queue", "list", "--state", "held"]).len(), 1, "the quarantine");
    serve.terminate();
}
