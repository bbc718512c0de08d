//! `ketch compose logs`.

use std::iter::Peekable;

use jiff::Timestamp;
use ketch_compose::attached_name;
use ketch_engine::Engine;
use ketch_engine::container::{self, LogOptions, LogReader};

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{moment, report};

use super::containers::{self, Member, Scope};
use super::follow::{Look, Printer, Source};
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose logs"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "View output from containers",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// index of the container if service has multiple replicas
    #[arg(long, value_name = "int", value_parser = integer, default_value = "0")]
    index: i64,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs for each container
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        if self.index > 0 && services.len() != 1 {
            let message = "--index requires one service to be selected";
            return Err(Failure::usage(message));
        }
        let project = project::load_or_name(context, &services)?;
        let scope = Scope {
            stopped: true,
            ..Scope::default()
        };
        let mut members = containers::members(context, &project, &services, scope)?;
        if self.index > 0 {
            members.retain(|member| i64::from(member.seen.number) == self.index);
        }
        let options = self.options()?;
        let names: Vec<String> = members
            .iter()
            .map(|member| attached_name(&project.name, &member.container.config.name))
            .collect();
        let is_terminal = rustix::termios::isatty(std::io::stdout());
        let printer = Printer::new(Look {
            width: names.iter().map(String::len).max().unwrap_or(0),
            prefix: !self.no_log_prefix,
            colours: !self.no_color && context.compose().colours(is_terminal)?,
            timestamps: self.timestamps,
        });
        if self.follow {
            follow(context, &members, &names, options, &printer)
        } else {
            print(context, &members, &names, options, &printer)
        }
    }
}

impl Args {
    fn options(&self) -> Result<LogOptions, Failure> {
        let now = Timestamp::now();
        let moment = |what, text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => moment::parse(what, text, now).map(Some),
        };
        Ok(LogOptions {
            follow: self.follow,
            since: moment("since", &self.since)?,
            until: moment("until", &self.until)?,
            tail: self.tail.parse().ok(),
            ..LogOptions::default()
        })
    }
}

/// What is there, in the order of its time.
fn print(
    context: &Context,
    members: &[Member],
    names: &[String],
    options: LogOptions,
    printer: &Printer,
) -> Outcome {
    let mut readers: Vec<Peekable<LogReader>> = Vec::new();
    for member in members {
        let id = member.container.config.id.as_str();
        readers.push(container::logs(context.engine()?, id, options)?.peekable());
    }
    let mut sources: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| printer.source(name, index))
        .collect();
    loop {
        let mut earliest: Option<(usize, Timestamp)> = None;
        for (at, reader) in readers.iter_mut().enumerate() {
            let time = match reader.peek() {
                None => continue,
                Some(Ok(line)) => line.time,
                // told first
                Some(Err(_)) => Timestamp::MIN,
            };
            if earliest.is_none_or(|(_, first)| time < first) {
                earliest = Some((at, time));
            }
        }
        let Some((at, _)) = earliest else { break };
        if let Some(line) = readers[at].next() {
            sources[at].message(&line?)?;
        }
    }
    for source in &mut sources {
        source.finish()?;
    }
    Ok(Exit::SUCCESS)
}

/// What is there and what comes, until all containers have ended.
fn follow(
    context: &Context,
    members: &[Member],
    names: &[String],
    options: LogOptions,
    printer: &Printer,
) -> Outcome {
    let engine = context.engine()?;
    let debug = context.options().debug;
    let mut exit = Exit::SUCCESS;
    std::thread::scope(|scope| {
        let mut followers = Vec::new();
        for (index, (member, name)) in members.iter().zip(names).enumerate() {
            let id = member.container.config.id.as_str();
            let follower = move || {
                let followed = follow_one(engine, id, options, printer.source(name, index));
                if let Err(failure) = &followed
                    && failure.is_broken_pipe()
                {
                    // nobody reads: there is nobody to write to for the others, too
                    std::process::exit(i32::from(failure.exit().0));
                }
                followed
            };
            followers.push(scope.spawn(follower));
        }
        for follower in followers {
            if let Ok(Err(failure)) = follower.join() {
                report::item(&failure, debug);
                exit = failure.exit();
            }
        }
    });
    Ok(exit)
}

/// Prints one container's lines until there are no more.
///
/// # Errors
/// The log cannot be read; our own streams.
pub fn follow_one(
    engine: &Engine,
    id: &str,
    options: LogOptions,
    mut source: Source<'_>,
) -> Result<(), Failure> {
    for line in container::logs(engine, id, options)? {
        source.message(&line?)?;
    }
    source.finish()
}
