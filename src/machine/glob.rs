//! Glob patterns as Redis matches them: `*`, `?`, `[a-c]`, `[^x]`, `\` escapes; bytes, not characters.

/// Whether `text` matches `pattern` as a whole. Time is O(pattern × text); there is no recursion to overflow.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(pattern, p, text[t]) {
            Some(next) => (p, t) = (next, t + 1),
            None => match star {
                // The last star swallows one byte more, and the rest is tried again.
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    // Redis 7.0 lets a lone star match nothing, but not two of them.
    if text.is_empty() {
        matches!(pattern, b"" | b"*")
    } else {
        pattern[p..].iter().all(|&b| b == b'*')
    }
}

/// Matches one byte against the pattern element at `p`; the position after the element if it fits.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut hit = false;
    while let Some(&c) = pattern.get(p) {
        if c == b']' {
            p += 1;
            break;
        }
        if c == b'\\' && p + 1 < pattern.len() {
            hit |= pattern[p + 1] == byte;
            p += 2;
        } else if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() {
            let (low, high) = (c.min(pattern[p + 2]), c.max(pattern[p + 2]));
            hit |= (low..=high).contains(&byte);
            p += 3;
        } else {
            hit |= c == byte;
            p += 1;
        }
    }
    (hit != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let yes = [
            ("*", ""),
            ("h?llo", "hello"),
            ("h*llo", "heeeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hbllo"),
            ("h[a-b]llo", "hbllo"),
            ("a\\*b", "a*b"),
            ("*a*b*", "xxaxxbxx"),
            ("[\\]]", "]"),
            ("a[b-", "ab"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("", "a"),
            ("a\\*b", "axb"),
            ("*a", "ab"),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }
}
