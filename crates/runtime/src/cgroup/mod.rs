//! Control groups: where a container's processes are, what they may use, how to freeze and kill them.
//!
//! Three layouts of `/sys/fs/cgroup` are known: version 2 alone, version 1 (one directory a controller), and hybrid,
//! which counts as version 1 here because that is where its controllers are. The root process of a container enters
//! its groups itself (version 1: a write of `0` into `tasks`, which spares the kernel a grace period that a write of
//! its number by someone else costs) or is born into them (version 2).

mod below;
mod devices;
mod ebpf;
mod entry;
mod file;
mod stats;
mod systemd;
mod v1;
mod v2;
mod values;
mod watch;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ketch_spec::runtime::{LinuxResources, NamespaceKind, Spec};
use rustix::io::Errno;

use self::systemd::{Placeholder, Unit};
use crate::error::{During, Error, Result};
use crate::namespaces::uid_outside;
pub use below::SubGroup;
pub(crate) use entry::Entry;
pub use stats::{BlockStats, Stats};
pub use systemd::{ScopeProperties, SystemdError};
pub use watch::OutOfMemoryWatch;

/// Where the hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// `statfs` type of version 2.
const V2_MAGIC: u64 = 0x6367_7270;
/// `statfs` type of version 1.
const V1_MAGIC: u64 = 0x0027_e0eb;

/// The cgroups of one container: one directory, or on version 1 one in each hierarchy that it needs.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    layout: Layout,
    /// The scope, where systemd has made it.
    unit: Option<Unit>,
    /// The scope's first process, until the container's own is in it.
    placeholder: Mutex<Option<Placeholder>>,
}

#[derive(Debug)]
enum Layout {
    V1(v1::Groups),
    V2(v2::Group),
}

/// A hierarchy as the container shall see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HierarchyMount {
    /// Name of the directory below the container's `/sys/fs/cgroup`.
    pub name: String,
    /// Type of the file system.
    pub kind: &'static str,
    /// Its options.
    pub options: Vec<(String, Option<String>)>,
    /// The container's own directory on the host.
    pub directory: PathBuf,
}

/// Whether the machine has version 2 alone.
pub fn is_unified() -> bool {
    rustix::fs::statfs(MOUNT).is_ok_and(|statfs| statfs.f_type as u64 == V2_MAGIC)
}

/// Whether memory plus swap can be limited here.
pub fn limits_swap() -> bool {
    if is_unified() {
        // The root group does not have the file; the kernel has swap accounting since 5.8 unless told otherwise.
        return std::fs::read_dir(MOUNT)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.path().join("memory.swap.max").exists());
    }
    std::path::Path::new(MOUNT)
        .join("memory/memory.memsw.limit_in_bytes")
        .exists()
}

impl Cgroup {
    /// Makes the cgroups at `path` below the hierarchies' mount points and sets the limits. What exists already is
    /// taken over. A path `slice:prefix:name` is a scope, which systemd makes; the caller must have one thread then.
    ///
    /// # Errors
    /// A path that is not absolute or leaves its root; what systemd says; a limit whose controller the kernel does not
    /// have, or whose value it refuses; what the kernel says to the making of directories. Nothing is left behind then.
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Self> {
        Self::create_with(path, resources, &ScopeProperties::default())
    }

    /// The same, with further properties of the scope, if it is one.
    ///
    /// # Errors
    /// As [`Cgroup::create`]; properties that systemd does not know.
    pub fn create_with(
        path: &str,
        resources: &LinuxResources,
        properties: &ScopeProperties,
    ) -> Result<Self> {
        values::check(resources)?;
        let cgroup = if Unit::is_meant(path) {
            Self::create_scope(path, resources, properties)?
        } else {
            Self::create_at(path, resources)?
        };
        if let Err(error) = cgroup
            .set_limits(resources)
            .and_then(|()| cgroup.limit_devices(resources))
        {
            // The first error is the one to tell; what cannot be removed now is found by its name later.
            cgroup.entered();
            let _ = cgroup.remove(Duration::ZERO);
            return Err(error);
        }
        Ok(cgroup)
    }

    fn create_at(path: &str, resources: &LinuxResources) -> Result<Self> {
        check_path(path)?;
        let layout = if is_unified() {
            Layout::V2(v2::Group::create(path, resources)?)
        } else {
            Layout::V1(v1::Groups::create(path, resources)?)
        };
        Ok(Self::of(path, layout, None))
    }

