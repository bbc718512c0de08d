//! Ways into the root: without pivot_root, without a mount namespace, in a joined one; propagation of the root.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use ketch_runtime::{CreateOptions, Rootfs};
use ketch_spec::runtime::{LinuxNamespace, NamespaceKind};
use ketch_sys::namespace::{Namespaces, unshare};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::Case;
use crate::mounting::attach_tmpfs;
use crate::world::{Change, Outcome, World, pipes};

pub const CASES: &[Case] = &[
    ("privileged_root_without_pivot", without_pivot),
    (
        "privileged_root_in_the_caller_s_mount_namespace",
        in_the_caller_s_namespace,
    ),
    (
        "privileged_root_in_a_joined_mount_namespace",
        in_a_joined_namespace,
    ),
    (
        "privileged_failed_create_in_the_caller_s_mount_namespace",
        failure_in_the_caller_s_namespace,
    ),
    ("privileged_root_propagation", root_propagation),
    ("privileged_slave_root_hears_of_the_host", slave_root),
];

/// A mount namespace of this process's own, so that nothing of what a case does is left behind.
pub fn own_mounts() {
    unshare(Namespaces::MOUNT).unwrap();
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
}

/// The same, for looking at what is mounted before and after: what others on the machine mount meanwhile does not count,
/// and what a container mounts comes here unless it is kept from it, as on a host that systemd has set up.
pub fn own_shared_mounts() {
    own_mounts();
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .unwrap();
}

/// Nothing is mounted in `now` that was not in `before`, two readings of /proc/PID/mountinfo. Fewer may be: the kernel takes
/// away, everywhere, what is mounted on a directory that anybody removes.
pub fn expect_no_new_mounts(before: &str, now: &str) {
    let is_new = |line: &&str| before.lines().all(|known| known != *line);
    let new: Vec<&str> = now.lines().filter(is_new).collect();
    assert!(new.is_empty(), "mounted and not taken away: {new:#?}");
}

fn run(options: CreateOptions<'_>, output: crate::world::Output) -> Outcome {
    let mut container = ketch_runtime::create(options).unwrap_or_else(|error| panic!("{error}"));
    container.start().unwrap_or_else(|error| panic!("{error}"));
    let (stdout, stderr) = output.read();
    let exit = container.wait().unwrap();
    Outcome {
        exit,
        stdout,
        stderr,
    }
}

fn without_pivot() {
    let world = World::new();
    let script = "pwd; ls /; cat /proc/self/mountinfo | cut -d' ' -f5 | grep -v -e '^/$' -e '^/proc' -e '^/dev' \
                  -e '^/sys' | head -3; ls /proc/1/exe > /dev/null && touch /made; \
                  chroot /tmp /bin/sh 2>/dev/null; wc -c < /proc/keys";
    let spec = world.spec(script);
    let root = world.root();
    let (stdio, output) = pipes();
    let options = CreateOptions {
        no_pivot: true,
        ..world.options(&spec, &root, None, stdio)
    };
    let outcome = run(options, output);
    assert_eq!(outcome.ok(), "/\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n0\n");
    assert!(root.join("made").exists());
    // Climbing out of the root by chroot(2) ends in the root again: it covers what it was attached over.
    let script = "mkdir -p /tmp/x; cp /bin/busybox /tmp/x/; cat > /tmp/up.sh <<X\nX\n\
                  exec 3</; chroot /tmp/x /busybox sh -c 'cd /proc/self/fd/3 2>/dev/null; ls' | head -1";
    let spec = world.spec(script);
    let (stdio, output) = pipes();
    let options = CreateOptions {
        no_pivot: true,
        ..world.options(&spec, &root, None, stdio)
    };
    assert_eq!(run(options, output).stdout, "busybox\n");
}

fn in_the_caller_s_namespace() {
    let world = World::new();
    own_mounts();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let script = "pwd; ls / | tr '\\n' ' '; wc -c < /proc/keys; readlink /proc/self/ns/mnt; touch /made; cat /t/x";
    let mut spec = world.spec(script);
    let namespaces = &mut spec.linux_mut().namespaces;
    namespaces.retain(|namespace| namespace.kind != NamespaceKind::Mount);
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("x"), "inside\n").unwrap();
    let source = source.to_str().unwrap();
    spec.mounts
        .push(crate::world::mount("/t", "bind", source, &["rbind", "ro"]));
    let root = world.root();
    let (stdio, output) = pipes();
    let outcome = run(world.options(&spec, &root, None, stdio), output).ok();
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    let expected = format!(
        "/\nbin dev etc proc root sys t tmp 0\n{}\ninside\n",
        ours.display()
    );
    assert_eq!(outcome, expected);
    assert!(root.join("made").exists());
    expect_no_new_mounts(
        &before,
        &fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
    spec.linux_mut().rootfs_propagation = "slave".into();
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("there is no new mount namespace"), "{error}");
    spec.linux_mut().rootfs_propagation.clear();
    let (stdio, _output) = pipes();
    let options = CreateOptions {
        rootfs: Rootfs::Path(Path::new("/")),
        ..world.options(&spec, &root, None, stdio)
    };
    let error = ketch_runtime::create(options).unwrap_err().to_string();
    assert!(error.contains("cannot be the root of the host"), "{error}");
}

