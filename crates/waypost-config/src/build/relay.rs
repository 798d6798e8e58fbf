//! `[[organization.relay]]` and quotas: handed to their own crate, whose findings are put at their
//! places.

use std::collections::HashMap;

use waypost_relay::{
    AddressSettings, AllowedSenders, LimitMode, LimitOverrides, OrganizationRelay, Payment,
    RelayEntry, RelayMode, RelayPlace, RelayService, RelaySettings, RelayWarningKind,
    UnlistedAddress,
};

use super::Unique;
use super::organization::CompiledOrganization;
use super::routes::split;
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{self, RawConfig, RawLimits, RawOrganization, RawRelay};

/// The relay service of all organizations. `None`: something in the report stands against it.
pub(super) fn build(
    raw: &RawConfig,
    compiled: &[CompiledOrganization],
    report: &mut Report,
) -> Option<RelayService> {
    let mut organizations = Vec::new();
    for (organization, compiled) in raw.organization.iter().zip(compiled) {
        organizations.extend(one(organization, compiled, report));
    }
    let all = organizations.len() == raw.organization.items.len();
    match RelayService::new(organizations) {
        Ok(service) => all.then_some(service),
        Err(errors) => {
            // Names, domains and descriptions were judged with their places before; what is left
            // must not be lost.
            if !report.has_errors() {
                for error in errors {
                    let (message, cure) = split(&error.to_string());
                    let place = raw.organization.place;
                    report.push(Diagnostic::error("wrong-relay", place, "D1", message, cure));
                }
            }
            None
        }
    }
}

fn one(
    raw: &RawOrganization,
    compiled: &CompiledOrganization,
    report: &mut Report,
) -> Option<OrganizationRelay> {
    let mut descriptions = Unique::new("relay entry", "D1");
    let mut entries = Vec::new();
    for relay in &raw.relay {
        if let Some(description) = &relay.description {
            let key = description.as_str().to_lowercase();
            descriptions.claim(key, description.as_str(), description.place, report);
        }
        entries.extend(entry(relay, report));
    }
    let active = compiled.directory.active_users();
    let user_limits: HashMap<_, _> =
        active.filter_map(|(user, _, limits)| Some((user.address.clone(), *limits?))).collect();
    Some(OrganizationRelay {
        name: raw.name.as_ref()?.as_str().to_owned(),
        domains: raw.domains.iter().map(|domain| domain.value.clone()).collect(),
        entries,
        licences: raw.licences.as_ref().map_or(0, |licences| licences.value),
        payment: if raw.payment_overdue.value { Payment::Overdue } else { Payment::Settled },
        limits: raw.limits.as_ref().map(|limits| limits_of(limits)).unwrap_or_default(),
        user_limits,
    })
}

fn limits_of(raw: &RawLimits) -> LimitOverrides {
    let number = |field: &Option<Spanned<u32>>| field.as_ref().map(|number| number.value);
    LimitOverrides {
        recipients_per_day: number(&raw.recipients_per_day),
        recipients_per_10_minutes: number(&raw.recipients_per_10_minutes),
        messages_per_user_per_day: number(&raw.messages_per_user_per_day),
        unique_recipients_per_user_per_day: number(&raw.unique_recipients_per_user_per_day),
        recipients_per_login_per_day: number(&raw.recipients_per_login_per_day),
        recipients_per_client_per_day: number(&raw.recipients_per_client_per_day),
        mode: match raw.mode.as_ref().map(|mode| mode.value) {
            None | Some(raw::Mode::Enforce) => LimitMode::Enforce,
            Some(raw::Mode::Observe) => LimitMode::Observe,
            Some(raw::Mode::Off) => LimitMode::Off,
        },
    }
}

fn entry(raw: &Spanned<RawRelay>, report: &mut Report) -> Option<RelayEntry> {
    match RelayEntry::new(settings(raw)?) {
        Ok(entry) => {
            for warning in entry.warnings() {
                let (place, rule) = place_and_rule(raw, warning.place);
                let id = match &warning.kind {
                    RelayWarningKind::PrivateRange(_) => "private-range",
                    RelayWarningKind::AnySender => "any-sender",
                    RelayWarningKind::RepeatedRange(_) => "repeated-range",
                    _ => "relay-doubt",
                };
                let text = warning.to_string();
                let head = format!("relay entry `{}`: ", warning.entry);
                let (message, cure) = split(text.strip_prefix(&head).unwrap_or(&text));
                report.push(Diagnostic::warning(id, place, rule, message, cure));
            }
            Some(entry)
        }
        Err(errors) => {
            for error in errors {
                // What could not be read was told already: that it is missing is no news.
                if error.place == RelayPlace::Authentication && !raw.complete {
                    continue;
                }
                let (place, rule) = place_and_rule(raw, error.place);
                let (message, cure) = split(&error.kind.to_string());
                report.push(Diagnostic::error("wrong-relay", place, rule, message, cure));
            }
            None
        }
    }
}

fn settings(raw: &RawRelay) -> Option<RelaySettings> {
    let addresses = raw.addresses.iter().filter_map(|address| {
        Some(AddressSettings {
            range: address.range.as_ref()?.as_str().to_owned(),
            description: address
                .description
                .as_ref()
                .map(|description| description.as_str().to_owned())
                .unwrap_or_default(),
            enabled: address.enabled.value,
        })
    });
    Some(RelaySettings {
        description: raw.description.as_ref()?.as_str().to_owned(),
        allowed_senders: match raw.allowed_senders.as_ref()?.value {
            raw::AllowedSenders::RegisteredUsers => AllowedSenders::RegisteredUsers,
            raw::AllowedSenders::MyDomains => AllowedSenders::MyDomains,
            raw::AllowedSenders::Any => AllowedSenders::Any,
        },
        addresses: addresses.collect(),
        require_auth: raw.require_auth.value,
        require_tls: raw.require_tls.value,
        unlisted_address: match raw.unlisted_address.value {
            raw::UnlistedAddress::Reject => UnlistedAddress::Reject,
            raw::UnlistedAddress::Defer => UnlistedAddress::Defer,
        },
        copy_to: raw.copy_to.as_ref().map(|copy_to| match &copy_to.value {
            raw::CopyTo::SenderMailbox => "sender-mailbox".to_owned(),
            raw::CopyTo::Address(address) => address.to_string(),
        }),
        mode: match raw.mode.value {
            raw::Mode::Enforce => RelayMode::Enforce,
            raw::Mode::Observe => RelayMode::Observe,
            raw::Mode::Off => RelayMode::Off,
        },
    })
}

fn place_and_rule(raw: &Spanned<RawRelay>, place: RelayPlace) -> (Place, &'static str) {
    let written = |found: Option<Place>| found.unwrap_or(raw.place);
    match place {
        RelayPlace::Description => {
            (written(raw.description.as_ref().map(|found| found.place)), "D1")
        }
        RelayPlace::AllowedSenders => {
            (written(raw.allowed_senders.as_ref().map(|found| found.place)), "D2")
        }
        RelayPlace::Address(index) => {
            // Only addresses with a range were handed over, and so only they are counted.
            let mut with_range =
                raw.addresses.iter().filter_map(|address| Some(address.range.as_ref()?.place));
            (written(with_range.nth(index)), "D4")
        }
        RelayPlace::Authentication => (raw.place, "D3"),
        RelayPlace::CopyTo => (written(raw.copy_to.as_ref().map(|found| found.place)), "D16"),
        _ => (raw.place, "D1"),
    }
}
