//! Numbers with a fraction as text.

/// A number as C's `printf("%.17g")` shows it, which is how Redis 7.0 does.
#[must_use]
pub fn general(number: f64) -> String {
    general_with(number, 17)
}

/// A number with so many significant digits, as C's `printf("%.{digits}g")` shows it.
#[must_use]
pub fn general_with(number: f64, digits: i32) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let places = usize::try_from(digits - 1).unwrap_or(0);
    let scientific = format!("{number:.places$e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..digits).contains(&exponent) {
        let decimals = usize::try_from(digits - 1 - exponent).unwrap_or(0);
        return trimmed(&format!("{number:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::{general, general_with};

    #[test]
    fn numbers_are_shown_as_c_shows_them() {
        // Made with printf("%.17g").
        let cases = [
            (0.1, "0.10000000000000001"),
            (3.0, "3"),
            (-2.5, "-2.5"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (123_456_789.125, "123456789.125"),
            (-0.0, "-0"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, text) in cases {
            assert_eq!(general(number), text);
        }
        let shorter = [
            (1.0 / 3.0, "0.33333333333333"),
            (1e15, "1e+15"),
            (0.1, "0.1"),
            (99_999_999_999_999.0, "99999999999999"),
        ];
        for (number, text) in shorter {
            assert_eq!(general_with(number, 14), text);
        }
    }
}
