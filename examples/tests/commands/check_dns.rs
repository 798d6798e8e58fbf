//! `waypost check --dns`: SPF and MX records against this server and its gateways, with a name server on
//! loopback (B4).

use crate::support;

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::MessageAuthenticator;
use mail_auth::spf::verify::SpfParameters;
use serde_json::{Value, json};
use support::dns::{Dns, Entry};
use support::serving::Folder;
use support::{Ran, file, waypost};
use waypost_net::dns::{DnsLimits, SystemResolver};
use waypost_net::spf::check_host;

/// A record: owner, type, value.
type Line = (&'static str, &'static str, &'static str);

/// What every zone has.
const HOSTS: [Line; 3] = [
    ("mx.solarmora.com", "A", "192.0.2.10"),
    ("smart.example", "A", "198.51.100.7"),
    ("elsewhere.example", "A", "203.0.113.9"),
];
const GOOD_SPF: Line = ("solarmora.com", "TXT", "v=spf1 a:mx.solarmora.com a:smart.example -all");
const GOOD_MX: Line = ("solarmora.com", "MX", "mx.solarmora.com.");
const SMART: &str = "outbound_gateway = \"smart.example:587\"";

fn zone(lines: &[Line]) -> Vec<Entry> {
    let all = HOSTS.iter().filter(|(host, ..)| !lines.iter().any(|(owner, ..)| owner == host));
    all.chain(lines)
        .map(|(owner, kind, value)| ((*owner).to_owned(), *kind, (*value).to_owned()))
        .collect()
}

fn spf(text: &'static str) -> Line {
    ("solarmora.com", "TXT", text)
}

/// Runs `check --dns` on an organization with these lines, and `[server]` with those.
fn check(dns: &Dns, server: &str, organization: &str, json: bool) -> Ran {
    let folder = Folder::new(&format!(
        "dns = [\"{}\"]\n{server}\n[[organization]]\nname = \"Solarmora\"\n\
         domains = [\"solarmora.com\"]\nlicences = 250\n{organization}\n",
        dns.address
    ));
    let path = folder.configuration();
    let mut arguments = vec!["check", path.as_str(), "--dns"];
    arguments.extend(json.then_some("--json"));
    waypost(&arguments, "")
}

/// The ids of the warnings.
fn ids(reply: &Value) -> Vec<String> {
    let all = reply["diagnostics"].as_array().unwrap().iter();
    all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

const RULE: &str = r#"
[[organization.route]]
name = "smart"
host = "smart.example"
mx_lookup = true

[[organization.rule]]
description = "All outbound mail by the smart host"
affects = ["outbound"]
then = { modify = { route = "smart" } }
"#;

const INBOUND: &str = "[organization.inbound_gateway]\naddresses = [\"203.0.113.0/28\"]\n";

/// Zone, `[server]`, organization, the warnings, and a part of the text.
#[test]
#[rustfmt::skip]
fn records_are_compared_b4() {
    let ten = "v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example ip4:192.0.2.10 -all";
    let eleven = "v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example -all";
    let h: Line = ("h.example", "A", "203.0.113.77");
    for (zone_lines, server, organization, want, part) in [
        // SPF.
        (&[GOOD_SPF, GOOD_MX][..], "", SMART, &[][..], "198.51.100.7, the gateway smart.example pass by `a:smart.example`"),
        (&[GOOD_MX], "", SMART, &["spf-missing"], "publish the TXT record `v=spf1 a:mx.solarmora.com a:smart.example ~all`"),
        (&[spf("verification=1"), GOOD_MX], "", SMART, &["spf-missing"], "solarmora.com has no SPF record"),
        (&[spf("v=spf1 -all"), GOOD_SPF, GOOD_MX], "", SMART, &["spf-several"], "solarmora.com has 2 SPF records, so none counts"),
        (&[spf("v=spf1 mx -all"), GOOD_MX], "", "", &[], "pass by `mx`"),
        (&[spf("v=spf1 mx -all"), GOOD_MX], "", SMART, &["spf-lacks-gateway"], "add `a:smart.example`, so that it reads `v=spf1 mx a:smart.example -all`"),
        (&[spf("v=spf1 a:smart.example ~all"), GOOD_MX], "", SMART, &["spf-lacks-server"], "lacks this server (mx.solarmora.com) (192.0.2.10: softfail by `~all`)"),
        (&[spf("v=spf1 -all"), GOOD_MX], "", SMART, &["spf-lacks-gateway", "spf-lacks-server"], "reads `v=spf1 a:mx.solarmora.com a:smart.example -all`"),
        (&[spf("v=spf1"), GOOD_MX], "", "", &["spf-lacks-server"], "192.0.2.10: neutral by no term matches"),
        (&[spf("v=spf1 mx include:_spf.smart.example -all"), ("_spf.smart.example", "TXT", "v=spf1 ip4:198.51.100.0/24 -all"), GOOD_MX], "", SMART, &[], "pass by `include:_spf.smart.example`, `ip4:198.51.100.0/24`"),
        (&[spf("v=spf1 redirect=_spf.solarmora.com"), ("_spf.solarmora.com", "TXT", "v=spf1 ip4:192.0.2.10 -all"), GOOD_MX], "", SMART, &["spf-lacks-gateway"], "reads `v=spf1 a:smart.example redirect=_spf.solarmora.com`"),
        (&[spf("v=spf1 ipv4:192.0.2.10 -all"), GOOD_MX], "", SMART, &["spf-broken"], "`ipv4:192.0.2.10` is no mechanism of SPF"),
        (&[spf(ten), h, GOOD_MX], "", SMART, &["spf-lacks-gateway"], "add `ip4:198.51.100.7`, so that"),
        (&[spf(eleven), h, GOOD_MX], "", SMART, &["spf-broken"], "`a:h.example` is the DNS lookup after the 10"),
        (&[spf("v=spf1 +all"), GOOD_MX], "", SMART, &["spf-covers-everyone"], "covers every address there is, by `+all`"),
        // Addresses of the senders.
        (&[GOOD_SPF, GOOD_MX], "", "outbound_gateway = \"198.51.100.9\"", &["spf-lacks-gateway"], "add `ip4:198.51.100.9`"),
        (&[GOOD_SPF, GOOD_MX], "", "outbound_gateway = \"[2001:db8::9]:587\"", &["spf-lacks-gateway"], "add `ip6:2001:db8::9`"),
        (&[GOOD_SPF, GOOD_MX], "", "outbound_gateway = \"gone.example\"", &["sender-without-address"], "the gateway gone.example are not known, so SPF was not compared: gone.example: no such domain"),
        (&[GOOD_SPF, GOOD_MX], "", "outbound_gateway = \"10.0.0.9\"", &["sender-without-address"], "10.0.0.9 is no public address"),
        (&[GOOD_SPF, GOOD_MX, ("mx.solarmora.com", "A", "127.0.1.1")], "", SMART, &["sender-without-address"], "write `public_addresses` into `[server]`"),
        (&[GOOD_SPF, GOOD_MX], "public_addresses = [\"203.0.113.5\"]", SMART, &["spf-lacks-server"], "add `ip4:203.0.113.5`"),
        (&[spf("v=spf1 ip4:192.0.2.10 -all"), GOOD_MX, ("mx.solarmora.com", "A", "192.0.2.10"), ("mx.solarmora.com", "AAAA", "2001:db8::10")], "", "", &["spf-lacks-server"], "(2001:db8::10: fail by `-all`)"),
        (&[spf("v=spf1 a:mx.solarmora.com -all"), GOOD_MX, ("smart.example", "MX", "out.smart.example."), ("out.smart.example", "A", "198.51.100.8")], "", RULE, &["spf-lacks-gateway"], "add `mx:smart.example`"),
        // Failures of the DNS.
        (&[("solarmora.com", "SERVFAIL", "")], "", SMART, &["dns-unknown", "dns-unknown"], "the SPF record of solarmora.com could not be found out: no answer now"),
        (&[spf("v=spf1 mx include:down.example -all"), GOOD_MX, ("down.example", "SERVFAIL", "")], "", SMART, &["dns-unknown"], "could not be found out: down.example: no answer now"),
        (&[GOOD_SPF, ("solarmora.com", "MX", "down.example."), ("down.example", "SERVFAIL", "")], "", SMART, &["dns-unknown"], "the MX host down.example of solarmora.com could not be found out"),
        (&[GOOD_SPF, GOOD_MX, ("smart.example", "SERVFAIL", "")], "", SMART, &["dns-unknown"], "the gateway smart.example are not known, so SPF was not compared: smart.example: no answer now"),
        (&[GOOD_SPF, GOOD_MX, ("mx.solarmora.com", "SERVFAIL", "")], "", "", &["dns-unknown"], "this server (mx.solarmora.com) are not known, so SPF was not compared: mx.solarmora.com: no answer now"),
        (&[GOOD_SPF, ("solarmora.com", "MX", "elsewhere.example."), ("mx.solarmora.com", "SERVFAIL", "")], "", "", &["dns-unknown", "dns-unknown"], "the MX host elsewhere.example of solarmora.com could not be found out: the addresses of this server are not known"),
        // MX.
        (&[GOOD_SPF, ("solarmora.com", "MX", "elsewhere.example.")], "", SMART, &["mx-elsewhere"], "the MX records of solarmora.com name elsewhere.example, which is neither"),
        (&[GOOD_SPF, ("solarmora.com", "MX", "a.example."), ("solarmora.com", "MX", "elsewhere.example.")], "", SMART, &["mx-elsewhere"], "name a.example and elsewhere.example, which are neither"),
        (&[spf("v=spf1 a:smart.example a:overall -all"), ("overall", "A", "192.0.2.10"), GOOD_MX], "", SMART, &[], "pass by `a:overall`"),
        (&[GOOD_SPF, GOOD_MX, ("solarmora.com", "MX", "elsewhere.example.")], "", SMART, &["mx-elsewhere"], "publish the MX record `solarmora.com. MX 10 mx.solarmora.com.`"),
        (&[GOOD_SPF, ("solarmora.com", "MX", "elsewhere.example.")], "", INBOUND, &[], "the inbound gateway 203.0.113.9"),
        (&[GOOD_SPF, ("solarmora.com", "MX", "alias.example."), ("alias.example", "A", "192.0.2.10")], "", SMART, &[], "10 alias.example"),
        (&[GOOD_SPF, ("solarmora.com", "MX", ".")], "", SMART, &["mx-null"], "it has a null MX record (RFC 7505)"),
        (&[GOOD_SPF, ("solarmora.com", "MX", "gone.example.")], "", SMART, &["mx-elsewhere"], "name gone.example"),
        (&[GOOD_SPF], "", SMART, &["mx-missing"], "solarmora.com has neither MX records nor an address"),
        (&[GOOD_SPF, ("solarmora.com", "A", "192.0.2.10")], "", SMART, &[], "solarmora.com itself"),
        (&[GOOD_SPF, ("solarmora.com", "A", "203.0.113.9")], "", SMART, &["mx-elsewhere"], "has no MX records, and its own address is neither"),
    ] {
        let dns = Dns::start(zone(zone_lines));
        let told = check(&dns, server, organization, false);
        assert_eq!((told.status, told.stderr.as_str()), (0, ""), "{}", told.stdout);
        let plain = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(part), "{part}\n{}", told.stdout);
        let reply = check(&dns, server, organization, true);
        assert_eq!(reply.status, 0);
        let reply = &reply.json_lines()[0];
        assert_eq!(ids(reply), want, "{part}\n{}", told.stdout);
        assert_eq!(reply["usable"], true);
    }
}

#[test]
fn without_the_option_nothing_is_asked_and_nothing_said_b4() {
    let dns = Dns::start(zone(&[GOOD_SPF]));
    let folder = Folder::new(&format!("dns = [\"{}\"]\n", dns.address));
    let reply = &waypost(&["check", &folder.configuration(), "--json"], "").json_lines()[0];
    assert!(reply.get("dns").is_none(), "{reply}");
    assert!(dns.asked().is_empty());
}

#[test]
fn the_answer_as_json_b4() {
    let dns = Dns::start(zone(&[spf("v=spf1 mx -all"), GOOD_MX]));
    let reply = &check(&dns, "", SMART, true).json_lines()[0];
    let want = json!([{
        "organization": "Solarmora",
        "senders": [
            { "kind": "server", "host": "mx.solarmora.com", "addresses": ["192.0.2.10"], "error": null },
            { "kind": "gateway", "host": "smart.example", "addresses": ["198.51.100.7"], "error": null },
        ],
        "domains": [{
            "domain": "solarmora.com",
            "spf": {
                "state": "found",
                "records": ["v=spf1 mx -all"],
                "error": null,
                "checks": [
                    { "kind": "server", "ip": "192.0.2.10", "result": "pass", "because": "`mx`", "lookups": 1 },
                    { "kind": "gateway", "ip": "198.51.100.7", "result": "fail", "because": "`-all`", "lookups": 1 },
                ],
            },
            "mx": {
                "state": "found",
                "error": null,
                "hosts": [{
                    "host": "mx.solarmora.com",
                    "preference": 10,
                    "leads_to": "server",
                    "gateway": null,
                    "error": null,
                }],
            },
        }],
    }]);
    assert_eq!(reply["dns"], want);
}

#[test]
fn a_configuration_with_errors_asks_nothing_b4() {
    let dns = Dns::start(zone(&[GOOD_SPF]));
    let told = check(&dns, "", "colour = \"blue\"", false);
    assert_eq!(told.status, 1);
    assert!(
        told.stdout.contains("The DNS was not asked: correct the errors first."),
        "{}",
        told.stdout
    );
    assert!(dns.asked().is_empty());
}

/// What stands between two lines of a page.
fn block<'a>(page: &'a str, from: &str) -> &'a str {
    let (_, rest) = page.split_once(from).unwrap();
    rest.split_once("```").unwrap().0
}

