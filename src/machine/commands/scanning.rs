//! `HSCAN`, `SSCAN`, `ZSCAN`: a page of a collection.

use bytes::Bytes;

use super::Done;
use super::args::{Args, parse_i64};
use crate::base::Reply;
use crate::machine::glob;
use crate::machine::values::Value;

/// Members on a page, each with what goes with it, and the cursor after it.
#[derive(Debug, Default)]
pub struct Scanned {
    pub found: Vec<(Bytes, Option<Reply>)>,
    pub next: u64,
}

impl Scanned {
    /// A collection that fits on one page.
    pub fn all(found: impl Iterator<Item = (Bytes, Option<Reply>)>) -> Scanned {
        Scanned {
            found: found.collect(),
            next: 0,
        }
    }

    fn reply(self, pattern: Option<&Bytes>) -> Reply {
        let wanted = self.found.into_iter();
        let wanted = wanted.filter(|(name, _)| pattern.is_none_or(|pattern| glob::matches(pattern, name)));
        let flat = wanted
            .flat_map(|(name, with)| [Some(Reply::Bulk(name)), with])
            .flatten();
        Reply::Array(vec![
            Reply::bulk(self.next.to_string()),
            Reply::Array(flat.collect()),
        ])
    }
}

/// Reads `cursor [MATCH pattern] [COUNT count]` and replies the page that `page(value, cursor, count)` gives. As in Redis, what
/// comes behind the cursor is not looked at if there is no value.
pub fn scan<'a>(
    args: &mut Args<'_>,
    value: Result<Option<&'a Value>, Reply>,
    page: impl FnOnce(&'a Value, u64, usize) -> Scanned,
) -> Done {
    let cursor = args.next()?;
    let number = std::str::from_utf8(cursor)
        .ok()
        .and_then(|text| text.parse().ok());
    // Redis takes an empty one for a beginning.
    let number = if cursor.is_empty() { Some(0) } else { number };
    let cursor: u64 = number.ok_or_else(|| Reply::err("ERR invalid cursor"))?;
    let Some(value) = value? else {
        return Ok(Scanned::default().reply(None));
    };
    let (mut pattern, mut count) = (None, 10);
    while let Some(word) = args.word() {
        match word.as_str() {
            "MATCH" => pattern = Some(args.value()?),
            "COUNT" => {
                count = parse_i64(args.value()?).ok_or_else(Reply::not_an_integer)?;
                if count < 1 {
                    return Err(Reply::syntax());
                }
            }
            _ => return Err(Reply::syntax()),
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Ok(page(value, cursor, count).reply(pattern))
}
