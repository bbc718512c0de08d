//! A systemd of our own, the way systemd-nspawn has one: first process of a pid namespace, with a cgroup namespace, a mount
//! namespace over this machine's files, `/run`, a message bus and users' managers.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

/// Unit files in the place of systemd's own: the bus, which is not started, without what it usually waits for; a user's
/// directory without systemd-logind; what is to be done.
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
        "user-runtime-dir@.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/usr/bin/install -d -m 700 -o %i /run/user/%i\n",
    ),
    // Told by pam_systemd otherwise, where systemd-logind runs.
    (
        "user@.service.d/directory.conf",
        "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\nStandardError=file:/dev/console\n",
    ),
    (
        "case.target",
        "[Unit]\nDefaultDependencies=no\nWants=case.service\nAllowIsolate=yes\n",
    ),
];
/// All that a machine does when it starts is none of ours.
const NOT_STARTED: [&str; 5] = [
    "sysinit.target.wants",
    "sockets.target.wants",
    "local-fs.target.wants",
    "timers.target.wants",
    "multi-user.target.wants",
];
/// Runs as the first process.
const BEGIN: &str = "set -e; umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; \
    mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/systemd; cp -r \"$UNITS\" /run/systemd/system; \
    mkdir /run/systemd/system.conf.d; \
    printf '[Manager]\\nShowStatus=no\\nLogLevel=warning\\n' > /run/systemd/system.conf.d/quiet.conf; \
    [ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef > /etc/machine-id; \
    exec env -i container=ketch PATH=\"$PATH\" /lib/systemd/systemd --system --unit=case.target --show-status=no \
    --log-target=console --log-level=warning";

/// Runs shell commands as a service below a systemd that has nothing else to do, with the caller's `PATH` and
/// `KETCH_…`; prints what they say as it comes, and returns it. `systemctl start dbus.service` starts the bus.
///
/// # Panics
/// Where version 2 of cgroups is not alone, or the caller is not root; systemd ends, or the commands do not within
/// `limit`.
pub fn below_systemd(commands: &str, limit: Duration) -> String {
    let scratch = tempfile::tempdir().expect("a directory");
    let told = scratch.path().join("told");
    rustix::fs::mkfifoat(rustix::fs::CWD, &told, Mode::RUSR | Mode::WUSR).expect("a fifo");
    let units = scratch.path().join("units");
    write_units(&units);
    let script = scratch.path().join("script");
    let text = format!("exec > {} 2>&1; {commands}", told.display());
    fs::write(&script, text).expect("write a file");
    fs::write(units.join("case.service"), service(&script)).expect("write a file");
    let group = format!("/sys/fs/cgroup/ketch-test-systemd-{}", std::process::id());
    fs::create_dir(&group).expect("version 2 of cgroups alone, and root");
    let mut systemd = start(&group, &units);
    let said = read_until_end(&told, &mut systemd, limit);
    systemd.kill().expect("kill systemd");
    systemd.wait().expect("wait for systemd");
    remove_tree(Path::new(&group));
    said
}

fn write_units(units: &Path) {
    fs::create_dir(units).expect("a directory");
    for (name, text) in UNITS {
        let path: PathBuf = units.join(name);
        fs::create_dir_all(path.parent().expect("a directory above")).expect("make it");
        fs::write(path, text).expect("write a file");
    }
    for name in NOT_STARTED {
        for above in ["/lib/systemd/system", "/etc/systemd/system"] {
            let listed = fs::read_dir(Path::new(above).join(name));
            for entry in listed.into_iter().flatten().flatten() {
                let mask = units.join(entry.file_name());
                if !mask.exists() {
                    let _ = std::os::unix::fs::symlink("/dev/null", mask);
                }
            }
        }
    }
}

fn service(script: &Path) -> String {
    let mut service =
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
            .to_owned();
    for (name, value) in std::env::vars() {
        if name.starts_with("KETCH_") || name == "PATH" {
            service.push_str(&format!("Environment=\"{name}={value}\"\n"));
        }
    }
    service.push_str(&format!("ExecStart=/bin/sh {}\n", script.display()));
    service
}

fn start(group: &str, units: &Path) -> Child {
    // The group becomes the root that systemd sees, and has no other process.
    let enter =
        format!("echo 0 > {group}/cgroup.procs; exec unshare --cgroup --mount sh -c \"$BEGIN\"");
    Command::new("unshare")
        .args(["--fork", "--kill-child", "--pid", "--mount-proc"])
        .args(["sh", "-c", &enter])
        .env("BEGIN", BEGIN)
        .env("UNITS", units)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("unshare and systemd are installed")
}

fn read_until_end(told: &Path, systemd: &mut Child, limit: Duration) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(told, flags, Mode::empty()).expect("open the fifo");
    let pid = rustix::process::Pid::from_child(systemd);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    let pidfd = pidfd.expect("a pidfd");
    let (mut fifo, until) = (fs::File::from(fifo), Instant::now() + limit);
    let mut said = String::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "what runs below systemd does not end");
        let left = Timespec::try_from(left).expect("a time");
        let mut fds = [
            PollFd::new(&fifo, PollFlags::IN),
            PollFd::new(&pidfd, PollFlags::IN),
        ];
        poll(&mut fds, Some(&left)).expect("poll");
        assert!(fds[1].revents().is_empty(), "systemd has ended");
        if fds[0].revents().is_empty() {
            continue;
        }
        let mut bytes = [0; 4096];
        match fifo.read(&mut bytes) {
            Ok(0) => return said,
            Ok(count) => {
                // At once: the machine may end at any time.
                let _ = std::io::stdout().write_all(&bytes[..count]);
                said.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Removes what systemd has made, when its last process has left it.
fn remove_tree(group: &Path) {
    let events = fs::File::open(group.join("cgroup.events")).expect("open cgroup.events");
    let until = Instant::now() + Duration::from_secs(60);
    let populated = || fs::read_to_string(group.join("cgroup.events")).expect("read it");
    while !populated().contains("populated 0") {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{group:?} is not empty");
        let left = Timespec::try_from(left.min(Duration::from_secs(1))).expect("a time");
        poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left)).expect("poll");
    }
    below(group);
}

fn below(group: &Path) {
    for entry in fs::read_dir(group).expect("list a group").flatten() {
        if entry.file_type().expect("a kind").is_dir() {
            below(&entry.path());
        }
    }
    fs::remove_dir(group).expect("remove a group");
}
