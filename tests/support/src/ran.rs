//! What a command did.

use std::process::Output;

/// Exit status and output of a finished command. It must be looked at.
#[must_use = "check how the command ended: ok(), fails(code)"]
#[derive(Debug)]
pub struct Ran {
    line: String,
    output: Output,
}

impl Ran {
    pub(crate) fn new(line: String, output: Output) -> Self {
        Self { line, output }
    }

    /// Standard output without the last newline; the command must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.output.status.success(), "{}", self.describe());
        self.stdout()
    }

    /// Standard error; the command must have ended with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code(), Some(code), "{}", self.describe());
        self.stderr()
    }

    /// Exit code; None after a death by signal.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// Standard output without the last newline.
    pub fn stdout(&self) -> String {
        trimmed(&self.output.stdout)
    }

    /// Standard error without the last newline.
    pub fn stderr(&self) -> String {
        trimmed(&self.output.stderr)
    }

    /// Everything, for failure messages.
    pub fn describe(&self) -> String {
        format!(
            "`{}`: {}\nstdout: {}\nstderr: {}",
            self.line,
            self.output.status,
            self.stdout(),
            self.stderr()
        )
    }
}

fn trimmed(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}
