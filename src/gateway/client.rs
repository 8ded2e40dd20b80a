//! `CLIENT`, `HELLO`, `AUTH`, `SELECT`: what a session knows of its client. Pure: session in, reply out.

use bytes::Bytes;

use crate::base::{REDIS_VERSION, Reply};
use crate::machine::commands::parse_i64;
use crate::resp::Protocol;

/// What a session remembers between commands, MULTI aside.
#[derive(Debug, Clone, Default)]
pub struct ClientState {
    pub id: u64,
    pub name: Bytes,
    pub library: (Bytes, Bytes),
    pub protocol: Protocol,
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn arity(name: &str) -> Reply {
    Reply::err(format!("ERR wrong number of arguments for '{name}' command"))
}

impl ClientState {
    /// Back to a fresh connection's state (`RESET`).
    pub fn reset(&mut self) {
        self.name = Bytes::new();
        self.protocol = Protocol::Resp2;
    }

    fn set_name(&mut self, name: &Bytes) -> Result<(), Reply> {
        if name.iter().any(|b| !(b'!'..=b'~').contains(b)) {
            return Err(Reply::err(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ));
        }
        self.name = name.clone();
        Ok(())
    }

    /// `CLIENT ID | GETNAME | SETNAME name | SETINFO attribute value`; the
    /// arguments are as many as they should be.
    pub fn client(&mut self, args: &[Bytes]) -> Reply {
        match args[0].to_ascii_lowercase().as_slice() {
            b"id" => Reply::Int(i64::try_from(self.id).unwrap_or(i64::MAX)),
            b"getname" if self.name.is_empty() => Reply::Nil,
            b"getname" => Reply::Bulk(self.name.clone()),
            b"setname" => self
                .set_name(&args[1])
                .map_or_else(|reply| reply, |()| Reply::ok()),
            b"setinfo" => self.set_info(&args[1], &args[2]),
            _ => Reply::syntax(),
        }
    }

    fn set_info(&mut self, attribute: &Bytes, value: &Bytes) -> Reply {
        let slot = match attribute.to_ascii_lowercase().as_slice() {
            b"lib-name" => &mut self.library.0,
            b"lib-ver" => &mut self.library.1,
            _ => return Reply::err(format!("ERR Unrecognized option '{}'", text(attribute))),
        };
        if value.iter().any(|b| !(b'!'..=b'~').contains(b)) {
            let attribute = text(&attribute.to_ascii_lowercase());
            return Reply::err(format!(
                "ERR {attribute} cannot contain spaces, newlines or special characters."
            ));
        }
        *slot = value.clone();
        Reply::ok()
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    pub fn hello(&mut self, args: &[Bytes]) -> Reply {
        let mut protocol = self.protocol;
        if let Some(version) = args.first() {
            protocol = match parse_i64(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return Reply::err("NOPROTO unsupported protocol version"),
                None => return Reply::err("ERR Protocol version is not an integer or out of range"),
            };
        }
        let mut rest = args.iter().skip(1);
        while let Some(option) = rest.next() {
            let word = option.to_ascii_uppercase();
            match (word.as_slice(), rest.len()) {
                (b"AUTH", 2..) => {
                    let (Some(user), Some(_)) = (rest.next(), rest.next()) else {
                        break;
                    };
                    if user.as_ref() != b"default" {
                        return wrong_password();
                    }
                }
                (b"SETNAME", 1..) => {
                    let Some(name) = rest.next() else { break };
                    if let Err(reply) = self.set_name(name) {
                        return reply;
                    }
                }
                _ => return Reply::err(format!("ERR Syntax error in HELLO option '{}'", text(option))),
            }
        }
        self.protocol = protocol;
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        let pair = |key: &'static str, value: Reply| (Reply::bulk(key), value);
        Reply::Map(vec![
            pair("server", Reply::bulk("redis")),
            pair("version", Reply::bulk(REDIS_VERSION)),
            pair("proto", Reply::Int(version)),
            pair("id", Reply::Int(i64::try_from(self.id).unwrap_or(i64::MAX))),
            pair("mode", Reply::bulk("standalone")),
            pair("role", Reply::bulk("master")),
            pair("modules", Reply::Array(Vec::new())),
        ])
    }
}

/// `ON` or `OFF`.
pub fn switch(word: &[u8]) -> Option<bool> {
    let on = word.eq_ignore_ascii_case(b"on");
    (on || word.eq_ignore_ascii_case(b"off")).then_some(on)
}

fn wrong_password() -> Reply {
    Reply::err("WRONGPASS invalid username-password pair or user is disabled.")
}

/// `AUTH [user] password`: there are no passwords, so it answers as a Redis without any.
pub fn auth(args: &[Bytes]) -> Reply {
    match args {
        [_] => Reply::err(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        ),
        [user, _] if user.as_ref() == b"default" => Reply::ok(),
        [_, _] => wrong_password(),
        _ => Reply::syntax(),
    }
}

/// `SELECT index`: there is one database.
pub fn select(index: &Bytes) -> Reply {
    match parse_i64(index) {
        Some(0) => Reply::ok(),
        Some(index) if i32::try_from(index).is_err() => {
            Reply::err("ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        Some(_) => Reply::err("ERR DB index is out of range"),
        None => Reply::not_an_integer(),
    }
}
