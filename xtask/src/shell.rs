//! Commands shown before their output.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Outcome, privileges, target};

/// The workspace's root directory.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default()
}

/// Where build products are.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Cargo, building for [`target::triple`].
pub fn cargo_command() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace());
    if let Some(triple) = target::triple() {
        command.env("CARGO_BUILD_TARGET", triple);
    }
    command
}

/// Runs cargo with its output shown.
pub fn cargo(arguments: &[&str]) -> Outcome {
    let status = cargo_command()
        .args(arguments)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed: {status}", arguments.join(" ")))
    }
}

/// Steps with their times, in the order they were taken.
#[derive(Default)]
pub struct Timed {
    steps: Vec<(String, f64)>,
}

impl Timed {
    /// Does `work` and notes how long it took.
    pub fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        println!("\n\x1b[1m== {name}\x1b[0m");
        let begin = Instant::now();
        let result = work();
        self.steps
            .push((name.to_owned(), begin.elapsed().as_secs_f64()));
        result
    }

    /// Prints the times.
    pub fn report(&self) {
        println!("\n\x1b[1m== How long each step took\x1b[0m");
        for (name, seconds) in &self.steps {
            println!("{seconds:9.3} s  {name}");
        }
    }
}

/// Shows a line as a person would type it, runs it with `sh -c` as root, and shows what it prints.
pub struct Session {
    /// Directory of the `ketch` program, put first in the search path.
    pub program_directory: PathBuf,
    /// Variables set for every line.
    pub environment: Vec<(String, String)>,
}

impl Session {
    /// Runs `line`; its output appears as it comes.
    pub fn show(&self, line: &str) -> Outcome {
        println!("\x1b[36m$ {line}\x1b[0m");
        let status = self
            .shell(line)
            .status()
            .map_err(|error| format!("sh: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{line}` failed: {status}"))
        }
    }

    /// Runs `line` and returns what it printed on standard output, which is also shown.
    pub fn capture(&self, line: &str) -> Result<String, String> {
        println!("\x1b[36m$ {line}\x1b[0m");
        let output = self
            .shell(line)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("sh: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("`{line}` failed: {}", output.status))
        }
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = privileges::command("env");
        let path = std::env::var("PATH").unwrap_or_default();
        command.arg(format!("PATH={}:{path}", self.program_directory.display()));
        for (name, value) in &self.environment {
            command.arg(format!("{name}={value}"));
        }
        command
            .args(["sh", "-c", line])
            .current_dir(workspace())
            .stdin(Stdio::null());
        command
    }
}
