//! `config.json` of OCI bundles: checked, and everything made ready that a process would need; no process is made.

use std::path::Path;
use std::sync::OnceLock;

use ketch_runtime::{CreateOptions, Rootfs, Stdio, fuzz};
use ketch_spec::runtime::Spec;
use tempfile::TempDir;

static BUNDLE: OnceLock<TempDir> = OnceLock::new();

/// Types of mounts that are not tried: what makes one ready may wait for a network, or for a disk.
const TYPES: [&str; 8] = [
    "", "none", "bind", "tmpfs", "proc", "sysfs", "mqueue", "cgroup",
];

pub(crate) fn specification(bytes: &[u8]) {
    let Ok(mut spec) = serde_json::from_slice::<Spec>(bytes) else {
        return;
    };
    match serde_json::to_vec(&spec).map(|written| serde_json::from_slice::<Spec>(&written)) {
        Ok(Ok(again)) => assert_eq!(spec, again),
        other => panic!("{spec:?} does not come back: {other:?}"),
    }
    spec.mounts
        .retain(|mount| TYPES.contains(&mount.kind.as_str()));
    let bundle = BUNDLE.get_or_init(crate::archives::scratch).path();
    let root = bundle.join("rootfs");
    let _ = std::fs::create_dir(&root);
    let options = CreateOptions::new(&spec, Rootfs::Path(&root), bundle, Stdio::Inherit);
    if let Err(error) = fuzz::prepare(options) {
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(mounts_in(bundle), 0, "mounts are left");
}

/// How many mounts there are at or below a directory. Others make mounts meanwhile.
fn mounts_in(directory: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let directory = directory.to_string_lossy();
    mounts
        .lines()
        .filter(|line| {
            let point = line.split(' ').nth(4);
            point.is_some_and(|point| point.starts_with(&*directory))
        })
        .count()
}
