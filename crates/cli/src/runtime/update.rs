//! `update`.

use std::path::{Path, PathBuf};

use ketch_runtime::oci::{self, Id};
use ketch_spec::runtime::{BlockIo, Cpu, IntelRdt, LinuxResources, Memory, Pids};

use super::failure::Failure;
use super::{Context, Outcome};

/// Change limits of a container
#[derive(clap::Args)]
pub struct Update {
    /// File with linux.resources as in config.json, or - for standard input; other options are ignored then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block devices, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Microseconds of a period
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// Microseconds that may be used in a period
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Microseconds that may be saved up
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// Relative weight
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// Microseconds of a period of real-time processes
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Microseconds that those may use in it
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: run only when nothing else wants to
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// Processors, 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Obsolete in the kernel
    #[arg(long, value_name = "BYTES", value_parser = bytes, hide = true)]
    kernel_memory: Option<i64>,
    /// Obsolete in the kernel
    #[arg(long, value_name = "BYTES", value_parser = bytes, hide = true)]
    kernel_memory_tcp: Option<i64>,
    /// Memory
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    memory: Option<i64>,
    /// Memory that is left to it when it is short
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1: no limit
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Number of tasks; -1: no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Cache of the container's class of linux.intelRdt, L3:0=ff;1=ff
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Memory bandwidth of it, MB:0=50;1=50
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Id of the container
    id: String,
}

/// Bytes, with a unit or without; -1 stands for no limit.
fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let size = ketch_spec::size::parse_bytes(text).map_err(|error| error.to_string())?;
    i64::try_from(size).map_err(|_| format!("{text} is too much"))
}

impl Update {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let id = Id::new(&self.id)?;
        let resources = match &self.resources {
            Some(path) => read(path)?,
            None => self.resources(),
        };
        oci::update(&context.root, &id, &resources)?;
        let class = IntelRdt {
            l3_cache_schema: self.l3_cache_schema.unwrap_or_default(),
            mem_bw_schema: self.mem_bw_schema.unwrap_or_default(),
            ..IntelRdt::default()
        };
        if class != IntelRdt::default() {
            oci::update_class(&context.root, &id, &class)?;
        }
        Ok(0)
    }

    fn resources(&self) -> LinuxResources {
        let cpu = Cpu {
            shares: self.cpu_share,
            quota: self.cpu_quota,
            burst: self.cpu_burst,
            period: self.cpu_period,
            realtime_runtime: self.cpu_rt_runtime,
            realtime_period: self.cpu_rt_period,
            cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            mems: self.cpuset_mems.clone().unwrap_or_default(),
            idle: self.cpu_idle,
            ..Cpu::default()
        };
        let memory = Memory {
            limit: self.memory,
            reservation: self.memory_reservation,
            swap: self.memory_swap,
            kernel: self.kernel_memory,
            kernel_tcp: self.kernel_memory_tcp,
            ..Memory::default()
        };
        let block_io = BlockIo {
            weight: self.blkio_weight,
            ..BlockIo::default()
        };
        LinuxResources {
            cpu: (cpu != Cpu::default()).then_some(cpu),
            memory: (memory != Memory::default()).then_some(memory),
            block_io: (block_io != BlockIo::default()).then_some(block_io),
            pids: self.pids_limit.map(|limit| Pids { limit }),
            ..LinuxResources::default()
        }
    }
}

fn read(path: &Path) -> Result<LinuxResources, Failure> {
    let text = if path == Path::new("-") {
        oci::bounded(std::io::stdin().lock(), path)?
    } else {
        oci::read_document(path)?
    };
    serde_json::from_slice(&text).map_err(|source| Failure::Parse {
        path: path.to_owned(),
        source,
    })
}
