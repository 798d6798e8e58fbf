//! Rules, people and mail for the benches of rules.
//!
//! The rules: addresses, domains, groups, other patterns, an address list beside a pattern, units, directions
//! and kinds of account, a tenth of each. The directory: 100,000 users in ten units, three groups each.

use std::collections::HashMap;

use waypost_rules::{
    AccountKind, AccountKinds, Action, AddressMatch, Direction, Directions, Modification, Pattern,
    Rule,
};
use waypost_types::{Account, Directory, Mailbox, OrgUnit, Unavailable, User};

const USERS: usize = 100_000;
const GROUPS: usize = 1_000;
/// So many groups have a rule that matches.
pub const ROUNDS: usize = 64;

/// Users and groups by hash, as a configuration has them.
pub struct People {
    users: HashMap<Mailbox, (OrgUnit, [u32; 3])>,
    groups: Vec<Mailbox>,
    places: HashMap<Mailbox, u32>,
}

impl People {
    /// All of them.
    pub fn new() -> Self {
        let groups: Vec<Mailbox> =
            (0..GROUPS).map(|i| mailbox(&format!("group{i}@corp.example"))).collect();
        let places = groups.iter().cloned().zip(0..).collect();
        let user = |i: usize| {
            let groups = [0, 7, 11].map(|apart| (i + apart) % GROUPS);
            (user(i), (unit(i), groups.map(|group| u32::try_from(group).expect("a small number"))))
        };
        Self { users: (0..USERS).map(user).collect(), groups, places }
    }
}

impl Directory for People {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        Ok(match self.users.get(address) {
            Some((unit, _)) => {
                Account::User(User { address: address.clone(), org_unit: unit.clone() })
            }
            None => Account::Unrecognized,
        })
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        let group = self.places.get(group);
        Ok(self.users.get(address).zip(group).is_some_and(|((_, all), group)| all.contains(group)))
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        if let Some((_, groups)) = self.users.get(address) {
            groups.iter().for_each(|group| each(&self.groups[*group as usize]));
        }
        Ok(())
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }
}

/// Reads an address.
pub fn mailbox(text: &str) -> Mailbox {
    text.parse().expect("a mailbox")
}

/// The address of a user.
pub fn user(i: usize) -> Mailbox {
    mailbox(&format!("first.last{i}@corp.example"))
}

fn unit(i: usize) -> OrgUnit {
    format!("/unit{}", i % 10).parse().expect("a unit")
}

fn rule(description: &str) -> Rule {
    let changes = Modification {
        route: Some("second-system".parse().expect("a route")),
        ..Modification::default()
    };
    let action = Action::Modify(Box::new(changes));
    let mut rule = Rule::new(description, Directions::INBOUND, action);
    rule.accounts = AccountKinds::ALL;
    rule
}

fn pattern(source: &str) -> AddressMatch {
    AddressMatch::Pattern(Pattern::new(source).expect("a pattern"))
}

fn address(text: &str) -> AddressMatch {
    AddressMatch::Address(mailbox(text))
}

/// A rule that none of the mail here matches, of one kind of ten.
pub fn other(i: usize) -> Rule {
    let mut rule = rule(&format!("Rule number {i}"));
    let (senders, recipients) = (&mut rule.envelope.senders, &mut rule.envelope.recipients);
    match i % 10 {
        0 => senders.push(address(&format!("someone{i}@partner.example"))),
        1 => recipients.push(address(&format!("leaver{i}@corp.example"))),
        2 => senders.push(pattern(&format!(r"@partner{i}\.example$"))),
        3 => senders.push(pattern(&format!(r"[@.]supplier{i}\.example$"))),
        4 => recipients.push(AddressMatch::Group(mailbox(&format!("list{i}@corp.example")))),
        5 => senders.push(pattern(&format!(r"^invoices?-[0-9]+@billing{i}\."))),
        6 => recipients.push(pattern(&format!(r"^project{i}[-+.]"))),
        7 => {
            senders.push(pattern(&format!(r"@customer{i}\.example$")));
            recipients.extend([address("sales@corp.example"), address("office@corp.example")]);
        }
        8 => {
            rule.org_unit = format!("/unit{}/team{i}", i % 10).parse().expect("a unit");
            senders.push(pattern(r"@partner\.example$"));
        }
        _ => {
            rule.affects = Direction::ALL.into_iter().filter(|one| one.is_outgoing()).collect();
            rule.accounts = [AccountKind::User].into_iter().collect();
            recipients.push(pattern(&format!(r"@.*\.country{i}$")));
        }
    }
    rule
}

/// `count` rules, three of which match the mail: a domain, a group, an account list beside a pattern.
pub fn rules(count: usize) -> Vec<Rule> {
    let mut domain = rule("Partner");
    domain.envelope.senders.push(pattern(r"@partner\.example$"));
    let mut group = rule("Everybody in these groups");
    let groups =
        (0..ROUNDS).map(|i| AddressMatch::Group(mailbox(&format!("group{i}@corp.example"))));
    group.envelope.recipients.extend(groups);
    let mut both = rule("Orders");
    both.envelope.senders.push(pattern(r"^orders?[0-9]*@"));
    both.envelope.recipients.push(pattern(r"^first\.last\d+@corp\.example$"));
    let mut rules: Vec<Rule> = (0..count - 3).map(other).collect();
    rules.insert(0, domain);
    rules.insert(rules.len() / 2, group);
    rules.push(both);
    rules
}
