//! Against Erlang's own `supervisor`: the same scripts in both, and all that
//! can be seen from outside must be equal and in the same order: starts, stops,
//! failed starts, reports, answers, and the whole tree after every event.
//!
//! `SEED=7 cargo nextest run -p supervision --test otp` runs one script.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are not in #[test] functions"
)]

use std::collections::HashMap;

mod erlang;
mod generate;
mod ours;
mod record;
mod script;

use script::{Event, Script};

const FIXED: u64 = 10_000;
const FRESH: u64 = 2_000;

#[test]
fn ten_thousand_scripts_go_as_in_otp() {
    match seed() {
        Some(seed) => compare(seed, 1),
        None => compare(0, FIXED),
    }
}

#[test]
fn two_thousand_fresh_scripts_go_as_in_otp() {
    if seed().is_none() {
        // Far from the fixed ones.
        let first = rand::random_range(1_000_000..u64::MAX / 2);
        println!("seeds from {first}");
        compare(first, FRESH);
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's environment is not a setting")]
fn seed() -> Option<u64> {
    std::env::var("SEED").ok().map(|text| text.parse().unwrap())
}

fn compare(first: u64, count: u64) {
    if !erlang::is_here() {
        return;
    }
    let scripts: Vec<(u64, Script)> =
        (first..first + count).map(|seed| (seed, generate::script(seed))).collect();
    let texts: Vec<(u64, String)> =
        scripts.iter().map(|(seed, script)| (*seed, script.to_string())).collect();
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| erlang::run(&texts));
        let ours: HashMap<u64, Vec<String>> =
            scripts.iter().map(|(seed, script)| (*seed, ours::run(script))).collect();
        (theirs.join().unwrap(), ours)
    });
    let mut different: Vec<&(u64, Script)> = Vec::new();
    for pair in &scripts {
        let theirs = theirs.get(&pair.0).unwrap_or_else(|| panic!("Erlang lost {}", pair.0));
        if normal(&pair.1, theirs) != normal(&pair.1, &ours[&pair.0]) {
            different.push(pair);
        }
    }
    if let Some((seed, script)) = different.first() {
        explain(*seed, script, different.len());
    }
    println!("{count} scripts are equal");
}

fn explain(seed: u64, script: &Script, count: usize) {
    let script = shrink(script);
    let (theirs, ours) = both(&script);
    panic!(
        "{count} scripts differ; the first is SEED={seed}, shrunk to\n{{{script}}}\nOTP\n  {}\nours\n  {}\n",
        theirs.join("\n  "),
        ours.join("\n  "),
    );
}

fn both(script: &Script) -> (Vec<String>, Vec<String>) {
    let theirs = erlang::run(&[(0, script.to_string())]).remove(&0).unwrap_or_default();
    (normal(script, &theirs), normal(script, &ours::run(script)))
}

/// Of the smaller scripts one that still differs, as long as there is one.
fn shrink(script: &Script) -> Script {
    let mut best = script.clone();
    loop {
        let candidates = generate::smaller(&best);
        let texts: Vec<(u64, String)> =
            (0..).zip(&candidates).map(|(number, script)| (number, script.to_string())).collect();
        let theirs = erlang::run(&texts);
        let differing = (0..).zip(candidates).find(|(number, script)| {
            theirs
                .get(number)
                .is_some_and(|theirs| normal(script, theirs) != normal(script, &ours::run(script)))
        });
        match differing {
            Some((_, smaller)) => best = smaller,
            None => return best,
        }
    }
}

/// Children of a dynamic supervisor stop side by side, in no order, and OTP
/// reports on those stops without saying which child it was.
fn normal(script: &Script, trace: &[String]) -> Vec<String> {
    let parents = parents(script);
    let is_vague = |line: &&String| {
        let child = line.strip_prefix("report shutdown_error ");
        child.is_some_and(|child| child.starts_with(['?', 'd']))
    };
    let mut lines: Vec<String> = trace.iter().filter(|line| !is_vague(line)).cloned().collect();
    let parent = |line: &String| parents.get(line.strip_prefix("stop ")?);
    for run in lines.chunk_by_mut(|a, b| parent(a).is_some() && parent(a) == parent(b)) {
        if run.len() > 1 {
            run.sort();
        }
    }
    lines
}

/// Of those that are dynamic.
fn parents(script: &Script) -> HashMap<&str, &str> {
    let mut parents = HashMap::new();
    for event in &script.events {
        if let Event::StartDynamic { sup, work } = event {
            parents.insert(work.id.as_str(), sup.as_str());
        }
    }
    parents
}
