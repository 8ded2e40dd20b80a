//! Arguments of `cargo test --test nemesis -- …`.

use std::time::Duration;

pub const USAGE: &str = "\
cargo test --release --test nemesis -- [--duration 35s] [--faults kill,pause,partition,clock] [--seed 7]
                                       [--min-rate 1000]";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Kill,
    Pause,
    Partition,
    Clock,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Kill, Kind::Pause, Kind::Partition, Kind::Clock];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::Partition => "partition",
            Kind::Clock => "clock",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    pub duration: Duration,
    pub kinds: Vec<Kind>,
    /// Whether `--faults` named them: then none may be left out.
    pub kinds_named: bool,
    pub seed: u64,
    /// Transactions a second that must be done between faults.
    pub min_rate: f64,
}

impl Options {
    /// `None`: only listing was asked for, as editors do. What libtest would understand is passed over.
    ///
    /// # Errors
    /// A value of ours that makes no sense.
    pub fn parse(args: impl Iterator<Item = String>, seed: u64) -> Result<Option<Options>, String> {
        let mut options = Options {
            duration: Duration::from_secs(35),
            kinds: Kind::ALL.to_vec(),
            kinds_named: false,
            seed,
            // What a debug build does on two cores beside other tests is no promise.
            min_rate: if cfg!(debug_assertions) { 50.0 } else { 1000.0 },
        };
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let (name, mut value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.to_string())),
                None => (arg, None),
            };
            if name == "--list" {
                return Ok(None);
            }
            if !["--duration", "--faults", "--seed", "--min-rate"].contains(&name.as_str()) {
                continue;
            }
            let value = value
                .take()
                .or_else(|| args.next())
                .ok_or_else(|| format!("{name} wants a value"))?;
            options
                .set(&name, &value)
                .map_err(|e| format!("{name} {value}: {e}"))?;
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--duration" => self.duration = duration(value)?,
            "--seed" => self.seed = value.parse().map_err(|e| format!("{e}"))?,
            "--min-rate" => self.min_rate = value.parse().map_err(|e| format!("{e}"))?,
            _ => {
                let kind = |name: &str| {
                    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                    found.ok_or_else(|| format!("no fault is called {name:?}"))
                };
                self.kinds = value.split(',').map(kind).collect::<Result<_, _>>()?;
                self.kinds_named = true;
            }
        }
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|e| format!("{e}"))?;
    match unit {
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err("use s, m or h".into()),
    }
}
