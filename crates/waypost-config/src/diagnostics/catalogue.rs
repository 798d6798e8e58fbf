//! What [`check`](crate::compile) can say, by id: the list behind `docs/CHECK.md`.

use std::fmt::Write as _;

use super::Severity;
use Severity::{Error, Warning};

/// One kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id, in kebab-case; it stays the same over versions.
    pub id: &'static str,
    /// How much it weighs; where both occur, the heavier one.
    pub severity: Severity,
    /// The requirements that it may name.
    pub rules: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it, in general; the finding itself says it for the case.
    pub cure: &'static str,
}

const fn known(
    id: &'static str,
    severity: Severity,
    rules: &'static str,
    meaning: &'static str,
    cure: &'static str,
) -> Known {
    Known { id, severity, rules, meaning, cure }
}

/// Everything that can be said, errors first, then warnings, each by id.
#[rustfmt::skip]
pub const CATALOGUE: &[Known] = &[
    known("address-and-parts", Error, "C6", "A recipient is changed by `address` and by its parts at once.", "Write `address` alone, or `local_part` and/or `domain`."),
    known("duplicate-address", Error, "C4 D10", "An address is given to two users or groups.", "Take it away at one of the two places."),
    known("duplicate-domain", Error, "C3", "Two organizations have verified the same domain.", "A domain belongs to one organization: take it away at one of the two."),
    known("duplicate-name", Error, "A1 C1 D1 D5 D11", "A name that must be unique is given twice.", "Rename one of the two, or remove it."),
    known("empty-text", Error, "C6", "A rule rejects without saying why.", "Tell the sender why, and whom to ask."),
    known("foreign-address", Error, "C4 C5 D10", "A user or group has an address outside the organization's domains.", "Add the domain once it is verified, or write an address in one of the domains."),
    known("gateway-port", Error, "B1 A2", "`outbound_gateway` has a port that is not allowed.", "Write 25, 587 or a port from 1024 to 65535."),
    known("group-cycle", Error, "C5", "A group contains itself.", "Take one of the memberships away."),
    known("missing-key", Error, "(each key's)", "A key that must be there is not.", "Add it; the message shows an example."),
    known("no-account", Error, "C4", "A rule affects no kind of account.", "Write at least one of `users`, `groups` and `unrecognized`, or remove the key."),
    known("no-delivery", Error, "A9", "With a limit or time-out of 0 nothing can be delivered.", "Write 1 or more, or remove it."),
    known("no-direction", Error, "C2", "A rule affects no mail.", "Write `affects` with at least one of the four directions."),
    known("no-domain", Error, "C3", "An organization has no verified domain.", "Add `domains`, the primary one first."),
    known("no-filter", Error, "D17", "With a time-out or a number of connections of 0 the filter can never answer.", "Write more than nothing, or remove it."),
    known("no-login", Error, "D6", "With a limit of 0 nobody can authenticate.", "Write 1 or more, or remove it."),
    known("no-recipient", Error, "C6", "A recipient is replaced with nothing.", "Write `address`, or `local_part` and/or `domain`."),
    known("no-roots", Error, "A6 O5", "A file of trusted roots holds no certificate.", "Write the authority's certificates into it, in PEM."),
    known("not-public", Error, "B4", "An address of `public_addresses` cannot be seen from outside.", "Write the address that others see."),
    known("not-toml", Error, "format", "The text is not TOML.", "Correct the syntax; see <https://toml.io>."),
    known("one-action", Error, "C6", "A rule does nothing, or several things at once.", "Write exactly one of `reject`, `quarantine` and `modify`."),
    known("one-of-three", Error, "C5", "An entry of a filter is none, or more than one, of address, pattern and group.", "Write exactly one; several entries are or-ed."),
    known("one-outcome", Error, "O7", "A test expects nothing, or several things of one delivery.", "Write exactly one of `route`, `reply`, `via` and `quarantine`."),
    known("record-keep", Error, "C9", "More files of the record are to be kept than can be counted through.", "Write 1000 or less; a larger `rotate` keeps more in each."),
    known("record-size", Error, "C9", "A file of the record would hold few lines, or none.", "Write `rotate = \"64KiB\"` or more."),
    known("redis-nodes", Error, "O5", "Quotas are said to be shared by no node.", "Write 1 or more."),
    known("redis-span", Error, "O5", "A span of `redis_timeout` or `redis_lease` is out of range.", "Write one within the range that the message shows."),
    known("redis-tls", Error, "O5", "Files for TLS to Redis are given that have no effect, or a certificate without its key.", "Write a `rediss://` address and both of `redis_certificate` and `redis_key`, or remove what is too much."),
    known("retry-schedule", Error, "O2", "A schedule contradicts itself, or has a pause of nothing.", "Keep `delays`, or `first` and `longest`, the latter not shorter."),
    known("route-of-another-unit", Error, "A11", "A rule names a route of a unit that it is not in.", "Name a route of its own unit or of one above it."),
    known("unknown-group", Error, "C5", "A rule names a group that does not exist.", "Correct the name, or define the group."),
    known("unknown-key", Error, "format", "There is no key of that name.", "Take the nearest known key, or remove it."),
    known("unknown-listener", Error, "O7", "A test names a listener that does not exist.", "Correct the name."),
    known("unknown-route", Error, "A11 O7", "A route is named that does not exist.", "Correct the name, or define the route."),
    known("unknown-rule", Error, "C8", "A unit switches off a rule that it does not inherit.", "Correct the name; a rule of the unit itself takes `mode = \"off\"`."),
    known("unreadable-file", Error, "A5 A6 O5 format", "A file that is named cannot be read: an error, but for certificates and keys of listeners or for Redis, without which only `serve` does not start.", "Correct the path (a relative one starts at the directory of the main file) or the rights."),
    known("user-is-root", Error, "O1", "The user that the server is to become is root.", "Name a user of its own."),
    known("wrong-filter", Error, "D17", "A tag of the filter is no regular expression, or takes no score.", "The message names rule and cure."),
    known("wrong-gateway", Error, "E1 E7 E9 E10 E11", "A setting of the inbound gateway breaks a rule.", "The message names rule and cure."),
    known("wrong-header", Error, "C6", "A name or value cannot stand in a header line.", "Write letters, digits and hyphens; the value in one line."),
    known("wrong-password-file", Error, "A5", "The file of a route's password holds none, or more than one line.", "Write the password and nothing else into it."),
    known("wrong-proxy", Error, "D15", "A range of proxies has host bits behind its prefix.", "Write the range that the message names, or one address."),
    known("wrong-relay", Error, "D1 D3 D4", "A relay entry breaks a rule.", "The message names rule and cure."),
    known("wrong-route", Error, "A2 A3 A4 O2", "A route breaks a rule.", "The message names rule and cure."),
    known("wrong-type", Error, "(each key's)", "A value has another type than its key takes.", "The message shows an example."),
    known("wrong-value", Error, "(each key's)", "A value breaks the rule of its key.", "The message names what is wrong, and shows an example."),
    known("allow-list-and-gateway", Warning, "E11", "An address is in the allow list and among the gateways: the entry has no effect.", "Remove it from one of the two."),
    known("any-issuer", Warning, "A6", "TLS is required, and a certificate of any issuer will do.", "Write `require_ca_signed = true`, or name the roots."),
    known("any-name", Warning, "A7", "TLS is required, and a certificate for any name will do.", "Write `verify_hostname = true` and the name on the certificate."),
    known("any-sender", Warning, "D2", "A relay entry lets anybody's addresses be used.", "Prefer `my-domains`."),
    known("auth-not-required", Warning, "A5", "Credentials are sent over TLS alone, and TLS is not required, so mail may wait.", "Write `require_tls = true`."),
    known("breaks-signature", Warning, "B3", "A change breaks the DKIM signature of outgoing mail that is signed already.", "Sign after this server, or leave that part as it is."),
    known("catch-all-without-filter", Warning, "C7", "A rule takes the unknown recipients of several domains alike.", "Say by an envelope filter which domains are meant."),
    known("changes-nothing", Warning, "C6", "A rule changes nothing.", "Say what it changes, or remove it."),
    known("check-without-tls", Warning, "A7 A6", "A certificate is checked though TLS is not required: clear text stays possible.", "Write `require_tls = true`, or leave the check out."),
    known("copy-to-itself", Warning, "O8", "A rule sends the recipient a second copy by the way that its mail goes anyway.", "Give the copy a route or address of its own, or remove it."),
    known("disabled-rule-is-off", Warning, "C8", "A unit switches off a rule that is off everywhere.", "Remove the name there, or the rule's `mode`."),
    known("dns-unknown", Warning, "B4", "`check --dns`: the DNS did not answer, so nothing can be said.", "Ask again when it does."),
    known("duplicate-copy", Warning, "O8", "A rule asks for the same copy twice; it is delivered once.", "Remove one of the two."),
    known("entry-never-matches", Warning, "C5", "Nothing can match an entry of a filter: a foreign recipient, an account that the rule does not affect, an empty group.", "Correct the entry or the rule's conditions, or remove it."),
    known("few-recipients", Warning, "D14", "Fewer recipients are taken than RFC 5321 asks for.", "Write 100 or more."),
    known("frequent-tls-check", Warning, "A8", "Routes' hosts are connected to more often than every ten minutes.", "Write a span such as `\"1d\"`."),
    known("gateway-and-rule", Warning, "B2", "Outbound mail has two ways, the setting and a rule; the rule wins.", "Keep one, unless both are meant; a rule is the recommended way."),
    known("group-without-user", Warning, "O1", "A group is given for the server and no user, so it has no effect.", "Write `user` beside it, or remove it."),
    known("hold-without-administrators", Warning, "D13", "Mail over a quota is held, and nobody would be told.", "Add `administrators`."),
    known("hostname-on-ip", Warning, "A7", "The certificate must name an IP address, which few do.", "Write the host's name, or `verify_hostname = false`."),
    known("implicit-not-required", Warning, "A5", "Implicit TLS never falls back to clear text, though TLS is not required.", "Write `require_tls = true`, or `tls = \"starttls\"`."),
    known("limit-not-of-users", Warning, "D12", "A quota of organizations stands at a user.", "Move it to `[organization.limits]`."),
    known("lmtp-on-25", Warning, "A2", "LMTP must not be spoken on port 25.", "Write the port of the mailbox system, often 24."),
    known("loses-mail-silently", Warning, "C6", "When mail of anybody fails, nobody hears of it.", "Suppress bounces of the copy alone, or name the senders."),
    known("mx-elsewhere", Warning, "B4", "`check --dns`: a domain's MX records name neither this server nor a listed gateway.", "Publish the record that the message shows, or list the gateway."),
    known("mx-missing", Warning, "B4", "`check --dns`: a domain has neither MX records nor an address.", "Publish the record that the message shows."),
    known("mx-null", Warning, "B4", "`check --dns`: a domain says that it takes no mail.", "Publish the record that the message shows instead."),
    known("mx-port", Warning, "A4", "Mail for other domains goes to another port than 25.", "Remove it; it is for tests."),
    known("no-gateway", Warning, "E3", "An inbound gateway lists no address.", "List its addresses, or remove the table."),
    known("no-licences", Warning, "D11", "An organization relays and has no licences, so its quotas are 0.", "Write `licences`, or set `[organization.limits]`."),
    known("no-organization", Warning, "C3", "There is no organization, so mail is accepted for nobody.", "Add a table `[[organization]]`."),
    known("part-always-loses", Warning, "C8", "A rule sets a route or recipient that a wider rule before it always sets first.", "Put the narrower rule first, or remove the part."),
    known("password-open-to-all", Warning, "A5", "Every user of the machine may read a password.", "Take the rights away, as the message says."),
    known("pattern-any-character", Warning, "C5", "A `.` in a domain stands for any character.", "Write `\\.`."),
    known("pattern-matches-empty", Warning, "C5", "A pattern of senders matches the empty sender of bounces, or everybody.", "Ask for a character, or leave the entry out."),
    known("pattern-not-anchored", Warning, "C5", "A pattern ends in a domain without `$`: longer domains match too.", "Write `$` at its end."),
    known("port-465-starttls", Warning, "A3", "`tls = \"starttls\"` is not followed on port 465.", "Leave it out, or use port 587."),
    known("private-range", Warning, "D4", "A relay entry admits a private range.", "Use public addresses, unless this server stands in that network."),
    known("quarantine-outgoing", Warning, "C6", "What users send is kept back, and they are told that it was accepted.", "Reject it with a text, or see to its release."),
    known("recipients-added-outgoing", Warning, "C2", "A rule adds recipients to mail that goes out.", "Split and dual delivery are for incoming directions."),
    known("relay-doubt", Warning, "D1", "A relay entry is unwise.", "The message names the cure."),
    known("relay-without-tls", Warning, "D6", "A listener relays and offers no TLS, so nobody can authenticate.", "Add `tls`."),
    known("repeated-range", Warning, "D4", "A range stands in a relay entry twice.", "Remove one."),
    known("roots-unused", Warning, "A6", "A file of roots is not used.", "Switch `require_ca_signed` on, or leave `roots` out."),
    known("route-points-back", Warning, "O3", "A route or gateway leads to this server: its name, a listener, a public address, the MX of an own domain.", "Name the system that the mail is for."),
    known("rule-never-matches", Warning, "C5 C8", "Nothing can match a rule.", "Correct or remove what the message names."),
    known("same-host-twice", Warning, "A3", "A host and port stand in a route twice.", "Keep one entry with the sum of the loads."),
    known("sender-without-address", Warning, "B4", "`check --dns`: this server's name or the gateway's has no address, so SPF cannot be compared.", "Give the name an address, or write `public_addresses`."),
    known("senders-left-out", Warning, "B2", "Outbound mail of some kinds of senders passes by a rule that is to route all of it.", "Remove `accounts`, or give outbound mail a rule of its own."),
    known("shadowed-rule", Warning, "C8", "A rule never acts: another one before it stops, or one rejects whatever it matches.", "Put the narrower rule first, or remove one."),
    known("spf-broken", Warning, "B4", "`check --dns`: a domain's SPF record cannot be evaluated.", "Correct it."),
    known("spf-covers-everyone", Warning, "B4", "`check --dns`: a domain's SPF record covers every address.", "End it in `~all` or `-all`, with the terms that the message names."),
    known("spf-lacks-gateway", Warning, "B4", "`check --dns`: the outbound gateway is not in a domain's SPF record.", "Add the terms that the message names."),
    known("spf-lacks-server", Warning, "B4", "`check --dns`: this server is not in a domain's SPF record.", "Add the terms that the message names."),
    known("spf-missing", Warning, "B4", "`check --dns`: a domain has no SPF record.", "Publish the record that the message shows."),
    known("spf-several", Warning, "B4", "`check --dns`: a domain has several SPF records, so none counts.", "Join them in one."),
    known("split-delivery-circle", Warning, "C7", "A split delivery sends unknown recipients to the mailbox system's host, or to the smart host, which sends them back.", "Name the second system's host."),
    known("strict-without-detection", Warning, "E4", "`strict` says where detection stops, and nothing is detected.", "Write `detect_external_ip = true`, or remove it."),
    known("tls-not-required", Warning, "A5", "Mail may go in clear text.", "Write `require_tls = true` unless the hosts cannot do TLS."),
    known("unit-without-users", Warning, "C8", "A rule is for a unit that no user is in.", "Correct the unit, or declare it with `[[organization.org_unit]]`."),
    known("unknown-administrator", Warning, "D17", "An administrator, in an own domain, is no user and no group.", "Add the user, or name an address that receives mail."),
    known("unknown-member", Warning, "C5", "A member of a group, in an own domain, is no user and no group.", "Add the user, or take the member out."),
    known("unused-key", Warning, "C9", "A key of the record is named, and local parts are written as they are.", "Write `local_parts = \"hashed\"` beside it, or remove it."),
    known("unused-route", Warning, "A1", "Nothing takes a route.", "Name it in a rule, or remove it."),
    known("wide-proxy", Warning, "D15", "A range of trusted proxies holds more than one network.", "List the proxies' own addresses."),
];

/// The list as Markdown: what `docs/CHECK.md` holds.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# What `waypost check` says\n\n\
         Each finding has an id that stays the same over versions; `check --json` gives it as `id`. An error \
         keeps a\nconfiguration from being used, a warning does not: it names what is probably not meant. \
         The requirement\nstands beside each finding as `rule`. This page is made from the program's own \
         list.\n",
    );
    for (severity, head) in [(Error, "Errors"), (Warning, "Warnings")] {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {head}\n\n| id | rule | meaning | cure |\n| --- | --- | --- | --- |\n"
        );
        for one in CATALOGUE.iter().filter(|one| one.severity == severity) {
            let Known { id, rules, meaning, cure, .. } = one;
            let _ = writeln!(text, "| `{id}` | {rules} | {meaning} | {cure} |");
        }
    }
    text
}
