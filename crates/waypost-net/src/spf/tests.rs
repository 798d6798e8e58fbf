//! Records against addresses, one line a case.

use proptest::prelude::*;

use super::*;
use crate::dns::StaticResolver;

fn zone() -> StaticResolver {
    let mut many = "v=spf1".to_owned();
    for number in 0..11 {
        many += &format!(" a:h{number}.example");
    }
    let mut zone = StaticResolver::default()
        .with_addresses("smart.example", &["198.51.100.7", "2001:db8::7"])
        .with_addresses("v6.example", &["2001:db8::6"])
        .with_mx("smart.example", &[(10, "mx1.example"), (20, "mx2.example")])
        .with_addresses("mx1.example", &["198.51.100.21"])
        .with_addresses("mx2.example", &["198.51.100.22"])
        .with_ptr([198, 51, 100, 30].into(), "out.named.example".parse().unwrap())
        .with_addresses("out.named.example", &["198.51.100.30"])
        .with_ptr([198, 51, 100, 31].into(), "out.forged.example".parse().unwrap())
        .with_addresses("out.forged.example", &["203.0.113.1"])
        .with_addresses("7.100.51.198.in-addr.listed.example", &["127.0.0.2"])
        .with_failure("down.example", "SERVFAIL")
        .with_txt("i.example", "v=spf1 ip4:198.51.100.7 -all")
        .with_txt("soft.example", "v=spf1 ?ip4:198.51.100.7 ~all")
        .with_txt("loop.example", "v=spf1 include:loop.example -all")
        .with_txt("redirected.example", "v=spf1 redirect=i.example")
        .with_txt("broken.example", "v=spf1 ipv4:198.51.100.7 -all")
        .with_txt("many.example", &many)
        .with_txt("other.example", "some-verification=1")
        .with_txt("two.example", "v=spf1 -all")
        .with_txt("two.example", "v=spf1 +all");
    for number in 0..11 {
        zone = zone.with_addresses(&format!("h{number}.example"), &["203.0.113.9"]);
    }
    let hosts: Vec<String> = (0..11).map(|number| format!("h{number}.example")).collect();
    let hosts: Vec<(u16, &str)> = hosts.iter().map(|host| (10, host.as_str())).collect();
    zone.with_mx("crowd.example", &hosts)
}

async fn said(record: &str, ip: &str) -> Spf {
    let resolver = match record {
        "" => zone(),
        _ => zone().with_txt("solarmora.com", record),
    };
    let (domain, helo) = ("solarmora.com".parse().unwrap(), "mx.solarmora.com".parse().unwrap());
    check_host(&resolver, &domain, ip.parse().unwrap(), &helo).await
}

