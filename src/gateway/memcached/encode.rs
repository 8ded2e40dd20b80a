//! Replies, in memcached's words.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::meta::{Echo, Kind, Meta};
use super::stats::{Counter, Stats};
use super::{Asked, Counted, Form, TOO_LARGE};
use crate::base::Reply;
use crate::machine::commands::memcached::{STALE, WINS, WON_BEFORE, Word};

/// An item that was found.
struct Found<'a> {
    data: &'a Bytes,
    flags: i64,
    cas: i64,
    /// To live, before and after.
    ttl: (i64, i64),
    marks: u8,
}

impl<'a> Found<'a> {
    /// `None`: nothing was.
    fn of(reply: &'a Reply) -> Result<Option<Found<'a>>, String> {
        let whole = |data, flags, cas, ttl, marks| {
            Ok(Some(Found {
                data,
                flags,
                cas,
                ttl,
                marks,
            }))
        };
        match reply {
            Reply::Nil => Ok(None),
            Reply::Bulk(data) => whole(data, 0, 0, (-1, -1), 0),
            Reply::Array(parts) => match parts.as_slice() {
                [Reply::Bulk(data), Reply::Int(flags), Reply::Int(cas)] => {
                    whole(data, *flags, *cas, (-1, -1), 0)
                }
                [
                    Reply::Bulk(data),
                    Reply::Int(flags),
                    Reply::Int(cas),
                    Reply::Int(before),
                    Reply::Int(after),
                    Reply::Int(marks),
                ] => whole(
                    data,
                    *flags,
                    *cas,
                    (*before, *after),
                    u8::try_from(*marks).unwrap_or_default(),
                ),
                _ => Err(wrong(reply)),
            },
            other => Err(wrong(other)),
        }
    }
}

/// The line for a reply that is an error, or not what was expected.
fn wrong(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => {
            let text = text.replace(['\r', '\n'], " ");
            if text.starts_with("OOM ") {
                "SERVER_ERROR out of memory storing object".into()
            } else if text.starts_with("CLIENT_ERROR ") || text.starts_with("SERVER_ERROR ") {
                text
            } else {
                format!("SERVER_ERROR {text}")
            }
        }
        _ => "SERVER_ERROR ERR stopped: an unexpected reply".into(),
    }
}

/// Keys are touched one by one: an error of one is told instead of all values, and must not hide that nobody knows of another.
fn failed_touch(replies: &[Reply]) -> Result<(), String> {
    let unknown = |text: &str| text.starts_with("UNKNOWN ");
    let errors = replies.iter().filter_map(|reply| match reply {
        Reply::Error(text) => Some((unknown(text), reply)),
        _ => None,
    });
    let count = errors.clone().count();
    let Some((_, worst)) = errors.max_by_key(|(unknown, _)| *unknown) else {
        return Ok(());
    };
    let touched = replies.len() - count;
    let others = if touched > 0 {
        format!(" ({touched} other keys were touched)")
    } else {
        String::new()
    };
    Err(wrong(worst) + &others)
}

fn word(reply: &Reply) -> Result<Word, String> {
    Word::of(reply).ok_or_else(|| wrong(reply))
}

/// Writes replies to a client.
pub(super) struct Encoder<'a> {
    pub out: &'a mut BytesMut,
    pub stats: &'a Stats,
}

