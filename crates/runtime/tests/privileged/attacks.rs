//! Attacks, tried: each of these has broken a runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio as ProcessStdio};

use ketch_runtime::{CreateOptions, Stdio};
use ketch_spec::runtime::{LinuxNamespace, NamespaceKind};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::Case;
use crate::entering::{Elsewhere, expect_no_new_mounts, own_mounts, own_shared_mounts};
use crate::world::{Change, World, exec_options, mount, pipes};

pub const CASES: &[Case] = &[
    ("privileged_console_that_is_a_link_is_refused", console_link),
    (
        "privileged_masks_do_not_follow_exchanged_devices",
        exchanged_null,
    ),
    (
        "privileged_settings_are_not_redirected",
        redirected_settings,
    ),
    ("privileged_labels_are_not_redirected", redirected_labels),
    (
        "privileged_symlink_exchange_during_mounts",
        symlink_exchange,
    ),
    (
        "privileged_symlink_exchange_of_proc",
        symlink_exchange_of_proc,
    ),
    ("privileged_sysfs_that_is_a_link_is_refused", sysfs_link),
    (
        "privileged_links_to_the_root_are_no_mount_points",
        links_to_the_root,
    ),
    (
        "privileged_leaked_descriptors_are_closed",
        leaked_descriptors,
    ),
    (
        "privileged_exec_into_a_leaked_directory",
        exec_into_a_leaked_directory,
    ),
    ("privileged_exec_keeps_to_the_root", exec_keeps_to_the_root),
    ("privileged_groups_that_are_denied", denied_groups),
    ("privileged_keyrings", keyrings),
    (
        "privileged_own_namespaces_by_path_are_the_host_s",
        own_namespaces_by_path,
    ),
    ("inner_exchange", exchange),
];

fn with_terminal(world: &World, dev: &Path) -> Result<(), ketch_runtime::Error> {
    let mut spec = world.spec("true");
    spec.process_mut().terminal = true;
    spec.mounts.retain(|mount| mount.destination != "/dev");
    let bind = mount("/dev", "bind", dev.to_str().unwrap(), &["rbind"]);
    spec.mounts.insert(1, bind);
    let root = world.root();
    let stdio = Stdio::Terminal { size: None };
    ketch_runtime::create(world.options(&spec, &root, None, stdio))?.start()
}

/// CVE-2025-52565: the terminal is bound over what /dev/console leads to, which then is the image's choice.
fn console_link() {
    let world = World::new();
    let dev = world.scratch().join("dev");
    fs::create_dir(&dev).unwrap();
    for target in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/etc/passwd",
    ] {
        let _ = fs::remove_file(dev.join("console"));
        symlink(target, dev.join("console")).unwrap();
        let error = with_terminal(&world, &dev).unwrap_err().to_string();
        assert!(
            error.starts_with("mount the terminal at /dev/console"),
            "{error}"
        );
        // ELOOP, which C libraries word differently.
        assert!(error.contains("(os error 40)"), "{error}");
    }
    assert!(!world.root().join("etc/passwd").exists());
}

/// Everything that is /dev/null by its name only: CVE-2025-31133.
fn exchanged_null() {
    let world = World::new();
    let dev = world.scratch().join("dev");
    type Fake = (&'static str, fn(&Path));
    let fakes: [Fake; 4] = [
        ("link", |path| {
            symlink("/proc/sys/kernel/core_pattern", path).unwrap()
        }),
        ("file", |path| fs::write(path, "not null").unwrap()),
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("another device", |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let device = rustix::fs::makedev(1, 5);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, path, kind, mode, device).unwrap();
        }),
    ];
    for (name, make) in fakes {
        let _ = fs::remove_dir_all(&dev);
        fs::create_dir(&dev).unwrap();
        make(&dev.join("null"));
        let mut spec = world.spec("cat /proc/keys; echo x > /proc/sysrq-trigger");
        spec.mounts
            .retain(|mount| !mount.destination.starts_with("/dev"));
        let bind = mount("/dev", "bind", dev.to_str().unwrap(), &["rbind"]);
        spec.mounts.push(bind);
        let error = world.refusal(&spec).to_string();
        assert!(error.starts_with("mask /proc/k"), "{name}: {error}");
    }
    // In a /dev of the container's own a wrong node is an error too.
    let image = world.root().join("dev/null");
    fs::write(&image, "").unwrap();
    let mut spec = world.spec("true");
    spec.mounts
        .retain(|mount| !mount.destination.starts_with("/dev"));
    let error = world.refusal(&spec).to_string();
    assert!(error.starts_with("make the device /dev/null"), "{error}");
}

