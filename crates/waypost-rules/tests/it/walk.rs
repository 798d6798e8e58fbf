//! Walks and plans as tables: which rules are looked at, which win, who is named as overridden.

use std::collections::HashMap;

use waypost_rules::*;
use waypost_types::*;

/// Users with their units, groups with their members; `down` cannot be looked up.
#[derive(Default)]
struct Known {
    users: HashMap<Mailbox, OrgUnit>,
    groups: HashMap<Mailbox, Vec<Mailbox>>,
}

impl Directory for Known {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        if address.local_part() == "down" {
            return Err(Unavailable { because: "the directory is down".into() });
        }
        Ok(match (self.users.get(address), self.groups.contains_key(address)) {
            (Some(unit), _) => {
                Account::User(User { address: address.clone(), org_unit: unit.clone() })
            }
            (None, true) => Account::Group { address: address.clone() },
            (None, false) => Account::Unrecognized,
        })
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        self.account(address)?;
        Ok(self.groups.get(group).is_some_and(|members| members.contains(address)))
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        self.account(address)?;
        self.groups.iter().filter(|(_, all)| all.contains(address)).for_each(|(one, _)| each(one));
        Ok(())
    }

    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(self.groups.get(group).cloned().unwrap_or_default())
    }
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn directory() -> Known {
    let users = [("marie@s.example", "/sales/emea"), ("paul@s.example", "/")];
    Known {
        users: users.map(|(user, unit)| (mailbox(user), unit.parse().unwrap())).into(),
        groups: [(mailbox("team@s.example"), vec![mailbox("marie@s.example")])].into(),
    }
}

/// A rule from a line such as `r1 /sales inbound users route=edge`.
fn rule(line: &str) -> Rule {
    let mut words = line.split_whitespace();
    let (name, unit) = (words.next().unwrap(), words.next().unwrap());
    let affects = words.next().unwrap().split(',').map(|word| {
        Direction::ALL.into_iter().find(|direction| direction.as_str() == word).unwrap()
    });
    let mut changes = Modification::default();
    let mut rule = Rule::new(name, affects.collect(), Action::Reject { text: "".into() });
    rule.org_unit = unit.parse().unwrap();
    let mut action = None;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "users" => rule.accounts = AccountKinds::USERS,
            "unrecognized" => rule.accounts = AccountKinds::UNRECOGNIZED,
            "everyone" => rule.accounts = AccountKinds::ALL,
            "stop" => rule.stop = true,
            "observe" => rule.mode = Mode::Observe,
            "off" => rule.mode = Mode::Off,
            "from" => rule.envelope.senders.push(entry(value)),
            "to" => rule.envelope.recipients.push(entry(value)),
            "route" => changes.route = Some(value.parse().unwrap()),
            "rename" => {
                changes.replace_recipient = Some(RecipientChange::Address(mailbox(value)));
            }
            "tls" => changes.tls = Some(TlsDemand::Required),
            "prefix" => changes.subject_prefix = Some(value.into()),
            "header" => changes.add_headers.push(HeaderLine::new("X-A", value).unwrap()),
            "keep-spam" => changes.also_reroute_spam = false,
            "bypass" => changes.bypass_spam = true,
            "copy" => changes.also_deliver_to.push(CopyTo {
                recipient: RecipientChange::Address(mailbox(value)),
                ..CopyTo::default()
            }),
            "copy-no-spam" => changes.also_deliver_to.push(CopyTo {
                recipient: RecipientChange::Address(mailbox(value)),
                no_spam: true,
                ..CopyTo::default()
            }),
            "reject" => action = Some(Action::Reject { text: value.into() }),
            "quarantine" => action = Some(Action::Quarantine { name: value.into() }),
            other => panic!("{other}"),
        }
    }
    rule.action = action.unwrap_or(Action::Modify(Box::new(changes)));
    rule
}

fn entry(text: &str) -> AddressMatch {
    match text.strip_prefix('/') {
        Some(pattern) => AddressMatch::Pattern(Pattern::new(pattern).unwrap()),
        None if text.starts_with("team@") => AddressMatch::Group(mailbox(text)),
        None => AddressMatch::Address(mailbox(text)),
    }
}

