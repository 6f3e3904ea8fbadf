//! A file system in memory that keeps what was synced, and of the rest what it
//! likes.
//!
//! Files and directories each have what processes see, what is on the medium,
//! and the operations in between, of which a power cut keeps any selection,
//! writes in parts. After a failed sync nobody writes those operations again,
//! as in the kernel, while processes go on seeing them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::file::{File, Files, Mode};

/// splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    /// The process is no more; the call has been half done.
    Crash,
    /// An error, once; a write stops half-way.
    Fail,
}

/// What becomes of operations that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    All,
    Nothing,
    /// Any of them, and parts of writes.
    Some,
    /// Only the process died: nothing is lost, nothing is durable.
    OnlyProcess,
}

#[derive(Clone, Debug)]
enum FileOp {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Clone, Debug)]
enum DirOp {
    Link(String, usize),
    Unlink(String),
    Rename(String, String, usize),
}

#[derive(Debug)]
enum Node {
    File { seen: Vec<u8>, medium: Vec<u8>, unsynced: Vec<FileOp> },
    Dir { seen: BTreeMap<String, usize>, medium: BTreeMap<String, usize>, unsynced: Vec<DirOp> },
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    random: Random,
    /// Calls until the next strike.
    strike: Option<(u64, Strike)>,
    struck: bool,
    ever_struck: bool,
    calls: u64,
    dead: bool,
    /// Processes so far: files of an earlier one are no longer open.
    process: u32,
}

#[derive(Clone, Debug)]
pub(super) struct LossyDisk(Arc<Mutex<State>>);

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

fn struck() -> io::Error {
    io::Error::other("input/output error")
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl FileOp {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(pos, new) => {
                bytes.resize(bytes.len().max(pos + new.len()), 0);
                bytes[*pos..pos + new.len()].copy_from_slice(new);
            }
            Self::SetLen(byte_count) => bytes.resize(*byte_count, 0),
        }
    }

    /// A beginning, or some blocks, between which the file has zeros.
    fn apply_torn(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let Self::Write(pos, new) = self else { return };
        if random.below(2) == 0 {
            let count = random.below(new.len() as u64 + 1) as usize;
            return Self::Write(*pos, new[..count].to_vec()).apply(bytes);
        }
        for (index, block) in new.chunks(64).enumerate() {
            if random.below(2) == 0 {
                Self::Write(pos + 64 * index, block.to_vec()).apply(bytes);
            }
        }
    }
}

impl DirOp {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, node) => drop(entries.insert(name.clone(), *node)),
            Self::Unlink(name) => drop(entries.remove(name)),
            Self::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

impl Node {
    fn dir() -> Self {
        Self::Dir { seen: BTreeMap::new(), medium: BTreeMap::new(), unsynced: Vec::new() }
    }

    /// Whatever is not on the medium yet comes to it, or does not.
    fn settle(&mut self, loss: Loss, random: &mut Random) {
        let mut chance = || match loss {
            Loss::All | Loss::OnlyProcess => 0,
            Loss::Nothing => 1,
            Loss::Some => random.below(3),
        };
        match self {
            Self::File { medium, unsynced, .. } => {
                let fates: Vec<_> = unsynced.drain(..).map(|op| (chance(), op)).collect();
                for (fate, op) in fates {
                    match fate {
                        0 => {}
                        1 => op.apply(medium),
                        _ => op.apply_torn(medium, random),
                    }
                }
            }
            Self::Dir { medium, unsynced, .. } => {
                for op in unsynced.drain(..) {
                    if chance() > 0 {
                        op.apply(medium);
                    }
                }
            }
        }
    }

    fn forget(&mut self) {
        match self {
            Self::File { seen, medium, unsynced } => {
                seen.clone_from(medium);
                unsynced.iter().for_each(|op| op.apply(seen));
            }
            Self::Dir { seen, medium, unsynced } => {
                seen.clone_from(medium);
                unsynced.iter().for_each(|op| op.apply(seen));
            }
        }
    }
}

impl State {
    /// `Some`: this call is struck.
    fn call(&mut self, process: u32) -> io::Result<Option<Strike>> {
        if self.dead || process != self.process {
            return Err(dead());
        }
        self.calls += 1;
        let Some((remaining, strike)) = self.strike else { return Ok(None) };
        if remaining > 0 {
            self.strike = Some((remaining - 1, strike));
            return Ok(None);
        }
        (self.strike, self.struck, self.ever_struck) = (None, true, true);
        self.dead = strike == Strike::Crash;
        Ok(Some(strike))
    }

    fn look(&self, process: u32) -> io::Result<()> {
        if self.dead || process != self.process { Err(dead()) } else { Ok(()) }
    }

