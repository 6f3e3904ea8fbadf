//! What keeps the repository readable: who may use whom, how long a file may
//! be, that every process has its file, and what must not be in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file before its tests.
const LINES_MAX: usize = 500;

/// Where tests let time pass, each with its reason.
const MAY_SLEEP: &[(&str, &str)] = &[
    ("crates/testkit/src/wait.rs", "the one poll loop, and the pace of loads"),
    ("crates/api/src/edge/tests.rs", "the pause between two packets is what is tested"),
    ("crates/supervision/tests", "paused clock: sleeping moves it"),
    ("crates/pg/tests/postgres/cluster.rs", "polls for the start of a process"),
    ("crates/pg/tests/postgres/login.rs", "lets a query begin that is then cancelled"),
    (
        "crates/pg/tests/postgres/publication.rs",
        "lets a waiter wait before it gets what it waits for",
    ),
    ("crates/cluster/tests/cluster.rs", "a process that lives until the test kills it"),
    ("crates/cluster/src/cluster.rs", "polls for the start and end of a process it does not own"),
    ("crates/cluster/src/watchdog.rs", "a shell script that must need nothing but a shell"),
];

/// Tests that are not run by themselves, each with its reason.
const MAY_BE_IGNORED: &[(&str, &str)] = &[
    ("crates/cluster/tests/cluster.rs", "the process that another test starts and kills"),
    (
        "crates/supervision/tests/it/cost.rs",
        "measurements, for an optimised build on a quiet machine",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file of ours, as a path from the root.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let foreign = ["target", "node_modules", ".git", ".pg"].contains(&name.as_str());
                if !foreign {
                    folders.push(path);
                }
            } else {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(root().join(path)).unwrap()).into_owned()
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files().into_iter().filter(is_rust).map(|path| {
        let text = read(&path);
        (path, text)
    })
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// The table of crates in ARCHITECTURE.md: each crate and what it may use.
fn crates_of_the_architecture() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(Path::new("ARCHITECTURE.md"));
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let uses: BTreeSet<String> = match cells[2] {
            "–" => BTreeSet::new(),
            "all above" => table.keys().cloned().collect(),
            list => list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect(),
        };
        table.insert(cells[0].trim_matches('`').to_owned(), uses);
    }
    table
}

#[test]
fn crates_use_only_what_the_architecture_lets_them() {
    let table = crates_of_the_architecture();
    let mut folders: BTreeSet<String> = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        folders.insert(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    assert_eq!(folders, table.keys().cloned().collect(), "crates/ and ARCHITECTURE.md differ");
    let mut wrong = Vec::new();
    for (name, may_use) in &table {
        let manifest: toml::Table =
            read(&Path::new("crates").join(name).join("Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(name.as_str()), "folder and crate");
        for (section, extra) in [
            ("dependencies", None),
            ("build-dependencies", None),
            ("dev-dependencies", Some("testkit")),
        ] {
            let used = manifest.get(section).and_then(toml::Value::as_table);
            for used in used.into_iter().flat_map(toml::Table::keys) {
                let allowed = may_use.contains(used) || extra == Some(used.as_str());
                if table.contains_key(used) && !allowed {
                    wrong.push(format!("{name} uses {used} in its {section}"));
                }
            }
        }
    }
    none("ARCHITECTURE.md does not allow", &wrong);
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let pure = ["crates/change/src", "crates/shape/src", "crates/expr/src"];
        if !pure.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for word in ["tokio", "std::fs", "std::net", "std::thread", "Instant::now", "std::env"] {
            if text.contains(word) {
                wrong.push(format!("{word} in {}", path.display()));
            }
        }
    }
    none("pure crates know no runtime, file or clock", &wrong);
}

/// The store's crash simulation, compiled for tests only.
const TEST_FOLDER: &str = "crates/storage/src/crash";

#[test]
fn no_file_is_too_long_to_read() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // A module of tests that has moved out of its file, or is a folder.
        let is_tests = path.file_name().is_some_and(|name| name == "tests.rs");
        if is_tests || path.starts_with(TEST_FOLDER) {
            continue;
        }
        let code = text.lines().position(|line| line.starts_with("#[cfg(test)]"));
        let count = code.unwrap_or_else(|| text.lines().count());
        if count > LINES_MAX {
            wrong.push(format!("{}: {count} lines", path.display()));
        }
    }
    none("files over the limit", &wrong);
}

/// The first column of the tables in supervisor-tree.md: the paths.
fn tree_paths() -> BTreeSet<String> {
    let text = read(Path::new("supervisor-tree.md"));
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let names = cells.map(|cell| cell.trim().trim_matches('`').to_owned());
    let is_path = |name: &String| {
        let word = |byte: u8| byte.is_ascii_lowercase() || b"-/<>*".contains(&byte);
        !name.is_empty() && name.bytes().all(word) && name != "leyden" && !name.starts_with('-')
    };
    names.filter(|name| is_path(name) && name != "path" && name != "actor").collect()
}

#[test]
fn every_path_of_the_tree_has_its_file() {
    let paths = tree_paths();
    assert!(paths.len() > 15, "supervisor-tree.md names only {paths:?}");
    let mut missing = Vec::new();
    for path in paths {
        // A child that is one of many has its file beside its supervisor's.
        let fixed: Vec<String> = path
            .split('/')
            .take_while(|part| !part.starts_with(['<', '*']))
            .map(|part| part.replace('-', "_"))
            .collect();
        let place = fixed.join("/");
        let found = ["engine", "api", "leyden"].iter().any(|name| {
            let source = root().join("crates").join(name).join("src");
            source.join(format!("{place}.rs")).exists()
                || source.join(&place).join("mod.rs").exists()
        });
        if !found {
            missing.push(format!("{path}: no …/src/{place}.rs or {place}/mod.rs"));
        }
    }
    none("paths without their file", &missing);
}

#[test]
fn no_test_is_switched_off() {
    // Put together here, or this file would contain it.
    let word = concat!("#[", "ignore");
    let allowed = |path: &Path| MAY_BE_IGNORED.iter().any(|(place, _)| path == Path::new(place));
    let found = sources().filter(|(path, text)| text.contains(word) && !allowed(path));
    none("ignored tests", &found.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn no_registry_is_named() {
    let hosts = [
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("registry.", "npmjs"),
        concat!("registry.", "yarnpkg"),
        concat!("pypi.", "org"),
        concat!("proxy.", "golang"),
    ];
    let mut found = Vec::new();
    for path in files() {
        let text = read(&path);
        for host in hosts {
            if text.contains(host) {
                found.push(format!("{host} in {}", path.display()));
            }
        }
    }
    none("a clone behind a mirror must work as it is", &found);
}

#[test]
fn tests_wait_for_conditions_not_for_time() {
    let words = [concat!("time::", "sleep("), concat!("thread::", "sleep(")];
    let mut found = Vec::new();
    for (path, text) in sources() {
        let is_test = ["tests", "crates/testkit", "crates/cluster"]
            .iter()
            .any(|folder| path.starts_with(folder))
            || path.components().any(|part| part.as_os_str() == "tests")
            || path.file_name().is_some_and(|name| name == "tests.rs");
        let allowed = MAY_SLEEP.iter().any(|(place, _)| path.starts_with(place));
        if is_test && !allowed && words.iter().any(|word| text.contains(word)) {
            found.push(path.display().to_string());
        }
    }
    none("wait on a condition (testkit::wait), or add a line with the reason", &found);
}
