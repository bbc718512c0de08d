//! Mount options: every one of the specification's table, remounts, copies into a tmpfs, id mappings.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use ketch_spec::runtime::{IdMapping, Mount, NamespaceKind, Spec};

use crate::Case;
use crate::entering::own_mounts;
use crate::mounting::attach_tmpfs;
use crate::namespaces::{mapping, open_to_others};
use crate::world::{Change, World, mount, namespace};

pub const CASES: &[Case] = &[
    ("privileged_recursive_options", recursive_options),
    ("privileged_options_of_binds", options_of_binds),
    (
        "privileged_options_of_file_systems",
        options_of_file_systems,
    ),
    ("privileged_propagation_options", propagation_options),
    ("privileged_remount", remount),
    ("privileged_tmpfs_takes_the_mode_of_its_place", tmpfs_mode),
    ("privileged_tmpcopyup", tmpcopyup),
    ("privileged_read_only_dev_and_tmpfs", read_only_dev),
    (
        "privileged_relative_sources_and_destinations",
        relative_paths,
    ),
    ("privileged_id_mappings_of_mounts", id_mappings),
    ("privileged_id_mapping_of_a_tmpfs", id_mapped_tmpfs),
    (
        "privileged_id_mapping_of_the_container",
        container_s_mapping,
    ),
    ("privileged_mount_label", mount_label),
];

/// A directory with a tmpfs below it, bound with these options; what the container has of both.
fn bound(world: &World, options: &[&str]) -> (Vec<String>, Vec<String>) {
    let source = tree(world);
    let mut spec = world.spec("grep -e ' /b ' -e ' /b/below ' /proc/self/mountinfo");
    let source = source.to_str().unwrap();
    spec.mounts.push(mount("/b", "none", source, options));
    let listed = world.run(&spec).ok();
    let words = |place: &str| {
        let line = listed.lines().find(|line| line.contains(place));
        let line = line.unwrap_or_else(|| panic!("{place} in {listed}"));
        let fields: Vec<&str> = line.split(' ').collect();
        fields[5].split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    (words(" /b "), words(" /b/below "))
}

fn tree(world: &World) -> PathBuf {
    let source = world.scratch().join("source");
    if !source.exists() {
        own_mounts();
        fs::create_dir_all(source.join("below")).unwrap();
        attach_tmpfs(&source.join("below"));
    }
    source
}

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|found| found == word)
}

fn recursive_options() {
    let world = World::new();
    for (option, word) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnodiratime", "nodiratime"),
        ("rnoatime", "noatime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        let (top, below) = bound(&world, &["rbind", option]);
        assert!(
            has(&top, word) && has(&below, word),
            "{option}: {top:?} {below:?}"
        );
    }
    let (top, below) = bound(&world, &["rbind", "rstrictatime"]);
    assert!(!has(&top, "relatime") && !has(&below, "relatime"));
    // And their opposites, above all that is below.
    for (options, word) in [
        (["rbind", "ro", "rrw"], "ro"),
        (["rbind", "nosuid", "rsuid"], "nosuid"),
        (["rbind", "nodev", "rdev"], "nodev"),
        (["rbind", "noexec", "rexec"], "noexec"),
        (["rbind", "nodiratime", "rdiratime"], "nodiratime"),
        (["rbind", "noatime", "ratime"], "noatime"),
        (["rbind", "noatime", "rrelatime"], "noatime"),
        (["rbind", "strictatime", "rnostrictatime"], "strictatime"),
        (["rbind", "noatime", "rnorelatime"], "nothing"),
        (["rbind", "nosymfollow", "rsymfollow"], "nosymfollow"),
    ] {
        let (top, below) = bound(&world, &options);
        assert!(
            !has(&top, word) && !has(&below, word),
            "{options:?}: {top:?} {below:?}"
        );
    }
}

