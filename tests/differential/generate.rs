//! Random commands from templates, over few keys and few members, so that they meet.

use std::cell::Cell;
use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::templates::{TEMPLATES, Template};
use super::times::Times;

/// How two replies to a command compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Exact,
    /// In any order.
    Any,
    /// As numbers: Redis rounds to 64 bits of mantissa, Quorate adds in decimal. What is stored is then removed.
    Number,
    /// By their size: what is drawn is not the same.
    Size,
    /// Depends on the time: exact by a clock that stands still, else by size.
    Timed,
    /// A time in seconds or milliseconds: exact by a clock that stands still, else near.
    Seconds,
    Millis,
}

pub struct Command {
    pub args: Vec<Vec<u8>>,
    pub order: Order,
    /// What each element of its reply replies to: EXEC, and a script of several commands.
    pub each: Vec<Command>,
}

impl Command {
    pub fn exact(words: &[&str]) -> Command {
        Command {
            args: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            order: Order::Exact,
            each: Vec::new(),
        }
    }
}

/// Types. What estimates stand in is not compared byte by byte, so no other commands meet `p`.
const FAMILIES: [char; 9] = ['h', 'l', 's', 'z', 'x', 'b', 'g', 'e', 'p'];
const KEYS: usize = 3;
const COUNTS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "5",
    "-1",
    "-2",
    "-7",
    "100",
    "x",
    "",
    "9223372036854775807",
    "1.5",
];
const INDEXES: &[&str] = &[
    "0",
    "1",
    "2",
    "5",
    "-1",
    "-2",
    "-3",
    "-100",
    "100",
    "9223372036854775807",
    "-9223372036854775808",
    "y",
];
const SCORES: &[&str] = &[
    "0", "1", "2", "3", "-1", "1.5", "0.1", "1e300", "-1e300", "inf", "-inf", "+inf", "nan", "z", "3.0e5",
];
const FLOATS: &[&str] = &["0.5", "1", "-2.25", "3", "1e2", "0", "w", "10.25"];
const LIMITS: &[&str] = &[
    "0", "(0", "1", "(1", "2.5", "-inf", "+inf", "(-1", "inf", "bad", "3",
];
const NAMES: &[&str] = &["-", "+", "[a", "(a", "[c", "(c", "[", "bad", "[m7"];

/// One command, which is all arguments.
const CALL: &str = "return redis.call(unpack(ARGV))";
/// Several, each with its length before it. A nil would end what is returned.
const CALL_EACH: &str = "local out, at = {}, 1 while ARGV[at] do local n = tonumber(ARGV[at]) \
                         out[#out + 1] = redis.pcall(unpack(ARGV, at + 1, at + n)) or false at = at + n + 1 end return out";

/// What a round's commands are drawn with.
pub struct Generator {
    /// Some rounds have few members, and some so many that collections grow large.
    members: usize,
    lengths: usize,
    /// Most rounds are about one type, or its keys would hardly meet.
    templates: Vec<&'static Template>,
    /// Entries of streams so far.
    ids: Cell<u64>,
    pub times: Times,
}

impl Generator {
    pub fn new(rng: &mut StdRng, times: Times) -> Generator {
        let family = *FAMILIES.choose(rng).expect("there are some");
        let all = rng.random_ratio(1, 4);
        let about =
            |template: &&Template| all || template.0 == family || template.0 == 'k' && rng.random_ratio(1, 3);
        let templates = TEMPLATES.iter().filter(about).collect();
        Generator {
            templates,
            ids: Cell::new(0),
            times,
            members: *[5, 12, 60].choose(rng).expect("there are some"),
            lengths: *[1, 1, 40, 200].choose(rng).expect("there are some"),
        }
    }

    fn key(family: char, rng: &mut StdRng) -> Vec<u8> {
        // Where a score that is no place would lie is undefined, so `g` and `z` do not meet.
        let others: &[char] = match family {
            'y' | 'p' => &[],
            'g' => &['h', 'l', 's', 'x', 'b', 'e'],
            _ => &['h', 'l', 's', 'z', 'x', 'b', 'e'],
        };
        let family = match others.choose(rng) {
            Some(other) if rng.random_ratio(1, 12) => *other,
            _ => family,
        };
        format!("{family}{}", rng.random_range(0..KEYS)).into_bytes()
    }

