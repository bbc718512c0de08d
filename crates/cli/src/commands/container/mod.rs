//! Commands on containers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ketch_engine::{Engine, Error, ErrorKind};

use crate::command::{Command, Outcome};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, report};

mod attach;
mod commit;
mod cp;
mod create;
mod diff;
mod exec;
mod export;
mod inspect;
mod kill;
pub mod list;
mod logs;
mod pause;
mod port;
pub mod ports;
mod prune;
mod rename;
mod restart;
mod rm;
pub mod run;
mod start;
mod stop;
mod top;
mod unpause;
mod wait;

pub use inspect::inspect_value;
pub use list::networks;
pub use prune::report as prune_report;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &attach::COMMAND,
    &commit::COMMAND,
    &cp::COMMAND,
    &create::COMMAND,
    &diff::COMMAND,
    &exec::COMMAND,
    &export::COMMAND,
    &inspect::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &logs::COMMAND,
    &pause::COMMAND,
    &port::COMMAND,
    &prune::COMMAND,
    &rename::COMMAND,
    &restart::COMMAND,
    &rm::COMMAND,
    &run::COMMAND,
    &start::COMMAND,
    &stop::COMMAND,
    &top::COMMAND,
    &unpause::COMMAND,
    &wait::COMMAND,
];

/// Most containers worked on at once.
const MAX_PARALLEL: usize = 16;

/// Does `verb` on each operand, several at once, and echoes each that succeeded as it was typed. All are tried; one
/// failure makes the exit code 1.
fn each(
    context: &Context,
    operands: &[String],
    verb: impl Fn(&Engine, &str) -> Result<(), Error> + Sync,
) -> Outcome {
    each_told(context, operands, |engine, name| {
        verb(engine, name).map(|()| Tell::Name)
    })
}

/// What to print for an operand that succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Tell {
    /// Itself, as typed.
    #[default]
    Name,
    /// Nothing.
    Nothing,
}

/// As [`each`], where `verb` decides whether the operand is echoed.
fn each_told(
    context: &Context,
    operands: &[String],
    verb: impl Fn(&Engine, &str) -> Result<Tell, Error> + Sync,
) -> Outcome {
    let engine = context.engine()?;
    let results = if operands.len() < 2 {
        operands
            .iter()
            .map(|operand| verb(engine, operand))
            .collect()
    } else {
        parallel(operands, |operand| verb(engine, operand))
    };
    let mut told = Exit::SUCCESS;
    let mut out = output::Output::new();
    for (operand, result) in operands.iter().zip(results) {
        match result {
            Ok(Tell::Name) => out.line(operand)?,
            // It was so already: Docker's answer 304, which its client takes for success.
            Err(error) if error.kind == ErrorKind::NotModified => out.line(operand)?,
            Ok(Tell::Nothing) => {}
            Err(error) => {
                out.flush()?;
                report::item(&Failure::Engine(error), context.options().debug);
                told = Exit::FAILURE;
            }
        }
    }
    out.finish()?;
    Ok(told)
}

fn parallel(
    operands: &[String],
    verb: impl Fn(&str) -> Result<Tell, Error> + Sync,
) -> Vec<Result<Tell, Error>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Result<Tell, Error>>> = operands
        .iter()
        .map(|_| Mutex::new(Ok(Tell::Name)))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..operands.len().min(MAX_PARALLEL) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(operand) = operands.get(at) else {
                        break;
                    };
                    let result = verb(operand);
                    *results[at]
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = result;
                }
            });
        }
    });
    results
        .into_iter()
        .map(|cell| {
            cell.into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        })
        .collect()
}

/// Reads a signal's name or number as a flag's value.
pub fn signal(text: &str) -> Result<i32, Failure> {
    ketch_spec::signal::parse(text).map_err(|error| Failure::usage(error.to_string()))
}
