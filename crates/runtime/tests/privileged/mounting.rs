//! Mounts: binds and their attributes, propagation, id mapping, the root as a detached mount.

use std::fs;
use std::os::fd::AsFd;

use ketch_runtime::{CreateOptions, Rootfs};
use ketch_spec::runtime::IdMapping;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::Case;
use crate::entering::own_shared_mounts;
use crate::world::{Change, World, mount, pipes};

pub const CASES: &[Case] = &[
    ("privileged_binds_of_files_and_directories", binds),
    ("privileged_read_only_binds", read_only_binds),
    ("privileged_tmpfs_options", tmpfs_options),
    ("privileged_refused_options_are_explained", refused_options),
    ("privileged_propagation_of_binds", propagation_of_binds),
    ("privileged_root_from_a_detached_overlay", detached_overlay),
    ("privileged_shared_root", shared_root),
    ("privileged_id_mapped_bind", id_mapped_bind),
    ("privileged_mounts_are_made_in_their_order", in_their_order),
    (
        "privileged_failed_create_leaves_nothing",
        failed_create_leaves_nothing,
    ),
];

fn binds() {
    let world = World::new();
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content\n").unwrap();
    let mut spec = world.spec("cat /etc/one /deep/er/file; echo new > /deep/er/made");
    let at = |name: &str| source.join(name).to_str().unwrap().to_owned();
    spec.mounts
        .push(mount("/etc/one", "bind", &at("file"), &["bind"]));
    spec.mounts
        .push(mount("/deep/er", "none", &at(""), &["rbind", "rprivate"]));
    assert_eq!(world.run(&spec).ok(), "content\ncontent\n");
    assert_eq!(fs::read_to_string(source.join("made")).unwrap(), "new\n");
    // A directory over a file is told as what it is.
    spec.mounts
        .push(mount("/etc/one", "bind", &at(""), &["bind"]));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.contains("a directory can be mounted on a directory only"),
        "{error}"
    );
}

fn read_only_binds() {
    let world = World::new();
    let source = world.scratch().join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    let path = source.to_str().unwrap();
    let mut spec = world.spec("touch /a/x; touch /a/below/x && echo below; touch /b/below/x");
    // A mount below the source, in this process's own mount namespace.
    ketch_sys::namespace::unshare(ketch_sys::namespace::Namespaces::MOUNT).unwrap();
    let flags =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).unwrap();
    attach_tmpfs(&source.join("below"));
    spec.mounts
        .push(mount("/a", "bind", path, &["rbind", "ro"]));
    spec.mounts
        .push(mount("/b", "bind", path, &["rbind", "rro"]));
    let outcome = world.run(&spec);
    assert_eq!(outcome.stdout, "below\n", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
    unmount(source.join("below"), UnmountFlags::empty()).unwrap();
}

pub fn attach_tmpfs(place: &std::path::Path) {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    let mount = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap();
    move_mount(
        mount.as_fd(),
        "",
        CWD,
        place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .unwrap();
}

fn tmpfs_options() {
    let world = World::new();
    let mut spec = world
        .spec("grep ' /t ' /proc/self/mounts; stat -c %a /t; grep ' /dev/pts ' /proc/self/mounts");
    let options = ["nosuid", "noexec", "noatime", "size=1m", "mode=1770"];
    spec.mounts.push(mount("/t", "tmpfs", "memory", &options));
    let listed = world.run(&spec).ok();
    assert!(
        listed.contains("memory /t tmpfs rw,nosuid,noexec,noatime,size=1024k,mode=1770"),
        "{listed}"
    );
    assert!(listed.contains("1770\n"), "{listed}");
    assert!(
        listed.contains("rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"),
        "{listed}"
    );
}

fn refused_options() {
    let world = World::new();
    let mut spec = world.spec("true");
    spec.mounts
        .push(mount("/t", "tmpfs", "tmpfs", &["shoe=42"]));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("mount /t: fsconfig tmpfs shoe"),
        "{error}"
    );
    assert!(error.contains("Unknown parameter 'shoe'"), "{error}");
    let mut spec = world.spec("true");
    spec.mounts.push(mount("/t", "nosuchfs", "x", &[]));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("mount /t: fsopen nosuchfs: No such device"),
        "{error}"
    );
}

