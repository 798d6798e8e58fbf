// From README.md, by scripts/outside --update.
use waypost_auth::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let found = Authentication {
        checked: Some([203, 0, 113, 7].into()),
        spf: Spf::new(SpfResult::Fail, Identity::MailFrom, Some("friend.example")),
        dkim: vec![],
        dmarc: Dmarc::new(DmarcResult::None, None),
    };
    let verdict = found.verdict(Mode::Enforce, Client::Direct);
    assert_eq!(verdict.refusal().expect("refused").reply.code(), 550);
    let gateway = found.verdict(Mode::Enforce, Client::Gateway); // of one's own: only reported
    assert_eq!(gateway.action, Action::Accept);

    let (by, sender) = ("mx.solarmora.com".parse()?, "a@friend.example".parse()?);
    let stamp = Stamp {
        by: &by,
        client_ip: [198, 51, 100, 1].into(),
        source_ip: found.checked,
        because: "first-external",
        helo: Some("gw.example"),
        sender: &sender,
    };
    let lines: String = stamp.lines(&found).iter().map(folded).collect();
    assert!(lines.starts_with("Authentication-Results: mx.solarmora.com;\r\n\tspf=fail ("));
    Ok(())
}
