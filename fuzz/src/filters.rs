//! Seccomp profiles: what is compiled has to be a program that the kernel takes, and to say of every call what the
//! profile says, read by an interpreter of a few lines.

use ketch_runtime::seccomp::{Program, compile_for};
use ketch_spec::runtime::{LinuxSeccomp, SeccompArg, SeccompSyscall};

use crate::bytes::Choices;

/// Calls of x86-64 by name and number, and one that there is not.
const CALLS: [(&str, Option<u32>); 10] = [
    ("read", Some(0)),
    ("close", Some(3)),
    ("ioctl", Some(16)),
    ("socket", Some(41)),
    ("clone", Some(56)),
    ("personality", Some(135)),
    ("openat", Some(257)),
    ("clone3", Some(435)),
    ("openat2", Some(437)),
    ("no-such-call", None),
];
const ACTIONS: [(&str, u32); 6] = [
    ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ("SCMP_ACT_ERRNO", 0x0005_0000),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_LOG", 0x7ffc_0000),
    ("SCMP_ACT_TRACE", 0x7ff0_0000),
    ("SCMP_ACT_TRAP", 0x0003_0000),
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GT",
    "SCMP_CMP_GE",
    "SCMP_CMP_MASKED_EQ",
];
const VALUES: [u64; 8] = [
    0,
    1,
    8,
    0x2002_0008,
    0xffff_ffff,
    1 << 32,
    u64::MAX,
    1 << 63,
];
const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;

pub(crate) fn filter(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let filter = profile(&mut choices);
    let Ok(Some(program)) = compile_for(&filter, "x86_64") else {
        return;
    };
    check(&program);
    assert_eq!(
        Program::from_bytes(&program.to_bytes()).as_ref(),
        Some(&program)
    );
    let mut args = [0u64; 6];
    for round in 0..24usize {
        for (at, arg) in args.iter_mut().enumerate() {
            *arg = VALUES[(round * 7 + at * 3 + round / 8) % VALUES.len()]
                .wrapping_add((round as u64 / 3) % 3)
                .wrapping_sub(1);
        }
        for number in CALLS
            .iter()
            .filter_map(|(_, number)| *number)
            .chain([1, 2, 256, 258, 434, 436, 438, 5000])
        {
            let expected = says(&filter, number, &args);
            assert_eq!(
                run(&program, number, X86_64, &args),
                expected,
                "call {number} of {args:x?} in {filter:?}"
            );
        }
        let killed = 0x8000_0000;
        assert_eq!(run(&program, 0, AARCH64, &args), killed);
        assert_eq!(
            run(&program, 0x4000_0000, X86_64, &args),
            killed,
            "a call of x32"
        );
    }
}

fn action(choices: &mut Choices<'_>) -> (String, Option<u32>) {
    let name = choices.of(&ACTIONS).0;
    let errno =
        matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE").then(|| u32::from(choices.byte() % 4));
    (name.to_owned(), errno)
}

fn value(choices: &mut Choices<'_>) -> u64 {
    match choices.byte() {
        small @ 0..8 => VALUES[usize::from(small)],
        _ => choices.number(),
    }
}

fn profile(choices: &mut Choices<'_>) -> LinuxSeccomp {
    let (default_action, default_errno_ret) = action(choices);
    let mut filter = LinuxSeccomp {
        default_action,
        default_errno_ret,
        ..LinuxSeccomp::default()
    };
    while !choices.is_empty() && filter.syscalls.len() < 64 {
        let (action, errno_ret) = action(choices);
        let names = (0..=choices.below(3)).map(|_| choices.of(&CALLS).0.to_owned());
        let names = names.collect();
        let args = (0..choices.below(4))
            .map(|_| SeccompArg {
                index: u32::from(choices.byte() % 6),
                op: choices.of(&OPERATORS).to_owned(),
                value: value(choices),
                value_two: value(choices),
            })
            .collect();
        filter.syscalls.push(SeccompSyscall {
            names,
            action,
            errno_ret,
            args,
            ..SeccompSyscall::default()
        });
    }
    filter
}

fn number_of(name: &str) -> Option<u32> {
    CALLS
        .iter()
        .find(|(known, _)| *known == name)
        .and_then(|(_, number)| *number)
}

