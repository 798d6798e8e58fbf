//! The commands about Received lines and spam tags, against the sample of real lines.

use crate::support;

use serde_json::{Value, json};
use support::{file, waypost};

fn rows(name: &str) -> Vec<Value> {
    let text = file(&format!("crates/waypost-inbound/testdata/{name}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json_lines(values: impl Iterator<Item = Value>) -> String {
    values.map(|value| format!("{value}\n")).collect()
}

#[test]
fn received_reads_the_sample_e4() {
    let rows = rows("lines.jsonl");
    let input = json_lines(rows.iter().map(|row| json!({ "id": row["id"], "line": row["line"] })));
    let ran = waypost(&["received", "--batch"], &input);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let answers = ran.json_lines();
    assert_eq!(answers.len(), rows.len());
    for (row, answer) in rows.iter().zip(&answers) {
        let kind = match (row["kind"].as_str().unwrap(), &row["expected_ip"]) {
            ("from", Value::Null) => "unreadable",
            ("from", _) => "from",
            _ => "by",
        };
        let want = json!({ "id": row["id"], "kind": kind, "ip": row["expected_ip"] });
        assert_eq!(*answer, want, "{}", row["line"]);
    }
}

#[test]
fn source_ip_answers_the_sample_e3_e4_e5_e6() {
    let rows = rows("messages.jsonl");
    for own_line_told in [false, true] {
        let input = json_lines(rows.iter().map(|row| {
            let mut question = json!({
                "id": row["id"],
                "client_ip": row["connecting_ip"],
                "gateways": row["gateway_ips"],
                "detect": row["auto_detect"],
                "headers": row["headers"],
                "allow_private": true,
            });
            if own_line_told {
                question["own_line"] = row["own_line"].clone();
            }
            question
        }));
        let ran = waypost(&["source-ip", "--batch"], &input);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        let answers = ran.json_lines();
        assert_eq!(answers.len(), rows.len());
        for (row, answer) in rows.iter().zip(&answers) {
            let expected = &row["expected"];
            let because = match expected["reason"].as_str().unwrap() {
                "not_configured" | "not_gateway" => "not-from-gateway",
                "external_hop" => "first-external",
                "previous_hop" => "previous-hop",
                "fallback" => "nothing-readable",
                "internal" => "internal",
                other => panic!("{other}"),
            };
            assert_eq!(answer["id"], row["id"]);
            assert_eq!(answer["source_ip"], expected["ip"], "{}", row["id"]);
            assert_eq!(answer["because"], because, "{}", row["id"]);
        }
    }
}

#[test]
fn source_ip_gives_the_three_answers_of_the_worked_example_e6() {
    let answers: Vec<_> = rows("messages.jsonl")
        .iter()
        .take(3)
        .map(|row| {
            let question = json!({
                "id": "1",
                "client_ip": row["connecting_ip"],
                "gateways": row["gateway_ips"],
                "detect": row["auto_detect"],
                "headers": row["headers"],
            });
            waypost(&["source-ip", "--batch"], &question.to_string()).stdout
        })
        .collect();
    assert_eq!(
        answers,
        [
            concat!(
                r#"{"id":"1","source_ip":"192.0.2.2","because":"not-from-gateway","spf":true,"#,
                r#""hops":[]}"#,
                "\n"
            ),
            concat!(
                r#"{"id":"1","source_ip":"192.0.2.110","because":"first-external","spf":true,"#,
                r#""hops":[{"ip":"192.0.2.55","skipped":"gateway"},"#,
                r#"{"ip":"192.0.2.110","skipped":null}]}"#,
                "\n"
            ),
            concat!(
                r#"{"id":"1","source_ip":"192.0.2.55","because":"previous-hop","spf":true,"#,
                r#""hops":[{"ip":"192.0.2.55","skipped":null}]}"#,
                "\n"
            ),
        ]
    );
}

#[test]
fn a_bad_line_of_a_batch_is_answered_and_the_rest_goes_on() {
    let good = r#"{"id":"z","client_ip":"192.0.2.1","headers":""}"#;
    for (line, id, part) in [
        (r#"{"id":"1","client_ip":"here","headers":""}"#, "1", "invalid IP address"),
        (r#"{"id":"1","client_ip":"192.0.2.1"}"#, "1", "missing field `headers`"),
        (
            r#"{"id":"1","client_ip":"10.0.0.1","gateways":["10.0.0.0/8"],"headers":""}"#,
            "1",
            "allow_private = true",
        ),
        (r#"{"id":"1","client_ip":"192.0.2.1","headers":"€"}"#, "1", "U+20AC"),
        (r#"{"id":"1","client_ip":"192.0.2.1","headers":"\ud800"}"#, "1", "hex escape"),
        ("}{", "", "no JSON object"),
    ] {
        let ran = waypost(&["source-ip", "--batch"], &format!("{line}\n{good}\n"));
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        let answers = ran.json_lines();
        let id = if id.is_empty() { Value::Null } else { id.into() };
        assert_eq!(answers[0]["id"], id, "{line}");
        let error = answers[0]["error"].as_str().unwrap();
        assert!(error.contains(part), "{line}: {error}");
        assert_eq!(answers[1]["id"], "z");
        assert_eq!(answers[1]["source_ip"], "192.0.2.1");
    }
}

#[test]
fn source_ip_prints_the_hops_of_a_file_e4_e5() {
    let row = &rows("messages.jsonl")[1];
    let message = row["headers"].as_str().unwrap();
    let gateways = ["--gateway", "192.0.2.2", "--gateway", "192.0.2.55"];
    for (more, want) in [
        (&[][..], "source IP  192.0.2.110\n"),
        (&["--no-detect"][..], "source IP  192.0.2.55\n"),
        (&["--client-ip", "203.0.113.9"][..], "source IP  203.0.113.9\n"),
    ] {
        let arguments = [&["source-ip"][..], &gateways[..], more, &["-"][..]].concat();
        let ran = waypost(&arguments, message);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains(want), "{more:?}: {}", ran.stdout);
        let told = ran.stdout.contains("taken from the message's first `Received: from` line");
        assert_eq!(told, !more.contains(&"--client-ip"), "{}", ran.stdout);
        let json = waypost(&[&arguments[..], &["--json"][..]].concat(), message).json_lines();
        let ip = json[0]["source_ip"].as_str().unwrap();
        assert!(want.ends_with(&format!(" {ip}\n")), "{json:?}");
    }
}

#[test]
fn unusable_input_is_named_with_its_cure() {
    for (arguments, stdin, parts) in [
        (
            &["source-ip", "-"][..],
            "Subject: a\n\n",
            &["no `Received: from` line", "--client-ip"][..],
        ),
        (&["source-ip", "/none"], "", &["/none: cannot be read"]),
        (&["source-ip", "--gateway", "10.0.0.0/8", "-"], "", &["`10.0.0.0/8`", "E1"]),
        (&["source-ip"], "", &["<FILE>"]),
        (&["test-tag", "(", "-"], "", &["`(` is no regular expression", "E9"]),
        (&["test-tag", "x", "--score-at-least", "1", "-"], "", &["0 capture groups"]),
        (&["hash-password"], "\n", &["1 to 1024 octets"]),
    ] {
        let ran = waypost(arguments, stdin);
        assert_eq!(ran.status, 2, "{arguments:?}");
        for part in parts {
            assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
        }
    }
}

#[test]
fn test_tag_shows_the_lines_and_their_numbers_e9() {
    let message = "X-spam: .50\nX-phishy:\n 0.7\nX-phishy: much\nTo: a\n\n";
    let expression = r"^X-(?:spam|phishy): (\S+)$";
    let run = |more: &[&str]| waypost(&[&["test-tag", expression], more, &["-"]].concat(), message);
    let text = run(&["--score-at-least", "0.5"]);
    assert_eq!(text.status, 0);
    let want = "-: spam, the largest number is 0.7, 0.5 or more is spam\n  \
                number          spam      line\n  \
                0.5             yes       X-spam: .50\n  \
                0.7             yes       X-phishy: 0.7\n  \
                `much` is none  no match  X-phishy: much\n  \
                3 of 4 header lines match\n\n";
    assert_eq!(text.stdout, want);
    let json = &run(&["--score-at-least", "0.9", "--json"]).json_lines()[0];
    assert_eq!((&json["spam"], &json["score"]), (&json!(false), &json!(0.7)));
    assert_eq!(json["matches"].as_array().unwrap().len(), 3);
    assert_eq!(run(&["--json"]).json_lines()[0]["spam"], true);
}

#[test]
fn hash_password_makes_a_hash_that_holds_d6() {
    let ran = waypost(&["hash-password"], "correct horse\n");
    assert_eq!(ran.status, 0);
    let hash: waypost_relay::PasswordHash = ran.stdout.trim_end().parse().unwrap();
    assert!(hash.verify(b"correct horse"));
    assert!(!hash.verify(b"correct horse\n"));
    assert_ne!(waypost(&["hash-password"], "correct horse\n").stdout, ran.stdout);
}