    /// systemd makes the group; controllers that it does not know are handed down by us.
    fn create_scope(
        path: &str,
        resources: &LinuxResources,
        properties: &ScopeProperties,
    ) -> Result<Self> {
        let unit = scope(path)?;
        let placeholder = Placeholder::new()?;
        systemd::start(&unit, resources, properties, placeholder.pid())?;
        let group = match v2::Group::create(&unit.path(), resources) {
            Ok(group) => group,
            Err(error) => {
                // The first error is the one to tell; without a process the scope goes by itself.
                drop(placeholder);
                let _ = systemd::stop(&unit);
                return Err(error);
            }
        };
        let cgroup = Self::of(path, Layout::V2(group), Some(unit));
        cgroup.hold(Some(placeholder));
        Ok(cgroup)
    }

    fn of(path: &str, layout: Layout, unit: Option<Unit>) -> Self {
        Self {
            path: path.to_owned(),
            layout,
            unit,
            placeholder: Mutex::new(None),
        }
    }

    fn hold(&self, placeholder: Option<Placeholder>) {
        let mut held = self
            .placeholder
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *held = placeholder;
    }

    /// The container's first process is in it: it needs no other to keep it.
    pub(crate) fn entered(&self) {
        self.hold(None);
    }

    /// The cgroups that exist at `path`, for recovery and for commands; there may be none.
    ///
    /// # Errors
    /// A path that is not absolute or leaves its root, or is no unit's.
    pub fn open(path: &str) -> Result<Self> {
        if Unit::is_meant(path) {
            let unit = scope(path)?;
            let group = v2::Group::open(&unit.path());
            return Ok(Self::of(path, Layout::V2(group), Some(unit)));
        }
        check_path(path)?;
        let layout = if is_unified() {
            Layout::V2(v2::Group::open(path))
        } else {
            Layout::V1(v1::Groups::open(path))
        };
        Ok(Self::of(path, layout, None))
    }

    /// It less the directories `kept`; None if none is left.
    pub(crate) fn without(self, kept: &[PathBuf]) -> Option<Self> {
        match self.layout {
            Layout::V1(groups) => groups.without(kept).map(|groups| Self {
                layout: Layout::V1(groups),
                ..self
            }),
            Layout::V2(ref group) => {
                (!kept.iter().any(|path| path == group.directory())).then_some(self)
            }
        }
    }

    /// Groups below it: `path` alone is below each of its directories, with controllers (version 1 only) below those of
    /// them, and the other directories stay as they are.
    ///
    /// # Errors
    /// [`Error::Invalid`] for controllers that it has not, or a group that is not there.
    pub fn below(&self, places: &[SubGroup]) -> Result<Self> {
        let layout = match &self.layout {
            Layout::V1(groups) => Layout::V1(groups.below(places)?),
            Layout::V2(group) => Layout::V2(group.below(places)?),
        };
        Ok(Self::of(&self.path, layout, None))
    }

