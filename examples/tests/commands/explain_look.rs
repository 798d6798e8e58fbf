//! `waypost explain`: colours, and how much of the rules is told.

use crate::support;

use support::serving::Folder;
use support::waypost;

fn organization() -> String {
    let mut text =
        "[[organization]]\nname = \"Solarmora\"\ndomains = [\"solarmora.com\"]\nlicences = 1\n\
        [[organization.user]]\naddress = \"marie@solarmora.com\"\n\
        [[organization.route]]\nname = \"edge\"\nhost = \"edge.example\"\n"
            .to_owned();
    for n in 0..20 {
        text.push_str(&format!(
            "[[organization.rule]]\ndescription = \"Rule {n}\"\naffects = [\"inbound\"]\n\
             envelope = {{ senders = [{{ address = \"s{n}@b.example\" }}] }}\n\
             then = {{ modify = {{ route = \"edge\" }} }}\n"
        ));
    }
    text
}

#[test]
fn c9_colours_and_rules_as_asked_for() {
    let folder = Folder::new(&organization());
    folder.write("m.eml", "From: s3@b.example\r\n\r\nx\r\n");
    let (config, eml) = (folder.configuration(), folder.path("m.eml"));
    let eml = eml.to_string_lossy().into_owned();
    let explain = |more: &[&str]| {
        let base =
            ["explain", &config, &eml, "--client-ip", "203.0.113.1", "--from", "s3@b.example"];
        let ran = waypost(&[&base[..], &["--to", "marie@solarmora.com"], more].concat(), "");
        assert_eq!(ran.status, 0, "{more:?}: {}", ran.stderr);
        ran.stdout
    };
    let plain = explain(&[]);
    let first = "marie@solarmora.com goes to route \"edge\" (edge.example:25), because rule \
                 \"Rule 3\" says so.";
    assert_eq!(plain.lines().next(), Some(first));
    assert!(!plain.contains('\u{1b}'), "a pipe is no terminal");
    assert!(plain.contains("and 11 that were farther from matching; --all-rules tells all"));
    assert_eq!(explain(&["--color", "never"]), plain);
    assert!(explain(&["--color", "always"]).contains("\u{1b}[32mroute \"edge\""));
    let all = explain(&["--all-rules"]);
    for n in 0..20 {
        assert!(all.contains(&format!("\"Rule {n}\"")), "{n}: {all}");
    }
    let wrong = waypost(&["explain", &config, &eml, "--color", "blue"], "");
    assert_eq!(wrong.status, 2);
}
