//! `waypost serve`: SPF and DMARC against the source IP (E2), with a name server on loopback.

use crate::support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;
use support::dns::{Dns, Entry};
use support::serving::{Folder, HOSTNAME, Serve, queue_id};
use support::smtp_client::SmtpClient;
use support::{sink, waypost};

/// The client of all tests is 127.0.0.1; behind a gateway, mail comes from 203.0.113.7.
fn zone(key: &Ed25519Key) -> Vec<Entry> {
    let here = "v=spf1 ip4:127.0.0.1 -all";
    let key = format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(key.public_key()));
    [
        ("pass.example", "TXT", here),
        ("fail.example", "TXT", "v=spf1 ip4:192.0.2.9 -all"),
        ("softfail.example", "TXT", "v=spf1 ip4:192.0.2.9 ~all"),
        ("neutral.example", "TXT", "v=spf1 ?all"),
        ("none.example", "A", "192.0.2.1"),
        ("permerror.example", "TXT", "v=spf1 ip4:192.0.2.300 -all"),
        ("slip.example", "TXT", "v=spf1 ipv4:127.0.0.1 -all"),
        ("includes.example", "TXT", "v=spf1 include:slip.example -all"),
        ("twice.example", "TXT", here),
        ("twice.example", "TXT", "v=spf1 -all"),
        ("temperror.example", "SERVFAIL", ""),
        ("loop.example", "TXT", "v=spf1 include:loop.example -all"),
        ("helo.example", "TXT", here),
        // Behind a gateway: the external address, and not the gateway's.
        ("outside.example", "TXT", "v=spf1 ip4:203.0.113.7 -all"),
        // DMARC. The mail comes from 127.0.0.1, which SPF of each but `stranger.example` allows.
        ("reject.example", "TXT", here),
        ("_dmarc.reject.example", "TXT", "v=DMARC1; p=reject"),
        ("quarantine.example", "TXT", here),
        ("_dmarc.quarantine.example", "TXT", "v=DMARC1; p=quarantine"),
        ("watch.example", "TXT", here),
        ("_dmarc.watch.example", "TXT", "v=DMARC1; p=none; rua=mailto:a@watch.example"),
        ("lost.example", "TXT", here),
        ("_dmarc.lost.example", "SERVFAIL", ""),
        ("k1._domainkey.reject.example", "TXT", &key),
        ("_dmarc.forwarded.example", "TXT", "v=DMARC1; p=reject"),
        ("forwarded.example", "TXT", "v=spf1 -all"),
        ("k1._domainkey.forwarded.example", "TXT", &key),
    ]
    .map(|(owner, kind, value)| (owner.to_owned(), kind, value.to_owned()))
    .to_vec()
}

/// One organization for each way: `enforce`, `report`, `off`; `gated` and `internal` enforce behind a
/// gateway.
fn organizations(dns: &str, more: &str) -> String {
    let mut text = format!("dns = [\"{dns}\"]\nadmin = \"127.0.0.1:0\"\n{more}");
    let gateway = "[organization.inbound_gateway]\naddresses = [\"127.0.0.1\"]\n\
                   allow_private = true\ndetect_external_ip = true\n";
    for (name, mode, gateway) in [
        ("enforce", "enforce", ""),
        ("report", "report", ""),
        ("off", "off", ""),
        ("gated", "enforce", gateway),
    ] {
        text.push_str(&format!(
            "[[organization]]\nname = \"{name}\"\ndomains = [\"{name}.org\"]\nlicences = 250\n\
             authenticate = \"{mode}\"\n[[organization.user]]\naddress = \"marie@{name}.org\"\n{gateway}"
        ));
    }
    text
}

