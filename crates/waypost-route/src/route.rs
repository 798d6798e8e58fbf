//! A route whose values are right.

use std::fmt;

use waypost_types::{Host, HostPort, OrgUnit, RouteName, TlsDemand};

use crate::{
    AuthSettings, Check, HostSettings, OnTlsFailure, Protocol, RetrySettings, RouteError,
    RouteErrorKind, RouteSettings, RouteWarning, RouteWarningKind, TlsPolicy, TlsStart,
};

/// A tier of a route's hosts (A3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Tier {
    /// Tried first.
    Primary,
    /// Tried when every primary host has failed in the attempt or is in its pause.
    Secondary,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Primary => "primary",
            Tier::Secondary => "secondary",
        })
    }
}

/// One host of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RouteHost {
    pub(crate) at: HostPort,
    pub(crate) tier: Tier,
    pub(crate) load: u8,
    pub(crate) tls: TlsPolicy,
}

impl RouteHost {
    /// The host and its port. With MX lookup the port holds for each of its MX hosts (A4).
    #[must_use]
    pub fn at(&self) -> &HostPort {
        &self.at
    }

    /// Its tier.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Its load in percent, 0 to 100; 0 is standby, tried last in its tier (A3).
    #[must_use]
    pub fn load(&self) -> u8 {
        self.load
    }

    /// What is asked of TLS on a connection to it (A5, A6, A7).
    #[must_use]
    pub fn tls(&self) -> TlsPolicy {
        self.tls
    }
}

/// A route: where mail may be handed on, how much to each host, and what TLS must show (A1-A7).
///
/// Made from [`RouteSettings`]; immutable. The root file and the password file are kept as the
/// paths that were written: this crate reads no file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Route {
    name: RouteName,
    org_unit: OrgUnit,
    hosts: Box<[RouteHost]>,
    mx_lookup: bool,
    protocol: Protocol,
    roots: Option<Box<str>>,
    on_tls_failure: OnTlsFailure,
    auth: Option<AuthSettings>,
    retry: Option<RetrySettings>,
    warnings: Box<[RouteWarning]>,
}

impl Route {
    /// Checks the settings against A1 to A7 and fills in the defaults.
    ///
    /// # Errors
    /// Every mistake at once, in the order of the settings.
    pub fn new(settings: RouteSettings) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let name = match settings.name.parse::<RouteName>() {
            Ok(name) => Some(name),
            Err(wrong) => {
                errors.push(RouteError::new("name", wrong));
                None
            }
        };
        let org_unit = org_unit(settings.org_unit.as_deref(), &mut errors);
        let hosts = hosts(&settings, &mut errors);
        check_texts(&settings, &mut errors);
        check_retry(settings.retry.as_ref(), &mut errors);
        let Some(name) = name.filter(|_| errors.is_empty()) else { return Err(errors) };
        let warnings = warnings(&settings, &hosts).into();
        Ok(Self {
            name,
            org_unit,
            hosts: hosts.into(),
            mx_lookup: settings.mx_lookup.unwrap_or(false),
            protocol: settings.protocol.unwrap_or_default(),
            roots: settings.roots.map(Into::into),
            on_tls_failure: settings.on_tls_failure.unwrap_or_default(),
            auth: settings.auth,
            retry: settings.retry,
            warnings,
        })
    }

    /// The name; unique in its organization, which its owner sees to (A1).
    #[must_use]
    pub fn name(&self) -> &RouteName {
        &self.name
    }

    /// The organizational unit that it belongs to (A11).
    #[must_use]
    pub fn org_unit(&self) -> &OrgUnit {
        &self.org_unit
    }

    /// Whether rules of `unit` may name this route: it belongs to that unit or to one above (A11).
    #[must_use]
    pub fn is_visible_from(&self, unit: &OrgUnit) -> bool {
        unit.is_at_or_below(&self.org_unit)
    }

    /// The hosts as written: at least one, primaries first.
    #[must_use]
    pub fn hosts(&self) -> &[RouteHost] {
        &self.hosts
    }

    /// Whether each host's name is resolved to its MX hosts (A4); then no host is an IP address.
    #[must_use]
    pub fn mx_lookup(&self) -> bool {
        self.mx_lookup
    }

    /// The protocol to speak.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The path of the trusted roots, as written; `None` for the system's (A6).
    #[must_use]
    pub fn roots(&self) -> Option<&str> {
        self.roots.as_deref()
    }

    /// What becomes of a message when TLS fails on every host (A10).
    #[must_use]
    pub fn on_tls_failure(&self) -> OnTlsFailure {
        self.on_tls_failure
    }

    /// Credentials for AUTH; to be sent over TLS only.
    #[must_use]
    pub fn auth(&self) -> Option<&AuthSettings> {
        self.auth.as_ref()
    }

    /// The route's own retry schedule; what it leaves `None` is the server's (O2).
    #[must_use]
    pub fn retry(&self) -> Option<&RetrySettings> {
        self.retry.as_ref()
    }

    /// What deserves a second look.
    #[must_use]
    pub fn warnings(&self) -> &[RouteWarning] {
        &self.warnings
    }

    /// The hosts of one tier, as written.
    pub fn tier(&self, tier: Tier) -> impl Iterator<Item = &RouteHost> {
        self.hosts.iter().filter(move |host| host.tier == tier)
    }
}

