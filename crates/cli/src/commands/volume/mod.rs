//! Commands on volumes.

use crate::command::Command;

mod create;
mod inspect;
mod list;
pub mod prune;
mod rm;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &create::COMMAND,
    &inspect::COMMAND,
    &list::COMMAND,
    &prune::COMMAND,
    &rm::COMMAND,
];
