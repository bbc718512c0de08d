//! From the specification's rules to a decision for each number.

use std::collections::BTreeMap;

use ketch_spec::runtime::{LinuxSeccomp, SeccompArg, SeccompSyscall};
use ketch_sys::seccomp as sys;

use super::arch::{Arch, Machine, Syscall, X32_BIT, ipc_number, number, socketcall_number};
use super::assemble::{Condition, Decision, Operator, Rule, Table, assemble};
use super::{Program, SeccompError};

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Most instructions that the kernel takes.
pub(super) const MOST: usize = 4096;
/// First of the calls that arm keeps apart from the others.
const ARM_PRIVATE: u32 = 0xf0000;

/// Compiles for a kind of machine.
pub(super) fn compile(filter: &LinuxSeccomp, machine: Machine) -> Result<Program, SeccompError> {
    let notifies = check_notifications(filter)?;
    let default = action(&filter.default_action, filter.default_errno_ret)?;
    let entries: Vec<Entry<'_>> = filter
        .syscalls
        .iter()
        .map(entry)
        .collect::<Result<_, _>>()?;
    let mut tables: Vec<(u32, Table)> = Vec::new();
    let arches = arches(filter, machine)?;
    for &arch in arches.iter().filter(|&&arch| arch != Arch::X32) {
        let mut table = table(&entries, arch, default);
        if arch == Arch::X86_64 {
            match arches.contains(&Arch::X32) {
                true => table.extend(self::table(&entries, Arch::X32, default)),
                false => table.push((X32_BIT, Decision::Return(KILL_PROCESS))),
            }
        }
        // A tracer that skips a call sets its number to -1.
        table.push((u32::MAX, Decision::Return(default)));
        table.dedup_by(|later, earlier| later.1 == earlier.1);
        tables.push((arch.audit(), table));
    }
    let instructions = assemble(&tables, KILL_PROCESS);
    if instructions.len() > MOST {
        return Err(SeccompError::TooLong {
            instructions: instructions.len(),
        });
    }
    Ok(Program {
        instructions,
        flags: flags(filter.flags.as_deref(), notifies)?,
    })
}

/// The architectures of the filter that the machine runs, its own first.
fn arches(filter: &LinuxSeccomp, machine: Machine) -> Result<Vec<Arch>, SeccompError> {
    let mut arches = vec![machine.native()];
    for name in &filter.architectures {
        if let Some(arch) = Arch::parse(name)?
            && machine.runs(arch)
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    }
    Ok(arches)
}

/// Whether the filter tells a listener of calls; what runc and libseccomp refuse about that is refused here.
fn check_notifications(filter: &LinuxSeccomp) -> Result<bool, SeccompError> {
    let refuse = |reason| Err(SeccompError::Notify { reason });
    const NAME: &str = "SCMP_ACT_NOTIFY";
    if filter.default_action == NAME {
        return refuse("SCMP_ACT_NOTIFY cannot be the default action");
    }
    let mut rules = filter.syscalls.iter().filter(|rule| rule.action == NAME);
    let notifies = rules.clone().next().is_some();
    if rules.any(|rule| rule.names.iter().any(|name| name == "write")) {
        // The process itself tells the number of the listener, with the filter already in force.
        return refuse("SCMP_ACT_NOTIFY cannot be used for the write syscall");
    }
    if notifies && filter.listener_path.is_empty() {
        return refuse("SCMP_ACT_NOTIFY needs listenerPath");
    }
    if !filter.listener_metadata.is_empty() && filter.listener_path.is_empty() {
        return refuse("listenerMetadata needs listenerPath");
    }
    Ok(notifies)
}

