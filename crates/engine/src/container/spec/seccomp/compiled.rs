//! Programs of the default profile that were compiled beforehand.
//!
//! What the default profile gives depends on the architecture, on whether the kernel is at least [`LEAST_KERNEL`], and
//! on those capabilities of the container that the profile names ([`RELEVANT`]). Each file
//! `container/seccomp/<machine>-<variant>.bpf` is the program of one such combination, for kernels that are new enough:
//! containers with one of these start without reading or compiling the profile. A test compiles the profile and compares;
//! `KETCH_WRITE_FILTERS=1` makes it write the files anew.

use ketch_runtime::seccomp::Program;

/// The newest kernel that a rule of the profile asks for.
const LEAST_KERNEL: (u32, u32) = (4, 8);

/// Capabilities that rules of the profile depend on.
const RELEVANT: [&str; 14] = [
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
];

/// The relevant capabilities of each variant, and its program for this machine.
#[cfg(target_arch = "x86_64")]
const VARIANTS: [(&[&str], &[u8]); 2] = [
    (
        &["CAP_SYS_CHROOT"],
        include_bytes!("../../seccomp/x86_64-default.bpf"),
    ),
    (&[], include_bytes!("../../seccomp/x86_64-none.bpf")),
];
#[cfg(target_arch = "aarch64")]
const VARIANTS: [(&[&str], &[u8]); 2] = [
    (
        &["CAP_SYS_CHROOT"],
        include_bytes!("../../seccomp/aarch64-default.bpf"),
    ),
    (&[], include_bytes!("../../seccomp/aarch64-none.bpf")),
];

/// The default profile's program for a container with these capabilities; None: there is none beforehand.
pub(super) fn find(capabilities: &[&str], kernel: (u32, u32)) -> Option<Program> {
    if kernel < LEAST_KERNEL {
        return None;
    }
    let relevant = |name: &&&str| RELEVANT.contains(*name);
    let count = capabilities.iter().filter(relevant).count();
    let (_, bytes) = VARIANTS.iter().find(|(names, _)| {
        names.len() == count && names.iter().all(|name| capabilities.contains(name))
    })?;
    Program::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use ketch_runtime::seccomp;

    use super::super::{DEFAULT, Target, decide, kernel_version, parse, parse_kernel};
    use super::*;
    use crate::container::spec::capabilities;

    #[test]
    fn the_files_are_what_the_profile_compiles_to() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/container/seccomp");
        let machines = [("x86_64", "amd64"), ("aarch64", "arm64")];
        let variants: [(&str, &[&str]); 2] = [("default", &capabilities::DEFAULT), ("none", &[])];
        for (machine, architecture) in machines {
            for (name, capabilities) in variants {
                let target = Target {
                    capabilities,
                    architecture,
                    kernel: LEAST_KERNEL,
                };
                let filter = decide(parse(DEFAULT).unwrap(), &target);
                let program = seccomp::compile_for(&filter, machine).unwrap().unwrap();
                let path = directory.join(format!("{machine}-{name}.bpf"));
                if std::env::var_os("KETCH_WRITE_FILTERS").is_some() {
                    std::fs::write(&path, program.to_bytes()).unwrap();
                }
                let kept = std::fs::read(&path).unwrap();
                assert!(
                    kept == program.to_bytes(),
                    "{path:?}: KETCH_WRITE_FILTERS=1 writes it anew"
                );
            }
        }
    }

    #[test]
    fn nothing_else_decides_about_the_profile() {
        let profile = parse(DEFAULT).unwrap();
        let (mut names, mut kernels) = (BTreeSet::new(), BTreeSet::new());
        for rule in profile.syscalls.iter().flatten() {
            for filter in rule.includes.iter().chain(&rule.excludes) {
                names.extend(filter.caps.iter().flatten().map(String::as_str));
                kernels.extend(filter.min_kernel.as_deref().and_then(parse_kernel));
            }
        }
        assert!(
            names.iter().all(|name| RELEVANT.contains(name)),
            "{names:?}"
        );
        assert_eq!(kernels.last(), Some(&LEAST_KERNEL));
    }

    /// Whatever the capabilities: where there is a program beforehand, it is the one that compiling gives.
    #[test]
    fn a_program_is_found_only_where_it_is_the_right_one() {
        let compiled = |capabilities: &[&str]| {
            let target = Target {
                capabilities,
                architecture: super::super::native(),
                kernel: kernel_version(),
            };
            seccomp::compile(&decide(parse(DEFAULT).unwrap(), &target)).unwrap()
        };
        let mut found = 0;
        for one in capabilities::ALL {
            for base in [&[][..], &capabilities::DEFAULT[..]] {
                // With one more, or with one less.
                let mut capabilities: Vec<&str> = base.to_vec();
                match base.iter().position(|name| *name == one) {
                    Some(at) => drop(capabilities.remove(at)),
                    None => capabilities.push(one),
                }
                if let Some(program) = find(&capabilities, (6, 1)) {
                    assert_eq!(program, compiled(&capabilities), "{capabilities:?}");
                    found += 1;
                }
            }
        }
        assert!(found > 40, "{found}");
        assert!(find(&capabilities::DEFAULT, (6, 1)).is_some());
        assert!(find(&capabilities::DEFAULT, (4, 7)).is_none());
        assert!(find(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"], (6, 1)).is_none());
        assert!(find(&["CAP_SYS_ADMIN"], (6, 1)).is_none());
    }
}
