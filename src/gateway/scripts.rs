//! `SCRIPT`, and what a script's name stands for.

use bytes::Bytes;

use super::client::{arity, text};
use crate::base::Reply;
use crate::cluster::Node;
use crate::machine::commands::{Eval, Spec};
use crate::script;

/// Finds the script that this request names, so that parsing knows it, wherever in the cluster it was loaded.
pub async fn look_up(node: &Node, spec: &Spec, args: &[Bytes]) {
    if spec.name.starts_with("evalsha")
        && let Some(name) = args.first()
    {
        node.find_script(&text(&name.to_ascii_lowercase())).await;
    }
}

/// Puts the script in the place of its name, and makes those that come whole known by theirs.
///
/// # Errors
/// `NOSCRIPT`, in Redis's words; one that cannot be compiled.
pub fn resolve(node: &Node, eval: &mut Eval) -> Result<(), Reply> {
    if eval.function.is_some() {
        // Found when it is called.
        return Ok(());
    }
    match &eval.body {
        Some(body) => {
            eval.sha = script::sha1_hex(body);
            // What is known has been checked.
            if node.scripts().find(&eval.sha).is_none() {
                script::check(body)?;
                node.scripts().learn_as(eval.sha.clone(), body);
            }
        }
        None => {
            let body = node.scripts().find(&eval.sha);
            let body = body.ok_or_else(|| Reply::err("NOSCRIPT No matching script. Please use EVAL."))?;
            eval.body = Some(body);
        }
    }
    Ok(())
}

/// `SCRIPT LOAD body | EXISTS name … | FLUSH [ASYNC|SYNC] | KILL | DEBUG NO`.
pub async fn script(node: &Node, args: &[Bytes]) -> Reply {
    let (sub, rest) = (args[0].to_ascii_lowercase(), &args[1..]);
    match (sub.as_slice(), rest) {
        (b"load", [body]) => match script::check(body) {
            Err(reply) => reply,
            Ok(()) => match node.load_script(body).await {
                Some(name) => Reply::bulk(name),
                None => {
                    Reply::err("ERR too many bytes of scripts are known already: SCRIPT FLUSH forgets them")
                }
            },
        },
        (b"exists", [_, ..]) => {
            let mut known = Vec::with_capacity(rest.len());
            for name in rest {
                let found = node.find_script(&text(&name.to_ascii_lowercase())).await;
                known.push(Reply::Int(i64::from(found.is_some())));
            }
            Reply::Array(known)
        }
        (b"flush", []) => flush(node).await,
        (b"flush", [word]) if word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync") => {
            flush(node).await
        }
        (b"flush", [_]) => Reply::err("ERR SCRIPT FLUSH only support SYNC|ASYNC option"),
        (b"kill", []) => match node.scripts().kill(false) {
            0 => Reply::err("NOTBUSY No scripts in execution right now."),
            _ => Reply::ok(),
        },
        (b"debug", [word]) if word.eq_ignore_ascii_case(b"no") => Reply::ok(),
        (b"debug", [_]) => Reply::err("ERR there is no debugger for scripts"),
        (b"load" | b"exists" | b"flush" | b"kill" | b"debug", _) => arity(&format!("script|{}", text(&sub))),
        _ => Reply::err(format!(
            "ERR unknown subcommand '{}'. Try SCRIPT HELP.",
            text(&args[0])
        )),
    }
}

async fn flush(node: &Node) -> Reply {
    node.forget_scripts().await;
    Reply::ok()
}

/// `TIME`: never before a time that a command has seen.
pub fn time(node: &Node) -> Reply {
    Reply::time(node.now())
}
