//! Every field of `linux.resources` and the file that it is written to, with plain files in the kernel's place: few
//! machines have all controllers.

use std::fs;

use serde_json::{Value, json};

use super::{Group, delegated};

const FILES: [&str; 20] = [
    "memory.current",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "io.max",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "rdma.max",
    "misc.max",
    "memory.of_tomorrow",
    "cgroup.procs",
    "cgroup.controllers",
];

/// A directory with all files, empty.
struct Fake {
    scratch: tempfile::TempDir,
    group: Group,
}

impl Fake {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let group = Group {
            directory: scratch.path().to_owned(),
        };
        let fake = Self { scratch, group };
        fake.empty();
        fake
    }

    fn empty(&self) {
        for name in FILES {
            fs::write(self.scratch.path().join(name), "").unwrap();
        }
        let list = "cpu cpuset io memory hugetlb pids rdma misc";
        fs::write(self.scratch.path().join("cgroup.controllers"), list).unwrap();
    }

    fn update(&self, resources: &Value) -> crate::error::Result<()> {
        let resources = serde_json::from_value(resources.clone()).unwrap();
        self.group.update(&resources)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path().join(name)).unwrap()
    }
}

/// Files and what is written to them.
type Written = &'static [(&'static str, &'static str)];

fn cases() -> Vec<(Value, Written)> {
    let memory =
        json!({ "memory": { "limit": 1_000_000, "swap": 3_000_000, "reservation": 500_000 } });
    let cpu = json!({ "cpu": {
        "shares": 1024, "quota": 20_000, "burst": 100, "period": 50_000, "cpus": "0-1", "mems": "0", "idle": 0,
    } });
    let others = json!({
        "pids": { "limit": 99 },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
        "rdma": { "mlx5": { "hcaObjects": 4 } },
        // What the runtime does not know is written all the same.
        "unified": { "misc.max": "x 1", "memory.of_tomorrow": "7" },
    });
    let weight = json!({ "blockIO": { "weight": 500 } });
    let weight_of_device =
        json!({ "blockIO": { "weightDevice": [{ "major": 8, "minor": 0, "weight": 500 }] } });
    vec![
        (
            memory,
            &[
                ("memory.max", "1000000"),
                ("memory.swap.max", "2000000"),
                ("memory.low", "500000"),
            ],
        ),
        (
            cpu,
            &[
                ("cpu.weight", "39"),
                ("cpu.max", "20000 50000"),
                ("cpu.max.burst", "100"),
                ("cpu.idle", "0"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
            ],
        ),
        (
            others,
            &[
                ("pids.max", "99"),
                ("hugetlb.2MB.max", "4194304"),
                ("hugetlb.2MB.rsvd.max", "4194304"),
                ("rdma.max", "mlx5 hca_handle=max hca_object=4"),
                ("misc.max", "x 1"),
                ("memory.of_tomorrow", "7"),
            ],
        ),
        (weight, &[("io.weight", "4950")]),
        (weight_of_device, &[("io.weight", "8:0 4950")]),
        // An empty value is one too: the kernel's "no restriction".
        (
            json!({ "unified": { "cpuset.cpus": "" } }),
            &[("cpuset.cpus", "\n")],
        ),
    ]
}

#[test]
fn every_field_has_its_file_in_version_2() {
    let fake = Fake::new();
    for (resources, files) in cases() {
        fake.empty();
        fake.update(&resources).unwrap();
        let written: Vec<(&str, String)> = FILES
            .into_iter()
            .filter(|name| *name != "cgroup.controllers")
            .map(|name| (name, fake.read(name)))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let mut wanted: Vec<(&str, String)> = files
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()))
            .collect();
        wanted.sort_by_key(|(name, _)| FILES.iter().position(|file| file == name));
        assert_eq!(written, wanted, "{resources}");
    }
    for (field, key) in [
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ] {
        fake.empty();
        let limit = json!([{ "major": 8, "minor": 16, "rate": 9 }]);
        fake.update(&json!({ "blockIO": { field: limit } }))
            .unwrap();
        assert_eq!(fake.read("io.max"), format!("8:16 {key}=9"));
    }
}

#[test]
fn what_version_2_does_not_have_is_refused_by_name() {
    let fake = Fake::new();
    fs::write(fake.scratch.path().join("memory.current"), "2000000").unwrap();
    for (resources, words) in [
        (json!({ "memory": { "kernelTCP": 1 } }), "memory.kernelTCP"),
        (
            json!({ "memory": { "swappiness": 1 } }),
            "memory.swappiness",
        ),
        (
            json!({ "memory": { "disableOOMKiller": true } }),
            "memory.disableOOMKiller",
        ),
        (
            json!({ "memory": { "useHierarchy": false } }),
            "memory.useHierarchy",
        ),
        (
            json!({ "cpu": { "realtimeRuntime": 1 } }),
            "cpu.realtimeRuntime",
        ),
        (
            json!({ "cpu": { "realtimePeriod": 1 } }),
            "cpu.realtimeRuntime",
        ),
        (
            json!({ "blockIO": { "leafWeight": 10 } }),
            "blockIO.leafWeight",
        ),
        (json!({ "network": { "classID": 1 } }), "resources.network"),
        (
            json!({ "memory": { "limit": 1, "checkBeforeUpdate": true } }),
            "is below the 2000000 bytes",
        ),
        // A controller that is not there, and one that is there without that file.
        (
            json!({ "unified": { "nowhere.max": "1" } }),
            "the nowhere controller of cgroup version 2 is not supported",
        ),
        (
            json!({ "hugepageLimits": [{ "pageSize": "1GB", "limit": 1 }] }),
            "hugetlb.1GB.max",
        ),
    ] {
        let error = fake.update(&resources).unwrap_err().to_string();
        assert!(error.contains(words), "{resources}: {error}");
    }
}

#[test]
fn a_group_is_given_away_with_the_files_that_it_has_of_those_that_may_be() {
    let fallback = delegated(std::path::Path::new("/nowhere"));
    let files: Vec<&str> = fallback.lines().collect();
    assert_eq!(
        files,
        ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    );
    let fake = Fake::new();
    // Of the three it has one.
    let own = rustix::process::geteuid().as_raw();
    fake.group.give_to(own).unwrap();
}
