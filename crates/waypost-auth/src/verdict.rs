//! What follows from the results.

use waypost_types::{Domain, Reply};

use crate::result::{Aligned, Authentication, Dmarc, DmarcPolicy, DmarcResult, SpfResult};

/// What an organization wants done with SPF and DMARC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing: they are not evaluated.
    #[default]
    Off,
    /// They are evaluated and reported; nothing is refused.
    Report,
    /// They may refuse.
    Enforce,
}

impl Mode {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Enforce => "enforce",
        }
    }
}

/// Who handed the message over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// A listed gateway: its mail is never refused for SPF or DMARC (E2).
    Gateway,
    /// Anybody else.
    Direct,
}

/// What is done with the message, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// Why, in words.
    pub because: String,
}

/// What is done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is taken.
    Accept,
    /// It is taken, and counts as spam.
    Spam,
    /// It is refused.
    Refuse(Refusal),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply to DATA.
    pub reply: Reply,
    /// What refuses.
    pub cause: RefusedFor,
}

/// What a message is refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedFor {
    /// SPF says `fail`.
    SpfFail,
    /// SPF cannot be evaluated now.
    SpfTempError,
    /// DMARC fails, and the domain asks to reject; or `From:` names too many domains.
    Dmarc,
    /// DMARC cannot be evaluated now.
    DmarcTempError,
}

impl Verdict {
    /// Taken, for this reason.
    #[must_use]
    pub fn accept(because: impl Into<String>) -> Self {
        Self { action: Action::Accept, because: because.into() }
    }

    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.action {
            Action::Refuse(refusal) => Some(refusal),
            Action::Accept | Action::Spam => None,
        }
    }

    /// Whether the message counts as spam.
    #[must_use]
    pub fn is_spam(&self) -> bool {
        self.action == Action::Spam
    }
}

impl Authentication {
    /// What is done with the message.
    ///
    /// Enforced, in this order: SPF `fail` refuses with `550 5.7.23`, and `temperror` defers with `451
    /// 4.7.24` (RFC 7372 section 3.2, RFC 7208 sections 8.4 and 8.6), unless an aligned DKIM signature
    /// made DMARC pass; then DMARC: a failure refuses with `550 5.7.1` or counts as spam, as the
    /// author's domain asks for, and what cannot be found out now defers with `451 4.4.3`. What a domain
    /// got wrong itself (`permerror`) is only reported (RFC 7208 section 8.7). Mail from a gateway, and
    /// in [`Mode::Report`], is taken, and the because says what enforcing would do (E2).
    #[must_use]
    pub fn verdict(&self, mode: Mode, client: Client) -> Verdict {
        let enforced = self.enforced();
        let held_back = match (mode, client) {
            (Mode::Off, _) => return Verdict::accept("authenticate = \"off\""),
            (Mode::Enforce, Client::Direct) => return enforced,
            (_, Client::Gateway) => "mail from a listed gateway is only reported (E2)",
            (Mode::Report, Client::Direct) => "authenticate = \"report\"",
        };
        let would = match &enforced.action {
            Action::Accept => return enforced,
            Action::Spam => "count as spam",
            Action::Refuse(_) => "refuse",
        };
        Verdict::accept(format!("{held_back}; else it would {would}: {}", enforced.because))
    }

    fn enforced(&self) -> Verdict {
        let vouched =
            self.dmarc.result == DmarcResult::Pass && self.dmarc.aligned == Some(Aligned::Dkim);
        let domain = self.spf.domain.as_deref().unwrap_or("its sender");
        let source = self.checked.map(|ip| ip.to_string()).unwrap_or_default();
        match self.spf.result {
            SpfResult::Fail if !vouched => {
                let text = format!(
                    "SPF fail: {source} may not send for {domain} (RFC 7208); send through its own \
                     servers, or mend its SPF record"
                );
                return refuse(550, (5, 7, 23), text, RefusedFor::SpfFail);
            }
            SpfResult::TempError if !vouched => {
                let text = format!(
                    "SPF of {domain} cannot be evaluated now (RFC 7208); mend its DNS, or try again \
                     later"
                );
                return refuse(451, (4, 7, 24), text, RefusedFor::SpfTempError);
            }
            _ => {}
        }
        self.dmarc.enforced().unwrap_or_else(|| {
            Verdict::accept(format!("spf={}, dmarc={}", self.spf.result, self.dmarc.result))
        })
    }
}