/// The verdict in one line.
fn shown(verdict: &Verdict) -> String {
    let plan = match verdict {
        Verdict::Reject { rule, text } => return format!("reject {rule} {text}"),
        Verdict::Quarantine { rule, name, .. } => return format!("quarantine {rule} {name}"),
        Verdict::Deliver(plan) => plan,
    };
    let mut out = vec![plan.route.as_ref().map_or("-", SideRoute::as_str).to_owned()];
    if let Some(by) = &plan.renamed_by {
        out.push(format!("{}({by})", plan.recipient));
    }
    out.extend((plan.tls == TlsDemand::Required).then(|| "tls".to_owned()));
    out.extend(plan.changes.subject_prefix.as_ref().map(|prefix| format!("prefix={prefix}")));
    out.extend(plan.changes.added_headers.iter().map(|line| line.value().to_owned()));
    out.extend(plan.copies.iter().map(|copy| format!("+{}({})", copy.recipient, copy.because)));
    out.extend(
        plan.overridden.iter().map(|lost| format!("{}:{}<{}", lost.what, lost.rule, lost.by)),
    );
    out.push(format!("because {}", plan.because.join(",")));
    out.join(" ")
}

struct Case {
    rules: &'static [&'static str],
    off: &'static [(&'static str, &'static str)],
    direction: Direction,
    sender: &'static str,
    recipient: &'static str,
    spam: Spam,
    want: &'static str,
}

fn case(rules: &'static [&'static str], recipient: &'static str, want: &'static str) -> Case {
    let (sender, spam) = ("a@b.example", Spam::No);
    Case { rules, off: &[], direction: Direction::Inbound, sender, recipient, spam, want }
}

