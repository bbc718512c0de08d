//! Every test: the tidy checks, then each crate's tests and the end-to-end tests, as root where they need it.
//!
//! Test programs are built as the calling user and executed directly, so that only they run as root.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, erofs_utils, lab, packages, privileges, tidy};

/// Runs everything, or the tests whose name contains `filter`.
pub fn run(filter: Option<&str>) -> Outcome {
    let mut timed = Timed::default();
    timed.step("Install what is missing", || {
        packages::install(&[packages::BUILD, packages::DEMO, packages::TEST])
    })?;
    if filter.is_none() {
        timed.step("Tidy", tidy::run)?;
    }
    timed.step("Build the program", || {
        shell::cargo(&["build", "--workspace", "--bins"])
    })?;
    let programs = timed.step("Build the tests", build_tests)?;
    let archives = shell::target_directory().join("base-images");
    std::fs::create_dir_all(&archives)
        .map_err(|error| format!("{}: {error}", archives.display()))?;
    let busybox = base_images::busybox(&archives)?;
    let fsck = timed.step("A checker of EROFS images", erofs_utils::fsck)?;
    privileges::explain("for the tests that make containers");

    let mut failed = Vec::new();
    for program in &programs {
        let passed = timed.step(&program.name, || {
            let variables = [
                ("KETCH_BUSYBOX_TAR", busybox.as_path()),
                ("KETCH_FSCK_EROFS", fsck.as_path()),
            ];
            Ok(execute(program, filter, &variables))
        })?;
        if !passed {
            failed.push(program.name.clone());
        }
    }
    if filter.is_none() && !timed.step("The lab, in short: cgroup version 2", lab::run_short)? {
        failed.push("lab".into());
    }
    timed.report();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

/// The tests that end commands early, at every point instead of some.
pub fn run_crashes(filter: Option<&str>) -> Outcome {
    packages::install(&[packages::BUILD, packages::DEMO, packages::TEST])?;
    shell::cargo(&["build", "--bin", "ketch"])?;
    let archives = shell::target_directory().join("base-images");
    std::fs::create_dir_all(&archives)
        .map_err(|error| format!("{}: {error}", archives.display()))?;
    let busybox = base_images::busybox(&archives)?;
    let program = TestProgram {
        name: "e2e: privileged_crashes".into(),
        path: lab::build("ketch-test-e2e", "privileged_crashes")?,
        directory: shell::workspace().join("tests/e2e"),
    };
    privileges::explain("for the tests that make containers");
    // Each form of layers has its own steps.
    for form in ["auto", "directory"] {
        let variables = [
            ("KETCH_BUSYBOX_TAR", busybox.as_path()),
            ("KETCH_CRASH_POINTS", Path::new("all")),
            ("KETCH_LAYER_FORM", Path::new(form)),
        ];
        if !execute(&program, filter, &variables) {
            return Err(format!("failed with layers of the form {form}"));
        }
    }
    Ok(())
}

struct TestProgram {
    name: String,
    path: PathBuf,
    directory: PathBuf,
}

/// Builds all test programs and lists them, in cargo's order.
fn build_tests() -> Result<Vec<TestProgram>, String> {
    let output = shell::cargo_command()
        .args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the tests do not build: {}", output.status));
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let (Some(path), Some(manifest)) = (
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        if message["profile"]["test"] != Value::Bool(true) {
            continue;
        }
        let directory = PathBuf::from(manifest)
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default();
        let package = directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let target = message["target"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        programs.push(TestProgram {
            name: format!("{package}: {target}"),
            path: path.into(),
            directory,
        });
    }
    Ok(programs)
}

/// Executes it with these variables in its environment, beside the program's.
fn execute(program: &TestProgram, filter: Option<&str>, variables: &[(&str, &Path)]) -> bool {
    let ketch = target::ketch(Profile::Debug);
    let mut command = privileges::command("env");
    command
        .arg(format!("KETCH_BIN={}", ketch.display()))
        .arg(format!(
            "CARGO_MANIFEST_DIR={}",
            program.directory.display()
        ))
        .args(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={}", value.display())),
        )
        .arg(&program.path)
        .args(filter)
        .current_dir(&program.directory)
        .stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
