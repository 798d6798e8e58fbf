//! `waypost milter`: gives a mail server that receives and delivers by itself the decisions about messages.

use std::path::PathBuf;

use waypost_config::milter::limits;
use waypost_server::{Front, FrontAddress, MilterRecipients, MilterSettings, RecipientsAtOnce};

use crate::answer::{Answer, Failure};
use crate::policy_server::{Asked, run_front};

/// Gives Postfix or sendmail, as a milter, what serve decides about messages: refusals, the source IP behind
/// gateways, spam tags, header fields, subject prefixes, attachments removed, quarantine, recipients. The decisions are
/// those of serve with the same configuration, as far as a milter can carry them out. Prints `ready` on stderr;
/// SIGHUP or a changed file reloads; SIGTERM ends in order. docs/MILTER.md says what to write in main.cf
/// and sendmail.mc.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Where it listens: inet:127.0.0.1:10033 or unix:/run/waypost/milter.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10033")]
    listen: Vec<FrontAddress>,
    #[command(flatten)]
    work: Work,
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
    let front = Front {
        milter: arguments.listen.clone(),
        milter_settings: arguments.work.settings(),
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
    run_front(&asked, front)
}
