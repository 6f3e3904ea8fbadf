//! Control messages (protocol §4.5).

use std::fmt::Write;

use crate::Visibility;

/// The body of a 409.
pub const MUST_REFETCH: &str = r#"[{"headers":{"control":"must-refetch"}}]"#;

/// Closes a reply that reaches the end of the log. `lsn` is decimal text:
/// clients read it as a big integer.
pub fn up_to_date(lsn: u64) -> String {
    format!(r#"{{"headers":{{"control":"up-to-date","global_last_seen_lsn":"{lsn}"}}}}"#)
}

/// Closes every initial snapshot.
pub fn snapshot_end(visibility: &Visibility) -> String {
    let Visibility { xmin, xmax, xip } = visibility;
    let mut text = format!(
        r#"{{"headers":{{"control":"snapshot-end","xmin":"{xmin}","xmax":"{xmax}","xip_list":["#
    );
    for (index, xid) in xip.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, r#"{comma}"{xid}""#);
    }
    text.push_str("]}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_as_the_protocol_says() {
        assert_eq!(
            up_to_date(7),
            r#"{"headers":{"control":"up-to-date","global_last_seen_lsn":"7"}}"#
        );
        assert_eq!(
            snapshot_end(&"730:735:731,733".parse().unwrap()),
            r#"{"headers":{"control":"snapshot-end","xmin":"730","xmax":"735","xip_list":["731","733"]}}"#
        );
    }
}
