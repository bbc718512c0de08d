//! The device filter of version 2: rules as an eBPF program, tried from the last to the first.

use ketch_sys::bpf::Instruction;

use super::devices::Rule;

// Registers: 1 context, 2 type, 3 access, 4 major, 5 minor.
const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const JUMP_IF_NOT_EQUAL_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const ALL_ACCESS: u32 = 7;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | (source << 4),
        offset,
        immediate,
    }
}

/// The program for `rules`; a device that no rule matches is refused.
pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx: u32 access_type (type below, access above), u32 major, u32 minor.
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_IMMEDIATE, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let tests = tests(rule);
        // A test that fails skips the rest of the tests and the two instructions of the verdict.
        let length = tests.len();
        for (index, mut test) in tests.into_iter().enumerate() {
            if matches!(
                test.code,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL | JUMP_IF_NOT_EQUAL_REGISTER
            ) {
                test.offset = (length - index - 1 + 2) as i16;
            }
            program.push(test);
        }
        program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        if rule.block.is_none() {
            // It decided for every device: nothing after it would be reached, which the verifier refuses.
            return program;
        }
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

fn tests(rule: &Rule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    if let Some(block) = rule.block {
        let kind = if block { TYPE_BLOCK } else { TYPE_CHARACTER };
        tests.push(instruction(JUMP_IF_NOT_EQUAL, 2, 0, 0, kind));
    }
    if rule.access != ALL_ACCESS {
        // An allowing rule must have all that is asked for, a denying one any of it.
        tests.push(instruction(MOVE_REGISTER, 1, 3, 0, 0));
        tests.push(instruction(AND_IMMEDIATE, 1, 0, 0, rule.access as i32));
        tests.push(if rule.allow {
            instruction(JUMP_IF_NOT_EQUAL_REGISTER, 1, 3, 0, 0)
        } else {
            instruction(JUMP_IF_EQUAL, 1, 0, 0, 0)
        });
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            tests.push(instruction(
                JUMP_IF_NOT_EQUAL,
                register,
                0,
                0,
                number as i32,
            ));
        }
    }
    tests
}

#[cfg(test)]
mod tests_of_it {
    use ketch_spec::runtime::DeviceRule;

    use super::*;
    use crate::cgroup::devices::{MKNOD, READ, WRITE, check};

    /// Runs a program: the few operations that `compile` emits.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [(access << 16) | kind, major, minor];
        let mut registers = [0u32; 6];
        let mut at = 0;
        loop {
            let now = program[at];
            let destination = (now.registers & 15) as usize;
            let source = registers[(now.registers >> 4) as usize];
            let immediate = now.immediate as u32;
            at += 1;
            match now.code {
                LOAD_WORD => registers[destination] = context[now.offset as usize / 4],
                AND_IMMEDIATE => registers[destination] &= immediate,
                SHIFT_RIGHT_IMMEDIATE => registers[destination] >>= immediate,
                MOVE_IMMEDIATE => registers[destination] = immediate,
                MOVE_REGISTER => registers[destination] = source,
                JUMP_IF_NOT_EQUAL if registers[destination] != immediate => {
                    at += now.offset as usize;
                }
                JUMP_IF_NOT_EQUAL_REGISTER if registers[destination] != source => {
                    at += now.offset as usize;
                }
                JUMP_IF_EQUAL if registers[destination] == immediate => at += now.offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL | JUMP_IF_NOT_EQUAL_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: &str, numbers: Option<(i64, i64)>, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major: numbers.map(|(major, _)| major),
            minor: numbers.map(|(_, minor)| minor),
            access: access.into(),
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = check(&[
            rule(false, "a", None, "rwm"),
            rule(true, "c", Some((10, 3)), "rwm"),
            rule(true, "c", Some((11, -1)), "rwm"),
            rule(false, "c", Some((11, 7)), "w"),
        ])
        .unwrap();
        let program = compile(&rules);
        let (block, character) = (TYPE_BLOCK as u32, TYPE_CHARACTER as u32);
        assert!(run(&program, character, READ | WRITE, 10, 3));
        assert!(!run(&program, character, READ, 10, 4));
        assert!(!run(&program, block, READ, 10, 3));
        assert!(run(&program, block, MKNOD, 8, 0));
        assert!(!run(&program, block, MKNOD | READ, 8, 0));
        assert!(run(&program, character, READ | WRITE, 11, 6));
        assert!(!run(&program, character, WRITE, 11, 7));
        assert!(!run(&program, character, READ | WRITE, 11, 7));
        assert!(run(&program, character, READ, 11, 7));
    }

    #[test]
    fn without_a_rule_for_all_the_rest_is_refused() {
        let program = compile(&check(&[rule(true, "c", Some((10, 3)), "r")]).unwrap());
        assert!(run(&program, TYPE_CHARACTER as u32, READ, 10, 3));
        assert!(!run(&program, TYPE_CHARACTER as u32, WRITE, 10, 3));
        assert!(!run(&program, TYPE_CHARACTER as u32, READ, 10, 5));
        assert!(
            run(&program, TYPE_CHARACTER as u32, READ | WRITE, 1, 3),
            "null"
        );
    }
}
