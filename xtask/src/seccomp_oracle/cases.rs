//! The filters: Docker's default profile in its variants, and ones that go through operators, actions and rules.

use serde_json::{Value, json};

use super::{Case, profile};

/// Calls that all five architectures have, and whose numbers libseccomp knows.
const CALLS: [&str; 48] = [
    "read",
    "write",
    "close",
    "lseek",
    "brk",
    "ioctl",
    "readv",
    "writev",
    "sched_yield",
    "mremap",
    "msync",
    "mincore",
    "madvise",
    "dup",
    "nanosleep",
    "getpid",
    "exit",
    "kill",
    "uname",
    "fcntl",
    "flock",
    "fsync",
    "fdatasync",
    "truncate",
    "ftruncate",
    "getcwd",
    "chdir",
    "fchdir",
    "fchmod",
    "fchown",
    "umask",
    "gettimeofday",
    "getrusage",
    "sysinfo",
    "times",
    "ptrace",
    "syslog",
    "setpgid",
    "setsid",
    "getpgid",
    "getsid",
    "capget",
    "capset",
    "personality",
    "statfs",
    "fstatfs",
    "getpriority",
    "setpriority",
];

const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// Docker's default capabilities.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Where comparisons of two halves go wrong if they do.
const VALUES: [u64; 12] = [
    0,
    1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

/// All of them, for both kinds of machines.
pub fn all() -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let machines = [
        (
            "x86_64",
            "amd64",
            "SCMP_ARCH_X86_64",
            json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        ),
        (
            "aarch64",
            "arm64",
            "SCMP_ARCH_AARCH64",
            json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        ),
    ];
    for (machine, architecture, scmp, arches) in machines {
        let mut add = |name: &str, filter: Value| {
            cases.push(Case {
                name: format!("{name}-{machine}"),
                machine,
                filter,
            });
        };
        for (name, capabilities) in [
            ("docker-default", &DEFAULT[..]),
            ("docker-none", &[]),
            ("docker-all", &["ALL"]),
        ] {
            add(name, profile::decide(architecture, scmp, capabilities)?);
        }
        let own = [
            ("operators", operators()),
            ("masks", masks()),
            ("several-arguments", several_arguments()),
            ("several-rules", several_rules()),
            ("actions", actions()),
        ];
        for (name, (default, rules)) in own {
            let filter =
                json!({ "defaultAction": default, "architectures": arches, "syscalls": rules });
            add(name, filter);
        }
    }
    Ok(cases)
}

fn rule(name: &str, action: &str, args: &[Value]) -> Value {
    json!({ "names": [name], "action": action, "args": args })
}

fn arg(index: usize, operator: &str, value: u64, second: u64) -> Value {
    json!({ "index": index, "op": format!("SCMP_CMP_{operator}"), "value": value, "valueTwo": second })
}

/// Every comparison with values at the edges of both halves.
fn operators() -> (&'static str, Vec<Value>) {
    let mut rules = Vec::new();
    for (at, name) in CALLS.iter().enumerate() {
        let operator = OPERATORS[at % 6];
        let (one, two) = (VALUES[at % 12], VALUES[(at / 6 + at) % 12]);
        let value = if at < 24 { one } else { two };
        rules.push(rule(
            name,
            "SCMP_ACT_ALLOW",
            &[arg(at % 6, operator, value, 0)],
        ));
    }
    ("SCMP_ACT_ERRNO", rules)
}

/// Masks of 64 bits, with values that lie within them and values that do not.
fn masks() -> (&'static str, Vec<Value>) {
    let masks = [
        0x1,
        0x7e02_0000,
        0xffff_ffff,
        0xffff_ffff_0000_0000,
        0x8000_0000_8000_0000,
        0x1_0000_0000,
        0x0f0f_0f0f_f0f0_f0f0,
        u64::MAX,
    ];
    let mut rules = Vec::new();
    for (at, name) in CALLS.iter().take(40).enumerate() {
        let mask = masks[at % 8];
        let second = [
            0,
            mask,
            mask & 0x8000_0001_0000_0001,
            mask & 0xffff_ffff,
            !mask,
        ][at / 8];
        rules.push(rule(
            name,
            "SCMP_ACT_ALLOW",
            &[arg(at % 6, "MASKED_EQ", mask, second)],
        ));
    }
    ("SCMP_ACT_ERRNO", rules)
}

