//! GEOSEARCH and its older forms.

use bytes::Bytes;
use smallvec::SmallVec;

use super::point::Point;
use super::{coordinates, distance, float, place, point, unit};
use crate::base::Reply;
use crate::machine::commands::args::{Args, parse_i64};
use crate::machine::commands::{Done, View, zsets};
use crate::machine::overlay::Overlay;
use crate::machine::values::Value;
use crate::machine::values::zset::{self, Score};

#[derive(Debug, Clone)]
enum From {
    Member(Bytes),
    Point(Point),
}

/// In metres.
#[derive(Debug, Clone, Copy)]
enum By {
    Radius(f64),
    Box { width: f64, height: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Nearest,
    Farthest,
}

#[allow(clippy::struct_excessive_bools)] // Each is a word of the command.
#[derive(Debug)]
struct Search {
    key: Bytes,
    from: Option<From>,
    by: Option<By>,
    /// Metres of the unit that distances are told in.
    unit: f64,
    with_coordinates: bool,
    with_distance: bool,
    with_hash: bool,
    order: Order,
    count: Option<usize>,
    any: bool,
    store: Option<Bytes>,
    store_distance: bool,
}

/// Which options there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `GEOSEARCH`, and with a destination in front `GEOSEARCHSTORE`.
    Search { store: bool },
    /// `GEORADIUS…`, which may store unless it only reads.
    Radius { may_store: bool },
}

struct Found {
    member: Bytes,
    point: Point,
    distance: f64,
    score: Score,
}

fn numeric(text: &[u8], what: &str) -> Result<f64, Reply> {
    float(text).map_err(|_| Reply::err(format!("ERR need numeric {what}")))
}

fn radius(a: &mut Args<'_>) -> Result<(By, f64), Reply> {
    let radius = numeric(a.value()?, "radius")?;
    if radius < 0.0 {
        return Err(Reply::err("ERR radius cannot be negative"));
    }
    let unit = unit(a.value()?)?;
    Ok((By::Radius(radius * unit), unit))
}

impl Search {
    fn new(key: Bytes) -> Search {
        Search {
            key,
            from: None,
            by: None,
            unit: 1.0,
            with_coordinates: false,
            with_distance: false,
            with_hash: false,
            order: Order::None,
            count: None,
            any: false,
            store: None,
            store_distance: false,
        }
    }

