//! What a process is besides its program: scheduling, priorities, domains, limits, devices.

use ketch_spec::runtime::{
    IdMapping, IoPriority, LinuxDevice, LinuxPersonality, LinuxTimeOffset, NamespaceKind, Process,
    Rlimit, Scheduler, Spec,
};

use crate::Case;
use crate::world::{Change, World, list, namespace};

pub const CASES: &[Case] = &[
    ("privileged_scheduling", scheduling),
    ("privileged_io_priority", io_priority),
    ("privileged_personality", personality),
    ("privileged_every_limit_has_a_name", every_limit),
    ("privileged_what_cannot_be_is_refused", what_cannot_be),
    ("privileged_unknown_fields_are_ignored", unknown_fields),
    ("privileged_clocks", clocks),
    ("privileged_devices_anywhere", devices_anywhere),
    (
        "privileged_devices_in_a_user_namespace",
        devices_in_a_user_namespace,
    ),
    ("privileged_namespaces_of_the_specification", namespaces),
];

fn scheduling() {
    let world = World::new();
    // The 18th and 19th field: priority and nice; the 41st is the policy.
    let script = "sed 's/.*) //' /proc/self/stat | cut -d' ' -f17,38,39";
    let mut spec = world.spec(script);
    let mut run = |policy: &str, nice, flags: &[&str]| {
        spec.process_mut().scheduler = Some(Scheduler {
            policy: policy.into(),
            nice,
            flags: list(flags),
            ..Scheduler::default()
        });
        world.run(&spec).ok()
    };
    // Nice, real-time priority, policy.
    assert_eq!(
        run("SCHED_OTHER", 7, &["SCHED_FLAG_RESET_ON_FORK"]),
        "7 0 0\n"
    );
    assert_eq!(run("SCHED_BATCH", 3, &[]), "3 0 3\n");
    assert!(run("SCHED_IDLE", 0, &[]).ends_with(" 0 5\n"));
    let mut spec = world.spec("true");
    let mut refusal = |scheduler: Scheduler| {
        spec.process_mut().scheduler = Some(scheduler);
        world.refusal(&spec).to_string()
    };
    let named = |policy: &str| Scheduler {
        policy: policy.into(),
        ..Scheduler::default()
    };
    assert!(refusal(named("SCHED_MAGIC")).contains("SCHED_MAGIC"));
    assert!(refusal(named("")).contains("unknown policy"));
    let flag = Scheduler {
        flags: list(&["SCHED_FLAG_MAGIC"]),
        ..named("SCHED_OTHER")
    };
    assert!(refusal(flag).contains("SCHED_FLAG_MAGIC"));
    let priority = Scheduler {
        priority: 1,
        ..named("SCHED_OTHER")
    };
    assert!(refusal(priority).contains("SCHED_FIFO"));
    let times = Scheduler {
        runtime: 1,
        ..named("SCHED_RR")
    };
    assert!(refusal(times).contains("SCHED_DEADLINE"));
    // The kernel refuses it, and the step is told.
    assert!(refusal(named("SCHED_ISO")).starts_with("set process.scheduler: sched_setattr"));
}

fn io_priority() {
    let world = World::new();
    for (class, priority, said) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6\n"),
        ("IOPRIO_CLASS_IDLE", 0, "idle\n"),
        ("IOPRIO_CLASS_RT", 3, "realtime: prio 3\n"),
    ] {
        let mut spec = world.spec("ionice -p $$");
        spec.process_mut().io_priority = Some(IoPriority {
            class: class.into(),
            priority,
        });
        let listed = world.run(&spec).ok();
        assert!(
            listed == said || listed.starts_with("idle"),
            "{class}: {listed}"
        );
    }
}

