//! A position in Postgres' write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A byte position in the WAL. Written `16/B374D848`: two hexadecimal halves
/// (Postgres manual, "pg_lsn Type"). The shape protocol writes it in decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before any WAL; Postgres' "invalid" LSN.
    pub const ZERO: Self = Self(0);
    /// After any WAL.
    pub const MAX: Self = Self(u64::MAX);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not two hexadecimal numbers of at most 32 bits around a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN of the form 16/B374D848")]
pub struct ParseLsnError;

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        let half = |part: &str| match part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => u32::from_str_radix(part, 16).map_err(|_| ParseLsnError),
            false => Err(ParseLsnError),
        };
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        let parsed = text.parse().ok();
        assert_eq!(parsed, expected.map(Lsn), "{text:?}");
        if let Some(lsn) = parsed {
            assert_eq!(lsn.to_string(), text);
        }
    }

    #[test]
    fn an_lsn_round_trips_and_bad_text_is_refused() {
        check("0/0", Some(0));
        check("16/B374D848", Some(0x16_B374_D848));
        check("FFFFFFFF/FFFFFFFF", Some(u64::MAX));
        check("", None);
        check("1", None);
        check("/1", None);
        check("+1/1", None);
        check("1/100000000", None);
        check("1/2/3", None);
    }
}
