//! Limits as properties of units, so that systemd knows them: what it does not know it would set back some day.
//!
//! All limits are written to the files as well; what systemd has no property for is only there.

use std::borrow::Cow;

use ketch_spec::runtime::{Cpu, LinuxResources, Memory};

use super::super::values;
use super::wire::Value;
use crate::error::{Error, Result};

/// Without limit; of weights: none of its own.
const INFINITY: u64 = u64::MAX;
/// The weight that is the idle class.
const IDLE: u64 = 0;
/// The period that systemd takes where none is given, in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd counts shares of a processor in hundredths.
const STEP_US: u64 = 10_000;
/// Highest processor or memory node that is looked at.
const MOST_BITS: u32 = 8192;

/// A property: name, value.
pub(super) type Property = (Cow<'static, str>, Value);

/// What is known of the processor's idle class, which systemd has since version 252.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Idle {
    /// systemd has it.
    pub known: bool,
    /// The group is in it now.
    pub now: bool,
}

/// What a new scope has besides limits.
pub(super) fn of_new(description: &str, slice: &str, pid: u32) -> Vec<Property> {
    let yes = Value::Bool(true);
    let list = [
        ("Description", Value::text(description)),
        ("Slice", Value::text(slice)),
        ("PIDs", Value::Array("u".into(), vec![Value::U32(pid)])),
        // The groups below, and the controllers for them, are ours.
        ("Delegate", yes.clone()),
        ("CPUAccounting", yes.clone()),
        ("MemoryAccounting", yes.clone()),
        ("IOAccounting", yes.clone()),
        ("TasksAccounting", yes),
        // Not to be stopped before the rest at a shutdown, for the sake of who manages it.
        ("DefaultDependencies", Value::Bool(false)),
    ];
    list.map(|(name, value)| (name.into(), value)).into()
}

/// Whether the idle class of processors is spoken of.
pub(super) fn speak_of_idle(resources: &LinuxResources) -> bool {
    idle(resources).is_some()
}

/// What they say of the idle class.
fn idle(resources: &LinuxResources) -> Option<bool> {
    let file = resources.unified.get("cpu.idle");
    let file = file.and_then(|value| value.trim().parse::<i64>().ok());
    let field = resources.cpu.as_ref().and_then(|cpu| cpu.idle);
    file.or(field).map(|idle| idle != 0)
}

/// The properties for limits.
pub(super) fn of_resources(resources: &LinuxResources, now: Idle) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    if let Some(memory) = &resources.memory {
        of_memory(memory, &mut properties)?;
    }
    if let Some(cpu) = &resources.cpu {
        of_cpu(cpu, &mut properties)?;
    }
    if let Some(pids) = &resources.pids {
        let limit = u64::try_from(pids.limit).ok().filter(|&limit| limit > 0);
        add(&mut properties, "TasksMax", limit.unwrap_or(INFINITY));
    }
    if let Some(weight) = resources
        .block_io
        .as_ref()
        .and_then(|io| io.weight)
        .filter(|&weight| weight != 0)
    {
        add(&mut properties, "IOWeight", values::io_weight(weight));
    }
    for (name, value) in &resources.unified {
        of_unified(name, value.trim(), &mut properties)?;
    }
    let has_weight =
        |properties: &[Property]| properties.iter().any(|(name, _)| name == "CPUWeight");
    match idle(resources).filter(|_| now.known) {
        Some(true) => {
            properties.retain(|(name, _)| name != "CPUWeight");
            add(&mut properties, "CPUWeight", IDLE);
        }
        // No weight of its own: otherwise systemd would make it idle again some day.
        Some(false) if now.now && !has_weight(&properties) => {
            add(&mut properties, "CPUWeight", INFINITY);
        }
        _ => {}
    }
    Ok(properties)
}

fn add(properties: &mut Vec<Property>, name: &'static str, value: u64) {
    properties.push((name.into(), Value::U64(value)));
}

fn bytes(given: i64) -> u64 {
    u64::try_from(given).unwrap_or(INFINITY)
}

fn of_memory(memory: &Memory, properties: &mut Vec<Property>) -> Result<()> {
    if let Some(limit) = values::bytes(memory.limit) {
        add(properties, "MemoryMax", bytes(limit));
    }
    if let Some(reservation) = values::bytes(memory.reservation) {
        add(properties, "MemoryLow", bytes(reservation));
    }
    if let Some(swap) = values::swap_alone(memory)? {
        add(properties, "MemorySwapMax", bytes(swap));
    }
    Ok(())
}

fn of_cpu(cpu: &Cpu, properties: &mut Vec<Property>) -> Result<()> {
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        add(properties, "CPUWeight", values::cpu_weight(shares));
    }
    let period = cpu.period.filter(|&period| period != 0);
    if let Some(period) = period {
        add(properties, "CPUQuotaPeriodUSec", period);
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        let a_second = u64::try_from(quota).map_or(INFINITY, |quota| {
            per_second(quota, period.unwrap_or(DEFAULT_PERIOD_US))
        });
        add(properties, "CPUQuotaPerSecUSec", a_second);
    }
    for (name, list) in [
        ("AllowedCPUs", &cpu.cpus),
        ("AllowedMemoryNodes", &cpu.mems),
    ] {
        if !list.is_empty() {
            properties.push((name.into(), mask(name, list)?));
        }
    }
    Ok(())
}