#[tokio::test]
async fn records_say_of_addresses_b4() {
    use SpfResult::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
    for (record, ip, want, because) in [
        ("", "198.51.100.7", None, "solarmora.com has no SPF record"),
        ("v=spf1", "198.51.100.7", Neutral, "no term matches"),
        ("v=spf1 -all", "198.51.100.7", Fail, "`-all`"),
        ("v=spf1 ~all", "198.51.100.7", SoftFail, "`~all`"),
        ("v=spf1 ?all", "198.51.100.7", Neutral, "`?all`"),
        ("v=spf1 +all", "198.51.100.7", Pass, "`+all`"),
        ("v=spf1 ip4:198.51.100.0/24 -all", "198.51.100.7", Pass, "`ip4:198.51.100.0/24`"),
        ("v=spf1 ip4:198.51.100.0/29 -all", "198.51.100.8", Fail, "`-all`"),
        ("v=spf1 ip4:0.0.0.0/0 -all", "198.51.100.7", Pass, "`ip4:0.0.0.0/0`"),
        ("v=spf1 ip4:0.0.0.0/0 -all", "2001:db8::7", Fail, "`-all`"),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::7", Pass, "`ip6:2001:db8::/32`"),
        ("v=spf1 ip6:2001:db8::/32 -all", "::ffff:198.51.100.7", Fail, "`-all`"),
        ("v=spf1 -ip4:198.51.100.7 +all", "198.51.100.7", Fail, "`-ip4:198.51.100.7`"),
        ("v=spf1 a:smart.example -all", "198.51.100.7", Pass, "`a:smart.example`"),
        ("v=spf1 a:smart.example -all", "2001:db8::7", Pass, "`a:smart.example`"),
        ("v=spf1 a:smart.example -all", "198.51.100.8", Fail, "`-all`"),
        ("v=spf1 a:smart.example/28 -all", "198.51.100.8", Pass, "`a:smart.example/28`"),
        ("v=spf1 a:smart.example//64 -all", "2001:db8::8", Pass, "`a:smart.example//64`"),
        ("v=spf1 a:gone.example -all", "198.51.100.7", Fail, "`-all`"),
        ("v=spf1 a -all", "198.51.100.7", Fail, "`-all`"),
        ("v=spf1 mx:smart.example -all", "198.51.100.22", Pass, "`mx:smart.example`"),
        ("v=spf1 mx:smart.example -all", "198.51.100.7", Fail, "`-all`"),
        ("v=spf1 mx:crowd.example -all", "203.0.113.9", PermError, "`mx:crowd.example`: crowd"),
        ("v=spf1 ptr:named.example -all", "198.51.100.30", Pass, "`ptr:named.example`"),
        ("v=spf1 ptr:amed.example -all", "198.51.100.30", Fail, "`-all`"),
        ("v=spf1 ptr:forged.example -all", "198.51.100.31", Fail, "`-all`"),
        ("v=spf1 exists:%{ir}.%{v}.listed.example -all", "198.51.100.7", Pass, "`exists:%{ir}"),
        ("v=spf1 exists:%{ir}.%{v}.listed.example -all", "198.51.100.8", Fail, "`-all`"),
        ("v=spf1 exists:v6.example -all", "2001:db8::6", Fail, "`-all`"),
        ("v=spf1 include:i.example -all", "198.51.100.7", Pass, "`include:i.example`, `ip4:"),
        ("v=spf1 include:i.example ~all", "198.51.100.8", SoftFail, "`~all`"),
        ("v=spf1 ~include:i.example -all", "198.51.100.7", SoftFail, "`~include:i.example`, `ip4"),
        ("v=spf1 include:soft.example -all", "198.51.100.7", Fail, "`-all`"),
        ("v=spf1 include:redirected.example -all", "198.51.100.7", Pass, "`include:redirected"),
        ("v=spf1 include:gone.example -all", "198.51.100.7", PermError, "`include:gone.example`: "),
        ("v=spf1 include:other.example -all", "198.51.100.7", PermError, "`include:other.example"),
        ("v=spf1 include:two.example -all", "198.51.100.7", PermError, "two.example: there are 2"),
        ("v=spf1 include:broken.example", "198.51.100.7", PermError, "broken.example: `ipv4:198"),
        ("v=spf1 include:loop.example -all", "198.51.100.7", PermError, "`include:loop.example` i"),
        ("v=spf1 include:down.example -all", "198.51.100.7", TempError, "down.example: no answer"),
        ("v=spf1 a:down.example -all", "198.51.100.7", TempError, "down.example: no answer"),
        ("v=spf1 mx:down.example -all", "198.51.100.7", TempError, "down.example: no answer"),
        ("v=spf1 ip4:198.51.100.7 a:down.example", "198.51.100.7", Pass, "`ip4:198.51.100.7`"),
        ("v=spf1 redirect=i.example", "198.51.100.7", Pass, "`redirect=i.example`, `ip4:198"),
        ("v=spf1 redirect=i.example", "198.51.100.8", Fail, "`redirect=i.example`, `-all`"),
        ("v=spf1 ~all redirect=i.example", "198.51.100.7", SoftFail, "`~all`"),
        ("v=spf1 redirect=gone.example", "198.51.100.7", PermError, "`redirect=gone.example`: "),
        ("v=spf1 include:many.example -all", "198.51.100.7", PermError, "`a:h9.example` is the D"),
        ("v=spf1 a:g1.example a:g2.example a:g3.example", "198.51.100.7", PermError, "g3.example"),
        ("v=spf1 ip4:198.51.100.7 oops", "198.51.100.7", PermError, "solarmora.com: `oops` is no"),
    ] {
        let got = said(record, ip).await;
        assert_eq!(got.result, want, "{record} {ip}: {}", got.because);
        assert!(got.because.starts_with(because), "{record} {ip}: {}", got.because);
        assert!(got.lookups <= MAX_LOOKUPS + 1);
    }
}

#[tokio::test]
async fn ten_lookups_are_allowed_b4() {
    let terms: String = (0..10).map(|number| format!(" a:h{number}.example")).collect();
    let spf = said(&format!("v=spf1{terms} ip4:198.51.100.7 -all"), "198.51.100.7").await;
    assert_eq!((spf.result, spf.lookups), (SpfResult::Pass, 10));
}

/// Terms as they are, cut and glued by chance.
fn terms() -> impl Strategy<Value = String> {
    let whole = prop::sample::select(vec![
        "a",
        "mx",
        "ptr",
        "-all",
        "~all",
        "?mx",
        "a:smart.example/28//64",
        "include:i.example",
        "include:loop.example",
        "redirect=many.example",
        "exists:%{ir}.%{v}.%{d2}",
        "ip4:198.51.100.0/24",
        "ip6:2001:db8::/32",
        "exp=%{i}.example",
        "mx:crowd.example",
        "a:down.example",
        "%{",
        "/",
        "::",
    ]);
    prop_oneof![8 => whole.prop_map(ToOwned::to_owned), 1 => "\\PC{0,12}", 1 => "[ -~]{0,12}"]
}

proptest! {
    #[test]
    fn any_record_ends_within_its_bounds_b4(
        terms in prop::collection::vec(terms(), 0..20),
        glue in prop::sample::select(vec![" ", "", "  ", ":"]),
        ip in prop::sample::select(vec!["198.51.100.7", "2001:db8::7", "203.0.113.9"]),
    ) {
        let record = format!("v=spf1 {}", terms.join(glue));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let spf = runtime.block_on(said(&record, ip));
        prop_assert!(spf.lookups <= MAX_LOOKUPS + 1);
        prop_assert!(!spf.because.is_empty());
        prop_assert_ne!(spf.result, SpfResult::None);
        let lookups_tell = spf.lookups <= MAX_LOOKUPS || spf.result == SpfResult::PermError;
        prop_assert!(lookups_tell, "{}", spf.because);
    }
}
