//! The arrows between crates, as ARCHITECTURE.md draws them. Any other dependency is a mistake or a decision record.

use std::process::Command;

use serde_json::Value;

use crate::shell::workspace;

/// Who may use whom.
const ARROWS: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("sys", &[]),
    ("registry", &["spec"]),
    ("store", &["sys", "spec"]),
    ("network", &["sys", "spec"]),
    ("runtime", &["sys", "spec"]),
    (
        "engine",
        &["store", "registry", "network", "runtime", "sys", "spec"],
    ),
    ("monitor", &["engine", "runtime", "network", "sys", "spec"]),
    ("build", &["engine", "sys", "spec"]),
    ("compose", &["build", "engine", "spec"]),
    ("api", &["build", "engine", "spec"]),
    (
        "cli",
        &[
            "api", "compose", "build", "monitor", "engine", "runtime", "sys", "spec",
        ],
    ),
];

/// Crates that may link an async runtime.
const ASYNC: &[&str] = &["api"];

/// Complaints about dependencies that point elsewhere.
pub fn check() -> Vec<String> {
    let metadata = match metadata() {
        Ok(metadata) => metadata,
        Err(message) => return vec![message],
    };
    let mut complaints = Vec::new();
    let mut seen = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = package["name"]
            .as_str()
            .and_then(|name| name.strip_prefix("ketch-"))
        else {
            continue;
        };
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // kind is null for normal dependencies; tests may use more
            let Some(to) = dependency["name"]
                .as_str()
                .filter(|_| dependency["kind"].is_null())
            else {
                continue;
            };
            match to.strip_prefix("ketch-") {
                Some(to) if !allowed.contains(&to) => {
                    complaints.push(format!("crates/{name} must not use crates/{to}"))
                }
                None if matches!(to, "tokio" | "hyper") && !ASYNC.contains(&name) => {
                    complaints.push(format!(
                        "crates/{name} must not use {to}: async stays in crates/api"
                    ));
                }
                None if to == "libc" && name != "sys" => {
                    complaints.push(format!(
                        "crates/{name} must not use libc: raw calls stay in crates/sys"
                    ));
                }
                _ => {}
            }
        }
    }
    if seen != ARROWS.len() {
        complaints.push(format!("expected {} crates, found {seen}", ARROWS.len()));
    }
    complaints
}

fn metadata() -> Result<Value, String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(workspace())
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}
