//! `CLIENT TRACKING` and what belongs to it: which keys a connection's commands read, and what its client is told of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::burst::{self, Item};
use super::client::text;
use super::pubsub::push;
use super::session::Session;
use crate::base::Reply;
use crate::cluster::{Asker, Inbox, Stale, TrackingWish, on_behalf};
use crate::machine::commands::{Flag, find, parse_i64};
use crate::machine::{Command, Touches};
use crate::resp::Protocol;

/// What RESP2 clients listen to on the connection that others redirect to.
const CHANNEL: &str = "__redis__:invalidate";

/// Of which keys a client is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// Those that it has read.
    #[default]
    Read,
    /// Of those, the ones that `CLIENT CACHING YES` was said of.
    OptIn,
    /// Of those, the ones that `CLIENT CACHING NO` was not said of.
    OptOut,
    /// All with its prefixes.
    Broadcast,
}

/// How a connection tracks.
#[derive(Debug, Clone, Default)]
pub struct On {
    /// Another connection to tell; 0: this one.
    pub redirect: u64,
    mode: Mode,
    no_loop: bool,
    prefixes: BTreeSet<Bytes>,
    /// `CLIENT CACHING` was said of the next command, or transaction.
    caching: bool,
}

/// What a connection tracks of the commands that are about to run.
#[derive(Debug, Default)]
pub struct ToRemember {
    keys: Vec<Bytes>,
    /// Scripts among them may come upon more.
    reads: bool,
}

impl On {
    /// Whether the next command's keys are tracked.
    fn remembers(&self) -> bool {
        match self.mode {
            Mode::Read => true,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
            Mode::Broadcast => false,
        }
    }
}

impl ToRemember {
    /// Notes what a command reads, if it is one of those that Redis calls reading.
    pub fn add(&mut self, on: Option<&On>, name: &str, command: &Command) {
        if !on.is_some_and(On::remembers) {
            return;
        }
        let script = matches!(command, Command::Eval(_));
        let reads = find(name.as_bytes()).is_some_and(|spec| spec.flag == Flag::ReadOnly);
        if (reads || script)
            && let Touches::Keys(keys) = command.touches()
        {
            self.reads |= script;
            self.keys.extend(keys.into_iter().cloned());
        }
    }
}

fn error(text: &str) -> Reply {
    Reply::err(format!("ERR {text}"))
}

/// What `CLIENT TRACKING ON` says.
#[derive(Default)]
struct Asked {
    redirect: Option<(u64, Arc<Inbox>)>,
    no_loop: bool,
    modes: Vec<Mode>,
    prefixes: Vec<Bytes>,
}

/// What `CLIENT TRACKING ON` may say.
fn options(session: &Session, args: &[Bytes]) -> Result<Asked, Reply> {
    let mut asked = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.to_ascii_lowercase().as_slice(), args.len()) {
            (b"redirect", 1..) => {
                if asked.redirect.is_some() {
                    return Err(error("A client can only redirect to a single other client"));
                }
                let id = args.next().and_then(|id| parse_i64(id));
                let id = id.ok_or_else(Reply::not_an_integer)?;
                let known = u64::try_from(id).ok();
                let known = known.and_then(|id| Some((id, session.shared.clients.inbox(id)?)));
                asked.redirect =
                    Some(known.ok_or_else(|| error("The client ID you want redirect to does not exist"))?);
            }
            (b"bcast", _) => asked.modes.push(Mode::Broadcast),
            (b"optin", _) => asked.modes.push(Mode::OptIn),
            (b"optout", _) => asked.modes.push(Mode::OptOut),
            (b"noloop", _) => asked.no_loop = true,
            (b"prefix", 1..) => asked
                .prefixes
                .extend(args.next().map(|prefix| Bytes::copy_from_slice(prefix))),
            _ => return Err(Reply::syntax()),
        }
    }
    Ok(asked)
}

