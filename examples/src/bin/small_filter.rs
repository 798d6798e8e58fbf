//! A small mail filter for Postfix, Sendmail or `waypost serve` (`waypost-milter`): it refuses subjects.
//!
//! ```text
//! small_filter 127.0.0.1:8891 "cheap pills" lottery
//! ```
//!
//! A message whose subject holds one of the texts, compared without case, is refused; every other one gets a
//! line `X-Small-Filter: passed`. Sockets and a thread a connection, no runtime. Try it with
//! `filter_ask - --milter milter:127.0.0.1:8891 --client-ip 192.0.2.1 < message.eml`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use waypost_milter::server::Server;
use waypost_milter::{Actions, Command, FieldName, FieldValue, HeaderEdit};
use waypost_milter::{Modification, Response, Steps};
use waypost_types::Reply;

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, texts @ ..] = words.as_slice() else {
        return Err("usage: small_filter LISTEN TEXT...".into());
    };
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    let listener = TcpListener::bind(listen)?;
    println!("listening on {}", listener.local_addr()?);
    std::thread::scope(|threads| {
        for stream in listener.incoming().flatten() {
            threads.spawn(|| serve(stream, &texts).inspect_err(|error| eprintln!("{error}")));
        }
    });
    Ok(())
}

/// One connection of a mail server: as many messages as it likes.
fn serve(mut stream: TcpStream, texts: &[String]) -> Result<(), Fault> {
    stream.set_read_timeout(Some(Duration::from_secs(3600)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let passed = HeaderEdit::Add {
        name: FieldName::new("X-Small-Filter")?,
        value: FieldValue::new("passed")?,
    };
    let mut filter = Server::new(Actions::ADD_HEADERS, Steps::NO_BODY);
    let (mut buffer, mut found, mut out) = ([0; 16 << 10], None, Vec::new());
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        filter.handle_bytes(buffer.get(..count).unwrap_or_default());
        while let Some(command) = filter.next(&mut out)? {
            let mut answers = vec![Response::Continue];
            match command {
                Command::Mail { .. } => found = None,
                Command::Header { name, value } if name.eq_ignore_ascii_case(b"subject") => {
                    let subject = String::from_utf8_lossy(value).to_lowercase();
                    found = texts.iter().find(|text| subject.contains(*text));
                }
                Command::EndOfMessage(_) => match found {
                    Some(text) => {
                        let words = format!("A subject with `{text}` is not taken here");
                        answers = vec![Response::Reply(Reply::new(554, (5, 7, 1), &words))];
                    }
                    None => {
                        answers.insert(0, Response::Modify(Modification::Header(passed.clone())))
                    }
                },
                _ => {}
            }
            if filter.waiting().is_some() {
                for answer in answers {
                    filter.answer(&answer, &mut out)?;
                }
            }
        }
        stream.write_all(&std::mem::take(&mut out))?;
    }
}