fn org_unit(text: Option<&str>, errors: &mut Vec<RouteError>) -> OrgUnit {
    let Some(text) = text else { return OrgUnit::root() };
    text.parse().unwrap_or_else(|source| {
        let text = text.to_owned();
        errors.push(RouteError::new("org_unit", RouteErrorKind::OrgUnit { text, source }));
        OrgUnit::root()
    })
}

/// The hosts of either form of a route; after an error, what could be read of them.
fn hosts(settings: &RouteSettings, errors: &mut Vec<RouteError>) -> Vec<RouteHost> {
    let lists = settings.primary.is_some() || settings.secondary.is_some();
    if settings.host.is_some() && lists {
        errors.push(RouteError::new("host", RouteErrorKind::HostAndList));
    } else if settings.host.is_none() && !lists {
        errors.push(RouteError::new("host", RouteErrorKind::NoHost));
    }
    if !lists {
        // The port is looked at though the host is missing: all mistakes at once.
        let single = HostSettings {
            host: settings.host.clone().unwrap_or_default(),
            port: settings.port,
            load: Some(100),
            tls: None,
        };
        let mut found = Vec::new();
        let place = Place { settings, tier: Tier::Primary, single: true };
        host(&single, String::new(), place, errors, &mut found);
        return found;
    }
    if settings.port.is_some() {
        errors.push(RouteError::new("port", RouteErrorKind::PortBesideList));
    }
    let mut found = Vec::new();
    match &settings.primary {
        Some(list) if list.is_empty() => {
            errors.push(RouteError::new("primary", RouteErrorKind::NoPrimary));
        }
        Some(list) => tier(list, Tier::Primary, settings, errors, &mut found),
        None if settings.host.is_none() => {
            errors.push(RouteError::new("primary", RouteErrorKind::SecondaryAlone));
        }
        None => {}
    }
    tier(
        settings.secondary.as_deref().unwrap_or_default(),
        Tier::Secondary,
        settings,
        errors,
        &mut found,
    );
    found
}

/// Where a host stands in the settings.
#[derive(Clone, Copy)]
struct Place<'a> {
    settings: &'a RouteSettings,
    tier: Tier,
    single: bool,
}

fn tier(
    list: &[HostSettings],
    tier: Tier,
    settings: &RouteSettings,
    errors: &mut Vec<RouteError>,
    found: &mut Vec<RouteHost>,
) {
    for (index, entry) in list.iter().enumerate() {
        let place = Place { settings, tier, single: false };
        host(entry, format!("{tier}[{index}]."), place, errors, found);
    }
    // A sum is told only of loads that can be added: a wrong one has its own error.
    let loads: Option<Vec<u64>> = list
        .iter()
        .map(|entry| entry.load.and_then(|load| u64::try_from(load).ok()).filter(|l| *l <= 100))
        .collect();
    if let Some(sum) = loads.map(|loads| loads.iter().sum::<u64>())
        && !list.is_empty()
        && sum != 100
    {
        let kind = RouteErrorKind::LoadSum { tier, sum };
        errors.push(RouteError::new(tier.to_string(), kind));
    }
}

