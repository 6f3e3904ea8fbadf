//! What a child spec says, in OTP's words.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// When a child that has exited is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// After an abnormal exit only: an error, a panic, a kill.
    Transient,
    /// Never; its supervisor forgets it.
    Temporary,
}

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once; `post_stop` does not run.
    BrutalKill,
    /// Asked, and killed when it has not ended in this time.
    Timeout(Duration),
    /// Asked, and waited for as long as it takes. For supervisors, whose own
    /// children have limits; a worker with it can hold up the whole stop.
    Infinity,
}

/// Which siblings share the fate of a failed child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    OneForOne,
    OneForAll,
    /// The failed child and those started after it.
    RestForOne,
}

/// More than `restarts` in `period`, and the supervisor gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    pub restarts: usize,
    pub period: Duration,
}

impl Intensity {
    pub const fn new(restarts: usize, period: Duration) -> Self {
        Self { restarts, period }
    }
}

/// The tree as it is written down, before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Depth first, in start order.
    pub nodes: Vec<OutlineNode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineNode {
    pub path: String,
    pub id: String,
    pub depth: usize,
    /// `supervisor`, `dynamic` or `worker`.
    pub kind: &'static str,
    /// `one_for_one` and so on; none for a worker.
    pub strategy: Option<&'static str>,
    /// `3/30s`; none for a worker.
    pub intensity: Option<String>,
    pub restart: &'static str,
    /// `brutal_kill`, `infinity`, or a time.
    pub shutdown: String,
    /// What the supervisor does instead of giving up: a time, if it does.
    pub cool_down: Option<String>,
}

impl Restart {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        }
    }
}

impl Strategy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrutalKill => f.write_str("brutal_kill"),
            Self::Timeout(time) => write!(f, "{time:?}"),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.restarts, self.period)
    }
}
