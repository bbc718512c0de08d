//! What may be left behind, and a look for all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::eventually;

/// Everything found that should not be there, one line each.
pub fn check(scratch: &Path, data_root: &Path, run_root: &Path, namespace: &str) -> Vec<String> {
    let mut left = Vec::new();
    // the kernel ends processes and network namespaces a moment after their last user; what stays is a leak
    for look in [
        &(|| monitors(&scratch.join("data"))) as &dyn Fn() -> Vec<String>,
        &|| mounts(scratch),
        &|| links(namespace),
        &|| rules(namespace),
        &cgroups,
        &|| directories(data_root, run_root),
    ] {
        left.extend(settled(look));
    }
    left
}

/// Looks again until nothing is found, at most a few seconds long.
fn settled(look: &dyn Fn() -> Vec<String>) -> Vec<String> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    eventually("a settled state", || {
        let found = look();
        (found.is_empty() || std::time::Instant::now() > end).then_some(found)
    })
}

/// Process ids whose command line names `data_root`.
pub fn processes(data_root: &Path) -> Vec<u32> {
    let wanted = data_root.to_string_lossy().into_owned();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&wanted)
        })
        .collect()
}

fn monitors(data_root: &Path) -> Vec<String> {
    processes(data_root)
        .iter()
        .map(|pid| format!("process {pid}"))
        .collect()
}

fn mounts(scratch: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let wanted = scratch.to_string_lossy().into_owned();
    table
        .lines()
        .filter(|line| line.contains(&wanted))
        .map(|line| format!("mount {line}"))
        .collect()
}

fn links(namespace: &str) -> Vec<String> {
    let listing = inside(namespace, &["ip", "-brief", "link"]);
    listing
        .lines()
        .filter(|line| !line.starts_with("lo "))
        .map(|line| format!("link {line}"))
        .collect()
}

fn rules(namespace: &str) -> Vec<String> {
    let listing = inside(namespace, &["nft", "list", "ruleset"]);
    listing.lines().map(|line| format!("rule {line}")).collect()
}

fn inside(namespace: &str, words: &[&str]) -> String {
    let output = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg("--")
        .args(words)
        .output();
    output.map_or_else(
        |error| format!("{words:?}: {error}"),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Container cgroups without a process: another world's live ones have some.
fn cgroups() -> Vec<String> {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup/ketch")];
    roots.extend(
        fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("ketch")),
    );
    roots
        .iter()
        .flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten())
        .filter(|entry| entry.path().is_dir())
        .filter(|entry| {
            fs::read_to_string(entry.path().join("cgroup.procs")).is_ok_and(|list| list.is_empty())
        })
        .map(|entry| format!("cgroup {}", entry.path().display()))
        .collect()
}

/// Directories of the state that must be empty once containers, volumes and user networks are removed.
fn directories(data_root: &Path, run_root: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let unfinished = data_root.join("ingest");
    for folder in [
        data_root.join("containers"),
        data_root.join("names/container"),
        run_root.join("containers"),
        unfinished.join("blobs"),
        unfinished.join("work"),
    ] {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // the lock file of a folder stays with the folder
            if entry.file_name() != ".lock" {
                left.push(format!("file {}", entry.path().display()));
            }
        }
    }
    for network in fs::read_dir(data_root.join("networks"))
        .into_iter()
        .flatten()
        .flatten()
    {
        for entry in fs::read_dir(network.path().join("endpoints"))
            .into_iter()
            .flatten()
            .flatten()
        {
            left.push(format!("endpoint {}", entry.path().display()));
        }
    }
    left
}
