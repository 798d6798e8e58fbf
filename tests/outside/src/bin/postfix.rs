// From README.md, by scripts/outside --update.
use waypost_postfix::{Action, PolicyReader};
use waypost_types::Reply;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = PolicyReader::default();
    reader.feed(b"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=1.2.3\n\
                  client_address=192.0.2.7\nsender=a@b.example\nrecipient=x@solarmora.com\n\n");
    while let Some(request) = reader.next_request()? {
        let known = request.recipient == Some(Ok("marie@solarmora.com".parse()?));
        let action = match known {
            true => Action::Dunno,
            false => Action::from(Reply::new(550, (5, 1, 1), "No such user here")),
        };
        assert_eq!(action.to_string(), "action=550 5.1.1 No such user here\n\n");
    }
    Ok(())
}
