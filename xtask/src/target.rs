//! What everything is built for: the C library musl, so that the program is static.
//!
//! A static program starts in a quarter of a dynamic one's time, which every container pays twice or more. Where Rust's
//! library for musl cannot be had, the machine's own target does too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::shell;

/// How a program is built.
#[derive(Clone, Copy)]
pub enum Profile {
    /// For the tests.
    Debug,
    /// For people.
    Release,
}

/// The target, with Rust's library for it; None: the machine's own.
pub fn triple() -> Option<&'static str> {
    static TRIPLE: OnceLock<Option<String>> = OnceLock::new();
    TRIPLE.get_or_init(find).as_deref()
}

/// Where `profile`'s programs are.
pub fn directory(profile: Profile) -> PathBuf {
    let name = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    };
    let root = shell::target_directory();
    match triple() {
        Some(triple) => root.join(triple).join(name),
        None => root.join(name),
    }
}

/// Where ketch is.
pub fn ketch(profile: Profile) -> PathBuf {
    directory(profile).join("ketch")
}

fn find() -> Option<String> {
    let version = said(Command::new("rustc").arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))?;
    let triple = format!("{}-musl", host.strip_suffix("-gnu")?);
    let sysroot = said(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(&triple);
    if !library.exists() {
        println!("About to install Rust's library for {triple}");
        let added = Command::new("rustup")
            .args(["target", "add", &triple])
            .current_dir(shell::workspace())
            .status();
        if !added.is_ok_and(|status| status.success()) {
            println!("It cannot be had: everything is built for {host}, and ketch starts slower.");
            return None;
        }
    }
    Some(triple)
}

/// What a command prints; None if it fails.
fn said(command: &mut Command) -> Option<String> {
    let output = command
        .current_dir(shell::workspace())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
