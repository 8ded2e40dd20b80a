//! What commands have to do with memory: which may take more of it, and which count as a use of a key.

use super::Command;

/// Commands that write and take no more memory for it, as far as Redis is concerned: they are let through when memory is full.
const SHRINK: &[&str] = &[
    "blmpop",
    "blpop",
    "brpop",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "hdel",
    "lmpop",
    "lpop",
    "lrem",
    "ltrim",
    "rpop",
    "smove",
    "spop",
    "srem",
    "xack",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xreadgroup",
    "xtrim",
    "zmpop",
    "zpopmax",
    "zpopmin",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
];

impl Command {
    /// Whether it may take more memory.
    #[must_use]
    pub fn grows(&self) -> bool {
        use Command as C;
        match self {
            C::Set(_)
            | C::MSet { .. }
            | C::MSetNx { .. }
            | C::Append { .. }
            | C::IncrBy { .. }
            | C::IncrByFloat { .. }
            | C::SetRange { .. }
            | C::Copy(_)
            | C::Put { value: Some(_), .. } => true,
            C::Memcached(memcached) => memcached.grows(),
            C::Call(call) => call.is_write() && !SHRINK.contains(&call.parts().0),
            _ => false,
        }
    }

    /// Whether the keys that it names count as asked for.
    #[must_use]
    pub fn is_access(&self) -> bool {
        match self {
            Command::Exists { .. } | Command::Type { .. } | Command::Ttl { .. } => false,
            Command::Call(call) => call.parts().0 != "object",
            _ => true,
        }
    }
}
