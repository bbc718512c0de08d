//! Cgroups as places: above and below, whose they are, freezing, killing, statistics, removal. The same cases for versions
//! 1 and 2.

use std::path::Path;
use std::time::Duration;

use ketch_runtime::cgroup::{Cgroup, is_unified};
use ketch_runtime::{Error, Exit};
use ketch_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Case;
use crate::cgroups::{memory, read};
use crate::world::{Change, TestCgroup, World};

pub const CASES: &[Case] = &[
    (
        "privileged_groups_above_that_cannot_be",
        groups_above_that_cannot_be,
    ),
    (
        "privileged_cgroups_inside_another_container",
        inside_another_container,
    ),
    ("privileged_a_cgroup_is_given_away", a_group_is_given_away),
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
];

/// Version 2: a group above with processes of its own, one that is threaded, and what is said about it.
fn groups_above_that_cannot_be() {
    if !is_unified() {
        return;
    }
    let name = format!("ketch-test-above-{}", std::process::id());
    let above = Path::new("/sys/fs/cgroup").join(&name);
    let write = |file: &str, value: &str| std::fs::write(above.join(file), value).unwrap();
    std::fs::create_dir(&above).unwrap();
    let mut process = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    write("cgroup.procs", &process.id().to_string());
    let create = || {
        Cgroup::create(&format!("/{name}/x"), &memory(64 << 20))
            .unwrap_err()
            .to_string()
    };
    let error = create();
    assert!(
        error.contains("processes of its own") && error.contains(&name),
        "{error}"
    );
    process.kill().unwrap();
    process.wait().unwrap();
    std::fs::create_dir(above.join("y")).unwrap();
    std::fs::write(above.join("y/cgroup.type"), "threaded").unwrap();
    let error = Cgroup::create(&format!("/{name}/y/x"), &LinuxResources::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("threaded") || error.contains("domain invalid"),
        "{error}"
    );
    assert!(!above.join("y/x").exists());
    std::fs::remove_dir(above.join("y")).unwrap();
    std::fs::remove_dir(&above).unwrap();
}

/// Version 2 in a container of our own: everything is in the root that we see, which must be empty for limits below it.
fn inside_another_container() {
    if !is_unified() {
        return;
    }
    let outer =
        Path::new("/sys/fs/cgroup").join(format!("ketch-test-outer-{}", std::process::id()));
    std::fs::create_dir(&outer).unwrap();
    let controllers = "+cpu +io +memory +pids";
    std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", controllers).unwrap();
    std::fs::write(outer.join("cgroup.procs"), "0").unwrap();
    ketch_sys::namespace::unshare(
        ketch_sys::namespace::Namespaces::CGROUP | ketch_sys::namespace::Namespaces::MOUNT,
    )
    .unwrap();
    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
    };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    mount(
        "/sys/fs/cgroup",
        "/mnt",
        "",
        MountFlags::BIND | MountFlags::REC,
        None,
    )
    .unwrap();
    unmount("/sys/fs/cgroup", UnmountFlags::DETACH).unwrap();
    mount(
        "cgroup2",
        "/sys/fs/cgroup",
        "cgroup2",
        MountFlags::empty(),
        None,
    )
    .unwrap();
    let cgroup = TestCgroup::new("inner", &memory(64 << 20));
    assert_eq!(read(&cgroup.0, "", "memory.max"), "67108864");
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(own.trim(), "0::/init");
    let world = World::new();
    world.run_in(&world.spec("true"), Some(&cgroup.0)).ok();
    drop(cgroup);
    // Back, so that nothing stays.
    std::fs::write("/mnt/cgroup.procs", "0").unwrap();
    std::fs::remove_dir("/sys/fs/cgroup/init").unwrap();
    let outer = Path::new("/mnt").join(outer.file_name().unwrap());
    std::fs::remove_dir(outer).unwrap();
}

fn a_group_is_given_away() {
    use std::os::unix::fs::MetadataExt;
    let cgroup = TestCgroup::new("given", &memory(64 << 20));
    cgroup.0.give_to(1234).unwrap();
    if !is_unified() {
        return;
    }
    let directory = Path::new("/sys/fs/cgroup").join(&cgroup.0.path()[1..]);
    let owner = |name: &str| std::fs::metadata(directory.join(name)).unwrap().uid();
    for name in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        assert_eq!(owner(name), 1234, "{name}");
    }
    for name in ["memory.max", "cpu.max", "cgroup.freeze"] {
        assert_eq!(owner(name), 0, "{name}");
    }
}

fn own_view() {
    let world = World::new();
    let cgroup = TestCgroup::new("view", &memory(64 << 20));
    let script = if is_unified() {
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; mkdir /sys/fs/cgroup/x"
    } else {
        "grep memory: /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; \
         mkdir /sys/fs/cgroup/memory/x; ls /sys/fs/cgroup/cpuset 2> /dev/null"
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
    let error = cgroup.0.remove(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(Cgroup::open(cgroup.0.path()).unwrap().exists());
}
