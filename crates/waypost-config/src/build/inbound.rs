//! `[organization.inbound_gateway]`: handed to its own crate, whose findings are put at their places.

use waypost_inbound::{
    GatewaySettings, InboundGateway, RejectCode, Setting, SpamTagSettings, Switch,
};

use super::routes::split;
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{self, List, Range, RawInboundGateway};

pub(super) fn build(
    raw: &Spanned<RawInboundGateway>,
    report: &mut Report,
) -> Option<InboundGateway> {
    match InboundGateway::new(&settings(raw)) {
        Ok(gateway) => {
            if gateway.is_empty() && raw.complete {
                report.push(Diagnostic::warning(
                    "no-gateway",
                    raw.addresses.place,
                    "E3",
                    "no gateway address is listed, so every client is its own source",
                    "list the gateway's addresses, or remove the table",
                ));
            }
            for place in gateway.allowed_without_effect() {
                report.push(Diagnostic::warning(
                    "allow-list-and-gateway",
                    raw.allow_list.items.get(*place).map_or(raw.place, |range| range.place),
                    "E11",
                    "this address is a gateway's, so its entry in the allow list has no effect",
                    "remove it from one of the two lists",
                ));
            }
            if raw.strict.value && !raw.detect_external_ip.value {
                report.push(Diagnostic::warning(
                    "strict-without-detection",
                    raw.strict.place,
                    "E4",
                    "`strict` says where detection stops, and nothing is detected",
                    "write `detect_external_ip = true`, or remove this line",
                ));
            }
            Some(gateway)
        }
        Err(errors) => {
            for error in errors {
                let (place, rule) = place_and_rule(raw, error.setting);
                // What could not be read was told already: that it is missing is no news.
                let follows =
                    matches!(error.setting, Setting::OnlySpamTag | Setting::RejectOtherClients);
                if follows && !raw.complete {
                    continue;
                }
                let (message, cure) = split(&error.kind.to_string());
                report.push(Diagnostic::error("wrong-gateway", place, rule, message, cure));
            }
            None
        }
    }
}

fn settings(raw: &RawInboundGateway) -> GatewaySettings {
    let texts = |list: &List<Range>| list.iter().map(|range| range.as_str().to_owned()).collect();
    let switch = |switch: raw::Switch| match switch {
        raw::Switch::On => Switch::On,
        raw::Switch::Off => Switch::Off,
        raw::Switch::Observe => Switch::Observe,
    };
    GatewaySettings {
        addresses: texts(&raw.addresses),
        detect_external_ip: raw.detect_external_ip.value,
        strict: raw.strict.value,
        allow_private: raw.allow_private.value,
        documentation_ranges_public: raw.documentation_ranges_public.value,
        require_tls: switch(raw.require_tls.value),
        reject_other_clients: switch(raw.reject_other_clients.value),
        reject_code: match raw.reject_code.value {
            raw::RejectCode::Permanent => RejectCode::Permanent,
            raw::RejectCode::Temporary => RejectCode::Transient,
        },
        allow_list: texts(&raw.allow_list),
        spam_tag: raw.spam_tag.as_ref().and_then(|tag| {
            Some(SpamTagSettings {
                regex: tag.regex.as_ref()?.as_str().to_owned(),
                score_at_least: tag.score_at_least.as_ref().map(|score| score.value),
            })
        }),
        only_spam_tag: raw.only_spam_tag.value,
    }
}

fn place_and_rule(raw: &Spanned<RawInboundGateway>, setting: Setting) -> (Place, &'static str) {
    let nth = |list: &List<Range>, index: usize| {
        list.items.get(index).map_or(list.place, |range| range.place)
    };
    match setting {
        Setting::Address(index) => (nth(&raw.addresses, index), "E1"),
        Setting::AllowListEntry(index) => (nth(&raw.allow_list, index), "E11"),
        Setting::SpamTag => {
            let tag = raw.spam_tag.as_ref();
            let regex = tag.and_then(|tag| tag.regex.as_ref());
            (regex.map_or(raw.place, |regex| regex.place), "E9")
        }
        Setting::OnlySpamTag => (raw.only_spam_tag.place, "E10"),
        Setting::RejectOtherClients => (raw.reject_other_clients.place, "E7"),
        _ => (raw.place, "E1"),
    }
}