    fn entries(&self, node: usize) -> io::Result<&BTreeMap<String, usize>> {
        match &self.nodes[node] {
            Node::Dir { seen, .. } => Ok(seen),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        names(path)
            .try_fold(0, |node, name| self.entries(node)?.get(&name).copied().ok_or_else(not_found))
    }

    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = names(path).last().ok_or_else(not_found)?;
        Ok((self.find(path.parent().ok_or_else(not_found)?)?, name))
    }

    fn change_dir(&mut self, dir: usize, op: DirOp) {
        if let Node::Dir { seen, unsynced, .. } = &mut self.nodes[dir] {
            op.apply(seen);
            unsynced.push(op);
        }
    }

    fn change_file(&mut self, file: usize, op: FileOp) {
        if let Node::File { seen, unsynced, .. } = &mut self.nodes[file] {
            op.apply(seen);
            unsynced.push(op);
        }
    }

    fn sync(&mut self, node: usize, strike: Option<Strike>) -> io::Result<()> {
        let Self { nodes, random, .. } = self;
        match (strike, &nodes[node]) {
            (None, _) => nodes[node].settle(Loss::Nothing, random),
            // What a directory has not written is tried again.
            (Some(Strike::Fail), Node::Dir { .. }) => {}
            (Some(_), _) => nodes[node].settle(Loss::Some, random),
        }
        strike.map_or(Ok(()), |_| Err(struck()))
    }

    fn unlink_all(&mut self, dir: usize) -> io::Result<()> {
        for name in self.entries(dir)?.keys().cloned().collect::<Vec<_>>() {
            let node = self.entries(dir)?[&name];
            if matches!(self.nodes[node], Node::Dir { .. }) {
                self.unlink_all(node)?;
            }
            self.change_dir(dir, DirOp::Unlink(name));
        }
        Ok(())
    }
}

fn names(path: &Path) -> impl Iterator<Item = String> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    })
}

