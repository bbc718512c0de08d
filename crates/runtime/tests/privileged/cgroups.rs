//! Cgroups: limits that bite, freezing, killing, statistics, devices, removal. The same cases for versions 1 and 2.

use std::path::Path;
use std::time::{Duration, Instant};

use ketch_runtime::cgroup::{Cgroup, is_unified};
use ketch_runtime::{Error, Exit};
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
    ("privileged_container_sees_its_own_cgroup", own_view),
    ("privileged_freeze_and_thaw", freeze_and_thaw),
    (
        "privileged_kill_reaches_everything",
        kill_reaches_everything,
    ),
    ("privileged_statistics", statistics),
    (
        "privileged_cgroup_is_removed_with_its_parent",
        removed_with_its_parent,
    ),
    (
        "privileged_processes_that_stay_are_told",
        processes_that_stay,
    ),
    ("privileged_failed_limits_leave_no_cgroup", failed_limits),
    ("privileged_update_changes_limits", update_changes_limits),
];

fn read(cgroup: &Cgroup, v1: &str, v2: &str) -> String {
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

fn memory(limit: i64) -> LinuxResources {
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
    watch.acknowledge().unwrap();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&now)).unwrap(),
        0
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

fn device_rules() {
    let world = World::new();
    let devices = vec![
        rule(false, "a", None, "rwm"),
        rule(true, "c", None, "m"),
        rule(true, "c", Some((1, 3)), "rwm"),
        rule(true, "c", Some((1, 5)), "r"),
    ];
    let resources = LinuxResources {
        devices,
        ..LinuxResources::default()
    };
    let cgroup = TestCgroup::new("devices", &resources);
    let script = "echo > /dev/null && echo null; head -c 1 /dev/zero | wc -c; echo > /dev/zero; \
                  head -c 1 /dev/full; mknod /tmp/zero c 1 5 && echo made; mknod /tmp/b b 8 0";
    let mut spec = world.spec(script);
    spec.linux_mut().devices = vec![LinuxDevice {
        path: "/dev/x".into(),
        kind: "c".into(),
        major: 1,
        minor: 11,
        ..LinuxDevice::default()
    }];
    let outcome = world.run_in(&spec, Some(&cgroup.0));
    assert_eq!(outcome.stdout, "null\n1\nmade\n", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Operation not permitted").count(),
        3,
        "{outcome:?}"
    );
    assert!(world.sh("head -c 1 /dev/full | wc -c").ok() == "1\n");
}

fn own_view() {
    let world = World::new();
    let cgroup = TestCgroup::new("view", &memory(64 << 20));
    let script = if is_unified() {
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; mkdir /sys/fs/cgroup/x"
    } else {
        "grep memory: /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; \
         mkdir /sys/fs/cgroup/memory/x; ls /sys/fs/cgroup/devices 2> /dev/null"
    };
    let outcome = world.run_in(&world.spec(script), Some(&cgroup.0));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines[0].ends_with(":/"), "{outcome:?}");
    assert_eq!(lines[1..], ["67108864"], "{outcome:?}");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    // Without a namespace of its own it sees the same through a bind.
    let mut spec = world.spec(script);
    spec.linux_mut()
        .namespaces
        .retain(|namespace| namespace.kind != ketch_spec::runtime::NamespaceKind::Cgroup);
    if !is_unified() {
        let outcome = world.run_in(&spec, Some(&cgroup.0));
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert!(lines[0].ends_with("/view"), "{outcome:?}");
        assert_eq!(lines[1..], ["67108864"], "{outcome:?}");
    }
}

