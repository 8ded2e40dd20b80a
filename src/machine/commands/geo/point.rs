//! Places on a sphere, and the numbers of 52 bits that stand for them as scores: the bits of latitude and longitude in turn, as in
//! Redis, so that what lies in one square has one prefix.

// Not the platform's: replicas on different ones must come to the same distances.
use libm::{asin, cos, sin};

use crate::base::Reply;

/// Redis's, for the haversine formula.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
pub const LONGITUDE_MAX: f64 = 180.0;
/// As far as Web Mercator goes (EPSG:3857).
pub const LATITUDE_MAX: f64 = 85.051_128_78;
/// Bits of each of the two.
pub const STEPS: u32 = 26;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// Takes the bits of a number apart, a zero after each.
fn spread(number: u32) -> u64 {
    (0..32).fold(0, |spread, bit| {
        spread | u64::from(number >> bit & 1) << (2 * bit)
    })
}

/// The other way round.
fn gather(bits: u64) -> u32 {
    (0..32).fold(0, |number, bit| {
        number | u32::from(bits >> (2 * bit) & 1 == 1) << bit
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within 0 and 2^26, and cut as Redis does"
)]
fn cell(at: f64, most: f64, steps: u32) -> u32 {
    let cells = f64::from(1_u32 << steps);
    (((at + most) / (2.0 * most)) * cells) as u32
}

/// Bits of two cells in turn.
pub fn interleaved(longitude: u32, latitude: u32) -> u64 {
    spread(latitude) | spread(longitude) << 1
}

/// The middle of a cell.
fn middle(cell: u32, most: f64) -> f64 {
    let cells = f64::from(1_u32 << STEPS);
    let edge = |cell: f64| -most + (cell / cells) * (2.0 * most);
    let middle = f64::midpoint(edge(f64::from(cell)), edge(f64::from(cell) + 1.0));
    middle.clamp(-most, most)
}

impl Point {
    /// # Errors
    /// It is not on the map.
    pub fn new(longitude: f64, latitude: f64) -> Result<Point, Reply> {
        let on_map = longitude.abs() <= LONGITUDE_MAX && latitude.abs() <= LATITUDE_MAX;
        let point = Point { longitude, latitude };
        on_map.then_some(point).ok_or_else(|| {
            Reply::err(format!(
                "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
            ))
        })
    }

    fn bits(self, latitude_max: f64) -> u64 {
        let longitude = cell(self.longitude, LONGITUDE_MAX, STEPS);
        interleaved(longitude, cell(self.latitude, latitude_max, STEPS))
    }

    pub fn score(self) -> u64 {
        self.bits(LATITUDE_MAX)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is no place is some place, as in Redis"
    )]
    pub fn of_score(score: f64) -> Point {
        let bits = score as u64;
        Point {
            longitude: middle(gather(bits >> 1) & ((1 << STEPS) - 1), LONGITUDE_MAX),
            latitude: middle(gather(bits) & ((1 << STEPS) - 1), LATITUDE_MAX),
        }
    }

    /// As everybody else's geohashes: eleven letters, with latitudes up to the poles.
    pub fn letters(self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = self.bits(90.0);
        let letter = |n: u32| {
            // Of the last letter there are two bits, which Redis does not tell.
            let five = if n == 10 {
                0
            } else {
                bits >> (52 - (n + 1) * 5) & 31
            };
            char::from(ALPHABET[usize::try_from(five).unwrap_or(0)])
        };
        (0..11).map(letter).collect()
    }

    /// In metres: haversine.
    pub fn distance(self, other: Point) -> f64 {
        let v = sin((other.longitude.to_radians() - self.longitude.to_radians()) / 2.0);
        if v == 0.0 {
            return self.distance_north(other);
        }
        let (here, there) = (self.latitude.to_radians(), other.latitude.to_radians());
        let u = sin((there - here) / 2.0);
        let a = u * u + cos(here) * cos(there) * v * v;
        2.0 * EARTH_RADIUS * asin(a.sqrt())
    }

    /// Along a meridian.
    pub fn distance_north(self, other: Point) -> f64 {
        EARTH_RADIUS * (other.latitude.to_radians() - self.latitude.to_radians()).abs()
    }

    /// Ranges of scores in which all that lies within `metres` is: squares, few enough, as small as they can be.
    pub fn scores_around(self, metres: f64) -> Vec<(u64, u64)> {
        let angle = metres / EARTH_RADIUS;
        let north = angle.to_degrees();
        let lean = sin(angle) / cos(self.latitude.to_radians());
        let over_pole = self.latitude.abs() + north >= 90.0 || lean >= 1.0;
        let east = if over_pole {
            LONGITUDE_MAX
        } else {
            asin(lean).to_degrees()
        };
        // A little more, for what is lost in rounding.
        let (north, east) = (north * 1.000_001 + 1e-6, east * 1.000_001 + 1e-6);
        let fits = |steps: &u32| {
            let cells = f64::from(1_u32 << steps);
            2.0 * east <= 2.0 * 2.0 * LONGITUDE_MAX / cells && 2.0 * north <= 2.0 * 2.0 * LATITUDE_MAX / cells
        };
        let steps = (1..=STEPS).rev().find(fits).unwrap_or(1);
        let shift = 2 * (STEPS - steps);
        let mut squares = Vec::new();
        let last = (1_u32 << steps) - 1;
        let lowest = (self.latitude - north).max(-LATITUDE_MAX);
        let highest = (self.latitude + north).min(LATITUDE_MAX);
        let rows = cell(lowest, LATITUDE_MAX, steps)..=cell(highest, LATITUDE_MAX, steps).min(last);
        for latitude in rows {
            for longitude in columns(self.longitude, east, steps, last) {
                let bits = interleaved(longitude, latitude);
                squares.push((bits << shift, (bits + 1) << shift));
            }
        }
        squares.sort_unstable();
        squares.dedup();
        squares
    }
}

