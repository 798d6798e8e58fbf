//! A strict reader of the text format 0.0.4 of Prometheus.

use std::collections::{BTreeMap, HashSet};

/// A page that obeys the format.
pub(crate) struct Exposition {
    /// Type by family.
    pub(crate) types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a page.
    ///
    /// # Panics
    /// On whatever breaks the format.
    pub(crate) fn read(page: &str) -> Self {
        assert!(page.ends_with('\n'), "the last line has no end");
        let mut this = Self { types: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut family): (Option<String>, Option<String>) = (None, None);
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && text.ends_with('.'), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(helped.take().as_deref(), Some(name), "HELP comes first: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let known = this.types.insert(name.to_owned(), kind.to_owned());
                assert!(known.is_none(), "twice: {line}");
                family = Some(name.to_owned());
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = family.as_deref().unwrap_or_else(|| panic!("no TYPE: {line}"));
                let is_part = match this.types[family].as_str() {
                    "histogram" => name
                        .strip_prefix(family)
                        .is_some_and(|ending| ["_bucket", "_sum", "_count"].contains(&ending)),
                    _ => name == family,
                };
                assert!(is_part, "in the family {family}: {line}");
                this.sample(line);
            }
        }
        this.check_histograms();
        this
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = match series.split_once('{') {
            None => (series, Vec::new()),
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap(), line)),
        };
        assert!(is_name(name), "{line}");
        let names: HashSet<_> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        assert!(self.samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }

    fn check_histograms(&self) {
        for (family, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let bucket = format!("{family}_bucket{{le=\"");
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter_map(|(series, count)| {
                    let le = series.strip_prefix(&bucket)?.strip_suffix("\"}").unwrap();
                    Some((le.replace("+Inf", "inf").parse().unwrap(), *count))
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "{family}: {buckets:?}");
            let (last, all) = *buckets.last().unwrap();
            assert!(last.is_infinite(), "{family} has no +Inf");
            assert_eq!(self.samples[&format!("{family}_count")], all, "{family}");
            assert!(self.samples.contains_key(&format!("{family}_sum")), "{family}");
        }
    }

    /// The value of a series, as it stands in the page; 0 if it is not there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// The series of a family that are not 0.
    pub(crate) fn nonzero(&self, family: &str) -> Vec<(&str, f64)> {
        self.samples
            .iter()
            .filter(|(series, value)| **value != 0.0 && series.split('{').next() == Some(family))
            .map(|(series, value)| (series.as_str(), *value))
            .collect()
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `a="b",c="d"`, with `\\`, `\"` and `\n` in values.
fn labels(mut text: &str, line: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    loop {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(is_name(name) && !name.starts_with("__"), "{line}");
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next().unwrap_or_else(|| panic!("no end of a value: {line}")) {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other} is no escape: {line}"),
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.to_owned(), value));
        match &rest[end + 1..] {
            "" => return labels,
            more => text = more.strip_prefix(',').unwrap_or_else(|| panic!("no comma: {line}")),
        }
    }
}
