//! A POST's JSON object, merged over the query: its keys override parameters of
//! the same name.

use serde_json::{Map, Value};
use thiserror::Error;

use super::Query;

/// Keys that mean a subset when they stand at the top level of the body, even
/// `offset`.
const SUBSET_KEYS: [&str; 7] =
    ["where", "order_by", "limit", "offset", "params", "where_expr", "order_by_expr"];

#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("invalid JSON: {0}")]
    Json(#[source] serde_json::Error),
    #[error("not an object")]
    NotAnObject,
}

pub(crate) fn merge(query: &mut Query, body: &[u8]) -> Result<(), Error> {
    if body.is_empty() {
        return Ok(());
    }
    let Value::Object(object) = serde_json::from_slice(body).map_err(Error::Json)? else {
        return Err(Error::NotAnObject);
    };
    let is_nested = object.get("subset").is_some_and(Value::is_object);
    for (key, value) in object {
        // The secret is taken from the query only.
        if key == "secret" || key == "api_secret" {
            continue;
        }
        if !is_nested && SUBSET_KEYS.contains(&key.as_str()) {
            query.set(&format!("subset__{key}"), text(value));
        } else {
            set(query, &key, value);
        }
    }
    Ok(())
}

fn set(query: &mut Query, key: &str, value: Value) {
    match value {
        Value::Null => {}
        Value::Object(map) if key == "subset" => each(query, "subset__", "", map),
        Value::Object(map) => each(query, &format!("{key}["), "]", map),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            query.set(key, text(value));
        }
    }
}

fn each(query: &mut Query, before: &str, after: &str, map: Map<String, Value>) {
    for (key, value) in map {
        query.set(&format!("{before}{key}{after}"), text(value));
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(parts) if parts.iter().all(Value::is_string) => {
            parts.into_iter().map(text).collect::<Vec<_>>().join(",")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn merged(query: &str, body: &str) -> Query {
        let mut query = Query::parse(query);
        merge(&mut query, body.as_bytes()).unwrap();
        query
    }

    #[test]
    fn keys_override_parameters_and_an_empty_body_is_a_get() {
        let query = merged("table=a&live=true", r#"{"table":"b","live":false,"replica":"full"}"#);
        assert_eq!(query.get("table"), Some("b"));
        assert_eq!(query.get("live"), Some("false"));
        assert_eq!(query.get("replica"), Some("full"));
        assert_eq!(merged("table=a", "").get("table"), Some("a"));
    }

    #[test]
    fn top_level_subset_keys_are_not_main_parameters_unless_a_subset_object_is_given() {
        let query = merged("offset=-1", r#"{"offset":2,"where":"id > 1"}"#);
        assert_eq!(query.get("offset"), Some("-1"));
        assert_eq!(query.get("subset__offset"), Some("2"));
        let query = merged("", r#"{"subset":{"limit":5},"where":"id > 1","params":{"1":"x"}}"#);
        assert_eq!(query.get("where"), Some("id > 1"));
        assert_eq!(query.get("params[1]"), Some("x"));
        assert_eq!(query.get("subset__limit"), Some("5"));
    }

    #[test]
    fn a_secret_in_the_body_is_ignored() {
        assert_eq!(merged("", r#"{"secret":"s"}"#).get("secret"), None);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        let mut query = Query::default();
        assert!(matches!(merge(&mut query, b"{"), Err(Error::Json(_))));
        assert!(matches!(merge(&mut query, b"[1]"), Err(Error::NotAnObject)));
    }
}