/// CVE-2025-52881: what the runtime writes to below /proc is another file, mounted over it.
fn redirected_settings() {
    let world = World::new();
    own_mounts();
    let decoy = world.scratch().join("decoy");
    fs::write(&decoy, "untouched").unwrap();
    let setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    mount_bind(&decoy, setting).unwrap();
    let mut spec = world.spec(&format!("cat {setting}"));
    let sysctl = &mut spec.linux_mut().sysctl;
    sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
    assert_eq!(world.run(&spec).ok(), "7\n");
    assert_eq!(fs::read_to_string(&decoy).unwrap(), "untouched");
    // A whole directory, and one that cannot be written.
    let directory = world.scratch().join("ipv4");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("ip_unprivileged_port_start"), "untouched").unwrap();
    mount_bind(&directory, "/proc/sys/net/ipv4").unwrap();
    mount_bind("/proc/sys", "/proc/sys").unwrap();
    mount_remount("/proc/sys", MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
    assert_eq!(world.run(&spec).ok(), "7\n");
    let text = fs::read_to_string(directory.join("ip_unprivileged_port_start"));
    assert_eq!(text.unwrap(), "untouched");
}

/// The same for what is written to /proc/self: the score here, as labels would be.
fn redirected_labels() {
    let world = World::new();
    own_mounts();
    // Who shares the mount namespace covers /proc with something that looks like it.
    let fake = world.scratch().join("proc");
    fs::create_dir_all(fake.join("self/ns")).unwrap();
    for kind in ["net", "mnt"] {
        fs::write(fake.join("self/ns").join(kind), "").unwrap();
    }
    fs::create_dir_all(fake.join("self/task/1")).unwrap();
    fs::write(fake.join("self/oom_score_adj"), "untouched").unwrap();
    let spec = {
        let mut spec = world.spec("true");
        spec.process_mut().oom_score_adj = Some(500);
        spec
    };
    mount_bind(&fake, "/proc").unwrap();
    let root = world.root();
    let (stdio, _output) = pipes();
    let made = ketch_runtime::create(world.options(&spec, &root, None, stdio));
    let error = match made {
        Err(error) => error,
        Ok(mut container) => container.start().unwrap_err(),
    };
    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).unwrap();
    let error = error.to_string();
    assert!(error.contains("check that it is a procfs /proc"), "{error}");
    let text = fs::read_to_string(fake.join("self/oom_score_adj")).unwrap();
    assert_eq!(text, "untouched");
}

/// Exchanges two names for ever: `--case inner_exchange` with the directory in the environment.
fn exchange() {
    let directory = std::env::var("EXCHANGE").unwrap();
    let at = |name: &str| Path::new(&directory).join(name);
    loop {
        let flags = RenameFlags::EXCHANGE;
        renameat_with(CWD, at("a"), CWD, at("b"), flags).unwrap();
    }
}

struct Exchanger(Child);

