//! Runs a script in ours, on a clock that stands still.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use supervision::{
    ChildError, ChildKind, ChildState, Dynamic, Intensity, Mailbox, Node, RestartDelay, Root,
    Shutdown, StartError, SupervisorHandle, dynamic, start, supervisor, worker,
};

use crate::record::{Record, Reports};
use crate::script::{Event, How, OnStop, Script, Spec, Stop, Sup, Work};

pub(crate) const PERIOD: Duration = Duration::from_secs(100);

/// Longer than all stubborn workers of a script together.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
struct Worker;

#[derive(Clone, Debug)]
struct Args {
    work: Work,
    record: Record,
    starts: Arc<Mutex<u32>>,
}

#[derive(Debug)]
struct State {
    args: Args,
    /// It stops by itself, which nobody has asked for.
    is_leaving: bool,
}

impl Actor for Worker {
    type Arguments = Args;
    type Msg = How;
    type State = State;

    async fn pre_start(
        &self,
        _myself: ActorRef<How>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let number = {
            let mut starts = args.starts.lock().unwrap();
            *starts += 1;
            *starts
        };
        if args.work.fails.contains(&number) {
            args.record.note(format!("fail {}", args.work.id));
            return Err("told to fail".into());
        }
        args.record.note(format!("start {}", args.work.id));
        Ok(State { args, is_leaving: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<How>,
        how: How,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.is_leaving = true;
        match how {
            How::Normal => myself.stop(None),
            How::Shutdown => myself.stop(Some("shutdown".to_owned())),
            How::ShutdownWhy => myself.stop(Some("shutdown: why".to_owned())),
            How::Crash => return Err("crash".into()),
            How::Kill => unreachable!("done from outside"),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<How>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match state.args.work.on_stop {
            _ if state.is_leaving => Ok(()),
            OnStop::Prompt => Ok(()),
            OnStop::Crash => Err("crash".into()),
            OnStop::Stubborn => std::future::pending().await,
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.args.record.note(format!("stop {}", self.args.work.id));
    }
}

struct World {
    record: Record,
    mailboxes: HashMap<String, Mailbox<How>>,
    starts: HashMap<String, Arc<Mutex<u32>>>,
    paths: HashMap<String, String>,
}

/// What happened, in the words of `otp.erl`.
pub(crate) fn run(script: &Script) -> Vec<String> {
    let record = Record::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let reports = Reports::new(&record);
    let _guard = tracing::subscriber::set_default(reports);
    let world = World {
        record: record.clone(),
        mailboxes: HashMap::new(),
        starts: HashMap::new(),
        paths: HashMap::from([("root".to_owned(), "root".to_owned())]),
    };
    runtime.unwrap().block_on(world.run(script));
    record.take()
}

impl World {
    async fn run(mut self, script: &Script) {
        let tree = self.sup(&script.tree, "");
        let Ok(root) = start(tree).await else {
            return self.record.note("not started".to_owned());
        };
        self.settle(&root).await;
        for event in &script.events {
            self.step(&root, event).await;
            self.settle(&root).await;
        }
        root.stop().await;
    }

    fn sup(&mut self, sup: &Sup, prefix: &str) -> Node {
        let intensity = Intensity::new(sup.intensity, PERIOD);
        let path = format!("{prefix}{}", sup.id);
        let below = if sup.id == "root" { String::new() } else { format!("{path}/") };
        self.paths.insert(sup.id.clone(), path);
        let node = match sup.strategy {
            None => dynamic(&sup.id, intensity, &Dynamic::new()),
            Some(strategy) => {
                let children: Vec<Node> =
                    sup.children.iter().map(|child| self.spec(child, &below)).collect();
                supervisor(&sup.id, strategy, intensity, children)
            }
        };
        let node = node
            .auto_shutdown(sup.auto_shutdown)
            .restart_delay(RestartDelay::None)
            .restart(sup.restart)
            .shutdown(shutdown(sup.stop));
        if sup.is_significant { node.significant() } else { node }
    }

    fn spec(&mut self, spec: &Spec, prefix: &str) -> Node {
        match spec {
            Spec::Sup(sup) => self.sup(sup, prefix),
            Spec::Work(work) => self.work(work, prefix),
        }
    }

    fn work(&mut self, work: &Work, prefix: &str) -> Node {
        self.paths.insert(work.id.clone(), format!("{prefix}{}", work.id));
        let mailbox = self.mailboxes.entry(work.id.clone()).or_default().clone();
        let starts = Arc::clone(self.starts.entry(work.id.clone()).or_default());
        let args = Args { work: work.clone(), record: self.record.clone(), starts };
        let node = worker(&work.id, work.restart, shutdown(work.stop), &mailbox, Worker, args);
        if work.is_significant { node.significant() } else { node }
    }

    async fn settle(&self, root: &Root) {
        tokio::time::sleep(SETTLED_AFTER).await;
        let view = view(root, "root").await.unwrap_or_else(|| "down".to_owned());
        self.record.note(format!("= {view}"));
    }

    async fn step(&mut self, root: &Root, event: &Event) {
        let result = match event {
            Event::Exit { id, how } => {
                if !self.mailboxes.get(id).is_some_and(Mailbox::is_up) {
                    return self.record.note("> nop".to_owned());
                }
                self.record.note("> exit".to_owned());
                match how {
                    How::Kill => root.kill(&self.paths[id]).unwrap(),
                    How::Normal | How::Shutdown | How::ShutdownWhy | How::Crash => {
                        self.mailboxes[id].send(*how).unwrap();
                    }
                }
                return;
            }
            Event::Advance { seconds } => {
                tokio::time::advance(Duration::from_secs(u64::from(*seconds))).await;
                "advance".to_owned()
            }
            Event::Start { sup, spec } => {
                let prefix = self.prefix(sup);
                let node = self.spec(spec, &prefix);
                self.start(root, sup, node).await
            }
            Event::StartDynamic { sup, work } => {
                let prefix = self.prefix(sup);
                let node = self.work(work, &prefix);
                self.start(root, sup, node).await
            }
            Event::Terminate { sup, .. }
            | Event::Restart { sup, .. }
            | Event::Delete { sup, .. }
            | Event::Count { sup, .. }
            | Event::Spec { sup, .. } => match self.supervisor(root, sup) {
                Some(handle) => ask(&handle, event).await.unwrap_or_else(|error| refusal(&error)),
                None => "down".to_owned(),
            },
        };
        self.record.note(format!("> {result}"));
    }

    fn supervisor(&self, root: &Root, id: &str) -> Option<SupervisorHandle> {
        // A shrunk script may name what it does not have.
        root.supervisor(self.paths.get(id)?)
    }

    fn prefix(&self, sup: &str) -> String {
        match self.paths.get(sup) {
            Some(path) if sup != "root" => format!("{path}/"),
            Some(_) | None => String::new(),
        }
    }

    async fn start(&self, root: &Root, sup: &str, node: Node) -> String {
        let Some(handle) = self.supervisor(root, sup) else { return "down".to_owned() };
        let result = match handle.start_child(node).await {
            Ok(()) => "ok",
            Err(StartError::AlreadyStarted { .. }) => "already_started",
            Err(StartError::AlreadyPresent { .. }) => "already_present",
            Err(StartError::Invalid { .. }) => "invalid",
            Err(StartError::Failed { .. }) => "failed",
            Err(StartError::NotRunning) => "down",
            Err(StartError::AtCapacity { .. }) => "at_capacity",
        };
        result.to_owned()
    }
}

async fn ask(handle: &SupervisorHandle, event: &Event) -> Result<String, ChildError> {
    match event {
        Event::Terminate { id, .. } => handle.terminate_child(id).await?,
        Event::Restart { id, .. } => handle.restart_child(id).await?,
        Event::Delete { id, .. } => handle.delete_child(id).await?,
        Event::Count { is_dynamic, .. } => {
            let counts = handle.count_children().await?;
            let specs =
                if *is_dynamic { String::new() } else { format!("specs={} ", counts.specs) };
            let (active, supervisors) = (counts.active, counts.supervisors);
            let workers = counts.workers;
            return Ok(format!(
                "{specs}active={active} supervisors={supervisors} workers={workers} "
            ));
        }
        Event::Spec { id, .. } => {
            let spec = handle.get_childspec(id)?;
            let stop = match spec.shutdown {
                Shutdown::BrutalKill => "brutal_kill".to_owned(),
                Shutdown::Timeout(time) => time.as_millis().to_string(),
                Shutdown::Infinity => "infinity".to_owned(),
            };
            let kind = match spec.kind {
                ChildKind::Worker => "worker",
                ChildKind::Supervisor => "supervisor",
            };
            return Ok(format!("{} {stop} {kind} {}", spec.restart, spec.significant));
        }
        Event::Exit { .. }
        | Event::Advance { .. }
        | Event::Start { .. }
        | Event::StartDynamic { .. } => unreachable!("no such request"),
    }
    Ok("ok".to_owned())
}

fn refusal(error: &ChildError) -> String {
    let text = match error {
        ChildError::NotFound { .. } => "not_found",
        ChildError::Running { .. } => "running",
        ChildError::Restarting { .. } => "restarting",
        ChildError::Failed { .. } => "failed",
        ChildError::Dynamic => "dynamic",
        ChildError::NotRunning => "down",
    };
    text.to_owned()
}

fn shutdown(stop: Stop) -> Shutdown {
    match stop {
        Stop::Brutal => Shutdown::BrutalKill,
        Stop::Time(ms) => Shutdown::Timeout(Duration::from_millis(u64::from(ms))),
        Stop::Infinity => Shutdown::Infinity,
    }
}

/// None if the supervisor is down.
async fn view(root: &Root, path: &str) -> Option<String> {
    let handle = root.supervisor(path)?;
    let mut views = Vec::new();
    for child in handle.which_children().await.ok()? {
        let below = if path == "root" { child.id.clone() } else { format!("{path}/{}", child.id) };
        views.push(match (child.kind, child.state) {
            (ChildKind::Worker, ChildState::Running) => format!("{}+w", child.id),
            (ChildKind::Worker, ChildState::Stopped) => format!("{}-w", child.id),
            (ChildKind::Supervisor, ChildState::Stopped) => format!("{}-s", child.id),
            (ChildKind::Supervisor, ChildState::Running) => {
                let inner = Box::pin(view(root, &below)).await;
                format!("{}+s[{}]", child.id, inner.unwrap_or_else(|| "down".to_owned()))
            }
            (_, ChildState::Restarting) => format!("{} restarting", child.id),
        });
    }
    // Dynamic children have no order in OTP.
    if views.iter().all(|view| view.starts_with('d')) {
        views.sort();
    }
    Some(views.join(" "))
}
