//! Positions in a shape log (protocol §5.1).

use std::fmt;
use std::str::FromStr;

/// The position of one entry: the commit LSN of its transaction, then its
/// place in it. `0_k` is the end of snapshot chunk `k`, `0_inf` the end of the
/// whole snapshot. Comparable only within one handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    pub tx: u64,
    /// `u64::MAX` is written `inf`.
    pub op: u64,
}

impl Offset {
    /// After the snapshot, before every change.
    pub const SNAPSHOT_END: Self = Self { tx: 0, op: u64::MAX };

    pub const fn new(tx: u64, op: u64) -> Self {
        Self { tx, op }
    }

    /// The end of snapshot chunk `index`, from 0.
    pub const fn snapshot_chunk(index: u32) -> Self {
        Self { tx: 0, op: index as u64 }
    }

    /// Within the snapshot or at its end.
    pub const fn is_virtual(self) -> bool {
        self.tx == 0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            u64::MAX => write!(f, "{}_inf", self.tx),
            op => write!(f, "{}_{op}", self.tx),
        }
    }
}

/// The text is not of the form `N_M` or `N_inf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has invalid format")]
pub struct ParseOffsetError;

impl FromStr for Offset {
    type Err = ParseOffsetError;

    fn from_str(text: &str) -> Result<Self, ParseOffsetError> {
        let (tx, op) = text.split_once('_').ok_or(ParseOffsetError)?;
        let op = if op == "inf" { u64::MAX } else { decimal(op)? };
        Ok(Self { tx: decimal(tx)?, op })
    }
}

/// Digits only: `u64::from_str` alone would take a plus sign.
fn decimal(text: &str) -> Result<u64, ParseOffsetError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseOffsetError);
    }
    text.parse().map_err(|_| ParseOffsetError)
}

/// What a request may name as its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOffset {
    /// `-1`: from the beginning.
    Start,
    /// `now`: skip history.
    Now,
    At(Offset),
}

impl fmt::Display for RequestOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("-1"),
            Self::Now => f.write_str("now"),
            Self::At(offset) => offset.fmt(f),
        }
    }
}

impl FromStr for RequestOffset {
    type Err = ParseOffsetError;

    fn from_str(text: &str) -> Result<Self, ParseOffsetError> {
        match text {
            "-1" | "-1_0" => Ok(Self::Start),
            "now" => Ok(Self::Now),
            other => other.parse().map(Self::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<RequestOffset>) {
        assert_eq!(text.parse().ok(), expected, "{text:?}");
    }

    #[test]
    fn offsets_parse_and_bad_ones_are_refused() {
        check("-1", Some(RequestOffset::Start));
        check("-1_0", Some(RequestOffset::Start));
        check("now", Some(RequestOffset::Now));
        check("0_inf", Some(RequestOffset::At(Offset::SNAPSHOT_END)));
        check("26800184_7", Some(RequestOffset::At(Offset::new(26_800_184, 7))));
        check("007_01", Some(RequestOffset::At(Offset::new(7, 1))));
        for bad in ["", "7", "7_", "_7", "abc", "1_2_3", "-5_0", "1_-1", "-1_inf", "+1_0", "1_+1"] {
            check(bad, None);
        }
        check("18446744073709551616_0", None);
    }

    #[test]
    fn offsets_print_as_they_parse_and_are_ordered() {
        let ordered = ["0_0", "0_1", "0_inf", "5_0", "5_2", "5_inf", "10_0"];
        let parsed: Vec<Offset> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parsed.is_sorted());
        assert_eq!(parsed.iter().map(Offset::to_string).collect::<Vec<_>>(), ordered);
    }
}
