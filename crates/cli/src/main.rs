//! The ketch program. One binary, several roles: the role is chosen here, before anything else happens.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

mod archive_progress;
mod arguments;
mod board;
mod client_config;
mod command;
mod commands;
#[cfg(test)]
mod compatibility;
mod context;
mod create;
mod failure;
mod filter;
mod format;
mod help;
mod moment;
mod output;
mod output_file;
mod parse_error;
mod platforms;
mod prompt;
mod pull_progress;
mod report;
mod runtime;
mod session;
mod table;
mod terminal;
mod text;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let called_as = Path::new(&program).file_name().unwrap_or_default();
    if words.first().is_some_and(|word| word == "monitor") {
        return ketch_monitor::main(words.into_iter().skip(1));
    }
    if called_as == OsStr::new(runtime::PROGRAM) {
        return ExitCode::from(runtime::main(words));
    }
    if words.first().is_some_and(|word| word == "runtime") {
        return ExitCode::from(runtime::main(words.into_iter().skip(1).collect()));
    }
    let words = if called_as == OsStr::new("docker-compose") {
        [OsString::from("compose")]
            .into_iter()
            .chain(words)
            .collect()
    } else {
        words
    };
    ExitCode::from(command_line(&words).0)
}

/// The command line's role: finds the command, runs it, tells its failure.
fn command_line(words: &[OsString]) -> failure::Exit {
    let mut options = context::GlobalOptions::from_environment(|name| std::env::var_os(name));
    let request = match arguments::read(words, &mut options) {
        Ok(request) => request,
        Err(failure) => return report::early(&failure),
    };
    let printed = match request {
        arguments::Request::Command {
            command,
            invocation,
            words,
        } => {
            let debug = options.debug;
            let context = context::Context::new(invocation, options);
            return match command.invoke(&context, words) {
                Ok(exit) => exit,
                Err(failure) => report::failure(&failure, command, context.invocation(), debug),
            };
        }
        arguments::Request::Page(page) => output::print(&page),
        arguments::Request::Version => output::print_line(&commands::system::version_line()),
        arguments::Request::Nothing(page) => {
            output::warn(page.trim_end());
            Ok(())
        }
    };
    match printed {
        Ok(()) => failure::Exit::SUCCESS,
        Err(failure) => report::early(&failure),
    }
}