fn personality() {
    let world = World::new();
    let mut spec = world.spec("uname -m");
    let mut domain = |name: &str, flags: &[&str]| {
        spec.linux_mut().personality = Some(LinuxPersonality {
            domain: name.into(),
            flags: list(flags),
        });
        spec.clone()
    };
    let usual = world.run(&domain("LINUX", &[])).ok();
    let other = world.run(&domain("LINUX32", &[])).ok();
    if usual == "x86_64\n" {
        assert_eq!(other, "i686\n");
    }
    let error = world.refusal(&domain("WINDOWS", &[])).to_string();
    assert!(error.contains("unknown domain \"WINDOWS\""), "{error}");
    let error = world.refusal(&domain("LINUX", &["X"])).to_string();
    assert!(error.contains("linux.personality flag X"), "{error}");
}

fn every_limit() {
    let world = World::new();
    let mut spec = world.spec("tr -s ' ' < /proc/self/limits");
    let names = [
        ("CPU", "Max cpu time 1000 2000"),
        ("FSIZE", "Max file size 1000 2000"),
        ("DATA", "Max data size 100000000 200000000"),
        ("STACK", "Max stack size 1000000 2000000"),
        ("CORE", "Max core file size 1000 2000"),
        ("RSS", "Max resident set 1000 2000"),
        ("NPROC", "Max processes 1000 2000"),
        ("NOFILE", "Max open files 100 200"),
        ("MEMLOCK", "Max locked memory 1000 2000"),
        ("AS", "Max address space 100000000 200000000"),
        ("LOCKS", "Max file locks 1000 2000"),
        ("SIGPENDING", "Max pending signals 1000 2000"),
        ("MSGQUEUE", "Max msgqueue size 1000 2000"),
        ("NICE", "Max nice priority 0 0"),
        ("RTPRIO", "Max realtime priority 0 0"),
        ("RTTIME", "Max realtime timeout 1000 2000"),
    ];
    spec.process_mut().rlimits = names
        .iter()
        .map(|(name, line)| {
            let numbers: Vec<u64> = line
                .split(' ')
                .filter_map(|word| word.parse().ok())
                .collect();
            Rlimit {
                kind: format!("RLIMIT_{name}"),
                soft: numbers[0],
                hard: numbers[1],
            }
        })
        .collect();
    let listed = world.run(&spec).ok();
    for (_, line) in names {
        assert!(listed.contains(line), "{line} in {listed}");
    }
    for (change, word) in [
        (
            Rlimit {
                kind: "RLIMIT_FUN".into(),
                soft: 1,
                hard: 1,
            },
            "no such limit",
        ),
        (
            Rlimit {
                kind: "RLIMIT_CPU".into(),
                soft: 1,
                hard: 1,
            },
            "listed twice",
        ),
    ] {
        let mut wrong = spec.clone();
        wrong.process_mut().rlimits.push(change);
        let error = world.refusal(&wrong).to_string();
        assert!(error.contains(word), "{error}");
    }
}

fn in_user_namespace(spec: &mut Spec) {
    let linux = spec.linux_mut();
    linux.namespaces.push(namespace(NamespaceKind::User));
    let mapping = IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 1000,
    };
    linux.uid_mappings = vec![mapping];
    linux.gid_mappings = vec![mapping];
}

