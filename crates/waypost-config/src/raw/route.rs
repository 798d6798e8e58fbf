//! `[[organization.route]]`.

use waypost_types::{Host, OrgUnit, RouteName};

use super::keys::table;
use super::leaf::{Load, Port};
use super::server::RawRetry;
use super::text::{FilePath, OneLine};
use super::words::{OnTlsFailure, Protocol, TlsStart};

table! {
    /// A next hop system: one `host`, or `primary` and `secondary` hosts with loads.
    RawRoute {
        /// The name, unique in the organization without case; at most 128 characters.
        required name: RouteName, "A1";
        /// The unit that it is set for, with those below.
        default org_unit: OrgUnit = OrgUnit::root(), "A11";
        /// The host of a single-host route.
        optional host: Host, "A2";
        /// Its port: 25, 587 or 1024 to 65535; absent: 25.
        optional port: Port, "A2";
        /// Hosts that share the mail by their loads.
        list primary: RawRouteHost, "A3";
        /// Hosts that take over when every primary one fails.
        list secondary: RawRouteHost, "A3";
        /// Host names stand for their MX hosts.
        default mx_lookup: bool = false, "A4";
        /// SMTP or LMTP.
        default protocol: Protocol = Protocol::Smtp, "A2";
        /// How TLS begins on a single host.
        optional tls: TlsStart, "A5";
        /// TLS or no delivery.
        default require_tls: bool = true, "A5";
        /// The certificate's chain must end in a trusted root; absent: as `require_tls`.
        optional require_ca_signed: bool, "A6";
        /// The certificate must name the host; absent: as `require_tls`.
        optional verify_hostname: bool, "A7";
        /// A PEM file of trusted roots instead of the system's.
        optional roots: FilePath, "A6";
        /// What happens when TLS fails on every host.
        default on_tls_failure: OnTlsFailure = OnTlsFailure::Bounce, "A10";
        /// SMTP AUTH towards the next hop.
        optional auth: RawAuth, "A5";
        /// When a delivery over this route is tried again; absent: `[server.retry]`.
        optional retry: RawRetry, "O2";
    }
}

table! {
    /// A host of a multi-host route.
    RawRouteHost {
        /// The name or IP address.
        required host: Host, "A3";
        /// The port; 465 means implicit TLS.
        default port: Port = Port(25), "A3";
        /// The share of the mail in percent; 0 is a standby, tried last in its tier.
        required load: Load, "A3";
        /// How TLS begins; absent: implicit on port 465, else STARTTLS.
        optional tls: TlsStart, "A3";
    }
}

table! {
    /// Who we are to the next hop.
    RawAuth {
        /// The user name.
        required user: OneLine, "A5";
        /// A file that holds the password and nothing else.
        required password_file: FilePath, "A5";
    }
}