/// A server with the zone.
struct Stage {
    folder: Folder,
    serve: Serve,
    dns: Dns,
    key: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let key = Ed25519Key::generate_pkcs8().unwrap();
        let dns = Dns::start(zone(&Ed25519Key::from_pkcs8_der(&key).unwrap()));
        let folder = Folder::new(&organizations(&dns.address.to_string(), ""));
        let serve = folder.serve();
        Self { folder, serve, dns, key }
    }

    /// Sends a message to marie; the reply.
    fn send(&self, organization: &str, from: &str, message: &str) -> String {
        let to = format!("marie@{organization}.org");
        self.serve.session("mx").message(from, &[&to], message.as_bytes())
    }

    /// The only message in a folder of marie's; it is taken out.
    fn take(&self, organization: &str, sub: &str) -> String {
        let address = format!("marie@{organization}.org");
        let letters = self.folder.mailbox(&address, sub, 1);
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        let folder = self.folder.path("spool/maildir").join(format!("{organization}.org/marie"));
        let new = folder.join(sub).join("new");
        for file in std::fs::read_dir(new).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        letter.replace("\r\n", "\n")
    }

    /// The message with a signature of a domain.
    fn signed(&self, domain: &str, message: &str) -> String {
        let signer = DkimSigner::from_key(Ed25519Key::from_pkcs8_der(&self.key).unwrap())
            .domain(domain)
            .selector("k1")
            .headers(["From", "Subject"]);
        signer.sign(message.as_bytes()).unwrap().to_header() + message
    }
}

/// A message from an author.
fn letter(from: &str) -> String {
    format!("From: {from}\r\nSubject: Hello\r\n\r\n.dots and\r\n..more dots\r\n")
}

fn unfolded(message: &str) -> String {
    message.replace("\n\t", " ")
}

/// The lines of a name on top of the first `Received`, unfolded.
fn stamped(message: &str) -> String {
    let top = message.split("Received: from").next().unwrap();
    unfolded(top)
}

#[test]
fn e2_spf_by_result_enforced_reported_and_off() {
    let stage = Stage::new();
    for (domain, spf, enforced) in [
        ("pass.example", "pass", "250"),
        ("fail.example", "fail", "550 5.7.23"),
        ("softfail.example", "softfail", "250"),
        ("neutral.example", "neutral", "250"),
        ("none.example", "none", "250"),
        ("nowhere.example", "none", "250"),
        ("permerror.example", "permerror", "250"),
        ("slip.example", "permerror", "250"),
        ("includes.example", "permerror", "250"),
        ("twice.example", "permerror", "250"),
        ("loop.example", "permerror", "250"),
        ("temperror.example", "temperror", "451 4.7.24"),
    ] {
        let from = format!("a@{domain}");
        let message = letter("a@elsewhere.example");
        let reply = stage.send("enforce", &from, &message);
        assert!(reply.starts_with(enforced), "{domain}: {reply}");
        for organization in ["enforce", "report"] {
            if organization == "enforce" && enforced != "250" {
                continue;
            }
            if organization == "report" {
                queue_id(&stage.send("report", &from, &message));
            }
            let came = stage.take(organization, "");
            let top = stamped(&came);
            for part in [
                format!("Authentication-Results: {HOSTNAME}; spf={spf} ("),
                format!(
                    "smtp.mailfrom={from} smtp.client-ip=127.0.0.1 policy.source-ip=127.0.0.1;"
                ),
                "; dkim=none; dmarc=none header.from=elsewhere.example\n".to_owned(),
                format!("Received-SPF: {spf} ({HOSTNAME}: 127.0.0.1 "),
                format!(
                    "client-ip=127.0.0.1; envelope-from=\"{from}\"; helo=client.elsewhere.example;"
                ),
                format!("identity=mailfrom; receiver={HOSTNAME}; x-source-ip=127.0.0.1\n"),
            ] {
                assert!(top.contains(&part), "{domain}, {organization}: {part}\n{top}");
            }
            assert!(came.ends_with("\n\n.dots and\n..more dots\n"), "{came}");
        }
        queue_id(&stage.send("off", &from, &message));
        let came = stage.take("off", "");
        assert!(!came.contains("Authentication-Results") && !came.contains("SPF"), "{came}");
    }
    assert!(
        stage.serve.metric("waypost_authentications_total{method=\"spf\",result=\"fail\"}") >= 2
    );
    let refused = "waypost_refusals_total{at=\"data\",code=\"550\",enhanced=\"5.7.23\",\
                   reason=\"spf-fail\"}";
    assert_eq!(stage.serve.metric(refused), 1);
    stage.serve.log.wait_text("spf=\"fail\"");
}

