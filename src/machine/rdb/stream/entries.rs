//! Nodes of a stream: a listpack each, whose head names the fields of its first entry. Ids are told by their distance from the
//! node's; an entry with the same fields tells their values alone.
//!
//! ```text
//!  entries, deleted, n, n fields, 0 │ flags, ms, seq, (n, field, value … │ values …), elements of this entry │ …
//! ```

use std::borrow::Cow;

use super::super::Refused;
use super::super::listpack::{self, Builder, Listpack};
use super::super::packing::{Element, Items};
use super::super::reader::Reader;
use super::super::writer::Writer;
use super::{Id, Stream, raw_bytes, raw_id};
use crate::machine::values::Packed;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Bytes and entries of one node of Redis.
const NODE_BYTES_MAX: usize = 4096;
const NODE_ENTRIES_MAX: u8 = 100;

type Fields<'a> = Vec<Cow<'a, [u8]>>;

/// A count as a listpack holds it.
fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a node onto the stream.
pub fn load(r: &mut Reader<'_>, stream: &mut Stream) -> Result<(), Refused> {
    let key = r.string()?;
    let master = raw_id(key[..].try_into().map_err(|_| Refused::Format)?);
    let blob = r.string()?;
    let mut items = listpack::items(&blob)?;
    let (live, deleted) = (items.want_int()?, items.want_int()?);
    let mut fields = Fields::new();
    for _ in 0..items.want_int()? {
        let field = items.want()?.text();
        r.room.take(field.len())?;
        fields.push(field);
    }
    if items.want_int()? != 0 {
        return Err(Refused::Format);
    }
    let (mut seen_live, mut seen_deleted) = (0, 0);
    while let Some(flags) = items.next().transpose()? {
        let Element::Int(flags) = flags else {
            return Err(Refused::Format);
        };
        let (id, packed) = entry(r, &mut items, master, flags, &fields)?;
        if flags & DELETED != 0 {
            seen_deleted += 1;
            continue;
        }
        seen_live += 1;
        if id <= stream.last {
            return Err(Refused::Format);
        }
        stream.add(id, packed);
    }
    if (seen_live, seen_deleted) == (live, deleted) {
        Ok(())
    } else {
        Err(Refused::Format)
    }
}

/// What comes behind an entry's flags.
fn entry(
    r: &mut Reader<'_>,
    items: &mut Items<'_, Listpack>,
    master: Id,
    flags: i64,
    fields: &Fields<'_>,
) -> Result<(Id, Packed), Refused> {
    let id = Id {
        ms: master.ms.wrapping_add_signed(items.want_int()?),
        seq: master.seq.wrapping_add_signed(items.want_int()?),
    };
    let mut all = Fields::new();
    let same = flags & SAME_FIELDS != 0;
    let count = if same {
        signed(fields.len())
    } else {
        items.want_int()?
    };
    let named = if same { &fields[..] } else { &[] };
    let mut named = named.iter();
    for _ in 0..count {
        let field = match named.next() {
            Some(field) => field.clone(),
            None => items.want()?.text(),
        };
        let value = items.want()?.text();
        r.room.take(field.len())?;
        r.room.take(value.len())?;
        all.extend([field, value]);
    }
    r.room.take(0)?;
    let elements = if same { all.len() / 2 + 3 } else { all.len() + 4 };
    if count < 0 || items.want_int()? != signed(elements) {
        return Err(Refused::Format);
    }
    Ok((id, Packed::of(&all)))
}

/// Writes all entries, in nodes as Redis would fill them.
pub fn save(w: &mut Writer, stream: &Stream) -> Result<(), Refused> {
    let mut nodes: Vec<(Id, Vec<u8>)> = Vec::new();
    let mut current: Option<Node<'_>> = None;
    for (id, packed) in stream.range(..) {
        let items: Vec<&[u8]> = packed.items().collect();
        for item in &items {
            w.room.take(item.len())?;
        }
        let bytes = items.iter().map(|item| item.len()).sum();
        let mut node = match current.take() {
            Some(node) if node.fits(bytes) => node,
            full => {
                nodes.extend(full.map(Node::finish));
                Node::new(id, &items)
            }
        };
        node.push(id, &items);
        current = Some(node);
    }
    nodes.extend(current.map(Node::finish));
    w.count(nodes.len());
    for (id, blob) in nodes {
        w.string(&raw_bytes(id))?;
        w.string(&blob)?;
    }
    Ok(())
}

/// A node that is being filled.
struct Node<'a> {
    master: Id,
    fields: Vec<&'a [u8]>,
    blob: Builder,
    entries: u8,
}

impl<'a> Node<'a> {
    fn new(master: Id, items: &[&'a [u8]]) -> Node<'a> {
        let fields: Vec<&[u8]> = items.iter().step_by(2).copied().collect();
        let mut blob = Builder::new();
        blob.push_int(0);
        blob.push_int(0);
        blob.push_int(signed(fields.len()));
        for field in &fields {
            blob.push(field);
        }
        blob.push_int(0);
        Node {
            master,
            fields,
            blob,
            entries: 0,
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        self.blob.len() + bytes < NODE_BYTES_MAX && self.entries < NODE_ENTRIES_MAX
    }

    fn push(&mut self, id: Id, items: &[&[u8]]) {
        let same = self.fields.iter().eq(items.iter().step_by(2));
        self.blob.push_int(if same { SAME_FIELDS } else { 0 });
        self.blob
            .push_int(id.ms.wrapping_sub(self.master.ms).cast_signed());
        self.blob
            .push_int(id.seq.wrapping_sub(self.master.seq).cast_signed());
        let count = signed(items.len() / 2);
        if same {
            for value in items.iter().skip(1).step_by(2) {
                self.blob.push(value);
            }
            self.blob.push_int(count + 3);
        } else {
            self.blob.push_int(count);
            for item in items {
                self.blob.push(item);
            }
            self.blob.push_int(2 * count + 4);
        }
        self.entries += 1;
        self.blob.set_first(self.entries);
    }

    fn finish(self) -> (Id, Vec<u8>) {
        (self.master, self.blob.finish())
    }
}
