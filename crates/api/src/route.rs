//! Which route a path is. Authentication is decided on the result, so every
//! spelling of a path (`/v1//shape`, `/v1/%73hape`) must come out the same
//! here.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Health,
    Shape,
    Other,
}

pub(crate) fn resolve(path: &str) -> Route {
    let mut segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy());
    let first_three = [segments.next(), segments.next(), segments.next()];
    match first_three.each_ref().map(|segment| segment.as_ref().map(Cow::as_ref)) {
        [None, None, None] => Route::Root,
        [Some("v1"), Some("health"), None] => Route::Health,
        [Some("v1"), Some("shape"), None] => Route::Shape,
        [_, _, _] => Route::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Route) {
        assert_eq!(resolve(path), expected, "{path:?}");
    }

    #[test]
    fn every_spelling_of_a_path_is_the_same_route() {
        check("", Route::Root);
        check("/", Route::Root);
        check("//", Route::Root);
        check("/v1/health", Route::Health);
        check("/v1/health/", Route::Health);
        check("/v1/shape", Route::Shape);
        check("/v1/shape/", Route::Shape);
        check("/v1//shape", Route::Shape);
        check("//v1/shape//", Route::Shape);
        check("/v1/%73hape", Route::Shape);
        check("/%76%31/%73%68%61%70%65", Route::Shape);
    }

    #[test]
    fn nothing_else_is_the_shape_route() {
        check("/v1", Route::Other);
        check("/V1/shape", Route::Other);
        check("/v1/shape/x", Route::Other);
        check("/v1/shape%2F", Route::Other);
        check("/v1/%ff", Route::Other);
        check("/v1/%", Route::Other);
        check("/nope", Route::Other);
    }
}