fn what_cannot_be() {
    let world = World::new();
    let refusal = |change: &dyn Fn(&mut Spec)| {
        let mut spec = world.spec("true");
        change(&mut spec);
        world.refusal(&spec).to_string()
    };
    let process = |spec: &mut Spec, change: &dyn Fn(&mut Process)| change(spec.process_mut());
    type Wrong<'a> = (&'static str, &'a dyn Fn(&mut Spec));
    let cases: [Wrong<'_>; 20] = [
        ("invalid ociVersion", &|spec| {
            spec.oci_version = "1.0".into()
        }),
        ("invalid ociVersion", &|spec| {
            spec.oci_version = "2.0.0".into()
        }),
        ("invalid ociVersion: it is missing", &|spec| {
            spec.oci_version.clear()
        }),
        ("invalid process: it is missing", &|spec| {
            spec.process = None
        }),
        ("invalid root: it is missing", &|spec| spec.root = None),
        ("invalid process.args", &|spec| {
            process(spec, &|process| process.args.clear())
        }),
        ("is not absolute", &|spec| {
            process(spec, &|process| process.cwd = "tmp".into())
        }),
        ("process.commandLine is not supported", &|spec| {
            process(spec, &|process| {
                process.other.insert("commandLine".into(), "cmd".into());
            });
        }),
        ("vm is not supported", &|spec| {
            spec.other.insert("vm".into(), serde_json::json!({}));
        }),
        ("windows is not supported", &|spec| {
            spec.other.insert("windows".into(), serde_json::json!({}));
        }),
        ("linux.intelRdt is not supported", &|spec| {
            spec.linux_mut().intel_rdt = Some(Default::default());
        }),
        ("linux.maskedPaths", &|spec| {
            spec.linux_mut().masked_paths.push("x".into())
        }),
        ("linux.readonlyPaths", &|spec| {
            spec.linux_mut().readonly_paths.push("x".into())
        }),
        ("linux.sysctl kernel.panic", &|spec| {
            spec.linux_mut()
                .sysctl
                .insert("kernel.panic".into(), "1".into());
        }),
        ("invalid linux.uidMappings", &|spec| {
            spec.linux_mut()
                .namespaces
                .push(namespace(NamespaceKind::User));
        }),
        ("linux.sysctl net/../../sys/vm/swappiness", &|spec| {
            spec.linux_mut()
                .sysctl
                .insert("net/../../sys/vm/swappiness".into(), "1".into());
        }),
        ("process.user.uid: 4294967295", &|spec| {
            process(spec, &|process| process.user.uid = u32::MAX)
        }),
        ("process.user.uid: 5000 is not in the mappings", &|spec| {
            in_user_namespace(spec);
            process(spec, &|process| process.user.uid = 5000);
        }),
        ("process.user.additionalGids: 5000 is not", &|spec| {
            in_user_namespace(spec);
            process(spec, &|process| process.user.additional_gids = vec![5000]);
        }),
        ("is listed twice", &|spec| {
            spec.linux_mut()
                .namespaces
                .push(namespace(NamespaceKind::Ipc));
        }),
    ];
    for (said, change) in cases {
        let error = refusal(change);
        assert!(error.contains(said), "{said:?}: {error}");
    }
}

fn unknown_fields() {
    let world = World::new();
    let mut spec = world.spec("echo fine");
    let value = serde_json::json!({ "a": [1] });
    spec.other.insert("org.example".into(), value.clone());
    spec.linux_mut()
        .other
        .insert("org.example".into(), value.clone());
    spec.process_mut().other.insert("org.example".into(), value);
    // A terminal's size without a terminal is none.
    spec.process_mut().console_size = Some(Default::default());
    assert_eq!(world.run(&spec).ok(), "fine\n");
}

fn clocks() {
    let world = World::new();
    let mut spec = world.spec("cut -d. -f1 /proc/uptime; tr -s ' ' < /proc/self/timens_offsets");
    spec.linux_mut()
        .namespaces
        .push(namespace(NamespaceKind::Time));
    let offset = |secs, nanosecs| LinuxTimeOffset { secs, nanosecs };
    let offsets = &mut spec.linux_mut().time_offsets;
    offsets.insert("boottime".into(), offset(7_000_000, 5));
    offsets.insert("monotonic".into(), offset(9_000_000, 0));
    let listed = world.run(&spec).ok();
    assert!(
        listed.contains("monotonic 9000000 0\nboottime 7000000 5\n"),
        "{listed}"
    );
    // A clock cannot begin before the machine did.
    let offsets = &mut spec.linux_mut().time_offsets;
    offsets.insert("monotonic".into(), offset(-1_000_000_000, 0));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("set the offsets of the time namespace: write "),
        "{error}"
    );
    let offsets = &mut spec.linux_mut().time_offsets;
    offsets.insert("monotonic".into(), offset(0, 1_000_000_000));
    assert!(
        world
            .refusal(&spec)
            .to_string()
            .contains("linux.timeOffsets")
    );
}

