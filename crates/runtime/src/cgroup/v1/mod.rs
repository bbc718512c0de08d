//! Version 1: a hierarchy for each controller, or for several together.

#[cfg(test)]
mod fields;
mod limits;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ketch_spec::runtime::{Cpu, LinuxResources};
use ketch_sys::Error as SysError;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Entry, HierarchyMount, MOUNT, SubGroup, V1_MAGIC, file};
use crate::error::{Called, During, Error, Result};

/// How long processes may take to freeze.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// How often new processes of a container are looked for while it is moved.
const FILL_PASSES: usize = 100;

/// Those that every container gets: to stop it, to tell what it uses, to see that memory ran out.
const ALWAYS: [&str; 4] = ["freezer", "memory", "cpuacct", "pids"];

/// The directories of one container.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// Name of the hierarchy's mount point: `memory`, `cpu,cpuacct`.
    hierarchy: String,
    directory: PathBuf,
}

impl Groups {
    /// Makes the directories that the resources need.
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Self> {
        if resources.memory.is_some() && hierarchy("memory").is_none() {
            return Err(missing("memory"));
        }
        let mut groups = Self { groups: Vec::new() };
        if let Err(error) = groups.add_all(path, resources) {
            groups.discard();
            return Err(error);
        }
        Ok(groups)
    }

    /// Makes the directories that are needed now and were not at first, and moves the container's processes there.
    pub fn complete(&mut self, path: &str, resources: &LinuxResources) -> Result<()> {
        let before = self.groups.len();
        self.add_all(path, resources)?;
        for group in &self.groups[before..] {
            self.fill(&group.directory).during("complete the cgroup")?;
        }
        Ok(())
    }

    /// Moves every process, until no look finds one that a process elsewhere has made meanwhile.
    fn fill(&self, directory: &Path) -> Result<(), SysError> {
        let Some(main) = self.main() else {
            return Ok(());
        };
        for _ in 0..FILL_PASSES {
            let there = file::processes(directory)?;
            let mut all = file::processes(main)?;
            all.retain(|pid| !there.contains(pid));
            if all.is_empty() {
                return Ok(());
            }
            for pid in all {
                match file::write(directory, "cgroup.procs", &pid.to_string()) {
                    Err(error) if error.errno == Errno::SRCH => {}
                    other => other?,
                }
            }
        }
        Err(SysError::on("move processes", directory, Errno::AGAIN))
    }

    fn add_all(&mut self, path: &str, resources: &LinuxResources) -> Result<()> {
        for controller in wanted(resources) {
            let Some(hierarchy) = hierarchy(controller) else {
                let needless = controller == "devices" && resources.devices.is_empty();
                if ALWAYS.contains(&controller) || needless {
                    continue;
                }
                return Err(missing(controller));
            };
            if self.groups.iter().any(|group| group.hierarchy == hierarchy) {
                continue;
            }
            self.add(hierarchy, path).during("make the cgroup")?;
        }
        Ok(())
    }

    fn add(&mut self, hierarchy: String, path: &str) -> Result<(), SysError> {
        let root = Path::new(MOUNT).join(&hierarchy);
        let directory = root.join(path.trim_start_matches('/'));
        file::make(&directory)?;
        if hierarchy
            .split(',')
            .any(|controller| controller == "cpuset")
        {
            inherit_cpuset(&root, &directory)?;
        }
        self.groups.push(Group {
            hierarchy,
            directory,
        });
        Ok(())
    }

    fn discard(&self) {
        // Called on the way to another error, which is the one to tell.
        let _ = self.remove(Instant::now());
        self.remove_parents();
    }

