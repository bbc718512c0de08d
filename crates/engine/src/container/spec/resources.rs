//! Limits and device rules, in the specification's words.

use ketch_spec::runtime::{Cpu, DeviceRule, LinuxDevice, LinuxResources, Memory, Pids};

use crate::container::config::{ContainerConfig, Resources};
use crate::{Error, ErrorKind, Result};

/// Length of the period that `--cpus` is a share of, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// What the device cgroup allows besides what was asked for: making any node, and using the harmless ones.
const DEFAULT_RULES: &[(&str, Option<i64>, Option<i64>, &str)] = &[
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", Some(1), Some(3), "rwm"), // null
    ("c", Some(1), Some(5), "rwm"), // zero
    ("c", Some(1), Some(7), "rwm"), // full
    ("c", Some(1), Some(8), "rwm"), // random
    ("c", Some(1), Some(9), "rwm"), // urandom
    ("c", Some(5), Some(0), "rwm"), // tty
    ("c", Some(5), Some(1), "rwm"), // console
    ("c", Some(5), Some(2), "rwm"), // ptmx
    ("c", Some(136), None, "rwm"),  // pts
];

/// The resources of a container; `devices` are the nodes it gets.
pub(super) fn of(config: &ContainerConfig, devices: &[LinuxDevice]) -> Result<LinuxResources> {
    Ok(LinuxResources {
        devices: rules(config, devices),
        memory: memory(&config.resources)?,
        cpu: cpu(&config.resources),
        pids: config
            .resources
            .pids_limit
            .filter(|&limit| limit > 0)
            .map(|limit| Pids { limit }),
        ..LinuxResources::default()
    })
}

fn rules(config: &ContainerConfig, devices: &[LinuxDevice]) -> Vec<DeviceRule> {
    if config.security.privileged {
        return vec![DeviceRule {
            allow: true,
            kind: "a".into(),
            access: "rwm".into(),
            ..DeviceRule::default()
        }];
    }
    let mut rules = vec![DeviceRule {
        allow: false,
        kind: "a".into(),
        access: "rwm".into(),
        ..DeviceRule::default()
    }];
    rules.extend(
        DEFAULT_RULES
            .iter()
            .map(|&(kind, major, minor, access)| DeviceRule {
                allow: true,
                kind: kind.into(),
                major,
                minor,
                access: access.into(),
            }),
    );
    for device in devices {
        rules.push(DeviceRule {
            allow: true,
            kind: device.kind.clone(),
            major: Some(device.major),
            minor: Some(device.minor),
            access: permissions(config, &device.path),
        });
    }
    rules
}

/// The permissions asked for with the `--device` that a node came from.
fn permissions(config: &ContainerConfig, path: &str) -> String {
    config
        .resources
        .devices
        .iter()
        .find(|asked| {
            path == asked.container
                || path
                    .strip_prefix(&asked.container)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
        .map_or_else(|| "rwm".to_owned(), |asked| asked.permissions.clone())
}

fn memory(resources: &Resources) -> Result<Option<Memory>> {
    let signed = |bytes: u64| {
        i64::try_from(bytes).map_err(|_| {
            Error::new(
                ErrorKind::Invalid,
                format!("memory limit {bytes} is too large"),
            )
        })
    };
    let limit = resources
        .memory_bytes
        .filter(|&bytes| bytes > 0)
        .map(signed)
        .transpose()?;
    let reservation = resources
        .memory_reservation_bytes
        .filter(|&bytes| bytes > 0)
        .map(signed)
        .transpose()?;
    // As Docker: where only memory is limited, as much swap again may be used.
    let swap = match (
        limit,
        resources.memory_swap_bytes.filter(|&bytes| bytes != 0),
    ) {
        (Some(limit), None) => Some(limit.saturating_mul(2)),
        (_, swap) => swap,
    };
    let disable_oom_killer = resources.oom_kill_disable.then_some(true);
    if limit.is_none() && reservation.is_none() && swap.is_none() && disable_oom_killer.is_none() {
        return Ok(None);
    }
    Ok(Some(Memory {
        limit,
        reservation,
        swap,
        disable_oom_killer,
        ..Memory::default()
    }))
}

fn cpu(resources: &Resources) -> Option<Cpu> {
    let (mut period, mut quota) = (
        resources.cpu_period_us.filter(|&us| us > 0),
        resources.cpu_quota_us.filter(|&us| us != 0),
    );
    if let Some(nano) = resources.nano_cpus.filter(|&nano| nano > 0) {
        period = Some(CPU_PERIOD_US);
        let share = u128::from(nano) * u128::from(CPU_PERIOD_US) / 1_000_000_000;
        quota = Some(i64::try_from(share).unwrap_or(i64::MAX));
    }
    let cpu = Cpu {
        shares: resources.cpu_shares.filter(|&shares| shares > 0),
        quota,
        period,
        cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        mems: resources.cpuset_mems.clone().unwrap_or_default(),
        ..Cpu::default()
    };
    (cpu != Cpu::default()).then_some(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_brings_as_much_swap() {
        let limit = |memory, swap| {
            memory_of(&Resources {
                memory_bytes: memory,
                memory_swap_bytes: swap,
                ..Resources::default()
            })
        };
        fn memory_of(resources: &Resources) -> Option<(Option<i64>, Option<i64>)> {
            memory(resources)
                .unwrap()
                .map(|memory| (memory.limit, memory.swap))
        }
        assert_eq!(limit(Some(100), None), Some((Some(100), Some(200))));
        assert_eq!(limit(Some(100), Some(-1)), Some((Some(100), Some(-1))));
        assert_eq!(limit(Some(100), Some(100)), Some((Some(100), Some(100))));
        assert_eq!(limit(None, None), None);
        assert!(
            memory(&Resources {
                memory_bytes: Some(u64::MAX),
                ..Resources::default()
            })
            .is_err()
        );
    }

    #[test]
    fn cpus_are_a_quota() {
        let found = cpu(&Resources {
            nano_cpus: Some(1_500_000_000),
            ..Resources::default()
        })
        .unwrap();
        assert_eq!((found.period, found.quota), (Some(100_000), Some(150_000)));
        assert_eq!(cpu(&Resources::default()), None);
    }
}