fn device(path: &str, kind: &str, numbers: (i64, i64)) -> LinuxDevice {
    LinuxDevice {
        path: path.into(),
        kind: kind.into(),
        major: numbers.0,
        minor: numbers.1,
        ..LinuxDevice::default()
    }
}

fn devices_anywhere() {
    let world = World::new();
    let script = "stat -c '%F %t:%T' /opt/devices/zero /dev/pipe /dev/block";
    let mut spec = world.spec(script);
    spec.linux_mut().devices = vec![
        device("/opt/devices/zero", "u", (1, 5)),
        device("/dev/pipe", "p", (0, 0)),
        device("/dev/block", "b", (7, 200)),
        device("/dev/ptmx", "c", (5, 2)),
    ];
    assert_eq!(
        world.run(&spec).ok(),
        "character special file 1:5\nfifo 0:0\nblock special file 7:c8\n"
    );
    // What the image has by that name must be that device.
    let places = &mut spec.linux_mut().devices;
    places.push(device("/etc", "c", (1, 5)));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("make the device /etc: mknod /etc: File exists"),
        "{error}"
    );
}

fn devices_in_a_user_namespace() {
    let world = World::new();
    crate::namespaces::open_to_others(&world);
    let mut spec =
        world.spec("head -c 2 /dev/zero | wc -c; grep -c ' /dev/null ' /proc/self/mounts");
    let linux = spec.linux_mut();
    linux.namespaces.push(namespace(NamespaceKind::User));
    linux.uid_mappings = crate::namespaces::mapping();
    linux.gid_mappings = crate::namespaces::mapping();
    assert_eq!(world.run(&spec).ok(), "2\n1\n");
    // What the host does not have cannot be bound from it.
    let places = &mut spec.linux_mut().devices;
    places.push(device("/dev/no-such-device", "c", (240, 240)));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.contains("/dev/no-such-device: No such file"),
        "{error}"
    );
}

/// Each kind alone is new, and all the others are the caller's.
fn namespaces() {
    let world = World::new();
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
    let files = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let link = |file: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    let script =
        "cd /proc/self/ns; for n in cgroup ipc mnt net pid time user uts; do readlink $n; done";
    for (kind, file) in [
        (Cgroup, "cgroup"),
        (Ipc, "ipc"),
        (Network, "net"),
        (Pid, "pid"),
        (Time, "time"),
        (User, "user"),
        (Uts, "uts"),
        (Mount, "mnt"),
    ] {
        let mut spec = world.spec(script);
        spec.hostname.clear();
        let linux = spec.linux_mut();
        linux.masked_paths.clear();
        linux.readonly_paths.clear();
        linux.namespaces = vec![namespace(Mount)];
        if kind != Mount {
            linux.namespaces.push(namespace(kind));
        }
        if kind == User {
            // The caller's /proc, because a new one would be of the caller's pid namespace.
            let identity = ketch_spec::runtime::IdMapping {
                container_id: 0,
                host_id: 0,
                size: 1000,
            };
            linux.uid_mappings = vec![identity];
            linux.gid_mappings = vec![identity];
            spec.mounts = vec![crate::world::mount("/proc", "bind", "/proc", &["rbind"])];
        } else {
            spec.mounts.retain(|mount| mount.destination == "/proc");
        }
        let theirs = world.run(&spec).ok();
        for (name, theirs) in files.iter().zip(theirs.lines()) {
            let new = *name == file || *name == "mnt";
            assert_eq!(link(name) != theirs, new, "{kind:?}: {name}");
        }
    }
}