impl Exchanger {
    fn new(directory: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--case", "inner_exchange"])
            .env("EXCHANGE", directory)
            .stderr(ProcessStdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// CVE-2021-30465: another container that has the same volume exchanges a directory for a link while it is mounted in.
fn symlink_exchange() {
    let world = World::new();
    own_shared_mounts();
    let (volume, outside) = (
        world.scratch().join("volume"),
        world.scratch().join("outside"),
    );
    fs::create_dir_all(volume.join("a/sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, volume.join("b")).unwrap();
    let _exchanger = Exchanger::new(&volume);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = volume.to_str().unwrap();
    let file = world.scratch().join("file");
    fs::write(&file, "").unwrap();
    let mut made = 0;
    for _ in 0..30 {
        let script = "cut -d' ' -f5 /proc/self/mountinfo";
        let mut spec = world.spec(script);
        spec.mounts.push(mount("/v", "bind", path, &["rbind"]));
        spec.mounts.push(mount("/v/a/sub", "tmpfs", "tmpfs", &[]));
        spec.mounts
            .push(mount("/v/a/new", "bind", file.to_str().unwrap(), &["bind"]));
        spec.mounts.push(mount("/v/a/p", "proc", "proc", &[]));
        let root = world.root();
        let (stdio, output) = pipes();
        // A link that was there at the moment is followed inside of the root, or it is an error: of the creation where
        // the first process has ended before its namespaces were looked at.
        let created = ketch_runtime::create(world.options(&spec, &root, None, stdio));
        let Ok(mut container) = created else { continue };
        if container.start().is_ok() {
            drop(output.read());
            container.wait().unwrap();
            made += 1;
        }
    }
    println!("{made} of 30 were made");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    expect_no_new_mounts(
        &before,
        &fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
}

/// CVE-2019-16884, CVE-2023-27561: /proc is exchanged for another directory while it is mounted and masked.
fn symlink_exchange_of_proc() {
    let world = World::new();
    let root = world.root();
    fs::remove_dir(root.join("proc")).unwrap();
    // The names that are exchanged are `a` and `b`; /proc is what one of them is bound to.
    fs::create_dir(root.join("a")).unwrap();
    fs::create_dir_all(root.join("b/sys/kernel")).unwrap();
    symlink("a", root.join("proc")).unwrap();
    let error = world.refusal(&world.spec("true")).to_string();
    assert!(
        error.contains("/proc must be mounted on ordinary directory"),
        "{error}"
    );
    fs::remove_file(root.join("proc")).unwrap();
    // A mount of the image's own below what is masked does not unmask it.
    fs::create_dir(root.join("proc")).unwrap();
    let fake = world.scratch().join("fake");
    fs::create_dir(&fake).unwrap();
    let mut spec = world.spec("true");
    spec.mounts
        .push(mount("/proc", "bind", fake.to_str().unwrap(), &["rbind"]));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.contains("what is below /proc may not be covered"),
        "{error}"
    );
    let mut spec = world.spec("true");
    spec.mounts.push(mount("/proc", "tmpfs", "tmpfs", &[]));
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("may not be covered"), "{error}");
}

fn sysfs_link() {
    let world = World::new();
    let root = world.root();
    fs::remove_dir(root.join("sys")).unwrap();
    symlink("/etc", root.join("sys")).unwrap();
    let error = world.refusal(&world.spec("true")).to_string();
    assert!(
        error.contains("/sys must be mounted on ordinary directory"),
        "{error}"
    );
}

/// A mount over the root by way of the image's link would hide what is masked and mounted from `/..`, and only from it.
fn links_to_the_root() {
    let world = World::new();
    let root = world.root();
    for target in ["/", ".", "../../../..", "/etc/.."] {
        let _ = fs::remove_file(root.join("link"));
        symlink(target, root.join("link")).unwrap();
        for (kind, options) in [("tmpfs", &[][..]), ("bind", &["rbind"][..])] {
            let mut spec = world.spec("true");
            spec.mounts.push(mount("/link", kind, "/etc", options));
            let error = world.refusal(&spec).to_string();
            assert!(
                error.contains("mount at /link: the root itself cannot be covered"),
                "{target}: {error}"
            );
        }
    }
    fs::remove_dir(root.join("dev")).unwrap();
    symlink("..", root.join("dev")).unwrap();
    let error = world.refusal(&world.spec("true")).to_string();
    assert!(error.contains("mount at /dev: the root"), "{error}");
}

/// CVE-2024-21626: nothing of the runtime's is open in the program, whatever the caller had open and for how long.
fn leaked_descriptors() {
    let world = World::new();
    let host = fs::File::open("/").unwrap();
    // One that survives execve by itself.
    ketch_sys::process::keep_over_exec(std::os::fd::AsRawFd::as_raw_fd(&host)).unwrap();
    let spec = world.spec("ls -l /proc/self/fd | sed -n 's/.* -> //p' | sort -u");
    for no_pivot in [false, true] {
        let root = world.root();
        let (stdio, output) = pipes();
        let options = CreateOptions {
            no_pivot,
            ..world.options(&spec, &root, None, stdio)
        };
        let mut container = ketch_runtime::create(options).unwrap();
        container.start().unwrap();
        let listed = output.read().0;
        container.wait().unwrap();
        for line in listed.lines() {
            let fine = line.starts_with("pipe:") || line == "/dev/null" || line.ends_with("/fd");
            assert!(fine, "{listed}");
        }
    }
}

/// The same for a process that joins: `cwd` is a descriptor of the caller's.
fn exec_into_a_leaked_directory() {
    let world = World::new();
    let container = world.sleeper(&world.spec("echo; exec sleep 1000"), None);
    let host = fs::File::open("/").unwrap();
    let open = std::os::fd::AsRawFd::as_raw_fd(&host);
    for number in (3..20).chain([open]) {
        let mut process = world.spec("[ . -ef / ] && echo inside").process.unwrap();
        process.cwd = format!("/proc/self/fd/{number}");
        let (stdio, output) = pipes();
        match ketch_runtime::exec(exec_options(&container, &process, stdio)) {
            Ok(mut joined) => {
                assert_eq!(output.read().0, "inside\n", "{number}");
                joined.wait().unwrap();
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("chdir to cwd"), "{number}: {error}");
            }
        }
    }
}

/// Who joins a container that shares its mount namespace sees the container's root, not that of the namespace.
fn exec_keeps_to_the_root() {
    let world = World::new();
    own_mounts();
    let mut spec = world.spec("echo; exec sleep 1000");
    let namespaces = &mut spec.linux_mut().namespaces;
    namespaces.retain(|namespace| namespace.kind != NamespaceKind::Mount);
    let container = world.sleeper(&spec, None);
    let process = world.spec("pwd; ls /").process.unwrap();
    let (stdio, output) = pipes();
    let mut joined = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap();
    assert_eq!(output.read().0, "/\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n");
    joined.wait().unwrap();
}

/// Groups that are there to deny something cannot be given up where the user namespace says so.
fn denied_groups() {
    let world = World::new();
    let elsewhere = Elsewhere::new(&["--user", "--map-root-user"]);
    let script = "id -G | tr ' ' '\\n' | sort -u | tr '\\n' ' '";
    let mut spec = world.spec(script);
    spec.linux_mut().namespaces.push(LinuxNamespace {
        kind: NamespaceKind::User,
        path: Some(elsewhere.file("ns/user")),
    });
    spec.linux_mut().masked_paths.clear();
    spec.linux_mut().readonly_paths.clear();
    spec.mounts.retain(|mount| mount.destination == "/proc");
    let outcome = world.run(&spec);
    assert!(outcome.stdout.starts_with("0 "), "{outcome:?}");
    spec.process_mut().user.additional_gids = vec![5];
    let error = world.refusal(&spec).to_string();
    assert!(error.starts_with("become the user: setgroups"), "{error}");
    // And a group that the namespace does not know cannot be taken on.
    crate::namespaces::open_to_others(&world);
    let mut spec = world.spec("true");
    let linux = spec.linux_mut();
    linux
        .namespaces
        .push(crate::world::namespace(NamespaceKind::User));
    linux.uid_mappings = crate::namespaces::mapping();
    linux.gid_mappings = crate::namespaces::mapping();
    spec.process_mut().user.additional_gids = vec![70_000];
    let error = world.refusal(&spec).to_string();
    let said = "invalid process.user.additionalGids: 70000 is not in the mappings";
    assert!(error.starts_with(said), "{error}");
}

/// The caller's session keyring, with what is in it, is out of reach; `no_new_keyring` leaves it.
fn keyrings() {
    let world = World::new();
    let Ok(ours) = ketch_sys::process::join_new_session_keyring() else {
        return;
    };
    let ours = format!("{:08x}", ours);
    let mut spec = world.spec("cat /proc/keys");
    spec.linux_mut().masked_paths.clear();
    // Root may see every key of its own; another user sees those that it possesses.
    spec.process_mut().user.uid = 1000;
    for no_new_keyring in [false, true] {
        let root = world.root();
        let (stdio, output) = pipes();
        let options = CreateOptions {
            no_new_keyring,
            ..world.options(&spec, &root, None, stdio)
        };
        let mut container = ketch_runtime::create(options).unwrap();
        container.start().unwrap();
        let listed = output.read().0;
        container.wait().unwrap();
        let seen = listed.lines().any(|line| line.starts_with(&ours));
        assert_eq!(seen, no_new_keyring, "{ours} in {listed}");
    }
}

/// The host's own namespace by its path is not the container's own: what is the host's stays refused.
fn own_namespaces_by_path() {
    let world = World::new();
    let mut spec = world.spec("true");
    spec.hostname.clear();
    for namespace in &mut spec.linux_mut().namespaces {
        match namespace.kind {
            NamespaceKind::Network => namespace.path = Some("/proc/self/ns/net".into()),
            NamespaceKind::Uts => namespace.path = Some("/proc/self/ns/uts".into()),
            _ => {}
        }
    }
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let sysctl = &mut spec.linux_mut().sysctl;
    sysctl.insert("net.ipv4.ip_forward".into(), "0".into());
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("no Network namespace of its own"), "{error}");
    let after = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(before, after);
    spec.linux_mut().sysctl.clear();
    spec.hostname = "mine".into();
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("no UTS namespace of its own"), "{error}");
}