    fn member(&self, rng: &mut StdRng) -> Vec<u8> {
        match rng.random_range(0..30) {
            0 => Vec::new(),
            1 => b"a\0b\r\n".to_vec(),
            2..8 => [b'a' + rng.random_range(0..5)].to_vec(),
            8..14 => rng.random_range(0..self.members).to_string().into_bytes(),
            _ => {
                let n = rng.random_range(0..self.members);
                // The same member has the same length each time.
                let mut name = format!("m{n}").into_bytes();
                name.resize(name.len() + n * 31 % self.lengths, b'.');
                name
            }
        }
    }

    fn word(&self, word: &str, family: char, rng: &mut StdRng, args: &mut Vec<Vec<u8>>) {
        if let Some(perhaps) = word.strip_suffix('?') {
            if rng.random_ratio(1, 3) {
                self.word(perhaps, family, rng, args);
            }
            return;
        }
        if let Some(often) = word.strip_suffix('*') {
            let most = if self.members > 20 { 12 } else { 3 };
            for _ in 0..rng.random_range(1..=most) {
                self.word(often, family, rng, args);
            }
            return;
        }
        if word.contains('+') {
            for part in word.split('+') {
                self.word(part, family, rng, args);
            }
            return;
        }
        if let Some(words) = self.times.words(word) {
            args.push(words.choose(rng).expect("there are some").clone().into_bytes());
            return;
        }
        let mut any = |words: &[&str]| words.choose(rng).expect("there are some").as_bytes().to_vec();
        let arg = match word {
            "S" => any(SCORES),
            "N" => any(COUNTS),
            "I" => any(INDEXES),
            "F" => any(FLOATS),
            "R" => any(LIMITS),
            "L" => any(NAMES),
            "O" => any(&["-", "+", "0", "2", "(3", "5-1", "(7-0", "9", "(", "x", "40"]),
            "Q" => any(&["g", "h", "g", "none"]),
            "C" => any(&["alice", "bob", ""]),
            "B" => any(&["0", "1", "7", "8", "13", "63", "100", "#2", "-1", "x"]),
            "U" => any(&[
                "u1", "i1", "u8", "i8", "i5", "u63", "i64", "u64", "i16", "u0", "q",
            ]),
            "X" => any(&[
                "0",
                "1.5",
                "-77.25",
                "100.125",
                "13.361389",
                "15.087269",
                "-200",
                "x",
            ]),
            "Y" => any(&["0", "38.115556", "37.502669", "-60.5", "80.0625", "-0.001", "86"]),
            "W" => any(&["0", "1", "200", "1500", "3000.5", "-1", "x"]),
            "D" => {
                let next = self.ids.get() + 1;
                self.ids.set(next);
                let near = rng.random_range(0..5);
                match rng.random_range(0..8) {
                    // All ids after it would be too small.
                    0 if self.times.stand_still() && rng.random_ratio(1, 40) => "*".to_owned(),
                    0 => format!("{next}-*"),
                    1 => format!("{}-{near}", next.saturating_sub(near)),
                    2 => format!("{next}-1"),
                    _ => next.to_string(),
                }
                .into_bytes()
            }
            "E" => match rng.random_range(0..12) {
                0 => b"0".to_vec(),
                1 => b"$".to_vec(),
                n => {
                    let id = rng.random_range(0..=self.ids.get() + 1);
                    if n == 2 { format!("{id}-1") } else { id.to_string() }.into_bytes()
                }
            },
            "P" => any(&["*", "m*", "a", "[0-9]*", "?"]),
            "V" => any(&[
                "v",
                "12",
                "3.5",
                "",
                "-7",
                "a longer value that takes some room",
                "+5",
            ]),
            "K" | "T" => Self::key(family, rng),
            "M" => self.member(rng),
            "#K" => {
                let count = rng.random_range(1..=3);
                let told = if rng.random_ratio(1, 25) { 0 } else { count };
                args.push(told.to_string().into_bytes());
                for _ in 1..count {
                    args.push(Self::key(family, rng));
                }
                Self::key(family, rng)
            }
            either if either.contains('|') => {
                let words: Vec<&str> = either.split('|').collect();
                any(&words)
            }
            itself => itself.as_bytes().to_vec(),
        };
        args.push(arg);
    }

