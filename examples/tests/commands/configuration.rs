//! The commands about a configuration, with the sample configuration and broken copies of it.

use crate::support;

use serde_json::{Value, json};
use support::{Ran, file, waypost};

const SAMPLE: &str = "waypost.toml";

/// A copy of the sample with one text replaced, in a directory of its own.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new(old: &str, new: &str) -> Self {
        let text = file("examples/waypost.toml");
        assert!(text.contains(old), "{old}");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("waypost.toml"), text.replacen(old, new, 1)).unwrap();
        Self(directory)
    }

    fn path(&self) -> String {
        self.0.path().join("waypost.toml").display().to_string()
    }
}

#[test]
fn check_accepts_the_sample_and_runs_its_tests_o7() {
    let ran = waypost(&["check", SAMPLE], "");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert!(ran.stdout.contains("warning[relay-without-tls]"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("waypost.toml: usable; 1 warning, 6 tests passed\n"));
    let json = &waypost(&["check", SAMPLE, "--json"], "").json_lines()[0];
    assert_eq!(json["usable"], true);
    assert_eq!(json["diagnostics"][0]["id"], "relay-without-tls");
    assert_eq!(json["expect"].as_array().unwrap().len(), 6);
    assert!(json["expect"].as_array().unwrap().iter().all(|test| test["ok"] == true));
}

#[test]
fn check_says_1_for_broken_rules_and_2_for_what_cannot_be_read() {
    for (old, new, status, parts) in [
        (
            "via = \"mailbox\"",
            "via = \"mx\"",
            1,
            &["FAILED", "mailbox and route \"archive\"", "waypost.toml:", "1 of 6 tests failed"][..],
        ),
        ("load = 60", "load = 50", 1, &["error[", "A3", "90", "not usable; 1 error"]),
        ("licences = 10", "licenses = 10", 1, &["did you mean `licences`?"]),
        ("licences = 10", "licences = \"ten\"", 1, &["error[", "`licences`"]),
        ("load = 60", "load = 50\nx = ]", 2, &["not TOML"]),
    ] {
        let copy = Copy::new(old, new);
        let ran = waypost(&["check", &copy.path()], "");
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status, status, "{new}: {told}");
        for part in parts {
            assert!(told.contains(part), "{new}: {part}: {told}");
        }
        let json = waypost(&["check", &copy.path(), "--json"], "");
        assert_eq!(json.status, status, "{new}");
        assert_eq!(json.json_lines()[0]["usable"], false, "{new}");
    }
    for (arguments, part) in [
        (&["check", "none.toml"][..], "none.toml cannot be read"),
        (&["check", "none.toml", "--json"], "none.toml cannot be read"),
        (&["check"], "<CONFIG>"),
    ] {
        let ran = waypost(arguments, "");
        assert_eq!(ran.status, 2, "{arguments:?}");
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
}

/// The golden beside it is rewritten with `UPDATE_GOLDENS=1`.
#[test]
fn check_tells_every_mistake_of_routes_at_once_with_its_cure_a1_a2_a3_a4_a6() {
    let ran = waypost(&["check", "tests/goldens/routes.toml"], "");
    assert_eq!((ran.status, ran.stderr.as_str()), (1, ""));
    let golden = "examples/tests/goldens/routes.expected";
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(std::path::Path::new("..").join(golden), &ran.stdout).unwrap();
    }
    assert_eq!(ran.stdout, file(golden));
    let json = &waypost(&["check", "tests/goldens/routes.toml", "--json"], "").json_lines()[0];
    let rules: Vec<_> =
        json["diagnostics"].as_array().unwrap().iter().map(|d| &d["rule"]).collect();
    assert_eq!(rules, ["A2", "A2", "A3", "A1", "A1", "A4", "A6"]);
}

fn explain(more: &[&str]) -> Ran {
    let hello = "messages/hello.eml";
    let client =
        ["--client-ip", "203.0.113.7", "--listener", "mx", "--from", "jean@partner.example"];
    waypost(&[&["explain", SAMPLE][..], &client, more, &[hello]].concat(), "")
}

