// From README.md, by scripts/outside --update.
use waypost_rules::*;
use waypost_types::{Account, Directory, Mailbox, Unavailable};

struct NoUsers;
impl Directory for NoUsers {
    fn account(&self, _: &Mailbox) -> Result<Account, Unavailable> { Ok(Account::Unrecognized) }
    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> { Ok(false) }
    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> { Ok(Vec::new()) }
    fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> { Ok(()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let change = Modification { route: Some("exchange".parse()?), ..Modification::default() };
    let mut split = Rule::new("Split", Directions::INBOUND, Action::Modify(Box::new(change)));
    split.accounts = AccountKinds::UNRECOGNIZED;
    let rules = RuleSet::compile(vec![split], vec![]);

    let (sender, recipient) = ("a@b.example".parse()?, "nobody@solarmora.com".parse()?);
    let question = Question {
        direction: Direction::Inbound,
        subject: Subject::unrecognized(),
        sender: &sender,
        recipient: &recipient,
    };
    let walk = rules.walk(&question, &NoUsers)?;
    let Verdict::Deliver(plan) = combine(&recipient, &[&walk], Spam::No) else { panic!("delivered") };
    assert_eq!(plan.route.expect("changed").as_str(), "exchange");
    assert_eq!(&*plan.because[0], "Split");
    Ok(())
}
