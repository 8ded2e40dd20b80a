//! What a node counts of its clients' commands. The hot path adds to fixed places, once for a run of equal commands in a burst; it
//! takes no lock that another task could hold for long, and allocates nothing once a command has been seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::table::{self, OWN, SUBCOMMANDS};
use crate::base::Reply;
use crate::base::limits::{ERROR_KIND_BYTES_MAX, ERROR_KINDS_MAX};
use crate::machine::commands::{self, COMMANDS, Spec};

/// Samples of the counters, and how far apart they are.
const SAMPLES: usize = 16;
pub const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Bounds of what histograms tell apart, in nanoseconds.
const NANOS_MIN: u64 = 1_000;
const NANOS_MAX: u64 = 1_000_000_000;

/// Where a command is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u16);

impl Place {
    #[must_use]
    pub fn of(spec: &'static Spec) -> Place {
        Place(commands::place(spec) as u16)
    }

    /// Of a command of the gateway's own; by its subcommand, where it has some.
    #[must_use]
    pub fn of_own(name: &'static str, args: &[Bytes]) -> Place {
        if let Some(at) = table::subcommand(name, args.first()) {
            return Place((COMMANDS.len() + OWN.len() + at) as u16);
        }
        let at = OWN.iter().position(|own| own.name == name).unwrap_or(0);
        Place((COMMANDS.len() + at) as u16)
    }

    /// By name alone.
    #[must_use]
    pub fn named(name: &'static str) -> Place {
        commands::find(name.as_bytes()).map_or_else(|| Place::of_own(name, &[]), Place::of)
    }

    fn all() -> impl Iterator<Item = (usize, String)> {
        let plain = COMMANDS.iter().map(|spec| spec.name);
        let names = plain.chain(OWN.iter().map(|own| own.name)).map(str::to_owned);
        let subs = SUBCOMMANDS.iter().map(|sub| format!("{}|{}", sub.of, sub.name));
        names.chain(subs).enumerate()
    }
}

/// Of one command.
#[derive(Debug, Default)]
pub struct Calls {
    count: AtomicU64,
    micros: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    spread: OnceLock<Mutex<Histogram<u32>>>,
}

impl Calls {
    fn add(&self, calls: u64, failed: u64, micros: u64, waited: Option<Duration>) {
        self.count.fetch_add(calls, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        if failed > 0 {
            self.failed.fetch_add(failed, Ordering::Relaxed);
        }
        let Some(waited) = waited else { return };
        if let Some(spread) = self.spread() {
            let nanos = u64::try_from(waited.as_nanos()).unwrap_or(NANOS_MAX);
            spread
                .lock()
                .saturating_record_n(nanos.max(NANOS_MIN), calls as u32);
        }
    }

    fn spread(&self) -> Option<&Mutex<Histogram<u32>>> {
        if let Some(spread) = self.spread.get() {
            return Some(spread);
        }
        let spread = Histogram::new_with_bounds(NANOS_MIN, NANOS_MAX, 2).ok()?;
        Some(self.spread.get_or_init(|| Mutex::new(spread)))
    }

    fn reset(&self) {
        for count in [&self.count, &self.micros, &self.rejected, &self.failed] {
            count.store(0, Ordering::Relaxed);
        }
        if let Some(spread) = self.spread.get() {
            spread.lock().reset();
        }
    }
}

/// A command's counts, as they are shown.
#[derive(Debug, Clone)]
pub struct Shown {
    pub name: String,
    pub calls: u64,
    pub micros: u64,
    pub rejected: u64,
    pub failed: u64,
}

/// Everything that only grows.
#[derive(Debug, Default)]
pub struct Stats {
    by_command: Vec<Calls>,
    errors: Mutex<BTreeMap<String, u64>>,
    pub error_replies: Total,
    pub commands: Total,
    pub bytes_in: Total,
    pub bytes_out: Total,
    pub reads: Total,
    pub writes: Total,
    pub accepted: Total,
    pub refused: Total,
    samples: Mutex<VecDeque<(Instant, [u64; 3])>>,
}

/// A counter.
#[derive(Debug, Default)]
pub struct Total(AtomicU64);

impl Total {
    pub fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Stats {
    #[must_use]
    pub fn new() -> Stats {
        Stats {
            by_command: Place::all().map(|_| Calls::default()).collect(),
            ..Stats::default()
        }
    }

    /// Commands that ran together, with their replies. Each took as long as all of them, for who waited; their shares of the time
    /// add up to it.
    pub fn ran(&self, places: &[Option<Place>], replies: &[Reply], took: Duration, spread: bool) {
        let share = took.as_micros() as u64 / (places.len().max(1) as u64);
        let (mut at, count) = (0, places.len().min(replies.len()));
        while at < count {
            let (place, first) = (places[at], at);
            let mut failed = 0;
            while at < count && places[at] == place {
                failed += u64::from(replies[at].is_error());
                at += 1;
            }
            let calls = (at - first) as u64;
            if let Some(of) = place.and_then(|place| self.by_command.get(usize::from(place.0))) {
                of.add(calls, failed, calls * share, spread.then_some(took));
            }
        }
    }

    /// A command that was refused before it could run.
    pub fn rejected(&self, place: Place) {
        if let Some(of) = self.by_command.get(usize::from(place.0)) {
            of.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An error that a client is told.
    pub fn error(&self, text: &str) {
        self.error_replies.add(1);
        // A script's error begins with whatever it likes.
        let kind = text
            .split(' ')
            .next()
            .filter(|kind| kind.len() <= ERROR_KIND_BYTES_MAX);
        let kind = kind.unwrap_or("ERR");
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(kind) {
            *count += 1;
        } else if errors.len() < ERROR_KINDS_MAX {
            errors.insert(kind.to_owned(), 1);
        }
    }

    #[must_use]
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// The commands that have been called or refused.
    #[must_use]
    pub fn commands(&self) -> Vec<Shown> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let all = Place::all().zip(&self.by_command);
        let shown = all.map(|((_, name), of)| Shown {
            name,
            calls: load(&of.count),
            micros: load(&of.micros),
            rejected: load(&of.rejected),
            failed: load(&of.failed),
        });
        shown.filter(|shown| shown.calls + shown.rejected > 0).collect()
    }

    /// What `look` makes of the latencies, in nanoseconds, of each command that has any.
    pub fn spreads<T>(&self, look: impl Fn(&Histogram<u32>) -> T) -> Vec<(String, T)> {
        let all = Place::all().zip(&self.by_command);
        let known = all.filter_map(|((_, name), of)| {
            let spread = of.spread.get()?.lock();
            (!spread.is_empty()).then(|| (name, look(&spread)))
        });
        known.collect()
    }

    /// Notes the counters as they are: what is shown by the second is told from these.
    pub fn sample(&self) {
        let mut samples = self.samples.lock();
        let now = [self.commands.get(), self.bytes_in.get(), self.bytes_out.get()];
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), now));
    }

