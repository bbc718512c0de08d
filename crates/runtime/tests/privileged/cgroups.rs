//! Cgroups: limits that bite, devices, updates. The same cases for versions 1 and 2.

use std::time::Duration;

use ketch_runtime::Exit;
use ketch_runtime::cgroup::{Cgroup, is_unified};
use ketch_spec::runtime::{Cpu, DeviceRule, LinuxDevice, LinuxResources, Memory, Pids};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Case;
use crate::world::{Change, TestCgroup, World};

pub const CASES: &[Case] = &[
    ("privileged_limits_are_in_effect", limits_are_in_effect),
    (
        "privileged_memory_limit_kills_and_is_told",
        memory_limit_kills,
    ),
    ("privileged_pids_limit_bites", pids_limit),
    ("privileged_device_rules", device_rules),
    (
        "privileged_limits_that_depend_on_each_other",
        limits_that_depend_on_each_other,
    ),
    (
        "privileged_memory_in_all_its_fields",
        memory_in_all_its_fields,
    ),
    ("privileged_unified_files", unified_files),
    ("privileged_failed_limits_leave_no_cgroup", failed_limits),
    ("privileged_update_changes_limits", update_changes_limits),
    (
        "privileged_update_brings_a_controller",
        update_brings_a_controller,
    ),
];

pub fn read(cgroup: &Cgroup, v1: &str, v2: &str) -> String {
    let path = if is_unified() {
        format!("/sys/fs/cgroup{}/{v2}", cgroup.path())
    } else {
        let (controller, file) = v1.split_once('/').unwrap();
        format!("/sys/fs/cgroup/{controller}{}/{file}", cgroup.path())
    };
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .trim()
        .to_owned()
}

pub fn memory(limit: i64) -> LinuxResources {
    let memory = Memory {
        limit: Some(limit),
        ..Memory::default()
    };
    LinuxResources {
        memory: Some(memory),
        ..LinuxResources::default()
    }
}

fn limits_are_in_effect() {
    let cpu = Cpu {
        quota: Some(50_000),
        period: Some(100_000),
        shares: Some(512),
        cpus: "0".into(),
        ..Cpu::default()
    };
    let resources = LinuxResources {
        cpu: Some(cpu),
        pids: Some(Pids { limit: 50 }),
        ..memory(64 << 20)
    };
    let cgroup = TestCgroup::new("limits", &resources);
    assert_eq!(
        read(&cgroup.0, "memory/memory.limit_in_bytes", "memory.max"),
        "67108864"
    );
    assert_eq!(read(&cgroup.0, "pids/pids.max", "pids.max"), "50");
    assert_eq!(read(&cgroup.0, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    if is_unified() {
        assert_eq!(read(&cgroup.0, "", "cpu.max"), "50000 100000");
        assert_eq!(read(&cgroup.0, "", "cpu.weight"), "20");
    } else {
        assert_eq!(read(&cgroup.0, "cpu/cpu.cfs_quota_us", ""), "50000");
        assert_eq!(read(&cgroup.0, "cpu/cpu.shares", ""), "512");
    }
    let world = World::new();
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    assert_eq!(
        world.run_in(&world.spec(script), Some(&cgroup.0)).ok(),
        "0\n"
    );
}

fn memory_limit_kills() {
    let world = World::new();
    let mut resources = memory(16 << 20);
    if ketch_runtime::cgroup::limits_swap() {
        resources.memory.as_mut().unwrap().swap = Some(16 << 20);
    }
    let cgroup = TestCgroup::new("memory", &resources);
    let watch = cgroup
        .0
        .watch_out_of_memory()
        .unwrap()
        .expect("a memory controller");
    assert_eq!(cgroup.0.out_of_memory_kills().unwrap(), 0);
    // tail keeps the last line whole in memory, and there is only one.
    let spec = world.spec("exec tail /dev/zero");
    let outcome = world.run_in(&spec, Some(&cgroup.0));
    assert_eq!(outcome.exit, Exit::Signal(9));
    assert_eq!(cgroup.0.out_of_memory_kills().unwrap(), 1);
    let deadline = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&deadline)).unwrap();
    assert_eq!(ready, 1, "the watch tells of it");
    // The kernel tells of events that follow each other within 10 ms once more, after that time.
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    let is_quiet = || {
        watch.acknowledge().unwrap();
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&moment)).unwrap() == 0
    };
    assert!(
        (0..20).any(|_| is_quiet()),
        "what was told is not told again"
    );
}

fn pids_limit() {
    let world = World::new();
    let resources = LinuxResources {
        pids: Some(Pids { limit: 3 }),
        ..LinuxResources::default()
    };
    let cgroup = TestCgroup::new("pids", &resources);
    let script = "for i in 1 2 3 4 5 6; do sleep 1000 & done; kill -9 -1";
    let outcome = world.run_in(&world.spec(script), Some(&cgroup.0));
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
}

