//! How an answer looks: status, headers and body. Pure but for the clock of the
//! cursor.

mod body;
mod cache;
mod clock;
mod cursor;
mod etag;
mod headers;
mod reply;

pub(crate) use body::Body;
pub(crate) use cache::Freshness;
pub(crate) use cursor::cursor;
pub(crate) use etag::{Etag, Etags, is_match};
pub(crate) use headers::{Stamp, name, preflight};
pub(crate) use reply::{
    Data, Errors, Response, data, errors, message, must_refetch, plain, problem,
};
