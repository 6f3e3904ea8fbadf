//! What both sides run: a tree and a list of events, and their text in Erlang.

use std::fmt::{self, Display};

use supervision::{AutoShutdown, Restart, Strategy};

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) tree: Sup,
    pub(crate) events: Vec<Event>,
}

/// Ids are unique in a script, and an id has the same parent wherever it is.
#[derive(Clone, Debug)]
pub(crate) enum Spec {
    Sup(Sup),
    Work(Work),
}

#[derive(Clone, Debug)]
pub(crate) struct Sup {
    pub(crate) id: String,
    /// None is dynamic; then `children` is the one template.
    pub(crate) strategy: Option<Strategy>,
    pub(crate) intensity: usize,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) restart: Restart,
    pub(crate) stop: Stop,
    pub(crate) is_significant: bool,
    pub(crate) children: Vec<Spec>,
}

#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) id: String,
    pub(crate) restart: Restart,
    pub(crate) stop: Stop,
    pub(crate) is_significant: bool,
    pub(crate) on_stop: OnStop,
    /// Which of its starts fail, from 1.
    pub(crate) fails: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Brutal,
    /// In milliseconds: short for those who use it up, else wide.
    Time(u32),
    Infinity,
}

/// What a worker does when it is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStop {
    Prompt,
    Crash,
    Stubborn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Normal,
    Shutdown,
    ShutdownWhy,
    Crash,
    Kill,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Exit {
        id: String,
        how: How,
    },
    /// More than the drift of either side's clock between two multiples of it.
    Advance {
        seconds: u32,
    },
    Start {
        sup: String,
        spec: Spec,
    },
    /// The template is the supervisor's.
    StartDynamic {
        sup: String,
        work: Work,
    },
    Terminate {
        sup: String,
        id: String,
        is_dynamic: bool,
    },
    Restart {
        sup: String,
        id: String,
    },
    Delete {
        sup: String,
        id: String,
    },
    Count {
        sup: String,
        is_dynamic: bool,
    },
    Spec {
        sup: String,
        id: String,
    },
}

impl Spec {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Sup(sup) => &sup.id,
            Self::Work(work) => &work.id,
        }
    }
}

impl Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.tree, List(&self.events))
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sup(sup) => sup.fmt(f),
            Self::Work(work) => work.fmt(f),
        }
    }
}

impl Display for Sup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strategy = self.strategy.map_or("dynamic", Strategy::as_str);
        write!(
            f,
            "{{sup,{},{strategy},{},{},{},{},{},{}}}",
            self.id,
            self.intensity,
            self.auto_shutdown.as_str(),
            self.restart,
            self.stop,
            self.is_significant,
            List(&self.children)
        )
    }
}

impl Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_stop = match self.on_stop {
            OnStop::Prompt => "prompt",
            OnStop::Crash => "crash",
            OnStop::Stubborn => "stubborn",
        };
        let (id, restart, stop) = (&self.id, self.restart, self.stop);
        let (is_significant, fails) = (self.is_significant, List(&self.fails));
        write!(f, "{{worker,{id},{restart},{stop},{is_significant},{on_stop},{fails}}}")
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brutal => f.write_str("brutal_kill"),
            Self::Time(ms) => ms.fmt(f),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

impl Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::ShutdownWhy => "shutdown_why",
            Self::Crash => "crash",
            Self::Kill => "kill",
        })
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { id, how } => write!(f, "{{exit,{id},{how}}}"),
            Self::Advance { seconds } => write!(f, "{{advance,{seconds}}}"),
            Self::Start { sup, spec } => write!(f, "{{start,{sup},{spec}}}"),
            Self::StartDynamic { sup, work } => {
                write!(f, "{{start,{sup},{{dynamic,{},{}}}}}", work.id, List(&work.fails))
            }
            Self::Terminate { sup, id, is_dynamic: false } => {
                write!(f, "{{terminate,{sup},{id}}}")
            }
            Self::Terminate { sup, id, is_dynamic: true } => {
                write!(f, "{{terminate_dynamic,{sup},{id}}}")
            }
            Self::Restart { sup, id } => write!(f, "{{restart,{sup},{id}}}"),
            Self::Delete { sup, id } => write!(f, "{{delete,{sup},{id}}}"),
            Self::Count { sup, is_dynamic: false } => {
                write!(f, "{{count,{sup},[specs,active,supervisors,workers]}}")
            }
            // OTP counts the one template as the specs.
            Self::Count { sup, is_dynamic: true } => {
                write!(f, "{{count,{sup},[active,supervisors,workers]}}")
            }
            Self::Spec { sup, id } => write!(f, "{{spec,{sup},{id}}}"),
        }
    }
}

struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", items.join(","))
    }
}
