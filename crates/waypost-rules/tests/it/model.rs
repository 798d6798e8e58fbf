//! The compiled walk beside a naive one: whatever the rules and the message, both match the same
//! rules in the same order, and what is planned is what the matching rules ask for.

use proptest::prelude::*;
use regex::RegexBuilder;
use waypost_rules::*;
use waypost_types::*;

const USERS: [(&str, &str); 3] =
    [("ann@s.example", "/"), ("bob@s.example", "/a"), ("cat@s.example", "/a/b")];
const GROUPS: [(&str, &[&str]); 2] =
    [("g@s.example", &["ann@s.example", "x@y.example"]), ("h@s.example", &["bob@s.example"])];
const ADDRESSES: [&str; 7] = [
    "ann@s.example",
    "BOB@s.example",
    "cat@s.example",
    "g@s.example",
    "h@s.example",
    "nobody@s.example",
    "x@y.example",
];
const PATTERNS: [&str; 20] = [
    "example$",
    "^a",
    "b@s",
    "^$",
    "^(ann|cat)@",
    "nothing",
    r"@s\.example$",
    r"@Y\.EXAMPLE$",
    r"^bob@s\.example$",
    r"\.example$",
    r"(^|[.@])y\.example$",
    r"^.+@s\.example$",
    r"^.*$",
    r"^[a-z]{3}@",
    r"^\w+@y",
    r"^[^@]*@s\.example$",
    r"^ann@s\.example$|^x@",
    r"@(s|y)\.example$",
    r"(?-i)^BOB@",
    r"\bs\b",
];
const UNITS: [&str; 4] = ["/", "/a", "/a/b", "/c"];
const NAMES: [&str; 4] = ["one", "two", "three", "four"];

struct Few;

impl Directory for Few {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        let user = USERS.iter().find(|(user, _)| mailbox(user) == *address);
        if let Some((user, unit)) = user {
            let (address, org_unit) = (mailbox(user), unit.parse().unwrap());
            return Ok(Account::User(User { address, org_unit }));
        }
        let group = GROUPS.iter().find(|(group, _)| mailbox(group) == *address);
        Ok(group
            .map_or(Account::Unrecognized, |(group, _)| Account::Group { address: mailbox(group) }))
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        Ok(self.members(group)?.contains(address))
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        let member = |members: &[&str]| members.iter().any(|one| mailbox(one) == *address);
        let groups = GROUPS.iter().filter(|(_, members)| member(members));
        groups.for_each(|(group, _)| each(&mailbox(group)));
        Ok(())
    }

    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        let found = GROUPS.iter().find(|(found, _)| mailbox(found) == *group);
        Ok(found.map_or(vec![], |(_, members)| members.iter().map(|one| mailbox(one)).collect()))
    }
}

/// The same people, but nobody says who is in which group.
struct Down;

