//! What each command does.

use waypost_types::{Mailbox, Recipient, Reply, Timestamp, TlsState};

use super::super::command::{Command, ForwardPath, Script};
use super::super::parameters::MailArguments;
use super::super::sasl::{Exchange, Step};
use super::super::{AuthOffer, CloseCause, Event, ResetCause, TlsOffer, Told, xclient};
use super::{Announced, Hello, Phase, Question, Server, Transaction, XclientOffer};
use crate::end_of_data::DataFault;

impl Server {
    pub(super) fn command(&mut self, now: Timestamp, command: Command<'_>) {
        match command {
            Command::Hello { kind, name } => {
                self.end_transaction(ResetCause::Hello);
                if self.idle() {
                    let announced = self.client.announced.as_deref();
                    let event = Event::Hello {
                        kind: announced.and_then(|announced| announced.kind).unwrap_or(kind),
                        name: announced
                            .and_then(|announced| announced.name.clone())
                            .unwrap_or_else(|| name.into()),
                    };
                    let hello = Hello { kind, name: name.into() };
                    self.ask(Question::Hello(hello), event);
                }
            }
            Command::Mail { sender, script, arguments } => {
                if let Some(refusal) = self.mail_refusal(script, &arguments) {
                    return self.misuse(now, &refusal);
                }
                let MailArguments { parameters, size } = arguments;
                let limit = self.settings.limits.message_size;
                if size.is_some_and(|size| size > limit) {
                    self.tally.fruitless += 1;
                    return self.say(now, &DataFault::TooBig { limit }.reply());
                }
                let script =
                    if parameters.smtputf8 { Script::NeedsSmtpUtf8 } else { Script::Ascii };
                self.script = script;
                let transaction = Transaction { script, recipients: 0, chunks: None };
                let event = Event::Mail { sender, parameters, size };
                self.ask(Question::Mail(transaction), event);
            }
            Command::Rcpt { path, script, arguments } => {
                let Some(transaction) = &self.transaction else {
                    return self.misuse(now, &out_of_order("Give MAIL before RCPT"));
                };
                if script == Script::NeedsSmtpUtf8 && transaction.script == Script::Ascii {
                    return self.misuse(now, &needs_smtputf8());
                }
                if transaction.chunks.is_some() {
                    return self.misuse(now, &chunks_began());
                }
                let limit = self.settings.limits.recipients;
                if transaction.recipients >= limit {
                    self.tally.fruitless += 1;
                    let text = format!(
                        "No more than {limit} recipients at once; send the rest in \
                                        another transaction (RFC 5321 section 4.5.3.1.10)"
                    );
                    return self.say(now, &Reply::new(452, (4, 5, 3), &text));
                }
                let address = match path {
                    ForwardPath::Mailbox(mailbox) => mailbox,
                    ForwardPath::Postmaster => Mailbox::postmaster(self.settings.hostname.clone()),
                };
                let recipient =
                    Recipient { address, notify: arguments.notify, orcpt: arguments.orcpt };
                self.ask(Question::Rcpt, Event::Rcpt(recipient));
            }
            Command::Data => match &self.transaction {
                None => self.misuse(now, &out_of_order("Give MAIL and RCPT before DATA")),
                Some(Transaction { recipients: 0, .. }) => {
                    let text = "No recipient was accepted; give RCPT before DATA";
                    self.say(now, &Reply::new(554, (5, 5, 1), text));
                }
                Some(Transaction { chunks: Some(_), .. }) => self.misuse(now, &chunks_began()),
                Some(_) => self.ask(Question::Data, Event::Data),
            },
            Command::Bdat { octets, marker } => self.bdat(now, octets, marker),
            Command::Rset => {
                self.end_transaction(ResetCause::Rset);
                self.idle_say(now, &Reply::new(250, (2, 0, 0), "Forgotten"));
            }
            Command::Noop => self.idle_say(now, &Reply::new(250, (2, 0, 0), "Ok")),
            Command::Vrfy => {
                let text = "Addresses are not told; send mail and see";
                self.idle_say(now, &Reply::new(252, (2, 5, 0), text));
            }
            Command::Help => {
                let text = "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH";
                self.idle_say(now, &Reply::new(214, (2, 0, 0), text));
            }
            Command::Quit => {
                self.close(CloseCause::Quit, Some(&Reply::new(221, (2, 0, 0), "Bye")));
            }
            Command::StartTls => self.start_tls(now),
            Command::Auth { mechanism, initial } => self.auth(now, mechanism, initial),
            Command::Xclient { attributes } => self.xclient(now, attributes),
        }
    }

