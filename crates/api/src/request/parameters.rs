//! The parameters of the shape route, validated in the protocol's order:
//! groups, of which a later one is only looked at when the earlier ones are in
//! order, so that a client sees the errors of one group together.

use engine::ShapeRequest;
use shape::{LogMode, Replica, RequestOffset};

use super::{Query, identifier};
use crate::response::Errors;

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    pub(crate) shape: ShapeRequest,
    pub(crate) offset: RequestOffset,
    /// None for an offset that needs none: it is ignored there.
    pub(crate) handle: Option<String>,
    pub(crate) live: Live,
    pub(crate) cursor: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    No,
    LongPoll,
    Sse,
}

/// What `DELETE` names: a definition, a handle, or both.
#[derive(Clone, Debug)]
pub(crate) enum Deletion {
    Handle(String),
    Shape { shape: ShapeRequest, handle: Option<String> },
}

impl Parameters {
    pub(crate) fn parse(query: &Query) -> Result<Self, Errors> {
        let cast = Cast::parse(query)?;
        let offset =
            cast.offset.parse().map_err(|_| Errors::one("offset", "has invalid format"))?;
        let handle = handle(query, offset)?;
        let live = cast.live(offset)?;
        let shape = shape_request(query, cast.replica, cast.log)?;
        Ok(Self { shape, offset, handle, live, cursor: cursor(query) })
    }
}

impl Deletion {
    pub(crate) fn parse(query: &Query) -> Result<Self, Errors> {
        let mut errors = Errors::default();
        let (replica, log) = (replica(query, &mut errors), log(query, &mut errors));
        errors.check()?;
        let handle = query.value("handle").map(str::to_owned);
        match (query.value("table"), handle) {
            (None, None) => {
                Err(Errors::one("handle", "can't be blank when shape definition is missing"))
            }
            (None, Some(handle)) => Ok(Self::Handle(handle)),
            (Some(_), handle) => {
                Ok(Self::Shape { shape: shape_request(query, replica, log)?, handle })
            }
        }
    }
}

/// The first group: every parameter that has a type, and that there is an
/// offset.
struct Cast<'a> {
    offset: &'a str,
    replica: Replica,
    log: LogMode,
    is_live: bool,
    is_sse: bool,
}

impl<'a> Cast<'a> {
    fn parse(query: &'a Query) -> Result<Self, Errors> {
        let mut errors = Errors::default();
        let offset = query.value("offset");
        if offset.is_none() {
            errors.add("offset", BLANK);
        }
        let is_sse = match query.get("live_sse") {
            Some(value) => is_truthy(value),
            None => strict_bool(query, "experimental_live_sse", "live_sse", &mut errors),
        };
        let compaction = "experimental_compaction";
        strict_bool(query, compaction, compaction, &mut errors);
        let (replica, log) = (replica(query, &mut errors), log(query, &mut errors));
        errors.check()?;
        let is_live = query.get("live").is_some_and(is_truthy);
        Ok(Self { offset: offset.unwrap_or_default(), replica, log, is_live, is_sse })
    }

    fn live(&self, offset: RequestOffset) -> Result<Live, Errors> {
        match (self.is_live, self.is_sse, offset) {
            (true, _, RequestOffset::Start) => {
                Err(Errors::one("live", "can't be true when offset == -1"))
            }
            (true, _, RequestOffset::Now) => {
                Err(Errors::one("live", "can't be true when offset is 'now'"))
            }
            (true, true, RequestOffset::At(_)) => Ok(Live::Sse),
            (true, false, RequestOffset::At(_)) => Ok(Live::LongPoll),
            (false, true, _) => {
                Err(Errors::one("live_sse", "can't be true unless live is also true"))
            }
            (false, false, _) => Ok(Live::No),
        }
    }
}

/// `live`, `live=0` and `live=` are true.
fn is_truthy(value: &str) -> bool {
    value != "false"
}

fn strict_bool(query: &Query, name: &str, field: &'static str, errors: &mut Errors) -> bool {
    match query.value(name) {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => {
            errors.add(field, INVALID);
            false
        }
    }
}

fn replica(query: &Query, errors: &mut Errors) -> Replica {
    match query.value("replica") {
        None | Some("default") => Replica::Default,
        Some("full") => Replica::Full,
        Some(_) => {
            errors.add("replica", INVALID);
            Replica::Default
        }
    }
}

