//! Reads Rust as tokens, as far as the rules of `architecture.rs` need it: paths, functions, what is under
//! `#[cfg(test)]`. It never resolves names and trusts that the file compiles.

#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// Words, `::`, lifetimes and single signs, without comments, strings and character literals.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < source.len() {
        let (length, keep) = next_token(&source[at..]);
        let text = &source[at..at + length];
        if keep {
            found.push(Token { text, line });
        }
        line += text.matches('\n').count();
        at += length;
    }
    found
}

/// The length of what `rest` begins with, and whether it is a token.
fn next_token(rest: &str) -> (usize, bool) {
    let word = word_length(rest);
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (comment_length(rest), false)
    } else if let Some(length) = raw_string_length(rest) {
        (length, false)
    } else if rest.starts_with('"') {
        (string_length(rest), false)
    } else if rest.starts_with('\'') {
        quote_length(rest)
    } else if rest.starts_with("::") {
        (2, true)
    } else if word > 0 {
        (word, true)
    } else {
        let sign = rest.chars().next().unwrap_or(' ');
        (sign.len_utf8(), !sign.is_whitespace())
    }
}

fn word_length(rest: &str) -> usize {
    rest.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii())
        .count()
}

/// Block comments nest.
fn comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(sign) = rest.as_bytes().get(at..at + 2) {
        at += match sign {
            b"/*" => {
                depth += 1;
                2
            }
            b"*/" if depth == 1 => return at + 2,
            b"*/" => {
                depth -= 1;
                2
            }
            _ => 1,
        };
    }
    rest.len()
}

fn raw_string_length(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix))?
        .len();
    let hashes = rest[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let body = rest[prefix + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(
        body.find(&end)
            .map_or(rest.len(), |length| prefix + hashes + 1 + length + end.len()),
    )
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal (dropped) or a lifetime or label (kept).
fn quote_length(rest: &str) -> (usize, bool) {
    let inside = rest[1..].chars().next().unwrap_or('\'');
    if inside == '\\' {
        let end = rest.get(3..).and_then(|after| after.find('\''));
        return (end.map_or(rest.len(), |length| length + 4), false);
    }
    let end = 1 + inside.len_utf8();
    if rest[end.min(rest.len())..].starts_with('\'') {
        return (end + 1, false);
    }
    (1 + word_length(&rest[1..]), true)
}

pub(crate) fn text<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

fn is_word(text: &str) -> bool {
    word_length(text) > 0
}

/// Where the bracket that opens at `open` closes.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth <= 1 => return at,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

pub(crate) struct NamedPath<'a> {
    segments: Vec<&'a str>,
    /// The module that the path is written in, from the crate's root.
    module: Vec<&'a str>,
    pub(crate) line: usize,
}

impl<'a> NamedPath<'a> {
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }

    /// The crate's module that the path leads to (`crate` for the root itself); `None` if it does not start there.
    pub(crate) fn top_module(&self) -> Option<&'a str> {
        let (first, rest) = self.segments.split_first()?;
        let mut at = match *first {
            _ if rest.is_empty() => return None,
            "crate" | "quorate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            _ => return None,
        };
        for segment in rest {
            match *segment {
                "self" => {}
                "super" => drop(at.pop()),
                name => at.push(name),
            }
        }
        Some(at.first().copied().unwrap_or("crate"))
    }
}

