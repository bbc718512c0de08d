//! Scopes of a real systemd, where the machine has version 2 of cgroups alone: one that runs as the first process of a
//! pid namespace, with a root of the hierarchy, `/run` and a message bus of its own.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ketch_runtime::Error;
use ketch_runtime::cgroup::{Cgroup, is_unified};
use ketch_spec::runtime::{Cpu, DeviceRule, LinuxResources, Memory, Pids};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use crate::Case;
use crate::world::World;

pub const CASES: &[Case] = &[
    ("privileged_systemd_scopes", scopes),
    // What the one above runs inside, once over systemd's own socket and once over the bus.
    ("systemd_scope", scope),
];

const DEADLINE: Duration = Duration::from_secs(180);

/// Unit files: the bus as it is, but without what it usually waits for, and the case itself.
const UNITS: &[(&str, &str)] = &[
    (
        "dbus.socket",
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    ),
    (
        "dbus.service",
        "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
         ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n",
    ),
    (
        "case.target",
        "[Unit]\nDefaultDependencies=no\nWants=case.service\nAllowIsolate=yes\n",
    ),
];

fn scopes() {
    if !is_unified() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let told = scratch.path().join("told");
    rustix::fs::mkfifoat(rustix::fs::CWD, &told, Mode::RUSR | Mode::WUSR).unwrap();
    let program = std::env::current_exe().unwrap();
    let run = format!("{} --case systemd_scope", program.display());
    let script = format!(
        "exec > {} 2>&1; {run} && systemctl start dbus.service && {run} && echo all is well",
        told.display()
    );
    fs::write(scratch.path().join("script"), script).unwrap();
    let units = scratch.path().join("units");
    fs::create_dir(&units).unwrap();
    for (name, text) in UNITS {
        fs::write(units.join(name), text).unwrap();
    }
    let service = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n\
         Environment=PATH={} TMPDIR=/tmp\nExecStart=/bin/sh {}\n",
        std::env::var("PATH").unwrap_or_default(),
        scratch.path().join("script").display()
    );
    fs::write(units.join("case.service"), service).unwrap();
    let group = format!("/sys/fs/cgroup/ketch-test-systemd-{}", std::process::id());
    let said = in_systemd(&group, &units, &told);
    remove_tree(Path::new(&group));
    assert!(said.ends_with("all is well\n"), "{said}");
}

/// What the case says, that runs below a systemd with these units.
fn in_systemd(group: &str, units: &Path, told: &Path) -> String {
    fs::create_dir(group).unwrap();
    let begin = format!(
        "set -e; umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; \
         mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/systemd; cp -r {} /run/systemd/system; \
         [ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef > /etc/machine-id; \
         exec env container=ketch /lib/systemd/systemd --system --unit=case.target --show-status=no \
         --log-target=console --log-level=warning",
        units.display()
    );
    // The group becomes the root that systemd sees, and has no other process.
    let enter =
        format!("echo 0 > {group}/cgroup.procs; exec unshare --cgroup --mount sh -c \"$BEGIN\"");
    let mut systemd = Command::new("unshare")
        .args(["--fork", "--kill-child", "--pid", "--mount-proc"])
        .args(["sh", "-c", &enter])
        .env("BEGIN", begin)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("unshare and systemd are installed");
    let said = read_until_end(told, &mut systemd);
    systemd.kill().unwrap();
    systemd.wait().unwrap();
    said
}

