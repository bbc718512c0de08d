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
#[cfg(test)]
mod differential;
#[cfg(test)]
mod interpreter;
mod syscalls;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

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
    /// An entry for no call at all.
    #[error("invalid linux.seccomp: a rule with the action {action} has no names")]
    NoName {
        /// The rule's action.
        action: String,
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
    /// An errno, or what a tracer is told, that does not fit.
    #[error("invalid linux.seccomp: {errno} is above {most}, the most that {action} takes")]
    Errno {
        /// The action.
        action: String,
        /// As given.
        errno: u32,
        /// The largest possible one.
        most: u32,
    },
    /// An errno for an action that returns none.
    #[error("invalid linux.seccomp: {action} takes no errno, and {errno} is given")]
    ErrnoOfOtherAction {
        /// As given.
        action: String,
        /// As given.
        errno: u32,
    },
    /// A notification that cannot be.
    #[error("invalid linux.seccomp: {reason}")]
    Notify {
        /// What is wrong with it.
        reason: &'static str,
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
/// Names that there are not, values out of range, and what contradicts itself.
pub fn compile(filter: &LinuxSeccomp) -> Result<Program, SeccompError> {
    compile::compile(filter, arch::Machine::HOST)
}

/// Compiles a filter for a machine by its name in Rust's `target_arch`; None: ketch does not run on such a one.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(filter: &LinuxSeccomp, machine: &str) -> Result<Option<Program>, SeccompError> {
    arch::Machine::parse(machine)
        .map(|machine| compile::compile(filter, machine))
        .transpose()
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

    /// The instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether some calls are told to a listener (`SCMP_ACT_NOTIFY`), which loading then returns.
    pub fn notifies(&self) -> bool {
        self.flags & seccomp::FLAG_NEW_LISTENER != 0
    }

    /// The program as bytes, to be kept: the flags, then the kernel's `struct sock_filter` one after the other, all
    /// little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.flags.to_le_bytes().to_vec();
        for instruction in &self.instructions {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jump_true, instruction.jump_false]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        bytes
    }

    /// A program that was kept by [`Program::to_bytes`]; None: it is none. What the instructions do is not checked, other
    /// than by the kernel when they are loaded.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk::<4>()?;
        let (instructions, []) = rest.as_chunks::<8>() else {
            return None;
        };
        if instructions.is_empty() || instructions.len() > compile::MOST {
            return None;
        }
        let read = |&[a, b, jump_true, jump_false, c, d, e, f]: &[u8; 8]| Instruction {
            code: u16::from_le_bytes([a, b]),
            jump_true,
            jump_false,
            k: u32::from_le_bytes([c, d, e, f]),
        };
        Some(Self {
            instructions: instructions.iter().map(read).collect(),
            flags: u32::from_le_bytes(*flags),
        })
    }

    /// Loads the filter into the calling thread, for good. Of one that [notifies](Program::notifies) the listener comes
    /// back, which is the only one there will ever be.
    pub(crate) fn load(&self) -> Result<Option<OwnedFd>> {
        seccomp::load(&self.instructions, self.flags).during("load the system call filter")
    }
}
