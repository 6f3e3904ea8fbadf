//! The Leyden server: settings, logs, the root of the tree, signals.

mod control;
mod demo;
mod logging;
mod root;
mod say;
mod serve;
mod settings;
mod tree;

use std::process::ExitCode;

use settings::{Command, EXIT_CODE, Refusal};

fn main() -> ExitCode {
    let arguments = std::env::args_os().collect();
    match settings::parse(arguments, settings::environment()) {
        Ok(Command::Serve(settings)) => serve::run(*settings),
        Ok(Command::Demo(options)) => demo::run(options),
        Ok(Command::Tree { markdown }) => match tree::render(markdown) {
            Ok(text) => print(&text),
            Err(error) => say::failure(&error.to_string()),
        },
        Ok(Command::Settings) => print(&settings::markdown()),
        // Clap prints help as help and errors as errors.
        Err(Refusal::Usage(usage)) => usage.exit(),
        Err(refusal) => say::refused(&refusal.to_string(), EXIT_CODE),
    }
}

fn print(text: &str) -> ExitCode {
    say::line(text.trim_end());
    ExitCode::SUCCESS
}