/// Microseconds a second, rounded up to what systemd counts in: rounded down, a small quota would be none.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    let exact = u64::try_from(exact).unwrap_or(INFINITY - STEP_US);
    exact.next_multiple_of(STEP_US).max(STEP_US)
}

/// `0-3,7` as bits, from the lowest byte on.
fn mask(field: &str, list: &str) -> Result<Value> {
    let wrong = || {
        Error::invalid(
            "linux.resources.cpu",
            format!("{field}: {list:?} is no list of numbers"),
        )
    };
    let mut bits: Vec<u8> = Vec::new();
    for part in list
        .trim()
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<u32>()
                .ok()
                .filter(|&number| number < MOST_BITS)
        };
        let (first, last) = (
            number(first).ok_or_else(wrong)?,
            number(last).ok_or_else(wrong)?,
        );
        if first > last {
            return Err(wrong());
        }
        for bit in first..=last {
            let byte = bit as usize / 8;
            bits.resize(bits.len().max(byte + 1), 0);
            bits[byte] |= 1 << (bit % 8);
        }
    }
    Ok(Value::Array(
        "y".into(),
        bits.into_iter().map(Value::Byte).collect(),
    ))
}

fn of_unified(name: &str, value: &str, properties: &mut Vec<Property>) -> Result<()> {
    let number = match value {
        "max" => Some(INFINITY),
        text => text.parse::<u64>().ok(),
    };
    let property = match name {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => {
            properties.push(("AllowedCPUs".into(), mask(name, value)?));
            return Ok(());
        }
        "cpuset.mems" => {
            properties.push(("AllowedMemoryNodes".into(), mask(name, value)?));
            return Ok(());
        }
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = words.next().unwrap_or_default();
            let period = words.next().and_then(|period| period.parse().ok());
            let cpu = Cpu {
                quota: Some(quota.parse().unwrap_or(-1)),
                period,
                ..Cpu::default()
            };
            return of_cpu(&cpu, properties);
        }
        // The file alone.
        _ => return Ok(()),
    };
    properties.extend(number.map(|number| (property.into(), Value::U64(number))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::Pids;

    use super::*;

    #[test]
    fn limits_become_properties() {
        let memory = Memory {
            limit: Some(100),
            swap: Some(150),
            reservation: Some(50),
            ..Memory::default()
        };
        let cpu = Cpu {
            shares: Some(1024),
            quota: Some(25_000),
            period: Some(50_000),
            cpus: "0-2,9".into(),
            ..Cpu::default()
        };
        let mut resources = LinuxResources {
            memory: Some(memory),
            cpu: Some(cpu),
            pids: Some(Pids { limit: -1 }),
            ..LinuxResources::default()
        };
        resources.unified.insert("memory.high".into(), "70".into());
        resources
            .unified
            .insert("memory.zswap.max".into(), "70".into());
        let bits = [7, 2].map(Value::Byte).to_vec();
        let expected = [
            ("MemoryMax", Value::U64(100)),
            ("MemoryLow", Value::U64(50)),
            ("MemorySwapMax", Value::U64(50)),
            ("CPUWeight", Value::U64(39)),
            ("CPUQuotaPeriodUSec", Value::U64(50_000)),
            ("CPUQuotaPerSecUSec", Value::U64(500_000)),
            ("AllowedCPUs", Value::Array("y".into(), bits)),
            ("TasksMax", Value::U64(INFINITY)),
            ("MemoryHigh", Value::U64(70)),
        ];
        let expected = expected.map(|(name, value)| (Cow::from(name), value));
        let found = of_resources(&resources, Idle::default());
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn the_idle_class_is_a_weight() {
        let weights = |idle, shares, known, now| {
            let cpu = Cpu {
                idle: Some(idle),
                shares,
                ..Cpu::default()
            };
            let resources = LinuxResources {
                cpu: Some(cpu),
                ..LinuxResources::default()
            };
            let found = of_resources(&resources, Idle { known, now }).unwrap();
            let values = found.into_iter().map(|(_, value)| value);
            values.collect::<Vec<_>>()
        };
        assert_eq!(weights(1, Some(1024), true, false), [Value::U64(0)]);
        assert_eq!(weights(0, Some(1024), true, true), [Value::U64(39)]);
        assert_eq!(weights(0, None, true, true), [Value::U64(INFINITY)]);
        assert_eq!(weights(0, None, true, false), []);
        assert_eq!(weights(1, None, false, false), []);
    }

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(per_second(1, 100_000), 10_000);
        assert_eq!(per_second(33_333, 100_000), 340_000);
        assert_eq!(
            per_second(u64::MAX, 1),
            (INFINITY - STEP_US).next_multiple_of(STEP_US)
        );
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        for wrong in ["x", "3-1", "1-", "99999", "-1", "1-2-3"] {
            assert!(mask("AllowedCPUs", wrong).is_err(), "{wrong}");
        }
    }
}