    /// The systemd unit that it is, if it is one.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_ref().map(|unit| unit.name.as_str())
    }

    /// Its directories, by controller: on version 2 one, whose key is empty.
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        match &self.layout {
            Layout::V1(groups) => {
                let groups = groups.view().into_iter();
                groups.map(|group| (group.name, group.directory)).collect()
            }
            Layout::V2(group) => vec![(String::new(), group.directory().to_owned())],
        }
    }

    /// The path, as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether there is any directory at all.
    pub fn exists(&self) -> bool {
        match &self.layout {
            Layout::V1(groups) => groups.exists(),
            Layout::V2(group) => group.exists(),
        }
    }

    /// Gives the group to the container's user, so that what runs in it may make groups of its own: version 2 only,
    /// where a user may be trusted with that; version 1 is left as it is. See [`owner`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn give_to(&self, uid: u32) -> Result<()> {
        match &self.layout {
            Layout::V1(_) => Ok(()),
            Layout::V2(group) => group.give_to(uid),
        }
    }

    /// Changes limits. Those that are not given stay; device rules are set by [`Cgroup::create`] only.
    ///
    /// # Errors
    /// A limit whose controller the machine does not have, or whose value the kernel refuses.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()> {
        values::check(resources)?;
        if let Some(unit) = &self.unit {
            systemd::update(unit, resources, self.is_idle())?;
        }
        match &mut self.layout {
            Layout::V1(groups) => groups.complete(&self.path, resources)?,
            Layout::V2(group) => group.complete(resources)?,
        }
        self.set_limits(resources)
    }

    /// Whether it is in the idle class of processors.
    fn is_idle(&self) -> bool {
        let Layout::V2(group) = &self.layout else {
            return false;
        };
        let idle = file::read_optional(group.directory(), "cpu.idle");
        idle.is_ok_and(|idle| idle.is_some_and(|idle| idle.trim() != "0"))
    }

    fn set_limits(&self, resources: &LinuxResources) -> Result<()> {
        match &self.layout {
            Layout::V1(groups) => groups.update(resources),
            Layout::V2(group) => group.update(resources),
        }
    }

    fn limit_devices(&self, resources: &LinuxResources) -> Result<()> {
        match &self.layout {
            Layout::V1(groups) => groups.limit_devices(&resources.devices),
            Layout::V2(group) => group.limit_devices(&resources.devices),
        }
    }

    pub(crate) fn entry(&self) -> Result<Entry> {
        // A user may be in a group that is not the user's own, such as that of a login: from there nobody but systemd
        // gets a process into one of the user's.
        if self.unit.as_ref().is_some_and(|unit| unit.uid != 0) {
            return Ok(Entry {
                waits: true,
                ..Entry::default()
            });
        }
        match &self.layout {
            Layout::V1(groups) => groups.entry(),
            Layout::V2(group) => group.entry(),
        }
    }

    /// Has a process moved into it that waits for that: see [`Entry::waits`].
    pub(crate) fn take_in(&self, pid: u32) -> Result<()> {
        match &self.unit {
            Some(unit) => systemd::attach(unit, pid),
            None => Ok(()),
        }
    }

    /// What the container sees: None on version 2.
    pub(crate) fn view(&self) -> Option<Vec<HierarchyMount>> {
        match &self.layout {
            Layout::V1(groups) => Some(groups.view()),
            Layout::V2(_) => None,
        }
    }

    /// Numbers of the processes in it and in groups below it.
    ///
    /// # Errors
    /// What the kernel says to reading the files; a group that is gone has no processes.
    pub fn processes(&self) -> Result<Vec<u32>> {
        match &self.layout {
            Layout::V1(groups) => groups.processes(),
            Layout::V2(group) => group.processes(),
        }
    }

    /// Kills every process in it and in groups below it, frozen ones too. Does not wait for their end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> Result<()> {
        match &self.layout {
            Layout::V1(groups) => groups.kill(),
            Layout::V2(group) => group.kill(),
        }
    }

    /// Stops every process in it until [`Cgroup::thaw`]; returns when they stand.
    ///
    /// # Errors
    /// What the kernel says; [`Error::Timeout`] if a process does not stop within ten seconds (the group is then
    /// thawed again).
    pub fn freeze(&self) -> Result<()> {
        match &self.layout {
            Layout::V1(groups) => groups.freeze(),
            Layout::V2(group) => group.freeze(),
        }
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn thaw(&self) -> Result<()> {
        match &self.layout {
            Layout::V1(groups) => groups.thaw(),
            Layout::V2(group) => group.thaw(),
        }
    }

    /// Whether its processes are frozen or being frozen; false where there is no freezer.
    ///
    /// # Errors
    /// What the kernel says to reading the file.
    pub fn is_frozen(&self) -> Result<bool> {
        match &self.layout {
            Layout::V1(groups) => groups.is_frozen(),
            Layout::V2(group) => group.is_frozen(),
        }
    }

    /// Sends a signal to every process in it and in groups below it.
    ///
    /// # Errors
    /// A number that is no signal; what the kernel says.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let processes = self.processes()?;
        file::signal_all(&processes, signal).during("signal the processes of the cgroup")
    }

    /// What the processes use.
    ///
    /// # Errors
    /// What the kernel says to reading the files.
    pub fn stats(&self) -> Result<Stats> {
        match &self.layout {
            Layout::V1(groups) => stats::of_v1(groups),
            Layout::V2(group) => stats::of_v2(group),
        }
    }

    /// How many processes the out-of-memory killer has killed in it.
    ///
    /// # Errors
    /// What the kernel says to reading the file.
    pub fn out_of_memory_kills(&self) -> Result<u64> {
        let (directory, file) = match &self.layout {
            Layout::V1(groups) => (groups.directory("memory"), "memory.oom_control"),
            Layout::V2(group) => (Some(group.directory()), "memory.events"),
        };
        let Some(directory) = directory else {
            return Ok(0);
        };
        let text = file::read_optional(directory, file).during("count out-of-memory kills")?;
        Ok(text
            .as_deref()
            .and_then(|text| file::keyed(text, "oom_kill"))
            .unwrap_or(0))
    }

    /// A descriptor that tells of out-of-memory events; None where there is no memory controller.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch_out_of_memory(&self) -> Result<Option<OutOfMemoryWatch>> {
        match &self.layout {
            Layout::V1(groups) => groups.directory("memory").map(watch::of_v1).transpose(),
            Layout::V2(group) => watch::of_v2(group.directory()),
        }
    }

    /// Removes it and groups below it. Processes that are still ending in it are waited for until `deadline` from
    /// now. What is gone already is no error. The group above it goes too if it was the last one there.
    ///
    /// # Errors
    /// [`Error::Timeout`] if processes stay; what the kernel says.
    pub fn remove(&self, deadline: Duration) -> Result<()> {
        let removed = self.remove_only(deadline);
        match &self.layout {
            // The slice above is systemd's.
            _ if self.unit.is_some() => {}
            Layout::V1(groups) => groups.remove_parents(),
            Layout::V2(group) => group.remove_parent(),
        }
        removed
    }

    /// The same, leaving the group above it: it may be someone else's, who has nothing in it yet.
    ///
    /// # Errors
    /// As [`Cgroup::remove`].
    pub fn remove_only(&self, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        let removed = match (&self.layout, &self.unit) {
            (Layout::V1(groups), _) => groups.remove(until),
            (Layout::V2(group), None) => group.remove(until),
            // It is systemd's to remove, once it is empty: stopping it before would kill what is in it.
            (Layout::V2(group), Some(unit)) => group
                .empty(until)
                .and_then(|()| systemd::stop(unit))
                .and_then(|()| group.remove(until)),
        };
        removed.map_err(|error| match error {
            Error::System { failure, .. } if failure.errno == Errno::BUSY => Error::Timeout {
                what: format!("the end of all processes in cgroup {}", self.path),
                seconds: deadline.as_secs(),
            },
            other => other,
        })
    }
}

