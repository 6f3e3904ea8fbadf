//! From variables to flags. The only reader of the process's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};

use super::{Refusal, peer};

const OURS: &str = "LEYDEN_";
const PEERS: &str = "ELECTRIC_";

/// Read elsewhere: where the crate `cluster` keeps Postgres for demo and tests.
const OTHERS: [&str; 1] = ["LEYDEN_PG_CACHE"];

/// What the variables say, as flags of `serve`.
#[derive(Debug, Default)]
pub(super) struct FromVariables {
    pub(super) flags: Vec<OsString>,
    /// `NAME (reason)` of each variable without effect.
    pub(super) ignored: Vec<String>,
}

/// The environment of this process.
pub(crate) fn process() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// `serve` is the subcommand that has a flag for every setting.
pub(super) fn read(
    variables: Vec<(OsString, OsString)>,
    serve: &clap::Command,
) -> Result<FromVariables, Refusal> {
    let mut found = FromVariables::default();
    let mut given: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (variable, value) in relevant(variables)? {
        // Compose files and unit files set what they leave out to nothing.
        if value.is_empty() {
            continue;
        }
        let Some(id) = setting(&variable, serve) else {
            found.ignored.push(without_effect(&variable, serve)?);
            continue;
        };
        match given.get(&id) {
            Some((other, other_value)) if *other_value != value => {
                return Err(Refusal::Differ { first: other.clone(), second: variable });
            }
            Some(_) | None => given.insert(id, (variable, value)),
        };
    }
    for (id, (variable, value)) in given {
        let flag = OsString::from(format!("--{}={value}", id.replace('_', "-")));
        // Alone, so that a refusal can name the variable.
        let alone = serve.clone().try_get_matches_from(["serve".into(), flag.clone()]);
        alone.map_err(|error| refused(&error, variable, value))?;
        found.flags.push(flag);
    }
    Ok(found)
}

/// Ours and the peer's, as text.
fn relevant(variables: Vec<(OsString, OsString)>) -> Result<Vec<(String, String)>, Refusal> {
    let mut kept = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        let is_ours = name.starts_with(OURS) && !OTHERS.contains(&name.as_str());
        let is_peers = name.starts_with(PEERS) || peer::reason(&name).is_some();
        if is_ours || is_peers || name == "DATABASE_URL" {
            let value = value.into_string();
            let value = value.map_err(|_| Refusal::Encoding { variable: name.clone() })?;
            kept.push((name, value));
        }
    }
    kept.sort();
    Ok(kept)
}

fn setting(variable: &str, serve: &clap::Command) -> Option<String> {
    let stripped = variable.strip_prefix(OURS).or_else(|| variable.strip_prefix(PEERS));
    let id = stripped.unwrap_or(variable).to_lowercase();
    ids(serve).find(|known| **known == id)
}

fn without_effect(variable: &str, serve: &clap::Command) -> Result<String, Refusal> {
    if variable.starts_with(OURS) {
        let known = ids(serve).map(|id| variable_of(&id));
        let nearest = known.map(|known| (distance(variable, &known), known)).min();
        let remedy = match nearest {
            Some((steps, known)) if steps <= 5 => format!("did you mean {known}?"),
            Some(_) | None => "see deploy/settings.md for those there are".to_owned(),
        };
        return Err(Refusal::Unknown { variable: variable.to_owned(), remedy });
    }
    let reason = peer::reason(variable).unwrap_or("unknown to Leyden");
    Ok(format!("{variable} ({reason})"))
}

/// The settings' names, as fields.
pub(super) fn ids(serve: &clap::Command) -> impl Iterator<Item = String> {
    let arguments = serve.get_arguments().map(|argument| argument.get_id().as_str());
    arguments.filter(|id| !matches!(*id, "help" | "version")).map(str::to_owned)
}

pub(super) fn variable_of(id: &str) -> String {
    if id == "database_url" {
        "DATABASE_URL".to_owned()
    } else {
        format!("{OURS}{}", id.to_uppercase())
    }
}

fn refused(error: &clap::Error, variable: String, value: String) -> Refusal {
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let possible = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => Some(format!("write {}", values.join(" or "))),
        Some(_) | None => None,
    };
    let reason = possible.or(reason).unwrap_or_else(|| error.kind().to_string());
    Refusal::Value { variable, value, reason }
}

/// Letters to insert, remove or replace to come from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..to.len() {
            let replaced = diagonal + usize::from(letter != to[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
