//! `LATENCY`: moments at which something took longer than `latency-monitor-threshold`, and the histograms of all commands.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::client::{arity, text};
use super::help;
use super::stats::Stats;
use crate::base::limits::LATENCY_SAMPLES_MAX;
use crate::base::{Millis, Reply};

/// What may take long: commands, as far as the client sees; snapshots.
pub const COMMAND: &str = "command";

#[derive(Debug, Default)]
struct Event {
    /// By second, the longest in each; milliseconds.
    samples: VecDeque<(u64, u64)>,
    longest: u64,
}

#[derive(Debug, Default)]
pub struct Latency {
    events: Mutex<BTreeMap<&'static str, Event>>,
}

const DISABLED: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \
                        \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep \
                        space mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n";

fn int(n: u64) -> Reply {
    Reply::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

impl Latency {
    /// Something has taken long.
    pub fn note(&self, event: &'static str, took: Duration, at: Millis) {
        let (second, millis) = (at / 1000, took.as_millis() as u64);
        let mut events = self.events.lock();
        let event = events.entry(event).or_default();
        event.longest = event.longest.max(millis);
        match event.samples.back_mut() {
            Some((last, longest)) if *last >= second => *longest = (*longest).max(millis),
            _ => event.samples.push_back((second, millis)),
        }
        if event.samples.len() > LATENCY_SAMPLES_MAX {
            event.samples.pop_front();
        }
    }

    fn latest(&self) -> Reply {
        let events = self.events.lock();
        let row = |(name, event): (&&'static str, &Event)| {
            let (at, millis) = event.samples.back().copied().unwrap_or_default();
            Reply::Array(vec![Reply::bulk(*name), int(at), int(millis), int(event.longest)])
        };
        Reply::Array(events.iter().map(row).collect())
    }

    fn history(&self, name: &str) -> Reply {
        let events = self.events.lock();
        let samples = events.get(name).into_iter().flat_map(|event| &event.samples);
        Reply::Array(
            samples
                .map(|(at, millis)| Reply::Array(vec![int(*at), int(*millis)]))
                .collect(),
        )
    }

    /// `RESET`: of these kinds, or all; says how many there were.
    fn reset(&self, names: &[Bytes]) -> Reply {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|name, _| {
            let named = names
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name.as_bytes()));
            !names.is_empty() && !named
        });
        Reply::count(before - events.len())
    }

    fn graph(&self, name: &str) -> Reply {
        let events = self.events.lock();
        let Some(event) = events.get(name).filter(|event| !event.samples.is_empty()) else {
            return Reply::err(format!("ERR No samples available for event '{name}'"));
        };
        let last = event.samples.iter().map(|(_, millis)| *millis);
        let (low, high) = (last.clone().min().unwrap_or(0), last.max().unwrap_or(0));
        let mut graph = format!(
            "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
            event.longest,
            "-".repeat(80)
        );
        // Writing to a string does not fail.
        for (at, millis) in &event.samples {
            let length = (millis * 60).checked_div(high).unwrap_or(0);
            let _ = writeln!(
                graph,
                "{at} {millis:>6} {}",
                "#".repeat(usize::try_from(length).unwrap_or(0).max(1))
            );
        }
        Reply::Verbatim(graph.into())
    }

    fn doctor(&self, threshold: Option<u64>) -> Reply {
        let Some(threshold) = threshold else {
            return Reply::Verbatim(DISABLED.into());
        };
        let events = self.events.lock();
        if events.is_empty() {
            let nothing = "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest \
                           bit. I honestly think you ought to sit down calmly, take a stress pill, and think things over.\n";
            return Reply::Verbatim(nothing.into());
        }
        let mut report =
            format!("Dave, I have observed latency spikes in this instance (over {threshold} ms).\n\n");
        for (at, (name, event)) in events.iter().enumerate() {
            let count = event.samples.len() as u64;
            let sum: u64 = event.samples.iter().map(|(_, millis)| millis).sum();
            let _ = writeln!(
                report,
                "{}. {name}: {count} latency spikes (average {}ms). Worst all time event {}ms.",
                at + 1,
                sum / count.max(1),
                event.longest
            );
        }
        report.push_str(
            "\nA command waits for the disks and the links of a majority: compare `QUORATE STATUS` and the nodes' disks. SLOWLOG GET \
             names the commands.\n",
        );
        Reply::Verbatim(report.into())
    }

    /// `LATENCY DOCTOR | GRAPH event | HISTORY event | LATEST | RESET [event …] | HISTOGRAM [command …] | HELP`.
    pub fn command(&self, args: &[Bytes], stats: &Stats, threshold: Option<u64>) -> Reply {
        let sub = args[0].to_ascii_lowercase();
        match (sub.as_slice(), &args[1..]) {
            (b"help", []) => help::reply("latency"),
            (b"latest", []) => self.latest(),
            (b"history", [event]) => self.history(&text(event)),
            (b"reset", names) => self.reset(names),
            (b"graph", [event]) => self.graph(&text(event)),
            (b"doctor", []) => self.doctor(threshold),
            (b"histogram", names) => histogram(stats, names),
            _ => arity(&format!("latency|{}", text(&sub))),
        }
    }
}

