//! What a child spec says, in OTP's words.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// When a child that has exited is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    #[default]
    OneForOne,
    OneForAll,
    /// The failed child and those started after it.
    RestForOne,
}

/// When a supervisor ends because its significant children have: transient
/// ones that ended well, temporary ones that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// It has no significant children.
    #[default]
    Never,
    AnySignificant,
    AllSignificant,
}

/// How long a failed child waits for its restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartDelay {
    /// 0, 10, 50, 250 ms … 5 s less up to half at random.
    #[default]
    Backoff,
    /// Not at all, as in OTP.
    None,
}

/// A child as its supervisor has it, without what starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSpec {
    pub id: String,
    pub restart: Restart,
    pub shutdown: Shutdown,
    pub kind: ChildKind,
    pub significant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    Worker,
    Supervisor,
}

/// One of a supervisor's children at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub id: String,
    pub state: ChildState,
    pub kind: ChildKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    Running,
    Restarting,
    /// OTP's `undefined`: ended or terminated, and kept.
    Stopped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// All children, running or not.
    pub specs: usize,
    pub active: usize,
    pub supervisors: usize,
    pub workers: usize,
}

/// More than `restarts` in `period`, and the supervisor gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    pub restarts: usize,
    pub period: Duration,
}

/// For a worker.
impl Default for Shutdown {
    fn default() -> Self {
        Self::Timeout(Duration::from_secs(5))
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self::new(1, Duration::from_secs(5))
    }
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
    pub significant: bool,
    /// None for a worker.
    pub auto_shutdown: Option<&'static str>,
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

impl AutoShutdown {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::AnySignificant => "any_significant",
            Self::AllSignificant => "all_significant",
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
