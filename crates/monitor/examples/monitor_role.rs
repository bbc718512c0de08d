//! A program with the role `monitor` and no other, for this crate's tests: the real one is the command line's.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(role) if role == "monitor" => ketch_monitor::main(words),
        _ => ExitCode::from(2),
    }
}
