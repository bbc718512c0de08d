//! Commands on images.

use crate::command::Command;

mod build;
mod build_progress;
mod history;
mod import;
mod inspect;
pub mod list;
mod load;
pub mod prune;
mod pull;
mod push;
mod rm;
mod save;
mod tag;
mod tree;
mod verify;

pub use build_progress::Plain;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &build::COMMAND,
    &history::COMMAND,
    &import::COMMAND,
    &inspect::COMMAND,
    &list::COMMAND,
    &load::COMMAND,
    &prune::COMMAND,
    &pull::COMMAND,
    &push::COMMAND,
    &rm::COMMAND,
    &save::COMMAND,
    &tag::COMMAND,
    &verify::COMMAND,
];
