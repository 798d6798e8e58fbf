//! O6: a walk taken as if its observed rules were enforced is the walk of rules that are.

use proptest::prelude::*;
use waypost_rules::*;
use waypost_types::*;

/// Everybody is a user of `/a/b`.
struct All;

impl Directory for All {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        let user = User { address: address.clone(), org_unit: "/a/b".parse().unwrap() };
        Ok(Account::User(user))
    }

    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> {
        Ok(false)
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }

    fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> {
        Ok(())
    }
}

fn names(rules: &[Rule]) -> Vec<String> {
    let set = RuleSet::compile(rules.to_vec(), Vec::new());
    let recipient: Mailbox = "marie@s.example".parse().unwrap();
    let question = Question {
        direction: Direction::Inbound,
        subject: Subject::of(&recipient, &All).unwrap(),
        sender: &"a@b.example".parse().unwrap(),
        recipient: &recipient,
    };
    let walk = set.walk(&question, &All).unwrap().as_if_enforced();
    assert!(walk.observed.is_empty());
    walk.matched.iter().map(|rule| rule.description.to_string()).collect()
}

proptest! {
    #[test]
    fn o6_what_would_be_is_what_will_be(
        kinds in prop::collection::vec((0_usize..3, any::<bool>(), 0_u8..5), 0..12)
    ) {
        let rule = |(place, (unit, observed, stop)): (usize, &(usize, bool, u8))| {
            let action = Action::Modify(Box::default());
            let affects = [Direction::Inbound].into_iter().collect();
            let mut rule = Rule::new(&format!("r{place}"), affects, action);
            rule.org_unit = ["/", "/a", "/a/b"][*unit].parse().unwrap();
            rule.mode = if *observed { Mode::Observe } else { Mode::Enforce };
            rule.stop = *stop == 0;
            rule
        };
        let rules: Vec<Rule> = kinds.iter().enumerate().map(rule).collect();
        let enforced: Vec<Rule> =
            rules.iter().cloned().map(|rule| Rule { mode: Mode::Enforce, ..rule }).collect();
        prop_assert_eq!(names(&rules), names(&enforced));
    }
}
