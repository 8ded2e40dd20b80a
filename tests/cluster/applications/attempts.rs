//! A client of the `redis` crate that goes on to the next node when its connection breaks, and knows what an error means.

use std::time::Duration;

use redis::{Connection, RedisError, RedisResult};

use super::Run;

/// More than any request takes that does not hang: a gateway gives up after 10 s.
const REPLY_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<T> {
    Done(T),
    /// Certainly not executed.
    Refused,
    /// Executed, or not, or yet to be executed.
    Unknown,
}

/// The crate sends nothing again by itself: what is counted here is counted once.
pub struct Client<'a> {
    run: &'a Run,
    turn: usize,
    connection: Option<Connection>,
}

impl<'a> Client<'a> {
    pub fn new(run: &'a Run, first: usize) -> Client<'a> {
        Client {
            run,
            turn: first,
            connection: None,
        }
    }

    pub fn next_node(&mut self) {
        self.connection = None;
        self.turn += 1;
    }

    fn connect(&self) -> RedisResult<Connection> {
        let address = self.run.addresses[self.turn % self.run.addresses.len()];
        let client = redis::Client::open(format!("redis://{address}/"))?;
        let connection = client.get_connection_with_timeout(CONNECT_LIMIT)?;
        connection.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(connection)
    }

    /// An error that Quorate should not give fails the test.
    pub fn attempt<T>(&mut self, request: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Fate<T> {
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.connect(),
        };
        let Ok(mut connection) = connection else {
            // Nothing was sent.
            self.run.note("not connected");
            self.next_node();
            return Fate::Refused;
        };
        match request(&mut connection) {
            Ok(reply) => {
                self.connection = Some(connection);
                self.run.note("done");
                Fate::Done(reply)
            }
            Err(error) if error.is_io_error() || error.is_connection_dropped() => {
                self.run.note("broken");
                self.next_node();
                Fate::Unknown
            }
            Err(error) => {
                self.connection = Some(connection);
                let (outcome, fate) = meaning(&error);
                self.run.note(outcome);
                fate
            }
        }
    }

    /// For requests that may be executed any number of times: reads, above all. `None`: another worker has failed.
    pub fn until_done<T>(&mut self, mut request: impl FnMut(&mut Connection) -> RedisResult<T>) -> Option<T> {
        while self.run.may_finish() {
            if let Fate::Done(reply) = self.attempt(&mut request) {
                return Some(reply);
            }
        }
        None
    }

    /// As [`Client::until_done`], of the node that this client was made for and no other: all are up.
    pub fn look<T>(&mut self, request: impl FnMut(&mut Connection) -> RedisResult<T>) -> T {
        let turn = self.turn;
        let reply = self.until_done(request).expect("no worker has failed");
        assert_eq!(turn, self.turn, "a connection broke although all nodes are up");
        reply
    }
}

fn meaning<T>(error: &RedisError) -> (&'static str, Fate<T>) {
    match error.code() {
        Some("TRYAGAIN") => ("TRYAGAIN", Fate::Refused),
        Some("CLUSTERDOWN") => ("CLUSTERDOWN", Fate::Refused),
        Some("ABORTED") => ("ABORTED", Fate::Refused),
        Some("UNKNOWN") => ("UNKNOWN", Fate::Unknown),
        // The crate's transactions show no error that EXEC replies, so who uses them has to take every one for an unknown outcome.
        _ if error.to_string().contains("parsing multi response") => ("EXEC error", Fate::Unknown),
        _ => panic!("an application gets {error:?}"),
    }
}
