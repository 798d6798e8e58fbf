//! `waypost demo`: the main job with nothing set up.
//!
//! A gateway, a mailbox system, a second system and a smart host run on free loopback ports and talk
//! real SMTP and TLS. Whether a message arrived is read from the receiving servers, never from the
//! gateway's own word.

mod configuration;
mod letters;
mod receivers;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_config::policy::{DryRun, Explanation, Policy};
use waypost_net::client::{ConnectSettings, Hop, connect};
use waypost_net::dns::StaticResolver;
use waypost_net::tls::{TlsClients, TlsPolicy};
use waypost_server::{Options, Server};
use waypost_smtp::client::{Credentials, Message, SharedBytes, TlsUse, Transaction};
use waypost_smtp::end_of_data::stuff;
use waypost_types::{HostPort, MailParameters, Mailbox, Outcome, Recipient, TlsState};

use crate::answer::{Answer, Failure};
use letters::{Letter, PASSWORD};
use receivers::Receivers;
use report::{Line, print};

/// How long a message may be under way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a gateway and the systems around it on loopback, sends sample mail, and shows what became
/// of it. Exit status 0 only if every message arrived where it should, and nowhere else.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leaves everything running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| input("the system gives no threads", error))?;
    runtime.block_on(async {
        let demo = Demo::start().await?;
        let lines = demo.play(letters::all()).await?;
        let all_well = lines.iter().all(Line::is_well);
        print(&lines, arguments.json)?;
        if arguments.keep {
            demo.keep().await?;
        }
        demo.stop().await;
        Ok(if all_well { Answer::Done } else { Answer::No })
    })
}

fn input(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Input(format!("demo: {what}: {error}"))
}

/// Everything that runs.
struct Demo {
    policy: Arc<Policy>,
    gateway: Server,
    receivers: Receivers,
    folder: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(|error| input("no folder can be made", error))?;
        let receivers = Receivers::start(folder.path()).await?;
        let loaded = configuration::write_and_load(folder.path(), &receivers)?;
        let resolver = receivers::SYSTEMS.iter().fold(StaticResolver::default(), |all, system| {
            all.with_addresses(system.host, &["127.0.0.1"])
        });
        let resolver = resolver.with_addresses("other-name.demo.example", &["127.0.0.1"]);
        let policy = loaded;
        let options = Options {
            policy: Arc::clone(&policy),
            base: folder.path().to_owned(),
            resolver: Some(Arc::new(resolver)),
            authenticator: None,
        };
        let gateway = Server::start(options).await.map_err(|error| input("no gateway", error))?;
        Ok(Self { policy, gateway, receivers, folder })
    }

    /// Sends the letters one after the other and waits for each to arrive; then looks for mail that
    /// nobody expected.
    async fn play(&self, letters: Vec<Letter>) -> Result<Vec<Line>, Failure> {
        let mut lines = Vec::with_capacity(letters.len());
        for letter in letters {
            lines.push(self.send(letter).await?);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.gateway.messages() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let arrivals = self.receivers.arrivals();
        for line in &mut lines {
            line.judge(&arrivals);
        }
        let strays = arrivals.iter().filter(|arrival| !lines.iter().any(|l| l.owns(arrival)));
        let strays: Vec<Line> = strays.map(Line::stray).collect();
        lines.extend(strays);
        Ok(lines)
    }

    async fn send(&self, letter: Letter) -> Result<Line, Failure> {
        let explanation = self.explain(&letter)?;
        let started = Instant::now();
        let replies = self.submit(&letter).await?;
        let wanted = letter.expected.len();
        self.receivers.wait_for(&letter.mark(), wanted, PATIENCE).await;
        Ok(Line::new(letter, explanation, replies, started))
    }

    /// What the policy says of the same transaction without sending it.
    fn explain(&self, letter: &Letter) -> Result<Explanation, Failure> {
        let message = letter.message();
        let run = DryRun {
            client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            listener: Some(letter.listener.name()),
            helo: Some("client.demo.example"),
            auth: letter.auth,
            tls: TlsState::Encrypted,
            mail_from: letter.from,
            rcpt_to: letter.to.clone(),
            message: message.as_bytes(),
        };
        self.policy.explain(&run).map_err(|error| input("a letter cannot be explained", error))
    }

    /// Hands a letter to the gateway over SMTP and TLS, as any client would.
    async fn submit(&self, letter: &Letter) -> Result<Vec<Outcome>, Failure> {
        let wrong = |error: &dyn std::fmt::Display| input("a letter cannot be sent", error);
        let name = letter.listener.name();
        let found = self.gateway.addresses().find(|(listener, _)| *listener == name);
        let (_, address) = found.ok_or_else(|| wrong(&format!("no listener {name}")))?;
        let tls = TlsPolicy { tls: TlsUse::Required, ..TlsPolicy::opportunistic() };
        let mut hop = Hop::new(HostPort::new(address.ip(), address.port()), tls);
        hop.credentials =
            letter.auth.map(|user| Credentials { user: user.into(), password: PASSWORD.into() });
        let ehlo = "client.demo.example".parse().map_err(|error| wrong(&error))?;
        let settings = ConnectSettings::new(ehlo);
        let clients = TlsClients::default();
        let connected = connect(address.ip(), &hop, &settings, &clients).await;
        let mut connection = connected.map_err(|error| wrong(&error))?;
        let body = stuff(letter.message().as_bytes()).into_owned();
        let message = Message::new([SharedBytes::new(body)]).map_err(|error| wrong(&error))?;
        let recipients: Result<Vec<Recipient>, _> =
            letter.to.iter().map(|to| to.parse::<Mailbox>().map(Recipient::from)).collect();
        let transaction = Transaction {
            sender: letter.from.parse().map_err(|error| wrong(&error))?,
            parameters: MailParameters::default(),
            recipients: recipients.map_err(|error| wrong(&error))?,
            message,
        };
        let outcomes = connection.send(transaction).await;
        connection.quit().await;
        Ok(outcomes)
    }

    async fn keep(&self) -> Result<(), Failure> {
        for (name, address) in self.gateway.addresses() {
            println!("gateway, listener {name}: {address}");
        }
        for (system, address) in self.receivers.addresses() {
            println!("{system}: {address}");
        }
        println!("configuration: {}", self.folder.path().join("waypost.toml").display());
        println!("running until Ctrl-C");
        tokio::signal::ctrl_c().await.map_err(|error| input("Ctrl-C cannot be heard", error))
    }

    async fn stop(self) {
        self.gateway.stop(Duration::from_secs(5)).await;
        self.receivers.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use receivers::System;

    async fn play(letters: Vec<Letter>) -> Vec<Line> {
        let demo = Demo::start().await.unwrap();
        let lines = demo.play(letters).await.unwrap();
        demo.stop().await;
        lines
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_letter_arrives_where_it_should() {
        let lines = play(letters::all()).await;
        let wrong: Vec<_> = lines.iter().filter(|line| !line.is_well()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        for feature in ["A", "B", "C", "D", "E"] {
            assert!(lines.iter().any(|line| line.feature == feature), "{feature}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_wrong_expectation_is_seen() {
        let mut letters = letters::all();
        letters.retain(|letter| letter.feature == "C");
        letters.truncate(1);
        let first = letters.first_mut().and_then(|letter| letter.expected.first_mut()).unwrap();
        assert_eq!(first.system, System::Mailboxes);
        first.system = System::Second;
        let lines = play(letters).await;
        assert!(lines.iter().any(|line| !line.is_well()), "{lines:#?}");
    }
}
