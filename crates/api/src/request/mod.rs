//! What a client asks for: parameters as sent, then as validated. Pure; every
//! input gives a value or the protocol's error.

mod identifier;
mod parameters;
mod post;
mod query;

pub(crate) use parameters::{Deletion, Live, Parameters};
pub(crate) use post::{Error as PostError, merge as merge_post};
pub(crate) use query::Query;