#[test]
fn e2_dmarc_by_alignment_and_policy() {
    let stage = Stage::new();
    let signed = |by: &str, from: &str| stage.signed(by, &letter(from));
    let spoiled = signed("reject.example", "a@reject.example").replace("and", "or");
    for (sender, message, dmarc, enforced) in [
        (
            "a@reject.example",
            letter("a@reject.example"),
            "dkim=none; dmarc=pass (p=reject, by spf) header.from=reject.example",
            "250",
        ),
        (
            "a@pass.example",
            signed("reject.example", "a@reject.example"),
            "dkim=pass header.d=reject.example header.s=k1; \
             dmarc=pass (p=reject, by dkim) header.from=reject.example",
            "250",
        ),
        (
            "a@pass.example",
            signed("reject.example", "a@news.reject.example"),
            "dmarc=pass (p=reject, by dkim) header.from=news.reject.example",
            "250",
        ),
        // A forwarder: SPF fails, the author's signature vouches.
        (
            "a@fail.example",
            signed("forwarded.example", "a@forwarded.example"),
            "dmarc=pass (p=reject, by dkim) header.from=forwarded.example",
            "250",
        ),
        (
            "a@pass.example",
            letter("a@reject.example"),
            "dkim=none; dmarc=fail (p=reject) header.from=reject.example",
            "550 5.7.1 DMARC fail: neither SPF nor DKIM vouches for reject.example",
        ),
        (
            "a@pass.example",
            spoiled,
            "dkim=fail (the body was changed) header.d=reject.example header.s=k1; dmarc=fail (p=reject)",
            "550 5.7.1",
        ),
        (
            "a@pass.example",
            signed("reject.example", "a@reject.example")
                .replace("d=reject.example", "d=pass.example"),
            "dkim=permerror (there is no key) header.d=pass.example header.s=k1; dmarc=fail (p=reject)",
            "550 5.7.1",
        ),
        (
            "a@pass.example",
            letter("Bank <a@pass.example>, a@reject.example"),
            "dmarc=fail (p=reject) header.from=reject.example",
            "550 5.7.1",
        ),
        (
            "a@pass.example",
            letter("a@a.example, a@b.example, a@c.example, a@d.example, a@reject.example"),
            "dkim=none; dmarc=permerror\n",
            "550 5.7.1",
        ),
        (
            "a@pass.example",
            letter("a@watch.example"),
            "dmarc=fail (p=none) header.from=watch.example",
            "250",
        ),
        (
            "a@pass.example",
            letter("a@lost.example"),
            "dmarc=temperror header.from=lost.example",
            "451 4.4.3",
        ),
        ("a@pass.example", letter("nobody"), "dkim=none; dmarc=none\n", "250"),
    ] {
        let reply = stage.send("enforce", sender, &message);
        assert!(reply.starts_with(enforced), "{dmarc}: {reply}");
        if enforced == "250" {
            let top = stamped(&stage.take("enforce", ""));
            assert!(top.contains(dmarc), "{dmarc}\n{top}");
        }
        queue_id(&stage.send("report", sender, &message));
        let top = stamped(&stage.take("report", ""));
        assert!(top.contains(dmarc), "{dmarc}\n{top}");
    }
    queue_id(&stage.send("enforce", "a@pass.example", &letter("a@quarantine.example")));
    let came = stage.take("enforce", ".Junk");
    assert!(came.contains("\nX-Spam-Flag: YES\n"), "{came}");
    assert!(came.contains("dmarc=fail (p=quarantine)"), "{came}");
    queue_id(&stage.send("report", "a@pass.example", &letter("a@quarantine.example")));
    assert!(!stage.take("report", "").contains("X-Spam-Flag"));
}

