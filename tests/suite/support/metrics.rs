//! What a process counts, read as Prometheus does.

use std::collections::BTreeMap;

/// One scrape, in text format 0.0.4.
pub struct Metrics(Vec<Sample>);

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Metrics(samples.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// The sum over all series of `name` that carry these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|is| is == value))
        };
        self.0.iter().filter(carries).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}')?)?),
        None => (series, BTreeMap::new()),
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

fn parse_labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let (value, length) = quoted(rest)?;
        labels.insert(name.to_owned(), value);
        text = rest[length..].trim_start_matches(',');
    }
    Some(labels)
}

/// The value up to the closing quote, and where the text after that quote begins.
fn quoted(text: &str) -> Option<(String, usize)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            'n' if escaped => value.push('\n'),
            c if escaped => value.push(c),
            '\\' => {
                escaped = true;
                continue;
            }
            '"' => return Some((value, at + 1)),
            c => value.push(c),
        }
        escaped = false;
    }
    None
}

#[test]
fn a_scrape_is_read_with_its_labels() {
    let metrics = Metrics::parse(concat!(
        "# HELP a_total Something.\n# TYPE a_total counter\n",
        "a_total{sequence=\"tasks\",tier=\"pods\"} 3\na_total{sequence=\"tasks\",tier=\"ledger\"} 4\n",
        "b 1.5e3\nc{text=\"a \\\"b\\\", {c}\\\\\",other=\"x\"} 1\n\n",
    ));
    assert_eq!(metrics.sum("a_total", &[("sequence", "tasks")]), 7.0);
    assert_eq!(metrics.sum("a_total", &[("tier", "pods"), ("sequence", "tasks")]), 3.0);
    assert_eq!(metrics.sum("a_total", &[("sequence", "users")]), 0.0);
    assert_eq!((metrics.sum("b", &[]), metrics.sum("c", &[("text", "a \"b\", {c}\\")])), (1500.0, 1.0));
}
