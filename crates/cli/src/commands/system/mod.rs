//! Commands on the engine as a whole, and on objects of any kind.

use crate::command::Command;

mod df;
mod df_verbose;
mod events;
mod info;
pub mod inspect;
mod prune;
mod version;

pub use version::version_line;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &df::COMMAND,
    &events::COMMAND,
    &info::COMMAND,
    &inspect::COMMAND,
    &prune::COMMAND,
    &version::COMMAND,
];
