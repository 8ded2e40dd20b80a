//! Random commands from templates, over few keys and few members, so that they meet.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

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
}

pub struct Command {
    pub args: Vec<Vec<u8>>,
    pub order: Order,
}

/// Words: `K` a key of the family, `T` another of it, `M` a member, `V` a value, `S` a score, `N` a count, `I` an index, `F` a float,
/// `R` a limit of scores, `L` a limit of names, `#K` so many keys. `x|y`: one of them. `w?`: perhaps. `w*`: one to three times.
/// `A+B`: A and B. The rest stand for themselves.
const TEMPLATES: &[Template] = &[
    ('h', Order::Exact, "HSET K M+V*"),
    ('h', Order::Exact, "HMSET K M+V*"),
    ('h', Order::Exact, "HSETNX K M V"),
    ('h', Order::Exact, "HGET K M"),
    ('h', Order::Exact, "HMGET K M*"),
    ('h', Order::Exact, "HDEL K M*"),
    ('h', Order::Exact, "HLEN K"),
    ('h', Order::Exact, "HSTRLEN K M"),
    ('h', Order::Exact, "HEXISTS K M"),
    ('h', Order::Any, "HGETALL K"),
    ('h', Order::Any, "HKEYS K"),
    ('h', Order::Any, "HVALS K"),
    ('h', Order::Exact, "HINCRBY K M N"),
    ('h', Order::Number, "HINCRBYFLOAT K M F"),
    ('h', Order::Size, "HRANDFIELD K N?"),
    ('h', Order::Size, "HRANDFIELD K N WITHVALUES"),
    ('h', Order::Any, "HRANDFIELD K 1000 WITHVALUES?"),
    ('h', Order::Any, "HSCAN K 0 COUNT 1000"),
    ('h', Order::Any, "HSCAN K 0 MATCH P COUNT 1000"),
    ('l', Order::Exact, "LPUSH K M*"),
    ('l', Order::Exact, "RPUSH K M*"),
    ('l', Order::Exact, "LPUSHX K M*"),
    ('l', Order::Exact, "RPUSHX K M*"),
    ('l', Order::Exact, "LPOP K N?"),
    ('l', Order::Exact, "RPOP K N?"),
    ('l', Order::Exact, "LLEN K"),
    ('l', Order::Exact, "LINDEX K I"),
    ('l', Order::Exact, "LRANGE K I I"),
    ('l', Order::Exact, "LTRIM K I I"),
    ('l', Order::Exact, "LSET K I M"),
    ('l', Order::Exact, "LINSERT K BEFORE|AFTER M M"),
    ('l', Order::Exact, "LREM K N M"),
    ('l', Order::Exact, "LPOS K M RANK+N? COUNT+N? MAXLEN+N?"),
    ('l', Order::Exact, "LMOVE K T LEFT|RIGHT LEFT|RIGHT"),
    ('l', Order::Exact, "RPOPLPUSH K T"),
    ('l', Order::Exact, "LMPOP #K LEFT|RIGHT COUNT+N?"),
    ('s', Order::Exact, "SADD K M*"),
    ('s', Order::Exact, "SREM K M*"),
    ('s', Order::Exact, "SMOVE K T M"),
    ('s', Order::Exact, "SISMEMBER K M"),
    ('s', Order::Exact, "SMISMEMBER K M*"),
    ('s', Order::Exact, "SCARD K"),
    ('s', Order::Any, "SMEMBERS K"),
    ('s', Order::Any, "SPOP K 1000"),
    ('s', Order::Size, "SRANDMEMBER K N?"),
    ('s', Order::Any, "SINTER K T*"),
    ('s', Order::Any, "SUNION K T*"),
    ('s', Order::Any, "SDIFF K T*"),
    ('s', Order::Exact, "SINTERSTORE K T*"),
    ('s', Order::Exact, "SUNIONSTORE K T*"),
    ('s', Order::Exact, "SDIFFSTORE K T*"),
    ('s', Order::Exact, "SINTERCARD #K LIMIT+N?"),
    ('s', Order::Any, "SSCAN K 0 COUNT 1000"),
    ('z', Order::Exact, "ZADD K NX|XX? GT|LT? CH? S+M*"),
    ('z', Order::Exact, "ZADD K NX|XX? GT|LT? CH? INCR S M"),
    ('z', Order::Exact, "ZADD K S+M*"),
    ('z', Order::Exact, "ZINCRBY K S M"),
    ('z', Order::Exact, "ZREM K M*"),
    ('z', Order::Exact, "ZCARD K"),
    ('z', Order::Exact, "ZSCORE K M"),
    ('z', Order::Exact, "ZMSCORE K M*"),
    ('z', Order::Exact, "ZRANK K M"),
    ('z', Order::Exact, "ZREVRANK K M"),
    ('z', Order::Exact, "ZPOPMIN K N?"),
    ('z', Order::Exact, "ZPOPMAX K N?"),
    ('z', Order::Exact, "ZMPOP #K MIN|MAX COUNT+N?"),
    ('z', Order::Size, "ZRANDMEMBER K N?"),
    ('z', Order::Size, "ZRANDMEMBER K N WITHSCORES"),
    ('z', Order::Any, "ZSCAN K 0 COUNT 1000"),
    ('z', Order::Exact, "ZRANGE K I I REV? WITHSCORES?"),
    (
        'z',
        Order::Exact,
        "ZRANGE K R R BYSCORE REV? LIMIT+I+N? WITHSCORES?",
    ),
    (
        'y',
        Order::Exact,
        "ZRANGE K L L BYLEX REV? LIMIT+I+N? WITHSCORES?",
    ),
    ('z', Order::Exact, "ZRANGESTORE K T I I REV?"),
    ('z', Order::Exact, "ZRANGESTORE K T R R BYSCORE LIMIT+I+N?"),
    ('z', Order::Exact, "ZREVRANGE K I I WITHSCORES?"),
    ('z', Order::Exact, "ZRANGEBYSCORE K R R WITHSCORES? LIMIT+I+N?"),
    ('z', Order::Exact, "ZREVRANGEBYSCORE K R R WITHSCORES? LIMIT+I+N?"),
    ('y', Order::Exact, "ZRANGEBYLEX K L L LIMIT+I+N?"),
    ('y', Order::Exact, "ZREVRANGEBYLEX K L L LIMIT+I+N?"),
    ('z', Order::Exact, "ZCOUNT K R R"),
    ('y', Order::Exact, "ZLEXCOUNT K L L"),
    ('z', Order::Exact, "ZREMRANGEBYRANK K I I"),
    ('z', Order::Exact, "ZREMRANGEBYSCORE K R R"),
    ('y', Order::Exact, "ZREMRANGEBYLEX K L L"),
    (
        'z',
        Order::Exact,
        "ZUNION #K WEIGHTS+F+F? AGGREGATE+SUM|MIN|MAX? WITHSCORES?",
    ),
    (
        'z',
        Order::Exact,
        "ZINTER #K WEIGHTS+F+F? AGGREGATE+SUM|MIN|MAX? WITHSCORES?",
    ),
    ('z', Order::Exact, "ZDIFF #K WITHSCORES?"),
    (
        'z',
        Order::Exact,
        "ZUNIONSTORE K #K WEIGHTS+F+F? AGGREGATE+SUM|MIN|MAX?",
    ),
    (
        'z',
        Order::Exact,
        "ZINTERSTORE K #K WEIGHTS+F+F? AGGREGATE+SUM|MIN|MAX?",
    ),
    ('z', Order::Exact, "ZDIFFSTORE K #K"),
    ('z', Order::Exact, "ZINTERCARD #K LIMIT+N?"),
    ('k', Order::Exact, "SET K V NX|XX? GET?"),
    ('k', Order::Exact, "GET K"),
    ('k', Order::Exact, "GETDEL K"),
    ('k', Order::Exact, "GETSET K V"),
    ('k', Order::Exact, "APPEND K V"),
    ('k', Order::Exact, "INCRBY K N"),
    ('k', Order::Exact, "SETRANGE K 3 M"),
    ('k', Order::Exact, "GETRANGE K I I"),
    ('k', Order::Exact, "STRLEN K"),
    ('k', Order::Exact, "MGET K T*"),
    ('k', Order::Exact, "DEL K"),
    ('k', Order::Exact, "TYPE K"),
    ('k', Order::Exact, "RENAME K T"),
    ('k', Order::Exact, "COPY K T REPLACE?"),
    ('k', Order::Exact, "EXISTS K T"),
];

