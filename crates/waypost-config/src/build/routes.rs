//! `[[organization.route]]`: handed to the routes' own crate, whose findings are put at their places.

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_route::{
    AuthSettings, HostSettings, OnTlsFailure, Protocol, RetrySettings, Route, RouteErrorKind,
    RouteSettings, RouteWarningKind, TlsStart,
};
use waypost_types::{OrgUnit, RouteName};

use super::known_names;
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{self, List, RawOrganization, RawRoute, RawRouteHost};

/// The routes of an organization as rules see them: every name that is written, and what compiles.
pub(super) struct Routes {
    units: BTreeMap<RouteName, (OrgUnit, Place)>,
    pub(super) compiled: BTreeMap<RouteName, Arc<Route>>,
}

impl Routes {
    pub(super) fn build(raw: &RawOrganization, report: &mut Report) -> Self {
        let mut routes = Self { units: BTreeMap::new(), compiled: BTreeMap::new() };
        for route in &raw.route {
            let Some(name) = &route.name else {
                // Its other mistakes are told all the same.
                if let Ok(stand_in) = "unnamed".parse() {
                    compile(route, &stand_in, report);
                }
                continue;
            };
            if let Some((_, first)) = routes.units.get(&name.value) {
                let first = report.locate(*first);
                report.push(Diagnostic::error(
                    "duplicate-name",
                    name.place,
                    "A1",
                    format!("the route `{}` was given at {first} already", **name),
                    "give it another name: names of routes are compared without case",
                ));
            } else {
                let unit = (route.org_unit.value.clone(), name.place);
                routes.units.insert(name.value.clone(), unit);
            }
            if let Some(compiled) = compile(route, name, report) {
                routes.compiled.insert(name.value.clone(), Arc::new(compiled));
            }
        }
        routes
    }

    /// Sees to it that a route that is named exists, and holds in the unit of who names it (A11).
    pub(super) fn check(&self, named: &Spanned<RouteName>, unit: &OrgUnit, report: &mut Report) {
        let Some((routes_unit, _)) = self.units.get(&named.value) else {
            let known: Vec<_> = self.units.keys().map(RouteName::as_str).collect();
            report.push(Diagnostic::error(
                "unknown-route",
                named.place,
                "A11",
                format!("there is no route `{}` in this organization", **named),
                known_names(named.as_str(), &known),
            ));
            return;
        };
        if !unit.is_at_or_below(routes_unit) {
            report.push(Diagnostic::error(
                "route-of-another-unit",
                named.place,
                "A11",
                format!("the route `{}` is set for {routes_unit}, this is {unit}", **named),
                format!("name a route of {unit} or of a unit above it"),
            ));
        }
    }
}

fn compile(raw: &Spanned<RawRoute>, name: &RouteName, report: &mut Report) -> Option<Route> {
    match Route::new(settings(raw, name)) {
        Ok(route) => {
            for warning in route.warnings() {
                let place = place_of(raw, warning.field());
                let text = warning.to_string();
                let (message, cure) = split(strip_field(&text, warning.field()));
                let id = warning.kind().id();
                let rule = match warning.kind() {
                    RouteWarningKind::HostnameOnIp | RouteWarningKind::CheckWithoutTls => "A7",
                    _ => rule_of(warning.field()),
                };
                report.push(Diagnostic::warning(id, place, rule, message, cure));
            }
            Some(route)
        }
        Err(errors) => {
            for error in errors {
                let place = place_of(raw, error.field());
                let (message, cure) = split(&error.kind().to_string());
                let rule = match error.kind() {
                    RouteErrorKind::MxLookupOnIp(_) => "A4",
                    _ => rule_of(error.field()),
                };
                // What could not be read was told already: that it is missing is no news.
                let follows = match error.field() {
                    field if field.starts_with("primary") => is_incomplete(&raw.primary),
                    field if field.starts_with("secondary") => is_incomplete(&raw.secondary),
                    _ => place == raw.place && !raw.complete,
                };
                if follows {
                    continue;
                }
                report.push(Diagnostic::error("wrong-route", place, rule, message, cure));
            }
            None
        }
    }
}

fn is_incomplete(list: &List<RawRouteHost>) -> bool {
    list.written.is_some_and(|written| written != list.items.len())
        || list.iter().any(|host| !host.complete)
}

/// `text; cure` of the crates' errors, or the text and a general cure.
pub(super) fn split(text: &str) -> (String, String) {
    match text.split_once("; ") {
        Some((message, cure)) => (message.to_owned(), cure.to_owned()),
        None => (text.to_owned(), "correct it as the rule says".into()),
    }
}

fn strip_field<'t>(text: &'t str, field: &str) -> &'t str {
    text.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text)
}

