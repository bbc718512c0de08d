//! Process 1 of `--init` containers: starts the program, hands signals on to it, reaps orphans, and ends as it ends.
//!
//! A program of its own, without a standard library or C library, because it runs inside containers whose images have
//! neither; a few kilobytes. Called as `docker-init -- PROGRAM [ARGUMENT…]`.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, 0", "mov x0, sp", "bl {main}", main = sym main);

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
}

const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const ENOENT: isize = -2;
const TIOCSPGRP: usize = 0x5410;
const WNOHANG: usize = 1;
/// The longest path that is tried.
const PATH_MAX: usize = 4096;

/// A system call with up to four arguments.
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the callers pass pointers that live as long as the call, with the sizes the call expects.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             in("r8") 0, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, in("x4") 0,
             in("x8") number, options(nostack));
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT_GROUP, code, 0, 0, 0);
    }
}

/// The strings that the kernel put on the stack: arguments, then variables, each list ended by a null pointer.
#[derive(Clone, Copy)]
struct Strings(*const *const u8);

impl Strings {
    fn get(self, at: usize) -> *const u8 {
        // SAFETY: callers stop at the null pointer that ends the list.
        unsafe { *self.0.add(at) }
    }

    fn from(self, at: usize) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.add(at) })
    }
}

fn byte(text: *const u8, at: usize) -> u8 {
    // SAFETY: callers stop at the zero that ends the string.
    unsafe { *text.add(at) }
}

fn length(text: *const u8) -> usize {
    let mut length = 0;
    while byte(text, length) != 0 {
        length += 1;
    }
    length
}

fn starts_with(text: *const u8, prefix: &[u8]) -> bool {
    let mut at = 0;
    while at < prefix.len() {
        if byte(text, at) != prefix[at] {
            return false;
        }
        at += 1;
    }
    true
}

fn say(text: *const u8, size: usize) {
    call(number::WRITE, 2, text as usize, size, 0);
}

extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: the kernel starts a program with the number of arguments at the top of its stack, then the lists.
    let count = unsafe { *stack };
    // SAFETY: as above.
    let arguments = Strings(unsafe { stack.add(1) }.cast());
    let variables = arguments.from(count + 1);
    let mut first = 1;
    if count > 1 && starts_with(arguments.get(1), b"--\0") {
        first = 2;
    }
    if count <= first {
        let message = b"docker-init: no program was given\n";
        say(message.as_ptr(), message.len());
        exit(1);
    }
    let all: u64 = !0;
    let mut before: u64 = 0;
    call(number::RT_SIGPROCMASK, SIG_SETMASK, &raw const all as usize, &raw mut before as usize, 8);
    let child = call(number::CLONE, SIGCHLD, 0, 0, 0);
    if child < 0 {
        let message = b"docker-init: cannot start a process\n";
        say(message.as_ptr(), message.len());
        exit(125);
    }
    if child == 0 {
        become_program(arguments.from(first), variables, &before);
    }
    supervise(child as usize)
}

/// The child: a process group of its own, in the foreground where there is a terminal, then the program.
fn become_program(arguments: Strings, variables: Strings, mask: &u64) -> ! {
    call(number::SETPGID, 0, 0, 0, 0);
    let own = call(number::GETPID, 0, 0, 0, 0) as u32;
    call(number::IOCTL, 0, TIOCSPGRP, &raw const own as usize, 0);
    call(number::RT_SIGPROCMASK, SIG_SETMASK, mask as *const u64 as usize, 0, 8);
    let program = arguments.get(0);
    let error = if has_slash(program) { execute(program, arguments, variables) } else { search(program, arguments, variables) };
    let (front, back) = (b"docker-init: cannot execute ", b"\n");
    say(front.as_ptr(), front.len());
    say(program, length(program));
    say(back.as_ptr(), back.len());
    exit(if error == ENOENT { 127 } else { 126 })
}

fn has_slash(text: *const u8) -> bool {
    let mut at = 0;
    while byte(text, at) != 0 {
        if byte(text, at) == b'/' {
            return true;
        }
        at += 1;
    }
    false
}

fn execute(path: *const u8, arguments: Strings, variables: Strings) -> isize {
    call(number::EXECVE, path as usize, arguments.0 as usize, variables.0 as usize, 0)
}

/// Tries each directory of `PATH`; returns the error that says most.
fn search(program: *const u8, arguments: Strings, variables: Strings) -> isize {
    let mut path = c"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ptr().cast::<u8>();
    let mut at = 0;
    while !variables.get(at).is_null() {
        if starts_with(variables.get(at), b"PATH=") {
            // SAFETY: the string has at least these five bytes.
            path = unsafe { variables.get(at).add(5) };
        }
        at += 1;
    }
    let mut worst = ENOENT;
    let mut candidate = [0u8; PATH_MAX];
    let mut begin = 0;
    loop {
        let mut end = begin;
        while byte(path, end) != 0 && byte(path, end) != b':' {
            end += 1;
        }
        let size = length(program);
        if end - begin + size + 2 < PATH_MAX {
            let mut fill = 0;
            while begin + fill < end {
                candidate[fill] = byte(path, begin + fill);
                fill += 1;
            }
            candidate[fill] = b'/';
            fill += 1;
            let mut copied = 0;
            while copied <= size {
                candidate[fill + copied] = byte(program, copied);
                copied += 1;
            }
            let error = execute(candidate.as_ptr(), arguments, variables);
            if error != ENOENT {
                worst = error;
            }
        }
        if byte(path, end) == 0 {
            return worst;
        }
        begin = end + 1;
    }
}

/// The parent: waits for signals, reaps, and ends with the child's code.
fn supervise(child: usize) -> ! {
    let all: u64 = !0;
    loop {
        let signal = call(number::RT_SIGTIMEDWAIT, &raw const all as usize, 0, 0, 8);
        if signal == SIGCHLD as isize {
            reap(child);
        } else if signal > 0 {
            call(number::KILL, child, signal as usize, 0, 0);
        }
    }
}

fn reap(child: usize) {
    loop {
        let mut status: i32 = 0;
        let ended = call(number::WAIT4, usize::MAX, &raw mut status as usize, WNOHANG, 0);
        if ended <= 0 {
            return;
        }
        if ended == child as isize {
            let signal = (status & 0x7f) as usize;
            exit(if signal == 0 { (status >> 8 & 0xff) as usize } else { 128 + signal });
        }
    }
}

/// The compiler may turn loops into calls of these.
#[unsafe(no_mangle)]
extern "C" fn memset(to: *mut u8, value: i32, size: usize) -> *mut u8 {
    let mut at = 0;
    while at < size {
        // SAFETY: the caller owns `size` bytes; volatile, or this loop would become a call of itself.
        unsafe { to.add(at).write_volatile(value as u8) };
        at += 1;
    }
    to
}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn memcpy(to: *mut u8, from: *const u8, size: usize) -> *mut u8 {
    let mut at = 0;
    while at < size {
        // SAFETY: as in `memset`.
        unsafe { to.add(at).write_volatile(*from.add(at)) };
        at += 1;
    }
    to
}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn strlen(text: *const u8) -> usize {
    let mut size = 0;
    // SAFETY: the caller's string ends with a zero; volatile as in `memset`.
    while unsafe { text.add(size).read_volatile() } != 0 {
        size += 1;
    }
    size
}

/// The core library's own code names it, though nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(125)
}
