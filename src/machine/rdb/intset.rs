//! Intsets: numbers of equal width in ascending order.

use super::Refused;
use super::packing::widened;

const HEAD_BYTES: usize = 8;

/// # Errors
/// It is none.
pub fn read(blob: &[u8]) -> Result<impl Iterator<Item = i64> + '_, Refused> {
    let (width, rest) = blob.split_first_chunk::<4>().ok_or(Refused::Format)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(Refused::Format)?;
    let width = u32::from_le_bytes(*width) as usize;
    let count = u32::from_le_bytes(*count) as usize;
    if !matches!(width, 2 | 4 | 8) || width.checked_mul(count) != Some(rest.len()) {
        return Err(Refused::Format);
    }
    let numbers = rest.chunks_exact(width).map(widened);
    if numbers.clone().is_sorted_by(|a, b| a < b) {
        Ok(numbers)
    } else {
        Err(Refused::Format)
    }
}

/// Of numbers in ascending order.
pub fn write(numbers: &[i64]) -> Vec<u8> {
    let within = |low: i64, high: i64| numbers.iter().all(|n| (low..=high).contains(n));
    let width: u8 = if within(i16::MIN.into(), i16::MAX.into()) {
        2
    } else if within(i32::MIN.into(), i32::MAX.into()) {
        4
    } else {
        8
    };
    let mut blob = Vec::with_capacity(HEAD_BYTES + numbers.len() * usize::from(width));
    blob.extend_from_slice(&u32::from(width).to_le_bytes());
    blob.extend_from_slice(&u32::try_from(numbers.len()).unwrap_or(u32::MAX).to_le_bytes());
    for number in numbers {
        blob.extend_from_slice(&number.to_le_bytes()[..usize::from(width)]);
    }
    blob
}
