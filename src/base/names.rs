//! Looking names up in any case, in tables that never change.

/// An index of a table by name. Each request is looked up by its own.
pub struct Names<T: 'static> {
    name_of: fn(&T) -> &'static str,
    /// Those that share a [`place`].
    places: Vec<Vec<&'static T>>,
}

const PLACES: usize = 1 << 10;

/// The same for a name in any case. (Setting one bit makes letters small; what it makes of others does not matter.)
fn place(name: &[u8]) -> usize {
    let letter = |byte: Option<&u8>| usize::from(byte.map_or(0, |byte| byte | 0x20));
    let middle = name.get(name.len() / 2);
    (name.len() + 31 * letter(name.first()) + 97 * letter(middle) + 389 * letter(name.last())) % PLACES
}

impl<T> Names<T> {
    #[must_use]
    pub fn of(table: &'static [T], name_of: fn(&T) -> &'static str) -> Names<T> {
        let mut places = vec![Vec::new(); PLACES];
        for item in table {
            places[place(name_of(item).as_bytes())].push(item);
        }
        Names { name_of, places }
    }

    /// The first of the table's items with this name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&'static T> {
        let is = |item: &&&'static T| (self.name_of)(item).as_bytes().eq_ignore_ascii_case(name);
        self.places[place(name)].iter().find(is).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [(&str, u8); 5] = [("get", 1), ("set", 2), ("ts.get", 3), ("", 4), ("get", 5)];

    #[test]
    fn names_are_found_in_any_case_and_no_others() {
        let names = Names::of(&TABLE, |item| item.0);
        let found = |name: &str| names.find(name.as_bytes()).map(|item| item.1);
        for (name, number) in [("get", 1), ("gEt", 1), ("SET", 2), ("Ts.GET", 3), ("", 4)] {
            assert_eq!(found(name), Some(number), "{name}");
        }
        for name in ["gets", "ge", "TS\u{e}get", "g\u{45}\u{0}", "\u{0}"] {
            assert_eq!(found(name), None, "{name:?}");
        }
    }
}