fn code(name: &str, errno: Option<u32>) -> u32 {
    let base = ACTIONS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, code)| *code);
    match name {
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => base | errno.unwrap_or(1),
        _ => base,
    }
}

/// What a profile says of a call, as libseccomp and runc read it.
fn says(filter: &LinuxSeccomp, number: u32, args: &[u64; 6]) -> u32 {
    let default = code(&filter.default_action, filter.default_errno_ret);
    let mentioned = filter.syscalls.iter().flat_map(|rule| &rule.names);
    let largest = mentioned.filter_map(|name| number_of(name)).max();
    let permissive = matches!(
        default & 0xffff_0000,
        0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000
    );
    if largest.is_some_and(|largest| largest > 0 && number > largest) && !permissive {
        return 0x0005_0000 | 38;
    }
    let about = filter.syscalls.iter().filter(|rule| {
        rule.names
            .iter()
            .any(|name| number_of(name) == Some(number))
    });
    let rules: Vec<(&SeccompSyscall, u32)> = about
        .map(|rule| (rule, code(&rule.action, rule.errno_ret)))
        .filter(|(_, action)| *action != default)
        .collect();
    if let Some((_, action)) = rules.iter().find(|(rule, _)| rule.args.is_empty()) {
        return *action;
    }
    let matching = rules.iter().find(|(rule, _)| {
        let mut indexes: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut holds = rule
            .args
            .iter()
            .map(|arg| compare(arg, args[arg.index as usize]));
        match indexes.len() == rule.args.len() {
            true => holds.all(|holds| holds),
            false => holds.any(|holds| holds),
        }
    });
    matching.map_or(default, |(_, action)| *action)
}

fn compare(arg: &SeccompArg, value: u64) -> bool {
    match arg.op.as_str() {
        "SCMP_CMP_EQ" => value == arg.value,
        "SCMP_CMP_NE" => value != arg.value,
        "SCMP_CMP_LT" => value < arg.value,
        "SCMP_CMP_LE" => value <= arg.value,
        "SCMP_CMP_GT" => value > arg.value,
        "SCMP_CMP_GE" => value >= arg.value,
        _ => value & arg.value == arg.value_two & arg.value,
    }
}

/// What the kernel checks of a classic program before it takes it (net/core/filter.c, kernel/seccomp.c).
fn check(program: &Program) {
    let all = program.instructions();
    assert!(
        (1..=4096).contains(&all.len()),
        "{} instructions",
        all.len()
    );
    for (at, now) in all.iter().enumerate() {
        let within =
            |ahead: usize| assert!(at + 1 + ahead < all.len(), "a jump from {at} by {ahead}");
        match now.code {
            0x20 => assert!(now.k < 64 && now.k.is_multiple_of(4), "a load at {}", now.k),
            0x05 => within(now.k as usize),
            0x15 | 0x25 | 0x35 | 0x45 => {
                within(now.jump_true.into());
                within(now.jump_false.into());
            }
            0x54 | 0x06 => {}
            other => panic!("operation {other:#x}"),
        }
    }
    assert_eq!(
        all.last().map(|last| last.code),
        Some(0x06),
        "the last instruction is no return"
    );
}

fn run(program: &Program, number: u32, arch: u32, args: &[u64; 6]) -> u32 {
    let all = program.instructions();
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&arch.to_le_bytes());
    for (at, arg) in args.iter().enumerate() {
        data[16 + at * 8..24 + at * 8].copy_from_slice(&arg.to_le_bytes());
    }
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let now = all[at];
        at += 1;
        let mut branch =
            |taken: bool| at += usize::from(if taken { now.jump_true } else { now.jump_false });
        match now.code {
            0x20 => {
                let word: [u8; 4] = std::array::from_fn(|byte| data[now.k as usize + byte]);
                accumulator = u32::from_le_bytes(word);
            }
            0x54 => accumulator &= now.k,
            0x05 => at += now.k as usize,
            0x15 => branch(accumulator == now.k),
            0x25 => branch(accumulator > now.k),
            0x35 => branch(accumulator >= now.k),
            0x45 => branch(accumulator & now.k != 0),
            _ => return now.k,
        }
    }
}