/// Calls up to each power of two of microseconds, for each command.
fn histogram(stats: &Stats, names: &[Bytes]) -> Reply {
    let wanted = |name: &str| {
        let of = name.split('|').next().unwrap_or_default();
        let is = |wanted: &Bytes| {
            [name, of]
                .iter()
                .any(|n| wanted.eq_ignore_ascii_case(n.as_bytes()))
        };
        names.is_empty() || names.iter().any(is)
    };
    let spreads = stats.spreads(|spread| (spread.len(), steps(spread)));
    let shown = spreads.into_iter().filter(|(name, _)| wanted(name));
    let rows = shown.map(|(name, (calls, steps))| {
        let steps = steps.into_iter().map(|(micros, calls)| (int(micros), int(calls)));
        let row = vec![
            (Reply::bulk("calls"), int(calls)),
            (Reply::bulk("histogram_usec"), Reply::Map(steps.collect())),
        ];
        (Reply::bulk(name), Reply::Map(row))
    });
    Reply::Map(rows.collect())
}

fn steps(spread: &Histogram<u32>) -> Vec<(u64, u64)> {
    let mut steps = Vec::new();
    let (mut micros, mut before) = (1_u64, 0);
    while before < spread.len() && micros < 1 << 40 {
        let calls = spread.count_between(0, micros * 1000);
        if calls > before {
            steps.push((micros, calls));
            before = calls;
        }
        micros *= 2;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_a_second_counts_and_the_oldest_go() {
        let latency = Latency::default();
        for second in 0..200 {
            latency.note(COMMAND, Duration::from_millis(5), second * 1000);
            latency.note(COMMAND, Duration::from_millis(second), second * 1000 + 1);
        }
        let Reply::Array(history) = latency.history(COMMAND) else {
            unreachable!("an array");
        };
        assert_eq!(history.len(), LATENCY_SAMPLES_MAX);
        assert_eq!(history[0], Reply::Array(vec![Reply::Int(40), Reply::Int(40)]));
        let latest = vec![
            Reply::bulk(COMMAND),
            Reply::Int(199),
            Reply::Int(199),
            Reply::Int(199),
        ];
        assert_eq!(latency.latest(), Reply::Array(vec![Reply::Array(latest)]));
        assert_eq!(latency.reset(&[Bytes::from_static(b"other")]), Reply::Int(0));
        assert_eq!(latency.reset(&[]), Reply::Int(1));
        assert_eq!(latency.latest(), Reply::Array(Vec::new()));
    }

    #[test]
    fn histograms_are_told_by_powers_of_two() {
        let mut spread = Histogram::new_with_bounds(1_000, 1_000_000_000, 2).expect("bounds");
        for micros in [3, 3, 100] {
            spread.saturating_record(micros * 1000);
        }
        assert_eq!(steps(&spread), [(4, 2), (128, 3)]);
    }
}
