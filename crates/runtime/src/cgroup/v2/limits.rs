//! Limits of version 2: from the specification's numbers to the files' ones.

use ketch_spec::runtime::{
    BlockIo, BlockIoThrottle, Cpu, DeviceRule, LinuxResources, Memory, Rdma,
};
use ketch_sys::bpf;
use rustix::io::Errno;

use super::super::{devices, ebpf, file};
use crate::error::{During, Error, Result};

impl super::Group {
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

/// The line of `rdma.max`.
pub(in crate::cgroup) fn rdma_line(device: &str, limit: &Rdma) -> String {
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
