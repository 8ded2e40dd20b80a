//! LCS: the longest common subsequence of two strings, by the table that every textbook has.

use bytes::Bytes;

use super::args::{Args, parse_i64};
use super::{Blob, Done, View};
use crate::base::Reply;

/// Bytes of the table.
const TABLE_BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
struct Options {
    len: bool,
    ranges: bool,
    with_lengths: bool,
    least: usize,
}

/// Where a stretch of both begins and ends, both ends included.
struct Match {
    a: (usize, usize),
    b: (usize, usize),
}

impl Match {
    fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }

    fn reply(&self, with_length: bool) -> Reply {
        let range = |(from, to)| Reply::Array(vec![Reply::count(from), Reply::count(to)]);
        let mut parts = vec![range(self.a), range(self.b)];
        if with_length {
            parts.push(Reply::count(self.len()));
        }
        Reply::Array(parts)
    }
}

/// Lengths for all pairs of beginnings, a row for each of `a`.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Table {
        let width = b.len() + 1;
        let mut table = Table {
            cells: vec![0; (a.len() + 1) * width],
            width,
        };
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                let length = if x == y {
                    table.at(i, j) + 1
                } else {
                    table.at(i, j + 1).max(table.at(i + 1, j))
                };
                table.cells[(i + 1) * width + j + 1] = length;
            }
        }
        table
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// The subsequence, and its stretches, the last one first.
    fn walk(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let (mut i, mut j) = (a.len(), b.len());
        let (mut common, mut matches): (Vec<u8>, Vec<Match>) = (Vec::new(), Vec::new());
        let mut open = false;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                common.push(a[i]);
                match matches.last_mut().filter(|_| open) {
                    Some(last) => (last.a.0, last.b.0) = (i, j),
                    None => matches.push(Match { a: (i, i), b: (j, j) }),
                }
                open = true;
            } else {
                open = false;
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
            }
        }
        common.reverse();
        (common, matches)
    }
}

pub fn lcs(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let keys = [a.key()?, a.key()?];
    let mut strings = Vec::new();
    for key in &keys {
        let found = view.get_str(key);
        let found = found.map_err(|_| Reply::err("ERR The specified keys must contain string values"))?;
        strings.push(found.map_or_else(Bytes::new, Blob::to_bytes));
    }
    let mut options = Options::default();
    while let Some(word) = a.word() {
        match word.as_str() {
            "LEN" => options.len = true,
            "IDX" => options.ranges = true,
            "WITHMATCHLEN" => options.with_lengths = true,
            "MINMATCHLEN" => {
                let least = parse_i64(a.value()?).ok_or_else(Reply::not_an_integer)?;
                options.least = usize::try_from(least).unwrap_or(0);
            }
            _ => return Err(Reply::syntax()),
        }
    }
    if options.len && options.ranges {
        return Err(Reply::err(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let (first, second) = (&strings[0][..], &strings[1][..]);
    let cells = (first.len() + 1).checked_mul(second.len() + 1);
    if cells.is_none_or(|cells| cells > TABLE_BYTES_MAX / size_of::<u32>()) {
        return Err(Reply::err(format!(
            "ERR Insufficient memory, transient memory for LCS exceeds {TABLE_BYTES_MAX} bytes"
        )));
    }
    let table = Table::new(first, second);
    let (common, matches) = table.walk(first, second);
    if options.len {
        return Ok(Reply::count(common.len()));
    }
    if !options.ranges {
        return Ok(Reply::bulk(common));
    }
    let matches = matches.iter().filter(|found| found.len() >= options.least);
    let matches = matches.map(|found| found.reply(options.with_lengths)).collect();
    Ok(Reply::Map(vec![
        (Reply::bulk("matches"), Reply::Array(matches)),
        (Reply::bulk("len"), Reply::count(common.len())),
    ]))
}
