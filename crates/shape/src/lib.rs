//! What a shape is, and how a change becomes entries of its log.
//!
//! Pure: the same definition, snapshot bounds and transactions give the same
//! bytes, which is what makes replay after a crash a way of writing the log
//! (invariant I-4). `json` and `encode` are the only makers of wire JSON rows.

mod batch;
mod control;
mod definition;
mod encode;
mod handle;
mod json;
mod offset;
mod schema;
mod visibility;

pub use batch::{Batch, EntryEnd};
pub use control::{MUST_REFETCH, snapshot_end, up_to_date};
pub use definition::{Definition, DefinitionError, LogMode, Replica};
pub use encode::{Encoder, SchemaChanged, Transaction};
pub use handle::{Handle, ParseHandleError};
pub use offset::{Offset, ParseOffsetError, RequestOffset};
pub use visibility::{ParseVisibilityError, Visibility};
