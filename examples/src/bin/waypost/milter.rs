//! `waypost milter`: gives a mail server that receives and delivers by itself the decisions about messages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use waypost_config::milter::limits;
use waypost_server::{
    ByName, Front, FrontAddress, Inherited, MilterRecipients, MilterSettings, RecipientsAtOnce,
};

use crate::answer::{Answer, Failure};
use crate::policy_server::{Asked, run_front};
use crate::sockets::Rights;

/// Where it listens if nothing else is said, nor handed over.
const USUAL: FrontAddress =
    FrontAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10033));

/// Gives Postfix or sendmail, as a milter, what serve decides about messages: refusals, the source IP behind
/// gateways, spam tags, header fields, subject prefixes, attachments removed, quarantine, recipients. The decisions are
/// those of serve with the same configuration, as far as a milter can carry them out. Prints `ready` on stderr;
/// SIGHUP or a changed file reloads; SIGTERM ends in order. Sockets of a service manager are taken (LISTEN_FDS) by
/// the name milter or by their address, and it is told of the state (NOTIFY_SOCKET); started as root, it becomes the
/// `user` of the configuration. docs/MILTER.md says what to write in main.cf and sendmail.mc.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Where it listens: inet:127.0.0.1:10033, which is the default unless a socket named milter is handed over, or
    /// unix:/run/waypost/milter.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<FrontAddress>,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    rights: Rights,
    /// Prints the settings that a milter cannot follow as serve does, each with the reason, and ends.
    #[arg(long)]
    list_limits: bool,
    /// Writes the log, or the list, as JSON.
    #[arg(long)]
    json: bool,
    /// What is logged, as `waypost serve --log` takes it.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// How a milter does its work.
#[derive(clap::Args)]
pub(crate) struct Work {
    /// The listener of the configuration that a port stands for whose {daemon_name} is the name of none; otherwise such a port
    /// takes mail from outside and relayed mail.
    #[arg(long, value_name = "NAME")]
    listener: Option<Box<str>>,
    /// Leaves recipients as they are: tables of the mail server rename and add them.
    #[arg(long)]
    keep_recipients: bool,
    /// Takes one recipient a message (452 4.5.3 to the others, which come next), so that each gets the changes
    /// that are for him.
    #[arg(long)]
    one_recipient: bool,
}

impl Work {
    pub(crate) fn settings(&self) -> MilterSettings {
        MilterSettings {
            listener: self.listener.clone(),
            recipients: match self.keep_recipients {
                true => MilterRecipients::Kept,
                false => MilterRecipients::Changed,
            },
            recipients_at_once: match self.one_recipient {
                true => RecipientsAtOnce::One,
                false => RecipientsAtOnce::Several,
            },
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    // While there is one thread: it takes variables out of the environment.
    let inherited = Inherited::from_environment();
    let is_handed = inherited.as_ref().is_ok_and(|inherited| inherited.has("milter"));
    let milter = match arguments.listen.as_slice() {
        [] if !is_handed => vec![USUAL],
        listen => listen.to_vec(),
    };
    let front = Front {
        milter,
        milter_settings: arguments.work.settings(),
        socket_rights: arguments.rights.of_sockets()?,
        by_name: ByName::Milter,
        ..Front::default()
    };
    let asked = Asked {
        config: &arguments.config,
        json: arguments.json,
        log: arguments.log.as_deref(),
        list_limits: arguments.list_limits,
        server: "a mail server with this milter",
        limits: &limits,
    };
    run_front(&asked, front, inherited)
}
