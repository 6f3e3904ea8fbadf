//! Why an actor ended.
//!
//! ractor knows a free text and a boxed error; OTP's rules need to tell normal
//! from abnormal, so the text is read once, here.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It had nothing more to do: `stop(None)`, or drained.
    Normal,
    /// It was asked to: `stop("shutdown")` or `stop("shutdown: why")`.
    Shutdown(Option<String>),
    /// From outside, or its task was cancelled. Abnormal, as in OTP.
    Killed,
    /// `location` is `file:line:column`, when the panic hook saw it.
    Panicked { message: String, location: Option<String> },
    /// It returned an error, or stopped itself with another reason.
    Failed(String),
}

impl ExitReason {
    /// Whether a transient child is started again after it.
    pub fn is_abnormal(&self) -> bool {
        match self {
            Self::Normal | Self::Shutdown(_) => false,
            Self::Killed | Self::Panicked { .. } | Self::Failed(_) => true,
        }
    }

    pub(crate) fn from_stop(reason: Option<&str>) -> Self {
        match reason {
            None | Some("normal" | "Drained") => Self::Normal,
            Some("shutdown") => Self::Shutdown(None),
            Some("killed" | "actor_task_cancelled") => Self::Killed,
            Some(text) => match text.strip_prefix("shutdown: ") {
                Some(detail) => Self::Shutdown(Some(detail.to_owned())),
                None => Self::Failed(text.to_owned()),
            },
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown(None) => f.write_str("shutdown"),
            Self::Shutdown(Some(detail)) => write!(f, "shutdown: {detail}"),
            Self::Killed => f.write_str("killed"),
            Self::Panicked { message, location: Some(location) } => {
                write!(f, "panicked at {location}: {message}")
            }
            Self::Panicked { message, location: None } => write!(f, "panicked: {message}"),
            Self::Failed(text) => write!(f, "failed: {text}"),
        }
    }
}

// Lets the shell hand a caught panic or error to ractor as the actor's error.
impl std::error::Error for ExitReason {}

#[cfg(test)]
mod tests {
    use super::ExitReason;

    #[track_caller]
    fn check(text: Option<&str>, expected: ExitReason, abnormal: bool) {
        let reason = ExitReason::from_stop(text);
        assert_eq!(reason, expected, "{text:?}");
        assert_eq!(reason.is_abnormal(), abnormal, "{text:?}");
    }

    #[test]
    fn stop_reasons_are_read_as_otp_reads_them() {
        check(None, ExitReason::Normal, false);
        check(Some("normal"), ExitReason::Normal, false);
        check(Some("Drained"), ExitReason::Normal, false);
        check(Some("shutdown"), ExitReason::Shutdown(None), false);
        check(Some("shutdown: fenced"), ExitReason::Shutdown(Some("fenced".into())), false);
        check(Some("killed"), ExitReason::Killed, true);
        check(Some("actor_task_cancelled"), ExitReason::Killed, true);
        check(Some("boom"), ExitReason::Failed("boom".into()), true);
        check(Some("shutdowns"), ExitReason::Failed("shutdowns".into()), true);
    }
}
