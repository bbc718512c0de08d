//! From decisions to instructions.

use ketch_sys::seccomp::Instruction;

// Operations of classic BPF.
const LOAD: u16 = 0x20; // word at an absolute offset
const AND: u16 = 0x54; // with a constant
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// struct seccomp_data: nr, arch, instruction pointer, six arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// This, `SECCOMP_RET_…`.
    Return(u32),
    /// By its arguments: the first rule that matches, or else the last value. Arguments are 64 bits wide or not.
    Inspect(Vec<Rule>, u32, bool),
}

/// Conditions that must all hold, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub conditions: Vec<Condition>,
    pub action: u32,
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub index: u32,
    pub operator: Operator,
    pub value: u64,
}

/// How an argument is compared with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// After a mask.
    MaskedEqual(u64),
}

/// Decisions for ranges of numbers: each from its start to the next one's. The first starts at 0.
pub(super) type Table = Vec<(u32, Decision)>;

/// The program: by architecture, then by number. Calls of other architectures end the process.
pub(super) fn assemble(tables: &[(u32, Table)], otherwise: u32) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for (audit, table) in tables {
        let mut section = vec![load(NUMBER)];
        section.extend(search(table));
        program.push(test(JUMP_EQUAL, *audit, 1, 0));
        program.push(jump(section.len()));
        program.extend(section);
    }
    program.push(done(otherwise));
    program
}

/// A binary search over the ranges.
fn search(table: &[(u32, Decision)]) -> Vec<Instruction> {
    let [(_, decision)] = table else {
        let (left, right) = table.split_at(table.len() / 2);
        let Some((start, _)) = right.first() else {
            return Vec::new();
        };
        let lower = search(left);
        let mut code = match u8::try_from(lower.len()) {
            Ok(length) => vec![test(JUMP_GREATER_EQUAL, *start, length, 0)],
            Err(_) => vec![test(JUMP_GREATER_EQUAL, *start, 0, 1), jump(lower.len())],
        };
        code.extend(lower);
        code.extend(search(right));
        return code;
    };
    match decision {
        Decision::Return(value) => vec![done(*value)],
        Decision::Inspect(rules, otherwise, wide) => {
            let mut code: Vec<Instruction> =
                rules.iter().flat_map(|rule| inspect(rule, *wide)).collect();
            code.push(done(*otherwise));
            code
        }
    }
}

/// Where a test goes.
#[derive(Clone, Copy)]
enum To {
    /// On, leaving out so many instructions.
    On(u8),
    /// To the next rule.
    NextRule,
}

enum Draft {
    Plain(Instruction),
    Test(u16, u32, To, To),
}

/// One rule: its tests, its action; what does not match goes on after it.
fn inspect(rule: &Rule, wide: bool) -> Vec<Instruction> {
    let drafts: Vec<Draft> = rule
        .conditions
        .iter()
        .flat_map(|condition| condition_code(*condition, wide))
        .collect();
    let length = drafts.len();
    let mut code: Vec<Instruction> = drafts
        .into_iter()
        .enumerate()
        .map(|(at, draft)| match draft {
            Draft::Plain(instruction) => instruction,
            Draft::Test(code, value, yes, no) => {
                // At most six conditions of at most six instructions: it fits.
                let offset = |to| match to {
                    To::On(count) => count,
                    To::NextRule => (length - at) as u8,
                };
                test(code, value, offset(yes), offset(no))
            }
        })
        .collect();
    code.push(done(rule.action));
    code
}

fn condition_code(condition: Condition, wide: bool) -> Vec<Draft> {
    if wide {
        wide_condition(condition)
    } else {
        narrow_condition(condition)
    }
}

fn low(condition: Condition) -> Draft {
    Draft::Plain(load(ARGUMENTS + 8 * condition.index))
}

fn high(condition: Condition) -> Draft {
    Draft::Plain(load(ARGUMENTS + 8 * condition.index + 4))
}

/// Of arguments that are 32 bits wide only the lower half counts.
fn narrow_condition(condition: Condition) -> Vec<Draft> {
    use To::{NextRule, On};
    let next = On(0);
    let (code, yes, no) = match condition.operator {
        Operator::Equal | Operator::MaskedEqual(_) => (JUMP_EQUAL, next, NextRule),
        Operator::NotEqual => (JUMP_EQUAL, NextRule, next),
        Operator::Greater => (JUMP_GREATER, next, NextRule),
        Operator::GreaterEqual => (JUMP_GREATER_EQUAL, next, NextRule),
        Operator::Less => (JUMP_GREATER_EQUAL, NextRule, next),
        Operator::LessEqual => (JUMP_GREATER, NextRule, next),
    };
    let mut drafts = vec![low(condition)];
    if let Operator::MaskedEqual(mask) = condition.operator {
        drafts.push(Draft::Plain(and(mask as u32)));
    }
    drafts.push(Draft::Test(code, condition.value as u32, yes, no));
    drafts
}

/// The upper halves are compared first; only if they are equal the lower ones decide.
fn wide_condition(condition: Condition) -> Vec<Draft> {
    use Draft::{Plain, Test};
    use To::{NextRule, On};
    let (low, high, next) = (low(condition), high(condition), On(0));
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    match condition.operator {
        Operator::Equal => vec![
            high,
            Test(JUMP_EQUAL, value_high, next, NextRule),
            low,
            Test(JUMP_EQUAL, value_low, next, NextRule),
        ],
        Operator::NotEqual => vec![
            high,
            Test(JUMP_EQUAL, value_high, next, On(2)),
            low,
            Test(JUMP_EQUAL, value_low, NextRule, next),
        ],
        Operator::MaskedEqual(mask) => vec![
            high,
            Plain(and((mask >> 32) as u32)),
            Test(JUMP_EQUAL, value_high, next, NextRule),
            low,
            Plain(and(mask as u32)),
            Test(JUMP_EQUAL, value_low, next, NextRule),
        ],
        Operator::Greater | Operator::GreaterEqual => {
            let equal = condition.operator == Operator::GreaterEqual;
            let code = if equal {
                JUMP_GREATER_EQUAL
            } else {
                JUMP_GREATER
            };
            vec![
                high,
                Test(JUMP_GREATER, value_high, On(3), next),
                Test(JUMP_EQUAL, value_high, next, NextRule),
                low,
                Test(code, value_low, next, NextRule),
            ]
        }
        Operator::Less | Operator::LessEqual => {
            let equal = condition.operator == Operator::LessEqual;
            let code = if equal {
                JUMP_GREATER
            } else {
                JUMP_GREATER_EQUAL
            };
            vec![
                high,
                Test(JUMP_GREATER, value_high, NextRule, next),
                Test(JUMP_EQUAL, value_high, next, On(2)),
                low,
                Test(code, value_low, NextRule, next),
            ]
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        k: offset,
    }
}

fn and(mask: u32) -> Instruction {
    Instruction {
        code: AND,
        jump_true: 0,
        jump_false: 0,
        k: mask,
    }
}

fn test(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        k: value,
    }
}

fn jump(length: usize) -> Instruction {
    Instruction {
        code: JUMP,
        jump_true: 0,
        jump_false: 0,
        k: length as u32,
    }
}

fn done(value: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        k: value,
    }
}
