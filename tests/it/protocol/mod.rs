//! The protocol, item by item: `p048_…` is item 48 of the conformance
//! checklist (http-protocol.md §15).

mod caching;
mod initial;
mod keys;
mod live;
mod log;
mod overload;
mod parameters;
mod rotation;
mod routing;
mod schema;
mod secret;
mod values;