fn rule(allow: bool, kind: &str, numbers: Option<(i64, i64)>, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: kind.into(),
        major: numbers.map(|(major, _)| major),
        minor: numbers.map(|(_, minor)| minor),
        access: access.into(),
    }
}

/// A device without a driver: what the rules refuse is not permitted, what they allow does not exist.
fn device_rules() {
    let world = World::new();
    let devices = vec![
        rule(false, "a", None, "rwm"),
        rule(true, "c", Some((4000, 1)), "r"),
        rule(true, "c", Some((4000, 3)), "r"),
        rule(true, "c", Some((4000, 3)), "w"),
    ];
    let resources = LinuxResources {
        devices,
        ..LinuxResources::default()
    };
    let cgroup = TestCgroup::new("devices", &resources);
    let script = "echo > /dev/null && echo null; head -c 1 /dev/zero | wc -c; mknod /tmp/b b 8 0 && echo made; \
                  cat /dev/d1; echo > /dev/d1; cat /dev/d2; echo 1<> /dev/d3; cat /tmp/b";
    let mut spec = world.spec(script);
    let node = |minor| LinuxDevice {
        path: format!("/dev/d{minor}"),
        kind: "c".into(),
        major: 4000,
        minor,
        ..LinuxDevice::default()
    };
    spec.linux_mut().devices = [1, 2, 3].map(node).to_vec();
    let outcome = world.run_in(&spec, Some(&cgroup.0));
    assert_eq!(outcome.stdout, "null\n1\nmade\n", "{outcome:?}");
    let told = |text| outcome.stderr.matches(text).count();
    assert_eq!(told("Operation not permitted"), 3, "{outcome:?}");
    assert_eq!(told("No such device or address"), 2, "{outcome:?}");
    let partly = LinuxResources {
        devices: vec![
            rule(true, "c", Some((4000, -1)), "rw"),
            rule(false, "c", Some((4000, 1)), "w"),
        ],
        ..LinuxResources::default()
    };
    let path = format!("/ketch-test-{}/partly", std::process::id());
    match Cgroup::create(&path, &partly) {
        Err(error) => assert!(
            !is_unified() && error.to_string().contains("cannot take"),
            "{error}"
        ),
        Ok(cgroup) => {
            assert!(is_unified());
            cgroup.remove(Duration::ZERO).unwrap();
        }
    }
}

/// Limits that change together, and in which order.
fn limits_that_depend_on_each_other() {
    let cpu = |quota, burst, idle| Cpu {
        quota,
        burst,
        idle,
        ..Cpu::default()
    };
    let with = |cpu| LinuxResources {
        cpu: Some(cpu),
        ..LinuxResources::default()
    };
    let mut cgroup = TestCgroup::new("depend", &with(cpu(Some(50_000), Some(20_000), None)));
    let quota = |cgroup: &Cgroup| read(cgroup, "cpu/cpu.cfs_quota_us", "cpu.max");
    let burst = |cgroup: &Cgroup| read(cgroup, "cpu/cpu.cfs_burst_us", "cpu.max.burst");
    for (new_quota, new_burst) in [(200_000, 150_000), (10_000, 5_000), (300_000, 300_000)] {
        cgroup
            .0
            .update(&with(cpu(Some(new_quota), Some(new_burst), None)))
            .unwrap();
        assert_eq!(
            quota(&cgroup.0).split(' ').next(),
            Some(new_quota.to_string().as_str())
        );
        assert_eq!(burst(&cgroup.0), new_burst.to_string());
    }
    let period = Cpu {
        period: Some(500_000),
        ..Cpu::default()
    };
    cgroup.0.update(&with(period)).unwrap();
    assert!(quota(&cgroup.0).starts_with("300000"), "the quota stays");
    let idle = Cpu {
        shares: Some(512),
        ..cpu(None, None, Some(1))
    };
    cgroup.0.update(&with(idle)).unwrap();
    assert_eq!(read(&cgroup.0, "cpu/cpu.idle", "cpu.idle"), "1");
    let busy = Cpu {
        shares: Some(512),
        ..cpu(None, None, Some(0))
    };
    cgroup.0.update(&with(busy)).unwrap();
    let weight = read(&cgroup.0, "cpu/cpu.shares", "cpu.weight");
    assert_eq!(weight, if is_unified() { "20" } else { "512" });
    let few = Cpu {
        shares: Some(1),
        ..Cpu::default()
    };
    match cgroup.0.update(&with(few)) {
        Err(error) => assert!(
            !is_unified() && error.to_string().contains("the least is 2"),
            "{error}"
        ),
        Ok(()) => assert!(is_unified()),
    }
}

