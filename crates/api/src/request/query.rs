//! The parameters of a request as sent: percent-decoded, not yet judged.

use form_urlencoded::parse;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(parse(text.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// As sent, maybe empty. Of a repeated parameter the last one counts.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// For most parameters an empty value is the same as none.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn has_any(&self, belongs: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|(key, _)| belongs(key))
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.0.retain(|(key, _)| key != name);
        self.0.push((name.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_repeated_parameter_counts_and_encoding_is_undone() {
        let query = Query::parse("a=1&b=x%20y+z&a=2&params%5B1%5D=0&bare&empty=&%ff=%zz");
        assert_eq!(query.get("a"), Some("2"));
        assert_eq!(query.get("b"), Some("x y z"));
        assert_eq!(query.get("params[1]"), Some("0"));
        assert_eq!(query.get("bare"), Some(""));
        assert_eq!(query.value("empty"), None);
        assert_eq!(query.get("c"), None);
    }
}