impl Directory for Down {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        Few.account(address)
    }

    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> {
        Err(Unavailable { because: "the groups are down".into() })
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        _: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        self.is_member(address, address).map(drop)
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn entry() -> impl Strategy<Value = AddressMatch> {
    prop_oneof![
        prop::sample::select(&ADDRESSES[..])
            .prop_map(|address| AddressMatch::Address(mailbox(address))),
        prop::sample::select(&PATTERNS[..])
            .prop_map(|pattern| AddressMatch::Pattern(Pattern::new(pattern).unwrap())),
        prop::sample::select(&GROUPS[..])
            .prop_map(|(group, _)| AddressMatch::Group(mailbox(group))),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let modify =
        (prop::option::of(0..3_u8), any::<bool>(), prop::option::of(0..3_u8), 0..3_u8, 0..3_u8)
            .prop_map(|(route, tls, rename, prefix, copies)| {
                let copy = |place: u8| CopyTo {
                    recipient: RecipientChange::Address(mailbox(&format!("copy{place}@y.example"))),
                    ..CopyTo::default()
                };
                Action::Modify(Box::new(Modification {
                    route: route.map(|place| format!("route{place}").parse().unwrap()),
                    tls: tls.then_some(TlsDemand::Required),
                    replace_recipient: rename.map(|place| {
                        RecipientChange::Address(mailbox(&format!("new{place}@y.example")))
                    }),
                    subject_prefix: (prefix > 0).then(|| format!("[{prefix}]").into()),
                    also_deliver_to: (0..copies).map(copy).collect(),
                    ..Modification::default()
                }))
            });
    prop_oneof![
        8 => modify,
        1 => Just(Action::Reject { text: "no".into() }),
        1 => Just(Action::Quarantine { name: "odd".into() }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let list = || prop::collection::vec(entry(), 0..4);
    let mode =
        prop_oneof![8 => Just(Mode::Enforce), 1 => Just(Mode::Observe), 1 => Just(Mode::Off)];
    (
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&UNITS[..]),
        prop::sample::subsequence(Direction::ALL.to_vec(), 1..=4),
        prop::sample::subsequence(AccountKind::ALL.to_vec(), 1..=3),
        (list(), list()),
        (mode, prop::bool::weighted(0.2), action()),
    )
        .prop_map(
            |(name, unit, affects, accounts, (senders, recipients), (mode, stop, action))| Rule {
                org_unit: unit.parse().unwrap(),
                accounts: accounts.into_iter().collect(),
                envelope: EnvelopeFilter { senders, recipients },
                mode,
                stop,
                ..Rule::new(name, affects.into_iter().collect(), action)
            },
        )
}

fn off() -> impl Strategy<Value = SwitchedOff> {
    (prop::sample::select(&UNITS[..]), prop::sample::select(&NAMES[..]))
        .prop_map(|(unit, rule)| SwitchedOff { org_unit: unit.parse().unwrap(), rule: rule.into() })
}

/// One message for one recipient, from one side.
#[derive(Clone, Debug)]
struct Asked {
    direction: Direction,
    sender: ReversePath,
    recipient: Mailbox,
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        prop::sample::select(Direction::ALL.to_vec()),
        prop::option::of(prop::sample::select(&ADDRESSES[..])),
        prop::sample::select(&ADDRESSES[..]),
    )
        .prop_map(|(direction, sender, recipient)| Asked {
            direction,
            sender: sender.unwrap_or("").parse().unwrap(),
            recipient: mailbox(recipient),
        })
}

impl Asked {
    fn subject(&self) -> Subject {
        match self.direction.is_outgoing() {
            true => Subject::of_sender(&self.sender, &Few).unwrap(),
            false => Subject::of(&self.recipient, &Few).unwrap(),
        }
    }

    /// The rules looked at, each with what failed first and how much more: requirement C8 read word for
    /// word.
    fn naive(&self, rules: &[Rule], off: &[SwitchedOff]) -> Vec<(usize, Option<String>, u8)> {
        let subject = self.subject();
        let mut looked_at = Vec::new();
        for unit in subject.org_unit.lineage() {
            for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.org_unit == unit)
            {
                // A unit between the subject's and the rule's, the rule's own left out.
                let by = subject.org_unit.lineage().find(|between| {
                    let is_it = |off: &&SwitchedOff| {
                        *off.rule == *rule.description && off.org_unit == *between
                    };
                    *between != unit
                        && between.is_at_or_below(&unit)
                        && off.iter().any(|off| is_it(&off))
                });
                let failures = by.map(|by| format!("it is switched off in {by}"));
                let mut failures = failures.into_iter().chain(self.failures(rule, &subject));
                let (failed, more) = (failures.next(), failures.count());
                let stops = failed.is_none() && rule.stop && rule.mode == Mode::Enforce;
                looked_at.push((place, failed, u8::try_from(more).unwrap()));
                if stops {
                    return looked_at;
                }
            }
        }
        looked_at
    }

    fn failures(&self, rule: &Rule, subject: &Subject) -> Vec<String> {
        let (sender, recipient) = (self.sender.to_string(), self.recipient.to_string());
        let sender = if sender.is_empty() { "<>".to_owned() } else { sender };
        let is_off = rule.mode == Mode::Off;
        let mut failures = Vec::new();
        if is_off {
            failures.push("its mode is off".to_owned());
        }
        if !rule.affects.contains(self.direction) {
            let (affects, direction) = (rule.affects, self.direction);
            failures.push(format!("it affects {affects}; this message is {direction}"));
        }
        if !rule.accounts.contains(subject.kind) {
            let who = match self.direction.is_outgoing() {
                true => format!("the sender {sender}"),
                false => format!("the recipient {recipient}"),
            };
            let (kinds, kind) = (rule.accounts, subject.kind.as_str());
            failures.push(format!("it affects accounts of kind {kinds}; {who} is of kind {kind}"));
        }
        // What a rule that is off asks of addresses is not looked at, and counts as failed.
        let (senders, recipients) = (&rule.envelope.senders, &rule.envelope.recipients);
        if !senders.is_empty() && (is_off || !listed(senders, self.sender.mailbox())) {
            failures.push(format!("no sender entry matches {sender}"));
        }
        if !recipients.is_empty() && (is_off || !listed(recipients, Some(&self.recipient))) {
            failures.push(format!("no recipient entry matches {recipient}"));
        }
        failures
    }
}

fn listed(entries: &[AddressMatch], address: Option<&Mailbox>) -> bool {
    let text = address.map(Mailbox::to_string).unwrap_or_default();
    entries.is_empty()
        || entries.iter().any(|entry| match (entry, address) {
            (AddressMatch::Pattern(pattern), _) => {
                let mut regex = RegexBuilder::new(pattern.as_str());
                regex.case_insensitive(true).build().unwrap().is_match(&text)
            }
            (AddressMatch::Address(wanted), Some(address)) => {
                wanted.to_string().eq_ignore_ascii_case(&address.to_string())
            }
            (AddressMatch::Group(group), Some(address)) => Few.is_member(address, group).unwrap(),
            (_, None) => false,
        })
}

fn names(rules: &[&Rule]) -> Vec<Box<str>> {
    rules.iter().map(|rule| (*rule.description).into()).collect()
}

fn modifying<'r>(matched: &[&'r Rule]) -> Vec<(&'r Rule, &'r Modification)> {
    let modifying = matched.iter().filter_map(|rule| match &rule.action {
        Action::Modify(changes) => Some((*rule, &**changes)),
        _ => None,
    });
    modifying.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_compiled_walk_is_the_naive_one_c8(
        rules in prop::collection::vec(rule(), 0..10),
        off in prop::collection::vec(off(), 0..3),
        asked in asked(),
        most in 0_usize..6,
    ) {
        let compiled = RuleSet::compile(rules.clone(), off.clone());
        let question = Question {
            direction: asked.direction,
            subject: asked.subject(),
            sender: &asked.sender,
            recipient: &asked.recipient,
        };
        let walk = compiled.walk(&question, &Few).unwrap();
        let naive = asked.naive(&rules, &off);
        let in_words = |reports: &[RuleReport]| -> Vec<(Box<str>, Option<String>, u8)> {
            let told = reports.iter().map(|one| {
                let failed = one.failed.as_ref().map(ToString::to_string);
                ((*one.rule).into(), failed, one.also_failed)
            });
            told.collect()
        };
        let (same, told) = compiled.walk_told(&question, &Few, usize::MAX).unwrap();
        prop_assert_eq!(names(&same.matched), names(&walk.matched));
        let wanted: Vec<_> = naive
            .iter()
            .map(|(place, failed, more)| {
                ((*rules[*place].description).into(), failed.clone(), *more)
            })
            .collect();
        prop_assert_eq!((in_words(&told.listed), told.left_out), (wanted.clone(), 0));
        // Told in part: those that match, and so many others, in the same order.
        let few = compiled.reports(&question, &Few, most).unwrap();
        prop_assert_eq!(&few, &compiled.reports(&question, &Few, most).unwrap());
        let matching = wanted.iter().filter(|(_, failed, _)| failed.is_none());
        prop_assert_eq!(few.listed.len(), wanted.len().min(most.max(matching.clone().count())));
        prop_assert_eq!(few.left_out, wanted.len() - few.listed.len());
        let in_part = in_words(&few.listed);
        let mut rest = wanted.iter();
        prop_assert!(in_part.iter().all(|one| rest.any(|other| other == one)), "in order");
        prop_assert!(matching.clone().all(|one| in_part.contains(one)));
        // A directory that fails fails the walk if it fails who asks for one group after another.
        let down = compiled.walk(&question, &Down);
        let needs = naive.iter().any(|(place, ..)| rules[*place].envelope.senders.iter()
            .chain(&rules[*place].envelope.recipients)
            .any(|entry| matches!(entry, AddressMatch::Group(_))));
        if !needs {
            prop_assert_eq!(names(&down.unwrap().matched), names(&walk.matched));
        } else if let Ok(down) = down {
            prop_assert_eq!(names(&down.matched), names(&walk.matched));
        }

        let acting: Vec<&Rule> = naive
            .iter()
            .filter(|(place, failed, _)| failed.is_none() && rules[*place].mode == Mode::Enforce)
            .map(|(place, ..)| &rules[*place])
            .collect();
        let observed: Vec<&Rule> = naive
            .iter()
            .filter(|(place, failed, _)| failed.is_none() && rules[*place].mode == Mode::Observe)
            .map(|(place, ..)| &rules[*place])
            .collect();
        prop_assert_eq!(names(&walk.observed), names(&observed));
        prop_assert_eq!(names(&walk.matched), names(&acting));

        let verdict = combine(&asked.recipient, &[&walk], Spam::No);
        prop_assert_eq!(&verdict, &combine(&asked.recipient, &[&walk], Spam::No));
        let rejects = acting.iter().any(|rule| matches!(rule.action, Action::Reject { .. }));
        let keeps = acting.iter().any(|rule| matches!(rule.action, Action::Quarantine { .. }));
        let plan = match verdict {
            Verdict::Reject { .. } => {
                prop_assert!(rejects);
                return Ok(());
            }
            Verdict::Quarantine { plan, .. } => {
                prop_assert!(keeps && !rejects);
                plan
            }
            Verdict::Deliver(plan) => {
                prop_assert!(!keeps && !rejects);
                plan
            }
        };
        let modifying = modifying(&acting);
        // Single values: the first wins, and all others that set one are named.
        let routes: Vec<_> =
            modifying.iter().filter_map(|(rule, changes)| Some((rule, changes.route.as_ref()?))).collect();
        prop_assert_eq!(plan.route.as_ref().map(|one| &one.route), routes.first().map(|(_, route)| *route));
        let losers = |what| plan.overridden.iter().filter(move |lost| lost.what == what).count();
        prop_assert_eq!(losers("route"), routes.len().saturating_sub(1));
        let tls = modifying.iter().filter(|(_, changes)| changes.tls.is_some()).count();
        prop_assert_eq!(plan.tls == TlsDemand::Required, tls > 0);
        prop_assert_eq!(losers("tls"), tls.saturating_sub(1));
        // Additive parts: all of them, in order; each copy once.
        let prefix: String = modifying
            .iter()
            .filter_map(|(_, changes)| changes.subject_prefix.as_deref())
            .collect();
        prop_assert_eq!(plan.changes.subject_prefix.as_deref().unwrap_or(""), prefix);
        let mut copies: Vec<Mailbox> = Vec::new();
        for copy in modifying.iter().flat_map(|(_, changes)| &changes.also_deliver_to) {
            let recipient = copy.recipient.apply(&asked.recipient);
            if !copies.contains(&recipient) {
                copies.push(recipient);
            }
        }
        let planned: Vec<_> = plan.copies.iter().map(|copy| copy.recipient.clone()).collect();
        prop_assert_eq!(planned, copies);
        // Whoever is named matched.
        let matched = names(&acting);
        prop_assert!(plan.because.iter().all(|rule| matched.contains(rule)));
        prop_assert!(plan.overridden.iter().all(|lost| matched.contains(&lost.rule) && matched.contains(&lost.by)));
    }
}
