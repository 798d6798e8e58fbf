//! One transaction on its way: which reply is due, and what each reply means for whom.

use waypost_types::{Outcome, Reply, ReplyClass};

use super::config::{Chunking, ClientConfig, Protocol};
use super::extensions::Extensions;
use super::message::Message;
use super::outbox::Outbox;
use super::transaction::{Report, Transaction, rcpt_refused, refused};

/// The reply that is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Rset,
    Mail,
    /// Index into `Run::named`.
    Rcpt(usize),
    Data,
    /// To the message; for LMTP, the index into `Run::accepted`.
    Message(usize),
    /// To an empty message, sent because the peer took DATA though it took no recipient.
    LoneDot,
}

/// What a reply leads to.
pub(super) enum Progress {
    /// More replies are due; this many, each behind the bytes queued now.
    Going(usize),
    /// All is said. The peer may hold a transaction that RSET must end.
    Over { open: bool },
    /// All is said, and the connection is of no more use.
    OverAndOut,
    /// The reply does not fit the command.
    OutOfStep,
}

/// How the message is given to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// DATA, its 354, the message and a dot.
    Data,
    /// BDAT with the message behind it (RFC 3030).
    Chunk,
}

impl Framing {
    /// One chunk where that gives the message as it is stored; LMTP has DATA alone.
    fn of(message: &Message, offered: &Extensions, config: &ClientConfig) -> Self {
        let may = config.chunking == Chunking::AsStored && config.protocol == Protocol::Smtp;
        // An empty message needs no chunk, and some peers know no empty one.
        match may && offered.chunking && message.is_content() && message.octets() > 0 {
            true => Framing::Chunk,
            false => Framing::Data,
        }
    }
}

pub(super) struct Run {
    transaction: Transaction,
    outcomes: Vec<Option<Outcome>>,
    /// Indices of the recipients that the peer is asked about.
    named: Vec<usize>,
    accepted: Vec<usize>,
    pub(super) step: Step,
    sender_accepted: bool,
    mail_answered: bool,
    framing: Framing,
    /// The octet of the stream at which the message is over.
    message_end: Option<u64>,
}

