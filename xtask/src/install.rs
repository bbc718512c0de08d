//! Installs the program where cargo installs programs.

use crate::{Outcome, packages, shell};

/// Builds it as [`crate::target`] has it, and installs it.
pub fn run() -> Outcome {
    packages::install(&[packages::BUILD])?;
    shell::cargo(&["install", "--locked", "--path", "crates/cli"])
}
