//! `[[organization.route]]`.

use waypost_types::{Host, OrgUnit, RouteName};

use super::keys::table;
use super::leaf::{Load, Port};
use super::server::RawRetry;
use super::text::{FilePath, OneLine};
use super::words::{OnTlsFailure, Protocol, TlsStart};

table! {
    /// A next hop system: one `host`, or `primary` and `secondary` hosts with loads.
    ///
    /// ```toml
    /// [[organization.route]]
    /// name = "Exchange"
    /// host = "exchange.corp.example"
    /// verify_hostname = false
    ///
    /// [[organization.route]]
    /// name = "Edge"
    /// primary = [
    ///     { host = "a.corp.example", load = 60 },
    ///     { host = "b.corp.example", load = 40 },
    /// ]
    /// secondary = [{ host = "dr.corp.example", port = 465, load = 100 }]
    /// ```
    RawRoute {
        /// The name, unique in the organization without case; 1 to 128 characters.
        ///
        /// Example: `name = "exchange"`
        required name: RouteName, "A1";
        /// The unit that it is set for: rules of this unit and those below may name it.
        ///
        /// Example: `org_unit = "/sales"`
        default org_unit: OrgUnit = OrgUnit::root(), "A11";
        /// The host of a single-host route: a name, better, or an IP address. Not beside `primary`.
        ///
        /// Example: `host = "exchange.corp.example"`
        optional host: Host, "A2";
        /// Its port: 25, 587 or 1024 to 65535; with `protocol = "lmtp"` any. Port 465 is refused
        /// here: write `primary` with one host. Absent: 25.
        ///
        /// Example: `port = 587`
        optional port: Port, "A2";
        /// Hosts that share the mail by their loads, which add up to 100. Not beside `host`.
        ///
        /// Example: `primary = [{ host = "a.corp.example", load = 60 }, { host = "b.corp.example", load = 40 }]`
        list primary: RawRouteHost, "A3";
        /// Hosts that take over when every primary one fails or rests after a failure; their loads
        /// add up to 100. Absent: none.
        ///
        /// Example: `secondary = [{ host = "dr.corp.example", load = 100 }]`
        list secondary: RawRouteHost, "A3";
        /// Names of hosts stand for their MX hosts, by preference; the port holds for each. Off:
        /// the addresses of the name itself. Not with an IP address.
        ///
        /// Example: `mx_lookup = true`
        default mx_lookup: bool = false, "A4";
        /// SMTP, or LMTP (RFC 2033), which answers for each recipient.
        ///
        /// Example: `protocol = "lmtp"`
        default protocol: Protocol = Protocol::Smtp, "A2";
        /// How TLS begins on a single host: by the command STARTTLS, or at once. Absent: STARTTLS.
        ///
        /// Example: `tls = "implicit"`
        optional tls: TlsStart, "A5";
        /// TLS or no delivery. Off: TLS where the host offers it, else clear text.
        ///
        /// Example: `require_tls = false`
        default require_tls: bool = true, "A5";
        /// The certificate's chain must end in a trusted root, and be valid today. Absent: as
        /// `require_tls`; set to `true` beside `require_tls = false`, it binds wherever TLS is
        /// negotiated.
        ///
        /// Example: `require_ca_signed = false`
        optional require_ca_signed: bool, "A6";
        /// The certificate must name the host that we connected to, or with MX lookup the route's
        /// own; an IP address needs an IP address on the certificate. Absent: as `require_tls`.
        ///
        /// Example: `verify_hostname = false`
        optional verify_hostname: bool, "A7";
        /// A PEM file of trusted roots instead of the system's; one that cannot be read, or holds no
        /// certificate, is an error. Absent: the system's.
        ///
        /// Example: `roots = "corp-ca.pem"`
        optional roots: FilePath, "A6";
        /// What happens when TLS fails on every host by one of the three switches: the message
        /// bounces, or waits as it does for other failures.
        ///
        /// Example: `on_tls_failure = "defer"`
        default on_tls_failure: OnTlsFailure = OnTlsFailure::Bounce, "A10";
        /// SMTP AUTH towards the next hop, inside TLS alone. Absent: none.
        ///
        /// Example: `auth = { user = "relay@solarmora.com", password_file = "smarthost.password" }`
        optional auth: RawAuth, "A5";
        /// When a delivery over this route is tried again. Absent: `[server.retry]`.
        ///
        /// Example: `retry = { first = "1m", longest = "30m", lifetime = "1d" }`
        optional retry: RawRetry, "O2";
    }
}

table! {
    /// A host of a multi-host route.
    ///
    /// ```toml
    /// [[organization.route]]
    /// name = "Edge"
    /// [[organization.route.primary]]
    /// host = "a.corp.example"
    /// load = 100
    /// [[organization.route.primary]]
    /// host = "standby.corp.example"
    /// load = 0
    /// ```
    RawRouteHost {
        /// The name, or the IP address.
        ///
        /// Example: `host = "a.corp.example"`
        required host: Host, "A3";
        /// The port: 25, 465, 587 or 1024 to 65535; 465 means implicit TLS.
        ///
        /// Example: `port = 465`
        default port: Port = Port(25), "A3";
        /// The share of the tier's mail in percent, a whole number; those of a tier add up to 100.
        /// 0 is a standby, tried last in its tier.
        ///
        /// Example: `load = 60`
        required load: Load, "A3";
        /// How TLS begins. Absent: at once on port 465, else by STARTTLS.
        ///
        /// Example: `tls = "implicit"`
        optional tls: TlsStart, "A3";
    }
}

table! {
    /// Who we are to the next hop. The password goes over TLS alone, whatever the route's switches
    /// say.
    ///
    /// ```toml
    /// [[organization.route]]
    /// name = "smarthost"
    /// host = "smarthost.corp.example"
    /// port = 587
    /// [organization.route.auth]
    /// user = "relay@solarmora.com"
    /// password_file = "smarthost.password"
    /// ```
    RawAuth {
        /// The user name.
        ///
        /// Example: `user = "relay@solarmora.com"`
        required user: OneLine, "A5";
        /// A file that holds the password and nothing else; one line end behind it is left out. At
        /// most 4,096 octets, none of them NUL. Only the server's user should be able to read it.
        ///
        /// Example: `password_file = "smarthost.password"`
        required password_file: FilePath, "A5";
    }
}
