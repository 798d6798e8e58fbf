//! Waypost inside a daemon of one's own, by the facade (`waypost`): the users are those of the daemon.
//!
//! The daemon has its own idea of what is to be configured; it makes a policy of it in memory, starts the
//! server on free ports, takes a message as anybody on the network would, and ends in order when its
//! own work is done:
//!
//! ```text
//! own_daemon marie jean
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use waypost::config::diagnostics::SourceFile;
use waypost::config::policy::Policy;
use waypost::config::{compile, raw};
use waypost::server::{Options, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let users: Vec<String> = std::env::args().skip(1).collect();
    let Some(first) = users.first() else { return Err("usage: own_daemon USER...".into()) };
    let folder = tempfile::tempdir()?;
    let policy = Arc::new(policy(&users)?);
    let base = folder.path().to_owned();
    let options = Options { policy, base, resolver: None, authenticator: None };
    let server = Server::start(options).await?;
    let (_, address) = server.addresses().next().ok_or("no listener")?;
    println!("listening on {address}");

    // What the daemon is really for goes here; this one writes a letter to its first user and to nobody.
    let addresses = [format!("{first}@ours.example"), "nobody@ours.example".to_owned()];
    let replies = tokio::task::spawn_blocking(move || letter(address, &addresses)).await??;
    replies.iter().for_each(|reply| println!("{reply}"));

    while server.messages() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop(Duration::from_secs(5)).await;
    let new = folder.path().join("spool/maildir/ours.example").join(first).join("new");
    println!("{} in the mailbox of {first}", std::fs::read_dir(new)?.count());
    Ok(())
}

/// The daemon's settings as a policy. Text is the way in, so every error is told with its cure.
fn policy(users: &[String]) -> Result<Policy, Box<dyn Error>> {
    let mut text = String::from(
        "server = { hostname = \"mx.ours.example\", spool = \"spool\" }\n\
         listener = [{ name = \"mx\", role = \"mx\", bind = \"127.0.0.1:0\" }]\n\
         [[organization]]\nname = \"Ours\"\ndomains = [\"ours.example\"]\nlicences = 1\n",
    );
    for user in users {
        text += &format!("[[organization.user]]\naddress = {:?}\n", format!("{user}@ours.example"));
    }
    let (config, mut report) = raw::read(SourceFile::new("own settings", text), Vec::new())?;
    let files = HashMap::<String, Vec<u8>>::new();
    let compiled = compile(&config, &files, &mut report);
    Ok(compiled.ok_or_else(|| report.render(false))?.into_policy("own"))
}

/// Sends a message to each address that is taken; what was said to each.
fn letter(server: SocketAddr, to: &[String]) -> std::io::Result<Vec<String>> {
    let mut stream = BufReader::new(TcpStream::connect(server)?);
    let mut replies = vec![said(&mut stream)?];
    let mut commands = vec!["HELO daemon.example".into(), "MAIL FROM:<a@elsewhere.example>".into()];
    commands.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
    commands.extend(["DATA".into(), "Subject: hello\r\n\r\nhello\r\n.".into(), "QUIT".into()]);
    for command in commands {
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        replies.push(said(&mut stream)?);
    }
    Ok(replies)
}

fn said(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
