//! Both sides of the protocol with two buffers between them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test says what it means, and no test uses all"
)]

use waypost_milter::client::{Client, Dialogue};
use waypost_milter::server::Server;
use waypost_milter::{Command, Fault, FilterQuestion, FilterVerdict, Response, Step};
use waypost_types::{Domain, Mailbox, ReversePath};

/// What questions borrow.
pub(crate) struct Message {
    pub(crate) own: Domain,
    pub(crate) sender: ReversePath,
    pub(crate) recipients: Vec<Mailbox>,
    pub(crate) text: Vec<u8>,
}

impl Message {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mailbox = |text: &str| text.parse::<Mailbox>().unwrap();
        Self {
            own: "mx.solarmora.com".parse().unwrap(),
            sender: ReversePath::Mailbox(mailbox("a@elsewhere.example")),
            recipients: vec![mailbox("marie@solarmora.com"), mailbox("paul@solarmora.com")],
            text: text.to_vec(),
        }
    }

    /// From a source behind a gateway.
    pub(crate) fn question(&self) -> FilterQuestion<'_> {
        let gateway = "192.0.2.25".parse().unwrap();
        let mut question =
            FilterQuestion::new(&self.own, gateway, &self.sender, &self.recipients, &self.text);
        question.source_ip = Some("203.0.113.9".parse().unwrap());
        question.helo = Some("client.example");
        question
    }
}

/// A command as text.
pub(crate) fn shown(command: &Command<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match command {
        Command::Connect { host_name, peer } => format!("connect {} {peer:?}", text(host_name)),
        Command::Helo(name) => format!("helo {}", text(name)),
        Command::Mail { path, .. } => format!("mail {}", text(path)),
        Command::Rcpt { path, .. } => format!("rcpt {}", text(path)),
        Command::Header { name, value } => format!("header {}:{}", text(name), text(value)),
        Command::Body(piece) => format!("body {}", text(piece)),
        Command::EndOfMessage(piece) => format!("end of message {}", text(piece)),
        other => other.name().to_owned(),
    }
}

/// How many octets go over at a time, for each direction.
pub(crate) type Chunks = (usize, usize);

/// Plays one dialogue: what the filter was told, and the verdict. `answers` gives the answers to a step
/// by what is told and how often that step came before.
pub(crate) fn play(
    client: &mut Client,
    filter: &mut Server,
    question: &FilterQuestion<'_>,
    chunks: Chunks,
    mut answers: impl FnMut(Step, &str) -> Vec<Response>,
) -> (Vec<String>, Result<FilterVerdict, Fault>) {
    let mut told = Vec::new();
    let mut dialogue = client.ask(question);
    let verdict = turns(&mut dialogue, filter, chunks, &mut told, &mut answers);
    // What ends the dialogue.
    let mut out = Vec::new();
    dialogue.write(&mut out);
    listen(filter, &out, chunks.0, &mut told, &mut answers);
    (told, verdict)
}

fn turns(
    dialogue: &mut Dialogue<'_, '_>,
    filter: &mut Server,
    chunks: Chunks,
    told: &mut Vec<String>,
    answers: &mut impl FnMut(Step, &str) -> Vec<Response>,
) -> Result<FilterVerdict, Fault> {
    for _ in 0..100_000 {
        let mut out = Vec::new();
        dialogue.write(&mut out);
        let back = listen(filter, &out, chunks.0, told, answers);
        for chunk in back.chunks(chunks.1) {
            dialogue.handle_bytes(chunk)?;
        }
        if let Some(verdict) = dialogue.take_verdict() {
            return Ok(verdict);
        }
    }
    unreachable!("the dialogue does not end: {told:?}");
}

/// The filter's side of some octets: what it says to them.
fn listen(
    filter: &mut Server,
    out: &[u8],
    chunk: usize,
    told: &mut Vec<String>,
    answers: &mut impl FnMut(Step, &str) -> Vec<Response>,
) -> Vec<u8> {
    let mut back = Vec::new();
    for chunk in out.chunks(chunk) {
        filter.handle_bytes(chunk);
        while let Some(command) = filter.next(&mut back).unwrap() {
            let (text, step) = (shown(&command), command.step());
            told.push(text.clone());
            let Some(step) = step.filter(|_| filter.waiting().is_some()) else { continue };
            for answer in answers(step, &text) {
                filter.answer(&answer, &mut back).unwrap();
            }
        }
    }
    back
}