const FAMILIES: [char; 6] = ['h', 'l', 's', 'z', 'y', 'k'];
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

/// What a round's commands are drawn with.
pub struct Generator {
    /// Some rounds have few members, and some so many that collections grow large.
    members: usize,
    lengths: usize,
    /// Most rounds are about one type, or its keys would hardly meet.
    templates: Vec<&'static Template>,
}

type Template = (char, Order, &'static str);

impl Generator {
    pub fn new(rng: &mut StdRng) -> Generator {
        let family = *FAMILIES[..4].choose(rng).expect("there are some");
        let all = rng.random_ratio(1, 4);
        let about =
            |template: &&Template| all || template.0 == family || template.0 == 'k' && rng.random_ratio(1, 3);
        let templates = TEMPLATES.iter().filter(about).collect();
        Generator {
            templates,
            members: *[5, 12, 60].choose(rng).expect("there are some"),
            lengths: *[1, 1, 40, 200].choose(rng).expect("there are some"),
        }
    }

    fn key(family: char, rng: &mut StdRng) -> Vec<u8> {
        let family = if family != 'y' && rng.random_ratio(1, 12) {
            *FAMILIES[..4].choose(rng).expect("some")
        } else {
            family
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
        let mut any = |words: &[&str]| words.choose(rng).expect("there are some").as_bytes().to_vec();
        let arg = match word {
            "S" => any(SCORES),
            "N" => any(COUNTS),
            "I" => any(INDEXES),
            "F" => any(FLOATS),
            "R" => any(LIMITS),
            "L" => any(NAMES),
            "P" => any(&["*", "m*", "a", "[0-9]*", "?"]),
            "V" => any(&[
                "v",
                "12",
                "3.5",
                "",
                "-7",
                "a longer value that takes some room",
                "1e3",
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
            'k' => self.templates.choose(rng).expect("some").0,
            'z' if template.starts_with("ZUNION") && rng.random_ratio(1, 4) => 's',
            other => other,
        };
        let mut args = Vec::new();
        for word in template.split(' ') {
            self.word(word, family, rng, &mut args);
        }
        // Too few, too many, or another order. What is drawn at random would not be the same.
        if args[0] != b"SPOP"
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
        Command { args, order }
    }

    /// Commands that show all keys of the round's families.
    pub fn look_at_everything(&self) -> Vec<Command> {
        let mut all = Vec::new();
        let families: BTreeSet<char> = self.templates.iter().map(|template| template.0).collect();
        for family in families {
            for n in 0..KEYS {
                for (name, rest, order) in [
                    ("TYPE", &[][..], Order::Exact),
                    ("GET", &[], Order::Exact),
                    ("HGETALL", &[], Order::Any),
                    ("LRANGE", &["0", "-1"], Order::Exact),
                    ("SMEMBERS", &[], Order::Any),
                    ("ZRANGE", &["0", "-1", "WITHSCORES"], Order::Exact),
                    ("ZREVRANGEBYSCORE", &["+inf", "-inf"], Order::Exact),
                ] {
                    let mut args = vec![name.as_bytes().to_vec(), format!("{family}{n}").into_bytes()];
                    args.extend(rest.iter().map(|arg| arg.as_bytes().to_vec()));
                    all.push(Command { args, order });
                }
            }
        }
        all
    }
}