    /// Takes the option `word`, if it says where is searched.
    fn take_place(&mut self, word: &str, view: &Overlay<'_>, a: &mut Args<'_>) -> Result<bool, Reply> {
        match word {
            "FROMMEMBER" | "FROMLONLAT" if self.from.is_some() => return Ok(false),
            "FROMMEMBER" if a.remaining() >= 1 => {
                self.from = Some(From::Member(a.key()?));
                check_member(view, self)?;
            }
            "FROMLONLAT" if a.remaining() >= 2 => self.from = Some(From::Point(point(a.next()?, a.next()?)?)),
            "BYRADIUS" if a.remaining() >= 2 && self.by.is_none() => {
                let (by, unit) = radius(a)?;
                (self.by, self.unit) = (Some(by), unit);
            }
            "BYBOX" if a.remaining() >= 3 && self.by.is_none() => {
                let (width, height) = (numeric(a.next()?, "width")?, numeric(a.next()?, "height")?);
                if width < 0.0 || height < 0.0 {
                    return Err(Reply::err("ERR height or width cannot be negative"));
                }
                self.unit = unit(a.next()?)?;
                let (width, height) = (width * self.unit, height * self.unit);
                self.by = Some(By::Box { width, height });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn options(&mut self, view: &Overlay<'_>, a: &mut Args<'_>, form: Form) -> Result<(), Reply> {
        while let Some(word) = a.word() {
            match word.as_str() {
                "WITHCOORD" => self.with_coordinates = true,
                "WITHDIST" => self.with_distance = true,
                "WITHHASH" => self.with_hash = true,
                "ANY" => self.any = true,
                "ASC" => self.order = Order::Nearest,
                "DESC" => self.order = Order::Farthest,
                "COUNT" if a.remaining() >= 1 => {
                    let count = parse_i64(a.next()?).ok_or_else(Reply::not_an_integer)?;
                    let count = usize::try_from(count).ok().filter(|count| *count > 0);
                    self.count = Some(count.ok_or_else(|| Reply::err("ERR COUNT must be > 0"))?);
                }
                "STORE" | "STOREDIST" if form == (Form::Radius { may_store: true }) && a.remaining() >= 1 => {
                    self.store = Some(a.key()?);
                    self.store_distance = word == "STOREDIST";
                }
                "STOREDIST" if form == (Form::Search { store: true }) => self.store_distance = true,
                other if matches!(form, Form::Search { .. }) && self.take_place(other, view, a)? => {}
                _ => return Err(Reply::syntax()),
            }
        }
        self.check(&a.name().to_ascii_uppercase(), form)
    }

    fn check(&self, name: &str, form: Form) -> Result<(), Reply> {
        if self.store.is_some() && (self.with_coordinates || self.with_distance || self.with_hash) {
            let what = match form {
                Form::Search { .. } => "GEOSEARCHSTORE",
                Form::Radius { .. } => "STORE option in GEORADIUS",
            };
            return Err(Reply::err(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if self.from.is_none() {
            return Err(Reply::err(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if self.by.is_none() {
            return Err(Reply::err(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if self.any && self.count.is_none() {
            return Err(Reply::err("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn found(&self, value: &Value, center: Point) -> Vec<Found> {
        let (Some(by), enough) = (self.by, self.count.filter(|_| self.any)) else {
            return Vec::new();
        };
        // A box lies within the circle of half its sides.
        let reach = match by {
            By::Radius(radius) => radius,
            By::Box { width, height } => f64::midpoint(width, height),
        };
        let mut found = Vec::new();
        for (from, to) in center.scores_around(reach) {
            let before = |limit: u64| {
                #[expect(clippy::cast_precision_loss, reason = "it has 52 bits")]
                let limit = limit as f64;
                zset::partition_point(value, |score, _| score.into_inner() < limit)
            };
            for (member, score) in zset::range(value, before(from)..before(to)) {
                let point = Point::of_score(score.into_inner());
                let Some(distance) = within(by, center, point) else {
                    continue;
                };
                let member = member.to_bytes();
                found.push(Found {
                    member,
                    point,
                    distance,
                    score,
                });
                if enough.is_some_and(|enough| found.len() >= enough) {
                    return found;
                }
            }
        }
        found
    }

    fn sorted(&self, mut found: Vec<Found>) -> Vec<Found> {
        let order = match self.order {
            Order::None if self.count.is_some() && !self.any => Order::Nearest,
            order => order,
        };
        match order {
            Order::None => {}
            Order::Nearest => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Order::Farthest => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        }
        found.truncate(self.count.unwrap_or(usize::MAX));
        found
    }

    fn reply(&self, found: Found) -> Reply {
        let member = Reply::Bulk(found.member);
        let mut parts = vec![member];
        if self.with_distance {
            parts.push(distance(found.distance, self.unit));
        }
        if self.with_hash {
            #[expect(clippy::cast_possible_truncation, reason = "it has 52 bits")]
            let score = found.score.into_inner() as i64;
            parts.push(Reply::Int(score));
        }
        if self.with_coordinates {
            parts.push(coordinates(found.point));
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => Reply::Array(parts.into_iter().chain(last).collect()),
        }
    }

    fn run(self, view: View<'_, '_>) -> Done {
        let found = match zsets::read(view, &self.key)? {
            None => Vec::new(),
            Some(value) => {
                let center = match &self.from {
                    Some(From::Point(point)) => Some(*point),
                    Some(From::Member(member)) => place(Some(value), member),
                    None => None,
                };
                let center =
                    center.ok_or_else(|| Reply::err("ERR could not decode requested zset member"))?;
                self.sorted(self.found(value, center))
            }
        };
        let Some(to) = &self.store else {
            let found = found.into_iter().map(|found| self.reply(found));
            return Ok(Reply::Array(found.collect()));
        };
        store(view, to, &found, self.store_distance.then_some(self.unit))
    }
}

/// Stores members with their scores, or with their distances in a unit.
fn store(view: View<'_, '_>, to: &Bytes, found: &[Found], unit: Option<f64>) -> Done {
    view.remove(to);
    let mut all = Vec::new();
    for one in found {
        let score = match unit {
            Some(unit) => Score::new(one.distance / unit).map_err(|_| super::super::float::not_a_float())?,
            None => one.score,
        };
        all.push((&one.member[..], score));
    }
    if !all.is_empty() {
        view.put(to, zset::of(all), None);
    }
    Ok(Reply::count(found.len()))
}

fn within(by: By, center: Point, point: Point) -> Option<f64> {
    let distance = center.distance(point);
    match by {
        By::Radius(radius) => (distance <= radius).then_some(distance),
        By::Box { width, height } => {
            if center.distance_north(point) > height / 2.0 {
                return None;
            }
            let same_latitude = Point {
                longitude: center.longitude,
                latitude: point.latitude,
            };
            (point.distance(same_latitude) <= width / 2.0).then_some(distance)
        }
    }
}

pub fn geosearch(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let mut search = Search::new(a.key()?);
    zsets::read(view, &search.key)?;
    search.options(view, a, Form::Search { store: false })?;
    search.run(view)
}

pub fn geosearchstore(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let to = a.key()?;
    let mut search = Search::new(a.key()?);
    search.store = Some(to);
    zsets::read(view, &search.key)?;
    search.options(view, a, Form::Search { store: true })?;
    search.run(view)
}

fn around(view: View<'_, '_>, a: &mut Args<'_>, may_store: bool, by_member: bool) -> Done {
    let mut search = Search::new(a.key()?);
    // The type comes before all else.
    zsets::read(view, &search.key)?;
    search.from = Some(if by_member {
        From::Member(a.key()?)
    } else {
        From::Point(point(a.next()?, a.next()?)?)
    });
    check_member(view, &search)?;
    if by_member && zsets::read(view, &search.key)?.is_none() {
        // As in Redis: what is not searched may have any size.
        a.next()?;
        a.next()?;
        search.by = Some(By::Radius(0.0));
    } else {
        let (by, unit) = radius(a)?;
        (search.by, search.unit) = (Some(by), unit);
    }
    search.options(view, a, Form::Radius { may_store })?;
    search.run(view)
}

/// A member that is not there is said before the radius is read.
fn check_member(view: &Overlay<'_>, search: &Search) -> Result<(), Reply> {
    match (zsets::read(view, &search.key)?, &search.from) {
        (Some(value), Some(From::Member(member))) if place(Some(value), member).is_none() => {
            Err(Reply::err("ERR could not decode requested zset member"))
        }
        _ => Ok(()),
    }
}

pub fn georadius(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    around(view, a, true, false)
}

pub fn georadius_ro(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    around(view, a, false, false)
}

pub fn georadiusbymember(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    around(view, a, true, true)
}

pub fn georadiusbymember_ro(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    around(view, a, false, true)
}

/// Where to `GEORADIUS…` stores, if it does.
fn stored(args: &[Bytes]) -> Option<&Bytes> {
    let mut to = None;
    for (at, word) in args.iter().enumerate().skip(4) {
        if word.eq_ignore_ascii_case(b"STORE") || word.eq_ignore_ascii_case(b"STOREDIST") {
            to = args.get(at + 1);
        }
    }
    to
}

pub fn keys(args: &[Bytes]) -> SmallVec<[&Bytes; 2]> {
    args.first().into_iter().chain(stored(args)).collect()
}

pub fn writes(args: &[Bytes]) -> bool {
    stored(args).is_some()
}
