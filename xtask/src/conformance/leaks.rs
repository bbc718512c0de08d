//! What a run leaves behind: processes, mounts, control groups, network namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Verdict;

/// Parts of the names of control groups that this run makes; other groups belong to others.
const CGROUPS: [&str; 4] = ["libpod", "cgrouptest", "ketch-conformance", "docker"];
/// How deep below a hierarchy's root groups are looked for.
const DEPTH: usize = 4;

/// The kinds of things that are looked for.
const KINDS: [&str; 4] = ["process", "mount", "control group", "network namespace"];
/// How long ends that are under way may take.
const PATIENCE: Duration = Duration::from_secs(4);
const STEP: Duration = Duration::from_millis(100);

/// The things there are at one moment.
pub struct Snapshot {
    things: BTreeSet<String>,
}

impl Snapshot {
    /// Looks at everything.
    pub fn take() -> Self {
        let mut things = BTreeSet::new();
        processes(&mut things);
        mounts(&mut things);
        cgroups(Path::new("/sys/fs/cgroup"), DEPTH, &mut things);
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            things.insert(format!("network namespace {}", entry.path().display()));
        }
        Self { things }
    }

    /// Adds to `verdict` what is there beyond this snapshot once ends under way have had time to happen.
    pub fn compare(&self, verdict: &mut Verdict) {
        let begin = Instant::now();
        let left = loop {
            let now = Self::take();
            let left: Vec<String> = now.things.difference(&self.things).cloned().collect();
            if left.is_empty() || begin.elapsed() > PATIENCE * super::slowness() {
                break left;
            }
            std::thread::sleep(STEP);
        };
        for thing in left {
            let kind = KINDS.into_iter().find(|kind| thing.starts_with(kind));
            verdict
                .failures
                .insert(format!("it leaves a {} behind", kind.unwrap_or("thing")));
            verdict.detail.push_str(&format!("\nleft behind: {thing}"));
        }
    }
}

/// Processes of this process namespace by name, less the kernel's view of this program itself.
fn processes(things: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // a process that ended meanwhile, and one that only waits to be reaped, is nothing left behind
        let Ok(command) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if !command.is_empty() {
            let words = String::from_utf8_lossy(&command).replace('\0', " ");
            things.insert(format!("process {name}: {}", words.trim()));
        }
    }
}

/// Mounts of containers: those of the engines' own places last as long as their storage.
fn mounts(things: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let target = line.split(' ').nth(4).unwrap_or_default();
        // podman and Docker keep their own storage directory mounted on itself, and the network namespace of the host
        let storage = [
            "/graph",
            "/graph/overlay",
            "/docker",
            "/run/netns",
            "/netns/default",
        ]
        .iter()
        .any(|end| target.ends_with(end));
        if !storage {
            things.insert(format!("mount {target}"));
        }
    }
}

fn cgroups(directory: &Path, depth: usize, things: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // an engine's own parent group stays; what counts are groups of containers in it
        let parent =
            ["libpod_parent", "conmon", "ketch-conformance", "docker"].contains(&name.as_str());
        let text = path.display().to_string();
        if !parent && CGROUPS.iter().any(|part| text.contains(part)) {
            things.insert(format!("control group {text}"));
        }
        if depth > 0 {
            cgroups(&path, depth - 1, things);
        }
    }
}
