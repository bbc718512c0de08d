//! Limits: in the files, and in what systemd knows of them.

use serde_json::{Value, json};

use super::Scopes;

/// What is asked for; files and properties then.
type Case = (
    Value,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

fn cases() -> Vec<Case> {
    vec![
        (
            json!({ "memory": { "limit": 67108864, "swap": 100663296, "reservation": 33554432 } }),
            &[("memory.max", "67108864"), ("memory.low", "33554432")],
            &[
                ("MemoryMax", "67108864"),
                ("MemoryLow", "33554432"),
                ("MemorySwapMax", "33554432"),
            ],
        ),
        (
            json!({ "memory": { "limit": -1, "swap": -1 } }),
            &[("memory.max", "max")],
            &[("MemoryMax", "infinity"), ("MemorySwapMax", "infinity")],
        ),
        (
            json!({ "cpu": { "shares": 512, "quota": 25000, "period": 50000 } }),
            &[("cpu.weight", "20"), ("cpu.max", "25000 50000")],
            &[
                ("CPUWeight", "20"),
                ("CPUQuotaPerSecUSec", "500ms"),
                ("CPUQuotaPeriodUSec", "50ms"),
            ],
        ),
        // systemd counts in hundredths.
        (
            json!({ "cpu": { "quota": 33333, "period": 100000 } }),
            &[("cpu.max", "33333 100000")],
            &[
                ("CPUQuotaPerSecUSec", "340ms"),
                ("CPUQuotaPeriodUSec", "100ms"),
            ],
        ),
        (
            json!({ "cpu": { "quota": -1 } }),
            &[("cpu.max", "max 100000")],
            &[("CPUQuotaPerSecUSec", "infinity")],
        ),
        (
            json!({ "cpu": { "period": 200000 } }),
            &[("cpu.max", "max 200000")],
            &[
                ("CPUQuotaPerSecUSec", "infinity"),
                ("CPUQuotaPeriodUSec", "200ms"),
            ],
        ),
        (
            json!({ "cpu": { "cpus": "0-1", "mems": "0" } }),
            &[("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
            &[("AllowedCPUs", "0-1"), ("AllowedMemoryNodes", "0")],
        ),
        (
            json!({ "cpu": { "idle": 1 } }),
            &[("cpu.idle", "1")],
            &[("CPUWeight", "idle")],
        ),
        (
            json!({ "pids": { "limit": 50 } }),
            &[("pids.max", "50")],
            &[("TasksMax", "50")],
        ),
        (
            json!({ "pids": { "limit": -1 } }),
            &[("pids.max", "max")],
            &[("TasksMax", "infinity")],
        ),
        (
            json!({ "unified": {
                "memory.max": "70000000\n", "memory.high": "60002304", "memory.low": "4096", "memory.min": "8192",
                "memory.swap.max": "12288", "pids.max": "max", "cpu.weight": "77", "cpu.max": "10000 100000",
                "cpuset.cpus": "1", "cpuset.mems": "0",
            } }),
            &[
                ("memory.high", "60002304"),
                ("memory.low", "4096"),
                ("memory.min", "8192"),
                ("pids.max", "max"),
                ("cpu.weight", "77"),
                ("cpu.max", "10000 100000"),
                ("cpuset.cpus", "1"),
            ],
            &[
                ("MemoryMax", "70000000"),
                ("MemoryHigh", "60002304"),
                ("MemoryLow", "4096"),
                ("MemoryMin", "8192"),
                ("MemorySwapMax", "12288"),
                ("TasksMax", "infinity"),
                ("CPUWeight", "77"),
                ("CPUQuotaPerSecUSec", "100ms"),
                ("AllowedCPUs", "1"),
                ("AllowedMemoryNodes", "0"),
            ],
        ),
        (
            json!({ "unified": { "cpu.max": "max" } }),
            &[("cpu.max", "max 100000")],
            &[("CPUQuotaPerSecUSec", "infinity")],
        ),
        (
            json!({ "unified": { "cpu.idle": "1" } }),
            &[("cpu.idle", "1")],
            &[("CPUWeight", "idle")],
        ),
        // What systemd has no word for.
        (
            json!({ "unified": { "memory.oom.group": "1", "pids.max": "60" } }),
            &[("memory.oom.group", "1"), ("pids.max", "60")],
            &[("TasksMax", "60")],
        ),
    ]
}

fn check(scopes: &Scopes, unit: &str, case: &Case, when: &str) {
    let (asked, files, properties) = case;
    for (file, value) in *files {
        assert_eq!(&scopes.read(unit, file), value, "{file} {when} {asked}");
    }
    let known = scopes.show(unit);
    for (name, value) in *properties {
        let told = known.get(*name).map(String::as_str);
        assert_eq!(told, Some(*value), "{name} {when} {asked}");
    }
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_limits_of_new_containers_are_known_to_systemd() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    for case in cases() {
        let bundle = scopes.bundle(|config| {
            config["linux"]["resources"] = case.0.clone();
        });
        scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
        check(&scopes, &unit, &case, "after create of");
        world.runtime(["delete", &id]).ok();
        std::fs::remove_dir_all(&bundle.directory).unwrap();
    }
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_changed_limits_are_known_to_systemd_and_stay() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|_| ());
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    scopes
        .runtime(&["run", "-d", "-b", bundle.path(), &id])
        .ok();
    let file = world.path().join("resources.json");
    for case in cases() {
        std::fs::write(&file, case.0.to_string()).unwrap();
        world
            .runtime(["update", "-r", file.to_str().unwrap(), &id])
            .ok();
        let fresh = case.0["cpu"]["period"].is_null() || !case.0["cpu"]["quota"].is_null();
        if fresh {
            check(&scopes, &unit, &case, "after update to");
        }
        if !case.0["cpu"]["idle"].is_null() || !case.0["unified"]["cpu.idle"].is_null() {
            world.runtime(["update", "--cpu-idle", "0", &id]).ok();
            world.runtime(["update", "--cpu-share", "1024", &id]).ok();
            assert_eq!(scopes.read(&unit, "cpu.idle"), "0");
            assert_eq!(scopes.property(&unit, "CPUWeight"), "39");
        }
    }
    let before = scopes.show(&unit);
    scopes.systemctl(&["daemon-reload"]);
    let after = scopes.show(&unit);
    for name in [
        "MemoryMax",
        "CPUWeight",
        "CPUQuotaPerSecUSec",
        "TasksMax",
        "AllowedCPUs",
        "MemoryHigh",
    ] {
        assert_eq!(before[name], after[name], "{name}");
    }
    assert_eq!(scopes.read(&unit, "pids.max"), "60");
    world.runtime(["delete", "--force", &id]).ok();
    scopes.end();
}

/// Weights and throttles of block devices, where the kernel has the files.
#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_limits_of_block_devices() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    let device = std::fs::read_to_string("/sys/block/vda/dev").expect("a block device");
    let (major, minor) = device.trim().split_once(':').unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    let bundle = scopes.bundle(|config| {
        config["linux"]["resources"]["blockIO"] = json!({
            "weight": 500,
            "throttleReadBpsDevice": [{ "major": number(major), "minor": number(minor), "rate": 1048576 }],
        });
    });
    scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
    assert!(scopes.read(&unit, "io.max").contains("rbps=1048576"));
    let files = ["io.bfq.weight", "io.weight"];
    let set = files
        .iter()
        .find(|file| scopes.group(&unit).join(file).exists());
    let weight = scopes.read(&unit, set.expect("a file of weights"));
    scopes.systemctl(&["daemon-reload"]);
    assert_eq!(scopes.read(&unit, set.unwrap()), weight);
    assert!(scopes.read(&unit, "io.max").contains("rbps=1048576"));
    world.runtime(["update", "--blkio-weight", "300", &id]).ok();
    assert_ne!(scopes.read(&unit, set.unwrap()), weight);
    world.runtime(["delete", &id]).ok();
    scopes.end();
}
