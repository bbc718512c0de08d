//! Compiled filters are run by an interpreter of classic BPF and compared with the rules, read one by one.
//!
//! `docker-default.json` is Docker's default profile (Docker Engine, Apache-2.0) as it is for a container with the
//! default capabilities.

use std::collections::{BTreeMap, BTreeSet};

use super::arch::{Arch, Machine, X32_BIT, number};
use super::compile::compile;
use super::interpreter::{Call, run};
use super::{Program, SeccompError};
use ketch_spec::runtime::{LinuxSeccomp, SeccompArg, SeccompSyscall};

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// What the rules say, read from first to last: an independent reading of what `mod.rs` promises.
struct Reader<'a> {
    arch: Arch,
    default: u32,
    largest: u32,
    rules: BTreeMap<u32, Vec<(u32, &'a [SeccompArg])>>,
}

impl<'a> Reader<'a> {
    fn new(filter: &'a LinuxSeccomp, arch: Arch) -> Self {
        let action = super::compile::action;
        let default = action(&filter.default_action, filter.default_errno_ret).unwrap();
        let (mut largest, mut rules) = (0, BTreeMap::new());
        for rule in &filter.syscalls {
            let action = action(&rule.action, rule.errno_ret).unwrap();
            for number in rule.names.iter().filter_map(|name| number(arch, name)) {
                if arch != Arch::Arm || number < 0xf0000 {
                    largest = largest.max(number);
                }
                rules
                    .entry(number)
                    .or_insert_with(Vec::new)
                    .push((action, rule.args.as_slice()));
            }
        }
        Self {
            arch,
            default,
            largest,
            rules,
        }
    }

    fn decide(&self, call: Call) -> u32 {
        let (mut always, mut conditional) = (None, None);
        for &(action, args) in self.rules.get(&call.number).into_iter().flatten() {
            if action == self.default {
                continue;
            }
            if args.is_empty() {
                always = always.or(Some(action));
            } else if matches(args, self.arch, &call.args) {
                conditional = conditional.or(Some(action));
            }
        }
        let private = self.arch == Arch::Arm && call.number >= 0xf0000;
        let unknown = call.number > self.largest && !private;
        let rest = if unknown { ERRNO | 38 } else { self.default };
        always.or(conditional).unwrap_or(rest)
    }

    fn looks_at_arguments(&self, number: u32) -> bool {
        self.rules
            .get(&number)
            .into_iter()
            .flatten()
            .any(|(_, args)| !args.is_empty())
    }
}

