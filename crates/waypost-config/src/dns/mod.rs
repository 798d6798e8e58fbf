//! What an organization's SPF and MX records should say, against what they say (B4).
//!
//! **In:** a compiled [`Organization`](crate::policy::Organization) with
//! [`ServerSettings`](crate::settings::ServerSettings), and what the DNS answered, as values.
//! **Out:** [`outbound_hosts`]: the hosts that its mail leaves by; [`mx_leads_to`]: whether an MX host
//! is this server or a listed inbound gateway; and in [`judge`] one warning for each thing to mend,
//! with the record to publish. **Not here:** no question is asked.

mod facts;
mod judge;
mod sending;

pub use facts::{
    Coverage, DomainFacts, MxFacts, MxHost, MxLeadsTo, OrganizationFacts, SpfCheck, SpfFacts,
    mx_leads_to,
};
pub use judge::judge;
pub use sending::{NoAddress, OutboundHost, Sender, Sending, outbound_hosts};
