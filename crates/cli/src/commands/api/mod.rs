//! Commands of the Engine API server.

use crate::command::Command;

mod serve;

/// All of them.
pub const COMMANDS: &[&Command] = &[&serve::COMMAND];
