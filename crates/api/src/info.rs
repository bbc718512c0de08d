//! The document of `/info`: counts of objects, and what the machine has.

use std::fs;

use ketch_engine::container::{self, Status, apparmor};
use ketch_engine::{Engine, Result, image};
use serde_json::{Value, json};

/// Docker's `SystemInfo`.
///
/// # Errors
/// The containers or images cannot be listed.
pub fn document(engine: &Engine) -> Result<Value> {
    let all = container::list(engine)?;
    let count = |wanted: &[Status]| {
        let matching = all.iter().filter(|one| wanted.contains(&one.state.status));
        matching.count()
    };
    let is_v2 = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false);
    let mut value = json!({
        "ID": read("/etc/machine-id"),
        "Containers": all.len(),
        "ContainersRunning": count(&[Status::Running, Status::Restarting]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited, Status::Dead]),
        "Images": image::list(engine, &image::ListFilter::default())?.len(),
        "Driver": "overlay2",
        "DriverStatus": [["Layer Form", engine.layer_form()?.name()]],
        "DockerRootDir": engine.paths().data_root(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if is_v2 { "2" } else { "1" },
        "KernelVersion": kernel_version(),
        "OperatingSystem": operating_system(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory_bytes(&read("/proc/meminfo")),
        "Name": read("/proc/sys/kernel/hostname"),
        "SystemTime": jiff::Timestamp::now().to_string(),
        "ServerVersion": crate::PROGRAM_VERSION,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut value, abilities(!is_v2)) {
        all.extend(more);
    }
    Ok(value)
}

/// What does not change with the engine's state.
fn abilities(is_v1: bool) -> Value {
    json!({
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null,
            "Log": ["json-file", "none"],
        },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": is_v1,
        "IPv4Forwarding": true,
        "Debug": false,
        "ExperimentalBuild": false,
        "LiveRestoreEnabled": true,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": {}, "Mirrors": []},
        "GenericResources": null,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "Runtimes": {"ketch": {"path": "ketch"}},
        "DefaultRuntime": "ketch",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "Isolation": "",
        "InitBinary": "ketch",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": apparmor::security_options(),
        "Warnings": apparmor::warning().as_slice(),
    })
}

/// The kernel's release.
pub fn kernel_version() -> String {
    read("/proc/sys/kernel/osrelease")
}

/// A small file of the system without its last newline; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .unwrap_or_default()
}

/// `PRETTY_NAME` of os-release.
fn operating_system() -> String {
    let content = read("/etc/os-release");
    let name = content
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches('"'))
        .to_owned()
}

/// `MemTotal` of /proc/meminfo, which is in KiB.
fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(
            memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB"),
            2 << 20
        );
        assert_eq!(memory_bytes(""), 0);
        assert!(!kernel_version().is_empty());
    }
}