impl LossyDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: vec![Node::dir()],
            random: Random::new(seed),
            strike: None,
            struck: false,
            ever_struck: false,
            calls: 0,
            dead: false,
            process: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// As the process sees the disk that runs now.
    pub(super) fn files(&self) -> Arc<dyn Files> {
        Arc::new(Mounted { process: self.state().process, disk: self.clone() })
    }

    /// The call after so many others is struck.
    pub(super) fn arm(&self, calls: u64, strike: Strike) {
        let mut state = self.state();
        (state.strike, state.struck) = (Some((calls, strike)), false);
    }

    pub(super) fn disarm(&self) {
        self.state().strike = None;
    }

    /// Whether what was armed has happened.
    pub(super) fn has_struck(&self) -> bool {
        self.state().struck
    }

    /// Whether errors are to be expected, also late ones.
    pub(super) fn is_faulty(&self) -> bool {
        self.state().ever_struck
    }

    /// How many there were that can be struck.
    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The next process finds what is left. What a failed sync has left between
    /// cache and medium is gone, also when only the process died.
    pub(super) fn restart(&self, loss: Loss) {
        let mut state = self.state();
        let State { nodes, random, .. } = &mut *state;
        for node in nodes {
            if loss != Loss::OnlyProcess {
                node.settle(loss, random);
            }
            node.forget();
        }
        state.dead = false;
        state.strike = None;
        state.process += 1;
    }

    /// The names of all files, as seen.
    pub(super) fn paths(&self) -> Vec<String> {
        fn walk(state: &State, dir: usize, at: &str, out: &mut Vec<String>) {
            for (name, &node) in state.entries(dir).unwrap() {
                match &state.nodes[node] {
                    Node::Dir { .. } => walk(state, node, &format!("{at}/{name}"), out),
                    Node::File { .. } => out.push(format!("{at}/{name}")),
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.state(), 0, "", &mut out);
        out
    }

    pub(super) fn content(&self, path: &str) -> Vec<u8> {
        let state = self.state();
        match &state.nodes[state.find(Path::new(path)).unwrap()] {
            Node::File { seen, .. } => seen.clone(),
            Node::Dir { .. } => panic!("{path} is a directory"),
        }
    }

    /// Another disk with what is seen on this one, all of it durable.
    pub(super) fn copy(&self) -> Self {
        let mut copied = State {
            nodes: Vec::new(),
            random: Random::new(0),
            strike: None,
            struck: false,
            ever_struck: false,
            calls: 0,
            dead: false,
            process: 0,
        };
        copied.nodes.extend(self.state().nodes.iter().map(|node| match node {
            Node::File { seen, .. } => {
                Node::File { seen: seen.clone(), medium: seen.clone(), unsynced: Vec::new() }
            }
            Node::Dir { seen, .. } => {
                Node::Dir { seen: seen.clone(), medium: seen.clone(), unsynced: Vec::new() }
            }
        }));
        Self(Arc::new(Mutex::new(copied)))
    }

    /// Changes a file behind everybody's back; `None` deletes it.
    pub(super) fn damage(&self, path: &str, content: Option<Vec<u8>>) {
        let mut state = self.state();
        let (dir, name) = state.parent(Path::new(path)).unwrap();
        let node = state.find(Path::new(path)).unwrap();
        match content {
            Some(bytes) => {
                let (seen, medium, unsynced) = (bytes.clone(), bytes, Vec::new());
                state.nodes[node] = Node::File { seen, medium, unsynced };
            }
            None => {
                state.change_dir(dir, DirOp::Unlink(name));
                state.sync(dir, None).unwrap();
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Mounted {
    disk: LossyDisk,
    process: u32,
}

impl Files for Mounted {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let mut state = self.disk.state();
        let found = state.find(path);
        match mode {
            Mode::Read | Mode::Write => state.look(self.process)?,
            Mode::Replace => {
                if state.call(self.process)? == Some(Strike::Fail) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
        }
        let node = match (mode, found) {
            (Mode::Replace, Ok(node)) => {
                state.change_file(node, FileOp::SetLen(0));
                node
            }
            (Mode::Replace, Err(_)) => {
                let (dir, name) = state.parent(path)?;
                let (seen, medium, unsynced) = (Vec::new(), Vec::new(), Vec::new());
                state.nodes.push(Node::File { seen, medium, unsynced });
                let node = state.nodes.len() - 1;
                state.change_dir(dir, DirOp::Link(name, node));
                node
            }
            (Mode::Read | Mode::Write, found) => found?,
        };
        if state.dead {
            return Err(dead());
        }
        drop(state);
        Ok(Box::new(Open { mounted: self.clone(), node }))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn File>>> {
        let exists = self.disk.state().find(path).is_ok();
        self.open(path, if exists { Mode::Write } else { Mode::Replace }).map(Some)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.call(self.process)? == Some(Strike::Fail) {
            return Err(struck());
        }
        let mut dir = 0;
        for name in names(path) {
            dir = match state.entries(dir)?.get(&name) {
                Some(&node) => node,
                None => {
                    state.nodes.push(Node::dir());
                    let node = state.nodes.len() - 1;
                    state.change_dir(dir, DirOp::Link(name, node));
                    node
                }
            };
        }
        state.look(self.process)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.disk.state();
        state.look(self.process)?;
        Ok(state.entries(state.find(path)?)?.keys().cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.call(self.process)? == Some(Strike::Fail) {
            return Err(struck());
        }
        let node = state.find(from)?;
        let ((dir, from), (to_dir, to)) = (state.parent(from)?, state.parent(to)?);
        assert_eq!(dir, to_dir, "a rename from one directory to another");
        state.change_dir(dir, DirOp::Rename(from, to, node));
        state.look(self.process)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.call(self.process)? == Some(Strike::Fail) {
            return Err(struck());
        }
        state.find(path)?;
        let (dir, name) = state.parent(path)?;
        state.change_dir(dir, DirOp::Unlink(name));
        state.look(self.process)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        let strike = state.call(self.process)?;
        let node = state.find(path)?;
        let (dir, name) = state.parent(path)?;
        state.unlink_all(node)?;
        if strike == Some(Strike::Fail) {
            return Err(struck());
        }
        state.change_dir(dir, DirOp::Unlink(name));
        state.look(self.process)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        let strike = state.call(self.process)?;
        let node = state.find(path)?;
        state.sync(node, strike)
    }
}

#[derive(Debug)]
struct Open {
    mounted: Mounted,
    node: usize,
}

impl File for Open {
    fn byte_count(&self) -> io::Result<u64> {
        let state = self.mounted.disk.state();
        state.look(self.mounted.process)?;
        match &state.nodes[self.node] {
            Node::File { seen, .. } => Ok(seen.len() as u64),
            Node::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], pos: u64) -> io::Result<usize> {
        let state = self.mounted.disk.state();
        state.look(self.mounted.process)?;
        match &state.nodes[self.node] {
            Node::File { seen, .. } => {
                let rest = seen.get(pos as usize..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Node::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn write_all_at(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
        let mut state = self.mounted.disk.state();
        let strike = state.call(self.mounted.process)?;
        let count = match strike {
            Some(Strike::Fail) => state.random.below(bytes.len() as u64 + 1) as usize,
            Some(Strike::Crash) | None => bytes.len(),
        };
        state.change_file(self.node, FileOp::Write(pos as usize, bytes[..count].to_vec()));
        match strike {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn set_len(&self, byte_count: u64) -> io::Result<()> {
        let mut state = self.mounted.disk.state();
        if state.call(self.mounted.process)? == Some(Strike::Fail) {
            return Err(struck());
        }
        state.change_file(self.node, FileOp::SetLen(byte_count as usize));
        state.look(self.mounted.process)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.mounted.disk.state();
        let strike = state.call(self.mounted.process)?;
        state.sync(self.node, strike)
    }
}
