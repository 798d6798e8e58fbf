//! The hosts that a delivery may go to, and what is asked of TLS there.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use waypost_route::{
    Check, Draw, Health, HostState, OnTlsFailure, Route, Tier, TlsPolicy, TlsStart,
};
use waypost_types::{Delivery, Destination, RouteName, Timestamp, TlsDemand};

use super::super::Policy;

/// The hosts of a delivery's route, in order (A9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedHosts {
    /// The route, where the delivery itself names none: that of the mailbox system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Box<str>>,
    /// The draw that decided the order, 16 hexadecimal digits; none in a dry run, which has no queue id,
    /// and where no route is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<String>,
    /// The hosts, first to last.
    pub order: Vec<ExplainedHost>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedHost {
    /// Host and port.
    pub at: Box<str>,
    /// `secondary`; absent for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Cow<'static, str>>,
    /// Of how many messages in a hundred it is the first, where there is no draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Why it would be passed over now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// What is asked of TLS at the next hop (A5-A7, A10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedTls {
    /// In words.
    pub words: String,
    /// TLS or no delivery.
    pub require_tls: bool,
    /// The chain ends in a trusted root.
    pub require_ca_signed: bool,
    /// The certificate names the host.
    pub verify_hostname: bool,
    /// `starttls`, `implicit`, or `by-host` where the hosts differ.
    pub start: Cow<'static, str>,
    /// The file of trusted roots; null: the system's.
    pub roots: Option<Box<str>>,
    /// `bounce` or `defer`: what becomes of the message when TLS fails at every host.
    pub on_tls_failure: Cow<'static, str>,
    /// The rule that demands TLS where the route would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_by: Option<Box<str>>,
}

/// How the order of a route's hosts is drawn.
pub enum Drawing<'a> {
    /// There is no queue id: the shares are told.
    Shares,
    /// By the draw of a message; hosts in a pause are not looked at.
    Drawn(&'a dyn Fn(&RouteName) -> Draw),
    /// The same, with the hosts that would be passed over at a moment.
    DrawnNow(&'a dyn Fn(&RouteName) -> Draw, &'a Health, Timestamp),
}

