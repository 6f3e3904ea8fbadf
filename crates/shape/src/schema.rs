//! The `electric-schema` header (protocol §3.3).

use serde_json::{Map, Value, json};

use crate::definition::Column;

/// One line of JSON: column name to what a client needs for parsing its text.
pub(crate) fn header(columns: &[Column]) -> String {
    let object: Map<String, Value> =
        columns.iter().map(|column| (column.name.clone(), describe(column))).collect();
    // Non-ASCII names must survive an HTTP header, which is not UTF-8.
    ascii(&Value::Object(object).to_string())
}

fn describe(column: &Column) -> Value {
    let mut facts = Map::new();
    facts.insert("type".into(), json!(column.type_name));
    if column.dims > 0 {
        facts.insert("dims".into(), json!(column.dims));
    }
    if let Some(position) = column.pk_position {
        facts.insert("pk_index".into(), json!(position));
    }
    if column.not_null {
        facts.insert("not_null".into(), json!(true));
    }
    modifier(&column.type_name, column.type_mod, &mut facts);
    Value::Object(facts)
}

/// What `atttypmod` means for each type, as the peer words it.
fn modifier(type_name: &str, type_mod: i32, facts: &mut Map<String, Value>) {
    const HEADER: i32 = 4;
    let mut put = |name: &str, value: Value| facts.insert(name.into(), value);
    match type_name {
        "bit" | "varbit" => {
            put("length", json!(type_mod));
        }
        _ if type_mod < 0 => {}
        "varchar" => {
            put("max_length", json!(type_mod - HEADER));
        }
        "bpchar" => {
            put("length", json!(type_mod - HEADER));
        }
        "time" | "timetz" | "timestamp" | "timestamptz" if type_mod > 0 => {
            put("precision", json!(type_mod));
        }
        "numeric" => {
            let packed = type_mod - HEADER;
            put("precision", json!((packed >> 16) & 0xFFFF));
            put("scale", json!(packed & 0x7FF));
        }
        "interval" => {
            if let Some(fields) = interval_fields(type_mod >> 16) {
                put("fields", json!(fields));
            }
            let precision = type_mod & 0xFFFF;
            if precision != 0xFFFF {
                put("precision", json!(precision));
            }
        }
        _ => {
            put("type_mod", json!(type_mod));
        }
    }
}

/// The range bits of an interval's modifier (Postgres source, `INTERVAL_MASK`).
fn interval_fields(bits: i32) -> Option<&'static str> {
    const MONTH: i32 = 1 << 1;
    const YEAR: i32 = 1 << 2;
    const DAY: i32 = 1 << 3;
    const HOUR: i32 = 1 << 10;
    const MINUTE: i32 = 1 << 11;
    const SECOND: i32 = 1 << 12;
    const TABLE: [(i32, &str); 13] = [
        (YEAR, "YEAR"),
        (MONTH, "MONTH"),
        (DAY, "DAY"),
        (HOUR, "HOUR"),
        (MINUTE, "MINUTE"),
        (SECOND, "SECOND"),
        (YEAR | MONTH, "YEAR TO MONTH"),
        (DAY | HOUR, "DAY TO HOUR"),
        (DAY | HOUR | MINUTE, "DAY TO MINUTE"),
        (DAY | HOUR | MINUTE | SECOND, "DAY TO SECOND"),
        (HOUR | MINUTE, "HOUR TO MINUTE"),
        (HOUR | MINUTE | SECOND, "HOUR TO SECOND"),
        (MINUTE | SECOND, "MINUTE TO SECOND"),
    ];
    TABLE.iter().find(|(mask, _)| *mask == bits & 0x7FFF).map(|(_, name)| *name)
}

/// JSON text with every character beyond ASCII as a `\u` escape.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(type_name: &str, type_mod: i32, expected: Value) {
        let mut facts = Map::new();
        modifier(type_name, type_mod, &mut facts);
        assert_eq!(Value::Object(facts), expected, "{type_name} {type_mod}");
    }

    #[test]
    fn modifiers_are_described_as_the_peer_does() {
        check("text", -1, json!({}));
        check("varchar", 14, json!({"max_length": 10}));
        check("bpchar", 9, json!({"length": 5}));
        check("bit", 3, json!({"length": 3}));
        check("varbit", -1, json!({"length": -1}));
        check("timestamptz", 3, json!({"precision": 3}));
        check("timestamptz", 0, json!({"type_mod": 0}));
        check("numeric", ((10 << 16) | 2) + 4, json!({"precision": 10, "scale": 2}));
        check("interval", 0x7FFF << 16 | 3, json!({"precision": 3}));
        check("interval", 4 << 16 | 0xFFFF, json!({"fields": "YEAR"}));
        check("interval", 0x1C08 << 16 | 2, json!({"fields": "DAY TO SECOND", "precision": 2}));
    }

    #[test]
    fn a_header_is_ascii_whatever_the_names() {
        let header = ascii(r#"{"größe🦀":1}"#);
        assert!(header.is_ascii());
        let back: Value = serde_json::from_str(&header).unwrap();
        assert_eq!(back, json!({"größe🦀": 1}));
    }
}