#[test]
fn e2_signatures_of_large_messages_and_of_forwarded_results_hold() {
    let stage = Stage::new();
    let large = letter("a@reject.example") + &"..a line of a large message\r\n".repeat(40_000);
    // What is cut out is cut out behind the verification.
    let results = format!("Authentication-Results: {HOSTNAME}; spf=pass\r\n");
    let signer = DkimSigner::from_key(Ed25519Key::from_pkcs8_der(&stage.key).unwrap())
        .domain("reject.example")
        .selector("k1")
        .headers(["From", "Authentication-Results"]);
    let forwarded = results + &letter("a@reject.example");
    let forwarded = signer.sign(forwarded.as_bytes()).unwrap().to_header() + &forwarded;
    for message in [stage.signed("reject.example", &large), forwarded] {
        queue_id(&stage.send("enforce", "a@pass.example", &message));
        let came = stage.take("enforce", "");
        let top = stamped(&came);
        assert!(top.contains("dkim=pass header.d=reject.example"), "{top}");
        assert!(top.contains("dmarc=pass (p=reject, by dkim)"), "{top}");
        assert_eq!(unfolded(&came).matches("Authentication-Results: mx").count(), 1);
    }
}

#[test]
fn e2_behind_a_gateway_the_source_is_checked_and_nothing_refused() {
    let stage = Stage::new();
    let by = |ip: &str| {
        format!("Received: from h.example (h.example [{ip}]) by gw.example with ESMTP; d\r\n")
    };
    let outside = by("203.0.113.7");
    let inside = by("10.0.0.9");
    for (sender, hops, message, want) in [
        (
            "a@outside.example",
            outside.as_str(),
            letter("a@elsewhere.example"),
            "spf=pass (203.0.113.7, the source behind 127.0.0.1 by rule first-external, may send for \
             outside.example) smtp.mailfrom=a@outside.example smtp.client-ip=127.0.0.1 \
             policy.source-ip=203.0.113.7;",
        ),
        (
            "a@fail.example",
            outside.as_str(),
            letter("a@elsewhere.example"),
            "Received-SPF: fail (mx.solarmora.com: 203.0.113.7, the source behind 127.0.0.1",
        ),
        // The gateway's own address is in this record, and counts for nothing.
        ("a@pass.example", outside.as_str(), letter("a@elsewhere.example"), "spf=fail ("),
        ("a@pass.example", outside.as_str(), letter("a@reject.example"), "dmarc=fail (p=reject)"),
        (
            "a@pass.example",
            outside.as_str(),
            letter("a@quarantine.example"),
            "dmarc=fail (p=quarantine)",
        ),
        ("a@temperror.example", outside.as_str(), letter("a@elsewhere.example"), "spf=temperror ("),
        (
            "a@fail.example",
            inside.as_str(),
            letter("a@elsewhere.example"),
            "spf=none (internal, not checked: each hop is a gateway or private) \
             smtp.mailfrom=a@fail.example smtp.client-ip=127.0.0.1 policy.source-ip=none;",
        ),
        (
            "a@fail.example",
            "Received: from nothing readable\r\n",
            letter("a@elsewhere.example"),
            "spf=none (not checked: the source 127.0.0.1 by rule nothing-readable)",
        ),
    ] {
        queue_id(&stage.send("gated", sender, &format!("{hops}{message}")));
        let came = stage.take("gated", "");
        let top = stamped(&came);
        assert!(top.contains(want), "{want}\n{top}");
        assert!(!came.contains("X-Spam-Flag"), "{came}");
    }
}

