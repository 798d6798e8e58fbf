//! A milter: sessions of a mail server that receives and delivers by itself, put to the policy.
//!
//! What the server tells is gathered by [`Intake`], which has no I/O; [`judge`] asks the policy, the DNS and a
//! filter as a session of `serve` does; [`changed`] makes changes of headers and bodies. Here are time
//! limits, room in memory, and the octets.
//!
//! **Bounds:** idle, a connection holds no octets but macros (64 KiB at most; a mail server tells some hundred
//! octets of them). What is kept of a message and of a frame has a share of the room that messages have in `serve`, so
//! all connections together take no more than that; who finds no room is not read from, and after a minute
//! closed, for which the mail server defers.

mod changed;
mod judge;
mod notice;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use waypost_config::milter::{needs_body, wanted_actions};
use waypost_milter::{Actions, Event, Fault, Intake, IntakeLimits, Response};

use super::Stream;
use super::read::read;
use crate::core::Core;
use crate::room::{SMALL, Share};
use judge::Judge;

/// How a milter does its work.
#[derive(Clone, Debug, Default)]
pub struct MilterSettings {
    /// The listener that a port stands for whose name (`{daemon_name}`) is that of none; `None`: one for
    /// mail from outside and for relayed mail.
    pub listener: Option<Box<str>>,
    /// What becomes of recipients that rules rename or add.
    pub recipients: MilterRecipients,
    /// How many recipients a message may have.
    pub recipients_at_once: RecipientsAtOnce,
}

/// What a milter does to recipients that rules rename or add (C6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MilterRecipients {
    /// The mail server is told to take them out and to add them.
    #[default]
    Changed,
    /// They stay as they are: its own tables see to it.
    Kept,
}

/// How many recipients a message may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecipientsAtOnce {
    /// As many as the policy allows; changes are those that all of them get.
    #[default]
    Several,
    /// One: `452 4.5.3` to the others, which a client sends again at once.
    One,
}

/// How long a connection may say nothing. A client has five minutes for each command, and a mail server may
/// keep a session open.
const IDLE: Duration = Duration::from_secs(3600);
/// Octets that a frame may have beside what is kept of a message already.
const FRAME_OCTETS: u64 = 1 << 20;
/// How long the rest of a frame may take to come. A mail server writes it at once.
const FRAME: Duration = Duration::from_secs(60);
/// How long the mail server may take to read an answer.
const WRITE: Duration = Duration::from_secs(30);
/// How often it is told that a message is still worked on: it waits at least so long.
const PROGRESS: Duration = Duration::from_secs(10);

/// Why a connection is closed though the mail server did not ask for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// What came is not the protocol.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A frame does not end.
    #[error("nothing came for a minute in the middle of a frame")]
    Slow,
    /// There is no room in memory.
    #[error(
        "no room in memory for a message of {0} octets and more; the mail server tells the client to come again"
    )]
    NoRoom(u64),
}

/// Answers until the other side closes, says nothing for an hour, or a stop is asked for between messages.
pub(super) async fn serve(
    mut stream: Box<dyn Stream>,
    core: Arc<Core>,
    settings: Arc<MilterSettings>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    let policy = core.policy();
    let limits = &policy.server.limits;
    let body = needs_body(&policy).then_some(limits.message_size);
    let kept = IntakeLimits { header: limits.header_size, body };
    let most = limits.header_size.saturating_add(body.unwrap_or(0)).saturating_add(FRAME_OCTETS);
    let mut actions = wanted_actions(&policy);
    if settings.recipients == MilterRecipients::Kept {
        let recipients = Actions::ADD_RECIPIENT.and(Actions::DELETE_RECIPIENT);
        actions = Actions(actions.0 & !recipients.0);
    }
    drop(policy);
    let mut intake = Intake::new(actions, kept);
    let mut judge = Judge::new(Arc::clone(&core), settings, body.is_some());
    let mut share: Option<Share> = None;
    loop {
        let mut out = Vec::new();
        while let Some(event) = intake.next(&mut out)? {
            let answers = match event {
                Event::Mail { client, sender, parameters } => {
                    vec![judge.mail(&client, &sender, &parameters)]
                }
                Event::Rcpt { recipient } => vec![judge.rcpt(&recipient)],
                Event::Message(message) => {
                    let agreed = intake.agreed().map(|agreed| agreed.actions);
                    // On the heap, and only while there is a message.
                    let mut judged = Box::pin(judge.message(message, agreed.unwrap_or_default()));
                    loop {
                        tokio::select! {
                            answers = &mut judged => break answers,
                            () = tokio::time::sleep(PROGRESS) => {
                                let mut still = std::mem::take(&mut out);
                                let _ = intake.answer(&Response::Progress, &mut still);
                                write(&mut stream, &still).await?;
                            }
                        }
                    }
                }
            };
            for answer in answers {
                if let Err(error) = intake.answer(&answer, &mut out) {
                    // What was not agreed upon is not planned.
                    tracing::error!(%error, "an answer cannot be given");
                }
            }
            if intake.waiting().is_some() {
                let _ = intake.answer(&Response::TempFail, &mut out);
            }
            write(&mut stream, &std::mem::take(&mut out)).await?;
        }
        write(&mut stream, &out).await?;
        drop(out);
        intake.give_back();
        let octets = intake.octets();
        make_room(&core, &mut share, octets, most).await?;
        let is_midway = intake.is_midway();
        let patience = if is_midway { FRAME } else { IDLE };
        let reading = read(&mut *stream, |octets| intake.handle_bytes(octets));
        let read = tokio::select! {
            _ = stop.wait_for(|stop| *stop), if octets == 0 && !judge.is_in_message() => return Ok(()),
            read = tokio::time::timeout(patience, reading) => read,
        };
        match read {
            Err(_) if is_midway => return Err(Closed::Slow),
            Err(_) | Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

/// Room for what is kept of a message; given back once it is gone.
async fn make_room(
    core: &Core,
    share: &mut Option<Share>,
    octets: u64,
    most: u64,
) -> Result<(), Closed> {
    if octets == 0 {
        *share = None;
        return Ok(());
    }
    if share.is_none() {
        *share = core.spool.intake().share(SMALL).await;
    }
    let Some(share) = share else { return Err(Closed::NoRoom(octets)) };
    if octets > share.octets() && !core.spool.intake().grow(share, octets, most).await {
        return Err(Closed::NoRoom(octets));
    }
    Ok(())
}

async fn write(stream: &mut Box<dyn Stream>, octets: &[u8]) -> io::Result<()> {
    if octets.is_empty() {
        return Ok(());
    }
    let written = tokio::time::timeout(WRITE, stream.write_all(octets)).await;
    written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
