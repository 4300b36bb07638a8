//! Values as people read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The two greatest units, to the nearest millisecond: `3d 4h`, `5m`, `250ms`.
pub fn duration(span: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let span = span.saturating_add(Duration::from_micros(500));
    let seconds = span.as_secs();
    if span.as_millis() == 0 {
        return "0s".to_owned();
    }
    let Some(greatest) = UNITS.iter().position(|(_, size)| seconds >= *size) else {
        return format!("{}ms", span.as_millis());
    };
    let (unit, size) = UNITS[greatest];
    let whole = format!("{}{unit}", seconds / size);
    match UNITS.get(greatest + 1) {
        Some((smaller, part)) if seconds % size >= *part => {
            format!("{whole} {}{smaller}", seconds % size / part)
        }
        _ => whole,
    }
}

/// A moment of the ledger's clock in RFC 3339, UTC.
pub fn moment(microseconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{microseconds} µs after 1970"))
}

/// One line without control characters: what another process said can't move the cursor.
pub fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control()).filter(|part| !part.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// `1 pod`, `3 pods`.
pub fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_shows_its_two_greatest_units() {
        for (seconds, shown) in [
            (0.0, "0s"),
            (0.25, "250ms"),
            (1.9, "1s"),
            (4.999_9, "5s"),
            (60.0, "1m"),
            (90.0, "1m 30s"),
            (3_600.0, "1h"),
            (3_659.0, "1h"),
            (86_400.0, "1d"),
            (97_200.0, "1d 3h"),
        ] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), shown);
        }
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(1_700_000_000_250_000), "2023-11-14T22:13:20.25Z");
        assert_eq!(moment(i64::MAX), format!("{} µs after 1970", i64::MAX));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\r\n"), "a b [2Jc");
    }
}
