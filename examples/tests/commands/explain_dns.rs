//! `waypost explain --dns`: what the decision needs of the DNS is asked, and nothing without it.

use crate::support::dns::Dns;
use crate::support::serving::Folder;
use crate::support::waypost;
use serde_json::json;

const MARIE: &str = "marie@enforce.org";

fn stage() -> (Folder, Dns) {
    let zone = [
        ("pass.example", "TXT", "v=spf1 ip4:203.0.113.7 -all"),
        ("fail.example", "TXT", "v=spf1 ip4:192.0.2.9 -all"),
        ("late.example", "SERVFAIL", ""),
        ("_dmarc.fail.example", "TXT", "v=DMARC1; p=reject"),
        ("void.example", "TXT", "v=spf1 a:a.example a:b.example a:c.example +all"),
        ("enforce.org", "TXT", "v=spf1 ip4:203.0.113.7 -all"),
    ];
    let zone = zone.map(|(owner, kind, value)| (owner.to_owned(), kind, value.to_owned()));
    let dns = Dns::start(zone.to_vec());
    let mut text = format!("dns = [\"{}\"]\n", dns.address);
    for (name, keys) in [
        ("enforce", "authenticate = \"enforce\"\ninternal_senders = \"authenticated\""),
        ("off", ""),
    ] {
        text.push_str(&format!(
            "[[organization]]\nname = \"{name}\"\ndomains = [\"{name}.org\"]\nlicences = 1\n{keys}\n\
             [[organization.user]]\naddress = \"marie@{name}.org\"\n"
        ));
    }
    (Folder::new(&text), dns)
}

fn question(from: &str, to: &str) -> String {
    json!({
        "id": from, "client_ip": "203.0.113.7", "mail_from": from, "rcpt_to": [to],
        "message": format!("From: {from}\r\n\r\nx\r\n"),
    })
    .to_string()
}

#[test]
fn e2_c3_explain_asks_the_dns_only_when_told_to() {
    let (folder, dns) = stage();
    let config = folder.configuration();
    for (from, to, asked, spf, reply) in [
        ("a@pass.example", MARIE, true, "pass", "250"),
        ("a@fail.example", MARIE, true, "fail", "550 5.7.23"),
        ("a@none.example", MARIE, true, "none", "250"),
        ("a@void.example", MARIE, true, "permerror", "250"),
        // A failure of the DNS is told, and is what it would be for `serve`.
        ("a@late.example", MARIE, true, "temperror", "451 4.7.24"),
        ("a@fail.example", "marie@off.org", false, "", "250"),
    ] {
        let line = question(from, to);
        let before = dns.asked().len();
        let without = &waypost(&["explain", &config, "--batch"], &line).json_lines()[0];
        assert_eq!(dns.asked().len(), before, "{from}: nothing touches the network");
        assert!(without["authentication"]["found"].is_null(), "{without}");
        let with = &waypost(&["explain", &config, "--batch", "--dns"], &line).json_lines()[0];
        assert_eq!(dns.asked().len() > before, asked, "{from} {to}: {:?}", dns.asked());
        let found = &with["authentication"]["found"];
        let result = found["spf"]["result"].as_str().unwrap_or_default();
        assert_eq!(result, spf, "{from} {to}: {with}");
        let data = with["replies"]["data"].as_str().unwrap();
        assert!(data.starts_with(reply), "{from} {to}: {data}");
    }
}

#[test]
fn c3_a_claim_to_be_internal_is_proved_by_the_dns_in_an_explanation() {
    let (folder, dns) = stage();
    folder.write("m.eml", &format!("From: {MARIE}\n\nx\n"));
    let (config, eml) = (folder.configuration(), folder.path("m.eml"));
    let base = ["explain", &config, &eml.to_string_lossy(), "--client-ip", "203.0.113.7"]
        .map(str::to_owned);
    let explain = |more: &[&str]| {
        let base = base.iter().map(String::as_str);
        let rest = ["--from", MARIE, "--to", MARIE].into_iter().chain(more.iter().copied());
        let arguments: Vec<&str> = base.chain(rest).collect();
        waypost(&arguments, "").stdout
    };
    let without = explain(&[]);
    assert!(without.contains("inbound") && dns.asked().is_empty(), "{without}");
    let with = explain(&["--dns"]);
    assert!(with.contains("internal-receiving"), "{with}");
    assert!(with.contains("pass for enforce.org, by mailfrom"), "{with}");
    // Each question is asked once, though standing and refused recipients are looked at.
    let spf = dns.asked().iter().filter(|one| *one == "enforce.org. TXT").count();
    assert_eq!(spf, 1, "{:?}", dns.asked());
}
