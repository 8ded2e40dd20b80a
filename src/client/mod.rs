//! The client library: any node, failover, typed commands, transactions with retries, each write executed once.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = quorate::testing::Cluster::start(3, 4)?;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use quorate::client::Client;
//!
//! let client = Client::connect(&cluster.addrs()).await?;
//! client.set("stock:apples", "10").await?;
//! assert_eq!(client.incr_by("stock:apples", -3).await?, 7);
//! assert_eq!(client.get("stock:apples").await?.as_deref(), Some(&b"7"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })
//! # }
//! ```
//!
//! A transaction reads what it needs, buffers its writes, and commits if nothing that it read has changed; on a
//! conflict it runs again, up to [`Options::conflict_tries`] times:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = quorate::testing::Cluster::start(3, 4)?;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # use quorate::client::Client;
//! let client = Client::connect(&cluster.addrs()).await?;
//! client.set("alice", "100").await?;
//! client.set("bob", "0").await?;
//! let left = client
//!     .transaction(|mut tx| async move {
//!         let alice = tx.get_int("alice").await?.unwrap_or(0);
//!         let bob = tx.get_int("bob").await?.unwrap_or(0);
//!         if alice < 30 {
//!             return tx.abort("not enough money");
//!         }
//!         tx.set("alice", (alice - 30).to_string());
//!         tx.set("bob", (bob + 30).to_string());
//!         tx.commit(alice - 30)
//!     })
//!     .await?;
//! assert_eq!(left, 70);
//! assert_eq!(client.mget(&["alice", "bob"]).await?, [Some("70".into()), Some("30".into())]);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })
//! # }
//! ```
//!
//! Not here: pooling beyond what concurrent calls need, routing to leaders (any node forwards).

mod connection;
mod transaction;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use crate::base::Error;
use crate::base::{RequestId, Result, SessionId};
use crate::host::{Network, Tcp, chance};
use connection::{Connection, Failure};
use transaction::Settled;
pub use transaction::{Committed, Transaction};

/// A reply as the server sent it, for commands without a method of their own.
pub use redis_protocol::resp3::types::BytesFrame as Frame;

/// Bounds and patience of a client.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long one command or commit may take, over all tries.
    pub timeout: Duration,
    /// How often a transaction runs before a conflict is an error.
    pub conflict_tries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(15),
            conflict_tries: 64,
        }
    }
}

/// Connections kept for later calls.
const IDLE_MAX: usize = 64;
const PAUSE: Duration = Duration::from_millis(50);

/// A client of a cluster; cheap to clone, every clone shares the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    network: Arc<dyn Network>,
    addresses: Vec<String>,
    /// The address that answered last.
    current: AtomicU64,
    idle: Mutex<Vec<Connection>>,
    session: SessionId,
    numbers: Mutex<Numbers>,
    options: Options,
}

/// Numbers of writes: given out, and not finished yet.
#[derive(Default)]
struct Numbers {
    next: u64,
    open: std::collections::BTreeSet<u64>,
}

/// A write's number; finished when it is dropped.
struct Numbered<'a> {
    id: RequestId,
    below: u64,
    numbers: &'a Mutex<Numbers>,
}

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.numbers.lock().open.remove(&self.id.seq);
    }
}

impl Client {
    /// Connects to any of the addresses.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if none of them answers.
    pub async fn connect<A: ToString>(addresses: &[A]) -> Result<Client> {
        Client::connect_with(addresses, Options::default()).await
    }

    /// As [`Client::connect`], with options.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`Error::Invalid`] without any address.
    pub async fn connect_with<A: ToString>(addresses: &[A], options: Options) -> Result<Client> {
        Client::connect_over(Arc::new(Tcp), addresses, options).await
    }

    /// As [`Client::connect_with`], over a network that need not be TCP.
    ///
    /// # Errors
    /// As [`Client::connect_with`].
    pub async fn connect_over<A: ToString>(
        network: Arc<dyn Network>,
        addresses: &[A],
        options: Options,
    ) -> Result<Client> {
        if addresses.is_empty() {
            return Err(Error::Invalid("a client needs at least one address".into()));
        }
        // It must differ from every other client's.
        let session = SessionId::from(chance()) << 64 | SessionId::from(chance());
        let inner = Inner {
            network,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            current: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
            session,
            numbers: Mutex::new(Numbers::default()),
            options,
        };
        let client = Client {
            inner: Arc::new(inner),
        };
        let connection = client.open(Instant::now() + client.inner.options.timeout).await?;
        client.give_back(connection);
        Ok(client)
    }

