//! Architectures and the numbers of their system calls.

use super::SeccompError;
use super::syscalls::{NONE, SYSCALLS};

/// Bit that tells calls of x32 from those of x86_64, which have the same audit number.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// One way to make system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// A kind of machine: the architectures whose programs it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// This one.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// The machine of that name (Rust's `target_arch`).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Its own architecture.
    pub fn native(self) -> Arch {
        match self {
            Self::X86_64 => Arch::X86_64,
            Self::Aarch64 => Arch::Aarch64,
        }
    }

    /// Whether it runs programs of `arch`.
    pub fn runs(self, arch: Arch) -> bool {
        match self {
            Self::X86_64 => matches!(arch, Arch::X86_64 | Arch::X86 | Arch::X32),
            Self::Aarch64 => matches!(arch, Arch::Aarch64 | Arch::Arm),
        }
    }
}

impl Arch {
    /// The architecture of that name; None: one that ketch does not run on, whose calls no program here can make.
    pub fn parse(name: &str) -> Result<Option<Self>, SeccompError> {
        Ok(Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            "SCMP_ARCH_MIPS"
            | "SCMP_ARCH_MIPS64"
            | "SCMP_ARCH_MIPS64N32"
            | "SCMP_ARCH_MIPSEL"
            | "SCMP_ARCH_MIPSEL64"
            | "SCMP_ARCH_MIPSEL64N32"
            | "SCMP_ARCH_PPC"
            | "SCMP_ARCH_PPC64"
            | "SCMP_ARCH_PPC64LE"
            | "SCMP_ARCH_S390"
            | "SCMP_ARCH_S390X"
            | "SCMP_ARCH_PARISC"
            | "SCMP_ARCH_PARISC64"
            | "SCMP_ARCH_RISCV64"
            | "SCMP_ARCH_LOONGARCH64"
            | "SCMP_ARCH_M68K"
            | "SCMP_ARCH_SH"
            | "SCMP_ARCH_SHEB" => {
                return Ok(None);
            }
            _ => {
                return Err(SeccompError::Architecture {
                    name: name.to_owned(),
                });
            }
        }))
    }

    /// `AUDIT_ARCH_…`, as the filter sees it.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 64 bits wide.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// First number of its calls.
    pub fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }
}

/// A system call: its numbers on all architectures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syscall(&'static [u32; 5]);

impl Syscall {
    /// The call of that name; None: no architecture has it.
    pub fn find(name: &str) -> Option<Self> {
        let row = SYSCALLS
            .binary_search_by(|(known, _)| (*known).cmp(name))
            .ok()?;
        Some(Self(&SYSCALLS[row].1))
    }

    /// Its number, with the bits of the architecture; None: it has none there.
    pub fn number(self, arch: Arch) -> Option<u32> {
        let number = self.0[arch.column()];
        (number != NONE).then_some(number | arch.base())
    }
}

/// The number of the call of that name on an architecture.
pub(super) fn number(arch: Arch, name: &str) -> Option<u32> {
    Syscall::find(name)?.number(arch)
}

/// What `socketcall` of x86 is told to do the work of another call.
pub(super) fn socketcall_number(name: &str) -> Option<u64> {
    const CALLS: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    CALLS
        .iter()
        .position(|call| *call == name)
        .map(|index| index as u64 + 1)
}

/// What `ipc` of x86 is told to do the work of another call.
pub(super) fn ipc_number(name: &str) -> Option<u64> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_right_in_places() {
        assert!(SYSCALLS.is_sorted_by(|(one, _), (next, _)| one < next));
        assert_eq!(number(Arch::X86_64, "clone3"), Some(435));
        assert_eq!(number(Arch::X86, "socket"), Some(359));
        assert_eq!(number(Arch::X32, "execve"), Some(X32_BIT | 520));
        assert_eq!(number(Arch::Aarch64, "openat"), Some(56));
        assert_eq!(number(Arch::Aarch64, "open"), None);
        assert_eq!(number(Arch::Arm, "set_tls"), Some(0xf0005));
        assert_eq!(number(Arch::X86_64, "no_such_call"), None);
    }

    #[test]
    fn other_machines_architectures_are_known_and_do_not_matter() {
        assert_eq!(Arch::parse("SCMP_ARCH_S390X").unwrap(), None);
        assert!(Arch::parse("SCMP_ARCH_Z80").is_err());
    }
}
