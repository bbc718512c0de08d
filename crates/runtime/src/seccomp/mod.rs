//! System call filters: a compiler from the specification's rules to classic BPF.
//!
//! The program is a binary search over the numbers of system calls, one for each architecture, so that a call costs
//! a dozen comparisons however long the list is. What rules mean follows libseccomp and runc, whose users know it:
//! a rule without conditions counts before those with conditions; of several that match the first counts; a rule that
//! says what is done anyway is not there; conditions of one rule must all hold, unless two are about the same
//! argument, which makes each a rule of its own; names that an architecture does not have are passed over.

mod arch;
mod assemble;
mod compile;
mod syscalls;
#[cfg(test)]
mod tests;

use ketch_spec::runtime::LinuxSeccomp;
use ketch_sys::seccomp::{self, Instruction};

use crate::error::{During, Result};

/// Why a filter cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// An action that there is not.
    #[error("invalid linux.seccomp: unknown action {name:?}")]
    Action {
        /// As given.
        name: String,
    },
    /// An architecture that there is not.
    #[error("invalid linux.seccomp: unknown architecture {name:?}")]
    Architecture {
        /// As given.
        name: String,
    },
    /// An operator that there is not.
    #[error("invalid linux.seccomp: unknown operator {name:?} in the rule for {syscall}")]
    Operator {
        /// As given.
        name: String,
        /// The first call of the rule.
        syscall: String,
    },
    /// A flag that there is not.
    #[error("invalid linux.seccomp: unknown flag {name:?}")]
    Flag {
        /// As given.
        name: String,
    },
    /// An argument that no call has.
    #[error("invalid linux.seccomp: argument {index} in the rule for {syscall}: there are 0 to 5")]
    Argument {
        /// As given.
        index: u32,
        /// The first call of the rule.
        syscall: String,
    },
    /// An errno that does not fit.
    #[error("invalid linux.seccomp: errno {errno} is above 4095")]
    Errno {
        /// As given.
        errno: u32,
    },
    /// The notify action, and what belongs to it.
    #[error("linux.seccomp: {what} is not supported")]
    Notify {
        /// `SCMP_ACT_NOTIFY` or `listenerPath`.
        what: &'static str,
    },
    /// More than the kernel takes.
    #[error(
        "invalid linux.seccomp: the filter needs {instructions} instructions, the kernel takes 4096"
    )]
    TooLong {
        /// How many.
        instructions: usize,
    },
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u32,
}

/// Compiles a filter for this machine.
///
/// # Errors
/// Names that there are not, values out of range, and what is not supported.
pub fn compile(filter: &LinuxSeccomp) -> Result<Program, SeccompError> {
    compile::compile(filter, arch::Machine::HOST)
}

impl Program {
    /// Number of instructions.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether there is no instruction, which no compiled filter is.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// Loads the filter into the calling thread, for good.
    pub(crate) fn load(&self) -> Result<()> {
        seccomp::load(&self.instructions, self.flags)
            .map(drop)
            .during("load the system call filter")
    }
}