/// Every path in the code, with groups unfolded: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub(crate) fn paths<'a>(tokens: &[Token<'a>], file_module: &[&'a str]) -> Vec<NamedPath<'a>> {
    let (mut found, mut at) = (Vec::new(), 0);
    let mut open: Vec<(&str, usize)> = Vec::new();
    while at < tokens.len() {
        open.retain(|(_, end)| at < *end);
        if text(tokens, at) == "mod" && text(tokens, at + 2) == "{" {
            open.push((text(tokens, at + 1), closing(tokens, at + 2)));
        }
        if is_word(text(tokens, at)) {
            let written: Vec<&str> = file_module
                .iter()
                .copied()
                .chain(open.iter().map(|(name, _)| *name))
                .collect();
            at = unfold(tokens, at, Vec::new(), &written, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn unfold<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    mut segments: Vec<&'a str>,
    module: &[&'a str],
    found: &mut Vec<NamedPath<'a>>,
) -> usize {
    let line = tokens[at].line;
    loop {
        if text(tokens, at) == "{" {
            let end = closing(tokens, at);
            at += 1;
            while at < end {
                at = match text(tokens, at) {
                    "as" => at + 2,
                    next if is_word(next) || matches!(next, "*" | "{") => {
                        unfold(tokens, at, segments.clone(), module, found)
                    }
                    _ => at + 1,
                };
            }
            return end + 1;
        }
        if is_word(text(tokens, at)) || text(tokens, at) == "*" {
            segments.push(text(tokens, at));
            at += 1;
        } else {
            break;
        }
        if text(tokens, at) != "::" {
            break;
        }
        at += 1;
    }
    found.push(NamedPath {
        segments,
        module: module.to_vec(),
        line,
    });
    at
}

/// Functions with a body: name, first line, number of lines from `fn` to the closing brace.
pub(crate) fn functions<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, usize, usize)> {
    let mut found = Vec::new();
    for (start, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        let name = start + if text(tokens, start + 1) == "$" { 2 } else { 1 };
        let mut at = name;
        while is_word(text(tokens, name)) && at < tokens.len() {
            match tokens[at].text {
                "(" | "[" => at = closing(tokens, at),
                "{" if text(tokens, closing(tokens, at) + 1) == ">" => at = closing(tokens, at),
                "{" => {
                    let last = tokens[closing(tokens, at)].line;
                    found.push((text(tokens, name), token.line, last - token.line + 1));
                    break;
                }
                ";" | "}" => break,
                _ => {}
            }
            at += 1;
        }
    }
    found
}

/// The stretches of tokens, first and last included, that are compiled for tests alone.
pub(crate) fn test_spans(tokens: &[Token<'_>]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let inner = text(tokens, at) == "#" && text(tokens, at + 1) == "!";
        let open = at + if inner { 2 } else { 1 };
        if text(tokens, at) != "#" || !is_cfg_test(tokens, open) {
            at += 1;
            continue;
        }
        let after = closing(tokens, open) + 1;
        let last = if inner {
            block_end(tokens, after)
        } else {
            item_end(tokens, after)
        };
        found.push((at, last));
        at = last + 1;
    }
    found
}

/// `[cfg(test)]` or `[cfg(all(test, …))]`; `any` and `not` may be compiled without tests, so they do not count.
fn is_cfg_test(tokens: &[Token<'_>], open: usize) -> bool {
    if text(tokens, open) != "[" || text(tokens, open + 1) != "cfg" {
        return false;
    }
    let inside = &tokens[open..closing(tokens, open)];
    inside.iter().any(|token| token.text == "test")
        && !inside.iter().any(|token| matches!(token.text, "any" | "not"))
}

/// The last token of the block (or file) that `at` is in.
fn block_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at < tokens.len() && !matches!(tokens[at].text, ")" | "]" | "}") {
        at = if matches!(tokens[at].text, "(" | "[" | "{") {
            closing(tokens, at) + 1
        } else {
            at + 1
        };
    }
    at.saturating_sub(1)
}

/// The last token of the item (or statement, field, match arm) that begins at `at`.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while text(tokens, at) == "#" {
        at = closing(tokens, at + 1) + 1;
    }
    if text(tokens, at) == "pub" {
        at = if text(tokens, at + 1) == "(" {
            closing(tokens, at + 1) + 1
        } else {
            at + 1
        };
    }
    let is_function =
        text(tokens, at) == "const" && matches!(text(tokens, at + 1), "fn" | "unsafe" | "async" | "extern");
    let ends_in_semicolon =
        !is_function && matches!(text(tokens, at), "use" | "let" | "static" | "type" | "const");
    let is_field_or_arm = text(tokens, at + 1) == ":" || text(tokens, at + 1) == "=";
    while at < tokens.len() {
        match text(tokens, at) {
            "{" if !ends_in_semicolon => return closing(tokens, at),
            "(" | "[" | "{" => at = closing(tokens, at),
            ";" => return at,
            "," if is_field_or_arm => return at,
            ")" | "]" | "}" => return at.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    tokens.len().saturating_sub(1)
}

/// The modules that are compiled for tests alone and live in files of their own: `#[cfg(test)] mod tests;`.
pub(crate) fn test_modules<'a>(tokens: &[Token<'a>], file_module: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    for (first, last) in test_spans(tokens) {
        if text(tokens, first + 1) == "!" && last + 1 == tokens.len() {
            found.push(file_module.to_vec());
        } else if text(tokens, last) == ";" && text(tokens, last.wrapping_sub(2)) == "mod" {
            found.push(
                file_module
                    .iter()
                    .copied()
                    .chain([text(tokens, last - 1)])
                    .collect(),
            );
        }
    }
    found
}
