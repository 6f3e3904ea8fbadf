//! The command line.

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::environment::{self, FromVariables};
use super::{Refusal, Serve, Settings, check};

/// A Postgres sync engine: shapes of your tables over HTTP, live.
#[derive(Debug, Parser)]
#[command(name = "leyden", version, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve a database.
    Serve(Box<Serve>),
    /// Show it on a throw-away Postgres, in the browser.
    Demo(Demo),
    /// Print the supervisor tree.
    Tree(Print),
    /// Print all settings.
    Settings(Print),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Demo {
    /// Port of the page and the HTTP API on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value = "3000")]
    pub(crate) port: u16,
    /// Leave the database and the shapes behind at the end.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Log what goes on, as `serve` does.
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Args, Clone, Debug)]
struct Print {
    /// As the Markdown file of the repository.
    #[arg(long)]
    markdown: bool,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Box<Settings>),
    Demo(Demo),
    Tree { markdown: bool },
    Settings,
}

/// `arguments` begin with the program's name.
pub(crate) fn parse(
    mut arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
) -> Result<Command, Refusal> {
    let mut command = definition();
    let mut read = FromVariables::default();
    // Flags come after what the variables say, and so override it.
    if arguments.get(1).is_some_and(|argument| argument == "serve") {
        read = environment::read(variables, serve_definition(&mut command))?;
        let mut rest = arguments.split_off(2);
        arguments.append(&mut read.flags);
        arguments.append(&mut rest);
    }
    let matches = command.try_get_matches_from(&arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(match cli.command {
        Subcommands::Serve(serve) => {
            let values = matches.subcommand().map(|(_, values)| values);
            let values = values.expect("clap has parsed the subcommand from it");
            Command::Serve(Box::new(check::settings(*serve, values, read.ignored)?))
        }
        Subcommands::Demo(demo) => Command::Demo(demo),
        Subcommands::Tree(Print { markdown }) => Command::Tree { markdown },
        Subcommands::Settings(Print { markdown: _ }) => Command::Settings,
    })
}

/// Settings of a server that is started from within, with defaults for the
/// rest and without a look at the environment.
pub(crate) fn serve(flags: &[String]) -> Result<Settings, Refusal> {
    let mut arguments: Vec<OsString> = vec!["leyden".into(), "serve".into()];
    arguments.extend(flags.iter().map(OsString::from));
    match parse(arguments, Vec::new())? {
        Command::Serve(settings) => Ok(*settings),
        Command::Demo(_) | Command::Tree { .. } | Command::Settings => {
            unreachable!("the subcommand is `serve`")
        }
    }
}

fn definition() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    // The variable is told where the flag is.
    command.mut_subcommand("serve", |serve| {
        serve.mut_args(|argument| {
            let id = argument.get_id().as_str().to_owned();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if matches!(id.as_str(), "help" | "version") {
                return argument;
            }
            argument.help(format!("{help} [env: {}]", environment::variable_of(&id)))
        })
    })
}

pub(super) fn serve_definition(command: &mut clap::Command) -> &clap::Command {
    command.find_subcommand("serve").expect("it is in `Subcommands`")
}

/// Without the variables in the help, for the table.
pub(super) fn plain_serve() -> clap::Command {
    Serve::augment_args(clap::Command::new("serve")).args_override_self(true)
}
