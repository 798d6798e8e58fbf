//! What follows from SPF and DMARC (`waypost-auth`): a message on standard input is stamped as a server
//! would, with the lines of forgers gone.
//!
//! ```text
//! what_follows mx.solarmora.com 203.0.113.7 fail < message.eml
//! ```
//!
//! The arguments: who we are, the client, and what SPF said: pass, fail, softfail, neutral or none. Prints the
//! verdict on standard error, and the message with its new lines.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;

use waypost_auth::{
    Authentication, Client, Dmarc, DmarcResult, Identity, Mode, Spf, SpfResult, Stamp, folded,
    without_forged,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [us, client, said] = arguments.as_slice() else {
        return Err("usage: what_follows OUR-NAME CLIENT pass|fail|softfail|neutral|none".into());
    };
    let (us, client_ip): (_, IpAddr) = (us.parse()?, client.parse()?);
    let results = [
        SpfResult::Pass,
        SpfResult::Fail,
        SpfResult::SoftFail,
        SpfResult::Neutral,
        SpfResult::None,
    ];
    let result = results.into_iter().find(|result| result.as_str() == said);
    let mut message = Vec::new();
    std::io::stdin().read_to_end(&mut message)?;

    let found = Authentication {
        checked: Some(client_ip),
        spf: Spf::new(result.ok_or("no such result")?, Identity::MailFrom, Some("friend.example")),
        dkim: Vec::new(),
        dmarc: Dmarc::new(DmarcResult::None, None),
    };
    let verdict = found.verdict(Mode::Enforce, Client::Direct);
    match verdict.refusal() {
        Some(refusal) => eprintln!("refused: {}", refusal.reply),
        None => eprintln!("accepted"),
    }
    let sender = "a@friend.example".parse()?;
    let stamp = Stamp {
        by: &us,
        client_ip,
        source_ip: found.checked,
        because: "client",
        helo: Some("mail.friend.example"),
        sender: &sender,
    };
    let (message, forged) = without_forged(message, &us);
    eprintln!("{forged} forged lines are gone");
    let mut out = std::io::stdout().lock();
    for line in &stamp.lines(&found) {
        out.write_all(folded(line).as_bytes())?;
    }
    Ok(out.write_all(&message)?)
}
