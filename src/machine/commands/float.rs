//! Numbers with a fraction: adding them to others that stand as text, and scores.

use rust_decimal::Decimal;

use super::args::parse_f64;
use crate::base::Reply;
use crate::machine::values::zset::Score;

pub fn not_a_float() -> Reply {
    Reply::err("ERR value is not a valid float")
}

pub fn not_finite() -> Reply {
    Reply::err("ERR increment would produce NaN or Infinity")
}

/// A number that a double can hold: what is too large or too small is none, as in Redis.
pub fn double(text: &[u8]) -> Option<f64> {
    let number = parse_f64(text)?;
    let is_word = text.iter().any(|byte| matches!(byte, b'i' | b'I' | b'x' | b'X'));
    let mut mantissa = text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let lost = number.is_infinite() || number == 0.0 && mantissa.any(|digit| matches!(digit, b'1'..=b'9'));
    (is_word || !lost).then_some(number)
}

/// # Errors
/// It is none.
pub fn score(text: &[u8]) -> Result<Score, Reply> {
    let number = double(text).ok_or_else(not_a_float)?;
    Score::new(number).map_err(|_| not_a_float())
}

/// Adds two numbers given as text, in decimal where that is exact (Redis has 80-bit floats, which print the same),
/// else as doubles. Empty: not a finite number. `None`: one of them is no number.
pub fn add(a: &[u8], b: &[u8]) -> Option<String> {
    let (x, y) = (parse_f64(a)?, parse_f64(b)?);
    let decimal = |text: &[u8]| {
        let text = std::str::from_utf8(text).ok()?;
        Decimal::from_str_exact(text)
            .or_else(|_| Decimal::from_scientific(text))
            .ok()
    };
    if let (Some(x), Some(y)) = (decimal(a), decimal(b))
        && let Some(sum) = x.checked_add(y)
    {
        let sum = sum.round_dp(17).normalize();
        return Some(if sum.is_zero() {
            "0".into()
        } else {
            sum.to_string()
        });
    }
    let sum = x + y;
    Some(if sum.is_finite() {
        sum.to_string()
    } else {
        String::new()
    })
}
