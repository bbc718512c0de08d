//! Commands on networks.

use crate::command::Command;

mod connect;
mod create;
mod disconnect;
mod inspect;
mod list;
pub mod prune;
mod rm;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &connect::COMMAND,
    &create::COMMAND,
    &disconnect::COMMAND,
    &inspect::COMMAND,
    &list::COMMAND,
    &prune::COMMAND,
    &rm::COMMAND,
];
