//! HyperLogLog: how many different elements there were, within about 0.81 %. Strings of the same form as Redis's, so that either reads
//! the other's.
//!
//! Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", 2007; the
//! estimate is that of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6.

use bytes::Bytes;
use murmur2::murmur64a;

use super::args::Args;
use super::{Done, View};
use crate::base::{Millis, Reply};
use crate::machine::overlay::Overlay;

const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are not its register's number.
const RUN_BITS: usize = 50;
const SEED: u64 = 0xadc8_3b19;

/// Magic, kind, three bytes that are not used, eight for an estimate that is kept (here never).
const HEADER: [u8; 16] = *b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80";
const KIND_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_BYTES: usize = REGISTERS * 6 / 8;
/// A longer sparse one is made dense.
const SPARSE_BYTES_MAX: usize = 3000;
/// A sparse one has no register beyond.
const SPARSE_VALUE_MAX: u8 = 32;

type Registers = Vec<u8>;

fn invalid() -> Reply {
    Reply::err("WRONGTYPE Key is not a valid HyperLogLog string value.")
}

fn corrupted() -> Reply {
    Reply::err("INVALIDOBJ Corrupted HLL object detected")
}

/// The registers that a string holds, and whether it is dense.
fn decode(bytes: &[u8]) -> Result<(Registers, bool), Reply> {
    let (header, body) = bytes.split_at_checked(HEADER.len()).ok_or_else(invalid)?;
    if header[..KIND_AT] != HEADER[..KIND_AT] || header[KIND_AT] > SPARSE {
        return Err(invalid());
    }
    if header[KIND_AT] == SPARSE {
        return Ok((decode_sparse(body)?, false));
    }
    if body.len() != DENSE_BYTES {
        return Err(invalid());
    }
    let register = |n: usize| {
        let (byte, shift) = (n * 6 / 8, n * 6 % 8);
        let low = u16::from(body[byte]);
        let high = body.get(byte + 1).map_or(0, |byte| u16::from(*byte));
        ((low | high << 8) >> shift & 63).to_le_bytes()[0]
    };
    Ok(((0..REGISTERS).map(register).collect(), true))
}

/// Runs: `00zzzzzz` of zeros, `01zzzzzz zzzzzzzz` of many, `1vvvvvrr` of one value; each stands for one more than it says.
fn decode_sparse(mut body: &[u8]) -> Result<Registers, Reply> {
    let mut registers = Vec::with_capacity(REGISTERS);
    while let Some((first, rest)) = body.split_first() {
        body = rest;
        let (value, run) = match first >> 6 {
            0 => (0, usize::from(first & 63)),
            1 => {
                let (low, rest) = body.split_first().ok_or_else(corrupted)?;
                body = rest;
                (0, usize::from(first & 63) << 8 | usize::from(*low))
            }
            _ => ((first >> 2 & 31) + 1, usize::from(first & 3)),
        };
        if registers.len() + run + 1 > REGISTERS {
            return Err(corrupted());
        }
        registers.resize(registers.len() + run + 1, value);
    }
    if registers.len() == REGISTERS {
        Ok(registers)
    } else {
        Err(corrupted())
    }
}

/// `None`: not as a sparse one.
fn encode_sparse(registers: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = HEADER.to_vec();
    bytes[KIND_AT] = SPARSE;
    for run in registers.chunk_by(|a, b| a == b) {
        let (value, mut left) = (run[0], run.len());
        if value > SPARSE_VALUE_MAX {
            return None;
        }
        while left > 0 {
            let most = match value {
                0 => REGISTERS,
                _ => 4,
            };
            let run = left.min(most);
            left -= run;
            let [low, high, ..] = (run - 1).to_le_bytes();
            match value {
                0 if run <= 64 => bytes.push(low),
                0 => bytes.extend([0x40 | high, low]),
                value => bytes.push(0x80 | (value - 1) << 2 | low),
            }
        }
        if bytes.len() > SPARSE_BYTES_MAX + HEADER.len() {
            return None;
        }
    }
    Some(bytes)
}

fn encode(registers: &[u8], dense: bool) -> Vec<u8> {
    let sparse = if dense { None } else { encode_sparse(registers) };
    sparse.unwrap_or_else(|| {
        let mut bytes = HEADER.to_vec();
        bytes.resize(HEADER.len() + DENSE_BYTES, 0);
        bytes[KIND_AT] = DENSE;
        let body = &mut bytes[HEADER.len()..];
        for (n, register) in registers.iter().enumerate() {
            let (byte, shift) = (n * 6 / 8, n * 6 % 8);
            let [low, high] = (u16::from(*register) << shift).to_le_bytes();
            body[byte] |= low;
            if let Some(next) = body.get_mut(byte + 1) {
                *next |= high;
            }
        }
        bytes
    })
}

