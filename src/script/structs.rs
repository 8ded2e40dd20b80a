//! `struct`: values as bytes by a format, with the rules of lua_struct.
//!
//! ```text
//!  > < = ! n   order of bytes, alignment         b B h H l L T i I n   integers, signed and not
//!  x           a byte of padding                 f d                   numbers with a fraction
//!  s           text with a zero behind it        c n                   n bytes; c0: as many as the number before says
//! ```

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::convert::{argument, located, number as number_of};

/// Bytes of the largest integer, and of the largest alignment that is there by itself.
const INTEGER_BYTES_MAX: usize = 32;
const ALIGN_BYTES: usize = 8;

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.set("pack", lua.create_function(pack)?)?;
    let unpack = lua.create_function(|lua, args: MultiValue| unpack(lua, &args))?;
    library.set("unpack", unpack)?;
    let size = lua.create_function(|lua, args: MultiValue| size(lua, &args))?;
    library.set("size", size)?;
    Ok(library)
}

/// A format as it is read.
struct Format<'a> {
    lua: &'a Lua,
    function: &'static str,
    rest: &'a [u8],
    big: bool,
    align: usize,
}

/// A letter of a format, and how many bytes it is about.
struct Item {
    letter: u8,
    bytes: usize,
    /// Bytes before it, so that it is aligned.
    padding: usize,
}

impl<'a> Format<'a> {
    fn new(lua: &'a Lua, function: &'static str, format: &'a [u8]) -> Format<'a> {
        Format {
            lua,
            function,
            rest: format.split(|&byte| byte == 0).next().unwrap_or_default(),
            big: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    fn argument(&self, place: usize, why: &str) -> mlua::Error {
        let function = self.function;
        located(
            self.lua,
            &format!("bad argument #{place} to '{function}' ({why})"),
        )
    }

    fn number(&mut self, otherwise: usize) -> mlua::Result<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(digits);
        self.rest = rest;
        if digits.is_empty() {
            return Ok(otherwise);
        }
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<i32>().ok());
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| located(self.lua, "integral size overflow"))
    }

    /// The next letter, at this place; letters that only set something are done then.
    fn next(&mut self, at: usize) -> mlua::Result<Option<Item>> {
        while let Some((&letter, rest)) = self.rest.split_first() {
            self.rest = rest;
            let bytes = match letter {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'f' => 4,
                b'l' | b'L' | b'T' | b'd' => 8,
                b'c' => self.number(1)?,
                b's' => 0,
                b'i' | b'I' => {
                    let bytes = self.number(4)?;
                    if bytes > INTEGER_BYTES_MAX {
                        let why =
                            format!("integral size {bytes} is larger than limit of {INTEGER_BYTES_MAX}");
                        return Err(located(self.lua, &why));
                    }
                    bytes
                }
                other => {
                    self.control(other)?;
                    continue;
                }
            };
            let padding = match (letter, bytes.min(self.align)) {
                (b'c', _) | (_, 0) => 0,
                (_, size) => (size - (at & (size - 1))) & (size - 1),
            };
            return Ok(Some(Item {
                letter,
                bytes,
                padding,
            }));
        }
        Ok(None)
    }

    fn control(&mut self, letter: u8) -> mlua::Result<()> {
        match letter {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let align = self.number(ALIGN_BYTES)?;
                if !align.is_power_of_two() {
                    let why = format!("alignment {align} is not a power of 2");
                    return Err(located(self.lua, &why));
                }
                self.align = align;
            }
            other => {
                let why = format!("invalid format option '{}'", char::from(other));
                return Err(self.argument(1, &why));
            }
        }
        Ok(())
    }

    /// Least significant byte first, or turned around.
    fn ordered(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.big {
            bytes.reverse();
        }
        bytes
    }

    fn of_number(&self, item: &Item, number: f64) -> Vec<u8> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "as in C, where it fits; what does not is cut off"
        )]
        let bytes = match item.letter {
            b'f' => (number as f32).to_le_bytes().to_vec(),
            b'd' => number.to_le_bytes().to_vec(),
            _ if number < 0.0 => (number as i64).cast_unsigned().to_le_bytes().to_vec(),
            _ => (number as u64).to_le_bytes().to_vec(),
        };
        let mut bytes = bytes;
        bytes.resize(item.bytes, 0);
        self.ordered(bytes)
    }

    fn to_number(&self, item: &Item, bytes: &[u8]) -> f64 {
        let mut bytes = self.ordered(bytes.to_vec());
        let four = bytes.first_chunk().copied().unwrap_or_default();
        bytes.resize(8, 0);
        let eight: [u8; 8] = bytes.first_chunk().copied().unwrap_or_default();
        let number = u64::from_le_bytes(eight);
        #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has no integers")]
        match item.letter {
            b'f' => f64::from(f32::from_le_bytes(four)),
            b'd' => f64::from_le_bytes(eight),
            b'B' | b'H' | b'L' | b'T' | b'I' => number as f64,
            _ => {
                let unused = 64_usize.saturating_sub(item.bytes * 8).min(63);
                (number.cast_signed() << unused >> unused) as f64
            }
        }
    }
}

