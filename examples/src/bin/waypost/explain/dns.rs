//! What the DNS says of the message that is explained (E2, C3).

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use waypost_auth::{Authentication, Question};
use waypost_config::policy::Policy;
use waypost_config::settings::DnsServers;
use waypost_net::authentication::{AuthenticationLimits, Authenticator, MailAuthenticator};
use waypost_net::dns::{DnsLimits, SystemResolver};
use waypost_smtp::client::SharedBytes;
use waypost_smtp::end_of_data::stuff;

use crate::answer::Failure;

/// Asks the name servers of `[server] dns` what `serve` would ask them, in the same time.
pub(super) struct Asking {
    runtime: tokio::runtime::Runtime,
    authenticator: MailAuthenticator,
}

impl Asking {
    /// # Errors
    /// There is no name server to ask.
    pub(super) fn of(policy: &Policy) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
        // A person waits for the answers.
        let limits = DnsLimits {
            one_try: Duration::from_secs(3),
            retries: 1,
            answer: Duration::from_secs(8),
            ..DnsLimits::default()
        };
        let authenticator = runtime.block_on(async {
            let resolver = match &policy.server.dns {
                DnsServers::System => SystemResolver::from_system(limits),
                DnsServers::List(servers) => SystemResolver::with_servers(servers, limits),
            };
            let resolver = resolver.map_err(|error| Failure::Input(error.to_string()))?;
            Ok::<_, Failure>(MailAuthenticator::new(&resolver, AuthenticationLimits::default()))
        })?;
        Ok(Self { authenticator, runtime })
    }

    /// Who answers about one message.
    pub(super) fn about<'a>(&'a self, message: &[u8]) -> About<'a> {
        let stuffed = stuff(&with_line_ends(message)).into_owned();
        About { asking: self, message: SharedBytes::new(stuffed), answered: RefCell::default() }
    }
}

/// Answers about one message; each question is asked once.
pub(super) struct About<'a> {
    asking: &'a Asking,
    message: SharedBytes,
    answered: RefCell<Vec<(Question, Authentication)>>,
}

impl About<'_> {
    /// What cannot be found out in time is a `temperror`.
    pub(super) fn answer(&self, question: &Question) -> Authentication {
        let known = |(asked, _): &&(Question, Authentication)| asked == question;
        if let Some((_, answer)) = self.answered.borrow().iter().find(known) {
            return answer.clone();
        }
        let questions = vec![question.clone()];
        let asked = self.asking.authenticator.authenticate(self.message.clone(), questions);
        let mut answers = self.asking.runtime.block_on(asked);
        let answer = answers.pop().unwrap_or_else(|| question.unanswered());
        self.answered.borrow_mut().push((question.clone(), answer.clone()));
        answer
    }
}

/// A message as it goes over the wire: a file's lines may end in LF alone, and signatures are of CR LF.
fn with_line_ends(message: &[u8]) -> Cow<'_, [u8]> {
    if message.windows(2).any(|pair| pair == b"\r\n") {
        return Cow::Borrowed(message);
    }
    let mut out = Vec::with_capacity(message.len() + message.len() / 32);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => out.extend([line, b"\r\n"].concat()),
            None => out.extend_from_slice(line),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_on_the_wire() {
        for (file, wire) in [
            ("a: b\n\nx\n", "a: b\r\n\r\nx\r\n"),
            ("a: b\r\n\r\nx\ny", "a: b\r\n\r\nx\ny"),
            ("a", "a"),
            ("", ""),
        ] {
            assert_eq!(with_line_ends(file.as_bytes()), wire.as_bytes(), "{file:?}");
        }
    }
}
