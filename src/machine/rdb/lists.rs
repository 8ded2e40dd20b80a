//! Lists: elements, or nodes that pack some of them each.

use super::listpack::{self, Builder};
use super::reader::Reader;
use super::writer::Writer;
use super::{Refused, form, ziplist};
use crate::machine::values::list::{self, End};
use crate::machine::values::{Kind, Value};

/// Bytes of one node, and what Redis counts for an element besides its own.
const NODE_BYTES_MAX: usize = 8 << 10;
const ELEMENT_BYTES: usize = 8;

/// A node that is one element, and one that packs several.
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

pub fn load(r: &mut Reader<'_>, form: u8) -> Result<Value, Refused> {
    let mut value = Value::empty(Kind::List);
    let nodes = if form == form::LIST_ZIPLIST {
        1
    } else {
        r.number()?
    };
    for _ in 0..nodes {
        let container = if form == form::LIST_QUICKLIST_2 {
            r.number()?
        } else {
            PACKED
        };
        if form == form::LIST || container == PLAIN {
            list::push(&mut value, End::Right, &r.element()?);
            continue;
        }
        let blob = r.string()?;
        let mut push = |element: &[u8]| {
            list::push(&mut value, End::Right, element);
            Ok(())
        };
        match (form, container) {
            (form::LIST_QUICKLIST_2, PACKED) => r.each(listpack::items(&blob)?, &mut push)?,
            (_, PACKED) => r.each(ziplist::items(&blob)?, &mut push)?,
            _ => return Err(Refused::Format),
        }
    }
    Ok(value)
}

pub fn save(w: &mut Writer, value: &Value) -> Result<(), Refused> {
    w.form(form::LIST_QUICKLIST_2);
    let mut nodes = Vec::new();
    let mut node = Builder::new();
    for element in list::iter(value, End::Left) {
        w.room.take(element.len())?;
        if !node.is_empty() && node.len() + element.len() + ELEMENT_BYTES > NODE_BYTES_MAX {
            nodes.push(std::mem::replace(&mut node, Builder::new()).finish());
        }
        node.push(&element);
    }
    nodes.push(node.finish());
    w.count(nodes.len());
    for node in nodes {
        w.number(PACKED);
        w.string(&node)?;
    }
    Ok(())
}
