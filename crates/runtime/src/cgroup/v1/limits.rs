//! Limits of version 1: from the specification's numbers to the files' ones.

use ketch_spec::runtime::{BlockIo, BlockIoThrottle, Cpu, DeviceRule, LinuxResources, Memory};

use super::super::{devices, file, v2};
use super::missing;
use crate::error::{During, Error, Result};

impl super::Groups {
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
            self.set("pids", "pids.max", &limit)?;
        }
        if let Some(block_io) = &resources.block_io {
            self.set_block_io(block_io)?;
        }
        for limit in &resources.hugepage_limits {
            let name = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
            self.set("hugetlb", &name, &limit.limit.to_string())?;
        }
        for (device, limit) in &resources.rdma {
            self.set("rdma", "rdma.max", &v2::rdma_line(device, limit))?;
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

    fn set(&self, controller: &'static str, name: &str, value: &str) -> Result<()> {
        let directory = self
            .directory(controller)
            .ok_or_else(|| missing(controller))?;
        file::write(directory, name, value).during("set a limit")
    }

    fn set_memory(&self, memory: &Memory) -> Result<()> {
        if memory.kernel.is_some() {
            let reason = "the kernel counts it with all other memory";
            return Err(Error::unsupported("linux.resources.memory.kernel", reason));
        }
        let set = |name: &str, value: i64| self.set("memory", name, &value.to_string());
        let (limit, swap) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        match (memory.limit, memory.swap) {
            (Some(bytes), Some(total)) => {
                // The sum may never be below the limit: which one goes first depends on where they are now.
                if set(limit, bytes).is_ok() {
                    set(swap, total)?;
                } else {
                    set(swap, total)?;
                    set(limit, bytes)?;
                }
            }
            (Some(bytes), None) => set(limit, bytes)?,
            (None, Some(total)) => set(swap, total)?,
            (None, None) => {}
        }
        if let Some(bytes) = memory.reservation {
            set("memory.soft_limit_in_bytes", bytes)?;
        }
        if let Some(bytes) = memory.kernel_tcp {
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

    fn set_cpu(&self, cpu: &Cpu) -> Result<()> {
        let mut values = Vec::new();
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
            values.push(("cpu.shares", shares.to_string()));
        }
        // The period before the quota: a quota is checked against the period that is there.
        if let Some(period) = cpu.period.filter(|&period| period != 0) {
            values.push(("cpu.cfs_period_us", period.to_string()));
        }
        if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
            values.push(("cpu.cfs_quota_us", quota.to_string()));
        }
        if let Some(burst) = cpu.burst {
            values.push(("cpu.cfs_burst_us", burst.to_string()));
        }
        if let Some(period) = cpu.realtime_period {
            values.push(("cpu.rt_period_us", period.to_string()));
        }
        if let Some(runtime) = cpu.realtime_runtime {
            values.push(("cpu.rt_runtime_us", runtime.to_string()));
        }
        if let Some(idle) = cpu.idle {
            values.push(("cpu.idle", idle.to_string()));
        }
        for (name, value) in values {
            self.set("cpu", name, &value)?;
        }
        if !cpu.cpus.is_empty() {
            self.set("cpuset", "cpuset.cpus", &cpu.cpus)?;
        }
        if !cpu.mems.is_empty() {
            self.set("cpuset", "cpuset.mems", &cpu.mems)?;
        }
        Ok(())
    }

    fn set_block_io(&self, block_io: &BlockIo) -> Result<()> {
        let set = |name: &str, value: String| self.set("blkio", name, &value);
        if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
            // Which name there is depends on the scheduler that the kernel has.
            set("blkio.bfq.weight", weight.to_string())
                .or_else(|_| set("blkio.weight", weight.to_string()))?;
        }
        if let Some(weight) = block_io.leaf_weight.filter(|&weight| weight != 0) {
            set("blkio.leaf_weight", weight.to_string())?;
        }
        for device in &block_io.weight_device {
            let line = |weight| format!("{}:{} {weight}", device.major, device.minor);
            if let Some(weight) = device.weight {
                set("blkio.bfq.weight_device", line(weight))
                    .or_else(|_| set("blkio.weight_device", line(weight)))?;
            }
            if let Some(weight) = device.leaf_weight {
                set("blkio.leaf_weight_device", line(weight))?;
            }
        }
        let throttle = |name: &str, devices: &[BlockIoThrottle]| -> Result<()> {
            for device in devices {
                set(
                    name,
                    format!("{}:{} {}", device.major, device.minor, device.rate),
                )?;
            }
            Ok(())
        };
        throttle(
            "blkio.throttle.read_bps_device",
            &block_io.throttle_read_bps_device,
        )?;
        throttle(
            "blkio.throttle.write_bps_device",
            &block_io.throttle_write_bps_device,
        )?;
        throttle(
            "blkio.throttle.read_iops_device",
            &block_io.throttle_read_iops_device,
        )?;
        throttle(
            "blkio.throttle.write_iops_device",
            &block_io.throttle_write_iops_device,
        )
    }

    pub fn limit_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        for (allow, line) in devices::v1_lines(rules)? {
            self.set(
                "devices",
                if allow {
                    "devices.allow"
                } else {
                    "devices.deny"
                },
                &line,
            )?;
        }
        Ok(())
    }
}
