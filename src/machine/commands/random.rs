//! `HRANDFIELD`, `SRANDMEMBER`, `ZRANDMEMBER`: members drawn at random, the same on every replica.

use super::Done;
use super::args::{Args, parse_i64};
use crate::base::Reply;
use crate::base::limits::REPLIES_BYTES_MAX;
use crate::machine::overlay::Overlay;

/// Numbers that come from the entry's seed.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub fn of(view: &mut Overlay<'_>) -> Numbers {
        Numbers(view.random())
    }

    pub fn next(&mut self) -> u64 {
        // SplitMix64, as Overlay::random.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..len`.
    pub fn below(&mut self, len: usize) -> usize {
        // The high half of a product: Lemire, "Fast random integer generation in an interval", 2019, without its rejection, whose lack
        // shifts no chance by more than len / 2^64.
        usize::try_from((u128::from(self.next()) * len as u128) >> 64).unwrap_or(0)
    }
}

/// How many are drawn, and how they are replied.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// `None`: one, by itself. Negative: so many, and any of them again.
    count: Option<i64>,
    with: bool,
}

type Pair = (Reply, Reply);

impl Draw {
    /// Reads `[count [with]]`.
    ///
    /// # Errors
    /// A count that is none, or other words.
    pub fn parse(args: &mut Args<'_>, with: &str) -> Result<Draw, Reply> {
        let count = match args.remaining() {
            0 => None,
            _ => Some(parse_i64(args.next()?).ok_or_else(Reply::not_an_integer)?),
        };
        let word = args.word();
        if args.remaining() > 0 || word.as_ref().is_some_and(|word| word != with) {
            return Err(Reply::syntax());
        }
        let draw = Draw {
            count,
            with: word.is_some(),
        };
        let most = if draw.with { i64::MAX / 2 } else { i64::MAX };
        if count.is_some_and(|count| count < -most || count > most) {
            return Err(Reply::err(if draw.with {
                "ERR value is out of range".to_owned()
            } else {
                format!("ERR value is out of range, value must between -{most} and {most}")
            }));
        }
        Ok(draw)
    }

    /// The reply for a key that is not there.
    #[must_use]
    pub fn nothing(&self) -> Reply {
        match self.count {
            None => Reply::Nil,
            Some(_) => self.reply(Vec::new()),
        }
    }

    fn reply(self, drawn: Vec<Pair>) -> Reply {
        if self.with {
            return Reply::Pairs(drawn);
        }
        let mut names = drawn.into_iter().map(|(name, _)| name);
        match self.count {
            None => names.next().unwrap_or(Reply::Nil),
            Some(_) => Reply::Array(names.collect()),
        }
    }

    /// Draws from all that there are.
    pub fn of_few(self, mut all: Vec<Pair>, numbers: &mut Numbers) -> Done {
        let Some(count) = self.count.filter(|count| *count >= 0) else {
            let len = all.len();
            return self.again(|numbers| Some(all[numbers.below(len)].clone()), numbers);
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
        // Fisher and Yates' shuffle, as far as it is needed.
        for at in 0..count {
            let other = at + numbers.below(all.len() - at);
            all.swap(at, other);
        }
        all.truncate(count);
        Ok(self.reply(all))
    }

    /// Draws from a collection of `len` members that is large: `all` gives them all, `one` any.
    pub fn of_many<I: Iterator<Item = Pair>>(
        self,
        len: usize,
        all: impl FnOnce() -> I,
        one: impl Fn(&mut Numbers) -> Option<Pair>,
        numbers: &mut Numbers,
    ) -> Done {
        let Some(count) = self.count.filter(|count| *count >= 0) else {
            return self.again(one, numbers);
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(len);
        if count * 3 > len {
            return self.of_few(all().collect(), numbers);
        }
        let (mut drawn, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        while drawn.len() < count
            && let Some(pair) = one(numbers)
        {
            if let Reply::Bulk(name) = &pair.0
                && seen.insert(name.clone())
            {
                drawn.push(pair);
            }
        }
        Ok(self.reply(drawn))
    }

    /// Draws each from all of them.
    fn again(self, one: impl Fn(&mut Numbers) -> Option<Pair>, numbers: &mut Numbers) -> Done {
        let count = self.count.map_or(1, i64::unsigned_abs);
        let (mut drawn, mut bytes) = (Vec::new(), 0);
        for _ in 0..count {
            let Some(pair) = one(numbers) else { break };
            bytes += pair.0.weight() + if self.with { pair.1.weight() } else { 0 };
            if bytes > REPLIES_BYTES_MAX {
                return Err(Reply::err(format!(
                    "ERR {count} members are more than fit into a reply: {REPLIES_BYTES_MAX} bytes"
                )));
            }
            drawn.push(pair);
        }
        Ok(self.reply(drawn))
    }
}
