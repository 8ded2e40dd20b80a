//! Libraries of functions, at a node: what the first shard holds, as it is now, and how it is changed.
//!
//! Each call asks the first shard whether the libraries are still those that the node knows: one read, at the same time as that
//! of the call's keys. So a call that begins after a library has changed runs the new code; one that has begun may still run the old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::execute::{busy, refused, unexpected};
use super::message::{Ask, Told};
use super::node::Node;
use super::router::RouteError;
use crate::base::limits::FUNCTION_LOAD_MS_MAX;
use crate::base::{Error, GroupId, Reply, Result};
use crate::host::blocking;
use crate::machine::{Body, FunctionChange, Libraries, Library, Read, Request, Response, Seen};
use crate::script;

/// Which shard holds the libraries.
const HOME: GroupId = GroupId::Shard(0);

impl Node {
    /// The libraries as they are now.
    ///
    /// # Errors
    /// No leader in time.
    pub async fn libraries(&self) -> Result<Arc<Libraries>> {
        self.libraries_by(Instant::now() + self.request_timeout()).await
    }

    pub(super) async fn libraries_by(&self, deadline: Instant) -> Result<Arc<Libraries>> {
        let known = self.scripts().libraries();
        let ask = Ask::Read(Read::Functions(known.version()));
        match self.router().ask(HOME, &ask, deadline).await {
            Ok(Told::Seen(Seen::Functions(None))) => Ok(known),
            Ok(Told::Seen(Seen::Functions(Some(news)))) => {
                let news = Arc::new(news);
                self.scripts().learn_libraries(&news);
                Ok(news)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(RouteError::Busy) => Err(busy()),
            // A read has no effect, so however it failed, nothing happened.
            Err(RouteError::NotDone(why) | RouteError::Unknown(why)) => Err(Error::Unavailable(why)),
        }
    }

    /// Learns what a library registers, by running its code in the sandbox. It is not known to anybody then.
    ///
    /// # Errors
    /// Only those of the node; what is wrong with the code is the inner one.
    pub async fn try_library(&self, code: Bytes) -> Result<std::result::Result<Library, Reply>> {
        let _slot = self.scripts().slot().await;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let run = blocking(move || Ok(script::load(&code, &stopped)));
        tokio::pin!(run);
        let limit = Duration::from_millis(FUNCTION_LOAD_MS_MAX);
        let loaded = if let Ok(loaded) = tokio::time::timeout(limit, &mut run).await {
            loaded
        } else {
            stop.store(true, Ordering::Relaxed);
            run.await
        };
        loaded.map_err(|e| Error::Stopped(format!("a library's thread: {e}")))
    }

    /// Changes the libraries, through the log.
    ///
    /// # Errors
    /// [`Error`]; all but `Unknown` prove that nothing happened.
    pub async fn change_libraries(&self, change: FunctionChange) -> Result<Reply> {
        let deadline = Instant::now() + self.request_timeout();
        let number = self.number(None, HOME);
        let ask = Ask::Propose(Request {
            id: Some(number.id()),
            below: number.below(),
            deadline: self.now() + self.request_timeout().as_millis() as u64,
            body: Body::Functions(Box::new(change)),
        });
        match self.router().ask(HOME, &ask, deadline).await {
            Ok(Told::Response(Response::Replies(replies))) => {
                let reply = replies.into_iter().next();
                reply.ok_or_else(|| Error::Stopped("a change of functions was not answered".into()))
            }
            Ok(Told::Response(Response::Refused(refusal))) => Err(refused(refusal, number.id())),
            Ok(other) => Err(unexpected(&other)),
            Err(RouteError::NotDone(why)) => Err(Error::Unavailable(why)),
            Err(RouteError::Busy) => Err(busy()),
            Err(RouteError::Unknown(why)) => {
                let id = number.id();
                self.settle(HOME, number, Body::Withdraw);
                Err(Error::Unknown { id, why })
            }
        }
    }
}
