//! How many threads serve a node's clients and groups.

use super::NodeSection;

/// That a node can be given.
pub const THREADS_MAX: usize = 64;

impl NodeSection {
    /// Threads that serve clients and groups.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => threads_for(std::thread::available_parallelism().map_or(1, usize::from)),
            given => given,
        }
    }
}

/// Threads of a node on a machine with so many processors: a quarter of them, at least one. A second thread costs every request a
/// fifth more (`docs/performance.md`), and the others are for the disk, snapshots, the system, and who else is there.
fn threads_for(processors: usize) -> usize {
    (processors / 4).clamp(1, THREADS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn small_machines_give_a_node_one_thread_and_large_ones_a_quarter_of_what_they_have() {
        let threads = [1, 2, 7, 8, 16, 1000].map(threads_for);
        assert_eq!(threads, [1, 1, 1, 2, 4, 64]);
    }

    #[test]
    fn what_the_file_says_counts() {
        let mut config = Config::dev(1, 1, 7001, "./quorate-data".into()).expect("valid");
        config.nodes[0].threads = 3;
        assert_eq!(config.nodes[0].threads(), 3);
    }
}
