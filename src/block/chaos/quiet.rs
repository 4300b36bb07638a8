//! Quiet hours: parts of the week without drills.

use std::fmt;
use std::str::FromStr;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY: u32 = 24 * 60;
/// Minutes of a week.
const WEEK: u32 = 7 * DAY;
/// 1970 began on a Thursday.
const FIRST_DAY: i64 = 3;

/// Some hours of some days of the week, by UTC: `22:00-06:00`, `sat-sun`, `fri 16:00-24:00`.
///
/// Hours that end before they begin reach into the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// The first and the last day, Monday = 0; may wrap around the end of the week.
    days: (u32, u32),
    /// Minutes of the day at which it begins and ends.
    hours: (u32, u32),
}

impl Quiet {
    /// Whether that second, counted from 1970, lies in it.
    pub fn covers(self, unix_s: i64) -> bool {
        let minutes = unix_s.div_euclid(60) + FIRST_DAY * i64::from(DAY);
        let at = u32::try_from(minutes.rem_euclid(i64::from(WEEK))).unwrap_or(0);
        let (from, to) = self.hours;
        let length = if to > from { to - from } else { to + DAY - from };
        let (first, last) = self.days;
        let days = (last + 7 - first) % 7 + 1;
        (0..days).any(|day| {
            let begins = (first + day) % 7 * DAY + from;
            (at + WEEK - begins) % WEEK < length
        })
    }
}

/// As it is written.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
impl FromStr for Quiet {
    type Err = String;

    fn from_str(text: &str) -> Result<Quiet, String> {
        let mut words = text.split_whitespace();
        let (first, second, more) = (words.next(), words.next(), words.next());
        let read = match (first, second, more) {
            (Some(one), None, _) if one.contains(':') => Some(((0, 6), hours(one)?)),
            (Some(one), None, _) => Some((days(one)?, (0, DAY))),
            (Some(one), Some(two), None) => Some((days(one)?, hours(two)?)),
            _ => None,
        };
        let (days, hours) =
            read.ok_or("days, hours or both, such as \"sat-sun\" or \"mon-fri 22:00-06:00\"")?;
        Ok(Quiet { days, hours })
    }
}

fn days(text: &str) -> Result<(u32, u32), String> {
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
        let found = found.and_then(|index| u32::try_from(index).ok());
        found.ok_or_else(|| format!("a day is one of {}, not {name:?}", DAYS.join(", ")))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((day(first)?, day(last)?))
}

fn hours(text: &str) -> Result<(u32, u32), String> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |part: &str| (part.len() == 2).then(|| part.parse::<u32>().ok()).flatten();
        let (hour, minute) = (two(hour)?, two(minute)?);
        (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
    };
    let read = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    let read = read.filter(|(from, to)| from != to && *from < DAY);
    read.ok_or_else(|| format!("hours are two times of the day such as 22:00-06:00, not {text:?}"))
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((first, last), (from, to)) = (self.days, self.hours);
        let name = |day: u32| DAYS.get(day as usize).copied().unwrap_or_default();
        let (every_day, all_day) = ((first, last) == (0, 6), (from, to) == (0, DAY));
        if !every_day || all_day {
            f.write_str(name(first))?;
            if first != last {
                write!(f, "-{}", name(last))?;
            }
        }
        if !all_day {
            let space = if every_day { "" } else { " " };
            write!(f, "{space}{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_cover_what_they_say() {
        // Hours since Monday, 23 November 2026, 00:00 UTC.
        let monday = 1_795_392_000;
        for (text, inside, outside) in [
            ("sat-sun", &[120, 143, 144, 167][..], &[0, 119, 168][..]),
            ("22:00-06:00", &[22, 23, 0, 5, 24, 166, 168], &[6, 21, 30]),
            ("sun 22:00-06:00", &[166, 167, 168, 173, 5], &[22, 24, 165, 174]),
            ("fri-mon", &[0, 23, 96, 167], &[24, 95]),
            ("mon 16:00-24:00", &[16, 23], &[15, 24]),
            ("sat", &[120, 143], &[119, 144]),
            ("mon-sun", &[0, 80, 167], &[]),
            ("21:30-06:15", &[22, 6], &[21, 7]),
        ] {
            let quiet: Quiet = text.parse().unwrap();
            assert_eq!(quiet.to_string(), text);
            for (hours, expected) in [(inside, true), (outside, false)] {
                for hour in hours {
                    assert_eq!(quiet.covers(monday + hour * 3600), expected, "{text} at {hour}");
                }
            }
        }
        for wrong in [
            "",
            "mo",
            "mon-",
            "25:00-26:00",
            "08:00",
            "8:00-9:00",
            "mon 08:00-08:00",
            "mon tue",
            "24:00-01:00",
            "08:60-10:00",
            "10:00-24:01",
        ] {
            assert!(wrong.parse::<Quiet>().is_err(), "{wrong}");
        }
    }
}
