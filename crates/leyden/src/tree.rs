//! `supervisor-tree.md`: the tree as it is written down, drawn from the same
//! values that are started.

use std::fmt::Write;

use supervision::{Node, OutlineNode};

use crate::root::{self, Running};
use crate::settings;

const HEAD: &str = "# Supervisor tree

<!-- Written by `leyden tree --markdown`; a test compares. -->

Started from top to bottom, stopped from bottom to top. A supervisor starts a child again as its restart rule says: *permanent* always,
*transient* after a failure, *temporary* never. `3/30s` is its intensity: more than 3 restarts in 30 s, and it gives up, which is a
failure of its own, or lets the child cool down, where it says so. *shutdown* is how long a child may take to stop; `brutal_kill` ends
it at once. A path is also the actor's file, its span in the logs and its row in the demo.

";

/// What is started while the server runs, one worker each: id, how many,
/// restart, shutdown, as in the `node` function beside its supervisor.
const DYNAMIC: [(&str, &str, &str, &str, &str); 2] = [
    ("shapes/consumers", "<handle>", "one per live shape", "transient", "brutal_kill"),
    ("shapes/snapshots", "<handle>", "one per snapshot being read", "temporary", "brutal_kill"),
];

/// A row of the drawing and of the table.
#[derive(Debug)]
struct Row {
    path: String,
    id: String,
    depth: usize,
    kind: String,
    rule: String,
    restart: String,
    shutdown: String,
    file: String,
}

pub(crate) fn render(markdown: bool) -> Result<String, Box<dyn std::error::Error>> {
    let rows = rows(&describe()?);
    Ok(if markdown {
        format!("{HEAD}```\n{}```\n\n{}", drawing(&rows), table(&rows))
    } else {
        drawing(&rows)
    })
}

/// The tree of a server that will never run: nothing in it depends on settings.
fn describe() -> Result<Node, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let settings = settings::serve(&[
        "--database-url=postgres://nobody@127.0.0.1/none".to_owned(),
        "--insecure".to_owned(),
        format!("--storage-dir={}", folder.path().display()),
    ])?;
    Ok(root::describe(settings, &Running::default())?.0)
}

fn rows(node: &Node) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for node in node.outline().nodes {
        let mut row = row(node);
        // Many of a kind are numbered; one row stands for all.
        if row.id.bytes().all(|byte| byte.is_ascii_digit()) {
            row.path = row.path.replace(&row.id, "<n>");
            row.id = "<n>".to_owned();
            row.kind = "worker, one per core".to_owned();
            row.file = file(&row.path, false);
        }
        if rows.last().is_some_and(|last| last.path == row.path) {
            continue;
        }
        let children: Vec<Row> = dynamic_children(&row).collect();
        rows.push(row);
        rows.extend(children);
    }
    rows
}

fn row(node: OutlineNode) -> Row {
    let is_worker = node.kind == "worker";
    let mut rule = match (node.strategy, &node.intensity) {
        (Some(strategy), Some(intensity)) => format!("{strategy} {intensity}"),
        (_, _) => String::new(),
    };
    if let Some(time) = &node.cool_down {
        // Writing to a string does not fail.
        let _ = write!(rule, ", then cools down {time}");
    }
    let is_root = node.depth == 0;
    Row {
        file: if is_root {
            "crates/leyden/src/root.rs".to_owned()
        } else {
            file(&node.path, !is_worker)
        },
        path: node.path,
        id: node.id,
        depth: node.depth,
        kind: node.kind.to_owned(),
        rule,
        restart: if is_root { "–".to_owned() } else { node.restart.to_owned() },
        shutdown: if is_root { "–".to_owned() } else { node.shutdown },
    }
}

fn dynamic_children(parent: &Row) -> impl Iterator<Item = Row> {
    let (path, depth) = (parent.path.clone(), parent.depth + 1);
    let of_parent = DYNAMIC.iter().filter(move |(supervisor, ..)| *supervisor == path);
    of_parent.map(move |(supervisor, id, number, restart, shutdown)| {
        let path = format!("{supervisor}/{id}");
        Row {
            file: file(&path, false),
            path,
            id: (*id).to_owned(),
            depth,
            kind: format!("worker, {number}"),
            rule: String::new(),
            restart: (*restart).to_owned(),
            shutdown: (*shutdown).to_owned(),
        }
    })
}

/// The folders are the tree. One of many has its file beside its supervisor's,
/// named by what each of them is.
fn file(path: &str, is_supervisor: bool) -> String {
    let owner = if path.starts_with("edge") { "api" } else { "engine" };
    let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
    let place = if last.starts_with('<') {
        let plural = parent.rsplit('/').next().unwrap_or_default();
        format!("{parent}/{}", plural.trim_end_matches('s'))
    } else {
        path.to_owned()
    };
    let place = place.replace('-', "_");
    let source = format!("crates/{owner}/src/{place}");
    // An actor may have grown into a folder of its own.
    let is_folder = is_supervisor || FOLDERS.contains(&path);
    if is_folder { format!("{source}/mod.rs") } else { format!("{source}.rs") }
}

/// Actors whose file has become a folder.
const FOLDERS: [&str; 1] = ["store/journal"];

fn drawing(rows: &[Row]) -> String {
    let heads: Vec<String> =
        rows.iter().enumerate().map(|(index, row)| head(rows, index, row)).collect();
    let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (row, head) in rows.iter().zip(heads) {
        let facts = match (row.depth, row.rule.as_str()) {
            (0, rule) => rule.to_owned(),
            (_, "") => format!("{} [{}]", row.restart, row.shutdown),
            (_, rule) => rule.to_owned(),
        };
        let _ = writeln!(text, "{head:width$}  {facts}");
    }
    text
}

/// The branch lines and the id.
fn head(rows: &[Row], index: usize, row: &Row) -> String {
    let mut text = String::new();
    for level in 1..=row.depth {
        // Whether another one comes below the same parent at this level.
        let later = rows[index + 1..].iter().find(|later| later.depth <= level);
        let goes_on = later.is_some_and(|later| later.depth == level);
        text.push_str(match (level == row.depth, goes_on) {
            (true, true) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "│  ",
            (false, false) => "   ",
        });
    }
    text + &row.id
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| path | kind | strategy, intensity | restart | shutdown | file |\n|---|---|---|---|---|---|\n",
    );
    for Row { path, kind, rule, restart, shutdown, file, .. } in rows {
        let rule = if rule.is_empty() { "–" } else { rule };
        let _ = writeln!(
            text,
            "| `{path}` | {kind} | {rule} | {restart} | {shutdown} | [{file}]({file}) |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    #[test]
    fn the_drawing_of_the_tree_is_up_to_date() {
        let path = Path::new(REPOSITORY).join("supervisor-tree.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, render(true).unwrap(), "run `just docs`");
    }

    #[test]
    fn every_actor_has_the_file_that_is_named() {
        for row in rows(&describe().unwrap()) {
            assert!(Path::new(REPOSITORY).join(&row.file).is_file(), "{row:?}");
        }
    }
}
