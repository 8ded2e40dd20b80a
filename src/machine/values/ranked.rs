//! Members of a large sorted set in order of score and name, with ranks: sorted runs of some hundreds of entries, each with its
//! length beside it. To rank one, the lengths of the runs before it are added up; a copy shares all runs, and a change copies one.
//!
//! Not a counted tree: among the well-kept crates there is none whose copies are cheap, and a snapshot needs those.

use std::ops::Range;
use std::sync::Arc;

use imbl::Vector;

use super::Blob;
use super::zset::Score;

const RUN_MAX: usize = 512;

pub type Entry = (Score, Blob);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    len: u32,
    entries: Arc<Vec<Entry>>,
}

impl Run {
    fn new(entries: Vec<Entry>) -> Run {
        Run {
            len: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            entries: Arc::new(entries),
        }
    }

    fn len(&self) -> usize {
        self.len as usize
    }
}

/// No run is empty.
#[derive(Debug, Clone, Default)]
pub struct Ranked {
    runs: Vector<Run>,
    len: usize,
}

/// Runs are cut where members came and went, which is not what makes two the same.
impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.len == other.len && self.range(0..self.len).eq(other.range(0..other.len))
    }
}

impl Eq for Ranked {}

fn key(entry: &Entry) -> (Score, &[u8]) {
    (entry.0, &entry.1)
}

impl Ranked {
    /// How many entries come before the first of which `before` is false; of all behind it, it is false as well.
    pub fn partition_point(&self, before: impl Fn(&Entry) -> bool) -> usize {
        let (run, at) = self.place(before);
        self.ahead(run) + at
    }

    /// Run, and place in it.
    fn place(&self, before: impl Fn(&Entry) -> bool) -> (usize, usize) {
        let (mut low, mut high) = (0, self.runs.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.runs[middle].entries.last().is_some_and(&before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let at = self
            .runs
            .get(low)
            .map_or(0, |run| run.entries.partition_point(&before));
        (low, at)
    }

    /// Entries in the runs before this one.
    fn ahead(&self, run: usize) -> usize {
        if run > self.runs.len() / 2 {
            let behind: usize = self
                .runs
                .iter()
                .rev()
                .take(self.runs.len() - run)
                .map(Run::len)
                .sum();
            return self.len - behind;
        }
        self.runs.iter().take(run).map(Run::len).sum()
    }

    /// Puts an entry that is not there.
    pub fn insert(&mut self, entry: Entry) {
        self.len += 1;
        let (run, at) = self.place(|other| key(other) < key(&entry));
        // Behind all others it joins the last run.
        let (run, at) = match self.runs.len().checked_sub(1) {
            None => return self.runs.push_back(Run::new(vec![entry])),
            Some(last) if run > last => (last, self.runs[last].len()),
            Some(_) => (run, at),
        };
        let Some(found) = self.runs.get_mut(run) else {
            return;
        };
        let entries = Arc::make_mut(&mut found.entries);
        entries.insert(at, entry);
        found.len += 1;
        if entries.len() > RUN_MAX {
            // What comes in order leaves full runs behind.
            let cut = if at == RUN_MAX { at } else { RUN_MAX / 2 };
            let rest = entries.split_off(cut);
            found.len = u32::try_from(cut).unwrap_or(u32::MAX);
            self.runs.insert(run + 1, Run::new(rest));
        }
    }

    /// Removes an entry that is there.
    pub fn remove(&mut self, entry: &Entry) {
        let (run, at) = self.place(|other| key(other) < key(entry));
        let Some(found) = self.runs.get_mut(run) else {
            return;
        };
        debug_assert_eq!(&found.entries[at], entry, "it is there");
        Arc::make_mut(&mut found.entries).remove(at);
        found.len -= 1;
        self.len -= 1;
        let len = found.len();
        if len == 0 {
            self.runs.remove(run);
        } else if len < RUN_MAX / 8
            && self
                .runs
                .get(run + 1)
                .is_some_and(|next| next.len() + len <= RUN_MAX / 2)
        {
            let next = self.runs.remove(run + 1);
            if let Some(found) = self.runs.get_mut(run) {
                found.len += next.len;
                Arc::make_mut(&mut found.entries).extend_from_slice(&next.entries);
            }
        }
    }

    /// Entries by rank, within the set.
    pub fn range(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = &Entry> {
        let (first, from) = self.find(range.start);
        let (last, to) = self.find(range.end.max(range.start));
        (first..=last).flat_map(move |run| {
            let entries = self.runs.get(run).map_or(&[][..], |run| &run.entries[..]);
            let from = if run == first { from } else { 0 };
            let to = if run == last { to } else { entries.len() };
            entries[from..to].iter()
        })
    }

    /// Run of a rank, and place in it.
    fn find(&self, rank: usize) -> (usize, usize) {
        let mut left = rank;
        for (at, run) in self.runs.iter().enumerate() {
            if left < run.len() {
                return (at, left);
            }
            left -= run.len();
        }
        (self.runs.len(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        let score = Score::new((n % 97) as f64).expect("a number");
        (score, Blob::from(&n.to_le_bytes()[..]))
    }

    #[test]
    fn it_ranks_as_a_sorted_list_does_through_growth_and_decay() {
        let (mut ranked, mut model) = (Ranked::default(), Vec::new());
        let check = |ranked: &Ranked, model: &Vec<Entry>| {
            assert!(
                ranked
                    .runs
                    .iter()
                    .all(|run| run.len() == run.entries.len() && run.len > 0)
            );
            assert!(ranked.range(0..model.len()).eq(model.iter()));
            assert!(ranked.range(0..model.len()).rev().eq(model.iter().rev()));
            let (from, to) = (model.len() / 3, model.len() / 2);
            assert!(ranked.range(from..to).eq(&model[from..to]));
            for score in [0, 1, 50, 96, 97] {
                let score = Score::new(f64::from(score)).expect("a number");
                let place = model.partition_point(|entry| entry.0 < score);
                assert_eq!(ranked.partition_point(|entry| entry.0 < score), place);
            }
        };
        // Steps that are coprime with the count visit each once, out of order.
        let count = 20_000_u64;
        for n in (0..count).map(|i| i * 7919 % count) {
            let at = model.partition_point(|other| key(other) < key(&entry(n)));
            model.insert(at, entry(n));
            ranked.insert(entry(n));
        }
        check(&ranked, &model);
        let kept = ranked.clone();
        for n in (0..count).map(|i| i * 6007 % count).take(19_900) {
            let at = model.partition_point(|other| key(other) < key(&entry(n)));
            model.remove(at);
            ranked.remove(&entry(n));
        }
        check(&ranked, &model);
        assert_eq!(kept.range(0..20_000).count(), 20_000, "a copy does not change");
        assert!(
            ranked.runs.len() <= 3,
            "small runs are joined: {}",
            ranked.runs.len()
        );
    }
}