fn read_until_end(told: &Path, systemd: &mut std::process::Child) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(told, flags, Mode::empty()).unwrap();
    let pid = rustix::process::Pid::from_child(systemd);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let (mut fifo, until) = (fs::File::from(fifo), Instant::now() + DEADLINE);
    let mut said = String::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "systemd runs no case: {said}");
        let left = Timespec::try_from(left).unwrap();
        let mut fds = [
            PollFd::new(&fifo, PollFlags::IN),
            PollFd::new(&pidfd, PollFlags::IN),
        ];
        poll(&mut fds, Some(&left)).unwrap();
        assert!(fds[1].revents().is_empty(), "systemd has ended: {said}");
        if fds[0].revents().is_empty() {
            continue;
        }
        let mut bytes = [0; 4096];
        match fifo.read(&mut bytes) {
            Ok(0) => return said,
            Ok(count) => said.push_str(&String::from_utf8_lossy(&bytes[..count])),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Removes what systemd has made, when its last process has left it.
fn remove_tree(group: &Path) {
    let events = fs::File::open(group.join("cgroup.events")).unwrap();
    let until = Instant::now() + DEADLINE;
    while !fs::read_to_string(group.join("cgroup.events"))
        .unwrap()
        .contains("populated 0")
    {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{group:?} is not empty");
        let left = Timespec::try_from(left.min(Duration::from_secs(1))).unwrap();
        poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left)).unwrap();
    }
    fn below(group: &Path) {
        for entry in fs::read_dir(group).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                below(&entry.path());
            }
        }
        fs::remove_dir(group).unwrap();
    }
    below(group);
}

fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl")
        .args(["show", "--value", "-p", name, unit])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn limits(memory: i64) -> LinuxResources {
    let memory = Memory {
        limit: Some(memory),
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: Some(512),
        quota: Some(50_000),
        period: Some(100_000),
        cpus: "0".into(),
        ..Cpu::default()
    };
    let refuse_all = DeviceRule {
        allow: false,
        kind: "a".into(),
        ..DeviceRule::default()
    };
    LinuxResources {
        memory: Some(memory),
        cpu: Some(cpu),
        pids: Some(Pids { limit: 50 }),
        devices: vec![refuse_all],
        ..LinuxResources::default()
    }
}

fn scope() {
    let path = format!("ketch-test.slice:ketch:{}", std::process::id());
    let cgroup = Cgroup::create(&path, &limits(64 << 20)).unwrap_or_else(|error| panic!("{error}"));
    let unit = cgroup.unit().unwrap().to_owned();
    let directory = cgroup.directories()[0].1.clone();
    assert!(
        directory.ends_with(format!("ketch.slice/ketch-test.slice/{unit}")),
        "{directory:?}"
    );
    assert!(
        Cgroup::create(&path, &LinuxResources::default()).is_err(),
        "the name is taken"
    );
    let read = |name: &str| {
        fs::read_to_string(directory.join(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    let expected = [
        ("memory.max", "67108864"),
        ("cpu.weight", "20"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "50"),
        ("cpuset.cpus", "0"),
    ];
    let check = || {
        expected
            .iter()
            .for_each(|(name, value)| assert_eq!(read(name), *value, "{name}"))
    };
    check();
    let known = [
        ("MemoryMax", "67108864"),
        ("CPUWeight", "20"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TasksMax", "50"),
        ("AllowedCPUs", "0"),
        ("Delegate", "yes"),
        ("Slice", "ketch-test.slice"),
    ];
    known
        .iter()
        .for_each(|(name, value)| assert_eq!(property(&unit, name), *value, "{name}"));
    let world = World::new();
    let mut container = world.sleeper(&world.spec("echo; exec sleep 1000"), Some(&cgroup));
    assert_eq!(
        cgroup.processes().unwrap(),
        [container.pid()],
        "and no placeholder"
    );
    // What systemd does at such times does not change what we have set.
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    check();
    let mut opened = Cgroup::open(&path).unwrap();
    opened.update(&limits(48 << 20)).unwrap();
    assert_eq!(read("memory.max"), "50331648");
    assert_eq!(property(&unit, "MemoryMax"), "50331648");
    let error = opened.remove(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(property(&unit, "ActiveState"), "active");
    opened.freeze().unwrap();
    opened.thaw().unwrap();
    opened.kill().unwrap();
    container.wait().unwrap();
    opened.remove(Duration::from_secs(30)).unwrap();
    assert!(!opened.exists());
    assert_eq!(property(&unit, "LoadState"), "not-found");
    opened.remove(Duration::from_secs(30)).unwrap();
    // A scope without a container goes as well.
    let again = Cgroup::create(&path, &limits(64 << 20)).unwrap();
    assert!(
        matches!(again.remove(Duration::ZERO), Err(Error::Timeout { .. })),
        "the placeholder"
    );
    drop(again);
    opened.remove(Duration::from_secs(30)).unwrap();
    assert!(!opened.exists());
}
