//! Which transactions a snapshot already contains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `pg_current_snapshot()` (Postgres manual, "Transaction ID and Snapshot
/// Information Functions"): 64-bit transaction ids, so that the comparison
/// survives the 32-bit counter's wrap-around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visibility {
    /// Every transaction below has ended.
    pub xmin: u64,
    /// Every transaction from here on had not begun to be visible.
    pub xmax: u64,
    /// In progress between the two, ascending.
    pub xip: Vec<u64>,
}

impl Visibility {
    /// Whether the snapshot contains the transaction with this 32-bit wire id.
    pub fn sees(&self, xid: u32) -> bool {
        let full = self.widen(xid);
        full < self.xmin || (full < self.xmax && !self.xip.contains(&full))
    }

    /// The 64-bit id nearest to `xmax` with these low 32 bits: ids in use at
    /// one time lie within 2³¹ of each other.
    fn widen(&self, xid: u32) -> u64 {
        let distance = xid.wrapping_sub(self.xmax as u32) as i32;
        self.xmax.saturating_add_signed(i64::from(distance))
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.xip.iter().enumerate() {
            write!(f, "{}{xid}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The text is not of the form `10:20:10,14,15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pg_snapshot of the form 10:20:10,14,15")]
pub struct ParseVisibilityError;

impl FromStr for Visibility {
    type Err = ParseVisibilityError;

    fn from_str(text: &str) -> Result<Self, ParseVisibilityError> {
        let number = |part: &str| part.parse::<u64>().map_err(|_| ParseVisibilityError);
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or(ParseVisibilityError);
        let (xmin, xmax, list) = (number(next()?)?, number(next()?)?, next()?);
        let xip = match list {
            "" => Vec::new(),
            list => list.split(',').map(number).collect::<Result<_, _>>()?,
        };
        Ok(Self { xmin, xmax, xip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(snapshot: &str, xid: u32, expected: bool) {
        let visibility: Visibility = snapshot.parse().unwrap();
        assert_eq!(visibility.to_string(), snapshot);
        assert_eq!(visibility.sees(xid), expected, "{snapshot} {xid}");
    }

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        check("10:20:10,14,15", 9, true);
        check("10:20:10,14,15", 10, false);
        check("10:20:10,14,15", 11, true);
        check("10:20:10,14,15", 14, false);
        check("10:20:10,14,15", 20, false);
        check("743:743:", 743, false);
    }

    #[test]
    fn ids_are_compared_across_the_wrap_around() {
        // The counter has passed 2³² once; a wire id just below the wrap is old.
        check("4294967300:4294967310:4294967305", u32::MAX, true);
        check("4294967300:4294967310:4294967305", 9, false);
        check("4294967300:4294967310:4294967305", 8, true);
        check("4294967300:4294967310:4294967305", 14, false);
        check("4294967290:4294967295:", 3, false);
    }

    #[test]
    fn bad_text_is_refused() {
        for bad in ["", "1", "1:2", "a:b:", "1:2:3,", "1:2:,3", "-1:2:"] {
            assert_eq!(bad.parse::<Visibility>(), Err(ParseVisibilityError), "{bad:?}");
        }
    }
}
