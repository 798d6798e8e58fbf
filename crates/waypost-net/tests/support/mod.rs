//! A peer on loopback that does what a script says.

#![allow(dead_code, unreachable_pub)] // Each test program uses a part.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use waypost_net::client::{ConnectSettings, Hop};
use waypost_net::tls::TlsPolicy;
use waypost_smtp::client::{Message, SharedBytes, Timeouts, Transaction};
use waypost_types::{HostPort, MailParameters, Mailbox, ReversePath};

/// What the peer does next.
#[derive(Clone)]
pub enum Step {
    /// Writes this.
    Say(&'static str),
    /// Reads lines up to one that is this, or begins so.
    Hear(&'static str),
    /// Reads one octet.
    Octet,
    /// Goes on inside TLS.
    Tls(Arc<ServerConfig>),
    /// Says no more, and reads until the client goes.
    Stall,
}

/// Greeting, EHLO, and one message taken with PIPELINING.
pub fn greeting() -> Vec<Step> {
    vec![
        Step::Say("220 mx.example\r\n"),
        Step::Hear("EHLO"),
        Step::Say("250-mx.example\r\n250 PIPELINING\r\n"),
    ]
}

/// One message to one recipient, taken.
pub fn message() -> Vec<Step> {
    vec![
        Step::Hear("DATA"),
        Step::Say("250 ok\r\n250 ok\r\n354 go\r\n"),
        Step::Hear("."),
        Step::Say("250 2.0.0 taken\r\n"),
    ]
}

pub fn goodbye() -> Vec<Step> {
    vec![Step::Hear("QUIT"), Step::Say("221 bye\r\n")]
}

/// A peer that takes one connection for each script, in order, and then none. Ends with the lines
/// that it heard in each; a client that goes before the script's end only ends that connection.
pub async fn peer(scripts: Vec<Vec<Step>>) -> (SocketAddr, JoinHandle<Vec<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut heard = Vec::new();
        for script in scripts {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut lines = Vec::new();
            let mut script = script.into_iter();
            let mut clear = BufReader::new(tcp);
            if let Some(config) = run(&mut clear, &mut script, &mut lines).await {
                let acceptor = tokio_rustls::TlsAcceptor::from(config);
                if let Ok(stream) = acceptor.accept(clear.into_inner()).await {
                    lines.push("(TLS)".to_owned());
                    let mut stream = BufReader::new(stream);
                    run(&mut stream, &mut script, &mut lines).await;
                    let _ = stream.shutdown().await;
                }
            }
            heard.push(lines);
        }
        heard
    });
    (address, task)
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    script: &mut std::vec::IntoIter<Step>,
    heard: &mut Vec<String>,
) -> Option<Arc<ServerConfig>> {
    for step in script {
        match step {
            Step::Say(text) => stream.write_all(text.as_bytes()).await.ok()?,
            Step::Tls(config) => return Some(config),
            Step::Hear(text) => loop {
                let line = line(stream).await?;
                let found = if text == "." { line == "." } else { line.starts_with(text) };
                heard.push(line);
                if found {
                    break;
                }
            },
            Step::Octet => {
                stream.read_u8().await.ok()?;
            }
            Step::Stall => {
                while let Some(line) = line(stream).await {
                    heard.push(line);
                }
            }
        }
        stream.flush().await.ok()?;
    }
    None
}

async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = Vec::new();
    match stream.read_until(b'\n', &mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned()),
    }
}

pub fn settings() -> ConnectSettings {
    let long = Duration::from_secs(20);
    let mut settings = ConnectSettings::new("us.example".parse().unwrap());
    settings.connect = long;
    settings.timeouts = Timeouts {
        greeting: long,
        command: long,
        mail: long,
        rcpt: long,
        data_start: long,
        data_block: long,
        data_end: long,
    };
    settings
}

pub fn hop(address: SocketAddr, tls: TlsPolicy) -> Hop {
    Hop::new(HostPort::parse_or("mx.example", address.port()).unwrap(), tls)
}

pub fn transaction(text: &str) -> Transaction {
    Transaction {
        sender: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: vec!["a@mx.example".parse::<Mailbox>().unwrap().into()],
        message: Message::new([SharedBytes::new(text.to_owned())]).unwrap(),
    }
}
