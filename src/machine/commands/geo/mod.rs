//! Places in sorted sets.

mod point;
mod search;

use bytes::Bytes;

use super::args::{Args, parse_f64};
use super::{Done, View, zsets};
use crate::base::Reply;
use crate::machine::values::Value;
use crate::machine::values::zset;
use point::Point;

pub use search::{
    georadius, georadius_ro, georadiusbymember, georadiusbymember_ro, geosearch, geosearchstore, keys, writes,
};

/// Metres of a unit by its name.
fn unit(name: &[u8]) -> Result<f64, Reply> {
    match name.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Reply::err(
            "ERR unsupported unit provided. please use M, KM, FT, MI",
        )),
    }
}

fn float(text: &[u8]) -> Result<f64, Reply> {
    parse_f64(text).ok_or_else(super::float::not_a_float)
}

/// Of longitude and latitude.
fn point(longitude: &[u8], latitude: &[u8]) -> Result<Point, Reply> {
    Point::new(float(longitude)?, float(latitude)?)
}

fn coordinates(point: Point) -> Reply {
    let number = |number: f64| {
        let text = format!("{number:.17}");
        Reply::Number(
            text.trim_end_matches('0')
                .trim_end_matches('.')
                .to_string()
                .into(),
        )
    };
    Reply::Array(vec![number(point.longitude), number(point.latitude)])
}

fn distance(metres: f64, unit: f64) -> Reply {
    Reply::bulk(format!("{:.4}", metres / unit))
}

fn place(value: Option<&Value>, member: &[u8]) -> Option<Point> {
    let score = zset::score(value?, member)?;
    Some(Point::of_score(score.into_inner()))
}

pub fn geoadd(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let key = a.key()?;
    let rest = a.all();
    let is_option = |word: &&Bytes| {
        [&b"NX"[..], b"XX", b"CH"]
            .iter()
            .any(|option| word.eq_ignore_ascii_case(option))
    };
    let options = rest.iter().take_while(is_option).count();
    let (options, places) = rest.split_at(options);
    if places.is_empty() || !places.len().is_multiple_of(3) {
        return Err(Reply::syntax());
    }
    let given = |word: &[u8]| options.iter().any(|option| option.eq_ignore_ascii_case(word));
    if given(b"NX") && given(b"XX") {
        return Err(Reply::syntax());
    }
    let mut args = vec![key];
    args.extend(options.iter().cloned());
    for place in places.chunks_exact(3) {
        let score = point(&place[0], &place[1])?.score();
        args.extend([score.to_string().into(), place[2].clone()]);
    }
    zsets::zadd(view, &mut Args::new("zadd", &args))
}

pub fn geodist(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    let (key, first, second) = (a.key()?, a.key()?, a.key()?);
    if a.remaining() > 1 {
        return Err(Reply::syntax());
    }
    let unit = match a.next() {
        Ok(name) => unit(name)?,
        Err(_) => 1.0,
    };
    let value = zsets::read(view, &key)?;
    let both = place(value, &first).zip(place(value, &second));
    Ok(both.map_or(Reply::Nil, |(first, second)| {
        distance(first.distance(second), unit)
    }))
}

/// What `show` makes of the places of members.
fn of_members(view: View<'_, '_>, a: &mut Args<'_>, missing: &Reply, show: impl Fn(Point) -> Reply) -> Done {
    let key = a.key()?;
    let value = zsets::read(view, &key)?;
    let one = |member: &Bytes| place(value, member).map_or_else(|| missing.clone(), &show);
    Ok(Reply::Array(a.all().iter().map(one).collect()))
}

pub fn geohash(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    of_members(view, a, &Reply::Nil, |point| Reply::bulk(point.letters()))
}

pub fn geopos(view: View<'_, '_>, a: &mut Args<'_>) -> Done {
    of_members(view, a, &Reply::NilArray, coordinates)
}
