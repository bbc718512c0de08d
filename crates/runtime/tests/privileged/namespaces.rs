//! Namespaces: new, joined, of the host; sysctls and user namespaces.

use std::fs;

use ketch_spec::runtime::{IdMapping, LinuxNamespace, LinuxTimeOffset, NamespaceKind};

use crate::Case;
use crate::world::{Change, World, namespace};

pub const CASES: &[Case] = &[
    ("privileged_namespaces_are_new", namespaces_are_new),
    ("privileged_host_namespaces_stay", host_namespaces),
    (
        "privileged_network_namespace_is_there_at_once",
        network_namespace_at_once,
    ),
    ("privileged_namespaces_are_joined_by_path", joined_by_path),
    ("privileged_sysctls", sysctls),
    ("privileged_user_namespace", user_namespace),
    (
        "privileged_user_namespace_is_joined",
        user_namespace_is_joined,
    ),
    ("privileged_time_namespace", time_namespace),
];

const FILES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

fn links(process: &str) -> Vec<String> {
    let link = |file: &&str| {
        fs::read_link(format!("/proc/{process}/ns/{file}"))
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    FILES.iter().map(link).collect()
}

fn inside(listed: &str) -> Vec<String> {
    listed.split_whitespace().map(str::to_owned).collect()
}

const SCRIPT: &str = "cd /proc/self/ns; for n in cgroup ipc mnt net pid uts; do readlink $n; done";

fn namespaces_are_new() {
    let world = World::new();
    let theirs = inside(&world.sh(SCRIPT).ok());
    assert_eq!(theirs.len(), 6);
    for (ours, theirs) in links("self").iter().zip(&theirs) {
        assert_ne!(ours, theirs);
    }
    let outcome = world.sh(
        "cat /proc/self/cgroup | cut -d: -f3 | sort -u; ls /proc/1/exe; cat /proc/net/dev | wc -l",
    );
    let listed = outcome.ok();
    assert!(
        listed.ends_with("/proc/1/exe\n3\n"),
        "only lo is there: {listed}"
    );
}

fn host_namespaces() {
    let world = World::new();
    let mut spec = world.spec(SCRIPT);
    spec.hostname = String::new();
    spec.linux_mut().namespaces = vec![namespace(NamespaceKind::Mount)];
    spec.linux_mut().readonly_paths.clear();
    spec.mounts
        .retain(|mount| mount.destination != "/sys/fs/cgroup");
    let theirs = inside(&world.run(&spec).ok());
    for ((file, ours), theirs) in FILES.iter().zip(links("self")).zip(theirs) {
        assert_eq!(*file == "mnt", ours != theirs, "{file}");
    }
}

fn network_namespace_at_once() {
    let world = World::new();
    let (stdio, _output) = crate::world::pipes();
    let (spec, root) = (world.spec("true"), world.root());
    let container = ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
    let theirs = rustix::fs::fstat(container.network_namespace().unwrap())
        .unwrap()
        .st_ino;
    let ours = rustix::fs::stat("/proc/self/ns/net").unwrap().st_ino;
    assert_ne!(theirs, ours);
}

fn joined_by_path() {
    let world = World::new();
    let first = world.sleeper(&world.spec("hostname first; echo; exec sleep 1000"), None);
    let mut spec = world.spec(SCRIPT);
    spec.hostname = String::new();
    spec.linux_mut()
        .namespaces
        .retain(|namespace| namespace.kind == NamespaceKind::Mount);
    use NamespaceKind::{Ipc, Network, Pid, Uts};
    for (kind, file) in [(Pid, "pid"), (Network, "net"), (Ipc, "ipc"), (Uts, "uts")] {
        let path = Some(format!("/proc/{}/ns/{file}", first.pid()));
        spec.linux_mut()
            .namespaces
            .push(LinuxNamespace { kind, path });
    }
    spec.mounts
        .retain(|mount| mount.destination != "/sys/fs/cgroup");
    let theirs = inside(&world.run(&spec).ok());
    let firsts = links(&first.pid().to_string());
    for (file, (first, theirs)) in FILES.iter().zip(firsts.iter().zip(&theirs)) {
        assert_eq!(["mnt", "cgroup"].contains(file), first != theirs, "{file}");
    }
    // Our own children are in our own pid namespace again.
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    let ours = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(
        fs::read_link("/proc/self/ns/pid_for_children").unwrap(),
        ours
    );
    child.wait().unwrap();
    spec.linux_mut().namespaces[1].path = Some("/nowhere".into());
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("join the pid namespace: open /nowhere"),
        "{error}"
    );
}