    fn mail_refusal(&self, script: Script, arguments: &MailArguments) -> Option<Reply> {
        if self.client.hello.is_none() {
            return Some(out_of_order("Give EHLO before MAIL"));
        }
        if self.transaction.is_some() {
            return Some(out_of_order("A transaction is open; end it with DATA or RSET"));
        }
        (script == Script::NeedsSmtpUtf8 && !arguments.parameters.smtputf8).then(needs_smtputf8)
    }

    fn start_tls(&mut self, now: Timestamp) {
        match self.settings.tls {
            _ if self.client.tls == TlsState::Encrypted => {
                self.misuse(now, &out_of_order("TLS is on already"));
            }
            TlsOffer::Off | TlsOffer::Implicit => {
                self.misuse(now, &Reply::new(502, (5, 5, 1), "STARTTLS is not offered here"));
            }
            TlsOffer::StartTls => {
                self.end_transaction(ResetCause::StartTls);
                self.phase = Phase::Handshake;
                self.say(now, &Reply::new(220, (2, 0, 0), "Begin TLS"));
                self.events.push(Event::StartTls);
            }
        }
    }

    fn xclient(&mut self, now: Timestamp, attributes: &str) {
        if self.transaction.is_some() {
            let text = "XCLIENT cannot stand in a transaction; give RSET first";
            return self.misuse(now, &out_of_order(text));
        }
        if self.xclient == XclientOffer::Off {
            let text = "XCLIENT is for listed proxies alone; yours is not in xclient_from";
            return self.misuse(now, &Reply::new(550, (5, 7, 0), text));
        }
        match xclient::parse(attributes) {
            Err(refusal) => self.misuse(now, &refusal),
            Ok(said) => {
                if self.idle() {
                    let name = said.helo.as_ref().and_then(Told::known).cloned();
                    let announced = Announced { kind: said.protocol, name };
                    self.ask(Question::Xclient(announced), Event::Xclient(Box::new(said)));
                }
            }
        }
    }

    fn auth(&mut self, now: Timestamp, mechanism: &str, initial: Option<&str>) {
        let refusal = match () {
            () if self.settings.auth == AuthOffer::Off => {
                Some(Reply::new(502, (5, 5, 1), "AUTH is not offered here"))
            }
            () if self.client.tls == TlsState::Clear => {
                Some(Reply::new(538, (5, 7, 11), "AUTH needs TLS; give STARTTLS first (RFC 4954)"))
            }
            () if self.client.hello.is_none() => Some(out_of_order("Give EHLO before AUTH")),
            () if self.client.user.is_some() => Some(out_of_order("You are authenticated")),
            () if self.transaction.is_some() => {
                Some(out_of_order("AUTH cannot stand in a transaction; give RSET first"))
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            return self.misuse(now, &refusal);
        }
        let Some(exchange) = Exchange::begin(mechanism) else {
            let text = "The mechanism is not known; use PLAIN or LOGIN (RFC 4954)";
            return self.misuse(now, &Reply::new(504, (5, 5, 4), text));
        };
        if !self.idle() {
            return;
        }
        let step = match initial {
            Some(response) => exchange.initial(response),
            None => Step::Challenge(exchange),
        };
        self.auth_step(now, step);
    }

    pub(super) fn auth_step(&mut self, now: Timestamp, step: Step) {
        match step {
            Step::Challenge(exchange) => {
                let challenge = exchange.challenge();
                self.phase = Phase::Auth(exchange);
                self.say(now, &challenge);
            }
            Step::Check(credentials) => self.ask(Question::Auth, Event::Auth(credentials)),
            Step::Refuse(reply) => self.misuse(now, &reply),
        }
    }
}

pub(super) fn out_of_order(text: &str) -> Reply {
    Reply::new(503, (5, 5, 1), text)
}

fn chunks_began() -> Reply {
    out_of_order("The message comes in BDAT; go on with that, or give RSET (RFC 3030 section 2)")
}

fn needs_smtputf8() -> Reply {
    let text = "The address is not ASCII; give MAIL with SMTPUTF8 (RFC 6531)";
    Reply::new(553, (5, 6, 7), text)
}
