//! What the kernel says of the process, under the names that every Prometheus client uses. Nothing where there is no `/proc`.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{counters, gauges};

/// Clock ticks a second in `/proc`: the kernel shows 100 to programs, whatever it counts with itself.
const TICKS: f64 = 100.0;

/// Reads `/proc` at every scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        counters(
            encoder,
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            cpu_seconds(&stat).map(|seconds| ([], seconds)),
        )?;
        gauges(
            encoder,
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            bytes(&status, "VmRSS:").map(|bytes| ([], bytes)),
        )?;
        gauges(
            encoder,
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            bytes(&status, "VmSize:").map(|bytes| ([], bytes)),
        )?;
        gauges(
            encoder,
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            start_seconds(&stat, &boot).map(|seconds| ([], seconds)),
        )?;
        gauges(
            encoder,
            "process_threads",
            "Number of OS threads in the process.",
            number(&status, "Threads:").map(|threads| ([], threads)),
        )?;
        gauges(
            encoder,
            "process_open_fds",
            "Number of open file descriptors.",
            // One of them is the folder that is being read.
            fs::read_dir("/proc/self/fd").ok().map(|open| ([], (open.count() as u64).saturating_sub(1))),
        )?;
        gauges(
            encoder,
            "process_max_fds",
            "Maximum number of open file descriptors.",
            number(&limits, "Max open files").map(|most| ([], most)),
        )
    }
}

/// The first number after `key`, where a line begins with it.
fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

/// The same for a value in kB.
fn bytes(status: &str, key: &str) -> Option<u64> {
    number(status, key)?.checked_mul(1024)
}

/// A field of `/proc/self/stat`, numbered as in proc(5). The second, the program's name, may hold blanks and parentheses.
fn stat_field(stat: &str, field: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS)
}

fn start_seconds(stat: &str, boot: &str) -> Option<f64> {
    Some(number(boot, "btime")? as f64 + stat_field(stat, 22)? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 12300 99 88 18446744073709551615";

    #[test]
    fn fields_are_found_behind_a_name_with_blanks_and_parentheses() {
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(start_seconds(STAT, "cpu 1 2\nbtime 1000\n"), Some(1123.0));
    }

    #[test]
    fn memory_is_shown_in_bytes() {
        assert_eq!(bytes("VmSize:\t  200 kB\nVmRSS:\t  20 kB\n", "VmRSS:"), Some(20_480));
    }

    #[test]
    fn an_unlimited_or_missing_value_is_no_value() {
        assert_eq!(number("Max open files            unlimited  unlimited  files", "Max open files"), None);
        assert_eq!(cpu_seconds(""), None);
    }
}
