//! Ways in for `fuzz/`: what nodes ask each other. Each ends in a value or an error.

use super::message::{Ask, Envelope, Told};
use crate::base::codec::decode;

/// A question or an answer.
pub fn ask(bytes: &[u8]) {
    let _ = decode::<Envelope<Ask>>(bytes);
    let _ = decode::<Told>(bytes);
}