/// Rules whose conditions must all hold, and ones with two about the same argument.
fn several_arguments() -> (&'static str, Vec<Value>) {
    let mut rules = Vec::new();
    for (at, name) in CALLS.iter().take(42).enumerate() {
        let first = arg(at % 3, OPERATORS[at % 7], VALUES[at % 12], VALUES[at % 5]);
        let second = arg(
            3 + at % 3,
            OPERATORS[(at / 7) % 7],
            VALUES[(at + 5) % 12],
            VALUES[at % 7],
        );
        let third = arg(
            3 + (at + 1) % 3,
            OPERATORS[(at + 3) % 6],
            VALUES[(at + 2) % 12],
            0,
        );
        let conditions = match at % 3 {
            0 => vec![first, second],
            1 => vec![first, second, third],
            _ => vec![first.clone(), arg(at % 3, "EQ", 77, 0), second],
        };
        rules.push(rule(name, "SCMP_ACT_ALLOW", &conditions));
    }
    ("SCMP_ACT_ERRNO", rules)
}

/// Several rules for a call with one action, and with different actions where at most one can hold; a rule without
/// conditions before and after one with.
fn several_rules() -> (&'static str, Vec<Value>) {
    let mut rules = Vec::new();
    for (at, name) in CALLS.iter().take(36).enumerate() {
        let index = at % 6;
        match at % 4 {
            0 => {
                // One upper half for all three: with different ones libseccomp 2.5.4 compares a lower half with the
                // upper half of the next rule.
                let half = if at % 8 == 0 { 0 } else { 1 << 33 };
                rules.extend([
                    rule(name, "SCMP_ACT_ALLOW", &[arg(index, "LT", half | 38, 0)]),
                    rule(name, "SCMP_ACT_ALLOW", &[arg(index, "EQ", half | 39, 0)]),
                    rule(name, "SCMP_ACT_ALLOW", &[arg(index, "GT", half | 40, 0)]),
                ]);
            }
            1 => rules.extend([
                rule(name, "SCMP_ACT_TRAP", &[arg(index, "EQ", 7, 0)]),
                rule(name, "SCMP_ACT_KILL_PROCESS", &[arg(index, "EQ", 8, 0)]),
                rule(
                    name,
                    "SCMP_ACT_ALLOW",
                    &[arg(index, "EQ", 0x1_0000_0009, 0)],
                ),
            ]),
            2 => rules.extend([
                rule(name, "SCMP_ACT_ALLOW", &[arg(index, "EQ", 7, 0)]),
                rule(name, "SCMP_ACT_ALLOW", &[]),
            ]),
            _ => rules.extend([
                rule(name, "SCMP_ACT_ALLOW", &[]),
                rule(name, "SCMP_ACT_ALLOW", &[arg(index, "EQ", 7, 0)]),
            ]),
        }
    }
    ("SCMP_ACT_LOG", rules)
}

/// Every action, with and without its data.
fn actions() -> (&'static str, Vec<Value>) {
    let names = [
        "KILL",
        "KILL_THREAD",
        "KILL_PROCESS",
        "TRAP",
        "ERRNO",
        "TRACE",
        "LOG",
        "NOTIFY",
    ];
    let mut rules = Vec::new();
    for (at, action) in names.iter().enumerate() {
        let action = format!("SCMP_ACT_{action}");
        // No notification about write: the runtime needs it to hand over the listener.
        rules.push(json!({ "names": [CALLS[at + 2]], "action": action }));
        if action.ends_with("ERRNO") || action.ends_with("TRACE") {
            for (more, data) in [0, 38, 4094].into_iter().enumerate() {
                rules.push(json!({ "names": [CALLS[20 + 3 * at + more]], "action": action, "errnoRet": data }));
            }
        }
    }
    ("SCMP_ACT_ALLOW", rules)
}
