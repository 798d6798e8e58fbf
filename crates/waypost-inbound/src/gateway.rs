//! An organization's inbound gateway, compiled.

use std::net::IpAddr;

use ipnet::IpNet;
use waypost_types::{Fields, HeaderBlock, Reply, TlsState};

use crate::admission::{Admission, Refusal, RefusedBecause, RejectCode, Switch};
use crate::public::PublicAddresses;
use crate::ranges::Ranges;
use crate::reading::Reading;
use crate::settings::{
    GatewayError, GatewayErrorKind, GatewayErrors, GatewaySettings, Setting, is_gateway, ranges,
};
use crate::source::{Because, HopReport, Hops, OwnLine, Skipped, Source};
use crate::tag::{SpamTag, TagVerdict};

/// The gateways of an organization and what holds for their mail; immutable.
///
/// Looking an address up takes the logarithm of the number of ranges; a header is read once, from the
/// top, and no further than needed.
///
/// ```
/// use waypost_inbound::{Because, GatewaySettings, HeaderBlock, InboundGateway, OwnLine};
///
/// let gateway = InboundGateway::new(&GatewaySettings {
///     addresses: vec!["192.0.2.2".to_owned(), "192.0.2.55".to_owned()],
///     detect_external_ip: true,
///     ..GatewaySettings::default()
/// })?;
/// let header = HeaderBlock::of(
///     b"Received: from [192.0.2.55] by a.example via HTTP; date\r\n\
///       Received: from [192.0.2.110] by a.example via HTTP; date\r\n\r\n",
/// );
/// let client = std::net::IpAddr::from([192, 0, 2, 2]);
/// let source = gateway.source(client, OwnLine::Absent, &header);
/// assert_eq!(source.ip, Some([192, 0, 2, 110].into()));
/// assert_eq!(source.because, Because::FirstExternal);
/// # Ok::<(), waypost_inbound::GatewayErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct InboundGateway {
    gateways: Ranges,
    allowed: Ranges,
    /// Entries of the allow list that the list of gateways covers.
    without_effect: Vec<usize>,
    public: PublicAddresses,
    detection: Detection,
    reject_other_clients: Switch,
    reject_code: RejectCode,
    require_tls: Switch,
    spam_tag: Option<SpamTag>,
    spam_evaluation: SpamEvaluation,
}

/// How the source IP is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detection {
    /// One hop back (E5).
    PreviousHop,
    /// The first external address (E4).
    FirstExternal,
    /// The same, but no further than a line that is not understood.
    FirstExternalStrict,
}

/// Who decides whether mail from a gateway is spam (E10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum SpamEvaluation {
    /// The tag, if there is one, and the built-in evaluation.
    All,
    /// The tag alone; no matching line means no spam.
    OnlyTag,
}

impl InboundGateway {
    /// Compiles settings, with E1's notion of public addresses.
    ///
    /// # Errors
    /// Every setting that breaks a rule, each with its value, its rule and its cure.
    pub fn new(settings: &GatewaySettings) -> Result<Self, GatewayErrors> {
        let public = PublicAddresses::new(settings.documentation_ranges_public);
        Self::with_public(settings, public)
    }

