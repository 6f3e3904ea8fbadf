//! Scripts from seeds, and smaller scripts from scripts.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use supervision::{AutoShutdown, Restart, Strategy};

use crate::script::{Event, How, OnStop, Script, Spec, Stop, Sup, Work};

const DEPTH_MAX: usize = 3;
const CHILDREN_MAX: usize = 4;
const EVENTS_MAX: usize = 12;

pub(crate) fn script(seed: u64) -> Script {
    let mut generator =
        Generator { random: StdRng::seed_from_u64(seed), next_id: 0, known: Vec::new() };
    let tree = generator.sup("root".to_owned(), 1, AutoShutdown::Never);
    let count = generator.random.random_range(1..=EVENTS_MAX);
    let events = (0..count).map(|_| generator.event()).collect();
    Script { tree, events }
}

/// With one event, or one child, less.
pub(crate) fn smaller(script: &Script) -> Vec<Script> {
    let mut all = Vec::new();
    for index in (0..script.events.len()).rev() {
        let mut one = script.clone();
        one.events.remove(index);
        all.push(one);
    }
    let without = |tree| Script { tree, events: script.events.clone() };
    all.extend(smaller_sups(&script.tree).into_iter().map(without));
    all
}

fn smaller_sups(sup: &Sup) -> Vec<Sup> {
    let mut all = Vec::new();
    for (index, child) in sup.children.iter().enumerate() {
        if sup.strategy.is_some() {
            let mut one = sup.clone();
            one.children.remove(index);
            all.push(one);
        }
        match child {
            Spec::Sup(inner) => {
                for inner in smaller_sups(inner) {
                    let mut one = sup.clone();
                    one.children[index] = Spec::Sup(inner);
                    all.push(one);
                }
            }
            Spec::Work(work) => {
                for fail in 0..work.fails.len() {
                    let mut work = work.clone();
                    work.fails.remove(fail);
                    let mut one = sup.clone();
                    one.children[index] = Spec::Work(work);
                    all.push(one);
                }
            }
        }
    }
    all
}

struct Generator {
    random: StdRng,
    next_id: u32,
    known: Vec<Known>,
}

/// A supervisor that events may name.
struct Known {
    id: String,
    is_dynamic: bool,
    auto_shutdown: AutoShutdown,
    depth: usize,
    children: Vec<Spec>,
}

