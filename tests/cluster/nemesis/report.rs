//! What a run was like, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::epoch::Loads;
use super::faults::Fault;
use super::options::Kind;
use super::world::World;

/// A fault and how the cluster took it.
pub struct Suffered {
    /// From the fault until everything was resolved.
    pub at: Duration,
    pub fault: Fault,
    /// Longest time without a successful write while it lasted, in milliseconds, by what was probed.
    pub gaps: Vec<(String, u64)>,
    /// Until all was resolved among the others, while it lasted; not always looked at.
    pub without: Option<Duration>,
    /// From healing to quorum everywhere.
    pub quorum: Duration,
    /// From quorum until all was resolved. `None`: not in time.
    pub resolved: Option<Duration>,
    /// From there until all shards, and transactions over all, were written to again. `None`: not in time.
    pub serving: Option<Duration>,
}

fn later(took: Option<Duration>) -> String {
    took.map_or("NOT IN TIME".into(), |took| format!("{took:.0?} later"))
}

impl fmt::Display for Suffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gaps: Vec<String> = self
            .gaps
            .iter()
            .map(|(name, gap)| format!("{name} {gap}"))
            .collect();
        write!(
            f,
            "{:<9} {:>5.1} s  {}; led {}; longest gaps in ms: {}; {}quorum {:.0?} after healing, resolved {}, serving {}",
            self.fault.kind.name(),
            self.at.as_secs_f64(),
            self.fault.what,
            if self.fault.led.is_empty() {
                "nothing".into()
            } else {
                self.fault.led.join(" ")
            },
            gaps.join(", "),
            self.without.map_or(String::new(), |took| format!(
                "resolved without them in {took:.0?}; "
            )),
            self.quorum,
            later(self.resolved),
            later(self.serving),
        )
    }
}

#[derive(Default)]
pub struct Report {
    epochs: u64,
    faults: Vec<Suffered>,
    calm: Duration,
    calm_transactions: u64,
    sums: BTreeMap<&'static str, u64>,
    checks: Vec<(&'static str, Duration)>,
    pub notes: Vec<String>,
}

impl Report {
    pub fn calm(&mut self, time: Duration, transactions: u64) {
        self.calm += time;
        self.calm_transactions += transactions;
    }

    pub fn suffered(&mut self, suffered: Suffered) {
        self.faults.push(suffered);
    }

    pub fn checked(&mut self, what: &'static str, took: Duration) {
        self.checks.push((what, took));
    }

    pub fn count(&mut self, what: &'static str, count: u64) {
        *self.sums.entry(what).or_default() += count;
    }

    pub fn add(&mut self, world: &World, loads: &Loads) {
        self.epochs += 1;
        let counts = &world.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.count("transactions", read(&counts.transactions));
        self.count("single commands", read(&counts.commands));
        self.count("conflicts", read(&counts.conflicts));
        self.count("refused", read(&counts.refused));
        self.count("unknown with an id", read(&counts.unknown));
        self.count("connections lost", read(&counts.lost));
        let (committed, aborted) = world.unknowns.count();
        self.count("unknown, told committed", committed as u64);
        self.count("unknown, told aborted", aborted as u64);
        let (gone, after) = loads.expiry.counts();
        self.count("keys seen to expire", gone);
        self.count("looks after that", after);
    }

    /// Transactions a second between faults.
    pub fn rate(&self) -> f64 {
        self.calm_transactions as f64 / self.calm.as_secs_f64().max(0.001)
    }

    /// Of minority kills, per target: the longest gap and how many were seen.
    fn kill_gaps(&self) -> BTreeMap<&str, Vec<u64>> {
        let mut all: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let kills = self
            .faults
            .iter()
            .filter(|s| s.fault.kind == Kind::Kill && s.fault.majority().is_some());
        for suffered in kills {
            for (name, gap) in &suffered.gaps {
                let was_led = suffered.fault.led.contains(name) || !name.starts_with("shard");
                if was_led {
                    all.entry(name).or_default().push(*gap);
                }
            }
        }
        all
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} epochs, {} faults:", self.epochs, self.faults.len())?;
        for kind in Kind::ALL {
            let of_kind = || self.faults.iter().filter(|s| s.fault.kind == kind);
            if of_kind().next().is_none() {
                continue;
            }
            let longest = |time: fn(&Suffered) -> Option<Duration>| {
                of_kind().filter_map(time).max().unwrap_or_default()
            };
            writeln!(
                f,
                "  {} {}: at the longest {:.0?} from healing to quorum, {:.0?} from there until all was resolved, \
                 {:.0?} until all shards took writes, {:.0?} until all was resolved among the others",
                of_kind().count(),
                kind.name(),
                longest(|s| Some(s.quorum)),
                longest(|s| s.resolved),
                longest(|s| s.serving),
                longest(|s| s.without),
            )?;
        }
        for (name, mut gaps) in self.kill_gaps() {
            gaps.sort_unstable();
            let (median, most) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
            writeln!(
                f,
                "  {name} without writes when its leader was killed: median {median} ms, longest {most} ms of {}",
                gaps.len()
            )?;
        }
        for (what, count) in &self.sums {
            writeln!(f, "  {count} {what}")?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        let names: std::collections::BTreeSet<_> = self.checks.iter().map(|(name, _)| *name).collect();
        for name in names {
            let took = self.checks.iter().filter(|(other, _)| *other == name);
            let longest = took.map(|(_, took)| *took).max().unwrap_or_default();
            writeln!(f, "  check of {name}: {longest:.1?} at the longest")?;
        }
        write!(f, "  {:.0} transactions a second between faults", self.rate())
    }
}