    /// The directories that exist.
    pub fn open(path: &str) -> Self {
        let mut groups = Vec::new();
        let names = fs::read_dir(MOUNT).into_iter().flatten().flatten();
        for name in names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let root = name.path();
            let directory = root.join(path.trim_start_matches('/'));
            let hierarchy = name.file_name().to_string_lossy().into_owned();
            // most questions are about groups that are not there: those need one system call each
            if hierarchy != "systemd" && directory.is_dir() && is_v1(&root) {
                groups.push(Group {
                    hierarchy,
                    directory,
                });
            }
        }
        Self { groups }
    }

    /// See [`super::Cgroup::below`].
    pub fn below(&self, places: &[SubGroup]) -> Result<Self> {
        let mut groups = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            groups.push(Group {
                hierarchy: group.hierarchy.clone(),
                directory: group.directory.clone(),
            });
        }
        for place in places {
            let chosen = |group: &Group| {
                let mut names = group.hierarchy.split(',');
                let controllers = &place.controllers;
                controllers.is_empty() || names.any(|name| controllers.iter().any(|c| c == name))
            };
            if let Some(unknown) = place
                .controllers
                .iter()
                .find(|controller| self.directory(controller).is_none())
            {
                let reason =
                    format!("unknown controller {unknown:?}: the container has no group of it");
                return Err(Error::invalid("cgroup", reason));
            }
            for group in groups.iter_mut().filter(|group| chosen(group)) {
                group.directory = place.of(&group.directory)?;
            }
        }
        Ok(Self { groups })
    }

    /// See [`super::Cgroup::without`].
    pub fn without(mut self, kept: &[PathBuf]) -> Option<Self> {
        self.groups.retain(|group| !kept.contains(&group.directory));
        (!self.groups.is_empty()).then_some(self)
    }

    pub fn exists(&self) -> bool {
        self.groups.iter().any(|group| group.directory.is_dir())
    }

    /// The directory where `controller` is.
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        let has = |group: &&Group| group.hierarchy.split(',').any(|name| name == controller);
        self.groups
            .iter()
            .find(has)
            .map(|group| group.directory.as_path())
    }

    /// The directory that is best for asking about processes.
    fn main(&self) -> Option<&Path> {
        self.directory("freezer")
            .or(self.groups.first().map(|group| group.directory.as_path()))
    }

    pub fn entry(&self) -> Result<Entry> {
        let mut tasks = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let path = group.directory.join("tasks");
            let fd = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .called_on("open", path)
                .during("enter the cgroup")?;
            tasks.push(fd);
        }
        Ok(Entry {
            waits: false,
            directory: None,
            tasks,
        })
    }

    pub fn view(&self) -> Vec<HierarchyMount> {
        let mount = |group: &Group| HierarchyMount {
            name: group.hierarchy.clone(),
            kind: "cgroup",
            options: group
                .hierarchy
                .split(',')
                .map(|name| (name.to_owned(), None))
                .collect(),
            directory: group.directory.clone(),
        };
        self.groups.iter().map(mount).collect()
    }

    pub fn processes(&self) -> Result<Vec<u32>> {
        let step = "list the processes of the cgroup";
        self.main().map_or(Ok(Vec::new()), |directory| {
            file::processes(directory).during(step)
        })
    }

    /// A process can fork between the look at the list and its own death; frozen ones cannot.
    pub fn kill(&self) -> Result<()> {
        let step = "kill the processes of the cgroup";
        let frozen = self.freeze().is_ok();
        for group in &self.groups {
            file::kill_all(&group.directory).during(step)?;
        }
        if frozen || self.directory("freezer").is_some() {
            self.thaw()?;
        }
        if !frozen {
            for group in &self.groups {
                file::kill_all(&group.directory).during(step)?;
            }
        }
        Ok(())
    }

    pub fn freeze(&self) -> Result<()> {
        let step = "freeze the cgroup";
        let Some(directory) = self.directory("freezer") else {
            return Err(missing("freezer"));
        };
        let until = Instant::now() + FREEZE_DEADLINE;
        loop {
            // Written again each time: a process that was forked meanwhile is not frozen by the first write.
            file::write(directory, "freezer.state", "FROZEN").during(step)?;
            let state = file::read_optional(directory, "freezer.state").during(step)?;
            if state.is_none_or(|state| state.trim() == "FROZEN") {
                return Ok(());
            }
            if Instant::now() >= until {
                self.thaw()?;
                let what = "the freezing of all processes".to_owned();
                return Err(Error::Timeout {
                    what,
                    seconds: FREEZE_DEADLINE.as_secs(),
                });
            }
            // The freezer of version 1 has no event.
            file::wait_nothing(Duration::from_millis(1)).during(step)?;
        }
    }

    pub fn thaw(&self) -> Result<()> {
        let Some(directory) = self.directory("freezer") else {
            return Err(missing("freezer"));
        };
        match file::write(directory, "freezer.state", "THAWED") {
            Err(error) if error.errno == Errno::NOENT => Ok(()),
            other => other.during("thaw the cgroup"),
        }
    }

    pub fn remove(&self, until: Instant) -> Result<()> {
        let mut first_error = Ok(());
        for group in &self.groups {
            let removed = file::remove(&group.directory, until).during("remove the cgroup");
            first_error = first_error.and(removed);
        }
        first_error
    }

    /// Removes the groups above if nobody else has one there.
    pub fn remove_parents(&self) {
        for group in &self.groups {
            file::remove_parent(&group.directory, &Path::new(MOUNT).join(&group.hierarchy));
        }
    }

    pub fn is_frozen(&self) -> Result<bool> {
        let Some(directory) = self.directory("freezer") else {
            return Ok(false);
        };
        let state = file::read_optional(directory, "freezer.state").during("ask the freezer")?;
        Ok(state.is_some_and(|state| state.trim() != "THAWED"))
    }
}