fn log(query: &Query, errors: &mut Errors) -> LogMode {
    match query.value("log") {
        None | Some("full") => LogMode::Full,
        Some("changes_only") => LogMode::ChangesOnly,
        Some(_) => {
            errors.add("log", INVALID);
            LogMode::Full
        }
    }
}

fn handle(query: &Query, offset: RequestOffset) -> Result<Option<String>, Errors> {
    match (offset, query.value("handle")) {
        (RequestOffset::Start | RequestOffset::Now, _) => Ok(None),
        (RequestOffset::At(_), Some(handle)) => Ok(Some(handle.to_owned())),
        (RequestOffset::At(_), None) => {
            Err(Errors::one("handle", "can't be blank when offset != -1"))
        }
    }
}

/// Never an error. What no server hands out counts as none, which also leaves
/// room above it.
fn cursor(query: &Query) -> u64 {
    let cursor: i64 = query.get("cursor").and_then(|text| text.parse().ok()).unwrap_or(0);
    u64::try_from(cursor).unwrap_or(0)
}

fn shape_request(query: &Query, replica: Replica, log: LogMode) -> Result<ShapeRequest, Errors> {
    let Some(table) = query.value("table") else { return Err(Errors::one("table", BLANK)) };
    let mut errors = Errors::default();
    let (schema, name) =
        identifier::relation(table).map_err(|error| Errors::one("table", error.to_string()))?;
    let columns = match query.value("columns").map(identifier::list) {
        None => None,
        Some(Ok(columns)) => Some(columns),
        Some(Err(error)) => {
            errors.add("columns", error.to_string());
            None
        }
    };
    refuse_unsupported(query, &mut errors);
    errors.check()?;
    Ok(ShapeRequest { schema, name, columns, replica, log })
}

/// Leaving one of these out silently would send more rows or columns than were
/// asked for.
fn refuse_unsupported(query: &Query, errors: &mut Errors) {
    for name in ["where", "queryable_columns"] {
        if query.value(name).is_some() {
            errors.add(name, "is not supported yet by this server");
        }
    }
    if query.has_any(|key| key == "params" || key.starts_with("params[")) {
        errors.add("params", "are not supported yet by this server");
    }
    if query.has_any(|key| key.starts_with("subset__") || key.starts_with("subset[")) {
        errors.add("subset", "snapshots of a subset are not supported yet by this server");
    }
}

#[cfg(test)]
mod tests {
    use shape::Offset;

    use super::*;

    fn parse(query: &str) -> Result<Parameters, Errors> {
        Parameters::parse(&Query::parse(query))
    }

    #[track_caller]
    fn check_error(query: &str, expected: &str) {
        assert_eq!(parse(query).unwrap_err().to_json(), expected, "{query:?}");
    }

    #[track_caller]
    fn check_live(query: &str, expected: Live) {
        let query = format!("table=items&offset=0_0&handle=h{query}");
        assert_eq!(parse(&query).unwrap().live, expected, "{query:?}");
    }

    #[test]
    fn a_plain_request_has_the_protocols_defaults_and_ignores_what_it_does_not_know() {
        let query = "offset=-1&table=items&foo=bar&cache-buster=1&expired_handle=x&source_id=y";
        let Parameters { shape, offset, handle, live, cursor } = parse(query).unwrap();
        assert_eq!((shape.schema.as_str(), shape.name.as_str()), ("public", "items"));
        assert_eq!((shape.columns, shape.replica), (None, Replica::Default));
        assert_eq!((shape.log, offset), (LogMode::Full, RequestOffset::Start));
        assert_eq!((handle, live, cursor), (None, Live::No, 0));
    }

    #[test]
    fn all_parameters_are_understood() {
        let parameters = parse(
            "offset=07_inf&table=other.%22T%22&handle=1-2&live=true&cursor=40&replica=full&\
             log=changes_only&columns=%22id%22,Title&where=&experimental_compaction=true",
        )
        .unwrap();
        assert_eq!(parameters.offset, RequestOffset::At(Offset::new(7, u64::MAX)));
        assert_eq!(parameters.handle.as_deref(), Some("1-2"));
        assert_eq!((parameters.live, parameters.cursor), (Live::LongPoll, 40));
        let shape = parameters.shape;
        assert_eq!((shape.schema.as_str(), shape.name.as_str()), ("other", "T"));
        assert_eq!(shape.columns, Some(vec!["id".to_owned(), "title".to_owned()]));
        assert_eq!((shape.replica, shape.log), (Replica::Full, LogMode::ChangesOnly));
    }

