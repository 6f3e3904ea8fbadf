//! The tests of the whole are in `it/`, one binary, one module per promise.