impl Encoder<'_> {
    /// Says what has come of a request. Its replies are as many as its commands.
    pub(super) fn answer(&mut self, asked: &Asked, replies: &[Reply]) {
        let start = self.out.len();
        if let Err(line) = self.say(asked, replies) {
            self.out.truncate(start);
            self.line(&line);
        }
        if asked.quiet && !matches!(asked.form, Form::Meta(_)) {
            self.out.truncate(start);
        }
    }

    fn line(&mut self, line: &str) {
        self.out.put_slice(line.as_bytes());
        self.out.put_slice(b"\r\n");
    }

    /// # Errors
    /// The line to be said instead.
    fn say(&mut self, asked: &Asked, replies: &[Reply]) -> Result<(), String> {
        let first = replies.first().unwrap_or(&Reply::Nil);
        match &asked.form {
            Form::Text(text) => self.line(text),
            Form::Close(why) => why.iter().for_each(|why| self.line(why)),
            Form::Values { keys, cas } => {
                let Reply::Array(items) = first else {
                    return Err(wrong(first));
                };
                for (key, item) in keys.iter().zip(items) {
                    self.stats.count(Counter::CmdGet);
                    self.value(key, item, *cas, (Counter::GetHits, Counter::GetMisses))?;
                }
                self.line("END");
            }
            Form::Touched { keys, cas } => {
                failed_touch(replies)?;
                for (key, item) in keys.iter().zip(replies) {
                    self.stats.count(Counter::CmdTouch);
                    self.value(key, item, *cas, (Counter::TouchHits, Counter::TouchMisses))?;
                }
                self.line("END");
            }
            Form::Word(counted) => {
                let word = word(first)?;
                self.count(*counted, word);
                self.line(word.text());
            }
            Form::Number { decr } => match self.number(first, *decr)? {
                Ok((number, ..)) => {
                    self.out.put_slice(number);
                    self.line("");
                }
                Err(word) => self.line(word.text()),
            },
            Form::TooLarge => {
                self.stats.count(Counter::StoreTooLarge);
                word(first)?;
                self.line(TOO_LARGE);
            }
            Form::Flushed if *first == Reply::ok() => {
                self.stats.count(Counter::CmdFlush);
                self.line("OK");
            }
            Form::Debug { key, base64 } => self.debug(&Meta::key_text(key, *base64), first)?,
            Form::Meta(meta) => self.meta(meta, first, asked.quiet)?,
            Form::Flushed | Form::Stats | Form::ResetStats | Form::Settings => return Err(wrong(first)),
        }
        Ok(())
    }

    fn count(&self, counted: Counted, word: Word) {
        let found = word != Word::NotFound;
        match counted {
            Counted::Set => self.stats.count(Counter::CmdSet),
            Counted::Cas => {
                self.stats.count(Counter::CmdSet);
                self.stats.count(match word {
                    Word::NotFound => Counter::CasMisses,
                    Word::Exists => Counter::CasBadval,
                    _ => Counter::CasHits,
                });
            }
            Counted::Delete => self
                .stats
                .found(found, Counter::DeleteHits, Counter::DeleteMisses),
            Counted::Touch => {
                self.stats.count(Counter::CmdTouch);
                self.stats.found(found, Counter::TouchHits, Counter::TouchMisses);
            }
        }
    }

    fn value(
        &mut self,
        key: &Bytes,
        item: &Reply,
        cas: bool,
        (hits, misses): (Counter, Counter),
    ) -> Result<(), String> {
        let found = Found::of(item)?;
        self.stats.found(found.is_some(), hits, misses);
        let Some(found) = found else { return Ok(()) };
        self.out.put_slice(b"VALUE ");
        self.out.put_slice(key);
        self.put(format_args!(" {} {}", found.flags, found.data.len()));
        if cas {
            self.put(format_args!(" {}", found.cas));
        }
        self.line("");
        self.out.put_slice(found.data);
        self.line("");
        Ok(())
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a buffer does not fail.
        let _ = self.out.write_fmt(text);
    }

    /// A number with its unique number and times to live, or the word that came instead.
    #[expect(clippy::type_complexity, reason = "read at once by both who ask")]
    fn number<'a>(
        &self,
        reply: &'a Reply,
        decr: bool,
    ) -> Result<Result<(&'a Bytes, i64, (i64, i64)), Word>, String> {
        let (hits, misses) = if decr {
            (Counter::DecrHits, Counter::DecrMisses)
        } else {
            (Counter::IncrHits, Counter::IncrMisses)
        };
        if let Reply::Array(parts) = reply
            && let [
                Reply::Bulk(number),
                Reply::Int(cas),
                Reply::Int(before),
                Reply::Int(after),
            ] = parts.as_slice()
        {
            self.stats.count(hits);
            return Ok(Ok((number, *cas, (*before, *after))));
        }
        let word = word(reply)?;
        self.stats.count(misses);
        Ok(Err(word))
    }

    fn debug(&mut self, key: &Bytes, reply: &Reply) -> Result<(), String> {
        self.stats.count(Counter::CmdMeta);
        match Found::of(reply)? {
            None => self.line("EN"),
            Some(found) => {
                self.out.put_slice(b"ME ");
                self.out.put_slice(key);
                let (exp, cas, size) = (found.ttl.1, found.cas, found.data.len());
                self.put(format_args!(
                    " exp={exp} la=0 cas={cas} fetch=no cls=0 size={size}"
                ));
                self.line("");
            }
        }
        Ok(())
    }

    /// Every error is told, and a nominal answer only where it is not left out.
    fn meta(&mut self, meta: &Meta, reply: &Reply, quiet: bool) -> Result<(), String> {
        let start = self.out.len();
        let nominal = match &meta.kind {
            Kind::Get(_) => {
                let found = Found::of(reply)?;
                self.stats.count(Counter::CmdGet);
                self.stats
                    .found(found.is_some(), Counter::GetHits, Counter::GetMisses);
                match &found {
                    Some(found) => self.hit(meta, found),
                    None => self.code(meta, "EN", None),
                }
                found.is_none()
            }
            Kind::Set => {
                let (word, cas) = match reply {
                    Reply::Int(cas) => (Word::Stored, *cas),
                    other => (word(other)?, 0),
                };
                self.stats.count(Counter::CmdSet);
                self.code(meta, code(word), Some(cas));
                word == Word::Stored
            }
            Kind::Delete => {
                let word = word(reply)?;
                self.count(Counted::Delete, word);
                self.code(meta, code(word), None);
                word == Word::Deleted
            }
            Kind::Arithmetic { decr } => match self.number(reply, *decr)? {
                Ok((number, cas, ttl)) => {
                    self.hit(
                        meta,
                        &Found {
                            data: number,
                            flags: 0,
                            cas,
                            ttl,
                            marks: 0,
                        },
                    );
                    true
                }
                Err(word) => {
                    self.code(meta, code(word), None);
                    false
                }
            },
        };
        if quiet && nominal {
            self.out.truncate(start);
        }
        Ok(())
    }

    /// A code with what comes back whatever has happened; `cas`: that, too.
    fn code(&mut self, meta: &Meta, code: &str, cas: Option<i64>) {
        self.out.put_slice(code.as_bytes());
        for echo in &meta.echoes {
            match (echo, cas) {
                (Echo::Opaque(_) | Echo::Key, _) => self.echo_always(meta, echo),
                (Echo::Cas, Some(cas)) => self.put(format_args!(" c{cas}")),
                _ => {}
            }
        }
        self.line("");
    }

    fn echo_always(&mut self, meta: &Meta, echo: &Echo) {
        match echo {
            Echo::Opaque(opaque) => {
                self.out.put_u8(b' ');
                self.out.put_slice(opaque);
            }
            _ => {
                self.out.put_slice(b" k");
                self.out.put_slice(&Meta::key_text(&meta.key, meta.base64));
                if meta.base64 {
                    self.out.put_slice(b" b");
                }
            }
        }
    }

    fn hit(&mut self, meta: &Meta, found: &Found<'_>) {
        if meta.value {
            self.put(format_args!("VA {}", found.data.len()));
        } else {
            self.out.put_slice(b"HD");
        }
        for echo in &meta.echoes {
            match echo {
                Echo::Opaque(_) | Echo::Key => self.echo_always(meta, echo),
                Echo::Cas => self.put(format_args!(" c{}", found.cas)),
                Echo::Flags => self.put(format_args!(" f{}", found.flags)),
                Echo::Size => self.put(format_args!(" s{}", found.data.len())),
                Echo::Ttl { new: false } => self.put(format_args!(" t{}", found.ttl.0)),
                Echo::Ttl { new: true } => self.put(format_args!(" t{}", found.ttl.1)),
                Echo::Hit => self.out.put_slice(b" h0"),
                Echo::Accessed => self.out.put_slice(b" l0"),
            }
        }
        for (mark, text) in [(WON_BEFORE, " Z"), (STALE, " X"), (WINS, " W")] {
            if found.marks & mark != 0 {
                self.out.put_slice(text.as_bytes());
            }
        }
        self.line("");
        if meta.value {
            self.out.put_slice(found.data);
            self.line("");
        }
    }
}

fn code(word: Word) -> &'static str {
    match word {
        Word::Stored | Word::Deleted | Word::Touched => "HD",
        Word::NotStored => "NS",
        Word::Exists => "EX",
        Word::NotFound | Word::Writes => "NF",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_one_touched_key_does_not_hide_that_another_is_unknown() {
        let error = |text: &str| Reply::err(text.to_owned());
        let wrong_type = "WRONGTYPE the key holds a list";
        let unknown = "UNKNOWN outcome";
        let cases = [
            (vec![Reply::Nil, Reply::Nil], None),
            (
                vec![error(wrong_type)],
                Some("SERVER_ERROR WRONGTYPE the key holds a list"),
            ),
            (
                vec![error(wrong_type), Reply::Nil],
                Some("SERVER_ERROR WRONGTYPE the key holds a list (1 other keys were touched)"),
            ),
            (
                vec![error(wrong_type), error(unknown)],
                Some("SERVER_ERROR UNKNOWN outcome"),
            ),
            (
                vec![error(unknown), error(wrong_type)],
                Some("SERVER_ERROR UNKNOWN outcome"),
            ),
        ];
        for (replies, said) in cases {
            assert_eq!(failed_touch(&replies).err().as_deref(), said, "{replies:?}");
        }
    }
}
