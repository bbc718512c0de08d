//! An interpreter of classic BPF, as the kernel runs filters: for tests.

use ketch_sys::seccomp::Instruction;

/// A system call as the filter sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub number: u32,
    pub audit: u32,
    pub args: [u64; 6],
}

/// Runs a program, and counts its steps.
pub fn run(program: &[Instruction], call: Call) -> (u32, usize) {
    let load = |offset: u32| match offset {
        0 => call.number,
        4 => call.audit,
        16..64 => {
            let arg = call.args[(offset as usize - 16) / 8];
            if offset % 8 == 4 {
                (arg >> 32) as u32
            } else {
                arg as u32
            }
        }
        other => panic!("load at {other}"),
    };
    let (mut at, mut accumulator, mut steps) = (0, 0u32, 0);
    loop {
        let now = program[at];
        at += 1;
        steps += 1;
        let mut branch = |taken: bool| {
            at += usize::from(if taken { now.jump_true } else { now.jump_false });
        };
        match now.code {
            0x20 => accumulator = load(now.k),
            0x54 => accumulator &= now.k,
            0x05 => at += now.k as usize,
            0x15 => branch(accumulator == now.k),
            0x25 => branch(accumulator > now.k),
            0x35 => branch(accumulator >= now.k),
            0x06 => return (now.k, steps),
            other => panic!("operation {other:#x}"),
        }
    }
}
