//! What the processes of a cgroup use.

use std::path::Path;

use super::{file, v1, v2};
use crate::error::{During, Result};

/// What the processes of a cgroup use. What the machine does not count is zero or None.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time in nanoseconds.
    pub cpu_ns: u64,
    /// Of that in user mode.
    pub cpu_user_ns: u64,
    /// Of that in the kernel.
    pub cpu_system_ns: u64,
    /// Periods of the bandwidth limit so far.
    pub periods: u64,
    /// Periods in which it struck.
    pub throttled_periods: u64,
    /// Nanoseconds that were waited because of it.
    pub throttled_ns: u64,
    /// Memory in bytes, page cache included.
    pub memory_bytes: u64,
    /// Of that, page cache that has not been used for a while: what Docker subtracts to show the usage.
    pub inactive_file_bytes: u64,
    /// The most so far.
    pub memory_peak_bytes: Option<u64>,
    /// The limit; None: none.
    pub memory_limit_bytes: Option<u64>,
    /// How often the limit was met.
    pub memory_failures: u64,
    /// Every number of `memory.stat`, by its name.
    pub memory_details: Vec<(String, u64)>,
    /// Tasks.
    pub tasks: u64,
    /// The limit of tasks; None: none.
    pub tasks_limit: Option<u64>,
    /// Block devices.
    pub block: Vec<BlockStats>,
}

/// Traffic of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

fn read(directory: Option<&Path>, name: &str) -> Result<String> {
    let Some(directory) = directory else {
        return Ok(String::new());
    };
    let text = file::read_optional(directory, name).during("read the statistics of the cgroup")?;
    Ok(text.unwrap_or_default())
}

fn value(directory: Option<&Path>, name: &str) -> Result<Option<u64>> {
    Ok(file::number(&read(directory, name)?))
}

fn pairs(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

pub(super) fn of_v2(group: &v2::Group) -> Result<Stats> {
    let directory = Some(group.directory());
    let cpu = read(directory, "cpu.stat")?;
    let microseconds = |key| file::keyed(&cpu, key).unwrap_or(0).saturating_mul(1000);
    let details = read(directory, "memory.stat")?;
    let events = read(directory, "memory.events")?;
    Ok(Stats {
        cpu_ns: microseconds("usage_usec"),
        cpu_user_ns: microseconds("user_usec"),
        cpu_system_ns: microseconds("system_usec"),
        periods: file::keyed(&cpu, "nr_periods").unwrap_or(0),
        throttled_periods: file::keyed(&cpu, "nr_throttled").unwrap_or(0),
        throttled_ns: microseconds("throttled_usec"),
        memory_bytes: value(directory, "memory.current")?.unwrap_or(0),
        inactive_file_bytes: file::keyed(&details, "inactive_file").unwrap_or(0),
        memory_peak_bytes: value(directory, "memory.peak")?,
        memory_limit_bytes: value(directory, "memory.max")?,
        memory_failures: file::keyed(&events, "max").unwrap_or(0),
        memory_details: pairs(&details),
        tasks: value(directory, "pids.current")?.unwrap_or(0),
        tasks_limit: value(directory, "pids.max")?,
        block: block_v2(&read(directory, "io.stat")?),
    })
}

fn block_v2(text: &str) -> Vec<BlockStats> {
    let device = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut stats = BlockStats {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            ..BlockStats::default()
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => stats.read_bytes = value,
                "wbytes" => stats.write_bytes = value,
                "rios" => stats.reads = value,
                "wios" => stats.writes = value,
                _ => {}
            }
        }
        Some(stats)
    };
    text.lines().filter_map(device).collect()
}

pub(super) fn of_v1(groups: &v1::Groups) -> Result<Stats> {
    let (accounting, memory) = (groups.directory("cpuacct"), groups.directory("memory"));
    let (cpu, pids) = (groups.directory("cpu"), groups.directory("pids"));
    let ticks = read(accounting, "cpuacct.stat")?;
    // The unit is 1/100 s on every architecture: USER_HZ.
    let ticks = |key| {
        file::keyed(&ticks, key)
            .unwrap_or(0)
            .saturating_mul(10_000_000)
    };
    let bandwidth = read(cpu, "cpu.stat")?;
    let details = read(memory, "memory.stat")?;
    // Without a limit the kernel shows the largest number of pages that it can count.
    let limit = value(memory, "memory.limit_in_bytes")?.filter(|&limit| limit < 1 << 62);
    Ok(Stats {
        cpu_ns: value(accounting, "cpuacct.usage")?.unwrap_or(0),
        cpu_user_ns: ticks("user"),
        cpu_system_ns: ticks("system"),
        periods: file::keyed(&bandwidth, "nr_periods").unwrap_or(0),
        throttled_periods: file::keyed(&bandwidth, "nr_throttled").unwrap_or(0),
        throttled_ns: file::keyed(&bandwidth, "throttled_time").unwrap_or(0),
        memory_bytes: value(memory, "memory.usage_in_bytes")?.unwrap_or(0),
        inactive_file_bytes: file::keyed(&details, "total_inactive_file").unwrap_or(0),
        memory_peak_bytes: value(memory, "memory.max_usage_in_bytes")?,
        memory_limit_bytes: limit,
        memory_failures: value(memory, "memory.failcnt")?.unwrap_or(0),
        memory_details: pairs(&details),
        tasks: value(pids, "pids.current")?.unwrap_or(0),
        tasks_limit: value(pids, "pids.max")?,
        block: block_v1(groups.directory("blkio"))?,
    })
}

fn block_v1(directory: Option<&Path>) -> Result<Vec<BlockStats>> {
    let mut all: Vec<BlockStats> = Vec::new();
    for (file, bytes) in [
        ("blkio.throttle.io_service_bytes", true),
        ("blkio.throttle.io_serviced", false),
    ] {
        for (major, minor, operation, value) in read(directory, file)?.lines().filter_map(line_v1) {
            let same = |stats: &BlockStats| (stats.major, stats.minor) == (major, minor);
            let index = all.iter().position(same).unwrap_or_else(|| {
                all.push(BlockStats {
                    major,
                    minor,
                    ..BlockStats::default()
                });
                all.len() - 1
            });
            let stats = &mut all[index];
            match (operation, bytes) {
                ("Read", true) => stats.read_bytes = value,
                ("Write", true) => stats.write_bytes = value,
                ("Read", false) => stats.reads = value,
                ("Write", false) => stats.writes = value,
                _ => {}
            }
        }
    }
    Ok(all)
}

/// `8:0 Read 4096`.
fn line_v1(line: &str) -> Option<(u64, u64, &str, u64)> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let operation = words.next()?;
    Some((
        major.parse().ok()?,
        minor.parse().ok()?,
        operation,
        words.next()?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_are_read_from_both_versions() {
        let v2 = block_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n253:0\n");
        let expected = BlockStats {
            major: 8,
            read_bytes: 1,
            write_bytes: 2,
            reads: 3,
            writes: 4,
            minor: 0,
        };
        assert_eq!(v2[0], expected);
        assert_eq!(line_v1("8:16 Write 7"), Some((8, 16, "Write", 7)));
        assert_eq!(line_v1("Total 7"), None);
    }

    #[test]
    fn details_keep_their_names() {
        assert_eq!(
            pairs("anon 5\nbad\nfile 6\n"),
            [("anon".into(), 5), ("file".into(), 6)]
        );
    }
}