fn sysctls() {
    let world = World::new();
    let mut spec =
        world.spec("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax");
    let sysctl = &mut spec.linux_mut().sysctl;
    sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
    sysctl.insert("kernel.msgmax".into(), "4096".into());
    assert_eq!(world.run(&spec).ok(), "7\n4096\n");
    spec.linux_mut()
        .sysctl
        .insert("net.ipv4.nonsense".into(), "1".into());
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("set linux.sysctl net.ipv4.nonsense: openat2 "),
        "{error}"
    );
}

pub fn mapping() -> Vec<IdMapping> {
    vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65_536,
    }]
}

fn user_namespace() {
    let world = World::new();
    open_to_others(&world);
    let mut spec = world.spec("id -u; cat /proc/self/uid_map | tr -s ' '; echo x > /tmp/made; echo > /dev/null; ls -l /dev/null | cut -c1; grep CapEff /proc/self/status");
    spec.linux_mut()
        .namespaces
        .push(namespace(NamespaceKind::User));
    spec.linux_mut().uid_mappings = mapping();
    spec.linux_mut().gid_mappings = mapping();
    let outcome = world.run(&spec).ok();
    assert_eq!(
        outcome,
        "0\n 0 100000 65536\nc\nCapEff:\t00000000a80425fb\n"
    );
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(world.root().join("tmp/made")).unwrap());
    assert_eq!(owner, 100_000);
}

/// The container's root is nobody on the host: it gets what it must write to.
pub fn open_to_others(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.scratch(), PermissionsExt::from_mode(0o755)).unwrap();
    for place in ["", "dev", "proc", "sys", "tmp", "etc"] {
        std::os::unix::fs::chown(world.root().join(place), Some(100_000), Some(100_000)).unwrap();
    }
}

fn user_namespace_is_joined() {
    let world = World::new();
    open_to_others(&world);
    let mut first_spec = world.spec("echo; exec sleep 1000");
    first_spec
        .linux_mut()
        .namespaces
        .push(namespace(NamespaceKind::User));
    first_spec.linux_mut().uid_mappings = mapping();
    first_spec.linux_mut().gid_mappings = mapping();
    let first = world.sleeper(&first_spec, None);
    let mut spec = world.spec("id -u; readlink /proc/self/ns/user; hostname");
    let path = Some(format!("/proc/{}/ns/user", first.pid()));
    spec.linux_mut().namespaces.push(LinuxNamespace {
        kind: NamespaceKind::User,
        path,
    });
    let expected = fs::read_link(format!("/proc/{}/ns/user", first.pid())).unwrap();
    let outcome = world.run(&spec).ok();
    assert_eq!(outcome, format!("0\n{}\nbox\n", expected.display()));
    assert_eq!(
        fs::read_to_string("/proc/thread-self/children")
            .unwrap()
            .split_whitespace()
            .count(),
        1
    );
}

fn time_namespace() {
    let world = World::new();
    let mut spec = world.spec("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    spec.linux_mut()
        .namespaces
        .push(namespace(NamespaceKind::Time));
    let offset = LinuxTimeOffset {
        secs: 1_000_000,
        nanosecs: 0,
    };
    spec.linux_mut()
        .time_offsets
        .insert("boottime".into(), offset);
    let listed = world.run(&spec).ok();
    let uptime: u64 = listed.lines().next().unwrap().parse().unwrap();
    assert!((1_000_000..100_000_000).contains(&uptime), "{listed}");
}