impl Policy {
    /// The hosts that a delivery goes to as the configuration in force has them; `None` for the built-in
    /// Maildir, for the MX hosts of a recipient, and for a route that is gone.
    #[must_use]
    pub fn hosts_of(&self, delivery: &Delivery, drawing: &Drawing<'_>) -> Option<ExplainedHosts> {
        if let Destination::Gateway(host) = &delivery.destination {
            let at = host.to_string().into();
            let only = ExplainedHost { at, tier: None, percent: None, skipped: None };
            return Some(ExplainedHosts { route: None, draw: None, order: vec![only] });
        }
        let route = self.route_of(delivery)?;
        let is_named = matches!(delivery.destination, Destination::Route { .. });
        let host = |host: &waypost_route::RouteHost| ExplainedHost {
            at: host.at().to_string().into(),
            tier: (host.tier() == Tier::Secondary).then_some("secondary".into()),
            percent: None,
            skipped: None,
        };
        let (draw, order) = match drawing {
            Drawing::Shares => {
                let shares = route.distribution(&[]);
                let share = |share: &waypost_route::Share<'_>| ExplainedHost {
                    percent: (share.host.tier() == Tier::Primary)
                        .then(|| (share.percent * 100.0).round() / 100.0),
                    ..host(share.host)
                };
                (None, shares.iter().map(share).collect())
            }
            Drawing::Drawn(draw) => {
                let attempts =
                    route.attempts(draw(route.name()), &Health::default(), Timestamp::default());
                (Some(attempts.draw), attempts.order.into_iter().map(host).collect())
            }
            Drawing::DrawnNow(draw, health, now) => {
                let attempts = route.attempts(draw(route.name()), health, *now);
                let skipped = attempts.skipped.iter().map(|skipped| ExplainedHost {
                    skipped: Some(match skipped.why {
                        HostState::Paused { until, .. } => format!("in its pause until {until}"),
                        HostState::Probing { .. } => "being probed".to_owned(),
                        _ => "down".to_owned(),
                    }),
                    ..host(skipped.host)
                });
                let order = attempts.order.iter().map(|one| host(one)).chain(skipped).collect();
                (Some(attempts.draw), order)
            }
        };
        Some(ExplainedHosts {
            route: (!is_named).then(|| route.name().as_str().into()),
            draw: draw.map(|draw| draw.to_string()),
            order,
        })
    }

    /// What is asked of TLS for a delivery as the configuration in force has it; `tls_by` is the rule
    /// that settled the delivery's own demand. `None` where nothing goes over the network.
    #[must_use]
    pub fn tls_of(&self, delivery: &Delivery, tls_by: Option<&str>) -> Option<ExplainedTls> {
        let opportunistic = [TlsPolicy::OPPORTUNISTIC];
        let (hosts, roots, failure): (Vec<TlsPolicy>, _, _) = match self.route_of(delivery) {
            Some(route) => (
                route.hosts().iter().map(waypost_route::RouteHost::tls).collect(),
                route.roots(),
                route.on_tls_failure(),
            ),
            None => match &delivery.destination {
                Destination::Gateway(_) | Destination::Mx => {
                    (opportunistic.to_vec(), None, OnTlsFailure::Bounce)
                }
                _ => return None,
            },
        };
        let first = *hosts.first()?;
        let policy = first.with_demand(delivery.tls);
        let required_by = tls_by.filter(|_| policy.requirement != first.requirement);
        let implicit = hosts.iter().filter(|host| host.start == TlsStart::Implicit).count();
        let start = match implicit {
            0 => "starttls",
            some if some == hosts.len() => "implicit",
            _ => "by-host",
        };
        Some(ExplainedTls {
            words: words(policy, start, roots, failure, required_by),
            require_tls: policy.requirement == TlsDemand::Required,
            require_ca_signed: policy.ca_signed == Check::On,
            verify_hostname: policy.hostname == Check::On,
            start: start.into(),
            roots: roots.map(Into::into),
            on_tls_failure: match failure {
                OnTlsFailure::Bounce => "bounce".into(),
                OnTlsFailure::Defer => "defer".into(),
            },
            required_by: required_by.map(Into::into),
        })
    }

    fn route_of(&self, delivery: &Delivery) -> Option<&Route> {
        let (organization, route) = match &delivery.destination {
            Destination::Route { organization, route } => (organization, Some(route)),
            Destination::Mailbox { organization } => (organization, None),
            _ => return None,
        };
        let owner = self.organization(organization)?;
        owner.routes.get(route.or(owner.mailbox_route.as_ref())?).map(|route| &**route)
    }
}

fn words(
    policy: TlsPolicy,
    start: &str,
    roots: Option<&str>,
    failure: OnTlsFailure,
    required_by: Option<&str>,
) -> String {
    let how = match start {
        "implicit" => "from the first octet",
        "by-host" => "by STARTTLS, or from the first octet where the host says so",
        _ => "by STARTTLS",
    };
    let is_required = policy.requirement == TlsDemand::Required;
    let demand = match (is_required, required_by) {
        (true, Some(rule)) => format!("required by rule \"{rule}\", {how}"),
        (true, None) => format!("required, {how}"),
        (false, _) if policy.allows_clear_text() => format!("{how} where offered, else clear text"),
        (false, _) => how.to_owned(),
    };
    let checks = match (policy.ca_signed, policy.hostname) {
        (Check::On, Check::On) => "the certificate must be signed by a CA and name the host",
        (Check::On, Check::Off) => "the certificate must be signed by a CA, for whatever name",
        (Check::Off, Check::On) => "the certificate must name the host, whoever signed it",
        (Check::Off, Check::Off) => "any certificate will do",
    };
    let roots = match roots {
        Some(file) if policy.ca_signed == Check::On => format!(" (roots in {file})"),
        _ => String::new(),
    };
    let otherwise = match failure {
        _ if !is_required && policy.falls_back() => "",
        OnTlsFailure::Bounce => "; else the message bounces",
        OnTlsFailure::Defer => "; else the message waits",
    };
    format!("{demand}; {checks}{roots}{otherwise}")
}