/// Reads one host, whose settings stand at `path`.
fn host(
    entry: &HostSettings,
    path: String,
    place: Place<'_>,
    errors: &mut Vec<RouteError>,
    found: &mut Vec<RouteHost>,
) {
    let Place { settings, tier, single } = place;
    let host = match entry.host.trim().parse::<Host>() {
        Ok(host) => Some(host),
        // A host that is missing altogether has been told already.
        Err(_) if single && settings.host.is_none() => None,
        Err(wrong) => {
            errors.push(RouteError::new(format!("{path}host"), wrong));
            None
        }
    };
    if let Some(Host::Ip(ip)) = host
        && settings.mx_lookup == Some(true)
    {
        errors.push(RouteError::new(format!("{path}host"), RouteErrorKind::MxLookupOnIp(ip)));
    }
    let protocol = settings.protocol.unwrap_or_default();
    let port = match port(entry.port.unwrap_or(25), protocol, single) {
        Ok(port) => Some(port),
        Err(wrong) => {
            errors.push(RouteError::new(format!("{path}port"), wrong));
            None
        }
    };
    let load = match entry.load {
        Some(load) => match u8::try_from(load).ok().filter(|load| *load <= 100) {
            Some(load) => Some(load),
            None => {
                errors.push(RouteError::new(format!("{path}load"), RouteErrorKind::Load(load)));
                None
            }
        },
        None => {
            errors.push(RouteError::new(format!("{path}load"), RouteErrorKind::NoLoad));
            None
        }
    };
    let (Some(host), Some(port), Some(load)) = (host, port, load) else { return };
    let start = match (port, protocol) {
        (465, Protocol::Smtp) => TlsStart::Implicit,
        _ => entry.tls.or(settings.tls).unwrap_or_default(),
    };
    let tls = TlsPolicy::from_switches(
        start,
        settings.require_tls,
        settings.require_ca_signed,
        settings.verify_hostname,
    );
    found.push(RouteHost { at: HostPort { host, port }, tier, load, tls });
}

fn port(port: i64, protocol: Protocol, single: bool) -> Result<u16, RouteErrorKind> {
    let wrong = match (protocol, single, port) {
        (Protocol::Lmtp, _, _) => RouteErrorKind::LmtpPort(port),
        (Protocol::Smtp, true, 465) => RouteErrorKind::SingleHost465,
        (Protocol::Smtp, true, _) => RouteErrorKind::SingleHostPort(port),
        (Protocol::Smtp, false, _) => RouteErrorKind::ListPort(port),
    };
    match (u16::try_from(port), protocol, single) {
        (Ok(port @ 1..), Protocol::Lmtp, _) => Ok(port),
        (Ok(port @ (25 | 587 | 1024..)), Protocol::Smtp, _) => Ok(port),
        (Ok(465), Protocol::Smtp, false) => Ok(465),
        _ => Err(wrong),
    }
}

fn check_texts(settings: &RouteSettings, errors: &mut Vec<RouteError>) {
    let auth = settings.auth.as_ref();
    for (field, text, example, rule) in [
        ("roots", settings.roots.as_deref(), "a path such as `corp-ca.pem`", "A6"),
        ("auth.user", auth.map(|a| &*a.user), "the user's name at the next hop", "RFC 4954"),
        (
            "auth.password_file",
            auth.map(|a| &*a.password_file),
            "the path of a file that holds the password",
            "RFC 4954",
        ),
    ] {
        if let Some(text) = text
            && (text.trim().is_empty() || text.contains(char::is_control))
        {
            let text = text.escape_default().to_string();
            errors.push(RouteError::new(field, RouteErrorKind::Blank(text, example, rule)));
        }
    }
}