/// Flags of seccomp(2). None: those of runc, which is the one below; without it every program with a filter pays for a
/// mitigation that containers do not need.
fn flags(names: Option<&[String]>, notifies: bool) -> Result<u32, SeccompError> {
    let (always, killable) = match notifies {
        true => (sys::FLAG_NEW_LISTENER, sys::FLAG_WAIT_KILLABLE),
        // Nothing waits for a listener that there is not, and the kernel refuses to be told how.
        false => (0, 0),
    };
    let Some(names) = names else {
        return Ok(always | sys::FLAG_SPEC_ALLOW);
    };
    names.iter().try_fold(always, |flags, name| {
        Ok(flags
            | match name.as_str() {
                // There is one thread when the filter is loaded.
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => sys::FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => sys::FLAG_SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => killable,
                _ => return Err(SeccompError::Flag { name: name.clone() }),
            })
    })
}

/// `SECCOMP_RET_…` with its data.
pub(super) fn action(name: &str, errno: Option<u32>) -> Result<u32, SeccompError> {
    let data = |most| match errno.unwrap_or(EPERM) {
        errno if errno <= most => Ok(errno),
        errno => Err(SeccompError::Errno {
            action: name.to_owned(),
            errno,
            most,
        }),
    };
    let action = match name {
        // The kernel cuts larger ones down to 4095.
        "SCMP_ACT_ERRNO" => return Ok(ERRNO | data(4095)?),
        "SCMP_ACT_TRACE" => return Ok(TRACE | data(0xffff)?),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_NOTIFY" => NOTIFY,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_ALLOW" => ALLOW,
        _ => {
            return Err(SeccompError::Action {
                name: name.to_owned(),
            });
        }
    };
    match errno {
        // As the specification has it: an action that returns no errno must not be given one.
        Some(errno) => Err(SeccompError::ErrnoOfOtherAction {
            action: name.to_owned(),
            errno,
        }),
        None => Ok(action),
    }
}

/// An entry of the filter, read once for all architectures.
struct Entry<'a> {
    calls: Vec<(&'a str, Syscall)>,
    /// None at all: it has no conditions.
    rules: Vec<Rule>,
    action: u32,
}

fn entry(syscall: &SeccompSyscall) -> Result<Entry<'_>, SeccompError> {
    let action = action(&syscall.action, syscall.errno_ret)?;
    if syscall.names.is_empty() {
        return Err(SeccompError::NoName {
            action: syscall.action.clone(),
        });
    }
    let names = syscall.names.iter();
    let calls = names
        .filter_map(|name| Some((name.as_str(), Syscall::find(name)?)))
        .collect();
    Ok(Entry {
        calls,
        rules: rules(syscall, action)?,
        action,
    })
}

/// What the rules say about one call.
#[derive(Default)]
struct Found {
    always: Option<u32>,
    rules: Vec<Rule>,
}

