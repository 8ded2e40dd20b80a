//! The commands that are about the connection or the server.

/// A command that the gateway answers itself.
#[derive(Debug)]
pub struct Own {
    pub name: &'static str,
    pub arity: i64,
    pub summary: &'static str,
    /// Works inside MULTI at once, instead of being queued.
    pub immediate: bool,
}

macro_rules! own {
    ($($name:literal $arity:literal $immediate:literal $summary:literal;)*) => {
        pub const OWN: &[Own] = &[$(Own {
            name: $name, arity: $arity, summary: $summary, immediate: $immediate,
        },)*];
    };
}

own! {
    "ping" -1 false "Returns the server's liveliness response.";
    "echo" 2 false "Returns the given string.";
    "hello" -1 false "Handshakes with the server.";
    "auth" -2 false "Authenticates the connection.";
    "select" 2 false "Changes the selected database.";
    "client" -2 false "A container for client connection commands.";
    "command" -1 false "Returns detailed information about all commands.";
    "info" -1 false "Returns information and statistics about the server.";
    "script" -2 false "LOAD, EXISTS, FLUSH scripts by their SHA-1; KILL ends those that run on this node.";
    "time" 1 false "Returns the server's time.";
    "publish" 3 false "Sends a message to a channel, at whichever node it is listened to; replies how many hear it.";
    "spublish" 3 false "Sends a message to a shard channel.";
    "pubsub" -2 false "CHANNELS, NUMSUB, NUMPAT, SHARDCHANNELS, SHARDNUMSUB: what is listened to in the cluster.";
    "subscribe" -2 true "Listens to channels.";
    "psubscribe" -2 true "Listens to channels whose names match patterns.";
    "ssubscribe" -2 true "Listens to shard channels.";
    "unsubscribe" -1 true "Stops listening to channels.";
    "punsubscribe" -1 true "Stops listening to patterns.";
    "sunsubscribe" -1 true "Stops listening to shard channels.";
    "quit" -1 true "Closes the connection.";
    "reset" 1 true "Resets the connection.";
    "multi" -1 true "Starts a transaction. Quorate: MULTI STRICT, one that any error rolls back.";
    "exec" 1 true "Executes all commands in a transaction.";
    "discard" 1 true "Discards a transaction.";
    "watch" -2 true "Monitors changes to keys to determine the execution of a transaction.";
    "unwatch" 1 false "Forgets about watched keys of a transaction.";
    "txn" -2 false "Quorate: LIST shows transactions under way; INFO id all that is known of one; STATUS id what became of one whose outcome was UNKNOWN; WAIT id ms waits until that is known; RESOLVE id has it decided now.";
    "quorate" -2 false "Quorate: STATUS; DIGEST; ONCE session seq below numbers the next write, so that it is executed once.";
}

/// The gateway's own command of this name.
#[must_use]
pub fn own(name: &[u8]) -> Option<&'static Own> {
    OWN.iter()
        .find(|own| own.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether `args` (without the name) are as many as `arity` wants.
#[must_use]
pub fn fits(arity: i64, args: usize) -> bool {
    let given = i64::try_from(args + 1).unwrap_or(i64::MAX);
    if arity < 0 {
        given >= -arity
    } else {
        given == arity
    }
}
