// From README.md, by scripts/outside --update.
use waypost_types::{Domain, HeaderBlock, Mailbox};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let marie: Mailbox = "Marie@Mail.Solarmora.COM".parse()?;
    assert_eq!(marie, "marie@mail.solarmora.com".parse()?); // compared without case
    let ours: Domain = "solarmora.com".parse()?;
    assert!(marie.domain().is_some_and(|domain| domain.is_at_or_below(&ours)));

    let header = HeaderBlock::of(b"From: marie@solarmora.com\r\nSubject: hello\r\n\r\nSubject: body\r\n");
    assert_eq!(header.fields().count(), 2);
    Ok(())
}
