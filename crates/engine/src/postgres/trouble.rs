//! What the engine makes of Postgres' errors: for the operator, and for the
//! client that waits. The classes are `pg`'s; the judgement is here alone.

use crate::facts::Trouble;
use crate::shapes::facade::ShapeError;

/// For operators: in the log, in health, and in the 503 of who needs it.
pub(crate) fn trouble(error: &pg::Error) -> Trouble {
    let sentence = error.to_string();
    match error.class() {
        pg::Class::Retry => Trouble { code: "postgres_unavailable", sentence, blocked: false },
        pg::Class::Blocked { code, remedy } => {
            Trouble { code, sentence: format!("{sentence}; {remedy}"), blocked: true }
        }
        pg::Class::SlotLost => Trouble { code: "slot_lost", sentence, blocked: false },
    }
}

/// Postgres could not be asked.
pub(crate) fn unavailable(error: &pg::Error) -> ShapeError {
    ShapeError::Unavailable { reason: trouble(error).sentence, retry_after_s: 1 }
}

/// The initial query failed. A table that has changed since it was looked up
/// is told apart by SQLSTATE (Postgres manual, appendix A): the client simply
/// asks again.
pub(crate) fn snapshot_error(error: &pg::Error) -> ShapeError {
    const UNDEFINED_TABLE: &str = "42P01";
    const UNDEFINED_COLUMN: &str = "42703";
    match error.sqlstate() {
        Some(UNDEFINED_TABLE | UNDEFINED_COLUMN) => ShapeError::SchemaChanged,
        Some(_) => ShapeError::Snapshot {
            message: format!("Unable to create initial snapshot: {}", trouble(error).sentence),
        },
        None => unavailable(error),
    }
}