#[test]
fn explain_shows_split_delivery_c7_c9() {
    let ran = explain(&["--to", "marie@solarmora.example", "--to", "not-a-user@solarmora.example"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    for part in [
        "marie@solarmora.example\n  goes to     mailbox,",
        "not-a-user@solarmora.example\n  goes to     route \"exchange\", TLS required",
        "changed by  Split delivery to Exchange",
        "X-Copy-Of: sales",
        "\"Split delivery to Exchange\": it affects accounts of kind unrecognized",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
}

#[test]
fn explain_says_1_when_nobody_accepts_and_2_for_unusable_input_c9() {
    for (more, status, part) in [
        (&["--to", "a@elsewhere.example"][..], 1, "550 5.7.1"),
        (&["--to", "a@elsewhere.example", "--to", "marie@solarmora.example"], 0, "goes to"),
        (&["--to", "driver@solarmora.example"], 0, "\"exchange\""),
        (&["--to", "a b@c"], 2, "--to: "),
        (&["--to", "a@b.example", "--from", "@"], 2, "--from"),
        (&["--to", "a@b.example", "--auth", "x y", "--tls"], 2, "--auth: "),
        (&[], 2, "--to"),
    ] {
        let ran = explain(more);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status, status, "{more:?}: {told}");
        assert!(told.contains(part), "{more:?}: {told}");
    }
    let looping = format!("{}\n", "Received: by a.example; date\n".repeat(51));
    let arguments = "explain waypost.toml --client-ip 203.0.113.7 --from a@b.example \
                     --to marie@solarmora.example -";
    let ran = waypost(&arguments.split_whitespace().collect::<Vec<_>>(), &looping);
    assert_eq!(ran.status, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("554 5.4.6"), "{}", ran.stdout);
}

#[test]
fn explain_supposes_what_a_filter_might_say_d17() {
    let marie = ["--to", "marie@solarmora.example"];
    for (more, part) in [
        (&[][..], "\nspam          no\n"),
        (&["--spam", "Gtube"], "the filter: Gtube"),
        (&["--malware", "Eicar"], "kept in quarantine \"malware\""),
    ] {
        let ran = explain(&[&marie[..], more].concat());
        assert_eq!(ran.status, 0, "{more:?}: {}", ran.stderr);
        assert!(ran.stdout.contains(part), "{more:?}: {}", ran.stdout);
    }
    let question = json!({
        "id": 1, "client_ip": "203.0.113.7", "mail_from": "a@b.example",
        "rcpt_to": ["marie@solarmora.example"], "message": "\r\n", "spam": "Gtube",
    });
    let ran = waypost(&["explain", SAMPLE, "--batch"], &question.to_string());
    assert_eq!(ran.json_lines()[0]["spam_because"], json!([{"by": "filter", "because": "Gtube"}]));
}

#[test]
fn explain_answers_batches_by_the_contract_c9() {
    let question = json!({
        "id": "1", "client_ip": "203.0.113.7", "listener": "mx", "helo": "h", "auth": null,
        "tls": true, "mail_from": "jean@partner.example",
        "rcpt_to": ["not-a-user@solarmora.example", "x@elsewhere.example"],
        "message": "From: Jéan <jean@partner.example>\r\n\r\nbody\r\n",
    });
    let mut unknown = question.clone();
    unknown["id"] = json!("2");
    unknown["listener"] = json!("none");
    let ran = waypost(&["explain", SAMPLE, "--batch"], &format!("{question}\n{unknown}\n{{"));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let answers = ran.json_lines();
    let first = &answers[0];
    assert_eq!(first["id"], "1");
    assert_eq!(first["source_ip"], "203.0.113.7");
    assert_eq!(first["organization"], "Solarmora");
    assert_eq!(first["replies"]["rcpt"].as_array().unwrap().len(), 2);
    let delivery = &first["deliveries"][0];
    assert_eq!(delivery["via"], "route");
    assert_eq!(delivery["route"], "exchange");
    assert_eq!(delivery["tls"], "required");
    assert_eq!(delivery["because"], json!(["Split delivery to Exchange"]));
    assert_eq!(delivery["direction"], "inbound");
    assert_eq!(first["refusals"][0]["recipient"], "x@elsewhere.example");
    assert_eq!(answers[1]["id"], "2");
    assert!(answers[1]["error"].as_str().unwrap().contains("there is no listener `none`"));
    assert_eq!(answers[2]["id"], Value::Null);
    assert_eq!(answers.len(), 3);
}

#[test]
fn pick_host_spreads_by_load_a3_a9() {
    let counts = |more: &[&str]| {
        let ran = waypost(&[&["pick-host", SAMPLE, "Exchange", "--json"], more].concat(), "");
        (ran.status, ran.stdout)
    };
    let (first, second, third) = (
        "exchange-1.solarmora.example:2602",
        "exchange-2.solarmora.example:2602",
        "exchange-dr.solarmora.example:2602",
    );
    let (status, text) = counts(&[]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let count = |host: &str| value[host].as_u64().unwrap();
    assert_eq!(status, 0);
    // The object has the hosts that get messages, and no others.
    assert_eq!(value.as_object().unwrap().len(), 2, "{text}");
    assert!((5_800..6_200).contains(&count(first)), "{text}");
    assert_eq!((count(first) + count(second), value.get(third)), (10_000, None), "{text}");
    assert!(text.starts_with(&format!("{{\"{first}\":")), "{text}");
    let all = |host: &str| json!({ host: 7 });
    for (down, want) in [(&[first][..], second), (&[first, second], third)] {
        let mut more = vec!["--count", "7"];
        more.extend(down.iter().flat_map(|host| ["--down", *host]));
        let (status, text) = counts(&more);
        assert_eq!(status, 0);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), all(want), "{down:?}");
    }
    // Over 100,000 messages each share is within half a point of what the loads say.
    for (down, want) in [
        (&[][..], [60_000, 40_000, 0]),
        (&[first], [0, 100_000, 0]),
        (&[third], [60_000, 40_000, 0]),
        (&[first, second], [0, 0, 100_000]),
    ] {
        let mut more = vec!["--count", "100000"];
        more.extend(down.iter().flat_map(|host| ["--down", *host]));
        let value: Value = serde_json::from_str(&counts(&more).1).unwrap();
        for (host, want) in [first, second, third].iter().zip(want) {
            assert!(value[host].as_i64().unwrap_or(0).abs_diff(want) < 500, "{down:?}: {value}");
        }
    }
    let down = ["--down", first, "--down", second, "--down", third];
    assert_eq!(counts(&down), (1, "{}\n".to_owned()));
    let text = waypost(&["pick-host", SAMPLE, "exchange"], "").stdout;
    assert!(text.contains(&format!("  {first}   primary     60 %   60.00 %")), "{text}");
    for (route, more, part) in [
        ("none", &[][..], "there are `archive`, `exchange`, `mailboxes`, `smarthost`"),
        ("exchange", &["--down", "other:25"], "it has exchange-1.solarmora.example:2602"),
        ("exchange", &["--down", ":"], "--down"),
        ("exchange", &["--count", "0"], "--count"),
    ] {
        let ran = waypost(&[&["pick-host", SAMPLE, route], more].concat(), "");
        assert_eq!(ran.status, 2, "{route} {more:?}");
        assert!(ran.stderr.contains(part), "{route} {more:?}: {}", ran.stderr);
    }
}

#[test]
fn quota_replays_on_a_relay_listener_d10_d11_d13() {
    // 10 licences: 1,300 recipients in 24 hours, 90 in 10 minutes.
    let send = |id: u32, at: f64, from: &str, client: &str, recipients: u32, accepted: bool| {
        let rcpt_to: Vec<_> =
            (0..recipients).map(|n| format!("r{id}-{n}@elsewhere.example")).collect();
        json!({
            "id": id, "at": at, "client_ip": client, "helo": "printer.solarmora.example",
            "auth": null, "tls": false, "mail_from": from, "rcpt_to": rcpt_to,
            "accepted": accepted,
        })
    };
    let printer = "printer@solarmora.example";
    let inside = "192.0.2.5";
    let lines = [
        send(1, 0.0, printer, inside, 60, true),
        send(2, 1.0, printer, inside, 31, false),
        send(3, 2.0, printer, inside, 31, true),
        send(4, 3.0, printer, "203.0.113.5", 1, true),
        send(5, 3.0, "a@elsewhere.example", inside, 1, true),
        send(6, 2.5, printer, inside, 1, true),
        send(7, 599.0, printer, inside, 1, true),
        send(8, 700.0, printer, inside, 1, true),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ran = waypost(&["quota", SAMPLE, "--replay"], &input);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let answers = ran.json_lines();
    let replies = |good: usize, last: Option<&str>| {
        json!(vec!["250"; good].into_iter().chain(last).collect::<Vec<_>>())
    };
    assert_eq!(answers[0], json!({ "id": 1, "mail": "250", "rcpt": replies(60, None) }));
    // The one over the limit is refused, and the failed message counts for nothing afterwards.
    assert_eq!(answers[1]["rcpt"], replies(30, Some("450 4.2.1")));
    assert_eq!(answers[2]["rcpt"], replies(30, Some("450 4.2.1")));
    assert_eq!(answers[3], json!({ "id": 4, "mail": "550 5.7.1", "rcpt": [] }));
    assert_eq!(answers[4], json!({ "id": 5, "mail": "550 5.7.1", "rcpt": [] }));
    assert!(answers[5]["error"].as_str().unwrap().contains("sort the lines by time"));
    assert_eq!(answers[6]["rcpt"], replies(0, Some("450 4.2.1")));
    assert_eq!(answers[7]["rcpt"], replies(1, None));
}

/// Every broken setting is named at its place, with the rule and the cure, all at once.
#[test]
fn e1_to_e11_check_prints_all_that_is_wrong_with_places_and_cures() {
    for (name, rules) in [
        ("inbound", &["E1", "E4", "E7", "E9", "E10", "E11"][..]),
        ("inbound-values", &["E1", "E4", "E7", "E8", "E9", "E10", "E11"]),
    ] {
        let folder = "crates/waypost-config/testdata/errors";
        let text = file(&format!("{folder}/{name}.toml"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let ran = waypost(&["check", path], "");
        assert_eq!(ran.status, 1, "{}", ran.stderr);
        let golden = file(&format!("{folder}/{name}.expected"));
        let told = ran.stdout.replace(path, &format!("{name}.toml"));
        assert!(told.contains(&golden), "{told}");
        for rule in rules {
            assert!(told.contains(&format!("= note: rule {rule}\n")), "{rule}: {told}");
        }
        let json = &waypost(&["check", path, "--json"], "").json_lines()[0];
        let diagnostics = json["diagnostics"].as_array().unwrap();
        assert_eq!(diagnostics.len(), golden.matches("\n  --> ").count());
        for one in diagnostics {
            let cure = one["cure"].as_str().unwrap_or_default();
            assert!(!cure.is_empty() && one["line"].is_u64(), "{one}");
        }
    }
}
