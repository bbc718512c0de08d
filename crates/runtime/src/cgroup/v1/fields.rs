//! Every field of `linux.resources` and the file that it is written to, with plain files in the kernel's place: few
//! machines have all controllers.

use std::collections::BTreeMap;
use std::fs;

use ketch_spec::runtime::LinuxResources;
use serde_json::json;

use super::{Group, Groups};

/// Files by controller: what is in them before and after.
const FILES: [(&str, &str, &str, &str); 27] = [
    ("memory", "memory.usage_in_bytes", "5", "5"),
    ("memory", "memory.use_hierarchy", "", "1"),
    ("memory", "memory.limit_in_bytes", "", "1000000"),
    ("memory", "memory.memsw.limit_in_bytes", "", "3000000"),
    ("memory", "memory.soft_limit_in_bytes", "", "500000"),
    ("memory", "memory.kmem.tcp.limit_in_bytes", "", "700"),
    ("memory", "memory.swappiness", "", "10"),
    ("memory", "memory.oom_control", "", "1"),
    ("cpu", "cpu.shares", "", "512"),
    ("cpu", "cpu.cfs_period_us", "", "50000"),
    ("cpu", "cpu.cfs_quota_us", "", "20000"),
    ("cpu", "cpu.cfs_burst_us", "", "100"),
    ("cpu", "cpu.rt_period_us", "", "1000000"),
    ("cpu", "cpu.rt_runtime_us", "", "950000"),
    ("cpu", "cpu.idle", "", "0"),
    ("cpuset", "cpuset.cpus", "", "0-1"),
    ("cpuset", "cpuset.mems", "", "0"),
    ("pids", "pids.max", "", "99"),
    ("blkio", "blkio.weight", "", "300"),
    ("blkio", "blkio.leaf_weight", "", "200"),
    ("blkio", "blkio.weight_device", "", "8:0 400"),
    ("blkio", "blkio.leaf_weight_device", "", "8:0 500"),
    ("hugetlb", "hugetlb.2MB.limit_in_bytes", "", "4194304"),
    ("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "", "4194304"),
    ("rdma", "rdma.max", "", "mlx5 hca_handle=3 hca_object=max"),
    ("net_cls", "net_cls.classid", "", "7"),
    ("net_prio", "net_prio.ifpriomap", "", "eth0 5"),
];

const THROTTLES: [&str; 4] = ["read_bps", "write_bps", "read_iops", "write_iops"];

/// A value of every field.
fn everything() -> LinuxResources {
    let throttle = |rate: u64| json!([{ "major": 8, "minor": 16, "rate": rate }]);
    let resources = json!({
        "memory": {
            "limit": 1_000_000, "reservation": 500_000, "swap": 3_000_000, "kernelTCP": 700, "swappiness": 10,
            "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true,
        },
        "cpu": {
            "shares": 512, "quota": 20_000, "burst": 100, "period": 50_000, "realtimeRuntime": 950_000,
            "realtimePeriod": 1_000_000, "cpus": "0-1", "mems": "0", "idle": 0,
        },
        "pids": { "limit": 99 },
        "blockIO": {
            "weight": 300, "leafWeight": 200,
            "weightDevice": [{ "major": 8, "minor": 0, "weight": 400, "leafWeight": 500 }],
            "throttleReadBpsDevice": throttle(1), "throttleWriteBpsDevice": throttle(2),
            "throttleReadIOPSDevice": throttle(3), "throttleWriteIOPSDevice": throttle(4),
        },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
        "rdma": { "mlx5": { "hcaHandles": 3 } },
        "network": { "classID": 7, "priorities": [{ "name": "eth0", "priority": 5 }] },
    });
    serde_json::from_value(resources).unwrap()
}

#[test]
fn every_field_has_its_file_in_version_1() {
    let scratch = tempfile::tempdir().unwrap();
    let mut directories = BTreeMap::new();
    for (controller, name, before, _) in FILES {
        let directory = scratch.path().join(controller);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), before).unwrap();
        directories.insert(controller, directory);
    }
    for kind in THROTTLES {
        let name = format!("blkio.throttle.{kind}_device");
        fs::write(directories["blkio"].join(name), "").unwrap();
    }
    let directory_of = |(controller, directory): (&&str, &std::path::PathBuf)| Group {
        hierarchy: (*controller).to_owned(),
        directory: directory.clone(),
    };
    let groups = Groups {
        groups: directories.iter().map(directory_of).collect(),
    };
    groups.update(&everything()).unwrap();
    for (controller, name, _, after) in FILES {
        let is = fs::read_to_string(directories[controller].join(name)).unwrap();
        assert_eq!(is, after, "{name}");
    }
    for (rate, kind) in (1..).zip(THROTTLES) {
        let name = format!("blkio.throttle.{kind}_device");
        let is = fs::read_to_string(directories["blkio"].join(&name)).unwrap();
        assert_eq!(is, format!("8:16 {rate}"), "{name}");
    }
    // Below what is used already; and what version 1 does not have.
    fs::write(
        directories["memory"].join("memory.usage_in_bytes"),
        "2000000",
    )
    .unwrap();
    for (wrong, words) in [
        (
            json!({ "memory": { "limit": 1_000_000, "checkBeforeUpdate": true } }),
            "is below the 2000000 bytes",
        ),
        (
            json!({ "unified": { "memory.max": "1" } }),
            "linux.resources.unified",
        ),
    ] {
        let wrong = serde_json::from_value(wrong).unwrap();
        let error = groups.update(&wrong).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