fn options_of_binds() {
    let world = World::new();
    for (option, word) in [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("nodiratime", "nodiratime"),
        ("noatime", "noatime"),
        ("nosymfollow", "nosymfollow"),
    ] {
        let (top, below) = bound(&world, &["rbind", option]);
        assert!(
            has(&top, word) && !has(&below, word),
            "{option}: {top:?} {below:?}"
        );
    }
    // What says nothing about a bind mount is understood all the same.
    let nothing = [
        "rbind",
        "defaults",
        "async",
        "sync",
        "dirsync",
        "lazytime",
        "nolazytime",
        "iversion",
        "noiversion",
        "loud",
        "silent",
        "mand",
        "nomand",
    ];
    let (top, _) = bound(&world, &nothing);
    assert!(has(&top, "rw") && has(&top, "relatime"), "{top:?}");
}

fn options_of_file_systems() {
    let world = World::new();
    let mut spec = world.spec("grep ' /t ' /proc/self/mountinfo");
    let options = [
        "sync",
        "dirsync",
        "lazytime",
        "nosuid",
        "nosymfollow",
        "iversion",
        "loud",
        "mand",
        "size=8k",
        "x-gvfs-hide",
        "nofail",
    ];
    spec.mounts.push(mount("/t", "tmpfs", "", &options));
    let listed = world.run(&spec).ok();
    for word in [
        "nosuid",
        "nosymfollow",
        "sync",
        "dirsync",
        "lazytime",
        "size=8k",
    ] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
}

fn propagation_options() {
    let world = World::new();
    let source = tree(&world);
    let source = source.to_str().unwrap();
    for (option, top, below) in [
        ("private", "-", "shared"),
        ("rprivate", "-", "-"),
        ("shared", "shared", "shared"),
        ("rshared", "shared", "shared"),
        ("slave", "-", "shared"),
        ("rslave", "-", "master"),
        ("unbindable", "unbindable", "shared"),
        ("runbindable", "unbindable", "unbindable"),
    ] {
        // Shared below, so that it is seen whether what is below was changed.
        let place = format!("{source}/below");
        let shared = rustix::mount::MountPropagationFlags::SHARED;
        rustix::mount::mount_change(&place, shared).unwrap();
        let mut spec = world.spec("grep -e ' /b ' -e ' /b/below ' /proc/self/mountinfo");
        spec.mounts
            .push(mount("/b", "none", source, &["rbind", option]));
        let listed = world.run(&spec).ok();
        let word = |place: &str| {
            let line = listed.lines().find(|line| line.contains(place)).unwrap();
            let field = line.split(' ').nth(6).unwrap();
            field.split(':').next().unwrap().to_owned()
        };
        assert_eq!(word(" /b "), top, "{option}: {listed}");
        assert_eq!(word(" /b/below "), below, "{option}: {listed}");
    }
}

fn remount() {
    let world = World::new();
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    let source = source.to_str().unwrap();
    let script = "touch /b/x; touch /t/x; grep -e ' /t ' -e ' /b ' /proc/self/mountinfo; touch /x";
    let mut spec = world.spec(script);
    spec.mounts
        .push(mount("/b", "bind", source, &["bind", "nosuid"]));
    spec.mounts
        .push(mount("/t", "tmpfs", "tmpfs", &["size=64k", "nodev"]));
    // The first changes the mount only, the second the file system too.
    spec.mounts
        .push(mount("/b", "none", "", &["bind", "remount", "ro"]));
    spec.mounts
        .push(mount("/t", "", "", &["remount", "noexec", "size=128k"]));
    spec.mounts.push(mount("/", "", "", &["remount", "ro"]));
    let outcome = world.run(&spec);
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
    let line = |place: &str| {
        let line = outcome.stdout.lines().find(|line| line.contains(place));
        line.unwrap_or_default().to_owned()
    };
    assert!(line(" /b ").contains(" ro,nosuid,relatime "), "{outcome:?}");
    let tmpfs = line(" /t ");
    assert!(
        tmpfs.contains(" rw,nodev,noexec,relatime ") && tmpfs.contains("size=128k"),
        "{tmpfs}"
    );
    assert!(!world.root().join("x").exists());
    fs::write(world.root().join("host"), "the host can still write").unwrap();
    // Where nothing is mounted there is nothing to remount.
    let mut spec = world.spec("true");
    spec.mounts
        .push(mount("/etc", "none", "", &["remount", "ro"]));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.contains("remount: nothing is mounted there"),
        "{error}"
    );
}

