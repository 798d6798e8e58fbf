//! Mail routing rules: one recipient and what is known of the message in, a [`Plan`] with its reasons
//! out.
//!
//! **In:** an organization's [`Rule`]s, compiled once into a [`RuleSet`]; for each recipient a
//! [`Question`] (direction, unit, account, envelope) and a [`Directory`](waypost_types::Directory).
//! **Out:** the rules that match ([`RuleSet::walk`]), and what they ask for together: a [`Verdict`] with
//! the [`Plan`] of the delivery, its copies, what was overridden and by what; on request every rule looked
//! at with the first condition that failed ([`RuleSet::reports`]).
//!
//! **Units:** none. **Bounds:** a walk costs by the conditions that the two addresses fulfil and the rules
//! that wait for them, whatever the number of rules; reports cost by the rules that are told of. Patterns
//! are compiled under a size limit, and matching is linear in the address. **Errors:** a directory that fails is
//! [`Unavailable`](waypost_types::Unavailable), never "unrecognized"; a pattern that does not compile
//! is a [`PatternError`]. **Source:** requirements C1 to C9, A11, B2, O6, O8.
//!
//! **Not here:** routes, gateways, admission, TLS of a host, the message's bytes: the caller joins
//! them. No clock, network, disk or randomness.
//!
//! # Example
//!
//! Split delivery: users stay, unknown recipients go to the second system (C7).
//!
//! ```
//! use waypost_rules::*;
//! use waypost_types::*;
//!
//! let mut split = Rule::new("Split delivery", Directions::INBOUND, Action::Modify(Box::new(
//!     Modification { route: Some("exchange".parse()?), ..Modification::default() },
//! )));
//! split.accounts = AccountKinds::UNRECOGNIZED;
//! let rules = RuleSet::compile(vec![split], vec![]);
//!
//! # struct Nobody;
//! # impl Directory for Nobody {
//! #     fn account(&self, _: &Mailbox) -> Result<Account, Unavailable> { Ok(Account::Unrecognized) }
//! #     fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> { Ok(false) }
//! #     fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> { Ok(vec![]) }
//! #     fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> { Ok(()) }
//! # }
//! # let directory = Nobody;
//! let recipient: Mailbox = "not-a-user@solarmora.com".parse()?;
//! let question = Question {
//!     direction: Direction::Inbound,
//!     subject: Subject::unrecognized(),
//!     sender: &"a@b.example".parse()?,
//!     recipient: &recipient,
//! };
//! let walk = rules.walk(&question, &directory)?;
//! let Verdict::Deliver(plan) = combine(&recipient, &[&walk], Spam::No) else { unreachable!() };
//! assert_eq!(plan.route.unwrap().as_str(), "exchange");
//! assert_eq!(&*plan.because[0], "Split delivery");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account_kind;
mod automata;
mod conditions;
mod direction;
mod filter;
mod from_field;
mod internal_domains;
mod lists;
mod modification;
mod observe;
mod plan;
mod report;
mod rule;
mod rule_set;
mod shape;
mod texts;
mod units;

pub use account_kind::{AccountKind, AccountKinds, Subject};
pub use direction::{Direction, Directions};
pub use filter::{AddressMatch, EnvelopeFilter, Pattern, PatternError};
pub use from_field::FromField;
pub use internal_domains::{InternalDomains, Kinship};
pub use modification::{CopyTo, Modification, RecipientChange};
pub use plan::{
    Changed, Overridden, Plan, PlannedCopy, RuleChanges, SideRoute, Spam, Verdict, combine,
    rule_changes,
};
pub use report::{Failed, Reports, RuleReport};
pub use rule::{Action, Mode, Rule, SwitchedOff};
pub use rule_set::{Question, RuleSet, Walk};