#[test]
fn rules_decide_as_the_table_says() {
    use Direction::{InternalSending, Outbound};
    let table = [
        // C4, C7: split delivery.
        case(&["r / inbound unrecognized route=x"], "nobody@s.example", "x because r"),
        case(&["r / inbound unrecognized route=x"], "marie@s.example", "- because "),
        case(&["r / inbound users route=x"], "team@s.example", "- because "),
        // C2: direction.
        case(&["r / outbound route=x"], "marie@s.example", "- because "),
        Case {
            direction: Outbound,
            sender: "paul@s.example",
            ..case(&["r / outbound route=x"], "c@d.example", "x because r")
        },
        // B2: a rule for outgoing directions alone affects all kinds of sender, the null path too.
        Case {
            direction: Outbound,
            sender: "",
            ..case(&["r / outbound route=x"], "c@d.example", "x because r")
        },
        Case {
            direction: Outbound,
            sender: "",
            ..case(&["r / outbound users route=x"], "c@d.example", "- because ")
        },
        // C5: whole address without case, unanchored pattern, group, and of the two lists.
        case(&["r / inbound to=MARIE@s.example route=x"], "marie@s.example", "x because r"),
        case(&["r / inbound to=paul@s.example route=x"], "marie@s.example", "- because "),
        case(&["r / inbound from=/B\\.EX route=x"], "marie@s.example", "x because r"),
        case(&["r / inbound from=/^b\\.ex route=x"], "marie@s.example", "- because "),
        case(&["r / inbound to=team@s.example route=x"], "marie@s.example", "x because r"),
        case(&["r / inbound to=team@s.example route=x"], "paul@s.example", "- because "),
        case(&["r / inbound from=/@b to=paul@s.example route=x"], "marie@s.example", "- because "),
        case(
            &["r / inbound to=paul@s.example to=/marie route=x"],
            "marie@s.example",
            "x because r",
        ),
        Case {
            sender: "",
            ..case(&["r / inbound from=/^$ route=x"], "marie@s.example", "x because r")
        },
        // C5: the recipient of RCPT is tested, not the one that a rule made of it.
        case(
            &["r / inbound rename=paul@s.example", "q / inbound to=paul@s.example route=x"],
            "marie@s.example",
            "- paul@s.example(r) because r",
        ),
        // C8: the nearest unit's first rule wins, and the losers are named.
        case(
            &[
                "top / inbound route=a",
                "near /sales/emea inbound route=b",
                "mid /sales inbound tls",
            ],
            "marie@s.example",
            "b tls route:top<near because near,mid",
        ),
        case(&["r /sales inbound route=a"], "paul@s.example", "- because "),
        case(
            &["r1 / inbound rename=x@y.example", "r2 / inbound rename=z@y.example"],
            "paul@s.example",
            "- x@y.example(r1) recipient:r2<r1 because r1",
        ),
        // C8: additive parts add up in order: own unit first.
        case(
            &["top / inbound prefix=[T] header=t", "near /sales inbound prefix=[N] header=n"],
            "marie@s.example",
            "- prefix=[N][T] n t because near,top",
        ),
        // C8: stop; an observed rule never stops (O6); off is passed over.
        case(
            &["r /sales inbound stop route=a", "t / inbound prefix=T"],
            "marie@s.example",
            "a because r",
        ),
        case(
            &["r /sales inbound observe stop route=a", "t / inbound prefix=T"],
            "marie@s.example",
            "- prefix=T because t",
        ),
        case(&["r / inbound off route=a"], "paul@s.example", "- because "),
        // C8: a unit switches an inherited rule off, for itself and below, not its own.
        Case {
            off: &[("/sales", "top")],
            ..case(&["top / inbound route=a"], "marie@s.example", "- because ")
        },
        Case {
            off: &[("/sales", "top")],
            ..case(&["top / inbound route=a"], "paul@s.example", "a because top")
        },
        Case {
            off: &[("/sales", "own")],
            ..case(&["own /sales inbound route=a"], "marie@s.example", "a because own")
        },
        // C8: reject beats quarantine beats deliver, whatever the order.
        case(
            &["d / inbound route=a", "q / inbound quarantine=hold", "r / inbound reject=no"],
            "paul@s.example",
            "reject r no",
        ),
        case(
            &["d / inbound route=a", "q / inbound quarantine=hold"],
            "paul@s.example",
            "quarantine q hold",
        ),
        case(&["r / inbound observe reject=no"], "paul@s.example", "- because "),
        // O8: the same copy asked for twice is one.
        case(
            &["a / inbound copy=arch@s.example", "b / inbound copy=ARCH@s.example"],
            "paul@s.example",
            "- +arch@s.example(a) because ",
        ),
        // Spam: `also_reroute_spam`, `no_spam`, `bypass_spam`.
        Case {
            spam: Spam::ByTag,
            ..case(
                &["r / inbound route=a copy-no-spam=c@s.example"],
                "paul@s.example",
                "a because r",
            )
        },
        Case {
            spam: Spam::ByTag,
            ..case(&["r / inbound route=a keep-spam"], "paul@s.example", "- because r")
        },
        Case {
            spam: Spam::ByFilter,
            ..case(&["r / inbound route=a keep-spam bypass"], "paul@s.example", "a because r")
        },
        Case {
            spam: Spam::ByTag,
            ..case(&["r / inbound route=a keep-spam bypass"], "paul@s.example", "- because r")
        },
        // Malware is no spam that a rule could bypass (D17).
        Case {
            spam: Spam::Malware,
            ..case(&["r / inbound route=a keep-spam bypass"], "paul@s.example", "- because r")
        },
        Case {
            direction: InternalSending,
            sender: "marie@s.example",
            ..case(&["r /sales internal-sending route=x"], "paul@s.example", "x because r")
        },
    ];
    let directory = directory();
    for case in &table {
        let off = case.off.iter().map(|(unit, rule)| SwitchedOff {
            org_unit: unit.parse().unwrap(),
            rule: (*rule).into(),
        });
        let rules =
            RuleSet::compile(case.rules.iter().map(|line| rule(line)).collect(), off.collect());
        let (sender, recipient) = (case.sender.parse().unwrap(), mailbox(case.recipient));
        let subject = if case.direction.is_outgoing() {
            Subject::of_sender(&sender, &directory).unwrap()
        } else {
            Subject::of(&recipient, &directory).unwrap()
        };
        let question =
            Question { direction: case.direction, subject, sender: &sender, recipient: &recipient };
        let walk = rules.walk(&question, &directory).unwrap();
        let got = shown(&combine(&recipient, &[&walk], case.spam));
        assert_eq!(got, case.want, "{:?} for {}", case.rules, case.recipient);
    }
}

#[test]
fn the_receiving_side_wins_and_both_add_up() {
    let directory = directory();
    let rules = RuleSet::compile(
        vec![
            rule("s / internal-sending route=out header=s tls"),
            rule("r / internal-receiving route=in header=r"),
        ],
        vec![],
    );
    let (sender, recipient) = ("paul@s.example".parse().unwrap(), mailbox("marie@s.example"));
    let walk = |direction| {
        let subject = Subject::of(&mailbox("paul@s.example"), &directory).unwrap();
        let question = Question { direction, subject, sender: &sender, recipient: &recipient };
        rules.walk(&question, &directory).unwrap()
    };
    let (sending, receiving) =
        (walk(Direction::InternalSending), walk(Direction::InternalReceiving));
    let verdict = combine(&recipient, &[&sending, &receiving], Spam::No);
    assert_eq!(shown(&verdict), "in tls s r route:s<r because s,r");
}