fn tmpfs_mode() {
    let world = World::new();
    let place = world.root().join("tmp");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o1750)).unwrap();
    let mut spec = world.spec("stat -c %a /tmp /given /new");
    fs::create_dir(world.root().join("given")).unwrap();
    spec.mounts.push(mount("/tmp", "tmpfs", "tmpfs", &[]));
    spec.mounts
        .push(mount("/given", "tmpfs", "tmpfs", &["mode=700"]));
    spec.mounts.push(mount("/new", "tmpfs", "tmpfs", &[]));
    assert_eq!(world.run(&spec).ok(), "1750\n700\n1777\n");
}

fn tmpcopyup() {
    let world = World::new();
    let data = world.root().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "text\n").unwrap();
    chown(data.join("sub/file"), Some(5), Some(6)).unwrap();
    std::os::unix::fs::symlink("sub/file", data.join("link")).unwrap();
    let script = "cat /data/link; stat -c '%u:%g %a' /data/sub/file; touch /data/new && echo writable; \
                  grep -c ' /data tmpfs ' /proc/self/mounts";
    let mut spec = world.spec(script);
    spec.mounts
        .push(mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]));
    assert_eq!(world.run(&spec).ok(), "text\n5:6 644\nwritable\n1\n");
    assert!(!data.join("new").exists());
    spec.mounts.pop();
    spec.mounts
        .push(mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]));
    let outcome = world.run(&spec);
    assert!(outcome.stdout.starts_with("text\n"), "{outcome:?}");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    // What does not fit is an error that says so.
    fs::write(data.join("big"), vec![1; 1 << 20]).unwrap();
    spec.mounts.pop();
    spec.mounts
        .push(mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]));
    let error = world.refusal(&spec).to_string();
    assert!(error.starts_with("copy /data into its tmpfs: "), "{error}");
    assert!(error.contains("No space left on device"), "{error}");
}

/// What is in a read-only /dev is made before it is read-only.
fn read_only_dev() {
    let world = World::new();
    let mut spec = world.spec("echo > /dev/null; touch /dev/x; touch /r/x; cat /r/below/here");
    let dev = spec
        .mounts
        .iter_mut()
        .find(|mount| mount.destination == "/dev");
    dev.unwrap().options.push("ro".into());
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("here"), "here\n").unwrap();
    spec.mounts.push(mount("/r", "tmpfs", "tmpfs", &["ro"]));
    spec.mounts.push(mount(
        "/r/below",
        "bind",
        source.to_str().unwrap(),
        &["bind"],
    ));
    let outcome = world.run(&spec);
    assert_eq!(outcome.stdout, "here\n", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
}

fn relative_paths() {
    let world = World::new();
    let bundle = world.scratch().join("bundle");
    fs::create_dir(&bundle).unwrap();
    fs::write(bundle.join("file"), "of the bundle\n").unwrap();
    let mut spec = world.spec("cat /etc/file");
    spec.mounts
        .push(mount("etc/file", "bind", "file", &["bind"]));
    let root = world.root();
    let (stdio, output) = crate::world::pipes();
    let options = ketch_runtime::CreateOptions {
        bundle: &bundle,
        ..world.options(&spec, &root, None, stdio)
    };
    let mut container = ketch_runtime::create(options).unwrap();
    container.start().unwrap();
    assert_eq!(output.read().0, "of the bundle\n");
    container.wait().unwrap();
}

fn ids(container_id: u32, host_id: u32, size: u32) -> Vec<IdMapping> {
    vec![IdMapping {
        container_id,
        host_id,
        size,
    }]
}

fn mapped(destination: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        uid_mappings: ids(0, 1000, 100),
        gid_mappings: ids(0, 2000, 100),
        ..mount(destination, "bind", source, options)
    }
}