#[test]
fn e2_the_null_sender_is_checked_by_helo() {
    let stage = Stage::new();
    for (helo, spf, enforced) in [
        ("helo.example", "pass", "250"),
        ("fail.example", "fail", "550 5.7.23"),
        ("[127.0.0.1]", "none", "250"),
    ] {
        let address = stage.serve.address("mx");
        let mut client = SmtpClient::hello(address, helo);
        let message = letter("a@elsewhere.example");
        let reply = client.message("", &["marie@enforce.org"], message.as_bytes());
        assert!(reply.starts_with(enforced), "{reply}");
        if enforced == "250" {
            let top = stamped(&stage.take("enforce", ""));
            assert!(top.contains(&format!("spf={spf} (")), "{top}");
            assert!(top.contains("identity=helo;") && top.contains("smtp.helo="), "{top}");
        }
    }
}

#[test]
fn e2_forged_results_go_and_others_stay_rfc_8601() {
    let stage = Stage::new();
    let forged = format!(
        "Authentication-Results: {HOSTNAME}; dmarc=pass header.from=bank.example\r\n\
         authentication-results:\r\n (x) \"{HOSTNAME}\"; dkim=pass header.d=bank.example\r\n\
         Received-SPF: pass (x) client-ip=192.0.2.1; receiver={HOSTNAME}\r\n"
    );
    let foreign = "Authentication-Results: mx.friend.example; spf=pass\r\n";
    let message = format!("{forged}{foreign}{}", letter("a@bank.example"));
    for (organization, stay) in [("enforce", false), ("report", false), ("off", true)] {
        queue_id(&stage.send(organization, "a@pass.example", &message));
        let came = unfolded(&stage.take(organization, ""));
        let results = came.matches("bank.example").count();
        // `From:`, and in our line `header.from`; or `From:` and the two that are forged.
        assert_eq!(results, if stay { 3 } else { 2 }, "{came}");
        assert_eq!(came.contains("dmarc=pass"), stay, "{came}");
        assert_eq!(came.contains("client-ip=192.0.2.1"), stay, "{came}");
        assert!(came.contains(foreign.trim_end()), "{came}");
    }
    stage.serve.log.wait_text("lines removed that claim to be results of this server");
}

#[test]
fn e2_relayed_and_authenticated_mail_is_not_checked() {
    let key = Ed25519Key::from_pkcs8_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
    let dns = Dns::start(zone(&key));
    let relay = "[[organization.relay]]\ndescription = \"Loopback\"\nallowed_senders = \"any\"\n\
                 addresses = [{ range = \"127.0.0.1\" }]\nrequire_tls = false\n";
    let mut text = organizations(&dns.address.to_string(), "");
    let place = text.find("[[organization]]\nname = \"report\"").unwrap();
    text.insert_str(place, relay);
    let folder = Folder::new(&text);
    let serve = folder.serve();
    for listener in ["relay", "mx"] {
        let mut client = SmtpClient::hello(serve.address(listener), "mail.enforce.org");
        let message = letter("a@reject.example");
        queue_id(&client.message("a@fail.example", &["marie@enforce.org"], message.as_bytes()));
    }
    for came in folder.mailbox("marie@enforce.org", "", 2) {
        assert!(!came.contains("Authentication-Results"), "{came}");
    }
    assert_eq!(dns.asked(), [""; 0]);
}

#[test]
fn e2_organizations_of_one_message_decide_for_themselves() {
    let stage = Stage::new();
    let message = letter("a@elsewhere.example");
    let mut client = stage.serve.session("mx");
    let all = ["marie@enforce.org", "marie@report.org", "marie@off.org", "marie@gated.org"];
    let reply = client.message("a@fail.example", &all, message.as_bytes());
    let id = queue_id(&reply).to_owned();
    let reported = stage.take("report", "");
    assert!(stamped(&reported).contains("spf=fail ("), "{reported}");
    assert!(!stage.take("off", "").contains("Received-SPF"));
    let gated = stage.take("gated", "");
    assert!(stamped(&gated).contains("spf=none (internal, not checked"), "{gated}");
    assert_eq!(stamped(&gated).matches("Authentication-Results").count(), 1, "{gated}");
    // Refused by one and taken by others: it is kept, and nobody gets a bounce for what was forged.
    let shown = support::control::done(&stage.folder, &["queue", "show", &id]);
    assert!(shown.contains("authentication"), "{shown}");
    assert!(shown.contains("SPF fail: 127.0.0.1 may not send for fail.example"), "{shown}");
    assert_eq!(stage.folder.mailbox_size("marie@enforce.org", ""), 0);
    // Refused by all: the client hears it.
    let reply = client.message("a@fail.example", &["marie@enforce.org"], message.as_bytes());
    assert!(reply.starts_with("550 5.7.23 SPF fail: 127.0.0.1 may not send"), "{reply}");
    // What cannot be known now defers the message as a whole.
    let to = ["marie@report.org", "marie@enforce.org"];
    let reply = client.message("a@temperror.example", &to, message.as_bytes());
    assert!(reply.starts_with("451 4.7.24"), "{reply}");
    assert_eq!(stage.folder.mailbox_size("marie@report.org", ""), 0);
}

