//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures `waypost serve` from end to end, beside a peer where one is given: the two take turns, so that
/// what disturbs the machine disturbs both.
///
/// Everything runs on loopback. A figure is the median of the rounds, and in brackets the least and the
/// most. Exit status: 0 if nothing was lost, came twice or failed; 1 if something did; 2 if nothing could be
/// measured.
#[derive(Parser, Debug)]
#[command(name = "load", version)]
pub(crate) struct Arguments {
    /// What is measured.
    pub(crate) what: What,
    /// The binary of Waypost; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) waypost: Option<PathBuf>,
    /// Compares with the Postfix below this folder: `/` if it is installed, or where its package was
    /// unpacked. Needs root, the user `postfix` and the group `postdrop`.
    #[arg(long, value_name = "ROOT")]
    pub(crate) postfix: Option<PathBuf>,
    /// Measures the source and the sink alone as well: what they can do is the limit of what can be seen.
    #[arg(long)]
    pub(crate) direct: bool,
    /// Leaves out `serve`.
    #[arg(long)]
    pub(crate) no_serve: bool,
    /// Where spools and queues are made; on a disk.
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// How often each case is measured.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// How long a measurement is to take, about.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How many messages, recipients or connections a measurement has, instead of --seconds; for `queued`
    /// 20000 by default.
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Sessions at a time; by default 1,20,100, for `reject`, `connect` and `starttls` 20, for `idle` 10000.
    #[arg(long, value_delimiter = ',')]
    pub(crate) sessions: Vec<usize>,
    /// Octets of a message, or with K or M behind it.
    #[arg(long, value_delimiter = ',', value_parser = size, default_value = "1K,10K,100K")]
    pub(crate) sizes: Vec<usize>,
    /// Messages, or refused recipients, on one connection.
    #[arg(long, value_delimiter = ',')]
    pub(crate) per_connection: Vec<u64>,
    /// Idle sessions of Postfix, which makes a process for each.
    #[arg(long, default_value_t = 500)]
    pub(crate) idle_peer: usize,
    /// Waits so long at most for others to leave the machine alone, before each measurement; 0: not.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) wait_quiet: u64,
    /// Gives up a measurement that makes no progress for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) patience: u64,
    /// Counts the calls that sync, with `strace`; rates mean nothing then.
    #[arg(long)]
    pub(crate) strace: bool,
    /// Appends a JSON line for each measurement; `against` reads them from there.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes the table into the block of this document that is marked for it, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) into: Option<PathBuf>,
    /// Where criterion left its results, for `benches` and `against`.
    #[arg(long, value_name = "FOLDER", default_value = "target/criterion")]
    pub(crate) results: PathBuf,
}

/// What is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Messages from a client to the next hop, through the queue.
    Relay,
    /// The same with STARTTLS, one message a connection.
    Starttls,
    /// Recipients that are refused.
    Reject,
    /// Connections that say EHLO and QUIT.
    Connect,
    /// The memory of sessions that do nothing.
    Idle,
    /// The memory and the disk of messages that wait, since the next hop is down.
    Queued,
    /// Nothing: makes a table of what `cargo bench` found last.
    Benches,
    /// Nothing: makes one table of what has a peer, of these and of the lines of --json.
    Against,
}

impl What {
    /// Its name, as on the command line and in the marks of documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Starttls => "starttls",
            Self::Reject => "reject",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::Queued => "queued",
            Self::Benches => "benches",
            Self::Against => "against",
        }
    }

    /// Sessions at a time, by default.
    pub(crate) fn sessions(self) -> &'static [usize] {
        match self {
            Self::Relay => &[1, 20, 100],
            Self::Idle => &[10_000],
            _ => &[20],
        }
    }

    /// Messages or recipients on a connection, by default. Ten errors are what a peer lets pass unpunished.
    pub(crate) fn per_connection(self) -> &'static [u64] {
        match self {
            Self::Relay => &[1, 100],
            Self::Reject => &[1, 10],
            _ => &[1],
        }
    }

    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Reject => "refused/s",
            Self::Connect => "connections/s",
            _ => "messages/s",
        }
    }

    /// Whether messages are sent.
    pub(crate) fn has_mail(self) -> bool {
        matches!(self, Self::Relay | Self::Starttls)
    }
}

fn size(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: usize = digits.parse().map_err(|_| {
        "a size is a number of octets, or of KiB as in 10K, or of MiB as in 1M".to_owned()
    })?;
    let octets = number.checked_mul(factor).filter(|octets| *octets <= 50 << 20);
    octets.ok_or_else(|| "a message has 50M at most".to_owned())
}
