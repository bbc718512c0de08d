//! `events`: what a container uses, and that its memory ran out, as lines of JSON in runc's form.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ketch_runtime::cgroup::{BlockStats, Stats};
use ketch_runtime::oci::{self, Id, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::failure::Failure;
use super::{Context, Outcome, print};

/// Print what a container uses, until its end
#[derive(clap::Args)]
pub struct Events {
    /// Print it once
    #[arg(long)]
    stats: bool,
    /// Time between two lines
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// Id of the container
    id: String,
}

fn interval(text: &str) -> Result<Duration, String> {
    match ketch_spec::duration::parse(text) {
        Ok(interval) if !interval.is_zero() => Ok(interval),
        Ok(_) => Err("it must be greater than zero".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// One line.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Data {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, u64>,
    intel_rdt: BTreeMap<String, u64>,
    network_interfaces: Option<()>,
}

#[derive(Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
}

#[derive(Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Serialize)]
struct Memory {
    cache: u64,
    usage: MemoryUsage,
    raw: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct MemoryUsage {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Serialize)]
struct Pids {
    current: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry>,
}

#[derive(Serialize)]
struct BlkioEntry {
    major: u64,
    minor: u64,
    op: &'static str,
    value: u64,
}

impl Data {
    fn new(stats: Stats) -> Self {
        let raw: BTreeMap<String, u64> = stats.memory_details.into_iter().collect();
        let cache = raw.get("cache").or(raw.get("file")).copied().unwrap_or(0);
        Self {
            cpu: Cpu {
                usage: CpuUsage {
                    total: stats.cpu_ns,
                    kernel: stats.cpu_system_ns,
                    user: stats.cpu_user_ns,
                },
                throttling: Throttling {
                    periods: stats.periods,
                    throttled_periods: stats.throttled_periods,
                    throttled_time: stats.throttled_ns,
                },
            },
            memory: Memory {
                cache,
                usage: MemoryUsage {
                    limit: stats.memory_limit_bytes.unwrap_or(u64::MAX),
                    usage: stats.memory_bytes,
                    max: stats.memory_peak_bytes.unwrap_or(0),
                    failcnt: stats.memory_failures,
                },
                raw,
            },
            pids: Pids {
                current: stats.tasks,
                limit: stats.tasks_limit,
            },
            blkio: blkio(&stats.block),
            hugetlb: BTreeMap::new(),
            intel_rdt: BTreeMap::new(),
            network_interfaces: None,
        }
    }
}

fn blkio(devices: &[BlockStats]) -> Blkio {
    let entries = |read: fn(&BlockStats) -> u64, write: fn(&BlockStats) -> u64| {
        let of = |device: &BlockStats| {
            [("Read", read(device)), ("Write", write(device))].map(|(op, value)| BlkioEntry {
                major: device.major,
                minor: device.minor,
                op,
                value,
            })
        };
        devices.iter().flat_map(of).collect()
    };
    Blkio {
        io_service_bytes_recursive: entries(|d| d.read_bytes, |d| d.write_bytes),
        io_serviced_recursive: entries(|d| d.reads, |d| d.writes),
    }
}

impl Events {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let id = Id::new(&self.id)?;
        if self.stats {
            return self.print("stats", Some(oci::stats(&context.root, &id)?));
        }
        let watch = Watch::open(&context.root, &id)?;
        let mut next = Instant::now() + self.interval;
        loop {
            let (ended, memory) = wait(&watch, next)?;
            if memory && watch.ran_out_of_memory()? {
                self.print("oom", None)?;
            }
            if ended {
                return Ok(0);
            }
            if Instant::now() >= next {
                match oci::stats(&context.root, &id) {
                    Ok(stats) => self.print("stats", Some(stats))?,
                    Err(_) => return Ok(0),
                };
                next += self.interval;
            }
        }
    }

    fn print(&self, kind: &'static str, stats: Option<Stats>) -> Outcome {
        let event = Event {
            kind,
            id: &self.id,
            data: stats.map(Data::new),
        };
        let line = serde_json::to_string(&event).map_err(Failure::Json)?;
        print(&format!("{line}\n"))
    }
}

/// Whether the container has ended, and whether something happened to its memory.
fn wait(watch: &Watch, until: Instant) -> Result<(bool, bool), Failure> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or_default();
    let mut fds = vec![PollFd::from_borrowed_fd(watch.pidfd(), PollFlags::IN)];
    fds.extend(
        watch
            .memory()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
    );
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(ketch_sys::Error::new("poll", errno).into()),
    }
    let ready = |index: usize| {
        fds.get(index)
            .is_some_and(|fd: &PollFd<'_>| !fd.revents().is_empty())
    };
    Ok((ready(0), ready(1)))
}