#[test]
fn e2_a_dead_name_server_is_a_temperror_and_refused_mail_asks_nothing() {
    let folder = Folder::new(&organizations(&sink::reserved().to_string(), ""));
    let serve = folder.serve();
    let message = letter("a@reject.example");
    // Both at once: each waits for as long as an evaluation may take.
    let [enforced, reported] = ["marie@enforce.org", "marie@report.org"].map(|to| {
        let (mut client, message) = (serve.session("mx"), message.clone());
        std::thread::spawn(move || client.message("a@pass.example", &[to], message.as_bytes()))
    });
    let reply = enforced.join().unwrap();
    assert!(reply.starts_with("451 4.7.24"), "{reply}");
    queue_id(&reported.join().unwrap());
    let came = unfolded(&folder.mailbox("marie@report.org", "", 1)[0].replace("\r\n", "\n"));
    for part in ["spf=temperror (", "dmarc=temperror header.from=reject.example"] {
        assert!(came.contains(part), "{part}\n{came}");
    }

    let stage = Stage::new();
    let looping = "Received: from h.example ([192.0.2.1]) by x; d\r\n".repeat(51) + &message;
    let reply = stage.send("enforce", "a@pass.example", &looping);
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    assert_eq!(stage.dns.asked(), [""; 0]);
}

#[test]
fn e2_answers_are_cached_for_all_sessions() {
    let stage = Stage::new();
    for _ in 0..3 {
        let message = stage.signed("reject.example", &letter("a@reject.example"));
        queue_id(&stage.send("report", "a@pass.example", &message));
    }
    let asked = stage.dns.asked();
    for question in
        ["pass.example. TXT", "_dmarc.reject.example. TXT", "k1._domainkey.reject.example. TXT"]
    {
        let count = asked.iter().filter(|one| *one == question).count();
        assert_eq!(count, 1, "{question} in {asked:?}");
    }
}

#[test]
fn e2_a_machine_without_certificates_serves() {
    let key = Ed25519Key::from_pkcs8_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
    let dns = Dns::start(zone(&key));
    let folder = Folder::new(&organizations(&dns.address.to_string(), ""));
    let none = [("SSL_CERT_FILE", "/nowhere/roots.pem"), ("SSL_CERT_DIR", "/nowhere")];
    let serve = Serve::with_environment(&folder.configuration(), &none);
    let mut client = serve.session("mx");
    let message = letter("a@elsewhere.example");
    queue_id(&client.message("a@pass.example", &["marie@enforce.org"], message.as_bytes()));
}

