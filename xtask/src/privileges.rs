//! Root, asked for once: what needs it is run through [`command`].

use std::process::Command;

/// Whether this process is root.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        == Some("0")
}

/// A command that runs as root: itself when we are root, through sudo otherwise. The search path is kept, because
/// sudo's own often lacks cargo's directory.
pub fn command(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in ["PATH", "HOME", "CI", "KETCH_BIN", "KETCH_BUSYBOX_TAR"] {
        if let Some(value) = std::env::var_os(name) {
            let mut pair = std::ffi::OsString::from(format!("{name}="));
            pair.push(value);
            command.arg(pair);
        }
    }
    command.arg(program);
    command
}

/// Says what root is needed for, once, where we are not root.
pub fn explain(what: &str) {
    if !is_root() {
        println!("Root is needed {what}: sudo may ask for your password.");
    }
}
