//! What the operating system says of this process. Of a program that runs several nodes (`quorate dev`) it is of all together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub resident: u64,
    /// The most there ever was.
    pub peak: u64,
    /// Of the machine.
    pub machine: u64,
}

/// Clock ticks a second in `/proc`: 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Zeros where there is no `/proc`.
#[must_use]
pub fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Memory {
        resident: kilobytes(&status, "VmRSS"),
        peak: kilobytes(&status, "VmHWM"),
        machine: kilobytes(&machine, "MemTotal"),
    }
}

/// What the process had when it was first asked: what comes later is for its data.
#[must_use]
pub fn at_start(now: u64) -> u64 {
    static FIRST: AtomicU64 = AtomicU64::new(0);
    match FIRST.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => now,
        Err(first) => first,
    }
}

/// Seconds of processor time: the system's, the program's.
#[must_use]
pub fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may have blanks.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = rest
        .split_whitespace()
        .skip(11)
        .map(|n| n.parse::<f64>().unwrap_or(0.0));
    let (user, system) = (fields.next().unwrap_or(0.0), fields.next().unwrap_or(0.0));
    (system / TICKS, user / TICKS)
}

/// `1.50M`.
#[must_use]
pub fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T", "P"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes}B")
    } else {
        format!("{size:.2}{}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_by_redis() {
        for (bytes, shown) in [
            (0, "0B"),
            (200, "200B"),
            (2_076_864, "1.98M"),
            (65 << 10, "65.00K"),
        ] {
            assert_eq!(human(bytes), shown);
        }
    }

    #[test]
    fn the_system_tells_of_this_process() {
        let memory = memory();
        assert!(
            memory.resident > 1 << 20 && memory.peak >= memory.resident && memory.machine > memory.resident
        );
    }
}