impl Run {
    /// Writes the first commands, and says how many replies are due; none if nobody is left to send
    /// to.
    ///
    /// `open` says whether the peer may hold an older transaction.
    pub(super) fn begin(
        transaction: Transaction,
        open: bool,
        offered: &Extensions,
        config: &ClientConfig,
        out: &mut Outbox,
        due: &mut Vec<u64>,
    ) -> Self {
        let whole = transaction.refusal(offered, config.eight_bit);
        let outcomes: Vec<Option<Outcome>> = transaction
            .recipients
            .iter()
            .map(|recipient| {
                let reply = match &whole {
                    Some(reply) => Some(reply.clone()),
                    None => Transaction::recipient_refusal(recipient, offered),
                };
                reply.map(|reply| refused(&config.peer, reply))
            })
            .collect();
        let undecided = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_none());
        let named: Vec<usize> = undecided.map(|(i, _)| i).collect();
        let step = if open { Step::Rset } else { Step::Mail };
        let framing = Framing::of(&transaction.message, offered, config);
        let run = Self {
            transaction,
            outcomes,
            named,
            accepted: Vec::new(),
            step,
            sender_accepted: false,
            mail_answered: false,
            framing,
            message_end: None,
        };
        if !run.named.is_empty() {
            run.write_from(step, offered, out, due);
        }
        run
    }

    /// Writes the command of a step and, if the peer takes it, all that follow up to DATA.
    fn write_from(&self, step: Step, offered: &Extensions, out: &mut Outbox, due: &mut Vec<u64>) {
        let mut line = String::new();
        let mut next = Some(step);
        while let Some(step) = next {
            line.clear();
            match step {
                Step::Rset => line.push_str("RSET\r\n"),
                Step::Mail => self.transaction.write_mail(offered, &mut line),
                Step::Rcpt(i) => {
                    if let Some(recipient) =
                        self.named.get(i).and_then(|at| self.transaction.recipients.get(*at))
                    {
                        Transaction::write_rcpt(recipient, offered, &mut line);
                    }
                }
                // The message goes out when it is known that somebody wants it: see `after_rcpt`.
                Step::Data if self.framing == Framing::Chunk => return,
                Step::Data => line.push_str("DATA\r\n"),
                Step::Message(_) | Step::LoneDot => return,
            }
            out.push(line.as_bytes());
            due.push(out.queued());
            next = if offered.pipelining { self.after(step) } else { None };
        }
    }

    /// The command that follows.
    fn after(&self, step: Step) -> Option<Step> {
        match step {
            Step::Rset => Some(Step::Mail),
            Step::Mail => Some(self.rcpt_or_data(0)),
            Step::Rcpt(i) => Some(self.rcpt_or_data(i + 1)),
            Step::Data | Step::Message(_) | Step::LoneDot => None,
        }
    }

    fn rcpt_or_data(&self, i: usize) -> Step {
        if i < self.named.len() { Step::Rcpt(i) } else { Step::Data }
    }

    /// Takes the reply that was due. 421 never comes here before the message is sent.
    pub(super) fn reply(
        &mut self,
        reply: Reply,
        offered: &Extensions,
        config: &ClientConfig,
        out: &mut Outbox,
        due: &mut Vec<u64>,
    ) -> Progress {
        let host = &config.peer;
        let class = reply.class();
        match self.step {
            Step::Rset => {
                if class != ReplyClass::Completed {
                    return Progress::OutOfStep;
                }
                self.go_on(Step::Mail, offered, out, due)
            }
            Step::Mail => {
                self.mail_answered = true;
                match class {
                    ReplyClass::Completed => self.sender_accepted = true,
                    ReplyClass::Intermediate => return Progress::OutOfStep,
                    ReplyClass::Transient | ReplyClass::Permanent => {
                        self.decide_rest(&refused(host, reply));
                        if !offered.pipelining {
                            return Progress::Over { open: false };
                        }
                    }
                }
                self.go_on(self.rcpt_or_data(0), offered, out, due)
            }
            Step::Rcpt(i) => {
                let at = self.named.get(i).copied().unwrap_or_default();
                match class {
                    ReplyClass::Completed if self.sender_accepted => self.accepted.push(at),
                    ReplyClass::Completed => {}
                    ReplyClass::Intermediate => return Progress::OutOfStep,
                    ReplyClass::Transient | ReplyClass::Permanent => {
                        self.decide(at, rcpt_refused(host, reply));
                    }
                }
                let next = self.rcpt_or_data(i + 1);
                if next == Step::Data {
                    return self.after_rcpt(offered, out, due);
                }
                self.go_on(next, offered, out, due)
            }
            Step::Data => match class {
                ReplyClass::Intermediate if reply.code() == 354 => self.message(config, out),
                ReplyClass::Completed | ReplyClass::Intermediate => Progress::OutOfStep,
                ReplyClass::Transient | ReplyClass::Permanent => {
                    self.decide_rest(&refused(host, reply));
                    Progress::Over { open: self.sender_accepted }
                }
            },
            Step::Message(i) => self.message_reply(i, reply, config),
            Step::LoneDot => Progress::Over { open: false },
        }
    }

    /// All recipients are known.
    fn after_rcpt(
        &mut self,
        offered: &Extensions,
        out: &mut Outbox,
        due: &mut Vec<u64>,
    ) -> Progress {
        let nobody = self.accepted.is_empty();
        match self.framing {
            Framing::Data if nobody && !offered.pipelining => Progress::Over { open: true },
            Framing::Data => self.go_on(Step::Data, offered, out, due),
            Framing::Chunk if nobody => Progress::Over { open: self.sender_accepted },
            Framing::Chunk => {
                let octets = self.transaction.message.octets();
                out.push(format!("BDAT {octets} LAST\r\n").as_bytes());
                self.write_message(out);
                self.message_end = Some(out.queued());
                self.step = Step::Message(0);
                Progress::Going(1)
            }
        }
    }

    fn write_message(&self, out: &mut Outbox) {
        for piece in self.transaction.message.pieces() {
            out.push_shared(piece);
        }
    }

    fn go_on(
        &mut self,
        next: Step,
        offered: &Extensions,
        out: &mut Outbox,
        due: &mut Vec<u64>,
    ) -> Progress {
        self.step = next;
        if !offered.pipelining {
            self.write_from(next, offered, out, due);
        }
        Progress::Going(0)
    }

    fn message(&mut self, config: &ClientConfig, out: &mut Outbox) -> Progress {
        if self.accepted.is_empty() {
            if config.protocol == Protocol::Lmtp {
                // No recipient, so no reply is due to the dot (RFC 2033 section 4.2), nor any end
                // of this to be seen.
                return Progress::OverAndOut;
            }
            out.push(b".\r\n");
            self.step = Step::LoneDot;
            return Progress::Going(1);
        }
        self.write_message(out);
        out.push(b".\r\n");
        self.message_end = Some(out.queued());
        self.step = Step::Message(0);
        match config.protocol {
            Protocol::Smtp => Progress::Going(1),
            Protocol::Lmtp => Progress::Going(self.accepted.len()),
        }
    }

    fn message_reply(&mut self, i: usize, reply: Reply, config: &ClientConfig) -> Progress {
        let host = &config.peer;
        let outcome = match reply.class() {
            ReplyClass::Intermediate => return Progress::OutOfStep,
            ReplyClass::Completed => Outcome::Delivered { host: Some(host.clone()), reply },
            ReplyClass::Transient | ReplyClass::Permanent => refused(host, reply),
        };
        let taken = matches!(outcome, Outcome::Delivered { .. });
        match (config.protocol, self.accepted.get(i)) {
            (Protocol::Lmtp, Some(at)) => {
                self.decide(*at, outcome);
                if i + 1 < self.accepted.len() {
                    self.step = Step::Message(i + 1);
                    return Progress::Going(0);
                }
            }
            _ => self.decide_rest(&outcome),
        }
        // A chunk that is refused may leave the transaction open (RFC 3030 section 2).
        Progress::Over { open: self.framing == Framing::Chunk && !taken }
    }

    fn decide(&mut self, at: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(at)
            && slot.is_none()
        {
            *slot = Some(outcome);
        }
    }

    /// Gives all that are undecided the same outcome.
    pub(super) fn decide_rest(&mut self, outcome: &Outcome) {
        for slot in self.outcomes.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(outcome.clone());
        }
    }

    /// Whether no reply is due, because each recipient was refused here.
    pub(super) fn is_decided(&self) -> bool {
        self.named.is_empty()
    }

    /// Whether the message is on its way out.
    pub(super) fn is_sending_message(&self, out: &Outbox) -> bool {
        self.message_end.is_some_and(|end| out.sent() < end)
    }

    /// Whether the final dot is out: from then on the peer may have taken the message.
    pub(super) fn is_message_sent(&self, out: &Outbox) -> bool {
        self.message_end.is_some_and(|end| out.sent() >= end)
    }

    /// The report; whoever is undecided gets `otherwise`.
    pub(super) fn into_report(mut self, otherwise: &Outcome, offered: Extensions) -> Report {
        self.decide_rest(otherwise);
        let outcomes = self.outcomes.into_iter().flatten().collect();
        Report { outcomes, mail_answered: self.mail_answered, offered }
    }

    /// The host-independent name of what is waited for.
    pub(super) fn awaited(&self) -> &'static str {
        match self.step {
            Step::Rset => "RSET",
            Step::Mail => "MAIL",
            Step::Rcpt(_) => "RCPT",
            Step::Data => "DATA",
            Step::Message(_) | Step::LoneDot => "the message",
        }
    }
}
