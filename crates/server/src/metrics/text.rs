//! The Prometheus text format.

use std::fmt::{Display, Write};

use super::histogram::Snapshot;

/// Writes families of samples.
#[derive(Debug, Default)]
pub(crate) struct TextWriter {
    out: String,
}

/// Label pairs in the order in which they are written; values are escaped.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl TextWriter {
    /// Opens a family. All of its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample.
    pub(crate) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let labels = render_labels(labels);
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// The samples of one histogram: cumulative buckets, sum and count.
    pub(crate) fn histogram(&mut self, name: &str, labels: Labels<'_>, snapshot: &Snapshot<'_>) {
        let bounds = snapshot.bounds.iter().map(f64::to_string).chain(["+Inf".into()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(&snapshot.counts) {
            total += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, snapshot.sum);
        self.sample(&format!("{name}_count"), labels, total);
    }

    /// The text so far.
    pub(crate) fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.out, "{line}");
    }
}

fn render_labels(labels: Labels<'_>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_escaped() {
        let mut writer = TextWriter::default();
        let snapshot = Snapshot { bounds: &[0.5, 1.0], counts: vec![1, 2, 3], sum: 7.5 };
        writer.histogram("h", &[("m", "a\"b\\c\n")], &snapshot);
        let expected = "h_bucket{m=\"a\\\"b\\\\c\\n\",le=\"0.5\"} 1\n\
                        h_bucket{m=\"a\\\"b\\\\c\\n\",le=\"1\"} 3\n\
                        h_bucket{m=\"a\\\"b\\\\c\\n\",le=\"+Inf\"} 6\n\
                        h_sum{m=\"a\\\"b\\\\c\\n\"} 7.5\n\
                        h_count{m=\"a\\\"b\\\\c\\n\"} 6\n";
        assert_eq!(writer.finish(), expected);
    }
}