fn freeze_and_thaw() {
    let world = World::new();
    let cgroup = TestCgroup::new("freeze", &LinuxResources::default());
    let mut container = world.sleeper(
        &world.spec("trap 'exit 5' TERM; echo; while true; do sleep 1000 & wait $!; done"),
        Some(&cgroup.0),
    );
    cgroup.0.freeze().unwrap();
    container.kill(15).unwrap();
    let pidfd = container.pidfd();
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    assert_eq!(
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&moment)).unwrap(),
        0
    );
    cgroup.0.thaw().unwrap();
    assert_eq!(container.wait().unwrap(), Exit::Code(5));
    // And once more, to kill what is frozen.
    let mut container = world.sleeper(&world.spec("echo; exec sleep 1000"), Some(&cgroup.0));
    cgroup.0.freeze().unwrap();
    cgroup.0.kill().unwrap();
    assert_eq!(container.wait().unwrap(), Exit::Signal(9));
}

/// Without a pid namespace the end of the first process is not the end of the others.
fn kill_reaches_everything() {
    let world = World::new();
    let cgroup = TestCgroup::new("kill", &LinuxResources::default());
    let mut spec = world.spec("for i in 1 2 3 4 5; do sleep 1000 & done; echo; exit 0");
    spec.linux_mut()
        .namespaces
        .retain(|namespace| namespace.kind != ketch_spec::runtime::NamespaceKind::Pid);
    spec.linux_mut().readonly_paths.clear();
    let mut container = world.sleeper(&spec, Some(&cgroup.0));
    container.wait().unwrap();
    assert_eq!(cgroup.0.processes().unwrap().len(), 5);
    cgroup.0.kill().unwrap();
    cgroup.0.remove(Duration::from_secs(10)).unwrap();
    assert!(!cgroup.0.exists());
}

fn statistics() {
    let world = World::new();
    let cgroup = TestCgroup::new("stats", &memory(64 << 20));
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; exec sleep 1000";
    let _container = world.sleeper(&world.spec(script), Some(&cgroup.0));
    let stats = cgroup.0.stats().unwrap();
    assert!(stats.cpu_ns > 0 && stats.memory_bytes > 0, "{stats:?}");
    assert_eq!(stats.memory_limit_bytes, Some(64 << 20));
    assert_eq!((stats.tasks, stats.tasks_limit), (1, None));
    assert!(stats.memory_details.len() > 10);
}

fn removed_with_its_parent() {
    let world = World::new();
    let cgroup = TestCgroup::new("a", &memory(64 << 20));
    let path = cgroup.0.path().to_owned();
    let parent = path.rsplit_once('/').unwrap().0.to_owned();
    let second = TestCgroup::new("b", &LinuxResources::default());
    let exists = |path: &str| {
        let below = ["", "memory", "freezer", "pids", "cpuacct"];
        below.iter().any(|name| {
            Path::new("/sys/fs/cgroup")
                .join(name)
                .join(&path[1..])
                .exists()
        })
    };
    world.run_in(&world.spec("true"), Some(&cgroup.0)).ok();
    cgroup.0.remove(Duration::from_secs(10)).unwrap();
    assert!(!exists(&path) && exists(&parent));
    drop(second);
    assert!(!exists(&parent));
    cgroup.0.remove(Duration::ZERO).unwrap();
    assert!(!Cgroup::open(&path).unwrap().exists());
    assert_eq!(cgroup.0.processes().unwrap(), Vec::<u32>::new());
}

fn processes_that_stay() {
    let world = World::new();
    let cgroup = TestCgroup::new("stay", &LinuxResources::default());
    let _container = world.sleeper(&world.spec("echo; exec sleep 1000"), Some(&cgroup.0));
    let begin = Instant::now();
    let error = cgroup.0.remove(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(begin.elapsed() >= Duration::from_millis(50));
    assert!(Cgroup::open(cgroup.0.path()).unwrap().exists());
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
    let cgroup = TestCgroup::new("update", &memory(64 << 20));
    cgroup.0.update(&memory(32 << 20)).unwrap();
    assert_eq!(
        read(&cgroup.0, "memory/memory.limit_in_bytes", "memory.max"),
        "33554432"
    );
    let opened = Cgroup::open(cgroup.0.path()).unwrap();
    opened.update(&memory(48 << 20)).unwrap();
    assert_eq!(cgroup.0.stats().unwrap().memory_limit_bytes, Some(48 << 20));
}