/// The controllers that the resources need.
fn wanted(resources: &LinuxResources) -> Vec<&'static str> {
    let mut wanted = ALWAYS.to_vec();
    let mut add = |controller, needed: bool| {
        if needed {
            wanted.push(controller);
        }
    };
    let cpu = resources.cpu.as_ref();
    let bandwidth = |cpu: &Cpu| {
        let numbers = [cpu.shares, cpu.period, cpu.burst, cpu.realtime_period];
        numbers.iter().any(Option::is_some)
            || [cpu.quota, cpu.realtime_runtime, cpu.idle]
                .iter()
                .any(Option::is_some)
    };
    add("devices", true);
    add("cpu", cpu.is_some_and(bandwidth));
    add(
        "cpuset",
        cpu.is_some_and(|cpu| !cpu.cpus.is_empty() || !cpu.mems.is_empty()),
    );
    add("blkio", resources.block_io.is_some());
    add("hugetlb", !resources.hugepage_limits.is_empty());
    add("rdma", !resources.rdma.is_empty());
    let network = resources.network.as_ref();
    add(
        "net_cls",
        network.is_some_and(|network| network.class_id.is_some()),
    );
    add(
        "net_prio",
        network.is_some_and(|network| !network.priorities.is_empty()),
    );
    wanted
}

fn missing(controller: &str) -> Error {
    let reason = "the kernel does not have it, or it is not mounted below /sys/fs/cgroup";
    Error::unsupported(
        format!("the {controller} controller of cgroup version 1"),
        reason,
    )
}

/// Name of the mount point where `controller` is; several that share one are linked to it by their names.
fn hierarchy(controller: &str) -> Option<String> {
    let path = Path::new(MOUNT).join(controller);
    if !is_v1(&path) {
        return None;
    }
    match fs::read_link(&path) {
        Ok(target) => Some(target.to_string_lossy().into_owned()),
        Err(_) => Some(controller.to_owned()),
    }
}

fn is_v1(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|statfs| statfs.f_type as u64 == V1_MAGIC)
}

/// A new group of this controller has neither processors nor memory, and takes no process until it has.
fn inherit_cpuset(root: &Path, directory: &Path) -> Result<(), SysError> {
    let mut above = root.to_owned();
    let below = directory.strip_prefix(root).unwrap_or(directory);
    for name in below.components() {
        let here = above.join(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = file::read_optional(&here, file)?.unwrap_or_default();
            if own.trim().is_empty() {
                let value = file::read_optional(&above, file)?.unwrap_or_default();
                file::write(&here, file, value.trim())?;
            }
        }
        above = here;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::Network;

    use super::*;

    #[test]
    fn hierarchies_are_made_only_where_they_are_needed() {
        let least = wanted(&LinuxResources::default());
        assert_eq!(least[..ALWAYS.len()], ALWAYS);
        assert_eq!(least[ALWAYS.len()..], ["devices"]);
        let cpu = Cpu {
            quota: Some(1),
            ..Cpu::default()
        };
        let network = Network {
            class_id: Some(1),
            ..Network::default()
        };
        let resources = LinuxResources {
            cpu: Some(cpu),
            network: Some(network),
            ..LinuxResources::default()
        };
        assert_eq!(
            wanted(&resources)[ALWAYS.len()..],
            ["devices", "cpu", "net_cls"]
        );
        let cpu = Cpu {
            cpus: "0".into(),
            ..Cpu::default()
        };
        let resources = LinuxResources {
            cpu: Some(cpu),
            ..LinuxResources::default()
        };
        assert_eq!(wanted(&resources)[ALWAYS.len()..], ["devices", "cpuset"]);
    }
}
