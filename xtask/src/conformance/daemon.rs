//! A daemon for the time of a suite.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// A running daemon, ended when dropped.
pub struct Daemon {
    name: String,
    child: Child,
}

impl Daemon {
    /// Starts `command` with its output in `log`, and waits for its socket.
    pub fn start(command: Command, log: &Path, socket: &Path) -> Result<Self, String> {
        Self::start_until(command, log, || socket.exists())
    }

    /// Starts `command` with its output in `log`, and waits until it `answers`.
    pub fn start_until(
        mut command: Command,
        log: &Path,
        answers: impl Fn() -> bool,
    ) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output
            .try_clone()
            .map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let mut daemon = Self { name, child };
        let begin = Instant::now();
        while !answers() {
            let ended = daemon.child.try_wait().ok().flatten();
            if ended.is_some() || begin.elapsed() > PATIENCE * super::slowness() {
                return Err(format!("{} does not come up: {}", daemon.name, end_of(log)));
            }
            std::thread::sleep(STEP);
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE * super::slowness() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(STEP);
        }
        println!("{} does not end by itself", self.name);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
