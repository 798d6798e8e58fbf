//! Why a recipient's mail goes where it goes (`waypost-rules`).
//!
//! Split delivery in memory: users keep their mailbox, everyone else at the domain is on a second
//! system, and mail from a partner is copied to an archive. Prints for each recipient the verdict
//! and what was said of every rule:
//!
//! ```text
//! why_there marie@solarmora.com paul@partner.example
//! ```

use std::error::Error;

use waypost_rules::{
    AccountKinds, Action, AddressMatch, CopyTo, Direction, Directions, Modification, Pattern,
    Question, RecipientChange, Rule, RuleSet, Spam, Subject, Verdict, combine,
};
use waypost_types::{Account, Directory, Mailbox, OrgUnit, ReversePath, Unavailable, User};

struct Users(Vec<Mailbox>);

impl Directory for Users {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        let user = self.0.iter().find(|user| *user == address);
        Ok(user.map_or(Account::Unrecognized, |user| {
            Account::User(User { address: user.clone(), org_unit: OrgUnit::root() })
        }))
    }

    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> {
        Ok(false)
    }

    fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> {
        Ok(())
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let recipient: Mailbox = arguments.next().as_deref().unwrap_or("new@solarmora.com").parse()?;
    let sender: ReversePath = arguments.next().as_deref().unwrap_or("a@b.example").parse()?;
    let directory = Users(vec!["marie@solarmora.com".parse()?]);
    let rules = RuleSet::compile(vec![split()?, archive()?], Vec::new());

    let question = Question {
        direction: Direction::Inbound,
        subject: Subject::of(&recipient, &directory)?,
        sender: &sender,
        recipient: &recipient,
    };
    let walk = rules.walk(&question, &directory)?;
    match combine(&recipient, &[&walk], Spam::No) {
        Verdict::Deliver(plan) => {
            let route = plan.route.as_ref().map_or("the mailbox system", |route| route.as_str());
            println!("{} goes to {route}", plan.recipient);
            for copy in &plan.copies {
                println!("a copy goes to {}", copy.recipient);
            }
        }
        other => println!("{recipient}: {other:?}"),
    }
    for report in &rules.reports(&question, &directory, usize::MAX)?.listed {
        let why = report.failed.as_ref().map_or("it matches".to_owned(), ToString::to_string);
        println!("    {}: {why}", report.rule);
    }
    Ok(())
}

fn split() -> Result<Rule, Box<dyn Error>> {
    let exchange = Modification { route: Some("exchange".parse()?), ..Modification::default() };
    let action = Action::Modify(Box::new(exchange));
    let mut rule = Rule::new("Split delivery", Directions::INBOUND, action);
    rule.accounts = AccountKinds::UNRECOGNIZED;
    Ok(rule)
}

fn archive() -> Result<Rule, Box<dyn Error>> {
    let recipient = RecipientChange::Address("archive@solarmora.com".parse()?);
    let copy = CopyTo { recipient, ..CopyTo::default() };
    let changes = Modification { also_deliver_to: vec![copy], ..Modification::default() };
    let action = Action::Modify(Box::new(changes));
    let mut rule = Rule::new("Archive the partner", Directions::INBOUND, action);
    rule.accounts = AccountKinds::ALL;
    rule.envelope.senders.push(AddressMatch::Pattern(Pattern::new(r"@partner\.example$")?));
    Ok(rule)
}
