//! The list of metrics, their page, and what counting costs.

use std::path::PathBuf;
use std::time::Instant;

use waypost_net::server::ConnectionTotals;
use waypost_store::Counts;
use waypost_types::{Destination, Outcome};

use super::*;

fn metrics() -> Metrics {
    Metrics::new(Timestamp::from_millis(1_700_000_000_500))
}

fn page(metrics: &Metrics, found: &Found) -> String {
    metrics.page(Format::Prometheus, found).unwrap()
}

fn delivered() -> Outcome {
    let host = "mx.example:25".parse().ok();
    Outcome::Delivered { host, reply: Reply::new(250, (2, 0, 0), "ok") }
}

#[test]
fn names_and_types_stay_o4() {
    let list = metrics().registration.list;
    let lines = list.iter().map(|row| match row.labels {
        "" => format!("{} {}\n", row.kind, row.name),
        labels => format!("{} {} ({labels})\n", row.kind, row.name),
    });
    insta::assert_snapshot!(lines.collect::<String>(), @r"
    counter waypost_messages_accepted_total (listener)
    counter waypost_accepted_bytes_total
    counter waypost_sources_total (because)
    counter waypost_refusals_total (at, code, enhanced, reason)
    counter waypost_observed_total (organization, kind, name)
    counter waypost_authentications_total (method, result)
    counter waypost_filter_answers_total (finding)
    histogram waypost_filter_seconds
    counter waypost_abuse_told_total
    counter waypost_quota_refusals_total (limit)
    counter waypost_quota_held_total (limit)
    counter waypost_quota_let_go_total
    counter waypost_administrators_told_total (organization, kind)
    counter waypost_deliveries_total (via, organization, route, outcome)
    counter waypost_host_deliveries_total (host, outcome)
    histogram waypost_delivery_latency_seconds
    counter waypost_notices_total (action)
    counter waypost_intake_waits_total
    counter waypost_messages_damaged_total
    counter waypost_tls_handshakes_total (side, result, version)
    histogram waypost_store_sync_seconds
    histogram waypost_store_batch_records
    counter waypost_config_reloads_total (result)
    counter waypost_config_refused_total (cause)
    gauge waypost_config_stale
    counter waypost_front_requests_total (front, answer)
    counter waypost_record_lines_total
    counter waypost_record_lost_total
    gauge waypost_quota_shared
    counter waypost_quota_sharing_lost_total
    counter waypost_quota_unshared_recipients_total
    counter waypost_tls_checks_total (result)
    gauge waypost_tls_certificate_days_left (organization, route, host)
    gauge waypost_tls_check_failing_addresses (organization, route, host)
    gauge waypost_build_info (version)
    gauge process_start_time_seconds
    gauge waypost_queue_messages (state)
    gauge waypost_queue_bytes (state)
    gauge waypost_queue_oldest_seconds
    gauge waypost_connections_open
    counter waypost_connections_accepted_total
    counter waypost_connections_refused_total (reason)
    counter waypost_store_records_total
    counter waypost_store_syncs_total
    counter waypost_store_failures_total
    counter waypost_store_bodies_read_total
    gauge waypost_store_open
    gauge process_resident_memory_bytes
    gauge process_open_fds
    gauge process_max_fds
    gauge waypost_config_info (version)
    gauge waypost_config_last_success_timestamp_seconds
    ");
}

#[test]
fn the_reference_is_that_of_the_code() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs/METRICS.md"].iter().collect();
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- metrics: begin -->\n", "<!-- metrics: end -->\n");
    let from = text.find(begin).unwrap() + begin.len();
    let to = text.find(end).unwrap();
    let mut table =
        String::from("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for Row { name, kind, labels, help } in metrics().registration.list {
        let labels: Vec<String> = labels
            .split(", ")
            .filter(|label| !label.is_empty())
            .map(|label| format!("`{label}`"))
            .collect();
        table += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" "));
    }
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, [&text[..from], &table, &text[to..]].concat()).unwrap();
        return;
    }
    assert_eq!(&text[from..to], table, "write it anew with UPDATE_GOLDENS=1");
}

#[test]
fn the_reference_names_every_reason() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs/METRICS.md"].iter().collect();
    let text = std::fs::read_to_string(path).unwrap();
    let names = include_str!("reason.rs").lines().filter_map(|line| {
        let (_, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
        name.strip_suffix("\",")
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("`{name}`")), "docs/METRICS.md has no `{name}`");
    }
}

