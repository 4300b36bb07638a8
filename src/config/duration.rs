//! Durations as people write them: a whole number and one unit, `250ms`, `5s`, `5m`, `24h`, `400d`.
//!
//! Neither fractions (`1.5s` is `1500ms`) nor sums (`1h30m` is `90m`): one way to write each makes a file easy to search.

use std::time::Duration;

/// The units, greatest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A hundred years: far beyond every use, and still safe to add to any clock.
pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Reads a duration of at most [`LONGEST`]. `None` if it isn't one.
pub fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let ms = number.parse::<u64>().ok()?.checked_mul(*unit_ms)?;
    Some(Duration::from_millis(ms)).filter(|duration| *duration <= LONGEST)
}

/// Writes a duration in the greatest unit that divides it; what is below a millisecond is cut off. A single day is `24h`.
pub fn show(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let fits =
        |(unit, unit_ms): &&(&str, u64)| ms.is_multiple_of(*unit_ms) && (*unit != "d" || ms > *unit_ms);
    let (unit, unit_ms) = UNITS.iter().find(fits).unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / unit_ms)
}

/// What a misspelt duration probably meant: `5 min` is `5m`.
pub fn meant(text: &str) -> Option<String> {
    let (number, unit) = split(text.trim());
    let unit = unit.trim().to_ascii_lowercase();
    let unit = match unit.as_str() {
        "msec" | "millis" | "milliseconds" | "ms" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    let meant = format!("{number}{unit}");
    parse(&meant).map(|_| meant).filter(|meant| meant != text)
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        assert_eq!(parse("400d"), Some(Duration::from_secs(400 * 86_400)));
        for wrong in ["", "5", "s", "-5s", "5 s", "1.5s", "1h30m", "5S", "٣s", "+5s", "99999999999999999999s"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_longer_than_a_century_is_taken() {
        assert_eq!(parse("36500d"), Some(LONGEST));
        assert_eq!(parse("36501d"), None);
    }

    #[test]
    fn a_duration_is_shown_in_its_greatest_unit() {
        for text in ["250ms", "1500ms", "5s", "90s", "5m", "24h", "2d", "400d", "0s"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(show(Duration::from_secs(60)), "1m");
        assert_eq!(show(Duration::from_micros(1)), "0s");
    }

    #[test]
    fn common_misspellings_are_understood_but_not_taken() {
        assert_eq!(meant("5 min").as_deref(), Some("5m"));
        assert_eq!(meant("24H").as_deref(), Some("24h"));
        assert_eq!(meant("30 seconds").as_deref(), Some("30s"));
        assert_eq!(meant("5m"), None);
        assert_eq!(meant("soon"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0..=LONGEST.as_millis() as u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&show(duration)), Some(duration));
        }

        #[test]
        fn no_text_breaks_it(text in ".{0,12}") {
            let _ = (parse(&text), meant(&text));
        }
    }
}