    /// Compiles settings, with another notion of public addresses (E1).
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_public(
        settings: &GatewaySettings,
        public: PublicAddresses,
    ) -> Result<Self, GatewayErrors> {
        let mut errors = Vec::new();
        let rule = |text: &str, range| is_gateway(text, range, settings.allow_private, &public);
        let gateways = ranges(&settings.addresses, Setting::Address, rule, &mut errors);
        let any = |_: &str, _| Ok(());
        let allowed = ranges(&settings.allow_list, Setting::AllowListEntry, any, &mut errors);
        if settings.reject_other_clients != Switch::Off && settings.addresses.is_empty() {
            let kind = GatewayErrorKind::NoGateways;
            errors.push(GatewayError { setting: Setting::RejectOtherClients, kind });
        }
        let tag =
            settings.spam_tag.as_ref().map(|tag| SpamTag::new(&tag.regex, tag.score_at_least));
        let spam_tag = tag.transpose().unwrap_or_else(|error| {
            errors.push(GatewayError { setting: Setting::SpamTag, kind: error.into() });
            None
        });
        if settings.only_spam_tag && settings.spam_tag.is_none() {
            let kind = GatewayErrorKind::NoTag;
            errors.push(GatewayError { setting: Setting::OnlySpamTag, kind });
        }
        if let Some(errors) = GatewayErrors::of(errors) {
            return Err(errors);
        }
        let gateways: Ranges = gateways.into_iter().collect();
        let covered = |(i, range): (usize, &IpNet)| gateways.covers(*range).then_some(i);
        let without_effect = allowed.iter().enumerate().filter_map(covered).collect();
        Ok(Self {
            gateways,
            allowed: allowed.into_iter().collect(),
            without_effect,
            public,
            detection: match (settings.detect_external_ip, settings.strict) {
                (false, _) => Detection::PreviousHop,
                (true, false) => Detection::FirstExternal,
                (true, true) => Detection::FirstExternalStrict,
            },
            reject_other_clients: settings.reject_other_clients,
            reject_code: settings.reject_code,
            require_tls: settings.require_tls,
            spam_tag,
            spam_evaluation: match settings.only_spam_tag {
                true => SpamEvaluation::OnlyTag,
                false => SpamEvaluation::All,
            },
        })
    }