    /// A connection to any node, tried in turn until the deadline.
    async fn open(&self, deadline: Instant) -> Result<Connection> {
        if let Some(connection) = self.inner.idle.lock().pop() {
            return Ok(connection);
        }
        let mut last = String::new();
        loop {
            for _ in 0..self.inner.addresses.len() {
                let current = self.inner.current.load(Ordering::Relaxed);
                let at = usize::try_from(current).unwrap_or(0) % self.inner.addresses.len();
                match Connection::open(self.inner.network.as_ref(), &self.inner.addresses[at]).await {
                    Ok(connection) => return Ok(connection),
                    Err(e) => last = format!("{}: {e}", self.inner.addresses[at]),
                }
                self.inner.current.store(current + 1, Ordering::Relaxed);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(Error::Unavailable(format!("no node answers; {last}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.inner.idle.lock();
        if connection.is_clean() && idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// The node went away: others first from now on, and its idle connections are not worth a try.
    fn fail_over(&self) {
        self.inner.current.fetch_add(1, Ordering::Relaxed);
        self.inner.idle.lock().clear();
    }

    fn number(&self) -> Numbered<'_> {
        let mut numbers = self.inner.numbers.lock();
        numbers.next += 1;
        let seq = numbers.next;
        numbers.open.insert(seq);
        let below = numbers.open.first().copied().unwrap_or(seq);
        let id = RequestId {
            session: self.inner.session,
            seq,
        };
        Numbered {
            id,
            below,
            numbers: &self.inner.numbers,
        }
    }

    /// Sends requests on one connection and returns the last one's reply. With `write`, they go under one number, so
    /// that sending them again to another node executes them once.
    async fn send(&self, requests: &[Vec<Bytes>], write: bool) -> Result<Frame> {
        let deadline = Instant::now() + self.inner.options.timeout;
        let mut number = write.then(|| self.number());
        let mut sent = false;
        loop {
            let mut connection = match self.open(deadline).await {
                Ok(connection) => connection,
                Err(error) => return Err(Self::last_word(error, sent, number.as_ref())),
            };
            let all = match &number {
                None => requests.to_vec(),
                Some(number) => {
                    let last = requests.len() - 1;
                    let mut all = requests[..last].to_vec();
                    all.push(once(number.id, number.below));
                    all.push(requests[last].clone());
                    all
                }
            };
            match tokio::time::timeout_at(deadline, connection.ask(&all)).await {
                Ok(Ok(reply)) => {
                    self.give_back(connection);
                    match connection::check(reply) {
                        // Nothing happened. An earlier try whose answer was lost may still be on its way: then the
                        // number stays, so that both count as one.
                        Err(Error::Retry(_) | Error::Unavailable(_)) if Instant::now() + PAUSE < deadline => {
                            if !sent {
                                number = write.then(|| self.number());
                            }
                            tokio::time::sleep(PAUSE).await;
                        }
                        // The gateway gave up on our number; the group it belongs to still knows it.
                        Err(Error::Unknown { .. })
                            if number.is_some() && Instant::now() + PAUSE < deadline =>
                        {
                            sent = true;
                            tokio::time::sleep(PAUSE).await;
                        }
                        outcome => return outcome,
                    }
                }
                Ok(Err(failure)) => {
                    sent |= matches!(failure, Failure::Sent(_));
                    self.fail_over();
                    if Instant::now() + PAUSE >= deadline {
                        let error = Error::Unavailable(failure.to_string());
                        return Err(Self::last_word(error, sent, number.as_ref()));
                    }
                }
                Err(_) => {
                    let error = Error::Unavailable("no answer in time".into());
                    return Err(Self::last_word(error, true, number.as_ref()));
                }
            }
        }
    }

    fn last_word(error: Error, sent: bool, number: Option<&Numbered<'_>>) -> Error {
        match number {
            Some(number) if sent => Error::Unknown {
                id: number.id,
                why: error.to_string(),
            },
            _ => error,
        }
    }

    /// Runs any command that the server knows. `write` must be true if it can change anything.
    ///
    /// # Errors
    /// [`Error`]; what the server answers with an error is [`Error::Invalid`] unless its code says more.
    pub async fn command<A: AsRef<[u8]>>(&self, args: &[A], write: bool) -> Result<Frame> {
        let args = args
            .iter()
            .map(|arg| Bytes::copy_from_slice(arg.as_ref()))
            .collect();
        self.send(&[args], write).await
    }

    /// Runs `body` as a transaction: strictly serializable, over any keys. `body` gets a fresh [`Transaction`] each
    /// time, reads through it, buffers writes in it, and ends with `tx.commit(value)` or `tx.abort(why)`.
    ///
    /// # Errors
    /// [`Error::Aborted`] after [`Options::conflict_tries`] conflicts, from `tx.abort`, or for a command that was refused or
    /// failed ([`Transaction::strict`]); [`Error::Unknown`] with an id to ask for; what `body` returns.
    pub async fn transaction<T, F, R>(&self, mut body: F) -> Result<T>
    where
        F: FnMut(Transaction) -> R,
        R: Future<Output = Result<Committed<T>>>,
    {
        for tries in 0..self.inner.options.conflict_tries.max(1) {
            if tries > 0 {
                // Conflicting clients must not try in step.
                let jitter = chance() % (1 << tries.min(6));
                tokio::time::sleep(Duration::from_millis(jitter)).await;
            }
            let connection = self.open(Instant::now() + self.inner.options.timeout).await?;
            let committed = match body(Transaction::new(self.clone(), connection)).await {
                Ok(committed) => committed,
                // A read on a connection that broke: nothing was written yet.
                Err(Error::Unavailable(_)) => continue,
                Err(error) => return Err(error),
            };
            match committed.settle().await {
                Ok(Settled::Done(value)) => return Ok(value),
                Ok(Settled::Changed) | Err(Error::Aborted(_) | Error::Retry(_) | Error::Unavailable(_)) => {}
                Ok(Settled::Failed(error)) | Err(error) => return Err(error),
            }
        }
        Err(Error::Aborted("its keys kept changing".into()))
    }

    /// What became of a write or transaction whose outcome was [`Error::Unknown`]: `committed`, `aborted` or
    /// `unknown-yet`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while groups cannot be asked.
    pub async fn transaction_status(&self, id: RequestId) -> Result<String> {
        let reply = self.command(&["TXN", "STATUS", &id.to_string()], false).await?;
        connection::text(&reply)
    }

    /// A node's status as JSON, for tools.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn status(&self) -> Result<String> {
        connection::text(&self.command(&["QUORATE", "STATUS"], false).await?)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        connection::bulk(self.command(&[b"GET", key.as_ref()], false).await?)
    }

    /// The values of several keys, at one moment.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mget<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        let args: Vec<&[u8]> = std::iter::once(&b"MGET"[..])
            .chain(keys.iter().map(AsRef::as_ref))
            .collect();
        connection::bulks(self.command(&args, false).await?)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.command(&[b"SET", key.as_ref(), value.as_ref()], true)
            .await
            .map(drop)
    }

    /// Sets a key that expires `after`, in whole milliseconds, at least one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_for(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        after: Duration,
    ) -> Result<()> {
        let after = after.as_millis().max(1).to_string();
        self.command(
            &[b"SET", key.as_ref(), value.as_ref(), b"PX", after.as_bytes()],
            true,
        )
        .await
        .map(drop)
    }

    /// Sets a key if it is absent; says whether it did. With an expiry this is a lock with a lease.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_if_absent(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        after: Option<Duration>,
    ) -> Result<bool> {
        let after = after.map(|after| after.as_millis().max(1).to_string());
        let mut args = vec![&b"SET"[..], key.as_ref(), value.as_ref(), b"NX"];
        if let Some(after) = &after {
            args.extend([&b"PX"[..], after.as_bytes()]);
        }
        Ok(self.command(&args, true).await? != Frame::Null)
    }

    /// Sets several keys as one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mset<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(K, V)]) -> Result<()> {
        let args = pairs
            .iter()
            .flat_map(|(key, value)| [key.as_ref(), value.as_ref()]);
        let args: Vec<&[u8]> = std::iter::once(&b"MSET"[..]).chain(args).collect();
        self.command(&args, true).await.map(drop)
    }