/// Decisions for all numbers of an architecture.
fn table(entries: &[Entry<'_>], arch: Arch, default: u32) -> Table {
    let mut found: BTreeMap<u32, Found> = BTreeMap::new();
    let mut largest = arch.base();
    for entry in entries {
        for &(name, call) in &entry.calls {
            if let Some(number) = call.number(arch) {
                if number < ARM_PRIVATE || arch != Arch::Arm {
                    largest = largest.max(number);
                }
                if entry.action != default {
                    add(found.entry(number).or_default(), &entry.rules, entry.action);
                }
            }
            if arch == Arch::X86
                && entry.action != default
                && let Some((number, rule)) = multiplexed(name, entry)
            {
                add(found.entry(number).or_default(), &[rule], entry.action);
            }
        }
    }
    let mut table = vec![(arch.base(), Decision::Return(default))];
    for (number, found) in found {
        let decision = match found.always {
            Some(action) => Decision::Return(action),
            None => Decision::Inspect(found.rules, default, arch.is_wide()),
        };
        push(&mut table, number, decision);
        table.push((number + 1, Decision::Return(default)));
    }
    add_unknown(&mut table, arch, largest, default);
    table
}

fn push(table: &mut Table, number: u32, decision: Decision) {
    if table.last().is_some_and(|(start, _)| *start == number) {
        table.pop();
    }
    table.push((number, decision));
}

fn add(found: &mut Found, rules: &[Rule], action: u32) {
    if rules.is_empty() {
        found.always = found.always.or(Some(action));
    } else {
        found.rules.extend_from_slice(rules);
    }
}

/// As runc: calls newer than any that the filter knows do not exist, rather than being forbidden. Programs then fall
/// back to older ones, which they do not on EPERM.
fn add_unknown(table: &mut Table, arch: Arch, largest: u32, default: u32) {
    let permissive = matches!(default & 0xffff_0000, ALLOW | LOG | TRACE);
    if permissive || largest == arch.base() {
        return;
    }
    let from = largest + 1;
    let unknown = Decision::Return(ERRNO | ENOSYS);
    match table.iter().position(|(start, _)| *start >= from) {
        // The default after the largest one, or arm's private calls after the gap.
        Some(at) if table[at].0 == from => table[at].1 = unknown,
        Some(at) => table.insert(at, (from, unknown)),
        None => table.push((from, unknown)),
    }
    if arch == Arch::Arm && !table.iter().any(|(start, _)| *start == ARM_PRIVATE) {
        let at = table
            .iter()
            .position(|(start, _)| *start > ARM_PRIVATE)
            .unwrap_or(table.len());
        table.insert(at, (ARM_PRIVATE, Decision::Return(default)));
    }
}

/// Some calls of x86 can be made in a second way, through `socketcall` or `ipc`, whose first argument says which is
/// meant: that one's number, and the rule for it.
fn multiplexed(name: &str, entry: &Entry<'_>) -> Option<(u32, Rule)> {
    let (multiplexer, value) = match (socketcall_number(name), ipc_number(name)) {
        (Some(value), _) => ("socketcall", value),
        (_, Some(value)) => ("ipc", value),
        (None, None) => return None,
    };
    // The arguments are in memory there, out of the filter's sight. What is allowed under conditions is then not
    // allowed that way; what is forbidden under conditions is forbidden altogether.
    let permits = matches!(entry.action & 0xffff_0000, ALLOW | LOG);
    if permits && !entry.rules.is_empty() {
        return None;
    }
    let condition = Condition {
        index: 0,
        operator: Operator::Equal,
        value,
    };
    let rule = Rule {
        conditions: vec![condition],
        action: entry.action,
    };
    Some((number(Arch::X86, multiplexer)?, rule))
}

/// The rules of an entry; none at all: it has no conditions.
fn rules(syscall: &SeccompSyscall, action: u32) -> Result<Vec<Rule>, SeccompError> {
    let name = || syscall.names.first().cloned().unwrap_or_default();
    let conditions: Vec<Condition> = syscall
        .args
        .iter()
        .map(|arg| condition(arg, &name))
        .collect::<Result<_, _>>()?;
    let repeated = conditions.iter().enumerate().any(|(at, condition)| {
        conditions[..at]
            .iter()
            .any(|earlier| earlier.index == condition.index)
    });
    Ok(match conditions.len() {
        0 => Vec::new(),
        _ if repeated => conditions
            .into_iter()
            .map(|condition| Rule {
                conditions: vec![condition],
                action,
            })
            .collect(),
        _ => vec![Rule { conditions, action }],
    })
}

fn condition(arg: &SeccompArg, name: &dyn Fn() -> String) -> Result<Condition, SeccompError> {
    if arg.index > 5 {
        return Err(SeccompError::Argument {
            index: arg.index,
            syscall: name(),
        });
    }
    let (operator, value) = match arg.op.as_str() {
        "SCMP_CMP_EQ" => (Operator::Equal, arg.value),
        "SCMP_CMP_NE" => (Operator::NotEqual, arg.value),
        "SCMP_CMP_LT" => (Operator::Less, arg.value),
        "SCMP_CMP_LE" => (Operator::LessEqual, arg.value),
        "SCMP_CMP_GT" => (Operator::Greater, arg.value),
        "SCMP_CMP_GE" => (Operator::GreaterEqual, arg.value),
        "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEqual(arg.value), arg.value_two & arg.value),
        _ => {
            return Err(SeccompError::Operator {
                name: arg.op.clone(),
                syscall: name(),
            });
        }
    };
    Ok(Condition {
        index: arg.index,
        operator,
        value,
    })
}