/// The page's example, with what `check --dns` prints for it; `UPDATE_GOLDENS=1` rewrites that.
#[test]
fn the_page_shows_what_check_prints_b4_b5() {
    let page = file("docs/OUTBOUND.md");
    let dns = Dns::start(zone(&[
        spf("v=spf1 mx -all"),
        GOOD_MX,
        ("solarmora.fr", "TXT", "v=spf1 redirect=solarmora.com"),
        ("solarmora.fr", "MX", "mail.old-provider.example."),
        ("mail.old-provider.example", "A", "203.0.113.80"),
    ]));
    let configuration = block(&page, "```toml check-dns\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waypost.toml");
    std::fs::write(&path, configuration.replace("192.0.2.53", &dns.address.to_string())).unwrap();
    let ran = waypost(&["check", path.to_str().unwrap(), "--dns"], "");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    let told = ran.stdout.replace(path.to_str().unwrap(), "waypost.toml");
    let command = "```console\n$ waypost check waypost.toml --dns\n";
    let shown = block(&page, command);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(
            "../docs/OUTBOUND.md",
            page.replacen(&format!("{command}{shown}"), &format!("{command}{told}"), 1),
        )
        .unwrap();
    } else {
        assert_eq!(told, shown);
    }
}

/// Our reader and an independent one agree on what records say of addresses.
#[test]
#[rustfmt::skip]
fn records_are_read_as_mail_auth_reads_them_b4() {
    let others: [Line; 11] = [
        ("i.example", "TXT", "v=spf1 ip4:198.51.100.7 -all"),
        ("soft.example", "TXT", "v=spf1 ?ip4:198.51.100.7 ~all"),
        ("r.example", "TXT", "v=spf1 redirect=i.example"),
        ("loop.example", "TXT", "v=spf1 include:loop.example -all"),
        ("down.example", "SERVFAIL", ""),
        ("smart.example", "A", "198.51.100.7"),
        ("smart.example", "AAAA", "2001:db8::7"),
        ("smart.example", "MX", "mx1.example."),
        ("mx1.example", "A", "198.51.100.21"),
        ("7.100.51.198.in-addr.listed.example", "A", "127.0.0.2"),
        ("_spf.solarmora.com", "TXT", "v=spf1 a:mx.%{o} ~all"),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (domain, helo) = ("solarmora.com".parse().unwrap(), "mx.solarmora.com".parse().unwrap());
    let mut seen = std::collections::BTreeMap::new();
    for record in [
        "v=spf1", "v=spf1 -all", "v=spf1 ~all", "v=spf1 ?all", "v=spf1 +all", "V=SPF1 -ALL",
        "v=spf1 ip4:198.51.100.0/24 -all", "v=spf1 ip4:198.51.100.0/29 ~all", "v=spf1 ip6:2001:db8::/32 -all",
        "v=spf1 -ip4:198.51.100.7 +all", "v=spf1 a:smart.example -all", "v=spf1 a:smart.example/28 -all",
        "v=spf1 a:smart.example//64 -all", "v=spf1 a:smart.example/0//0 -all", "v=spf1 a:gone.example -all",
        "v=spf1 mx:smart.example -all", "v=spf1 mx:smart.example/24 -all", "v=spf1 mx ?all",
        "v=spf1 include:i.example -all", "v=spf1 include:i.example ~all", "v=spf1 ~include:i.example -all",
        "v=spf1 include:soft.example -all", "v=spf1 include:r.example -all", "v=spf1 include:gone.example -all",
        "v=spf1 include:loop.example -all", "v=spf1 include:down.example -all", "v=spf1 a:down.example -all",
        "v=spf1 redirect=i.example", "v=spf1 redirect=gone.example", "v=spf1 ~all redirect=i.example",
        "v=spf1 exists:%{ir}.%{v}.listed.example -all", "v=spf1 redirect=_spf.%{o}", "v=spf1 include:_spf.%{d} -all",
        "v=spf1 moo=1 exp=why.%{d} -all", "v=spf1   a:smart.example    -all  ",
    ] {
        let mut lines = others.to_vec();
        lines.push(("solarmora.com", "TXT", record));
        let dns = Dns::start(zone(&lines));
        let server = &[dns.address];
        runtime.block_on(async {
            let resolver = SystemResolver::with_servers(server, DnsLimits::default()).unwrap();
            let mut name_server = NameServerConfig::udp(dns.address.ip());
            name_server.connections.iter_mut().for_each(|way| way.port = dns.address.port());
            let config = ResolverConfig::from_name_servers(vec![name_server]);
            let other = MessageAuthenticator::new(config, ResolverOpts::default()).unwrap();
            for ip in ["198.51.100.7", "198.51.100.8", "198.51.100.21", "2001:db8::7", "2001:db8::8", "192.0.2.10"] {
                let ip = ip.parse().unwrap();
                let ours = check_host(&resolver, &domain, ip, &helo).await;
                let asked = SpfParameters::verify_mail_from(ip, "mx.solarmora.com", "mx.solarmora.com", "postmaster@solarmora.com");
                let theirs = format!("{:?}", other.verify_spf(asked).await.result()).to_lowercase();
                assert_eq!(ours.result.as_str(), theirs, "{record} {ip}: {}", ours.because);
                *seen.entry(theirs).or_insert(0) += 1;
            }
        });
    }
    assert!(seen.len() >= 6, "{seen:?}");
}