/// Whether the options go with each other and with how the client tracks already.
fn check(asked: &Asked, before: Option<&On>) -> Result<Mode, Reply> {
    const ANEW: &str =
        "before disabling tracking for this client, and then re-enabling it with a different mode.";
    let Asked { modes, prefixes, .. } = asked;
    let has = |mode| modes.contains(&mode);
    let had = |mode| before.is_some_and(|before| before.mode == mode);
    let (broadcast, opt_in, opt_out) = (has(Mode::Broadcast), has(Mode::OptIn), has(Mode::OptOut));
    if !broadcast && !prefixes.is_empty() {
        return Err(error("PREFIX option requires BCAST mode to be enabled"));
    }
    if before.is_some() && had(Mode::Broadcast) != broadcast {
        return Err(error(&format!("You can't switch BCAST mode on/off {ANEW}")));
    }
    if broadcast && (opt_in || opt_out) {
        return Err(error("OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if opt_in && opt_out {
        return Err(error("You can't specify both OPTIN mode and OPTOUT mode"));
    }
    if opt_in && had(Mode::OptOut) || opt_out && had(Mode::OptIn) {
        return Err(error(&format!("You can't switch OPTIN/OPTOUT mode {ANEW}")));
    }
    check_prefixes(prefixes, before)?;
    Ok(modes.first().copied().unwrap_or_default())
}

/// Of those of one client none may begin with another.
fn check_prefixes(prefixes: &[Bytes], before: Option<&On>) -> Result<(), Reply> {
    let overlap = |a: &Bytes, b: &Bytes| a.starts_with(b) || b.starts_with(a);
    for (at, prefix) in prefixes.iter().enumerate() {
        let existing = before
            .iter()
            .flat_map(|before| &before.prefixes)
            .map(|other| (other, "an existing"));
        let provided = prefixes[at + 1..].iter().map(|other| (other, "another provided"));
        if let Some((other, which)) = existing.chain(provided).find(|(other, _)| overlap(other, prefix)) {
            return Err(error(&format!(
                "Prefix '{}' overlaps with {which} prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            )));
        }
    }
    Ok(())
}

impl Session {
    /// `CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix …] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`.
    pub(super) async fn track(&mut self, args: &[Bytes]) -> Reply {
        let asked = match options(self, &args[1..]) {
            Ok(asked) => asked,
            Err(reply) => return reply,
        };
        match args[0].to_ascii_lowercase().as_slice() {
            b"on" => {}
            b"off" => {
                self.track_no_more();
                return Reply::ok();
            }
            _ => return Reply::syntax(),
        }
        let mode = match check(&asked, self.tracking.as_ref()) {
            Ok(mode) => mode,
            Err(reply) => return reply,
        };
        let mut on = On {
            redirect: asked.redirect.as_ref().map_or(0, |(id, _)| *id),
            mode,
            no_loop: asked.no_loop,
            ..On::default()
        };
        if mode == Mode::Broadcast {
            on.prefixes = self
                .tracking
                .as_ref()
                .map(|before| before.prefixes.clone())
                .unwrap_or_default();
            if asked.prefixes.is_empty() {
                on.prefixes.insert(Bytes::new());
            }
            on.prefixes.extend(asked.prefixes);
        }
        let wish = TrackingWish {
            redirect: asked.redirect,
            prefixes: (mode == Mode::Broadcast).then(|| on.prefixes.clone()),
            not_own: on.no_loop,
        };
        if let Err(why) = self
            .node
            .track(self.state.id, Arc::clone(&self.client.inbox), wish)
            .await
        {
            return Reply::err(why);
        }
        self.tracking = Some(on);
        self.show_tracking();
        Reply::ok()
    }

    pub(super) fn track_no_more(&mut self) {
        if self.tracking.take().is_some() {
            self.node.tracking().off(self.state.id);
            self.show_tracking();
        }
    }

    fn show_tracking(&self) {
        let tracks = self
            .tracking
            .as_ref()
            .map(|on| (on.redirect, on.mode == Mode::Broadcast));
        self.client.note(|seen| seen.tracks = tracks);
    }

    /// `CLIENT CACHING YES|NO`.
    pub(super) fn caching(&mut self, word: &Bytes) -> Reply {
        let Some(on) = &mut self.tracking else {
            return error(
                "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            );
        };
        match word.to_ascii_lowercase().as_slice() {
            b"yes" if on.mode == Mode::OptIn => on.caching = true,
            b"yes" => {
                return error("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
            }
            b"no" if on.mode == Mode::OptOut => on.caching = true,
            b"no" => {
                return error("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
            }
            _ => return Reply::syntax(),
        }
        Reply::ok()
    }

    /// What `CLIENT CACHING` has said was about the command that has just run.
    pub(super) fn forget_caching(&mut self) {
        if let Some(on) = &mut self.tracking {
            on.caching = false;
        }
    }

    /// `CLIENT GETREDIR`.
    pub(super) fn redirect(&self) -> Reply {
        let to = self
            .tracking
            .as_ref()
            .map(|on| i64::try_from(on.redirect).unwrap_or(i64::MAX));
        Reply::Int(to.unwrap_or(-1))
    }

    /// `CLIENT TRACKINGINFO`.
    pub(super) fn tracking_info(&self) -> Reply {
        let on = self.tracking.as_ref();
        let has = |which: fn(&On) -> bool| on.is_some_and(which);
        let flags = [
            ("off", on.is_none()),
            ("on", on.is_some()),
            ("bcast", has(|on| on.mode == Mode::Broadcast)),
            ("optin", has(|on| on.mode == Mode::OptIn)),
            ("caching-yes", has(|on| on.mode == Mode::OptIn && on.caching)),
            ("optout", has(|on| on.mode == Mode::OptOut)),
            ("caching-no", has(|on| on.mode == Mode::OptOut && on.caching)),
            ("noloop", has(|on| on.no_loop)),
            (
                "broken_redirect",
                self.node.tracking().redirect_is_gone(self.state.id),
            ),
        ];
        let set = flags
            .into_iter()
            .filter(|(_, set)| *set)
            .map(|(flag, _)| Reply::bulk(flag));
        let prefixes = on
            .iter()
            .flat_map(|on| on.prefixes.iter().cloned().map(Reply::Bulk));
        Reply::Map(vec![
            (Reply::bulk("flags"), Reply::Set(set.collect())),
            (Reply::bulk("redirect"), self.redirect()),
            (Reply::bulk("prefixes"), Reply::Array(prefixes.collect())),
        ])
    }

    /// Runs what came together, for this client.
    pub(super) async fn run_items(&mut self, items: Vec<Item>, remember: ToRemember) -> Vec<Reply> {
        if self.tracking.is_none() {
            return burst::run(&self.node, items, Some(&mut self.wrote)).await;
        }
        let asker = self.asker(&remember).await;
        // In a box: those who do not track would carry its room, too, through every burst.
        Box::pin(on_behalf(
            asker,
            burst::run(&self.node, items, Some(&mut self.wrote)),
        ))
        .await
    }

    /// Sees to it that writes of what is about to be read are told. `None`: the client does not track.
    pub(super) async fn asker(&self, remember: &ToRemember) -> Option<Asker> {
        let on = self.tracking.as_ref()?;
        if !remember.keys.is_empty() {
            self.node.remember(self.state.id, &remember.keys).await;
        }
        Some(Asker {
            id: self.state.id,
            reads: remember.reads,
            // What it reads together with its writes may come behind them, and nobody would tell of it any more.
            not_own: on.no_loop && remember.keys.is_empty() && !remember.reads,
            tracking: self.node.tracking().clone(),
        })
    }

    /// Tells the client which copies not to rely on. Never between a request and its reply: the reply may be such a copy.
    pub(super) fn tell_stale(&mut self) {
        let gathered = self.client.inbox.take();
        let resp3 = self.state.protocol == Protocol::Resp3;
        if resp3 {
            if let Some(redirect) = gathered.gone {
                let id = Reply::Int(i64::try_from(redirect).unwrap_or(i64::MAX));
                self.send(&push("tracking-redir-broken", [id]));
            }
            self.tell(gathered.own, true);
        }
        if resp3 || self.only_listens() {
            self.tell(gathered.redirected, resp3);
        }
    }

    fn tell(&mut self, stale: Stale, resp3: bool) {
        let all = stale.all.then_some(Reply::Nil);
        let single = |key| Reply::Array(vec![Reply::Bulk(key)]);
        let by_prefix: Vec<Reply> = stale.by_prefix.into_iter().map(Reply::Bulk).collect();
        let by_prefix = (!by_prefix.is_empty()).then_some(Reply::Array(by_prefix));
        for what in stale.keys.into_iter().map(single).chain(by_prefix).chain(all) {
            let told = if resp3 {
                push("invalidate", [what])
            } else {
                push("message", [Reply::bulk(CHANNEL), what])
            };
            self.send(&told);
        }
    }
}