/// Columns of squares from west to east of a longitude, round the world if need be.
fn columns(longitude: f64, east: f64, steps: u32, last: u32) -> Vec<u32> {
    if east >= LONGITUDE_MAX {
        return (0..=last).collect();
    }
    let around = |at: f64| {
        let at = if at > LONGITUDE_MAX {
            at - 2.0 * LONGITUDE_MAX
        } else if at < -LONGITUDE_MAX {
            at + 2.0 * LONGITUDE_MAX
        } else {
            at
        };
        cell(at, LONGITUDE_MAX, steps).min(last)
    };
    let (first, end) = (around(longitude - east), around(longitude + east));
    if first <= end {
        (first..=end).collect()
    } else {
        (first..=last).chain(0..=end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_within_is_in_the_squares_also_at_the_edges_of_the_map() {
        let mut state = 7_u64;
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            f64::from((state >> 33) as u32) / f64::from(u32::MAX >> 1)
        };
        let mut within = 0;
        for n in 0..60_000 {
            let metres = 10_f64.powf(1.0 + 6.3 * unit());
            let edge = if n % 3 == 0 { 0.999 } else { 0.0 };
            let center = Point {
                longitude: (edge + (1.0 - edge) * (2.0 * unit() - 1.0)) * LONGITUDE_MAX,
                latitude: (2.0 * unit() - 1.0) * LATITUDE_MAX,
            };
            let reach = (metres / 100_000.0).min(60.0);
            let far = center.longitude + (2.0 * unit() - 1.0) * reach * 3.0;
            let other = Point {
                longitude: if far > 180.0 {
                    far - 360.0
                } else if far < -180.0 {
                    far + 360.0
                } else {
                    far
                },
                latitude: (center.latitude + (2.0 * unit() - 1.0) * reach).clamp(-LATITUDE_MAX, LATITUDE_MAX),
            };
            let other = Point::of_score(other.score() as f64);
            let squares = center.scores_around(metres);
            assert!(squares.len() <= 16, "{} squares for {metres} m", squares.len());
            if center.distance(other) <= metres {
                within += 1;
                let score = other.score();
                assert!(
                    squares.iter().any(|(from, to)| (*from..*to).contains(&score)),
                    "{other:?} is within {metres} m of {center:?}"
                );
            }
        }
        assert!(within > 5000, "{within} were within");
    }
}