    /// Commands, bytes in, bytes out; a second, of late.
    #[must_use]
    pub fn rates(&self) -> [u64; 3] {
        let samples = self.samples.lock();
        let (Some((first, before)), Some((last, after))) = (samples.front(), samples.back()) else {
            return [0; 3];
        };
        let millis = (last.duration_since(*first).as_millis() as u64).max(1);
        [0, 1, 2].map(|i| after[i].saturating_sub(before[i]) * 1000 / millis)
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset(&self) {
        // Nothing is sampled that is half of before.
        let mut samples = self.samples.lock();
        self.by_command.iter().for_each(Calls::reset);
        self.errors.lock().clear();
        let totals = [
            &self.error_replies,
            &self.commands,
            &self.bytes_in,
            &self.bytes_out,
            &self.reads,
            &self.writes,
            &self.accepted,
            &self.refused,
        ];
        for total in totals {
            total.0.store(0, Ordering::Relaxed);
        }
        samples.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bursts_time_is_shared_and_its_failures_are_counted() {
        let stats = Stats::new();
        let places = ["get", "get", "set", "get"].map(|name| Some(Place::named(name)));
        let replies = [Reply::Nil, Reply::err("ERR no"), Reply::ok(), Reply::Nil];
        stats.ran(&places, &replies, Duration::from_micros(400), true);
        let shown = stats.commands();
        let of = |name: &str| {
            shown
                .iter()
                .find(|shown| shown.name == name)
                .expect("it was called")
        };
        assert_eq!((of("get").calls, of("get").micros, of("get").failed), (3, 300, 1));
        assert_eq!((of("set").calls, of("set").micros, of("set").failed), (1, 100, 0));
        let highest = stats.spreads(Histogram::max);
        assert_eq!(highest.len(), 2);
        assert!(
            highest
                .iter()
                .all(|(_, nanos)| (399_000..=410_000).contains(nanos))
        );
        stats.reset();
        assert!(stats.commands().is_empty() && stats.spreads(|_| ()).is_empty());
    }

    #[test]
    fn every_command_has_a_place_of_its_own() {
        for (at, spec) in COMMANDS.iter().enumerate() {
            assert_eq!(usize::from(Place::of(spec).0), at);
        }
        let sub = [Bytes::from_static(b"GET")];
        assert_ne!(Place::of_own("config", &sub), Place::of_own("config", &[]));
        assert_ne!(Place::of_own("config", &sub), Place::of_own("slowlog", &sub));
    }

    #[test]
    fn errors_are_told_apart_by_their_codes() {
        let stats = Stats::new();
        for text in ["ERR a", "ERR b", "WRONGTYPE c"] {
            stats.error(text);
        }
        let expected = [("ERR".to_owned(), 2), ("WRONGTYPE".to_owned(), 1)];
        assert_eq!(stats.errors(), BTreeMap::from(expected));
        assert_eq!(stats.error_replies.get(), 3);
    }
}