impl Dmarc {
    /// What DMARC alone does to a message; `None`: nothing.
    fn enforced(&self) -> Option<Verdict> {
        let author = self.author.as_ref().map_or("the author", Domain::as_str);
        match (self.result, self.policy) {
            (DmarcResult::Fail, Some(DmarcPolicy::Reject)) => {
                let text = format!(
                    "DMARC fail: neither SPF nor DKIM vouches for {author}, which asks to reject such \
                     mail (p=reject, RFC 9989); sign it, or send through servers of that domain"
                );
                Some(refuse(550, (5, 7, 1), text, RefusedFor::Dmarc))
            }
            (DmarcResult::Fail, Some(DmarcPolicy::Quarantine)) => Some(Verdict {
                action: Action::Spam,
                because: format!(
                    "DMARC fail: neither SPF nor DKIM vouches for {author}, which asks to quarantine \
                     such mail (p=quarantine)"
                ),
            }),
            (DmarcResult::TempError, _) => {
                let text = format!(
                    "DMARC of {author} cannot be evaluated now (RFC 9989); mend its DNS, or try again \
                     later"
                );
                Some(refuse(451, (4, 4, 3), text, RefusedFor::DmarcTempError))
            }
            (DmarcResult::PermError, _) if self.author.is_none() => {
                let text =
                    "DMARC cannot be evaluated: From: names more domains than are looked at; \
                            write one author"
                        .to_owned();
                Some(refuse(550, (5, 7, 1), text, RefusedFor::Dmarc))
            }
            _ => None,
        }
    }
}

fn refuse(code: u16, enhanced: (u8, u16, u16), text: String, cause: RefusedFor) -> Verdict {
    let reply = Reply::new(code, enhanced, &text);
    Verdict { action: Action::Refuse(Refusal { reply, cause }), because: text }
}

#[cfg(test)]
mod tests {
    use crate::{Identity, Spf};

    use super::*;

    fn found(spf: SpfResult, dmarc: &str) -> Authentication {
        let author: Option<Domain> = Some("author.example".parse().unwrap());
        let of =
            |result, policy, aligned| Dmarc { result, author: author.clone(), policy, aligned };
        let (reject, quarantine) = (Some(DmarcPolicy::Reject), Some(DmarcPolicy::Quarantine));
        let dmarc = match dmarc {
            "none" => of(DmarcResult::None, None, None),
            "by spf" => of(DmarcResult::Pass, reject, Some(Aligned::Spf)),
            "by dkim" => of(DmarcResult::Pass, reject, Some(Aligned::Dkim)),
            "p=none" => of(DmarcResult::Fail, Some(DmarcPolicy::None), None),
            "p=quarantine" => of(DmarcResult::Fail, quarantine, None),
            "p=reject" => of(DmarcResult::Fail, reject, None),
            "later" => of(DmarcResult::TempError, None, None),
            "broken" => of(DmarcResult::PermError, None, None),
            _ => Dmarc::of_too_many_authors(),
        };
        Authentication {
            checked: Some("192.0.2.1".parse().unwrap()),
            spf: Spf::new(spf, Identity::MailFrom, Some("sender.example")),
            dkim: Vec::new(),
            dmarc,
        }
    }

    fn short(verdict: &Verdict) -> String {
        match &verdict.action {
            Action::Accept => "accept".to_owned(),
            Action::Spam => "spam".to_owned(),
            Action::Refuse(refusal) => {
                let code = refusal.reply.enhanced().map(|code| code.to_string());
                format!("{} {}", refusal.reply.code(), code.unwrap_or_default())
            }
        }
    }

    #[test]
    fn e2_what_is_enforced_and_never_against_a_gateway() {
        use SpfResult::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
        for (spf, dmarc, want) in [
            (Pass, "by spf", "accept"),
            (Pass, "none", "accept"),
            (None, "none", "accept"),
            (Neutral, "none", "accept"),
            (SoftFail, "none", "accept"),
            (PermError, "none", "accept"),
            (Fail, "none", "550 5.7.23"),
            (Fail, "p=none", "550 5.7.23"),
            (Fail, "p=reject", "550 5.7.23"),
            (Fail, "by dkim", "accept"),
            (TempError, "none", "451 4.7.24"),
            (TempError, "by dkim", "accept"),
            (Pass, "p=none", "accept"),
            (Pass, "p=quarantine", "spam"),
            (Pass, "p=reject", "550 5.7.1"),
            (None, "p=reject", "550 5.7.1"),
            (Pass, "later", "451 4.4.3"),
            (Pass, "broken", "accept"),
            (Pass, "crowd", "550 5.7.1"),
        ] {
            let found = found(spf, dmarc);
            let enforced = found.verdict(Mode::Enforce, Client::Direct);
            assert_eq!(short(&enforced), want, "{spf} {dmarc}: {}", enforced.because);
            for (mode, client) in [
                (Mode::Off, Client::Direct),
                (Mode::Report, Client::Direct),
                (Mode::Report, Client::Gateway),
                (Mode::Enforce, Client::Gateway),
            ] {
                let verdict = found.verdict(mode, client);
                assert_eq!(short(&verdict), "accept", "{mode:?} {client:?}");
                let told = verdict.because.contains("would");
                assert_eq!(told, want != "accept" && mode != Mode::Off, "{}", verdict.because);
            }
        }
    }
}
