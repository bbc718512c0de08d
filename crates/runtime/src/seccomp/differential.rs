//! Our programs against libseccomp's, call by call.
//!
//! `oracle/<case>.json` is a filter, `oracle/<case>.bpf` what libseccomp made of it: `cargo xtask seccomp-oracle` made
//! both. Here ours is compiled, both are run, and the answers are compared: for all numbers of all architectures, and
//! where a rule looks at arguments, for values at which any comparison of the filter can change its result.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ketch_spec::runtime::LinuxSeccomp;
use ketch_sys::seccomp::Instruction;
use serde::Deserialize;

use super::arch::{Arch, Machine, number};
use super::compile::compile;
use super::interpreter::{Call, run};

const ENOSYS: u32 = 0x0005_0000 | 38;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    machine: String,
    /// Names that this libseccomp was too old for: left out of ours as well.
    unknown_to_libseccomp: BTreeSet<String>,
    filter: LinuxSeccomp,
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/oracle");
    let entries = std::fs::read_dir(&directory).expect("made by `cargo xtask seccomp-oracle`");
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect()
}

fn read(path: &Path) -> (Case, Vec<Instruction>) {
    let mut case: Case = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for rule in &mut case.filter.syscalls {
        rule.names
            .retain(|name| !case.unknown_to_libseccomp.contains(name));
    }
    case.filter.syscalls.retain(|rule| !rule.names.is_empty());
    // Notifications need one; libseccomp knows nothing of it.
    case.filter.listener_path = "/run/agent.sock".into();
    let bytes = std::fs::read(path.with_extension("bpf")).unwrap();
    let program = bytes
        .chunks_exact(8)
        .map(|bytes| Instruction {
            code: u16::from_le_bytes([bytes[0], bytes[1]]),
            jump_true: bytes[2],
            jump_false: bytes[3],
            k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    (case, program)
}

/// Values around every constant of the filter, in both halves.
fn values(filter: &LinuxSeccomp, number: u32, arch: Arch) -> Vec<u64> {
    let mut values = BTreeSet::from([
        0,
        1,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 32,
        1 << 63,
    ]);
    values.insert(u64::MAX);
    for rule in &filter.syscalls {
        let about_it = |name: &String| super::arch::number(arch, name) == Some(number);
        for arg in rule.args.iter().filter(|_| rule.names.iter().any(about_it)) {
            let constants = [
                arg.value,
                arg.value_two,
                !arg.value,
                arg.value | arg.value_two,
                arg.value & arg.value_two,
                arg.value_two | !arg.value,
            ];
            for constant in constants {
                for near in [constant, constant.wrapping_add(1), constant.wrapping_sub(1)] {
                    values.extend([near, near ^ (1 << 32), near ^ (1 << 63), near & 0xffff_ffff]);
                    values.insert(near | 0xffff_ffff_0000_0000);
                    values.insert(near.swap_bytes());
                }
            }
        }
    }
    values.into_iter().collect()
}

/// Which arguments the rules of each number look at.
fn looked_at(filter: &LinuxSeccomp, arch: Arch) -> BTreeMap<u32, BTreeSet<usize>> {
    let mut found: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    for rule in &filter.syscalls {
        for number in rule.names.iter().filter_map(|name| number(arch, name)) {
            let indices = rule.args.iter().map(|arg| arg.index as usize);
            found.entry(number).or_default().extend(indices);
        }
    }
    found
}

/// Calls of one number: all combinations of the values for up to two arguments, each value with the rest at their
/// edges for more.
fn calls(number: u32, arch: Arch, indices: &BTreeSet<usize>, values: &[u64]) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut add = |args: [u64; 6]| {
        calls.push(Call {
            number,
            audit: arch.audit(),
            args,
        });
    };
    for rest in [0, 1, u64::MAX] {
        add([rest; 6]);
        for &one in indices {
            for &value in values {
                let mut args = [rest; 6];
                args[one] = value;
                add(args);
                for &two in indices.iter().filter(|&&two| two > one) {
                    for &second in values {
                        args[two] = second;
                        add(args);
                    }
                    args[two] = rest;
                }
            }
        }
    }
    calls
}

fn arches(case: &Case) -> (Machine, &'static [Arch]) {
    match case.machine.as_str() {
        "x86_64" => (Machine::X86_64, &[Arch::X86_64, Arch::X86, Arch::X32]),
        "aarch64" => (Machine::Aarch64, &[Arch::Aarch64, Arch::Arm]),
        other => panic!("{other}"),
    }
}

fn compare(path: &Path) -> usize {
    let (case, theirs) = read(path);
    let (machine, arches) = arches(&case);
    let ours = compile(&case.filter, machine).unwrap();
    let mut compared = 0;
    for &arch in arches {
        let looked_at = looked_at(&case.filter, arch);
        let private = if arch == Arch::Arm { 0xf0000 } else { u32::MAX };
        let largest = looked_at
            .keys()
            .copied()
            .filter(|&n| n < private)
            .max()
            .unwrap();
        let none = BTreeSet::new();
        let numbers = (0..1024)
            .chain([4096, 0xeffff, 0x3fff_fffe, 0x3fff_ffff])
            .map(|number| number | arch.base());
        let special = (0xf0000..0xf0010).filter(|_| arch == Arch::Arm);
        for number in numbers.chain(special) {
            let indices = looked_at.get(&number).unwrap_or(&none);
            let values = values(&case.filter, number, arch);
            for call in calls(number, arch, indices, &values) {
                let (mine, _) = run(ours.instructions(), call);
                let (oracle, _) = run(&theirs, call);
                compared += 1;
                // The one difference, which is runc's: calls newer than the filter do not exist.
                if mine == ENOSYS && number > largest && !looked_at.contains_key(&number) {
                    assert_eq!(
                        oracle & 0xffff_0000,
                        0x0005_0000,
                        "{path:?} {arch:?} {call:x?}"
                    );
                    continue;
                }
                assert_eq!(mine, oracle, "{path:?} {arch:?} {call:x?}");
            }
        }
    }
    for (number, audit) in [(u32::MAX, arches[0].audit()), (1, 0xc000_0016), (1, 0)] {
        let call = Call {
            number,
            audit,
            args: [0; 6],
        };
        assert_eq!(
            run(ours.instructions(), call).0,
            run(&theirs, call).0,
            "{path:?} {call:x?}"
        );
    }
    compared
}

#[test]
fn every_answer_is_libseccomp_s() {
    let cases = cases();
    assert_eq!(cases.len(), 16, "{cases:?}");
    let compared: usize = cases.iter().map(|path| compare(path)).sum();
    assert!(compared > 500_000, "only {compared} calls were compared");
}

/// A comparison that cannot fail is none: other programs answer otherwise.
#[test]
fn a_wrong_program_would_be_found() {
    let path = cases()
        .into_iter()
        .find(|path| path.ends_with("docker-default-x86_64.json"))
        .unwrap();
    let (case, theirs) = read(&path);
    for name in ["read", "clone", "socket", "personality"] {
        let mut wrong = case.filter.clone();
        for rule in &mut wrong.syscalls {
            rule.names.retain(|other| other != name);
        }
        wrong.syscalls.retain(|rule| !rule.names.is_empty());
        let ours = compile(&wrong, Machine::X86_64).unwrap();
        let call = Call {
            number: number(Arch::X86_64, name).unwrap(),
            audit: Arch::X86_64.audit(),
            args: [0; 6],
        };
        assert_ne!(
            run(ours.instructions(), call).0,
            run(&theirs, call).0,
            "{name}"
        );
    }
}
