//! Version 2: one directory, with the controllers that the groups above it hand down.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ketch_spec::runtime::{
    BlockIo, BlockIoThrottle, Cpu, DeviceRule, LinuxResources, Memory, Rdma,
};
use ketch_sys::Error as SysError;
use ketch_sys::bpf;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Entry, MOUNT, devices, ebpf, file};
use crate::error::{Called, During, Error, Result};

const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// Those that every container gets, where the machine has them.
const ALWAYS: [&str; 4] = ["cpu", "io", "memory", "pids"];

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
            match hand_down(parent, &wanted).and_then(|()| make_one(&self.directory)) {
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

    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        if let Some(memory) = &resources.memory {
            self.set_memory(memory)?;
        }
        if let Some(cpu) = &resources.cpu {
            self.set_cpu(cpu)?;
        }
        if let Some(pids) = &resources.pids {
            let limit = if pids.limit > 0 {
                pids.limit.to_string()
            } else {
                "max".into()
            };
            self.set("pids.max", &limit)?;
        }
        if let Some(block_io) = &resources.block_io {
            self.set_block_io(block_io)?;
        }
        for limit in &resources.hugepage_limits {
            let name = format!("hugetlb.{}.max", limit.page_size);
            self.set(&name, &limit.limit.to_string())?;
        }
        for (device, limit) in &resources.rdma {
            self.set("rdma.max", &rdma_line(device, limit))?;
        }
        if resources.network.is_some() {
            let reason = "version 2 of cgroups has no such controller";
            return Err(Error::unsupported("linux.resources.network", reason));
        }
        for (name, value) in &resources.unified {
            if name.contains('/') {
                let reason = format!("{name:?} is no name of a file");
                return Err(Error::invalid("linux.resources.unified", reason));
            }
            self.set(name, value)?;
        }
        Ok(())
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        file::write(&self.directory, name, value).during("set a limit")
    }

    fn set_memory(&self, memory: &Memory) -> Result<()> {
        let refused = [
            ("kernel", memory.kernel.is_some()),
            ("kernelTCP", memory.kernel_tcp.is_some()),
            ("swappiness", memory.swappiness.is_some()),
            ("disableOOMKiller", memory.disable_oom_killer == Some(true)),
        ];
        if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
            let what = format!("linux.resources.memory.{name}");
            return Err(Error::unsupported(
                what,
                "version 2 of cgroups does not have it",
            ));
        }
        let bytes = |bytes: i64| {
            if bytes < 0 {
                "max".to_owned()
            } else {
                bytes.to_string()
            }
        };
        if let Some(total) = memory.swap {
            let swap = match (total, memory.limit) {
                (..0, _) => -1,
                (total, Some(limit)) if limit >= 0 && total >= limit => total - limit,
                _ => {
                    let reason = "memory plus swap needs a limit of memory that is not above it";
                    return Err(Error::invalid("linux.resources.memory.swap", reason));
                }
            };
            match self.set("memory.swap.max", &bytes(swap)) {
                // A kernel without swap accounting: there is nothing to forbid, unless the limit was to be tight.
                Err(Error::System { failure, .. }) if failure.errno == Errno::NOENT && swap < 0 => {
                }
                other => other?,
            }
        }
        if let Some(limit) = memory.limit {
            self.set("memory.max", &bytes(limit))?;
        }
        if let Some(reservation) = memory.reservation {
            self.set("memory.low", &bytes(reservation))?;
        }
        Ok(())
    }

    fn set_cpu(&self, cpu: &Cpu) -> Result<()> {
        if cpu.realtime_runtime.is_some() || cpu.realtime_period.is_some() {
            let reason = "version 2 of cgroups has no real-time bandwidth";
            return Err(Error::unsupported(
                "linux.resources.cpu.realtimeRuntime",
                reason,
            ));
        }
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
            self.set("cpu.weight", &weight(shares).to_string())?;
        }
        let quota = cpu.quota.filter(|&quota| quota != 0);
        let period = cpu.period.filter(|&period| period != 0);
        if quota.is_some() || period.is_some() {
            let quota = quota
                .filter(|&quota| quota > 0)
                .map_or("max".into(), |quota| quota.to_string());
            let period = period.map_or(String::new(), |period| format!(" {period}"));
            self.set("cpu.max", &format!("{quota}{period}"))?;
        }
        if let Some(burst) = cpu.burst {
            self.set("cpu.max.burst", &burst.to_string())?;
        }
        if let Some(idle) = cpu.idle {
            self.set("cpu.idle", &idle.to_string())?;
        }
        if !cpu.cpus.is_empty() {
            self.set("cpuset.cpus", &cpu.cpus)?;
        }
        if !cpu.mems.is_empty() {
            self.set("cpuset.mems", &cpu.mems)?;
        }
        Ok(())
    }

    fn set_block_io(&self, block_io: &BlockIo) -> Result<()> {
        let leaf = block_io.leaf_weight.is_some_and(|weight| weight != 0)
            || block_io
                .weight_device
                .iter()
                .any(|device| device.leaf_weight.is_some());
        if leaf {
            let reason = "version 2 of cgroups does not have it";
            return Err(Error::unsupported(
                "linux.resources.blockIO.leafWeight",
                reason,
            ));
        }
        if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
            self.set("io.bfq.weight", &weight.to_string())
                .or_else(|_| {
                    let weight = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
                    self.set("io.weight", &weight.to_string())
                })?;
        }
        for device in &block_io.weight_device {
            if let Some(weight) = device.weight {
                let line = format!("{}:{} {weight}", device.major, device.minor);
                self.set("io.bfq.weight", &line)?;
            }
        }
        let throttle = |key: &str, devices: &[BlockIoThrottle]| -> Result<()> {
            for BlockIoThrottle { major, minor, rate } in devices {
                let rate = if *rate == 0 {
                    "max".to_owned()
                } else {
                    rate.to_string()
                };
                self.set("io.max", &format!("{major}:{minor} {key}={rate}"))?;
            }
            Ok(())
        };
        throttle("rbps", &block_io.throttle_read_bps_device)?;
        throttle("wbps", &block_io.throttle_write_bps_device)?;
        throttle("riops", &block_io.throttle_read_iops_device)?;
        throttle("wiops", &block_io.throttle_write_iops_device)
    }

    pub fn limit_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        let step = "set the device rules of the cgroup";
        let program = ebpf::compile(&devices::check(rules)?);
        let program = bpf::load_device_filter(&program).during(step)?;
        let directory = self.open_directory().during(step)?;
        // A group that is taken over may have filters of its last life, which would count as well.
        let old = bpf::device_filters(&directory).during(step)?;
        bpf::attach_device_filter(&directory, &program).during(step)?;
        for filter in old {
            bpf::detach_device_filter(&directory, filter).during(step)?;
        }
        Ok(())
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

/// The line of `rdma.max`.
pub(super) fn rdma_line(device: &str, limit: &Rdma) -> String {
    let value = |value: Option<u32>| value.map_or("max".to_owned(), |value| value.to_string());
    format!(
        "{device} hca_handle={} hca_object={}",
        value(limit.hca_handles),
        value(limit.hca_objects)
    )
}

/// Shares of version 1 (2 to 262144) as a weight of version 2 (1 to 10000).
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
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
    fn shares_become_weights() {
        assert_eq!(weight(0), 1);
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
        assert_eq!(weight(u64::MAX), 10_000);
    }

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

    #[test]
    fn rdma_limits_are_a_line() {
        let limit = Rdma {
            hca_handles: Some(3),
            hca_objects: None,
        };
        assert_eq!(
            rdma_line("mlx5_1", &limit),
            "mlx5_1 hca_handle=3 hca_object=max"
        );
    }
}