#[test]
fn what_is_counted_is_shown() {
    let metrics = metrics();
    let listener = metrics.listener("m\"x\\\n");
    listener.inc();
    let reply = Reply::new(550, (5, 1, 1), "No such user");
    metrics.refused(At::Rcpt, &reply, Reason::UnknownRecipient);
    metrics.refused(At::Rcpt, &reply, Reason::UnknownRecipient);
    let over = Reply::new(450, (4, 2, 1), "Later");
    metrics.refused(At::Rcpt, &over, Reason::QuotaRecipientsPer10Minutes);
    metrics.refused(At::Data, &Reply::plain(451, "Later"), Reason::StoreFailed);
    metrics.delivered_after(Duration::from_millis(30));
    metrics.delivered_after(Duration::from_secs(1_000_000));
    metrics.routes.of(&Destination::Mx).count(&delivered());
    metrics.hosts.count(&"mx.example:25".parse().unwrap(), &delivered(), Timestamp::default());
    let mut observe = metrics.observe_batches();
    for (records, durability) in
        [(7, Durability::Synced), (0, Durability::Synced), (9, Durability::Lazy)]
    {
        observe(&Batch { records, durability, took: Duration::from_micros(300) });
    }
    let text = page(&metrics, &Found::default());
    for line in [
        r#"waypost_messages_accepted_total{listener="m\"x\\\n"} 1"#,
        r#"waypost_refusals_total{at="rcpt",code="550",enhanced="5.1.1",reason="unknown-recipient"} 2"#,
        r#"waypost_refusals_total{at="data",code="451",enhanced="",reason="store-failed"} 1"#,
        r#"waypost_quota_refusals_total{limit="quota-recipients-per-10-minutes"} 1"#,
        r#"waypost_quota_refusals_total{limit="quota-recipients-per-day"} 0"#,
        r#"waypost_delivery_latency_seconds_bucket{le="0.025"} 0"#,
        r#"waypost_delivery_latency_seconds_bucket{le="0.05"} 1"#,
        r#"waypost_delivery_latency_seconds_bucket{le="432000.0"} 1"#,
        r#"waypost_delivery_latency_seconds_bucket{le="+Inf"} 2"#,
        "waypost_delivery_latency_seconds_sum 1000000.03",
        "waypost_delivery_latency_seconds_count 2",
        r#"waypost_deliveries_total{via="mx",organization="",route="",outcome="delivered"} 1"#,
        r#"waypost_host_deliveries_total{host="mx.example:25",outcome="delivered"} 1"#,
        "waypost_store_sync_seconds_count 2",
        "waypost_store_batch_records_sum 7.0",
        "process_start_time_seconds 1700000000.5",
        "# TYPE waypost_messages_accepted_total counter",
        "# HELP waypost_messages_accepted_total Messages answered with 250, by listener.",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
}

#[test]
fn what_others_count_is_followed_and_never_goes_back() {
    let metrics = metrics();
    let found = |accepted, refused, failures| Found {
        totals: ConnectionTotals { accepted, refused_too_often: refused, ..Default::default() },
        store: Counts { failures, ..Default::default() },
        ..Found::default()
    };
    // Two scrapes at once may come to be shown in the wrong order.
    for (found, want) in [
        (found(5, 1, 0), [5, 1, 0]),
        (found(9, 3, 2), [9, 3, 2]),
        (found(7, 2, 1), [9, 3, 2]),
        (found(10, 3, 2), [10, 3, 2]),
    ] {
        let text = page(&metrics, &found);
        let [accepted, refused, failures] = want;
        for line in [
            format!("waypost_connections_accepted_total {accepted}\n"),
            format!("waypost_connections_refused_total{{reason=\"too-frequent\"}} {refused}\n"),
            format!("code=\"421\",enhanced=\"4.7.0\",reason=\"too-frequent\"}} {refused}\n"),
            format!("waypost_store_failures_total {failures}\n"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}

/// Prints what counting costs; run it in a release build to know.
#[test]
fn counting_is_cheap() {
    const ROUNDS: u32 = 100_000;
    let metrics = metrics();
    let listener = metrics.listener("mx");
    let route =
        Destination::Route { organization: "Solarmora".into(), route: "exchange".parse().unwrap() };
    let host = "exchange.corp.example:25".parse().unwrap();
    let (outcome, reply) = (delivered(), Reply::new(550, (5, 1, 1), "No such user"));
    let now = Timestamp::from_millis(1);
    let tasks: [(&str, &dyn Fn()); 4] = [
        ("accepted", &|| {
            listener.inc();
            metrics.received(10_240);
        }),
        ("delivered", &|| {
            metrics.routes.of(&route).count(&outcome);
            metrics.hosts.count(&host, &outcome, now);
            metrics.delivered_after(Duration::from_millis(12));
        }),
        ("refused", &|| metrics.refused(At::Rcpt, &reply, Reason::UnknownRecipient)),
        ("page", &|| {
            if listener.get().is_multiple_of(1000) {
                page(&metrics, &Found::default());
            }
            listener.inc();
        }),
    ];
    for (name, task) in tasks {
        let begun = Instant::now();
        (0..ROUNDS).for_each(|_| task());
        let per = begun.elapsed() / ROUNDS;
        println!("{name}: {per:?}{}", if name == "page" { " / 1000th of a page" } else { "" });
    }
    let text = page(&metrics, &Found::default());
    assert!(text.contains(&format!("outcome=\"delivered\"}} {ROUNDS}\n")), "{text}");
}
