//! The first line of a script or of a library: which language it is in, and what it says of itself.

use std::collections::BTreeSet;

use crate::base::Reply;
use crate::machine::FunctionFlag;

/// The first line, without its end, and the rest from its end on: lines keep their numbers. `None`: it is an ordinary one.
fn split(body: &[u8]) -> Option<Result<(String, &[u8]), ()>> {
    body.starts_with(b"#!").then(|| {
        let end = body.iter().position(|&byte| byte == b'\n').ok_or(())?;
        Ok((String::from_utf8_lossy(&body[..end]).into_owned(), &body[end..]))
    })
}

/// What comes behind the first line.
#[must_use]
pub fn source(body: &[u8]) -> &[u8] {
    split(body)
        .and_then(Result::ok)
        .map_or(body, |(_, source)| source)
}

/// What a script says of itself; `None`: nothing, it is one of before Redis 7.
///
/// # Errors
/// A first line that asks for what is not there.
pub fn flags(body: &[u8]) -> Result<Option<BTreeSet<FunctionFlag>>, Reply> {
    let Some(line) = split(body) else {
        return Ok(None);
    };
    let (line, _) = line.map_err(|()| Reply::err("ERR Invalid script shebang"))?;
    let parts = words(&line).ok_or_else(|| Reply::err("ERR Invalid engine in script shebang"))?;
    let engine = parts.first().map_or("", String::as_str);
    if engine != "#!lua" {
        return Err(Reply::err(format!(
            "ERR Unexpected engine in script shebang: {engine}"
        )));
    }
    let mut flags = BTreeSet::new();
    for part in &parts[1..] {
        let Some(list) = part.strip_prefix("flags=") else {
            return Err(Reply::err(format!("ERR Unknown lua shebang option: {part}")));
        };
        for name in list.split(',').filter(|_| !list.is_empty()) {
            let flag = FunctionFlag::ALL.into_iter().find(|flag| flag.name() == name);
            flags.insert(
                flag.ok_or_else(|| Reply::err(format!("ERR Unexpected flag in script shebang: {name}")))?,
            );
        }
    }
    Ok(Some(flags))
}

/// The name that a library gives itself.
///
/// # Errors
/// In Redis's words.
pub fn library_name(code: &[u8]) -> Result<String, Reply> {
    let invalid = || Reply::err("ERR Invalid library metadata");
    let line = split(code).ok_or_else(|| Reply::err("ERR Missing library metadata"))?;
    let parts = line.map_err(|()| invalid())?;
    let parts = words(&parts.0)
        .filter(|parts| !parts.is_empty())
        .ok_or_else(invalid)?;
    let mut name = None;
    for part in &parts[1..] {
        match part.split_at_checked(5) {
            Some((key, value)) if key.eq_ignore_ascii_case("name=") => {
                if name.replace(value).is_some() {
                    return Err(Reply::err(
                        "ERR Invalid metadata value, name argument was given multiple times",
                    ));
                }
            }
            _ => return Err(Reply::err(format!("ERR Invalid metadata value given: {part}"))),
        }
    }
    let name = name.ok_or_else(|| Reply::err("ERR Library name was not given"))?;
    check_name(name).map_err(|why| Reply::err(format!("ERR {why}")))?;
    let engine = &parts[0][2..];
    if !engine.eq_ignore_ascii_case("lua") {
        return Err(Reply::err(format!("ERR Engine '{engine}' not found")));
    }
    Ok(name.to_owned())
}

/// Whether a library or a function may be called so.
///
/// # Errors
/// Redis's words for both.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(fits) {
        return Ok(());
    }
    Err(
        "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
    )
}

/// The words of a line; quotes keep blanks in one. `None`: a quote has no end, or a word goes on behind one.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut word = String::new();
        let mut end = rest.len();
        for (at, char) in rest.char_indices() {
            match char {
                quote @ ('"' | '\'') => {
                    let (_, quoted) = rest.split_at_checked(at + 1)?;
                    let (quoted, after) = quoted.split_once(quote)?;
                    if after.chars().next().is_some_and(|next| !next.is_whitespace()) {
                        return None;
                    }
                    word.push_str(quoted);
                    end = rest.len() - after.len();
                    break;
                }
                blank if blank.is_whitespace() => {
                    end = at;
                    break;
                }
                other => word.push(other),
            }
        }
        words.push(word);
        rest = rest[end..].trim_start();
    }
    Some(words)
}
