//! The application's answers, and what they change.

use waypost_types::{Mailbox, Reply, ReplyClass, Timestamp, TlsState};

use super::super::{AuthOffer, CloseCause, HelloKind, TlsOffer, xclient};
use super::{Client, Phase, Question, Server, Tally, Timer, XclientOffer};
use crate::end_of_data::DataReader;
#[cfg(doc)]
use crate::server::Event;

impl Server {
    /// Answers the event handed out last with yes, in the usual words; for [`Event::Auth`], which needs
    /// a user, it is a temporary failure. Where no answer is asked for, or one was given, it does
    /// nothing, so it can be called behind every event.
    pub fn accept(&mut self, now: Timestamp) {
        let reply = match &self.question {
            Some(Question::Mail(_)) => Reply::new(250, (2, 1, 0), "Sender ok"),
            Some(Question::Rcpt) => Reply::new(250, (2, 1, 5), "Recipient ok"),
            _ => Reply::new(250, (2, 0, 0), "Ok"),
        };
        self.answer(now, reply);
    }

    /// Answers [`Event::Auth`] with yes: the client is this user.
    pub fn accept_auth(&mut self, now: Timestamp, user: Mailbox) {
        if self.is_asking() && matches!(self.question, Some(Question::Auth)) {
            self.question = None;
            self.client.user = Some(user);
            self.say(now, &Reply::new(235, (2, 7, 0), "Authenticated"));
            self.after_reply();
        }
    }

    /// Answers the event handed out last; where no answer is asked for, it does nothing.
    ///
    /// 2yz accepts (also 3yz, for DATA), anything else refuses. To MAIL, RCPT and the message the
    /// reply is sent as it is; to the others a refusal is. 421 ends the connection.
    pub fn answer(&mut self, now: Timestamp, reply: Reply) {
        // An event that nobody has seen yet is not answered by chance.
        if !self.is_asking() {
            return;
        }
        let Some(question) = self.question.take() else { return };
        if self.is_closed() {
            return;
        }
        let reply = match (&question, reply.class()) {
            (Question::Auth, ReplyClass::Completed | ReplyClass::Intermediate) => {
                Reply::new(454, (4, 7, 0), "AUTH cannot be checked now; try again later")
            }
            (Question::Data, ReplyClass::Completed | ReplyClass::Intermediate) => {
                Reply::plain(354, "End the message with CR LF . CR LF")
            }
            (_, ReplyClass::Intermediate) => Reply::new(451, (4, 3, 0), "Try again later"),
            _ => reply,
        };
        match reply.class() {
            ReplyClass::Completed | ReplyClass::Intermediate => {
                self.accepted(now, question, &reply)
            }
            ReplyClass::Transient | ReplyClass::Permanent => self.refused(now, question, reply),
        }
        self.after_reply();
    }

    fn accepted(&mut self, now: Timestamp, question: Question, reply: &Reply) {
        match question {
            Question::Connect => return self.greet(now),
            Question::Hello(hello) => {
                let words = self.hello_reply(hello.kind);
                self.client.hello = Some(hello);
                return self.say(now, &words);
            }
            Question::Xclient(announced) => {
                self.client = Client::unheard(self.client.tls);
                self.client.announced = Some(Box::new(announced));
                self.tally = Tally { errors: 0, fruitless: 0, ..self.tally };
                return self.say(now, &self.greeting());
            }
            Question::Mail(transaction) => {
                self.transaction = Some(transaction);
                self.tally.idle_commands = 0;
            }
            Question::Rcpt => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients += 1;
                }
            }
            Question::Data => {
                let reader = DataReader::new(self.settings.limits.message_size);
                self.phase = Phase::Data { reader };
            }
            Question::Chunk => return self.chunk_begins(now),
            Question::Message => {
                self.transaction = None;
                self.tally = Tally::default();
            }
            Question::Auth => {}
        }
        self.say(now, reply);
    }

    fn refused(&mut self, now: Timestamp, question: Question, reply: Reply) {
        match question {
            Question::Connect | Question::Xclient(_) => {
                return self.close(CloseCause::Refused, Some(&reply));
            }
            Question::Auth => {
                self.tally.errors += 1;
                let at = now + self.settings.timeouts.auth_failure_pause;
                if at > now && reply.code() != 421 {
                    self.timer = Timer::Held(at, reply);
                    return;
                }
            }
            Question::Mail(_) | Question::Rcpt => self.tally.fruitless += 1,
            Question::Data | Question::Message => {
                self.tally.fruitless += 1;
                self.transaction = None;
            }
            Question::Chunk if reply.code() != 421 => {
                self.tally.fruitless += 1;
                return self.chunk_unwanted(now, reply);
            }
            Question::Chunk | Question::Hello(_) => {}
        }
        if reply.code() == 421 {
            return self.close(CloseCause::Refused, Some(&reply));
        }
        self.pass_on(now, &reply);
    }

    fn greet(&mut self, now: Timestamp) {
        let greeting = self.greeting();
        let at = now + self.settings.timeouts.greeting_pause;
        if at > now {
            self.timer = Timer::Held(at, greeting);
            return;
        }
        self.phase = Phase::Command;
        self.say(now, &greeting);
    }

    fn greeting(&self) -> Reply {
        Reply::plain(220, &format!("{} ESMTP", self.settings.hostname))
    }

    fn hello_reply(&self, kind: HelloKind) -> Reply {
        let mut text = self.settings.hostname.to_string();
        if kind == HelloKind::Ehlo {
            let size = self.settings.limits.message_size;
            text += &format!("\nPIPELINING\nSIZE {size}\n8BITMIME\nENHANCEDSTATUSCODES");
            text += "\nSMTPUTF8\nDSN\nCHUNKING";
            if self.may_start_tls() {
                text += "\nSTARTTLS";
            }
            if self.may_authenticate() {
                text += "\nAUTH PLAIN LOGIN";
            }
            if self.xclient == XclientOffer::On {
                text += &format!("\nXCLIENT {}", xclient::ATTRIBUTES);
            }
            text += "\nHELP";
        }
        Reply::plain(250, &text)
    }

    fn may_start_tls(&self) -> bool {
        self.settings.tls == TlsOffer::StartTls && self.client.tls == TlsState::Clear
    }

    fn may_authenticate(&self) -> bool {
        self.settings.auth == AuthOffer::InsideTls && self.client.tls == TlsState::Encrypted
    }
}