impl Generator {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.random.random_range(0..items.len())].clone()
    }

    fn id(&mut self, letter: char) -> String {
        self.next_id += 1;
        format!("{letter}{}", self.next_id)
    }

    fn sup(&mut self, id: String, depth: usize, above: AutoShutdown) -> Sup {
        let strategies = [
            Some(Strategy::OneForOne),
            Some(Strategy::OneForAll),
            Some(Strategy::RestForOne),
            Some(Strategy::OneForOne),
            Some(Strategy::OneForAll),
            Some(Strategy::RestForOne),
            None,
        ];
        let strategy = self.pick(&strategies);
        let auto_shutdown = self.pick(&[
            AutoShutdown::Never,
            AutoShutdown::Never,
            AutoShutdown::AnySignificant,
            AutoShutdown::AllSignificant,
        ]);
        let index = self.known.len();
        self.known.push(Known {
            id: id.clone(),
            is_dynamic: strategy.is_none(),
            auto_shutdown,
            depth,
            children: Vec::new(),
        });
        let children: Vec<Spec> = if strategy.is_none() {
            let template = Work { fails: Vec::new(), ..self.work("template", auto_shutdown) };
            vec![Spec::Work(template)]
        } else {
            let count = self.random.random_range(0..=CHILDREN_MAX);
            (0..count).map(|_| self.child(depth, auto_shutdown)).collect()
        };
        self.known[index].children.clone_from(&children);
        let (restart, is_significant) = self.restart(above);
        let stop = self.pick(&[Stop::Infinity, Stop::Infinity, Stop::Time(5000)]);
        let intensity = self.random.random_range(0..=4);
        Sup { id, strategy, intensity, auto_shutdown, restart, stop, is_significant, children }
    }

    fn child(&mut self, depth: usize, above: AutoShutdown) -> Spec {
        if depth < DEPTH_MAX && self.chance(30) {
            let id = self.id('s');
            Spec::Sup(self.sup(id, depth + 1, above))
        } else {
            let id = self.id('w');
            Spec::Work(self.work(&id, above))
        }
    }

    fn work(&mut self, id: &str, above: AutoShutdown) -> Work {
        let (restart, is_significant) = self.restart(above);
        let on_stop = self.pick(&[
            OnStop::Prompt,
            OnStop::Prompt,
            OnStop::Prompt,
            OnStop::Prompt,
            OnStop::Crash,
            OnStop::Stubborn,
        ]);
        let stop = match on_stop {
            OnStop::Prompt | OnStop::Crash => {
                self.pick(&[Stop::Brutal, Stop::Time(5000), Stop::Time(5000), Stop::Infinity])
            }
            OnStop::Stubborn => self.pick(&[Stop::Brutal, Stop::Time(20)]),
        };
        let mut fails = Vec::new();
        for number in 1..=6 {
            if self.chance(if number == 1 { 2 } else { 15 }) {
                fails.push(number);
            }
        }
        Work { id: id.to_owned(), restart, stop, is_significant, on_stop, fails }
    }

    fn restart(&mut self, above: AutoShutdown) -> (Restart, bool) {
        let restart = self.pick(&[
            Restart::Permanent,
            Restart::Permanent,
            Restart::Transient,
            Restart::Transient,
            Restart::Temporary,
        ]);
        let may_be_significant = above != AutoShutdown::Never && restart != Restart::Permanent;
        (restart, may_be_significant && self.chance(70))
    }

    fn event(&mut self) -> Event {
        let index = self.random.random_range(0..self.known.len());
        let (sup, is_dynamic) = (self.known[index].id.clone(), self.known[index].is_dynamic);
        let kind = self.random.random_range(0..100);
        if kind < 6 {
            return Event::Advance { seconds: self.pick(&[40, 80, 120]) };
        }
        if kind < 56 {
            return self.exit();
        }
        if kind < 60 {
            return Event::Count { sup, is_dynamic };
        }
        if is_dynamic { self.dynamic_call(index, kind) } else { self.call(index, kind) }
    }

    fn exit(&mut self) -> Event {
        let mut ids = Vec::new();
        for known in &self.known {
            for child in &known.children {
                if let Spec::Work(work) = child
                    && work.id != "template"
                {
                    ids.push(work.id.clone());
                }
            }
        }
        if ids.is_empty() {
            return Event::Advance { seconds: 40 };
        }
        let how = self.pick(&[
            How::Normal,
            How::Shutdown,
            How::ShutdownWhy,
            How::Crash,
            How::Crash,
            How::Crash,
            How::Kill,
        ]);
        Event::Exit { id: self.pick(&ids), how }
    }

    fn call(&mut self, index: usize, kind: u32) -> Event {
        let sup = self.known[index].id.clone();
        let ids: Vec<String> =
            self.known[index].children.iter().map(|child| child.id().to_owned()).collect();
        if ids.is_empty() || kind < 72 {
            return self.start(index);
        }
        let id = if self.chance(3) { "nobody".to_owned() } else { self.pick(&ids) };
        match kind {
            ..82 => Event::Terminate { sup, id, is_dynamic: false },
            82..90 => Event::Restart { sup, id },
            90..97 => Event::Delete { sup, id },
            97.. => Event::Spec { sup, id },
        }
    }

    fn start(&mut self, index: usize) -> Event {
        let sup = self.known[index].id.clone();
        let (depth, above) = (self.known[index].depth, self.known[index].auto_shutdown);
        let old = self.known[index].children.clone();
        if !old.is_empty() && self.chance(40) {
            return Event::Start { sup, spec: self.pick(&old) };
        }
        let mut spec = self.child(depth, above);
        if let Spec::Work(work) = &mut spec {
            // Now and then in a way that must be refused.
            work.is_significant |= self.chance(8);
        }
        self.known[index].children.push(spec.clone());
        Event::Start { sup, spec }
    }

    fn dynamic_call(&mut self, index: usize, kind: u32) -> Event {
        let sup = self.known[index].id.clone();
        let ids: Vec<String> =
            self.known[index].children[1..].iter().map(|child| child.id().to_owned()).collect();
        if ids.is_empty() || kind < 80 {
            let Spec::Work(template) = self.known[index].children[0].clone() else {
                unreachable!("a template is a worker");
            };
            let id = self.id('d');
            let work = Work { fails: self.work(&id, AutoShutdown::Never).fails, id, ..template };
            self.known[index].children.push(Spec::Work(work.clone()));
            return Event::StartDynamic { sup, work };
        }
        let id = self.pick(&ids);
        match kind {
            ..94 => Event::Terminate { sup, id, is_dynamic: true },
            94..97 => Event::Restart { sup, id },
            97.. => Event::Delete { sup, id },
        }
    }
}
