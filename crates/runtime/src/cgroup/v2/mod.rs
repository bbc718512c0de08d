//! Version 2: one directory, with the controllers that the groups above it hand down.

mod domain;
#[cfg(test)]
mod fields;
mod limits;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ketch_spec::runtime::LinuxResources;
use ketch_sys::Error as SysError;
use rustix::event::PollFlags;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Entry, MOUNT, SubGroup, file};
use crate::error::{Called, During, Error, Result};

/// What may be given to whoever a group is given to, by the kernel.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// Those that every container gets, where the machine has them.
const ALWAYS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// The directory of one container.
#[derive(Debug)]
pub(super) struct Group {
    directory: PathBuf,
}

/// Names of files, a line each; by the specification these three where the kernel does not tell.
fn delegated(list: &Path) -> String {
    let usual = || "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned();
    std::fs::read_to_string(list).unwrap_or_else(|_| usual())
}

impl Group {
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Self> {
        let group = Self::open(path);
        group.make(resources).map_err(domain::explain)?;
        if let Err(error) = domain::check_type(&group.directory) {
            // Whatever this says: the first error is the one to tell.
            let _ = group.remove(Instant::now());
            group.remove_parent();
            return Err(error);
        }
        Ok(group)
    }

    /// Makes the directory, once more if the one above it went with its last container meanwhile.
    fn make(&self, resources: &LinuxResources) -> Result<(), SysError> {
        let wanted = wanted(resources);
        let parent = self.directory.parent().unwrap_or(Path::new(MOUNT));
        for _ in 0..100 {
            file::make(parent)?;
            // A second time after it: the one above may have been made anew in between, without controllers.
            let made = domain::hand_down(parent, &wanted)
                .and_then(|()| make_one(&self.directory))
                .and_then(|()| domain::hand_down(parent, &wanted));
            match made {
                Err(error) if error.errno == Errno::NOENT => {}
                other => return other,
            }
        }
        Err(SysError::on("mkdir", &self.directory, Errno::NOENT))
    }

    /// Has controllers handed down that it did not need before.
    pub fn complete(&self, resources: &LinuxResources) -> Result<()> {
        let parent = self.directory.parent().unwrap_or(Path::new(MOUNT));
        domain::hand_down(parent, &wanted(resources)).map_err(domain::explain)
    }

    pub fn open(path: &str) -> Self {
        Self {
            directory: Path::new(MOUNT).join(path.trim_start_matches('/')),
        }
    }

    /// See [`super::Cgroup::below`].
    pub fn below(&self, places: &[SubGroup]) -> Result<Self> {
        let mut directory = self.directory.clone();
        for place in places {
            if let Some(name) = place.controllers.first() {
                let reason =
                    format!("there is one group for all controllers here, {name:?} has none");
                return Err(Error::invalid("cgroup", reason));
            }
            directory = place.of(&directory)?;
        }
        Ok(Self { directory })
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
            waits: false,
        })
    }

    fn open_directory(&self) -> Result<std::os::fd::OwnedFd, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.directory, flags, Mode::empty()).called_on("open", &self.directory)
    }

    /// Gives the files that the kernel says may be given to `uid`: it may then make groups below.
    pub fn give_to(&self, uid: u32) -> Result<()> {
        let step = "give the cgroup to the container's user";
        let list = delegated(Path::new(DELEGATE));
        let directory = self.open_directory().during(step)?;
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        rustix::fs::fchown(&directory, owner, None)
            .called_on("fchown", &self.directory)
            .during(step)?;
        for name in list.lines() {
            match rustix::fs::chownat(&directory, name, owner, None, AtFlags::SYMLINK_NOFOLLOW) {
                // Of a controller that the group does not have.
                Err(Errno::NOENT) => {}
                other => other
                    .called_on("chownat", self.directory.join(name))
                    .during(step)?,
            }
        }
        Ok(())
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
        file::write(&self.directory, "cgroup.freeze", "1").during(step)?;
        if self.wait_for_event("frozen", 1, until).during(step)? {
            return Ok(());
        }
        self.thaw()?;
        let what = "the freezing of all processes".to_owned();
        Err(Error::Timeout {
            what,
            seconds: FREEZE_DEADLINE.as_secs(),
        })
    }

    pub fn thaw(&self) -> Result<()> {
        match file::write(&self.directory, "cgroup.freeze", "0") {
            Err(error) if error.errno == Errno::NOENT => Ok(()),
            other => other.during("thaw the cgroup"),
        }
    }

    pub fn remove(&self, until: Instant) -> Result<()> {
        let step = "remove the cgroup";
        loop {
            // Not the removal's own walk: it would wait for one process after the other.
            match file::remove(&self.directory, Instant::now()) {
                Err(error) if error.errno == Errno::BUSY && Instant::now() < until => {
                    self.wait_empty(until).during(step)?;
                }
                other => return other.during(step),
            }
        }
    }

    /// The same, told as `EBUSY` if there are still some.
    pub fn empty(&self, until: Instant) -> Result<()> {
        let step = "wait for the end of the processes of the cgroup";
        match self.wait_for_event("populated", 0, until).during(step)? {
            true => Ok(()),
            false => Err(SysError::on(
                "poll",
                self.directory.join("cgroup.events"),
                Errno::BUSY,
            ))
            .during(step),
        }
    }

    /// Waits until no process is in it or below it.
    fn wait_empty(&self, until: Instant) -> Result<(), SysError> {
        self.wait_for_event("populated", 0, until).map(drop)
    }

    /// Waits until a number in `cgroup.events` is as said; false: it did not become so.
    fn wait_for_event(&self, key: &str, value: u64, until: Instant) -> Result<bool, SysError> {
        let path = self.directory.join("cgroup.events");
        let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let events = match opened {
            Err(Errno::NOENT) => return Ok(true),
            other => other.called_on("open", &path)?,
        };
        loop {
            // The read comes first: it tells the kernel which state was seen, and a change after it wakes the poll.
            let mut text = [0; 256];
            let length = match rustix::io::pread(&events, &mut text, 0) {
                // The group was removed.
                Err(Errno::NODEV) => return Ok(true),
                other => other.called_on("read", &path)?,
            };
            let text = String::from_utf8_lossy(&text[..length]);
            if file::keyed(&text, key) == Some(value) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            file::wait_readable(&events, PollFlags::PRI, left)?;
        }
    }

    /// Removes the group above if nobody else has one there.
    pub fn remove_parent(&self) {
        file::remove_parent(&self.directory, Path::new(MOUNT));
    }

    pub fn is_frozen(&self) -> Result<bool> {
        let state = file::read_optional(&self.directory, "cgroup.freeze");
        let state = state.during("ask the freezer")?;
        Ok(state.is_some_and(|state| state.trim() == "1"))
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