fn matches(args: &[SeccompArg], arch: Arch, values: &[u64; 6]) -> bool {
    let one = |arg: &SeccompArg| {
        let width = if arch.is_wide() {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        let (is, value, second) = (
            values[arg.index as usize] & width,
            arg.value & width,
            arg.value_two & width,
        );
        match arg.op.as_str() {
            "SCMP_CMP_EQ" => is == value,
            "SCMP_CMP_NE" => is != value,
            "SCMP_CMP_LT" => is < value,
            "SCMP_CMP_LE" => is <= value,
            "SCMP_CMP_GT" => is > value,
            "SCMP_CMP_GE" => is >= value,
            "SCMP_CMP_MASKED_EQ" => is & value == second & value,
            other => panic!("{other}"),
        }
    };
    let repeated = args
        .iter()
        .any(|arg| args.iter().filter(|other| other.index == arg.index).count() > 1);
    if repeated {
        args.iter().any(one)
    } else {
        args.iter().all(one)
    }
}

/// Values at which a comparison with any value of the filter can change its result.
fn interesting(filter: &LinuxSeccomp) -> Vec<u64> {
    let mut values = vec![0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX];
    for arg in filter.syscalls.iter().flat_map(|rule| &rule.args) {
        for value in [
            arg.value,
            arg.value_two,
            arg.value | arg.value_two,
            !arg.value,
        ] {
            let near = [
                value,
                value.wrapping_add(1),
                value.wrapping_sub(1),
                value ^ (1 << 32),
            ];
            values.extend(near);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Compares program and rules for every number of an architecture, with values for the arguments that rules look at.
/// Returns how many calls were compared.
fn compare(filter: &LinuxSeccomp, machine: Machine, arch: Arch) -> usize {
    let program = compile(filter, machine).unwrap();
    let reader = Reader::new(filter, arch);
    let values = interesting(filter);
    let indices: Vec<usize> = filter
        .syscalls
        .iter()
        .flat_map(|rule| &rule.args)
        .map(|arg| arg.index as usize)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut compared = 0;
    let private = 0xefff0..0xf0010;
    for number in (0..700)
        .chain(private)
        .chain([0x3fff_ffff])
        .map(|number| number | arch.base())
    {
        let choices: &[u64] = if reader.looks_at_arguments(number) {
            &values
        } else {
            &values[..1]
        };
        for &value in choices {
            for &index in indices.iter().chain([&0]) {
                for rest in [0, u64::MAX, value] {
                    let mut args = [rest; 6];
                    args[index] = value;
                    let call = Call {
                        number,
                        audit: arch.audit(),
                        args,
                    };
                    let (done, _) = run(&program.instructions, call);
                    assert_eq!(done, reader.decide(call), "{arch:?} {call:x?}");
                    compared += 1;
                }
            }
        }
    }
    compared
}

fn docker() -> LinuxSeccomp {
    serde_json::from_str(include_str!("docker-default.json")).unwrap()
}

#[test]
fn docker_s_profile_decides_as_its_rules_say() {
    let filter = docker();
    assert!(compare(&filter, Machine::X86_64, Arch::X86_64) > 5000);
    compare(&filter, Machine::X86_64, Arch::X32);
    compare(&filter, Machine::X86_64, Arch::X86);
    compare(&filter, Machine::Aarch64, Arch::Aarch64);
    compare(&filter, Machine::Aarch64, Arch::Arm);
}

fn decide(program: &Program, arch: Arch, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let number = number(arch, name).unwrap();
    run(
        &program.instructions,
        Call {
            number,
            audit: arch.audit(),
            args: all,
        },
    )
    .0
}

#[test]
fn docker_s_profile_in_words() {
    let program = compile(&docker(), Machine::X86_64).unwrap();
    let of = |name, args: &[u64]| decide(&program, Arch::X86_64, name, args);
    assert_eq!(of("read", &[]), ALLOW);
    for forbidden in [
        "mount", "unshare", "keyctl", "bpf", "reboot", "ptrace", "umount2",
    ] {
        // ptrace is allowed from kernel 4.8 on.
        let expected = if forbidden == "ptrace" {
            ALLOW
        } else {
            ERRNO | 1
        };
        assert_eq!(of(forbidden, &[]), expected, "{forbidden}");
    }
    assert_eq!(of("clone3", &[]), ERRNO | 38);
    assert_eq!(of("clone", &[0x0120_0011]), ALLOW);
    assert_eq!(of("clone", &[0x1000_0000]), ERRNO | 1, "CLONE_NEWUSER");
    assert_eq!(of("socket", &[2]), ALLOW);
    assert_eq!(of("socket", &[40]), ERRNO | 1, "AF_VSOCK");
    assert_eq!(of("personality", &[8]), ALLOW);
    assert_eq!(of("personality", &[0x0004_0000]), ERRNO | 1);
}

#[test]
fn a_call_costs_a_dozen_steps() {
    let program = compile(&docker(), Machine::X86_64).unwrap();
    for number in (0..470).chain((0..550).map(|number| number | X32_BIT)) {
        let call = Call {
            number,
            audit: Arch::X86_64.audit(),
            args: [0; 6],
        };
        let (_, steps) = run(&program.instructions, call);
        assert!(steps <= 32, "{number}: {steps} steps of {}", program.len());
    }
    assert!(program.len() < 1500, "{} instructions", program.len());
}

fn rule(names: &[&str], action: &str, args: &[(u32, &str, u64, u64)]) -> SeccompSyscall {
    let arg = |&(index, op, value, value_two): &(u32, &str, u64, u64)| SeccompArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    };
    SeccompSyscall {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        action: format!("SCMP_ACT_{action}"),
        args: args.iter().map(arg).collect(),
        ..SeccompSyscall::default()
    }
}

fn filter(default: &str, syscalls: Vec<SeccompSyscall>) -> LinuxSeccomp {
    LinuxSeccomp {
        default_action: format!("SCMP_ACT_{default}"),
        architectures: docker().architectures,
        syscalls,
        ..LinuxSeccomp::default()
    }
}

#[test]
fn every_operator_on_every_width() {
    let values = [
        0,
        1,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        u64::MAX - 1,
        u64::MAX,
    ];
    for op in ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"] {
        for value in values {
            let second = value & 0x8000_0001_0000_0001;
            let filter = filter(
                "ERRNO",
                vec![
                    rule(
                        &["getpid"],
                        "ALLOW",
                        &[(0, op, value, second), (5, "LE", 1 << 33, 0)],
                    ),
                    rule(&["getpid"], "TRAP", &[(2, op, value, second)]),
                    rule(
                        &["read", "write"],
                        "KILL_PROCESS",
                        &[(1, op, value, 0), (1, "EQ", 7, 0)],
                    ),
                ],
            );
            compare(&filter, Machine::X86_64, Arch::X86_64);
            compare(&filter, Machine::X86_64, Arch::X86);
            compare(&filter, Machine::Aarch64, Arch::Arm);
        }
    }
}

#[test]
fn a_rule_without_conditions_counts_before_the_others() {
    let filter = filter(
        "ERRNO",
        vec![
            rule(&["getpid"], "TRAP", &[(0, "EQ", 1, 0)]),
            rule(&["getpid"], "ALLOW", &[]),
            rule(&["getppid"], "ERRNO", &[]),
            rule(&["getppid"], "ALLOW", &[(0, "EQ", 1, 0)]),
        ],
    );
    let program = compile(&filter, Machine::X86_64).unwrap();
    assert_eq!(decide(&program, Arch::X86_64, "getpid", &[1]), ALLOW);
    assert_eq!(decide(&program, Arch::X86_64, "getppid", &[1]), ALLOW);
    assert_eq!(decide(&program, Arch::X86_64, "getppid", &[2]), ERRNO | 1);
}

#[test]
fn architectures_that_are_not_listed_end_the_process() {
    let mut only_native = filter("ALLOW", vec![rule(&["getpid"], "ERRNO", &[])]);
    only_native.architectures.clear();
    let program = compile(&only_native, Machine::X86_64).unwrap();
    let run = |number, arch: Arch| {
        run(
            &program.instructions,
            Call {
                number,
                audit: arch.audit(),
                args: [0; 6],
            },
        )
        .0
    };
    assert_eq!(run(1, Arch::X86_64), ALLOW);
    assert_eq!(run(1, Arch::X86), KILL_PROCESS);
    assert_eq!(run(1, Arch::Aarch64), KILL_PROCESS);
    assert_eq!(run(X32_BIT | 1, Arch::X86_64), KILL_PROCESS);
    assert_eq!(
        run(u32::MAX, Arch::X86_64),
        ALLOW,
        "a call that a tracer skips"
    );
}

#[test]
fn calls_newer_than_the_filter_do_not_exist() {
    let strict = compile(
        &filter("ERRNO", vec![rule(&["getpid"], "ALLOW", &[])]),
        Machine::X86_64,
    )
    .unwrap();
    let loose = compile(
        &filter("ALLOW", vec![rule(&["getpid"], "ERRNO", &[])]),
        Machine::X86_64,
    )
    .unwrap();
    let call = |number| Call {
        number,
        audit: Arch::X86_64.audit(),
        args: [0; 6],
    };
    assert_eq!(run(&strict.instructions, call(40)).0, ERRNO | 38);
    assert_eq!(run(&strict.instructions, call(38)).0, ERRNO | 1);
    assert_eq!(run(&loose.instructions, call(40)).0, ALLOW);
}

/// The second way to make socket and IPC calls on x86 must not lead around a rule.
#[test]
fn multiplexed_calls_are_filtered_too() {
    let forbid = filter(
        "ALLOW",
        vec![
            rule(&["socket"], "ERRNO", &[(0, "EQ", 40, 0)]),
            rule(&["shmat"], "ERRNO", &[]),
        ],
    );
    let program = compile(&forbid, Machine::X86_64).unwrap();
    assert_eq!(decide(&program, Arch::X86, "socketcall", &[1]), ERRNO | 1);
    assert_eq!(decide(&program, Arch::X86, "socketcall", &[2]), ALLOW);
    assert_eq!(decide(&program, Arch::X86, "ipc", &[21]), ERRNO | 1);
    let permit = filter(
        "ERRNO",
        vec![
            rule(&["socket"], "ALLOW", &[(0, "EQ", 2, 0)]),
            rule(&["bind"], "ALLOW", &[]),
        ],
    );
    let program = compile(&permit, Machine::X86_64).unwrap();
    assert_eq!(decide(&program, Arch::X86, "socketcall", &[1]), ERRNO | 1);
    assert_eq!(decide(&program, Arch::X86, "socketcall", &[2]), ALLOW);
    assert_eq!(decide(&program, Arch::X86, "socket", &[2]), ALLOW);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let refusal = |filter: LinuxSeccomp| compile(&filter, Machine::X86_64).unwrap_err();
    assert!(matches!(
        refusal(filter("JUMP", vec![])),
        SeccompError::Action { .. }
    ));
    let operator = filter("ALLOW", vec![rule(&["mount"], "ERRNO", &[(0, "XX", 0, 0)])]);
    assert!(
        refusal(operator)
            .to_string()
            .contains("\"SCMP_CMP_XX\" in the rule for mount")
    );
    let argument = filter("ALLOW", vec![rule(&["mount"], "ERRNO", &[(6, "EQ", 0, 0)])]);
    assert!(matches!(
        refusal(argument),
        SeccompError::Argument { index: 6, .. }
    ));
    let nothing = filter("ALLOW", vec![rule(&[], "ERRNO", &[])]);
    assert!(matches!(refusal(nothing), SeccompError::NoName { .. }));
    let mut flags = filter("ALLOW", vec![]);
    flags.flags = Some(vec!["SECCOMP_FILTER_FLAG_FLY".into()]);
    assert!(matches!(refusal(flags), SeccompError::Flag { .. }));
    let mut errno = filter("ERRNO", vec![]);
    errno.default_errno_ret = Some(4096);
    assert!(matches!(
        refusal(errno),
        SeccompError::Errno { errno: 4096, .. }
    ));
}

#[test]
fn actions_take_the_data_that_they_have() {
    let action = super::compile::action;
    assert_eq!(action("SCMP_ACT_TRACE", Some(0xffff)), Ok(0x7ff0_ffff));
    assert_eq!(action("SCMP_ACT_NOTIFY", None), Ok(0x7fc0_0000));
    assert!(action("SCMP_ACT_TRACE", Some(0x1_0000)).is_err());
    for name in ["ALLOW", "KILL", "KILL_PROCESS", "TRAP", "LOG", "NOTIFY"] {
        let error = action(&format!("SCMP_ACT_{name}"), Some(1)).unwrap_err();
        assert!(error.to_string().contains("takes no errno"), "{error}");
    }
}

#[test]
fn notifications_need_a_listener_and_leave_write_alone() {
    let mut asked = filter("ALLOW", vec![rule(&["mkdir"], "NOTIFY", &[])]);
    let refusal = |filter: &LinuxSeccomp| compile(filter, Machine::X86_64).unwrap_err().to_string();
    assert!(refusal(&asked).contains("needs listenerPath"));
    asked.listener_path = "/run/agent".into();
    asked.flags = Some(vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()]);
    let program = compile(&asked, Machine::X86_64).unwrap();
    assert!(program.notifies());
    assert_eq!(program.flags, (1 << 3) | (1 << 5));
    asked.syscalls[0].names.push("write".into());
    assert!(refusal(&asked).contains("write syscall"));
    let mut default = filter("NOTIFY", vec![]);
    default.listener_path = "/run/agent".into();
    assert!(refusal(&default).contains("default action"));
    let mut metadata = filter("ALLOW", vec![]);
    metadata.listener_metadata = "x".into();
    assert!(refusal(&metadata).contains("needs listenerPath"));
    // A path without the action is ignored, and so is what a listener would be told how to wait.
    let mut ignored = filter("ALLOW", vec![]);
    ignored.listener_path = "/run/agent".into();
    ignored.flags = Some(vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()]);
    let program = compile(&ignored, Machine::X86_64).unwrap();
    assert!(!program.notifies() && program.flags == 0);
}

#[test]
fn flags_that_are_not_given_are_not_no_flags() {
    let mut given = filter("ALLOW", vec![]);
    let flags = |filter: &LinuxSeccomp| compile(filter, Machine::X86_64).unwrap().flags;
    assert_eq!(flags(&given), 1 << 2);
    given.flags = Some(Vec::new());
    assert_eq!(flags(&given), 0);
    let names = ["TSYNC", "LOG", "SPEC_ALLOW"];
    given.flags = Some(
        names
            .map(|name| format!("SECCOMP_FILTER_FLAG_{name}"))
            .to_vec(),
    );
    assert_eq!(flags(&given), (1 << 1) | (1 << 2));
}

#[test]
fn a_program_is_kept_as_bytes() {
    let program = compile(&docker(), Machine::X86_64).unwrap();
    let bytes = program.to_bytes();
    assert_eq!(Program::from_bytes(&bytes).as_ref(), Some(&program));
    for wrong in [&bytes[..3], &bytes[..4], &bytes[..bytes.len() - 1]] {
        assert_eq!(Program::from_bytes(wrong), None);
    }
    assert_eq!(Program::from_bytes(&vec![0; 4 + 8 * 4097]), None);
}