    pub fn command(&self, rng: &mut StdRng) -> Command {
        let &&(family, order, template) = self.templates.choose(rng).expect("there are some");
        // Sets are sources of sorted sets' unions, and every type meets the commands on all.
        let family = match family {
            'k' => match self.templates.choose(rng).expect("some").0 {
                'p' => 'b',
                other => other,
            },
            'z' if template.starts_with("ZUNION") && rng.random_ratio(1, 4) => 's',
            other => other,
        };
        let mut args = Vec::new();
        for word in template.split(' ') {
            self.word(word, family, rng, &mut args);
        }
        // Too few, too many, or another order. What is drawn at random would not be the same, and who waits could wait long.
        if args[0] != b"SPOP"
            && !(template.contains("%w") || template.contains("%b"))
            && !args[0].windows(4).any(|word| word == b"RAND")
            && rng.random_ratio(1, 30)
            && args.len() > 1
        {
            let at = rng.random_range(1..args.len());
            match rng.random_range(0..3) {
                0 => drop(args.remove(at)),
                1 => args.insert(at, self.member(rng)),
                _ => args.swap(1, at),
            }
        }
        Command {
            args,
            order,
            each: Vec::new(),
        }
    }

    /// A key of the round's families.
    pub fn any_key(&self, rng: &mut StdRng) -> Vec<u8> {
        Self::key(self.templates.choose(rng).expect("there are some").0, rng)
    }

    /// One that looks at the whole key space.
    pub fn on_all_keys(rng: &mut StdRng) -> Command {
        let pattern = *["*", "[e-l]*", "?1", "z?", "none*"]
            .choose(rng)
            .expect("there are some");
        Command {
            order: Order::Any,
            ..Command::exact(&["KEYS", pattern])
        }
    }

    /// A script that calls one command or several.
    pub fn script(&self, rng: &mut StdRng) -> Command {
        let count = *[1, 1, 2, 3].choose(rng).expect("there are some");
        let mut inner: Vec<Command> = (0..count).map(|_| self.command(rng)).collect();
        // What is stored would have to be removed within the script.
        inner.retain(|command| command.order != Order::Number);
        let typed = rng.random_ratio(1, 4);
        let body = match (inner.as_slice(), typed) {
            ([_], false) => CALL.to_owned(),
            ([_], true) => format!("redis.setresp(3) {CALL}"),
            (_, false) => CALL_EACH.to_owned(),
            (_, true) => format!("redis.setresp(3) {CALL_EACH}"),
        };
        // Redis takes PFCOUNT for one that writes: it may cache what it has counted.
        let counts = inner.iter().any(|command| command.args[0] == b"PFCOUNT");
        let name = if !counts && rng.random_ratio(1, 8) {
            "EVAL_RO"
        } else {
            "EVAL"
        };
        let mut script = Command::exact(&[name, &body, "0"]);
        if let (Some(key), true) = (
            inner.first().and_then(|command| command.args.get(1)),
            rng.random(),
        ) {
            script.args[2] = b"1".to_vec();
            script.args.push(key.clone());
        }
        for command in &mut inner {
            // A map of Lua has no order.
            if typed && command.order == Order::Exact {
                command.order = Order::Any;
            }
            if count > 1 {
                script.args.push(command.args.len().to_string().into_bytes());
            }
            script.args.extend(command.args.iter().cloned());
        }
        match inner.as_slice() {
            [one] if count == 1 => script.order = one.order,
            _ => script.each = inner,
        }
        script
    }

    /// Commands that show all keys of the round's families.
    pub fn look_at_everything(&self) -> Vec<Command> {
        let mut all = Vec::new();
        let families: BTreeSet<char> = self.templates.iter().map(|template| template.0).collect();
        for family in families.into_iter().filter(|family| *family != 'p') {
            for n in 0..KEYS {
                for (name, rest, order) in [
                    ("TYPE", &[][..], Order::Exact),
                    ("PEXPIRETIME", &[], Order::Millis),
                    ("GET", &[], Order::Exact),
                    ("HGETALL", &[], Order::Any),
                    ("LRANGE", &["0", "-1"], Order::Exact),
                    ("SMEMBERS", &[], Order::Any),
                    ("ZRANGE", &["0", "-1", "WITHSCORES"], Order::Exact),
                    ("XRANGE", &["-", "+"], Order::Exact),
                    ("XINFO", &["GROUPS"], Order::Exact),
                    ("XINFO", &["CONSUMERS", "g"], Order::Timed),
                    ("XPENDING", &["g"], Order::Exact),
                    ("ZREVRANGEBYSCORE", &["+inf", "-inf"], Order::Exact),
                ] {
                    let key = format!("{family}{n}").into_bytes();
                    let mut args = Command::exact(&[name]).args;
                    args.extend(Command::exact(rest).args);
                    let at = if name == "XINFO" { 2 } else { 1 };
                    args.insert(at, key);
                    all.push(Command {
                        args,
                        order,
                        each: Vec::new(),
                    });
                }
            }
        }
        all
    }
}
