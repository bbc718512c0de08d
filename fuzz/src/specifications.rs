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
    let before = outside();
    let options = CreateOptions::new(&spec, Rootfs::Path(&root), bundle, Stdio::Inherit);
    if let Err(error) = fuzz::prepare(options) {
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(before, outside(), "mounts are left");
}

/// How many mounts there are here.
fn outside() -> usize {
    let mounts = std::fs::read_to_string(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    mounts.lines().count()
}