/// The register of an element, and how long the run of zeros in its hash is, counted from one.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, SEED);
    let register = usize::try_from(hash & (REGISTERS as u64 - 1)).unwrap_or(0);
    let run = (hash >> INDEX_BITS | 1 << RUN_BITS).trailing_zeros() + 1;
    (register, u8::try_from(run).unwrap_or(u8::MAX))
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before.to_bits() == z.to_bits() {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before.to_bits() == z.to_bits() {
            return z / 3.0;
        }
    }
}

fn estimate(registers: &[u8]) -> i64 {
    /// 1 / (2 ln 2).
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let mut histogram = [0_u32; 64];
    for register in registers {
        histogram[usize::from(*register & 63)] += 1;
    }
    let m = f64::from(1_u32 << INDEX_BITS);
    let mut z = m * tau((m - f64::from(histogram[RUN_BITS + 1])) / m);
    for count in histogram[1..=RUN_BITS].iter().rev() {
        z = (z + f64::from(*count)) * 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    #[expect(clippy::cast_possible_truncation, reason = "no estimate is beyond 2^64 / 14")]
    let rounded = (ALPHA * m * m / z).round() as i64;
    rounded
}

type Found = (Registers, bool, Option<Millis>);

fn read(view: &Overlay<'_>, key: &Bytes) -> Result<Option<Found>, Reply> {
    let Some(blob) = view.get_str(key)? else {
        return Ok(None);
    };
    let (registers, dense) = decode(blob)?;
    let expires = view.get(key).and_then(|(_, expires)| expires);
    Ok(Some((registers, dense, expires)))
}

pub fn pfadd(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let found = read(view, &key)?;
    let mut changed = found.is_none();
    let (mut registers, dense, expires) = found.unwrap_or_else(|| (vec![0; REGISTERS], false, None));
    for element in a.all() {
        let (register, run) = place(&element);
        if run > registers[register] {
            registers[register] = run;
            changed = true;
        }
    }
    if changed {
        view.put_str(&key, &encode(&registers, dense), expires);
    }
    Ok(Reply::Int(i64::from(changed)))
}

/// All of them together, and whether one is dense.
fn united(view: &Overlay<'_>, keys: &[Bytes]) -> Result<(Registers, bool), Reply> {
    let (mut all, mut any_dense) = (vec![0; REGISTERS], false);
    for key in keys {
        let Some((registers, dense, _)) = read(view, key)? else {
            continue;
        };
        any_dense |= dense;
        for (most, other) in all.iter_mut().zip(registers) {
            *most = other.max(*most);
        }
    }
    Ok((all, any_dense))
}

pub fn pfcount(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (registers, _) = united(view, &a.all())?;
    Ok(Reply::Int(estimate(&registers)))
}

pub fn pfmerge(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let keys = a.all();
    let to = keys.first().ok_or_else(Reply::syntax)?;
    let (registers, dense) = united(view, &keys)?;
    let expires = view.get(to).and_then(|(_, expires)| expires);
    view.put_str(to, &encode(&registers, dense), expires);
    Ok(Reply::ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_and_damaged_ones_are_refused() {
        let mut registers = vec![0; REGISTERS];
        for n in 0..20_000_u32 {
            if n.is_power_of_two() || n % 5000 == 0 {
                let (at, run) = place(&n.to_le_bytes());
                registers[at] = registers[at].max(run);
            }
            registers[REGISTERS - 1] = 3;
        }
        let sparse = encode(&registers, false);
        assert!(sparse.len() < 200);
        assert_eq!(decode(&sparse), Ok((registers.clone(), false)));
        let dense = encode(&registers, true);
        assert_eq!(dense.len(), HEADER.len() + DENSE_BYTES);
        assert_eq!(decode(&dense), Ok((registers.clone(), true)));
        registers[7] = SPARSE_VALUE_MAX + 1;
        let (read, dense) = decode(&encode(&registers, false)).expect("it is one");
        assert!(
            dense && read == registers,
            "what no sparse one holds makes it dense"
        );
        for cut in [0, 3, 15, 16, sparse.len() - 1] {
            assert!(decode(&sparse[..cut]).is_err(), "cut at {cut}");
        }
        assert!(
            decode(&[&sparse[..], &[0]].concat()).is_err(),
            "too many registers"
        );
    }

    #[test]
    fn estimates_are_as_good_as_they_are_said_to_be() {
        let mut registers = vec![0; REGISTERS];
        let mut seen = 0_i64;
        for most in [0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000] {
            while seen < most {
                let (at, run) = place(&seen.to_le_bytes());
                registers[at] = registers[at].max(run);
                seen += 1;
            }
            let off = (estimate(&registers) - most).abs();
            assert!(
                off * 100 <= most * 3,
                "{most} is told as {}",
                estimate(&registers)
            );
        }
    }
}