fn memory_in_all_its_fields() {
    let all = Memory {
        limit: Some(64 << 20),
        reservation: Some(32 << 20),
        kernel: Some(1 << 20),
        ..Memory::default()
    };
    let with = |memory| LinuxResources {
        memory: Some(memory),
        ..LinuxResources::default()
    };
    assert_eq!(ketch_runtime::cgroup::warnings(&with(all.clone())).len(), 1);
    let mut cgroup = TestCgroup::new("fields", &with(all));
    let reservation = read(&cgroup.0, "memory/memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(reservation, "33554432");
    let world = World::new();
    let _container = world.sleeper(&world.spec("echo; exec sleep 1000"), Some(&cgroup.0));
    let careful = Memory {
        limit: Some(4096),
        check_before_update: Some(true),
        ..Memory::default()
    };
    let error = cgroup.0.update(&with(careful)).unwrap_err().to_string();
    assert!(error.contains("checkBeforeUpdate"), "{error}");
    // 0 is not given, -1 is without limit.
    for (given, expected) in [(0, "67108864"), (-1, "max")] {
        cgroup.0.update(&memory(given)).unwrap();
        let limit = read(&cgroup.0, "memory/memory.limit_in_bytes", "memory.max");
        let is = if is_unified() || given == 0 {
            limit
        } else {
            "max".into()
        };
        assert_eq!(is, expected);
    }
    let swappiness = Memory {
        swappiness: Some(10),
        ..Memory::default()
    };
    match cgroup.0.update(&with(swappiness)) {
        Err(error) => assert!(
            is_unified() && error.to_string().contains("memory.swappiness"),
            "{error}"
        ),
        Ok(()) => assert_eq!(read(&cgroup.0, "memory/memory.swappiness", ""), "10"),
    }
}

/// `unified`: files of version 2 by their names.
fn unified_files() {
    let path = format!("/ketch-test-{}/unified", std::process::id());
    let with = |pairs: &[(&str, &str)]| LinuxResources {
        unified: pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        ..LinuxResources::default()
    };
    let resources = with(&[
        ("memory.high", "33554432"),
        ("pids.max", "77"),
        ("cgroup.max.depth", "3"),
    ]);
    if !is_unified() {
        let error = Cgroup::create(&path, &resources).unwrap_err().to_string();
        assert!(
            error.contains("linux.resources.unified is not supported"),
            "{error}"
        );
        return;
    }
    let mut cgroup = TestCgroup::new("unified", &resources);
    assert_eq!(read(&cgroup.0, "", "memory.high"), "33554432");
    assert_eq!(read(&cgroup.0, "", "pids.max"), "77");
    assert_eq!(read(&cgroup.0, "", "cgroup.max.depth"), "3");
    for (name, told) in [
        (
            "nothing.max",
            "the nothing controller of cgroup version 2 is not supported",
        ),
        ("memory.nothing", "memory.nothing"),
        ("../memory.high", "no name of a file"),
    ] {
        let error = cgroup
            .0
            .update(&with(&[(name, "1")]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{error}");
    }
}

fn failed_limits() {
    let path = format!("/ketch-test-{}/failed", std::process::id());
    let cpu = Cpu {
        cpus: "999".into(),
        ..Cpu::default()
    };
    let resources = LinuxResources {
        cpu: Some(cpu),
        ..LinuxResources::default()
    };
    let error = Cgroup::create(&path, &resources).unwrap_err().to_string();
    assert!(
        error.starts_with("set a limit: write \"999\" to /sys/fs/cgroup"),
        "{error}"
    );
    assert!(!Cgroup::open(&path).unwrap().exists());
    let mut resources = LinuxResources::default();
    resources.unified.insert("no/file".into(), "1".into());
    assert!(Cgroup::create(&path, &resources).is_err());
    assert!(!Cgroup::open(&path).unwrap().exists());
}

fn update_changes_limits() {
    let mut cgroup = TestCgroup::new("update", &memory(64 << 20));
    cgroup.0.update(&memory(32 << 20)).unwrap();
    assert_eq!(
        read(&cgroup.0, "memory/memory.limit_in_bytes", "memory.max"),
        "33554432"
    );
    let mut opened = Cgroup::open(cgroup.0.path()).unwrap();
    opened.update(&memory(48 << 20)).unwrap();
    assert_eq!(cgroup.0.stats().unwrap().memory_limit_bytes, Some(48 << 20));
}

/// A limit that no other one has needed a controller for.
fn update_brings_a_controller() {
    let mut cgroup = TestCgroup::new("bring", &LinuxResources::default());
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    for (_, directory) in cgroup.0.directories() {
        std::fs::write(directory.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    let cpu = Cpu {
        shares: Some(512),
        cpus: "0".into(),
        ..Cpu::default()
    };
    let resources = LinuxResources {
        cpu: Some(cpu),
        ..LinuxResources::default()
    };
    cgroup.0.update(&resources).unwrap();
    for file in ["cpu/cgroup.procs", "cpuset/cgroup.procs"] {
        assert_eq!(
            read(&cgroup.0, file, "cgroup.procs"),
            child.id().to_string(),
            "{file}"
        );
    }
    assert_eq!(read(&cgroup.0, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    child.kill().unwrap();
    child.wait().unwrap();
}
