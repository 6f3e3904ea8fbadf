//! The messages of a shape's log, as a client reads them (protocol §4).

use std::collections::BTreeMap;

use serde::Deserialize;

/// Column to text, or NULL.
pub type Row = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Message {
    pub(super) key: Option<String>,
    pub(super) value: Option<Row>,
    pub(super) old_value: Option<Row>,
    pub(super) headers: Headers,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Headers {
    pub(super) operation: Option<Operation>,
    pub(super) control: Option<String>,
    pub(super) lsn: Option<String>,
    pub(super) op_position: Option<u64>,
    pub(super) txids: Option<Vec<u64>>,
    pub(super) last: Option<bool>,
    pub(super) key_change_to: Option<String>,
    pub(super) key_change_from: Option<String>,
    pub(super) global_last_seen_lsn: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
}

/// The place of a change in the log: commit LSN, then place in the transaction.
pub type Place = (u64, u64);

/// A response offset as a place. The snapshot is before every change.
pub(super) fn parse_offset(text: &str) -> Option<Place> {
    let (tx, op) = text.split_once('_')?;
    let op = if op == "inf" { u64::MAX } else { op.parse().ok()? };
    Some((tx.parse().ok()?, op))
}

impl Message {
    /// Where the change stands, `None` for a row of the snapshot.
    ///
    /// # Errors
    /// Half a place, or one that is no number.
    pub(super) fn place(&self) -> Result<Option<Place>, String> {
        match (&self.headers.lsn, self.headers.op_position) {
            (None, None) => Ok(None),
            (Some(lsn), Some(op)) => {
                let lsn = lsn.parse().map_err(|_| format!("lsn {lsn:?} is not decimal"))?;
                Ok(Some((lsn, op)))
            }
            (lsn, op) => Err(format!("lsn {lsn:?} with op_position {op:?}")),
        }
    }
}