fn id_mappings() {
    let world = World::new();
    let source = tree(&world);
    for file in ["file", "below/file"] {
        fs::write(source.join(file), "").unwrap();
        chown(source.join(file), Some(5), Some(6)).unwrap();
    }
    let source = source.to_str().unwrap();
    let mut spec =
        world.spec("stat -c %u:%g /a/file /a/below/file /b/file /b/below/file; echo > /b/new");
    if crate::mounting::has_no_id_mapping(source.as_ref()) {
        return;
    }
    spec.mounts.push(mapped("/a", source, &["rbind", "idmap"]));
    spec.mounts.push(mapped("/b", source, &["rbind", "ridmap"]));
    spec.process_mut().user.uid = 0;
    assert_eq!(
        world.run(&spec).stdout,
        "1005:2006\n5:6\n1005:2006\n1005:2006\n"
    );
    // Without the option they count too, so that nobody gets a mount without the mapping that was asked for.
    spec.mounts.truncate(spec.mounts.len() - 2);
    spec.mounts.push(mapped("/a", source, &["rbind"]));
    assert!(world.run(&spec).stdout.starts_with("1005:2006\n5:6\n"));
    // Neither mappings nor a user namespace; one of both only.
    let refusal = |change: fn(&mut Mount)| {
        let mut spec = world.spec("true");
        let mut wrong = mapped("/a", source, &["bind", "idmap"]);
        change(&mut wrong);
        spec.mounts.push(wrong);
        world.refusal(&spec).to_string()
    };
    let error = refusal(|mount| {
        mount.uid_mappings.clear();
        mount.gid_mappings.clear();
    });
    assert!(error.contains("there is no user namespace"), "{error}");
    let error = refusal(|mount| mount.uid_mappings.clear());
    assert!(
        error.contains("needs uidMappings and gidMappings"),
        "{error}"
    );
}

fn id_mapped_tmpfs() {
    let world = World::new();
    own_mounts();
    let probe = world.scratch().join("probe");
    fs::create_dir(&probe).unwrap();
    attach_tmpfs(&probe);
    if crate::mounting::has_no_id_mapping(&probe) {
        return;
    }
    let mut spec = world.spec("stat -c %u:%g /t; touch /t/x && stat -c %u:%g /t/x");
    let mut tmpfs = mapped("/t", "tmpfs", &["idmap"]);
    tmpfs.kind = "tmpfs".into();
    tmpfs.uid_mappings = ids(0, 0, 1);
    tmpfs.gid_mappings = ids(0, 7, 1);
    spec.mounts.push(tmpfs);
    let outcome = world.run(&spec);
    assert!(outcome.stdout.starts_with("0:7\n"), "{outcome:?}");
}

fn in_user_namespace(spec: &mut Spec) {
    let linux = spec.linux_mut();
    linux.namespaces.push(namespace(NamespaceKind::User));
    linux.uid_mappings = mapping();
    linux.gid_mappings = mapping();
}

/// Without mappings of its own a mount gets those of the container's user namespace: files of the host's root are the
/// container's root's, and what that one makes is the host's root's.
fn container_s_mapping() {
    let world = World::new();
    open_to_others(&world);
    let source = world.scratch().join("source");
    fs::create_dir(&source).unwrap();
    if crate::mounting::has_no_id_mapping(&source) {
        return;
    }
    fs::write(source.join("file"), "").unwrap();
    let script = "stat -c %u:%g /m/file /plain/file; echo x > /m/made";
    let mut spec = world.spec(script);
    in_user_namespace(&mut spec);
    let path = source.to_str().unwrap();
    spec.mounts
        .push(mount("/m", "bind", path, &["bind", "idmap"]));
    spec.mounts.push(mount("/plain", "bind", path, &["bind"]));
    assert_eq!(world.run(&spec).ok(), "0:0\n65534:65534\n");
    assert_eq!(fs::metadata(source.join("made")).unwrap().uid(), 0);
}

fn mount_label() {
    let world = World::new();
    let mut spec = world.spec("true");
    spec.linux_mut().mount_label = "system_u:object_r:container_file_t:s0".into();
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let error = world.refusal(&spec).to_string();
        assert!(
            error.contains("linux.mountLabel") && error.contains("no SELinux"),
            "{error}"
        );
        spec.linux_mut().mount_label.clear();
        spec.process_mut().selinux_label = "x".into();
        let error = world.refusal(&spec).to_string();
        assert!(
            error.contains("process.selinuxLabel") && error.contains("no SELinux"),
            "{error}"
        );
    }
}
