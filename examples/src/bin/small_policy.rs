//! A policy service for Postfix in one page (`waypost-postfix`): who may be written to.
//!
//! ```text
//! small_policy marie@solarmora.com jean@solarmora.com < requests
//! ```
//!
//! Requests come in on standard input, answers go out on standard output, as Postfix's `spawn(8)` has it; in
//! `master.cf`: `who unix - n n - 0 spawn user=nobody argv=/usr/bin/small_policy marie@solarmora.com`, and in
//! `main.cf`: `check_policy_service unix:private/who`. A recipient who is not listed is refused with
//! `550 5.1.1`; about all else another restriction decides.

use std::error::Error;
use std::io::{Read as _, Write as _};

use waypost_postfix::{Action, PolicyReader, ProtocolState};
use waypost_types::{Mailbox, Reply};

fn main() -> Result<(), Box<dyn Error>> {
    let users: Vec<Mailbox> =
        std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    if users.is_empty() {
        return Err("usage: small_policy ADDRESS...".into());
    }
    let (mut reader, mut buffer) = (PolicyReader::default(), [0; 4 << 10]);
    loop {
        let count = std::io::stdin().read(&mut buffer)?;
        if count == 0 && reader.is_midway() {
            return Err("the last request has no end; an empty line ends it".into());
        }
        if count == 0 {
            return Ok(());
        }
        reader.feed(buffer.get(..count).unwrap_or_default());
        while let Some(request) = reader.next_request()? {
            let action = match &request.recipient {
                Some(Ok(to)) if users.contains(to) => Action::Dunno,
                Some(to) if request.state == ProtocolState::Rcpt => {
                    let to = to.as_ref().map_or_else(ToString::to_string, ToString::to_string);
                    Action::from(Reply::new(550, (5, 1, 1), &format!("{to} is not here")))
                }
                _ => Action::Dunno,
            };
            let mut output = std::io::stdout();
            output.write_all(action.to_string().as_bytes())?;
            output.flush()?;
        }
    }
}
