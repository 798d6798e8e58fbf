//! The two text formats that scrapers read.

use prometheus_client::registry::Registry;

/// A format of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that a scraper asks for in `Accept`; Prometheus' own if it asks for none.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let asks = |accept: &str| accept.contains("application/openmetrics-text");
        if accept.is_some_and(asks) { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(crate) fn write(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(32 << 10);
        prometheus_client::encoding::text::encode(&mut text, registry)?;
        Ok(match self {
            Self::OpenMetrics => text,
            Self::Prometheus => as_prometheus(&text),
        })
    }
}

/// The older format gives a counter's `_total` in its HELP and TYPE too, and has no end mark.
fn as_prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let counter = is_counter(line) || lines.peek().is_some_and(|next| is_counter(next));
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) if counter => {
                out.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_in_full() {
        let open = "# HELP a_b Counts.\n# TYPE a_b counter\na_b_total{x=\"# TYPE y counter\"} 1\n\
                    # HELP g Shows.\n# TYPE g gauge\n# UNIT g seconds\ng 2\n# EOF\n";
        let want = "# HELP a_b_total Counts.\n# TYPE a_b_total counter\n\
                    a_b_total{x=\"# TYPE y counter\"} 1\n# HELP g Shows.\n# TYPE g gauge\ng 2\n";
        assert_eq!(as_prometheus(open), want);
    }

    #[test]
    fn the_format_is_the_one_asked_for() {
        for (accept, want) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/plain;version=0.0.4;q=0.3"), Format::Prometheus),
            (Some("application/openmetrics-text;version=1.0.0,*/*;q=0.1"), Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), want, "{accept:?}");
        }
    }
}