    #[test]
    fn a_stale_handle_is_ignored_where_none_is_needed() {
        assert_eq!(parse("table=items&offset=-1_0&handle=x").unwrap().handle, None);
        assert_eq!(parse("table=items&offset=now&handle=x").unwrap().handle, None);
    }

    #[test]
    fn live_is_anything_but_false() {
        check_live("", Live::No);
        check_live("&live=false", Live::No);
        check_live("&live", Live::LongPoll);
        check_live("&live=", Live::LongPoll);
        check_live("&live=0", Live::LongPoll);
        check_live("&live=true&live_sse=false", Live::LongPoll);
        check_live("&live=true&live_sse=false&experimental_live_sse=true", Live::LongPoll);
        check_live("&live=true&live_sse", Live::Sse);
        check_live("&live=true&experimental_live_sse=true", Live::Sse);
        check_live("&live=true&experimental_live_sse=0", Live::LongPoll);
    }

    #[test]
    fn cursors_never_fail() {
        for (text, expected) in
            [("", 0), ("abc", 0), ("-5", 0), ("99999999999999999999", 0), ("7", 7)]
        {
            let query = format!("table=items&offset=-1&cursor={text}");
            assert_eq!(parse(&query).unwrap().cursor, expected, "{text:?}");
        }
    }

    #[test]
    fn each_mistake_has_the_protocols_text() {
        check_error("offset=-1", r#"{"table":["can't be blank"]}"#);
        check_error("offset=-1&table=", r#"{"table":["can't be blank"]}"#);
        check_error("table=items", r#"{"offset":["can't be blank"]}"#);
        for offset in ["abc", "1_2_3", "-5_0", "1_-1"] {
            let query = format!("table=items&offset={offset}");
            check_error(&query, r#"{"offset":["has invalid format"]}"#);
        }
        let blank = r#"{"handle":["can't be blank when offset != -1"]}"#;
        check_error("table=items&offset=0_0", blank);
        let at_start = r#"{"live":["can't be true when offset == -1"]}"#;
        check_error("table=items&offset=-1&live=true", at_start);
        let at_now = r#"{"live":["can't be true when offset is 'now'"]}"#;
        check_error("table=items&offset=now&live=true", at_now);
        let sse = r#"{"live_sse":["can't be true unless live is also true"]}"#;
        check_error("table=items&offset=-1&live_sse=true", sse);
        let maybe = "table=items&offset=-1&experimental_live_sse=maybe";
        check_error(maybe, r#"{"live_sse":["is invalid"]}"#);
        check_error("table=items&offset=-1&replica=x", r#"{"replica":["is invalid"]}"#);
        check_error("table=items&offset=-1&log=x", r#"{"log":["is invalid"]}"#);
    }

    #[test]
    fn errors_of_a_group_come_together_and_hide_later_groups() {
        check_error("table=a.b.c&offset=x", r#"{"offset":["has invalid format"]}"#);
        check_error(
            "replica=x&log=y",
            r#"{"log":["is invalid"],"offset":["can't be blank"],"replica":["is invalid"]}"#,
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let query =
            "table=items&offset=-1&where=a&params%5B1%5D=x&subset__limit=1&queryable_columns=a";
        let errors = parse(query).unwrap_err().to_json();
        for field in ["where", "params", "subset", "queryable_columns"] {
            assert!(errors.contains(&format!(r#""{field}":[""#)), "{errors}");
        }
    }

    #[test]
    fn a_deletion_names_a_handle_or_a_definition() {
        let parse = |query| Deletion::parse(&Query::parse(query));
        assert!(matches!(parse("handle=h"), Ok(Deletion::Handle(handle)) if handle == "h"));
        let both = parse("handle=h&table=items").unwrap();
        assert!(matches!(both, Deletion::Shape { handle: Some(_), .. }));
        assert_eq!(
            parse("").unwrap_err().to_json(),
            r#"{"handle":["can't be blank when shape definition is missing"]}"#
        );
    }
}
