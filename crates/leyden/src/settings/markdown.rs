//! `deploy/settings.md`, from the definitions themselves.

use super::command::plain_serve;
use super::environment::{ids, variable_of};
use super::peer;

const HEAD: &str = "# Settings

<!-- Written by `leyden settings --markdown`; a test compares. -->

Flags of `leyden serve`; each has a variable. `ELECTRIC_` is accepted for `LEYDEN_`, if both are set they must agree, and a flag
overrides its variable. An unknown `LEYDEN_` variable is refused. Durations are `20s`, `500ms` or `1m`; a bare number is milliseconds
unless the meaning says otherwise. Sizes are bytes or `64MiB`. Booleans are `true` or `false`.

| Variable | Flag | Default | Meaning |
|---|---|---|---|
";

const IGNORED_HEAD: &str = "
## Accepted without effect

Variables of the peer that mean nothing here. Those that are set are named once, in a warning at start.

| Variable | Why |
|---|---|
";

pub(crate) fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let serve = plain_serve();
    for id in ids(&serve) {
        let Some(argument) = serve.get_arguments().find(|argument| argument.get_id() == &id) else {
            continue;
        };
        let default = argument.get_default_values().first();
        let default = default.map(|value| format!("`{}`", value.to_string_lossy()));
        let default = default.unwrap_or_else(|| "–".to_owned());
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (variable, flag) = (variable_of(&id), id.replace('_', "-"));
        let ending = if help.ends_with('.') { "" } else { "." };
        text.push_str(&format!("| `{variable}` | `--{flag}` | {default} | {help}{ending} |\n"));
    }
    text.push_str(IGNORED_HEAD);
    for (name, reason) in peer::IGNORED {
        text.push_str(&format!("| `{}` | {reason} |\n", peer::variable(name)));
    }
    text
}
