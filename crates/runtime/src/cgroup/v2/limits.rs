//! Limits of version 2: from the specification's numbers to the files' ones.

use ketch_spec::runtime::{BlockIo, BlockIoThrottle, Cpu, DeviceRule, LinuxResources, Memory};
use ketch_sys::{Error as SysError, bpf};
use rustix::io::Errno;

use super::super::{devices, ebpf, file, values};
use crate::error::{During, Error, Result};

const STEP: &str = "set a limit";

impl super::Group {
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        values::check(resources)?;
        if let Some(memory) = &resources.memory {
            self.set_memory(memory)?;
        }
        if let Some(cpu) = &resources.cpu {
            self.set_cpu(cpu)?;
        }
        if let Some(pids) = &resources.pids {
            self.set("pids.max", &values::tasks(pids.limit))?;
        }
        if let Some(block_io) = &resources.block_io {
            self.set_block_io(block_io)?;
        }
        for limit in &resources.hugepage_limits {
            let name = |kind| format!("hugetlb.{}.{kind}", limit.page_size);
            self.set(&name("max"), &limit.limit.to_string())?;
            // Reservations too: without it a program could map more and be killed when it uses it.
            if self.has(&name("rsvd.max")) {
                self.set(&name("rsvd.max"), &limit.limit.to_string())?;
            }
        }
        for (device, limit) in &resources.rdma {
            self.set("rdma.max", &values::rdma_line(device, limit))?;
        }
        if resources.network.is_some() {
            let reason = "version 2 of cgroups has no such controller";
            return Err(Error::unsupported("linux.resources.network", reason));
        }
        // Last: they have the last word.
        for (name, value) in &resources.unified {
            if value.trim_end().is_empty() {
                // "No restriction"; a write of no bytes is none.
                self.set(name, "\n")?;
                continue;
            }
            // The kernel takes one line a write.
            for line in value.lines() {
                self.set(name, line)?;
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, value: &str) -> Result<(), SysError> {
        file::write(&self.directory, name, value)
    }

    fn has(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    fn read(&self, name: &str) -> Result<String> {
        Ok(file::read_optional(&self.directory, name)
            .during(STEP)?
            .unwrap_or_default())
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        match self.write(name, value) {
            Err(error) if error.errno == Errno::NOENT => Err(self.why_missing(name, error)),
            other => other.during(STEP),
        }
    }

    /// A file that is not there: its controller is not either, or the kernel is too old for it.
    fn why_missing(&self, name: &str, failure: SysError) -> Error {
        let controller = name.split('.').next().unwrap_or(name);
        let here = file::read_optional(&self.directory, "cgroup.controllers");
        match here {
            Ok(Some(list)) if !list.split_whitespace().any(|word| word == controller) => {
                let reason = format!("{name} is not in {}", self.directory.display());
                Error::unsupported(
                    format!("the {controller} controller of cgroup version 2"),
                    reason,
                )
            }
            _ => Error::System {
                step: STEP.to_owned(),
                failure,
            },
        }
    }

    fn set_memory(&self, memory: &Memory) -> Result<()> {
        let refused = [
            ("kernelTCP", memory.kernel_tcp.is_some()),
            ("swappiness", memory.swappiness.is_some()),
            ("disableOOMKiller", memory.disable_oom_killer == Some(true)),
            ("useHierarchy", memory.use_hierarchy == Some(false)),
        ];
        if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
            let what = format!("linux.resources.memory.{name}");
            return Err(Error::unsupported(
                what,
                "version 2 of cgroups does not have it",
            ));
        }
        let limit = values::bytes(memory.limit);
        if memory.check_before_update == Some(true)
            && let Some(limit) = limit
        {
            values::check_usage(limit, file::number(&self.read("memory.current")?))?;
        }
        let bytes = |bytes: i64| {
            if bytes < 0 {
                "max".to_owned()
            } else {
                bytes.to_string()
            }
        };
        if let Some(swap) = values::swap_alone(memory)?
            // A kernel without swap accounting: there is nothing to forbid, unless the limit was to be tight.
            && (swap >= 0 || self.has("memory.swap.max"))
        {
            self.set("memory.swap.max", &bytes(swap))?;
        }
        if let Some(limit) = limit {
            self.set("memory.max", &bytes(limit))?;
        }
        if let Some(reservation) = values::bytes(memory.reservation) {
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
        if cpu.idle == Some(0) {
            self.set("cpu.idle", "0")?;
        }
        // An idle group has the least weight there is, and the kernel refuses another.
        let is_idle = cpu.idle.is_some_and(|idle| idle != 0);
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0 && !is_idle) {
            self.set("cpu.weight", &values::cpu_weight(shares).to_string())?;
        }
        self.set_bandwidth(cpu)?;
        if let Some(idle) = cpu.idle.filter(|_| is_idle) {
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

    fn set_bandwidth(&self, cpu: &Cpu) -> Result<()> {
        let quota = cpu.quota.filter(|&quota| quota != 0);
        let period = cpu.period.filter(|&period| period != 0);
        let burst = |group: &Self| match cpu.burst {
            Some(burst) => group.set("cpu.max.burst", &burst.to_string()),
            None => Ok(()),
        };
        if quota.is_none() && period.is_none() {
            return burst(self);
        }
        let quota = match quota {
            Some(quota @ 1..) => quota.to_string(),
            Some(_) => "max".to_owned(),
            // The kernel has no way to set the period alone.
            None => self
                .read("cpu.max")?
                .split(' ')
                .next()
                .unwrap_or("max")
                .to_owned(),
        };
        let period = period.map_or(String::new(), |period| format!(" {period}"));
        let line = format!("{quota}{period}");
        match self.write("cpu.max", &line) {
            // The burst that is there may be too much for the new quota.
            Err(error) if error.errno == Errno::INVAL && cpu.burst.is_some() => {
                burst(self)?;
                self.set("cpu.max", &line)
            }
            Err(error) if error.errno == Errno::NOENT => Err(self.why_missing("cpu.max", error)),
            other => {
                other.during(STEP)?;
                burst(self)
            }
        }
    }

    fn set_block_io(&self, block_io: &BlockIo) -> Result<()> {
        let leaf = block_io.leaf_weight.is_some_and(|weight| weight != 0)
            || block_io
                .weight_device
                .iter()
                .any(|device| device.leaf_weight.is_some_and(|weight| weight != 0));
        if leaf {
            let reason = "version 2 of cgroups does not have it";
            return Err(Error::unsupported(
                "linux.resources.blockIO.leafWeight",
                reason,
            ));
        }
        // Which file there is depends on the schedulers that the kernel has.
        let bfq = self.has("io.bfq.weight");
        let weigh = |device: &str, weight: u16| match bfq {
            true => self.set("io.bfq.weight", &format!("{device}{weight}")),
            false => self.set(
                "io.weight",
                &format!("{device}{}", values::io_weight(weight)),
            ),
        };
        if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
            weigh("", weight)?;
        }
        for device in &block_io.weight_device {
            if let Some(weight) = device.weight.filter(|&weight| weight != 0) {
                weigh(&format!("{}:{} ", device.major, device.minor), weight)?;
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
        let program = match bpf::load_device_filter(&program) {
            // In a user namespace nobody can make device nodes, so that there is nothing to refuse; nor can a user.
            Err(error)
                if error.errno == Errno::PERM
                    && (crate::namespaces::is_in_user_namespace()
                        || !rustix::process::geteuid().is_root()) =>
            {
                return Ok(());
            }
            other => other.during(step)?,
        };
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
