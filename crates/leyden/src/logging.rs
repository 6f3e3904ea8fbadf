//! Logs, on stderr: text for people on a terminal, JSON for machines.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Libraries whose own words say nothing to an operator; what matters of them
/// is reported by our actors.
const QUIET: [&str; 7] =
    ["axum", "h2", "hyper", "hyper_util", "ractor", "rustls", "tokio_postgres"];

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) targets: Targets,
    pub(crate) format: Format,
    /// Of text on a terminal.
    pub(crate) has_colours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

impl Config {
    /// Warnings only, for commands whose output is theirs.
    pub(crate) fn quiet() -> Self {
        let targets = Targets::new().with_default(LevelFilter::WARN);
        Self { targets, format: Format::Text, has_colours: true }
    }
}

/// For the whole process; a second call has no effect.
pub(crate) fn start(config: Config) {
    let is_terminal = stderr().is_terminal();
    let is_json = match config.format {
        Format::Auto => !is_terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if is_json {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(stderr)
            .boxed()
    } else {
        fmt::layer().with_ansi(is_terminal && config.has_colours).with_writer(stderr).boxed()
    };
    let layer = layer.with_filter(with_quiet_libraries(config.targets));
    // Fails if there is one already, which then stays.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Unless they are named, libraries say warnings only.
fn with_quiet_libraries(targets: Targets) -> Targets {
    let named: Vec<String> = targets.iter().map(|(target, _)| target.to_owned()).collect();
    let is_named = |library: &str| named.iter().any(|target| target == library);
    let quiet = QUIET.iter().filter(|library| !is_named(library));
    let default = targets.default_level().unwrap_or(LevelFilter::OFF);
    let level = default.min(LevelFilter::WARN);
    let quiet: Vec<_> = quiet.map(|library| (*library, level)).collect();
    targets.with_targets(quiet)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[track_caller]
    fn check(config: &str, target: &str, level: Level, expected: bool) {
        let targets = with_quiet_libraries(config.parse().unwrap());
        assert_eq!(targets.would_enable(target, &level), expected, "{config}: {target} {level}");
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        check("info", "engine::store", Level::INFO, true);
        check("debug", "hyper::proto", Level::INFO, false);
        check("debug", "hyper::proto", Level::WARN, true);
        check("error", "hyper::proto", Level::WARN, false);
        check("info,hyper=debug", "hyper::proto", Level::DEBUG, true);
        check("info,pg=debug", "pg::connect", Level::DEBUG, true);
    }
}
