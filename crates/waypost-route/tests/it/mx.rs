//! MX order: RFC 5321 section 5.1, RFC 7505 (A4).

use proptest::prelude::*;
use waypost_route::{Draw, Exchange, MxOrder, MxRecord, mx_order};
use waypost_types::{Domain, FailureScope};

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn records(records: &[(u16, &str)]) -> Vec<MxRecord> {
    let record = |(preference, name): &(u16, &str)| MxRecord {
        preference: *preference,
        exchange: Exchange::from_text(name),
    };
    records.iter().map(record).collect()
}

/// The hosts, or the code of the failure.
fn order(list: &[(u16, &str)], own: &[&str], draw: u64) -> Result<String, String> {
    let own: Vec<Domain> = own.iter().map(|name| domain(name)).collect();
    match mx_order(&domain("d.example"), &records(list), &own, Draw::from_value(draw)) {
        Ok(MxOrder::Implicit(domain)) => Ok(format!("implicit {domain}")),
        Ok(MxOrder::Hosts(hosts)) => {
            Ok(hosts.iter().map(Domain::as_str).collect::<Vec<_>>().join(" "))
        }
        Err(error) => {
            let failure = error.failure();
            assert_eq!(failure.scope, FailureScope::Message);
            Err(failure.reply.to_string().chars().take(10).collect())
        }
    }
}

#[test]
fn orders_and_failures_a4() {
    let table: &[(&[(u16, &str)], &[&str], Result<&str, &str>)] = &[
        (&[], &[], Ok("implicit d.example")),
        (&[], &["d.example"], Err("554 5.4.6 ")),
        (&[(10, "a.example.")], &[], Ok("a.example")),
        (
            &[(20, "b.example"), (10, "a.example"), (30, "c.example")],
            &[],
            Ok("a.example b.example c.example"),
        ),
        (&[(20, "A.Example"), (10, "a.example")], &[], Ok("a.example")),
        (&[(0, ".")], &[], Err("556 5.1.10")),
        (&[(10, "")], &[], Err("556 5.1.10")),
        (&[(0, "."), (10, "a.example")], &[], Ok("a.example")),
        (&[(0, "192.0.2.1")], &[], Err("550 5.4.4 ")),
        (&[(0, "192.0.2.1"), (10, "a.example")], &[], Ok("a.example")),
        (
            &[(10, "a.example"), (20, "us.example"), (30, "c.example")],
            &["us.example"],
            Ok("a.example"),
        ),
        (
            &[(10, "a.example"), (20, "us.example"), (20, "c.example")],
            &["us.example"],
            Ok("a.example"),
        ),
        (&[(10, "us.example"), (10, "c.example")], &["us.example"], Err("554 5.4.6 ")),
        (&[(5, "us.example"), (10, "c.example")], &["us.example"], Err("554 5.4.6 ")),
        (
            &[(5, "a.example"), (7, "us.example"), (9, "us.example")],
            &["x.example", "us.example"],
            Ok("a.example"),
        ),
    ];
    for (list, own, want) in table {
        let want = want.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(order(list, own, 1), want, "{list:?}");
    }
}

#[test]
fn equal_preferences_are_shuffled_evenly_a4() {
    let list = [(10, "a.example"), (10, "b.example"), (10, "c.example")];
    let mut firsts = std::collections::BTreeMap::new();
    let mut orders = std::collections::BTreeSet::new();
    for draw in 0..6000_u64 {
        let spread = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let order = order(&list, &[], spread).unwrap();
        *firsts.entry(order[..1].to_owned()).or_insert(0_u32) += 1;
        orders.insert(order);
    }
    assert_eq!(orders.len(), 6);
    assert!(firsts.values().all(|count| (1800..2200).contains(count)), "{firsts:?}");
}

proptest! {
    #[test]
    fn sorted_by_preference_whatever_the_order_of_records_a4(
        list in proptest::collection::vec((0_u16..4, 0_u8..12), 1..12),
        draw in any::<u64>(),
        turn in 0_usize..12,
    ) {
        let names: Vec<(u16, String)> =
            list.iter().map(|(p, n)| (*p, format!("h{n}.example"))).collect();
        let mut list: Vec<(u16, &str)> = names.iter().map(|(p, n)| (*p, n.as_str())).collect();
        let got = order(&list, &[], draw).unwrap();
        let places: Vec<u16> = got
            .split(' ')
            .map(|host| list.iter().filter(|(_, n)| *n == host).map(|(p, _)| *p).min().unwrap())
            .collect();
        prop_assert!(places.is_sorted());
        let turn = turn % list.len();
        list.rotate_left(turn);
        prop_assert_eq!(order(&list, &[], draw).unwrap(), got);
    }
}