fn check_retry(retry: Option<&RetrySettings>, errors: &mut Vec<RouteError>) {
    let Some(RetrySettings { first, longest, lifetime, delays }) = retry else { return };
    let mut wrong = |field: &str, text| {
        errors.push(RouteError::new(field, RouteErrorKind::Retry(text)));
    };
    for (field, duration) in
        [("retry.first", first), ("retry.longest", longest), ("retry.lifetime", lifetime)]
    {
        if duration.is_some_and(|duration| duration.is_zero()) {
            wrong(field, "a time of zero is not allowed; write one such as `\"5m\"`");
        }
    }
    if let (Some(first), Some(longest)) = (first, longest)
        && first > longest
    {
        wrong("retry.first", "the first delay is above the longest one; lower it");
    }
    let Some(delays) = delays else { return };
    if first.is_some() || longest.is_some() {
        wrong(
            "retry.delays",
            "`delays` stands beside `first` or `longest`; keep one of the two forms",
        );
    }
    if delays.is_empty() || delays.iter().any(|delay| delay.is_zero()) {
        wrong("retry.delays", "the delays are empty or one is zero; write `[\"1m\", \"5m\"]`");
    }
}

fn warnings(settings: &RouteSettings, hosts: &[RouteHost]) -> Vec<RouteWarning> {
    use RouteWarningKind as Kind;
    let mut found = Vec::new();
    let mut warn = |field: &str, kind| found.push(RouteWarning::new(field, kind));
    let policy = hosts.first().map_or(TlsPolicy::OPPORTUNISTIC, |host: &RouteHost| host.tls);
    let required = policy.requirement == TlsDemand::Required;
    if !hosts.iter().all(is_local) {
        if !required {
            warn("require_tls", Kind::TlsNotRequired);
        }
        if required && policy.ca_signed == Check::Off {
            warn("require_ca_signed", Kind::AnyIssuer);
        }
        if required && policy.hostname == Check::Off {
            warn("verify_hostname", Kind::AnyName);
        }
    }
    if !required {
        for (field, check) in
            [("require_ca_signed", policy.ca_signed), ("verify_hostname", policy.hostname)]
        {
            if check == Check::On {
                warn(field, Kind::CheckWithoutTls);
            }
        }
        if settings.auth.is_some() {
            warn("auth", Kind::AuthNotRequired);
        }
    }
    if settings.roots.is_some() && policy.ca_signed == Check::Off {
        warn("roots", Kind::RootsUnused);
    }
    let written: Vec<(String, Option<TlsStart>)> = written(settings);
    for (index, (host, (path, tls))) in hosts.iter().zip(&written).enumerate() {
        if policy.hostname == Check::On && host.at.host.ip().is_some() {
            warn(&format!("{path}host"), Kind::HostnameOnIp);
        }
        if host.tls.start == TlsStart::Implicit && !required {
            warn(&format!("{path}tls"), Kind::ImplicitNotRequired);
        }
        if host.at.port == 465
            && host.tls.start == TlsStart::Implicit
            && *tls == Some(TlsStart::Starttls)
        {
            warn(&format!("{path}tls"), Kind::Port465Starttls);
        }
        if host.at.port == 25 && settings.protocol == Some(Protocol::Lmtp) {
            warn(&format!("{path}port"), Kind::LmtpOn25);
        }
        if hosts.iter().take(index).any(|before| before.at == host.at) {
            warn(&format!("{path}host"), Kind::SameHostTwice);
        }
    }
    found
}

/// Path and own `tls` of each host, in the order of [`Route::hosts`].
fn written(settings: &RouteSettings) -> Vec<(String, Option<TlsStart>)> {
    let single = settings.host.iter().map(|_| (String::new(), settings.tls));
    let list = |tier: Tier, list: &Option<Vec<HostSettings>>| {
        let list = list.as_deref().unwrap_or_default().iter().enumerate();
        list.map(|(index, entry)| (format!("{tier}[{index}]."), entry.tls)).collect::<Vec<_>>()
    };
    single
        .chain(list(Tier::Primary, &settings.primary))
        .chain(list(Tier::Secondary, &settings.secondary))
        .collect()
}

fn is_local(host: &RouteHost) -> bool {
    match &host.at.host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => name.as_str() == "localhost",
    }
}
