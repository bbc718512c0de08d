//! Builds the program that `--init` containers have as process 1: see `reaper/main.rs`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=reaper/main.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("reaper");
    let mut command = Command::new(variable("RUSTC"));
    command.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--crate-name",
        "reaper",
        "--target",
        &variable("TARGET"),
    ]);
    for option in [
        "panic=abort",
        "opt-level=s",
        "overflow-checks=off",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-no-pie",
    ] {
        command.args(["-C", option]);
    }
    // Targets for musl bring start files of their own. For others the same option would take the compiler's linker away.
    if variable("TARGET").ends_with("-musl") {
        command.args(["-C", "link-self-contained=no"]);
    }
    let status = command
        .arg("-o")
        .arg(&output)
        .arg("reaper/main.rs")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the reaper does not build"
    );
}
