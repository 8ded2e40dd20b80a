//! A transaction of the client: reads are watched, writes buffered, and one numbered EXEC commits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::time::Instant;

use super::connection::{self, Connection, Failure};
use super::{Client, Frame, PAUSE, once};
use crate::base::{Error, Result};

/// Reads and buffered writes of one run. See [`Client::transaction`].
pub struct Transaction {
    client: Client,
    connection: Connection,
    watched: BTreeSet<Bytes>,
    /// What the transaction has written, for its own reads: `None` is a removed key.
    written: BTreeMap<Bytes, Option<Bytes>>,
    queue: Vec<Vec<Bytes>>,
    strict: bool,
}

/// How a run ended; made by [`Transaction::commit`].
pub struct Committed<T> {
    transaction: Transaction,
    value: T,
}

impl Transaction {
    pub(super) fn new(client: Client, connection: Connection) -> Transaction {
        Transaction {
            client,
            connection,
            watched: BTreeSet::new(),
            written: BTreeMap::new(),
            queue: Vec::new(),
            strict: false,
        }
    }

    async fn ask(&mut self, requests: &[Vec<Bytes>]) -> Result<Frame> {
        match self.connection.ask(requests).await {
            Ok(reply) => connection::check(reply),
            Err(failure) => {
                self.client.fail_over();
                // Only reads are asked for here, so nothing has happened.
                Err(Error::Unavailable(failure.to_string()))
            }
        }
    }

    /// The value of a key: what this transaction has written, else what is committed now. If it changes before the
    /// commit, the transaction runs again.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let key = Bytes::copy_from_slice(key.as_ref());
        if let Some(written) = self.written.get(&key) {
            return Ok(written.clone());
        }
        let get = vec![Bytes::from_static(b"GET"), key.clone()];
        let watch = vec![Bytes::from_static(b"WATCH"), key.clone()];
        let requests = if self.watched.insert(key) {
            vec![watch, get]
        } else {
            vec![get]
        };
        connection::bulk(self.ask(&requests).await?)
    }

    /// As [`Transaction::get`], as an integer.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the key holds something else.
    pub async fn get_int(&mut self, key: impl AsRef<[u8]>) -> Result<Option<i64>> {
        let Some(value) = self.get(key).await? else {
            return Ok(None);
        };
        let number = std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.parse().ok());
        number
            .map(Some)
            .ok_or_else(|| Error::Invalid("value is not an integer or out of range".into()))
    }

    /// Sets a key at the commit.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let key = Bytes::copy_from_slice(key.as_ref());
        let value = Bytes::copy_from_slice(value.as_ref());
        self.queue
            .push(vec![Bytes::from_static(b"SET"), key.clone(), value.clone()]);
        self.written.insert(key, Some(value));
    }

    /// Removes a key at the commit.
    pub fn del(&mut self, key: impl AsRef<[u8]>) {
        let key = Bytes::copy_from_slice(key.as_ref());
        self.queue.push(vec![Bytes::from_static(b"DEL"), key.clone()]);
        self.written.insert(key, None);
    }

    /// Queues any command for the commit: `["INCR", "key"]`. Its reply is not told, and this transaction's own reads do
    /// not see what it writes.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) {
        let args = args.into_iter().map(|arg| Bytes::copy_from_slice(arg.as_ref()));
        self.queue.push(args.collect());
    }

    /// From now on an error of any queued command rolls all of them back: [`Client::transaction`] returns
    /// [`Error::Aborted`] with which command failed and why. Otherwise such an error undoes nothing, as in Redis.
    pub fn strict(&mut self) {
        self.strict = true;
    }

    /// Ends the run: commit what is buffered, and have [`Client::transaction`] return `value`.
    ///
    /// # Errors
    /// None; the type is what `body` returns.
    pub fn commit<T>(self, value: T) -> Result<Committed<T>> {
        Ok(Committed {
            transaction: self,
            value,
        })
    }

    /// Ends the transaction without effect: [`Client::transaction`] returns [`Error::Aborted`] with `why`.
    ///
    /// # Errors
    /// Always.
    pub fn abort<T>(self, why: impl Into<String>) -> Result<Committed<T>> {
        // The connection still watches keys, so it is not given back.
        Err(Error::Aborted(why.into()))
    }
}

/// How a commit went.
pub(super) enum Settled<T> {
    Done(T),
    /// Something that was read has changed.
    Changed,
    /// A command was refused, or failed in a strict transaction: nothing happened, and would not the next time.
    Failed(Error),
}

impl<T> Committed<T> {
    /// Commits.
    pub(super) async fn settle(self) -> Result<Settled<T>> {
        let Committed { transaction, value } = self;
        let Transaction {
            client,
            mut connection,
            queue,
            strict,
            ..
        } = transaction;
        let number = client.number();
        let word = |word: &'static [u8]| vec![Bytes::from_static(word)];
        let mut multi = word(b"MULTI");
        multi.extend(strict.then_some(Bytes::from_static(b"STRICT")));
        let mut requests = vec![multi];
        requests.extend(queue);
        requests.push(once(number.id, number.below));
        // Not queued by MULTI, since it is said before: the number is EXEC's.
        requests.rotate_right(1);
        requests.push(word(b"EXEC"));
        let deadline = Instant::now() + client.inner.options.timeout;
        let answer = tokio::time::timeout_at(deadline, connection.ask(&requests)).await;
        match answer {
            Ok(Ok(reply)) => {
                client.give_back(connection);
                if let Frame::SimpleError { data, .. } = &reply
                    && let Some(why) = data.strip_prefix("EXECABORT ")
                {
                    return Ok(Settled::Failed(Error::Aborted(why.to_string())));
                }
                match connection::check(reply)? {
                    Frame::Null => Ok(Settled::Changed),
                    _ => Ok(Settled::Done(value)),
                }
            }
            Ok(Err(Failure::Sent(_))) | Err(_) => {
                client.fail_over();
                client.settle_unknown(number.id, deadline).await.map(|committed| {
                    if committed {
                        Settled::Done(value)
                    } else {
                        Settled::Changed
                    }
                })
            }
        }
    }
}

impl Client {
    /// Asks what became of a commit whose answer was lost. A connection that broke may not have carried the EXEC at
    /// all, so "unknown-yet" is asked again, and stays unknown in the end.
    async fn settle_unknown(&self, id: crate::base::RequestId, deadline: Instant) -> Result<bool> {
        loop {
            match self.transaction_status(id).await.as_deref() {
                Ok("committed") => return Ok(true),
                Ok("aborted") => return Ok(false),
                _ if Instant::now() + PAUSE >= deadline => {
                    return Err(Error::Unknown {
                        id,
                        why: "the connection broke during the commit".into(),
                    });
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