fn text(format: &Format<'_>, args: &MultiValue, place: usize) -> mlua::Result<Vec<u8>> {
    let text = args.get(place - 1).and_then(argument);
    text.map(Vec::from).ok_or_else(|| {
        let found = args.get(place - 1).map_or("no value", Value::type_name);
        format.argument(place, &format!("string expected, got {found}"))
    })
}

fn number(format: &Format<'_>, args: &MultiValue, place: usize) -> mlua::Result<f64> {
    let number = args.get(place - 1).and_then(number_of);
    number.ok_or_else(|| {
        let found = args.get(place - 1).map_or("no value", Value::type_name);
        format.argument(place, &format!("number expected, got {found}"))
    })
}

fn first(lua: &Lua, function: &'static str, args: &MultiValue) -> mlua::Result<Vec<u8>> {
    text(&Format::new(lua, function, b""), args, 1)
}

fn pack(lua: &Lua, mut args: MultiValue) -> mlua::Result<LuaString> {
    let format = first(lua, "pack", &args)?;
    // In Redis there is one behind the last.
    args.push_back(Value::Nil);
    let mut format = Format::new(lua, "pack", &format);
    let (mut bytes, mut place) = (Vec::new(), 1);
    while let Some(item) = format.next(bytes.len())? {
        bytes.resize(bytes.len() + item.padding, 0);
        match item.letter {
            b'x' => bytes.push(0),
            b'c' | b's' => {
                place += 1;
                let text = text(&format, &args, place)?;
                let wanted = if item.bytes == 0 { text.len() } else { item.bytes };
                let taken = text.get(..wanted);
                // Redis counts one further.
                bytes.extend_from_slice(taken.ok_or_else(|| format.argument(place + 1, "string too short"))?);
                if item.letter == b's' {
                    bytes.push(0);
                }
            }
            _ => {
                place += 1;
                let number = number(&format, &args, place)?;
                bytes.extend(format.of_number(&item, number));
            }
        }
    }
    lua.create_string(bytes)
}

fn unpack(lua: &Lua, args: &MultiValue) -> mlua::Result<MultiValue> {
    let format = first(lua, "unpack", args)?;
    let mut format = Format::new(lua, "unpack", &format);
    let data = text(&format, args, 2)?;
    let from = match args.get(2) {
        None | Some(Value::Nil) => 1.0,
        Some(_) => number(&format, args, 3)?,
    };
    if from < 1.0 {
        return Err(format.argument(3, "offset must be 1 or greater"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut off, and at least 1"
    )]
    let mut at = from as usize - 1;
    let mut values = MultiValue::new();
    while let Some(item) = format.next(at)? {
        at += item.padding;
        let rest = data.get(at..).unwrap_or_default();
        let short = |format: &Format<'_>| format.argument(2, "data string too short");
        let mut bytes = rest.get(..item.bytes).ok_or_else(|| short(&format))?;
        if at > data.len() {
            return Err(short(&format));
        }
        let value = match item.letter {
            b'x' => None,
            b'c' => {
                if item.bytes == 0 {
                    let wanted = values.pop_back().as_ref().and_then(number_of);
                    let wanted = wanted.ok_or_else(|| located(lua, "format 'c0' needs a previous size"))?;
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut off")]
                    let wanted = wanted as usize;
                    bytes = rest.get(..wanted).ok_or_else(|| short(&format))?;
                }
                Some(Value::String(lua.create_string(bytes)?))
            }
            b's' => {
                let end = rest.iter().position(|&byte| byte == 0);
                let end = end.ok_or_else(|| located(lua, "unfinished string in data"))?;
                bytes = &rest[..=end];
                Some(Value::String(lua.create_string(&rest[..end])?))
            }
            _ => Some(Value::Number(format.to_number(&item, bytes))),
        };
        at += bytes.len();
        values.extend(value);
    }
    #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has no integers")]
    values.push_back(Value::Number((at + 1) as f64));
    Ok(values)
}

fn size(lua: &Lua, args: &MultiValue) -> mlua::Result<usize> {
    let format = first(lua, "size", args)?;
    let mut format = Format::new(lua, "size", &format);
    let mut bytes: usize = 0;
    while let Some(item) = format.next(bytes)? {
        match (item.letter, item.bytes) {
            (b's', _) => return Err(format.argument(1, "option 's' has no fixed size")),
            (b'c', 0) => return Err(format.argument(1, "option 'c0' has no fixed size")),
            _ => bytes += item.padding + item.bytes,
        }
    }
    Ok(bytes)
}
