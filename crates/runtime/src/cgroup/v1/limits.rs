//! Limits of version 1: from the specification's numbers to the files' ones.

use ketch_spec::runtime::{BlockIo, BlockIoThrottle, Cpu, DeviceRule, LinuxResources, Memory};
use ketch_sys::Error as SysError;
use rustix::io::Errno;

use super::super::{devices, file, values};
use super::missing;
use crate::error::{During, Error, Result};

const STEP: &str = "set a limit";

impl super::Groups {
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        values::check(resources)?;
        if !resources.unified.is_empty() {
            let reason = "invalid configuration: this machine has cgroup version 1";
            return Err(Error::unsupported("linux.resources.unified", reason));
        }
        if let Some(memory) = &resources.memory {
            self.set_memory(memory)?;
        }
        if let Some(cpu) = &resources.cpu {
            self.set_cpu(cpu)?;
        }
        if let Some(pids) = &resources.pids {
            self.set("pids", "pids.max", &values::tasks(pids.limit))?;
        }
        if let Some(block_io) = &resources.block_io {
            self.set_block_io(block_io)?;
        }
        for limit in &resources.hugepage_limits {
            let name = |kind| format!("hugetlb.{}.{kind}", limit.page_size);
            self.set("hugetlb", &name("limit_in_bytes"), &limit.limit.to_string())?;
            // Reservations too: without it a program could map more and be killed when it uses it.
            let reserved = name("rsvd.limit_in_bytes");
            if self.has("hugetlb", &reserved) {
                self.set("hugetlb", &reserved, &limit.limit.to_string())?;
            }
        }
        for (device, limit) in &resources.rdma {
            self.set("rdma", "rdma.max", &values::rdma_line(device, limit))?;
        }
        if let Some(network) = &resources.network {
            if let Some(class) = network.class_id {
                self.set("net_cls", "net_cls.classid", &class.to_string())?;
            }
            for priority in &network.priorities {
                let line = format!("{} {}", priority.name, priority.priority);
                self.set("net_prio", "net_prio.ifpriomap", &line)?;
            }
        }
        Ok(())
    }

    /// Writes a file of a controller; the outer error is that there is no such controller.
    fn write(
        &self,
        controller: &'static str,
        name: &str,
        value: &str,
    ) -> Result<Result<(), SysError>> {
        let directory = self
            .directory(controller)
            .ok_or_else(|| missing(controller))?;
        Ok(file::write(directory, name, value))
    }

    fn set(&self, controller: &'static str, name: &str, value: &str) -> Result<()> {
        self.write(controller, name, value)?.during(STEP)
    }

    fn has(&self, controller: &str, name: &str) -> bool {
        self.directory(controller)
            .is_some_and(|directory| directory.join(name).exists())
    }

    fn read(&self, controller: &'static str, name: &str) -> Result<String> {
        let directory = self
            .directory(controller)
            .ok_or_else(|| missing(controller))?;
        Ok(file::read_optional(directory, name)
            .during(STEP)?
            .unwrap_or_default())
    }

    fn set_memory(&self, memory: &Memory) -> Result<()> {
        let set = |name: &str, value: i64| self.set("memory", name, &value.to_string());
        let limit = values::bytes(memory.limit);
        if memory.check_before_update == Some(true)
            && let Some(limit) = limit
        {
            let usage = self.read("memory", "memory.usage_in_bytes")?;
            values::check_usage(limit, file::number(&usage))?;
        }
        if let Some(is) = memory.use_hierarchy {
            set("memory.use_hierarchy", i64::from(is))?;
        }
        self.set_memory_and_swap(limit, values::bytes(memory.swap))?;
        if let Some(bytes) = values::bytes(memory.reservation) {
            set("memory.soft_limit_in_bytes", bytes)?;
        }
        if let Some(bytes) = values::bytes(memory.kernel_tcp) {
            set("memory.kmem.tcp.limit_in_bytes", bytes)?;
        }
        if let Some(swappiness) = memory.swappiness {
            self.set("memory", "memory.swappiness", &swappiness.to_string())?;
        }
        if let Some(disable) = memory.disable_oom_killer {
            self.set(
                "memory",
                "memory.oom_control",
                if disable { "1" } else { "0" },
            )?;
        }
        Ok(())
    }

    /// The sum may never be below the limit: which one goes first depends on where they are now.
    fn set_memory_and_swap(&self, limit: Option<i64>, total: Option<i64>) -> Result<()> {
        const LIMIT: &str = "memory.limit_in_bytes";
        const TOTAL: &str = "memory.memsw.limit_in_bytes";
        let set = |name: &str, value: i64| self.set("memory", name, &value.to_string());
        let total = match (limit, total) {
            // Unlimited memory means unlimited swap, unless that is said otherwise.
            (Some(..0), None) => Some(-1),
            (_, total) => total,
        };
        // A kernel without swap accounting: there is nothing to lift.
        let total = total.filter(|&total| total >= 0 || self.has("memory", TOTAL));
        match (limit, total) {
            (Some(bytes), Some(total)) => {
                let first = self.write("memory", LIMIT, &bytes.to_string())?;
                if first.is_ok() {
                    return set(TOTAL, total);
                }
                set(TOTAL, total)?;
                set(LIMIT, bytes)
            }
            (Some(bytes), None) => set(LIMIT, bytes),
            (None, Some(total)) => set(TOTAL, total),
            (None, None) => Ok(()),
        }
    }

    fn set_cpu(&self, cpu: &Cpu) -> Result<()> {
        if cpu.idle == Some(0) {
            self.set("cpu", "cpu.idle", "0")?;
        }
        let is_idle = cpu.idle.is_some_and(|idle| idle != 0);
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0 && !is_idle) {
            self.set_shares(shares)?;
        }
        // A quota is checked against the period and the burst that are there, and the other way round.
        self.set_until_they_fit(&[
            (
                "cpu.cfs_period_us",
                cpu.period
                    .filter(|&period| period != 0)
                    .map(|period| period.to_string()),
            ),
            (
                "cpu.cfs_quota_us",
                cpu.quota
                    .filter(|&quota| quota != 0)
                    .map(|quota| quota.to_string()),
            ),
            ("cpu.cfs_burst_us", cpu.burst.map(|burst| burst.to_string())),
        ])?;
        self.set_until_they_fit(&[
            (
                "cpu.rt_period_us",
                cpu.realtime_period
                    .filter(|&period| period != 0)
                    .map(|period| period.to_string()),
            ),
            (
                "cpu.rt_runtime_us",
                cpu.realtime_runtime.map(|runtime| runtime.to_string()),
            ),
        ])?;
        if let Some(idle) = cpu.idle.filter(|_| is_idle) {
            self.set("cpu", "cpu.idle", &idle.to_string())?;
        }
        if !cpu.cpus.is_empty() {
            self.set("cpuset", "cpuset.cpus", &cpu.cpus)?;
        }
        if !cpu.mems.is_empty() {
            self.set("cpuset", "cpuset.mems", &cpu.mems)?;
        }
        Ok(())
    }

    /// The kernel takes shares out of range and makes others of them in silence.
    fn set_shares(&self, shares: u64) -> Result<()> {
        self.set("cpu", "cpu.shares", &shares.to_string())?;
        match file::number(&self.read("cpu", "cpu.shares")?) {
            Some(is) if is != shares => {
                let bound = if shares < is { "least" } else { "most" };
                let reason = format!("{shares} is out of range: the {bound} is {is}");
                Err(Error::invalid("linux.resources.cpu.shares", reason))
            }
            _ => Ok(()),
        }
    }

    /// Sets values that are checked against each other: in order, and those that were refused once more after the
    /// others.
    fn set_until_they_fit(&self, values: &[(&str, Option<String>)]) -> Result<()> {
        let mut given: Vec<(&str, &str)> = values
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .collect();
        loop {
            let (mut refused, mut first_error) = (Vec::new(), None);
            for &(name, value) in &given {
                match self.write("cpu", name, value)? {
                    Err(error) if error.errno == Errno::INVAL => {
                        refused.push((name, value));
                        first_error.get_or_insert(error);
                    }
                    other => other.during(STEP)?,
                }
            }
            match first_error {
                None => return Ok(()),
                Some(error) if refused.len() == given.len() => return Err(error).during(STEP),
                Some(_) => given = refused,
            }
        }
    }

    fn set_block_io(&self, block_io: &BlockIo) -> Result<()> {
        let set = |name: &str, value: String| self.set("blkio", name, &value);
        // Which names there are depends on the scheduler that the kernel has.
        let bfq = self.has("blkio", "blkio.bfq.weight");
        let (weight, weight_device) = if bfq {
            ("blkio.bfq.weight", "blkio.bfq.weight_device")
        } else {
            ("blkio.weight", "blkio.weight_device")
        };
        if let Some(value) = block_io.weight.filter(|&weight| weight != 0) {
            set(weight, value.to_string())?;
        }
        if let Some(value) = block_io.leaf_weight.filter(|&weight| weight != 0) {
            set("blkio.leaf_weight", value.to_string())?;
        }
        for device in &block_io.weight_device {
            let line = |weight| format!("{}:{} {weight}", device.major, device.minor);
            if let Some(value) = device.weight.filter(|&weight| weight != 0) {
                set(weight_device, line(value))?;
            }
            if let Some(value) = device.leaf_weight.filter(|&weight| weight != 0) {
                set("blkio.leaf_weight_device", line(value))?;
            }
        }
        let throttles = [
            ("read_bps", &block_io.throttle_read_bps_device),
            ("write_bps", &block_io.throttle_write_bps_device),
            ("read_iops", &block_io.throttle_read_iops_device),
            ("write_iops", &block_io.throttle_write_iops_device),
        ];
        for (kind, devices) in throttles {
            for BlockIoThrottle { major, minor, rate } in devices {
                let name = format!("blkio.throttle.{kind}_device");
                set(&name, format!("{major}:{minor} {rate}"))?;
            }
        }
        Ok(())
    }

    pub fn limit_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        if rules.is_empty() && self.directory("devices").is_none() {
            return Ok(());
        }
        let directory = self
            .directory("devices")
            .ok_or_else(|| missing("devices"))?;
        for lines in devices::v1_lines(rules)?.chunk_by(|one, next| one.0 == next.0) {
            let name = if lines[0].0 {
                "devices.allow"
            } else {
                "devices.deny"
            };
            let lines = lines.iter().map(|(_, line)| line.as_str());
            file::write_each(directory, name, lines).during(STEP)?;
        }
        Ok(())
    }
}