/// The user on this machine to whom a container's group is given, as the specification's "cgroup ownership" says: that of
/// its process, where it has a cgroup namespace of its own and a cgroup file system that it can write to. None: the
/// group stays root's.
pub fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux.as_ref()?;
    let own = |kind| {
        let mut namespaces = linux.namespaces.iter();
        namespaces.any(|namespace| namespace.kind == kind && namespace.path.is_none())
    };
    let writable = spec.mounts.iter().any(|mount| {
        let is_cgroup = matches!(mount.kind.as_str(), "cgroup" | "cgroup2");
        is_cgroup
            && !mount
                .options
                .iter()
                .any(|option| option == "ro" || option == "rro")
    });
    if !is_unified() || !own(NamespaceKind::Cgroup) || !writable {
        return None;
    }
    let uid = spec.process.as_ref()?.user.uid;
    let mappings = &linux.uid_mappings;
    if mappings.is_empty() {
        return (uid != 0).then_some(uid);
    }
    mappings.iter().find_map(|mapping| {
        let offset = uid.checked_sub(mapping.container_id)?;
        (offset < mapping.size).then(|| mapping.host_id + offset)
    })
}

/// What is left out of resources, and why: for a log.
pub fn warnings(resources: &LinuxResources) -> Vec<String> {
    let memory = resources.memory.as_ref();
    let kernel = memory.is_some_and(|memory| memory.kernel.is_some_and(|limit| limit != 0));
    kernel
        .then(|| {
            "linux.resources.memory.kernel is not set: the kernel counts it with all other memory"
                .to_owned()
        })
        .into_iter()
        .collect()
}

/// Whether a cgroup at `path` is a scope, which systemd makes.
pub(crate) fn is_scope(path: &str) -> bool {
    Unit::is_meant(path)
}

/// The unit that a path `slice:prefix:name` is.
fn scope(path: &str) -> Result<Unit> {
    let unit = Unit::parse(path, uid_outside())?;
    if !is_unified() {
        let reason =
            "systemd scopes need version 2 of cgroups alone, which this machine does not have";
        return Err(Error::unsupported(
            format!("linux.cgroupsPath {path:?}"),
            reason,
        ));
    }
    Ok(unit)
}

fn check_path(path: &str) -> Result<()> {
    let field = "linux.cgroupsPath";
    let below = path.strip_prefix('/').unwrap_or("");
    if below.is_empty() || below.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(Error::invalid(
            field,
            format!("{path:?} is no absolute path below the root"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_root() {
        for wrong in ["", "/", "a", "/a/../b", "/a//b", "/./a", "/a/"] {
            assert!(check_path(wrong).is_err(), "{wrong}");
        }
        for wrong in ["system.slice:ketch", "system.slice:ketch:", ":ketch:a/b"] {
            assert!(Cgroup::open(wrong).is_err(), "{wrong}");
        }
        check_path("/ketch/abc").unwrap();
    }
}