    /// Adds to the integer that a key holds (absent: 0) and returns the sum.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it holds something else, or the sum overflows.
    pub async fn incr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        connection::int(
            &self
                .command(&[b"INCRBY", key.as_ref(), by.to_string().as_bytes()], true)
                .await?,
        )
    }

    /// Removes keys as one; says how many were there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn del<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<i64> {
        let args: Vec<&[u8]> = std::iter::once(&b"DEL"[..])
            .chain(keys.iter().map(AsRef::as_ref))
            .collect();
        connection::int(&self.command(&args, true).await?)
    }

    /// How many of the keys are there (a key named twice counts twice).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn exists<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<i64> {
        let args: Vec<&[u8]> = std::iter::once(&b"EXISTS"[..])
            .chain(keys.iter().map(AsRef::as_ref))
            .collect();
        connection::int(&self.command(&args, false).await?)
    }

    /// Lets a key expire `after`, in whole milliseconds; says whether it is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, after: Duration) -> Result<bool> {
        let after = after.as_millis().to_string();
        let reply = self
            .command(&[b"PEXPIRE", key.as_ref(), after.as_bytes()], true)
            .await?;
        Ok(connection::int(&reply)? == 1)
    }
}

fn once(id: RequestId, below: u64) -> Vec<Bytes> {
    let words = [
        "QUORATE".to_string(),
        "ONCE".into(),
        format!("{:x}", id.session),
        id.seq.to_string(),
    ];
    words
        .into_iter()
        .chain([below.to_string()])
        .map(Bytes::from)
        .collect()
}
