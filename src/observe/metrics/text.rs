//! Text format 0.0.4 out of OpenMetrics, which is all that the registry writes.
//!
//! The samples are the same in both. The heads differ: 0.0.4 names a counter with its `_total`, and an info with
//! its `_info` as the gauge that it is to it; it has no units, and no end mark.

/// Turns one complete exposition into format 0.0.4.
pub(super) fn from_openmetrics(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + openmetrics.len() / 16);
    // A family's help comes before its type, which decides about its name.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                text.extend(["# HELP ", name, suffix, " ", words, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_named_with_its_suffix() {
        let openmetrics =
            "# HELP taken How many.\n# TYPE taken counter\ntaken_total{of=\"tasks\"} 3\n# EOF\n";
        let text = "# HELP taken_total How many.\n# TYPE taken_total counter\ntaken_total{of=\"tasks\"} 3\n";
        assert_eq!(from_openmetrics(openmetrics), text);
    }

    #[test]
    fn an_info_is_a_gauge() {
        let openmetrics = "# HELP build Of what.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n";
        let text = "# HELP build_info Of what.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n";
        assert_eq!(from_openmetrics(openmetrics), text);
    }

    #[test]
    fn gauges_and_histograms_stay_and_units_go() {
        let openmetrics = "# HELP t_seconds Time.\n# TYPE t_seconds histogram\n# UNIT t_seconds seconds\n\
                           t_seconds_bucket{le=\"+Inf\"} 1\n# TYPE up gauge\nup 1\n# EOF\n";
        let text = "# HELP t_seconds Time.\n# TYPE t_seconds histogram\n\
                    t_seconds_bucket{le=\"+Inf\"} 1\n# TYPE up gauge\nup 1\n";
        assert_eq!(from_openmetrics(openmetrics), text);
    }

    #[test]
    fn a_label_that_looks_like_a_head_stays_a_label() {
        let sample = "up{of=\"# TYPE x counter\\n# EOF\"} 1\n";
        assert_eq!(from_openmetrics(sample), sample);
    }
}
