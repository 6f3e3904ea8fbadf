//! Postgres identifiers as clients write them: `items`, `"Items"`,
//! `other.items`, `id,"Title"`.

use thiserror::Error;

/// Postgres' own limit. Counted in characters, as the protocol does.
const LENGTH_MAX: usize = 63;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("Invalid zero-length delimited identifier")]
    Empty,
    #[error("Invalid unquoted identifier contains special characters: {0}")]
    SpecialCharacters(String),
    #[error("Invalid identifier with unescaped quote: {0}")]
    UnescapedQuote(String),
    #[error("Identifier too long (max length {LENGTH_MAX}): {0}")]
    TooLong(String),
    #[error("Invalid relation identifier with too many delimiters: {0}")]
    TooManyDelimiters(String),
}

/// Schema and name of `[schema.]name`.
pub(crate) fn relation(text: &str) -> Result<(String, String), Error> {
    let parts = split(text, '.');
    match parts.as_slice() {
        [name] => Ok(("public".to_owned(), identifier(name)?)),
        [schema, name] => Ok((identifier(schema)?, identifier(name)?)),
        [..] => Err(Error::TooManyDelimiters(text.to_owned())),
    }
}

pub(crate) fn list(text: &str) -> Result<Vec<String>, Error> {
    split(text, ',').into_iter().map(identifier).collect()
}

/// A doubled quote inside a quoted part toggles twice, so it needs no rule of
/// its own.
fn split(text: &str, delimiter: char) -> Vec<&str> {
    let mut is_quoted = false;
    let is_delimiter = |c: char| {
        is_quoted ^= c == '"';
        c == delimiter && !is_quoted
    };
    text.split(is_delimiter).collect()
}

fn identifier(text: &str) -> Result<String, Error> {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let name = match quoted {
        Some(inside) => unquote(inside)?,
        None if text.contains('"') => return Err(Error::UnescapedQuote(text.to_owned())),
        None => fold(text)?,
    };
    if name.chars().count() > LENGTH_MAX {
        return Err(Error::TooLong(name));
    }
    Ok(name)
}

fn unquote(inside: &str) -> Result<String, Error> {
    if inside.is_empty() {
        return Err(Error::Empty);
    }
    let without_pairs = inside.replace("\"\"", "");
    if without_pairs.contains('"') {
        return Err(Error::UnescapedQuote(inside.to_owned()));
    }
    Ok(inside.replace("\"\"", "\""))
}

fn fold(text: &str) -> Result<String, Error> {
    let Some(first) = text.chars().next() else { return Err(Error::Empty) };
    // Marks that are not alphabetic are as rare as they are harmless: such a
    // name can be quoted.
    let is_start = first.is_alphabetic() || first == '_';
    let is_rest = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    if !is_start || !text.chars().all(is_rest) {
        return Err(Error::SpecialCharacters(text.to_owned()));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, schema: &str, name: &str) {
        assert_eq!(relation(text), Ok((schema.to_owned(), name.to_owned())), "{text:?}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: fn(String) -> Error, about: &str) {
        assert_eq!(relation(text), Err(expected(about.to_owned())), "{text:?}");
    }

    #[test]
    fn a_relation_is_folded_unless_quoted_and_public_unless_said_otherwise() {
        check("items", "public", "items");
        check("Items", "public", "items");
        check("\"Items\"", "public", "Items");
        check("Other.Items", "other", "items");
        check("\"a.b\".\"c\"\"d\"", "a.b", "c\"d");
        check("_x$1", "public", "_x$1");
        check("straße", "public", "straße");
        check("ÄPFEL", "public", "Äpfel");
    }

    #[test]
    fn what_is_not_an_identifier_is_refused() {
        check_error("a.b.c", Error::TooManyDelimiters, "a.b.c");
        check_error("1a", Error::SpecialCharacters, "1a");
        check_error("$a", Error::SpecialCharacters, "$a");
        check_error("a b", Error::SpecialCharacters, "a b");
        check_error("a;drop", Error::SpecialCharacters, "a;drop");
        check_error("a\"b", Error::UnescapedQuote, "a\"b");
        check_error("\"a", Error::UnescapedQuote, "\"a");
        check_error("\"", Error::UnescapedQuote, "\"");
        check_error("\"a\"b\"", Error::UnescapedQuote, "a\"b");
        check_error(&"x".repeat(64), Error::TooLong, &"x".repeat(64));
        assert_eq!(relation(""), Err(Error::Empty));
        assert_eq!(relation("\"\""), Err(Error::Empty));
        assert_eq!(relation("a."), Err(Error::Empty));
        assert_eq!(relation(".a"), Err(Error::Empty));
        check(&"x".repeat(63), "public", &"x".repeat(63));
    }

    #[test]
    fn a_list_splits_at_commas_outside_quotes() {
        assert_eq!(list("id,Title"), Ok(vec!["id".to_owned(), "title".to_owned()]));
        assert_eq!(list("\"id\",\"a,b\""), Ok(vec!["id".to_owned(), "a,b".to_owned()]));
        assert_eq!(list("id,"), Err(Error::Empty));
        assert_eq!(list("id, title"), Err(Error::SpecialCharacters(" title".to_owned())));
    }
}