    /// Whether no gateway is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gateways.is_empty()
    }

    /// Whether an address is a gateway's.
    #[must_use]
    pub fn lists(&self, ip: IpAddr) -> bool {
        self.gateways.contains(ip)
    }

    /// Whether a source is on the allow list. An address that is also a gateway's is not (E11).
    #[must_use]
    pub fn allows(&self, source: &Source) -> bool {
        source.ip.is_some_and(|ip| self.allowed.contains(ip) && !self.gateways.contains(ip))
    }

    /// The entries of the allow list, counted from 0, that have no effect: all their addresses are
    /// gateways (E11).
    #[must_use]
    pub fn allowed_without_effect(&self) -> &[usize] {
        &self.without_effect
    }

    /// What is public here.
    #[must_use]
    pub fn public(&self) -> &PublicAddresses {
        &self.public
    }

    /// The tag that gateways mark spam with.
    #[must_use]
    pub fn spam_tag(&self) -> Option<&SpamTag> {
        self.spam_tag.as_ref()
    }

    /// What the tag says about a client's message: nothing unless the client is a gateway and there
    /// is a tag (E9).
    #[must_use]
    pub fn tag_verdict(&self, client: IpAddr, header: &HeaderBlock<'_>) -> Option<TagVerdict> {
        self.spam_tag.as_ref().filter(|_| self.lists(client)).map(|tag| tag.verdict(header))
    }

    /// Who decides whether a client's mail is spam (E10).
    #[must_use]
    pub fn spam_evaluation(&self, client: IpAddr) -> SpamEvaluation {
        if self.lists(client) { self.spam_evaluation } else { SpamEvaluation::All }
    }

    /// Whether a client may hand mail over (E7, E8). Authenticated and relay clients are exempt from
    /// E7: whether this is one, the caller knows.
    #[must_use]
    pub fn admits(&self, client: IpAddr, tls: TlsState) -> Admission {
        let (switch, because) = match (self.lists(client), tls) {
            (true, TlsState::Clear) => (self.require_tls, RefusedBecause::ClearText),
            (true, TlsState::Encrypted) => return Admission::Admitted,
            (false, _) => (self.reject_other_clients, RefusedBecause::NotAGateway),
        };
        match switch {
            Switch::Off => Admission::Admitted,
            Switch::Observe => Admission::Observed(self.refusal(client, because)),
            Switch::On => Admission::Refused(self.refusal(client, because)),
        }
    }

    fn refusal(&self, client: IpAddr, because: RefusedBecause) -> Refusal {
        let client = client.to_canonical();
        let reply = match (because, self.reject_code) {
            (RefusedBecause::ClearText, _) => Reply::new(
                530,
                (5, 7, 0),
                &format!("Must issue a STARTTLS command first: gateway {client} has to use TLS"),
            ),
            (RefusedBecause::NotAGateway, RejectCode::Permanent) => Reply::new(
                550,
                (5, 7, 1),
                &format!("{client} is not an inbound gateway of this domain; use its MX hosts"),
            ),
            (RefusedBecause::NotAGateway, RejectCode::Transient) => Reply::new(
                421,
                (4, 7, 0),
                &format!("{client} is not an inbound gateway of this domain; try its MX hosts"),
            ),
        };
        Refusal { reply, because }
    }

    /// The source IP of a message that `client` handed over (E3 to E5).
    ///
    /// `header` is a [`HeaderBlock`], or the [`Fields`] of a message whose header has no known end:
    /// then nothing behind the line that decides is looked at.
    #[must_use]
    pub fn source<'a>(
        &self,
        client: IpAddr,
        own: OwnLine,
        header: impl Into<Fields<'a>>,
    ) -> Source {
        self.trace(client, own, header, |_| {})
    }

    /// The same, and the hop table: the lines looked at, newest first, without our own. Memory is
    /// bounded: [`Hops::MOST`] lines and the one chosen are listed, the others are counted.
    #[must_use]
    pub fn source_with_hops<'a>(
        &self,
        client: IpAddr,
        own: OwnLine,
        header: impl Into<Fields<'a>>,
    ) -> (Source, Hops) {
        let mut hops = Hops::default();
        let source = self.trace(client, own, header, |hop| hops.add(hop));
        (source, hops)
    }

    /// The same, with a visitor for the hops: nothing is kept, nothing allocated.
    pub fn trace<'a>(
        &self,
        client: IpAddr,
        own: OwnLine,
        header: impl Into<Fields<'a>>,
        mut visit: impl FnMut(HopReport),
    ) -> Source {
        let client = client.to_canonical();
        if !self.lists(client) {
            return Source::of_client(client);
        }
        let mut hops = hops(client, own, header.into());
        if self.detection == Detection::PreviousHop {
            return match hops.next() {
                Some(Some(ip)) => {
                    visit(HopReport { ip: Some(ip), skipped: None });
                    let spf = self.public.contains(ip);
                    Source { ip: Some(ip), because: Because::PreviousHop, spf }
                }
                Some(None) => {
                    visit(HopReport { ip: None, skipped: Some(Skipped::Unreadable) });
                    fall_back(client)
                }
                None => fall_back(client),
            };
        }
        let mut understood = true;
        for ip in hops {
            let skipped = self.passes_over(ip);
            visit(HopReport { ip, skipped });
            match skipped {
                None => return Source { ip, because: Because::FirstExternal, spf: true },
                Some(Skipped::Unreadable) => understood = false,
                Some(_) => continue,
            }
            if self.detection == Detection::FirstExternalStrict {
                break;
            }
        }
        match understood {
            true => Source { ip: None, because: Because::Internal, spf: false },
            false => fall_back(client),
        }
    }

    fn passes_over(&self, ip: Option<IpAddr>) -> Option<Skipped> {
        match ip {
            None => Some(Skipped::Unreadable),
            Some(ip) if self.lists(ip) => Some(Skipped::Gateway),
            Some(ip) if !self.public.contains(ip) => Some(Skipped::Private),
            Some(_) => None,
        }
    }
}

fn fall_back(client: IpAddr) -> Source {
    Source { ip: Some(client), because: Because::NothingReadable, spf: false }
}

/// The clients of the `Received: from` lines below our own, newest first; `None`: not readable.
fn hops<'a>(
    client: IpAddr,
    own: OwnLine,
    header: Fields<'a>,
) -> impl Iterator<Item = Option<IpAddr>> + use<'a> {
    header
        .named("Received")
        .map(|field| Reading::of(field.raw))
        .filter(|reading| *reading != Reading::By)
        .map(|reading| reading.ip())
        .enumerate()
        .filter(move |(i, ip)| {
            let ours = match own {
                OwnLine::Absent => false,
                OwnLine::Present => true,
                OwnLine::FindOut => *ip == Some(client),
            };
            *i > 0 || !ours
        })
        .map(|(_, ip)| ip)
}
