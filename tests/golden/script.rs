//! The golden scripts: `record.py` describes their format.

use std::{fs, path::Path};

/// How a reply is to be read before it is compared.
#[derive(Debug)]
pub enum Reading {
    Plain,
    Any,
    Sorted,
    Between(i64, i64),
    Mask(Vec<String>),
    Scan,
    Until(String),
}

#[derive(Debug)]
pub struct Step {
    pub line: usize,
    pub connection: usize,
    pub text: String,
    pub args: Vec<Vec<u8>>,
    pub reading: Reading,
    /// In RESP2 and in RESP3.
    pub expected: [Option<String>; 2],
}

#[derive(Debug)]
pub struct Script {
    pub name: String,
    pub steps: Vec<Step>,
}

pub fn load(directory: &Path) -> Result<Vec<Script>, String> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut scripts = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "script") {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).map_err(|e| format!("{name}: {e}"))?;
            let steps = parse_script(&text).map_err(|e| format!("{name}:{e}"))?;
            scripts.push(Script { name, steps });
        }
    }
    if scripts.is_empty() {
        return Err(format!("{}: no scripts", directory.display()));
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scripts)
}

pub fn parse_script(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut reading = None;
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        let at = |error: &str| format!("{last}: {error}");
        if line.is_empty() || line.starts_with("## ") {
            continue;
        }
        if let Some(directive) = line.strip_prefix("# ") {
            if reading.is_some() {
                return Err(at("two directives for one command"));
            }
            reading = Some(parse_directive(directive).map_err(|e| at(&e))?);
        } else if let Some((connection, command)) = command_of(line) {
            finish(steps.last())?;
            let args = split(command).map_err(at)?;
            if matches!(reading, Some(Reading::Scan)) && args.len() < 2 {
                return Err(at("scan without a cursor"));
            }
            steps.push(Step {
                line: last,
                connection,
                text: line.to_owned(),
                args,
                reading: reading.take().unwrap_or(Reading::Plain),
                expected: [None, None],
            });
        } else {
            let step = steps.last_mut().ok_or_else(|| at("a reply without a command"))?;
            expect(step, line).map_err(at)?;
        }
    }
    finish(steps.last())?;
    if reading.is_some() {
        return Err(format!("{last}: a directive without a command"));
    }
    match steps.first() {
        Some(step) if step.text == "c1> FLUSHALL" => Ok(steps),
        _ => Err("1: does not begin with c1> FLUSHALL".to_owned()),
    }
}

fn command_of(line: &str) -> Option<(usize, &str)> {
    let (connection, command) = line.strip_prefix('c')?.split_once("> ")?;
    Some((connection.parse().ok()?, command))
}

fn finish(step: Option<&Step>) -> Result<(), String> {
    match step {
        Some(step) if step.expected.iter().any(Option::is_none) => {
            Err(format!("{}: a command without its reply", step.line))
        }
        _ => Ok(()),
    }
}

fn expect(step: &mut Step, line: &str) -> Result<(), &'static str> {
    let [two, three] = &mut step.expected;
    let (slots, reply) = if let Some(reply) = line.strip_prefix("2: ") {
        (vec![two], reply)
    } else if let Some(reply) = line.strip_prefix("3: ") {
        (vec![three], reply)
    } else {
        (vec![two, three], line)
    };
    for slot in slots {
        if slot.replace(reply.to_owned()).is_some() {
            return Err("a second reply to one command");
        }
    }
    Ok(())
}

fn parse_directive(text: &str) -> Result<Reading, String> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let integer = |word: &str| word.parse::<i64>().map_err(|e| format!("{word}: {e}"));
    match (name, words.as_slice()) {
        ("any", []) => Ok(Reading::Any),
        ("sorted", []) => Ok(Reading::Sorted),
        ("scan", []) => Ok(Reading::Scan),
        ("between", [low, high]) => Ok(Reading::Between(integer(low)?, integer(high)?)),
        ("mask", [_, ..]) => Ok(Reading::Mask(words.into_iter().map(str::to_owned).collect())),
        ("until", [_, ..]) => Ok(Reading::Until(rest.to_owned())),
        _ => Err(format!("unknown directive: {text}")),
    }
}

/// Splits a command as redis-cli does, but knows double quotes only.
fn split(command: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut args = Vec::new();
    let mut rest = command.trim_start_matches(' ').as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let arg;
        if first == b'"' {
            (arg, rest) = quoted(after)?;
            if rest.first().is_some_and(|&byte| byte != b' ') {
                return Err("text right after a closing quote");
            }
        } else {
            let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
            arg = rest[..end].to_vec();
            rest = &rest[end..];
            if arg.iter().any(|byte| b"\"'".contains(byte)) {
                return Err("a quote inside a bare word");
            }
        }
        args.push(arg);
        rest = rest.trim_ascii_start();
    }
    if args.is_empty() {
        Err("an empty command")
    } else {
        Ok(args)
    }
}

/// Reads up to the closing quote; returns the bytes and what follows it.
fn quoted(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut arg = Vec::new();
    loop {
        let (byte, after) = match rest {
            [] => return Err("unbalanced quotes"),
            [b'"', after @ ..] => return Ok((arg, after)),
            [b'\\', b'x', high, low, after @ ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, after),
                _ => return Err("\\x without two hexadecimal digits"),
            },
            [b'\\', b'n', after @ ..] => (b'\n', after),
            [b'\\', b'r', after @ ..] => (b'\r', after),
            [b'\\', b't', after @ ..] => (b'\t', after),
            [b'\\', b'b', after @ ..] => (8, after),
            [b'\\', b'a', after @ ..] => (7, after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => (*byte, after),
        };
        arg.push(byte);
        rest = after;
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