#[test]
fn e2_explain_asks_no_dns() {
    let key = Ed25519Key::from_pkcs8_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
    let dns = Dns::start(zone(&key));
    let folder = Folder::new(&organizations(&dns.address.to_string(), ""));
    folder.write("letter.eml", &letter("a@reject.example"));
    let configuration = folder.configuration();
    let letter = folder.path("letter.eml").to_string_lossy().into_owned();
    let ran = waypost(
        &[
            "explain",
            &configuration,
            &letter,
            "--client-ip",
            "192.0.2.1",
            "--from",
            "a@fail.example",
            "--to",
            "marie@enforce.org",
        ],
        "",
    );
    assert!(
        ran.stdout.contains("SPF, DMARC    not checked: no DNS was asked (enforce)"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert_eq!(dns.asked(), [""; 0]);
}

#[test]
fn c3_a_claim_to_be_internal_is_proved_by_spf_or_dkim() {
    let key = Ed25519Key::generate_pkcs8().unwrap();
    let public = Ed25519Key::from_pkcs8_der(&key).unwrap();
    let mut zone = zone(&public);
    let public = format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(public.public_key()));
    zone.extend(
        [
            ("news.proof.org", "TXT", "v=spf1 ip4:127.0.0.1 -all"),
            ("proof.org", "TXT", "v=spf1 -all"),
            ("lost.proof.org", "SERVFAIL", ""),
            ("k1._domainkey.proof.org", "TXT", &public),
        ]
        .map(|(owner, kind, value)| (owner.to_owned(), kind, value.to_owned())),
    );
    let dns = Dns::start(zone);
    let way = |direction: &str| {
        format!(
            "[[organization.rule]]\ndescription = \"{direction}\"\naffects = [\"{direction}\"]\n\
             accounts = [\"users\", \"unrecognized\"]\n[organization.rule.then.modify]\n\
             add_headers = [{{ name = \"X-Way\", value = \"{direction}\" }}]\n"
        )
    };
    // An unknown recipient is somebody's for internal mail alone: what at_data refuses without the DNS
    // may be taken with it.
    let renamed = "[[organization.rule]]\ndescription = \"Colleagues find Marie\"\n\
                   affects = [\"internal-receiving\"]\naccounts = [\"unrecognized\"]\n\
                   then = { modify = { replace_recipient = { address = \"marie@proof.org\" } } }\n";
    let folder = Folder::new(&format!(
        "dns = [\"{}\"]\n[[organization]]\nname = \"Proof\"\ndomains = [\"proof.org\"]\n\
         internal_senders = \"authenticated\"\n[[organization.user]]\n\
         address = \"marie@proof.org\"\n{}{}{renamed}",
        dns.address,
        way("inbound"),
        way("internal-receiving"),
    ));
    let serve = folder.serve();
    let stage = Stage { folder, serve, dns, key };
    let own = letter("jean@proof.org");
    for (sender, to, message, want) in [
        ("a@fail.example", "marie", own.clone(), Ok("inbound")),
        // SPF of somebody else's domain proves nothing.
        ("a@pass.example", "marie", own.clone(), Ok("inbound")),
        ("jean@proof.org", "marie", own.clone(), Ok("inbound")),
        ("bounces@news.proof.org", "marie", own.clone(), Ok("internal-receiving")),
        ("a@fail.example", "marie", stage.signed("proof.org", &own), Ok("internal-receiving")),
        (
            "a@fail.example",
            "marie",
            stage.signed("proof.org", &own).replace("and", "or"),
            Ok("inbound"),
        ),
        ("a@fail.example", "marie", stage.signed("reject.example", &own), Ok("inbound")),
        ("jean@lost.proof.org", "marie", own.clone(), Err("451 4.4.3")),
        ("bounces@news.proof.org", "mary", own.clone(), Ok("internal-receiving")),
        ("a@fail.example", "mary", own.clone(), Err("550 5.1.1")),
        ("a@pass.example", "mary", letter("a@pass.example"), Err("550 5.1.1")),
    ] {
        let to = format!("{to}@proof.org");
        let reply = stage.serve.session("mx").message(sender, &[&to], message.as_bytes());
        match want {
            Err(refused) => assert!(reply.starts_with(refused), "{sender}: {reply}"),
            Ok(direction) => {
                queue_id(&reply);
                let came = stage.take("proof", "");
                let line = format!("\nX-Way: {direction}\n");
                assert!(came.contains(&line), "{sender}: {direction}\n{came}");
                assert!(!came.contains("Authentication-Results"), "{came}");
            }
        }
    }
}
