//! Questions at the terminal, with an answer that may be a secret.

use std::io::{self, BufRead, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::failure::{Exit, Failure};
use crate::output;

/// Longest answer, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// What control-C, control-D, backspace and delete send.
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const ERASE: [u8; 2] = [8, 127];

/// Whether there is somebody to ask.
pub fn can_ask() -> bool {
    isatty(io::stdin())
}

/// Asks for a line that everybody may see.
///
/// # Errors
/// Standard output or input.
pub fn ask(question: &str) -> Result<String, Failure> {
    tell(question)?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .take(ANSWER_MAX as u64)
        .read_line(&mut answer)
        .map_err(input_failed)?;
    Ok(answer.trim().to_owned())
}

/// Asks for a line that nobody may see.
///
/// # Errors
/// Standard output or input; 130 where the user interrupts.
pub fn ask_secret(question: &str) -> Result<String, Failure> {
    // Silent before it asks: who answers a question as soon as it is there must not see the answer.
    let silent = Silent::enter()?;
    tell(question)?;
    let answer = read_secret();
    drop(silent);
    // The user's line end was not shown either.
    output::print_line("")?;
    answer
}

/// Everything on standard input up to the end, without its last line end: `--password-stdin`.
///
/// # Errors
/// Standard input.
pub fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(ANSWER_MAX as u64)
        .read_to_string(&mut text)
        .map_err(input_failed)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn tell(question: &str) -> Result<(), Failure> {
    output::print(question)?;
    io::stdout().flush().map_err(Failure::stdout)
}

/// Byte by byte: the terminal's own line editing would show what it edits, and a control-C would leave it silent.
fn read_secret() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock();
    loop {
        let mut byte = [0];
        match input.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(input_failed(error)),
        }
        match byte[0] {
            INTERRUPT => return Err(Failure::Told(Exit::from_signal(2).0)),
            b'\n' | b'\r' | END => break,
            erase if ERASE.contains(&erase) => drop(bytes.pop()),
            byte if bytes.len() < ANSWER_MAX => bytes.push(byte),
            _ => {}
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage("the password is not UTF-8"))
}

fn input_failed(source: io::Error) -> Failure {
    Failure::Stream {
        stream: "standard input",
        source,
    }
}

/// The terminal without echo, until dropped.
struct Silent {
    before: Termios,
}

impl Silent {
    fn enter() -> Result<Self, Failure> {
        let before = tcgetattr(io::stdin()).map_err(|errno| input_failed(errno.into()))?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)
            .map_err(|errno| input_failed(errno.into()))?;
        Ok(Self { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
