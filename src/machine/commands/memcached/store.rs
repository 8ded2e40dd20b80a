//! Storing and deleting, under conditions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Done, View};
use super::{Item, Word, cas, expiry, fits};

/// What is done with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// `set`, `add`, `replace`, `append`, `prepend`, `cas`, `ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    pub key: Bytes,
    pub value: Bytes,
    pub flags: u32,
    pub exptime: i64,
    pub mode: Mode,
    /// Only if this is its unique number.
    pub cas: Option<u64>,
    /// If that was an earlier one: store it, and mark it as out of date.
    pub invalidate: bool,
    /// The new unique number is wanted: it is the reply, instead of [`Word::Stored`].
    pub tell: bool,
}

/// `delete`, `md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    pub key: Bytes,
    pub cas: Option<u64>,
    /// Mark it as out of date instead.
    pub invalidate: bool,
    /// A new expiry for what is marked.
    pub exptime: Option<i64>,
}

impl Store {
    pub(super) fn run(&self, view: View<'_, '_>) -> Done {
        let old = Item::of(view, &self.key)?;
        let item = match self.item(view, old) {
            Ok(item) => item,
            Err(word) => return Ok(word.reply()),
        };
        fits(item.data.len())?;
        if self.tell {
            return Ok(cas::reply(cas::put_and_tell(view, &self.key, item)?));
        }
        item.put(view, &self.key);
        Ok(Word::Stored.reply())
    }

    /// What is to be stored, or why nothing is.
    fn item(&self, view: View<'_, '_>, old: Option<Item>) -> Result<Item, Word> {
        let compares = self.cas.is_some() && matches!(self.mode, Mode::Set | Mode::Replace);
        let new = || Item::new(&self.value, self.flags, expiry(self.exptime, view.now()));
        let Some(old) = old else {
            return match self.mode {
                _ if compares => Err(Word::NotFound),
                Mode::Set | Mode::Add => Ok(new()),
                Mode::Replace | Mode::Append | Mode::Prepend => Err(Word::NotStored),
            };
        };
        let current = || cas::current(view, &self.key, &old);
        match self.mode {
            Mode::Add => Err(Word::NotStored),
            Mode::Set | Mode::Replace => match self.cas {
                Some(cas) if cas == current() => Ok(new()),
                // Later than what the client had seen: what it brings may be out of date.
                Some(cas) if self.invalidate && cas != 0 && cas < current() => Ok(Item {
                    stale: true,
                    won: old.won,
                    expires: old.expires,
                    ..new()
                }),
                Some(_) => Err(Word::Exists),
                None => Ok(new()),
            },
            // 0 asks for none in particular, of these two.
            Mode::Append | Mode::Prepend if self.cas.is_some_and(|cas| cas != 0 && cas != current()) => {
                Err(Word::Exists)
            }
            Mode::Append => Ok(Item::new(
                &[&old.data, &self.value[..]].concat(),
                old.flags,
                old.expires,
            )),
            Mode::Prepend => Ok(Item::new(
                &[&self.value[..], &old.data].concat(),
                old.flags,
                old.expires,
            )),
        }
    }
}

impl Delete {
    pub(super) fn run(&self, view: View<'_, '_>) -> Done {
        let Some(mut item) = Item::of(view, &self.key)? else {
            return Ok(Word::NotFound.reply());
        };
        if self
            .cas
            .is_some_and(|cas| cas != cas::current(view, &self.key, &item))
        {
            return Ok(Word::Exists.reply());
        }
        if self.invalidate {
            (item.stale, item.won) = (true, false);
            if let Some(exptime) = self.exptime {
                item.expires = expiry(exptime, view.now());
            }
            item.put(view, &self.key);
        } else {
            view.remove(&self.key);
        }
        Ok(Word::Deleted.reply())
    }
}