/// What is mounted on the host later reaches a slave and not a private bind; what the container mounts stays there.
fn propagation_of_binds() {
    let world = World::new();
    ketch_sys::namespace::unshare(ketch_sys::namespace::Namespaces::MOUNT).unwrap();
    let flags =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).unwrap();
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    attach_tmpfs(&source);
    rustix::mount::mount_change(&source, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    fs::create_dir(source.join("later")).unwrap();
    let script = "echo; read line; ls /private/later /slave/later /plain/later | tr '\\n' ' '";
    let mut spec = world.spec(script);
    let path = source.to_str().unwrap();
    spec.mounts
        .push(mount("/private", "bind", path, &["rbind", "rprivate"]));
    spec.mounts
        .push(mount("/slave", "bind", path, &["rbind", "rslave"]));
    spec.mounts.push(mount("/plain", "bind", path, &["rbind"]));
    let (stdin, mut word) = std::io::pipe().unwrap();
    let (out, stdout) = std::io::pipe().unwrap();
    let stderr = stdout.try_clone().unwrap();
    let stdio = ketch_runtime::Stdio::Files {
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let root = world.root();
    let mut container = ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
    container.start().unwrap();
    let mut out = out;
    std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
    attach_tmpfs(&source.join("later"));
    fs::write(source.join("later/seen"), "").unwrap();
    std::io::Write::write_all(&mut word, b"\n").unwrap();
    let mut listed = String::new();
    std::io::Read::read_to_string(&mut out, &mut listed).unwrap();
    container.wait().unwrap();
    assert_eq!(
        listed.trim(),
        "/plain/later: seen  /private/later:  /slave/later: seen"
    );
    unmount(source.join("later"), UnmountFlags::empty()).unwrap();
    unmount(&source, UnmountFlags::empty()).unwrap();
}

fn detached_overlay() {
    let world = World::new();
    let path = |name: &str| {
        let path = world.scratch().join(name);
        fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(context.as_fd(), "lowerdir", world.root().as_path()).unwrap();
    fsconfig_set_string(context.as_fd(), "upperdir", path("upper")).unwrap();
    fsconfig_set_string(context.as_fd(), "workdir", path("work")).unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let root = fsmount(context.as_fd(), flags, MountAttrFlags::empty()).unwrap();
    drop(context);
    let spec = world.spec("echo x > /new; grep ' / ' /proc/self/mounts | cut -d' ' -f3");
    let (stdio, output) = pipes();
    let options = CreateOptions {
        rootfs: Rootfs::Detached(root.as_fd()),
        ..world.options(&spec, std::path::Path::new("/"), None, stdio)
    };
    let mut container = ketch_runtime::create(options).unwrap();
    drop(root);
    container.start().unwrap();
    assert_eq!(output.read().0, "overlay\n");
    assert_eq!(container.wait().unwrap().code(), 0);
    assert_eq!(
        fs::read_to_string(world.scratch().join("upper/new")).unwrap(),
        "x\n"
    );
    assert!(!world.root().join("new").exists());
}

fn shared_root() {
    let world = World::new();
    let mut spec = world.spec("grep ' / / ' /proc/self/mountinfo | grep -c shared:; true");
    spec.linux_mut().rootfs_propagation = "shared".into();
    let listed = world.run(&spec);
    let root_line = "the root is shared";
    assert!(
        listed.stdout.trim() == "1" || listed.stdout.trim() == "0",
        "{root_line}: {listed:?}"
    );
    let mut spec = world.spec("head -1 /proc/self/mountinfo");
    spec.linux_mut().rootfs_propagation = "shared".into();
    let first = world.run(&spec).ok();
    assert!(first.contains(" shared:"), "{first}");
    spec.linux_mut().rootfs_propagation = String::new();
    let first = world.run(&spec).ok();
    assert!(
        !first.contains(" shared:") && !first.contains(" master:"),
        "{first}"
    );
    spec.linux_mut().rootfs_propagation = "sideways".into();
    assert!(world.refusal(&spec).to_string().contains("sideways"));
}

fn id_mapped_bind() {
    let world = World::new();
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(1000), Some(1001)).unwrap();
    let mut spec = world.spec("stat -c %u:%g /m/file");
    let mut mapped = mount("/m", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
    // The file's ids are the mapping's inner ones, the container sees the outer ones.
    mapped.uid_mappings = vec![IdMapping {
        container_id: 1000,
        host_id: 7,
        size: 1,
    }];
    mapped.gid_mappings = vec![IdMapping {
        container_id: 1001,
        host_id: 8,
        size: 1,
    }];
    spec.mounts.push(mapped);
    if has_no_id_mapping(&source) {
        let error = world.refusal(&spec).to_string();
        assert!(
            error.starts_with("id mapping of the mount at /m is not supported"),
            "{error}"
        );
        return;
    }
    assert_eq!(world.run(&spec).ok(), "7:8\n");
    spec.mounts.last_mut().unwrap().gid_mappings.clear();
    assert!(
        world
            .refusal(&spec)
            .to_string()
            .contains("needs uidMappings and gidMappings")
    );
}

/// tmpfs has it since Linux 6.3.
pub fn has_no_id_mapping(place: &std::path::Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    let release = rustix::system::uname()
        .release()
        .to_str()
        .unwrap()
        .to_owned();
    let mut numbers = release
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    rustix::fs::statfs(place).unwrap().f_type as u64 == TMPFS && version < (6, 3)
}

/// What comes later is on top of what came before.
fn in_their_order() {
    let world = World::new();
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "seen\n").unwrap();
    let bind = mount("/t/x", "bind", source.to_str().unwrap(), &["rbind"]);
    let cover = mount("/t", "tmpfs", "tmpfs", &[]);
    for (mounts, wanted) in [
        ([cover.clone(), bind.clone()], "seen\n"),
        ([bind, cover], "covered\n"),
    ] {
        let mut spec = world.spec("cat /t/x/file 2> /dev/null || echo covered");
        spec.mounts.extend(mounts);
        assert_eq!(world.run(&spec).ok(), wanted);
    }
}

fn failed_create_leaves_nothing() {
    let world = World::new();
    own_shared_mounts();
    let children = || fs::read_to_string("/proc/thread-self/children").unwrap();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (before, mounts) = (
        descriptors(),
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
    let mut spec = world.spec("true");
    spec.mounts
        .push(mount("/t", "tmpfs", "tmpfs", &["shoe=42"]));
    world.refusal(&spec);
    spec.mounts.last_mut().unwrap().kind = "bind".into();
    world.refusal(&spec);
    assert_eq!(children(), "");
    assert_eq!(descriptors(), before);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
}
