//! How a value is written. Where the peer has the setting too, every value
//! that it takes means the same here.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::filter::Targets;

use crate::logging::Format;

/// A bare number is milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => duration(text, "milliseconds"),
    }
}

/// A bare number is seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number) => Ok(Duration::from_secs(number)),
        Err(_) => duration(text, "seconds"),
    }
}

fn duration(text: &str, unit: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("write a duration such as 20s, 500ms or 1m, or a number of {unit}"))
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1));
    let number: Option<usize> = number.trim().parse().ok();
    number
        .and_then(|number| number.checked_mul(size))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "write a number of bytes, or a size such as 64MiB".to_owned())
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "write a number greater than 0".to_owned())
}

/// Catalog work and snapshots each need one.
pub(super) fn pool_size(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (2..=1_000).contains(number));
    number.ok_or_else(|| "write a number from 2 to 1000".to_owned())
}

/// `{"initial":300,"existing":10000}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) initial: usize,
    pub(super) existing: usize,
}

impl FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limits: Option<Self> = serde_json::from_str(text).ok();
        limits
            .filter(|limits| limits.initial > 0 && limits.existing > 0)
            .ok_or_else(|| r#"write {"initial":300,"existing":10000}, numbers above 0"#.to_owned())
    }
}

/// What is logged, per target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level(pub(super) Targets);

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The peer's words for what tracing calls otherwise.
        let text = match text {
            "emergency" | "alert" | "critical" => "error",
            "warning" => "warn",
            "notice" => "info",
            other => other,
        };
        // A lone word would be taken for a target's name.
        let is_lone = !text.contains(['=', ',']);
        let is_level = text.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let targets = text.parse().ok().filter(|_| !text.is_empty() && (is_level || !is_lone));
        targets.map(Self).ok_or_else(|| {
            "write error, warning, info, debug or trace, or directives such as info,pg=debug"
                .to_owned()
        })
    }
}

pub(super) fn format(text: &str) -> Result<Format, String> {
    match text {
        "auto" => Ok(Format::Auto),
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("write auto, text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(read: Result<T, String>, expected: Option<T>) {
        assert_eq!(read.ok(), expected);
    }

    #[test]
    fn durations_mean_what_they_mean_to_the_peer() {
        check(milliseconds("20000"), Some(Duration::from_secs(20)));
        check(milliseconds("500ms"), Some(Duration::from_millis(500)));
        check(milliseconds("20s"), Some(Duration::from_secs(20)));
        check(milliseconds("20sec"), Some(Duration::from_secs(20)));
        check(milliseconds("2m"), Some(Duration::from_secs(120)));
        check(milliseconds("2min"), Some(Duration::from_secs(120)));
        check(milliseconds("1m 30s"), Some(Duration::from_secs(90)));
        check(milliseconds("-1"), None);
        check(milliseconds("soon"), None);
        check(milliseconds(""), None);
        check(seconds("60"), Some(Duration::from_secs(60)));
        check(seconds("500ms"), Some(Duration::from_millis(500)));
    }

    #[test]
    fn sizes_may_have_a_unit() {
        check(bytes("10485760"), Some(10 << 20));
        check(bytes("10MiB"), Some(10 << 20));
        check(bytes("10 MB"), Some(10_000_000));
        check(bytes("7B"), Some(7));
        check(bytes("0"), None);
        check(bytes("MiB"), None);
        check(bytes("99999999999999999999"), None);
        check(bytes("99999999999GiB"), None);
    }

    #[test]
    fn limits_are_the_peers_json() {
        let limits = Limits { initial: 300, existing: 10_000 };
        check(r#"{"initial":300,"existing":10000}"#.parse(), Some(limits));
        check::<Limits>(r#"{"initial":300}"#.parse(), None);
        check::<Limits>(r#"{"initial":0,"existing":1}"#.parse(), None);
        check::<Limits>("300".parse(), None);
    }

    #[test]
    fn levels_are_words_or_directives() {
        check::<Level>("debug".parse(), Some(Level("debug".parse().unwrap())));
        check::<Level>("warning".parse(), Some(Level("warn".parse().unwrap())));
        check::<Level>("info,pg=debug".parse(), Some(Level("info,pg=debug".parse().unwrap())));
        check::<Level>("verbose".parse(), None);
        check::<Level>("".parse(), None);
    }
}