#[test]
fn every_rule_looked_at_says_what_failed_c9() {
    let directory = directory();
    let lines = [
        "off / inbound off",
        "dir / outbound",
        "acc / inbound users",
        "from / inbound unrecognized from=x@y.example",
        "to / inbound unrecognized to=x@y.example",
        "hit / inbound unrecognized stop",
        "never / inbound unrecognized",
    ];
    let rules = RuleSet::compile(lines.map(rule).into(), vec![]);
    let (sender, recipient) = ("".parse().unwrap(), mailbox("who@s.example"));
    let question = Question {
        direction: Direction::Inbound,
        subject: Subject::unrecognized(),
        sender: &sender,
        recipient: &recipient,
    };
    let reports: Vec<_> = rules
        .reports(&question, &directory, usize::MAX)
        .unwrap()
        .listed
        .into_iter()
        .map(|report| {
            let failed = report.failed.map_or("matched".to_owned(), |failed| failed.to_string());
            format!("{}: {failed}", report.rule)
        })
        .collect();
    assert_eq!(
        reports,
        [
            "off: its mode is off",
            "dir: it affects outbound; this message is inbound",
            "acc: it affects accounts of kind users; the recipient who@s.example is of kind unrecognized",
            "from: no sender entry matches <>",
            "to: no recipient entry matches who@s.example",
            "hit: matched",
        ]
    );
}

/// Of many rules those are told that came nearest to matching, found without looking at the others.
#[test]
fn of_many_rules_the_nearest_are_told_c9() {
    let directory = directory();
    let mut lines: Vec<String> =
        (0..100).map(|n| format!("other{n} / inbound everyone from=z{n}@y.example")).collect();
    // A rule is found by the list that fewer ask for, so that of the first ones is the senders'.
    lines.extend((0..9).map(|n| format!("z{n} / inbound everyone to=z@s.example")));
    for line in [
        "to-only / inbound everyone from=z@y.example to=who@s.example",
        "from-only / inbound everyone from=x@y.example to=z@s.example",
        "outbound / outbound everyone from=x@y.example",
        "hit / inbound everyone from=x@y.example",
    ] {
        lines.push(line.to_owned());
    }
    let rules = RuleSet::compile(lines.iter().map(|line| rule(line)).collect(), vec![]);
    let (sender, recipient) = ("x@y.example".parse().unwrap(), mailbox("who@s.example"));
    let question = Question {
        direction: Direction::Inbound,
        subject: Subject::unrecognized(),
        sender: &sender,
        recipient: &recipient,
    };
    let told = |most| {
        let reports = rules.reports(&question, &directory, most).unwrap();
        assert_eq!(reports.left_out, lines.len() - reports.listed.len());
        let told = reports.listed.iter().map(|one| (one.rule.to_string(), one.also_failed));
        told.collect::<Vec<_>>()
    };
    let told_of = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 0)).collect();
    let hit: Vec<_> = told_of(&["hit"]);
    assert_eq!(told(0), hit);
    let near: Vec<_> = told_of(&["from-only", "outbound", "hit"]);
    assert_eq!(told(3), near);
    let more: Vec<_> = told_of(&["other0", "other1", "from-only", "outbound", "hit"]);
    assert_eq!(told(5), more);
    assert_eq!(told(usize::MAX).len(), lines.len());
}

#[test]
fn a_directory_that_fails_is_never_unrecognized_c8() {
    let directory = directory();
    let down = mailbox("down@s.example");
    assert!(Subject::of(&down, &directory).is_err());
    let rules = RuleSet::compile(vec![rule("r / inbound everyone from=team@s.example")], vec![]);
    let (sender, recipient) = ("down@s.example".parse().unwrap(), mailbox("paul@s.example"));
    let question = Question {
        direction: Direction::Inbound,
        subject: Subject::unrecognized(),
        sender: &sender,
        recipient: &recipient,
    };
    assert!(rules.walk(&question, &directory).is_err());
}
