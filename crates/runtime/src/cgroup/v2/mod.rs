//! Version 2: one directory, with the controllers that the groups above it hand down.

mod limits;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ketch_spec::runtime::LinuxResources;
use ketch_sys::Error as SysError;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Entry, MOUNT, file};
use crate::error::{Called, During, Error, Result};

const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// Those that every container gets, where the machine has them.
const ALWAYS: [&str; 4] = ["cpu", "io", "memory", "pids"];

pub(super) use limits::rdma_line;

/// The directory of one container.
#[derive(Debug)]
pub(super) struct Group {
    directory: PathBuf,
}

impl Group {
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Self> {
        let group = Self::open(path);
        group.make(resources).during("make the cgroup")?;
        Ok(group)
    }

    /// Makes the directory, once more if the one above it went with its last container meanwhile.
    fn make(&self, resources: &LinuxResources) -> Result<(), SysError> {
        let wanted = wanted(resources);
        let parent = self.directory.parent().unwrap_or(Path::new(MOUNT));
        for _ in 0..100 {
            file::make(parent)?;
            // A second time after it: the one above may have been made anew in between, without controllers.
            let made = hand_down(parent, &wanted)
                .and_then(|()| make_one(&self.directory))
                .and_then(|()| hand_down(parent, &wanted));
            match made {
                Err(error) if error.errno == Errno::NOENT => {}
                other => return other,
            }
        }
        Err(SysError::on("mkdir", &self.directory, Errno::NOENT))
    }

    pub fn open(path: &str) -> Self {
        Self {
            directory: Path::new(MOUNT).join(path.trim_start_matches('/')),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    pub fn entry(&self) -> Result<Entry> {
        let directory = self.open_directory().during("enter the cgroup")?;
        Ok(Entry {
            directory: Some(directory),
            tasks: Vec::new(),
        })
    }

    fn open_directory(&self) -> Result<std::os::fd::OwnedFd, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.directory, flags, Mode::empty()).called_on("open", &self.directory)
    }

    pub fn processes(&self) -> Result<Vec<u32>> {
        file::processes(&self.directory).during("list the processes of the cgroup")
    }

    pub fn kill(&self) -> Result<()> {
        match file::write(&self.directory, "cgroup.kill", "1") {
            // Gone; or a kernel before 5.14.
            Err(error) if error.errno == Errno::NOENT => file::kill_all(&self.directory),
            other => other,
        }
        .during("kill the processes of the cgroup")
    }

    pub fn freeze(&self) -> Result<()> {
        let step = "freeze the cgroup";
        let until = Instant::now() + FREEZE_DEADLINE;
        let path = self.directory.join("cgroup.events");
        let events = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .called_on("open", path)
            .during(step)?;
        file::write(&self.directory, "cgroup.freeze", "1").during(step)?;
        loop {
            // The read comes first: it tells the kernel which state was seen, and a change after it wakes the poll.
            let mut text = [0; 256];
            let length = rustix::io::pread(&events, &mut text, 0)
                .called_on("read", "cgroup.events")
                .during(step)?;
            let text = String::from_utf8_lossy(&text[..length]);
            if file::keyed(&text, "frozen") == Some(1) {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.thaw()?;
                let what = "the freezing of all processes".to_owned();
                return Err(Error::Timeout {
                    what,
                    seconds: FREEZE_DEADLINE.as_secs(),
                });
            }
            file::wait_readable(&events, PollFlags::PRI, left).during(step)?;
        }
    }

    pub fn thaw(&self) -> Result<()> {
        match file::write(&self.directory, "cgroup.freeze", "0") {
            Err(error) if error.errno == Errno::NOENT => Ok(()),
            other => other.during("thaw the cgroup"),
        }
    }

    pub fn remove(&self, until: Instant) -> Result<()> {
        let removed = file::remove(&self.directory, until).during("remove the cgroup");
        file::remove_parent(&self.directory, Path::new(MOUNT));
        removed
    }
}

fn make_one(directory: &Path) -> Result<(), SysError> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(SysError::from_io("mkdir", directory, &error))
        }
        _ => Ok(()),
    }
}

/// The controllers that the resources need.
fn wanted(resources: &LinuxResources) -> Vec<&'static str> {
    let mut wanted = ALWAYS.to_vec();
    if resources
        .cpu
        .as_ref()
        .is_some_and(|cpu| !cpu.cpus.is_empty() || !cpu.mems.is_empty())
    {
        wanted.push("cpuset");
    }
    if !resources.hugepage_limits.is_empty() {
        wanted.push("hugetlb");
    }
    if !resources.rdma.is_empty() {
        wanted.push("rdma");
    }
    for controller in ["cpuset", "hugetlb", "rdma", "misc"] {
        let prefix = format!("{controller}.");
        let named = resources
            .unified
            .keys()
            .any(|name| name.starts_with(&prefix));
        if named && !wanted.contains(&controller) {
            wanted.push(controller);
        }
    }
    wanted
}

/// Hands controllers down from the root to `parent`'s children. Those that the machine does not have are left out:
/// a limit that needs one fails by its file's name.
fn hand_down(parent: &Path, wanted: &[&str]) -> Result<(), SysError> {
    let mut directory = PathBuf::from(MOUNT);
    let below = parent
        .strip_prefix(MOUNT)
        .unwrap_or(Path::new(""))
        .to_owned();
    let mut names = below.components();
    loop {
        let available = file::read_optional(&directory, "cgroup.controllers")?.unwrap_or_default();
        let there = file::read_optional(&directory, "cgroup.subtree_control")?.unwrap_or_default();
        let has = |text: &str, name: &str| text.split_whitespace().any(|word| word == name);
        let missing: Vec<String> = wanted
            .iter()
            .filter(|name| has(&available, name) && !has(&there, name))
            .map(|name| format!("+{name}"))
            .collect();
        if !missing.is_empty() {
            file::write(&directory, "cgroup.subtree_control", &missing.join(" "))?;
        }
        match names.next() {
            Some(name) => directory.push(name),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_names_need_their_controllers() {
        let mut resources = LinuxResources::default();
        resources
            .unified
            .insert("hugetlb.2MB.max".into(), "0".into());
        resources.unified.insert("memory.high".into(), "1".into());
        assert_eq!(
            wanted(&resources),
            ["cpu", "io", "memory", "pids", "hugetlb"]
        );
    }
}