/// The requirement of a key of a route, as its table has it.
fn rule_of(field: &str) -> &'static str {
    let key = field.split(['[', '.']).next().unwrap_or("");
    RawRoute::keys().iter().find(|known| known.name == key).map_or("A2", |known| known.rule)
}

fn settings(raw: &RawRoute, name: &RouteName) -> RouteSettings {
    let start = |start: &Spanned<raw::TlsStart>| match start.value {
        raw::TlsStart::StartTls => TlsStart::Starttls,
        raw::TlsStart::Implicit => TlsStart::Implicit,
    };
    let hosts = |list: &List<RawRouteHost>| {
        list.written?;
        let host = |host: &Spanned<RawRouteHost>| {
            Some(HostSettings {
                host: host.host.as_ref()?.to_string(),
                port: Some(i64::from(host.port.0)),
                load: host.load.as_ref().map(|load| i64::from(load.0)),
                tls: host.tls.as_ref().map(start),
            })
        };
        Some(list.iter().filter_map(host).collect())
    };
    RouteSettings {
        name: name.as_str().to_owned(),
        org_unit: Some(raw.org_unit.to_string()),
        host: raw.host.as_ref().map(|host| host.to_string()),
        port: raw.port.as_ref().map(|port| i64::from(port.0)),
        mx_lookup: Some(raw.mx_lookup.value),
        primary: hosts(&raw.primary),
        secondary: hosts(&raw.secondary),
        require_tls: Some(raw.require_tls.value),
        require_ca_signed: raw.require_ca_signed.as_ref().map(|on| on.value),
        verify_hostname: raw.verify_hostname.as_ref().map(|on| on.value),
        roots: raw.roots.as_ref().map(|roots| roots.as_str().to_owned()),
        protocol: Some(match raw.protocol.value {
            raw::Protocol::Smtp => Protocol::Smtp,
            raw::Protocol::Lmtp => Protocol::Lmtp,
        }),
        tls: raw.tls.as_ref().map(start),
        on_tls_failure: Some(match raw.on_tls_failure.value {
            raw::OnTlsFailure::Bounce => OnTlsFailure::Bounce,
            raw::OnTlsFailure::Defer => OnTlsFailure::Defer,
        }),
        auth: raw.auth.as_ref().and_then(|auth| {
            Some(AuthSettings {
                user: auth.user.as_ref()?.as_str().to_owned(),
                password_file: auth.password_file.as_ref()?.as_str().to_owned(),
            })
        }),
        retry: raw.retry.as_ref().map(|retry| RetrySettings {
            first: retry.first.as_ref().map(|pause| pause.value),
            longest: retry.longest.as_ref().map(|pause| pause.value),
            lifetime: retry.lifetime.as_ref().map(|pause| pause.value),
            delays: retry
                .delays
                .written
                .map(|_| retry.delays.iter().map(|delay| delay.value).collect()),
        }),
    }
}

/// The place of a setting that the routes' crate names, such as `primary[1].load`.
fn place_of(raw: &Spanned<RawRoute>, field: &str) -> Place {
    let exact = match field {
        "name" => raw.name.as_ref().map(|found| found.place),
        "org_unit" => Some(raw.org_unit.place),
        "host" => raw.host.as_ref().map(|found| found.place),
        "port" => raw.port.as_ref().map(|found| found.place),
        "mx_lookup" => Some(raw.mx_lookup.place),
        "require_tls" => Some(raw.require_tls.place),
        "require_ca_signed" => raw.require_ca_signed.as_ref().map(|found| found.place),
        "verify_hostname" => raw.verify_hostname.as_ref().map(|found| found.place),
        "roots" => raw.roots.as_ref().map(|found| found.place),
        "protocol" => Some(raw.protocol.place),
        "tls" => raw.tls.as_ref().map(|found| found.place),
        "on_tls_failure" => Some(raw.on_tls_failure.place),
        "primary" => Some(raw.primary.place),
        "secondary" => Some(raw.secondary.place),
        field if field.starts_with("auth") => raw.auth.as_ref().map(|found| found.place),
        field if field.starts_with("retry") => raw.retry.as_ref().map(|found| found.place),
        field => in_list(&raw.primary, field, "primary")
            .or_else(|| in_list(&raw.secondary, field, "secondary")),
    };
    exact.unwrap_or(raw.place)
}

fn in_list(list: &List<RawRouteHost>, field: &str, name: &str) -> Option<Place> {
    let (index, key) = field.strip_prefix(name)?.strip_prefix('[')?.split_once(']')?;
    let host = list.items.get(index.parse::<usize>().ok()?)?;
    let exact = match key {
        ".host" => host.host.as_ref().map(|found| found.place),
        ".port" => Some(host.port.place),
        ".load" => host.load.as_ref().map(|found| found.place),
        ".tls" => host.tls.as_ref().map(|found| found.place),
        _ => None,
    };
    exact.or(Some(host.place))
}