fn failure_in_the_caller_s_namespace() {
    let world = World::new();
    own_mounts();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut spec = world.spec("true");
    let namespaces = &mut spec.linux_mut().namespaces;
    namespaces.retain(|namespace| namespace.kind != NamespaceKind::Mount);
    spec.mounts
        .push(crate::world::mount("/t", "tmpfs", "tmpfs", &["shoe=42"]));
    let error = world.refusal(&spec).to_string();
    assert!(error.starts_with("mount /t: fsconfig"), "{error}");
    expect_no_new_mounts(
        &before,
        &fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
}

/// A process in namespaces of its own, until it is dropped.
pub struct Elsewhere(Child);

impl Elsewhere {
    pub fn new(arguments: &[&str]) -> Self {
        use std::io::Read;
        let mut child = Command::new("unshare")
            .args(arguments)
            .args(["sh", "-c", "echo; exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        let stdout = child.stdout.as_mut().unwrap();
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "it is there");
        Self(child)
    }

    pub fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn in_a_joined_namespace() {
    let world = World::new();
    own_shared_mounts();
    let elsewhere = Elsewhere::new(&["--mount", "--propagation", "private"]);
    let mounts = || fs::read_to_string(elsewhere.file("mountinfo")).unwrap();
    let (before, ours) = (
        mounts(),
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
    let mut spec =
        world.spec("readlink /proc/self/ns/mnt; ls / | tr '\\n' ' '; wc -c < /proc/keys");
    let path = elsewhere.file("ns/mnt");
    let expected = fs::read_link(&path).unwrap();
    for namespace in &mut spec.linux_mut().namespaces {
        if namespace.kind == NamespaceKind::Mount {
            namespace.path = Some(path.clone());
        }
    }
    let outcome = world.run(&spec).ok();
    let expected = format!("{}\nbin dev etc proc root sys tmp 0\n", expected.display());
    assert_eq!(outcome, expected);
    expect_no_new_mounts(&before, &mounts());
    let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
    expect_no_new_mounts(&ours, &now);
    // A path that is no mount namespace is told from one that is.
    spec.linux_mut().namespaces = vec![LinuxNamespace {
        kind: NamespaceKind::Mount,
        path: Some(elsewhere.file("ns/net")),
    }];
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("is a namespace of another kind"), "{error}");
}

fn root_propagation() {
    let world = World::new();
    for (value, shared, unbindable) in [
        ("private", false, false),
        ("rprivate", false, false),
        ("slave", false, false),
        ("rslave", false, false),
        ("shared", true, false),
        ("rshared", true, false),
        ("unbindable", false, true),
        ("runbindable", false, true),
    ] {
        let mut spec = world.spec("head -1 /proc/self/mountinfo");
        spec.linux_mut().rootfs_propagation = value.into();
        let line = world.run(&spec).ok();
        assert_eq!(line.contains(" shared:"), shared, "{value}: {line}");
        assert_eq!(line.contains(" unbindable"), unbindable, "{value}: {line}");
    }
}

/// What is mounted on the host below the root's directory appears in a slave, and not in a private root.
fn slave_root() {
    let world = World::new();
    own_mounts();
    let root = world.root();
    attach_tmpfs(&root.join("tmp"));
    mount_change(root.join("tmp"), MountPropagationFlags::SHARED).unwrap();
    fs::create_dir(root.join("tmp/later")).unwrap();
    for (value, expected) in [("slave", "seen\n"), ("private", ""), ("", "")] {
        let mut spec = world.spec("echo; read line; ls /tmp/later");
        spec.linux_mut().rootfs_propagation = value.into();
        let (stdin, mut word) = std::io::pipe().unwrap();
        let (mut out, stdout) = std::io::pipe().unwrap();
        let stdio = ketch_runtime::Stdio::Files {
            stdin: stdin.into(),
            stderr: stdout.try_clone().unwrap().into(),
            stdout: stdout.into(),
        };
        let mut container =
            ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
        container.start().unwrap();
        std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
        attach_tmpfs(&root.join("tmp/later"));
        fs::write(root.join("tmp/later/seen"), "").unwrap();
        std::io::Write::write_all(&mut word, b"\n").unwrap();
        let mut listed = String::new();
        std::io::Read::read_to_string(&mut out, &mut listed).unwrap();
        container.wait().unwrap();
        unmount(root.join("tmp/later"), UnmountFlags::DETACH).unwrap();
        assert_eq!(listed, expected, "{value}");
    }
}
