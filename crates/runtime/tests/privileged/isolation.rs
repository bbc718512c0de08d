//! What a container cannot see and do: capabilities, devices, masked paths, attacks.

use std::os::fd::IntoRawFd;
use std::os::unix::fs::symlink;

use ketch_spec::runtime::{LinuxDevice, LinuxSeccomp, SeccompSyscall};

use crate::Case;
use crate::entering::{expect_no_new_mounts, own_shared_mounts};
use crate::world::{Change, World, list, mount, pipes};

pub const CASES: &[Case] = &[
    ("privileged_capabilities_are_the_wanted_ones", capabilities),
    (
        "privileged_ambient_capabilities_reach_users",
        ambient_capabilities,
    ),
    ("privileged_no_new_privileges", no_new_privileges),
    (
        "privileged_masked_and_read_only_paths",
        masked_and_read_only_paths,
    ),
    ("privileged_devices", devices),
    ("privileged_read_only_root", read_only_root),
    (
        "privileged_root_is_not_on_the_host",
        root_is_not_on_the_host,
    ),
    ("privileged_proc_that_is_a_link_is_refused", proc_link),
    ("privileged_null_that_is_not_null_is_refused", false_null),
    (
        "privileged_mount_targets_do_not_leave_the_root",
        mount_targets,
    ),
    ("privileged_proc_cannot_be_covered", proc_cannot_be_covered),
    (
        "privileged_working_directory_outside_is_refused",
        working_directory_outside,
    ),
    ("privileged_session_keyring_is_new", session_keyring),
    ("privileged_filter_forbids", filter_forbids),
    ("privileged_docker_s_filter", docker_filter),
    ("privileged_own_program_is_out_of_reach", own_program),
    ("inner_attack_on_own_program", attack_on_own_program),
    ("inner_evil", evil),
];

fn capabilities() {
    let world = World::new();
    let script = "grep Cap /proc/self/status | tr '\\n' ' '";
    let expected = "CapInh:\t0000000000000000 CapPrm:\t00000000a80425fb CapEff:\t00000000a80425fb \
                    CapBnd:\t00000000a80425fb CapAmb:\t0000000000000000 ";
    assert_eq!(world.sh(script).ok(), expected);
    let mut spec = world.spec(script);
    spec.process_mut().capabilities = None;
    assert_eq!(world.run(&spec).ok().matches("0000000000000000").count(), 5);
    // Those that cannot be given are warned of and left out.
    let bounding = list(&["CAP_NONSENSE", "CAP_CHOWN"]);
    let capabilities = &mut spec.process_mut().capabilities;
    capabilities.get_or_insert_default().bounding = bounding;
    let root = world.root();
    let (stdio, output) = pipes();
    let mut container = ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
    assert_eq!(
        container.warnings(),
        ["capability \"CAP_NONSENSE\" is not given: it is unknown"]
    );
    container.start().unwrap();
    assert!(output.read().0.contains("CapBnd:\t0000000000000001 "));
    container.wait().unwrap();
}

fn ambient_capabilities() {
    let world = World::new();
    let mut spec = world.spec("grep -E 'CapEff|CapAmb' /proc/self/status | cut -f2");
    spec.process_mut().user.uid = 1000;
    let bind = list(&["CAP_NET_BIND_SERVICE"]);
    let capabilities = spec.process_mut().capabilities.as_mut().unwrap();
    capabilities.inheritable.clone_from(&bind);
    capabilities.ambient = bind;
    assert_eq!(
        world.run(&spec).ok(),
        "0000000000000400\n0000000000000400\n"
    );
}

fn no_new_privileges() {
    let world = World::new();
    let mut spec = world.spec("grep NoNewPrivs /proc/self/status");
    assert_eq!(world.run(&spec).ok(), "NoNewPrivs:\t0\n");
    spec.process_mut().no_new_privileges = true;
    assert_eq!(world.run(&spec).ok(), "NoNewPrivs:\t1\n");
}

fn masked_and_read_only_paths() {
    let world = World::new();
    let script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; ls -ld /sys/firmware | cut -c1-10; \
                  echo 1 > /proc/sys/vm/drop_caches; \
                  mkdir /sys/firmware/x; echo > /proc/1/oom_score_adj";
    let outcome = world.sh(script);
    assert!(
        outcome.stdout.starts_with("0\n0\ndrwxr-xr-x\n"),
        "{outcome:?}"
    );
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
}

fn devices() {
    let world = World::new();
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
                  ls /dev | tr '\\n' ' '; for link in fd stdin stdout stderr ptmx; do readlink /dev/$link; done; \
                  ls -l /dev/extra | cut -c1-10; stat -c '%u:%g %t:%T %a' /dev/extra; \
                  stat -c '%a' /dev/null";
    let mut spec = world.spec(script);
    spec.linux_mut().devices = vec![LinuxDevice {
        path: "/dev/extra".into(),
        kind: "c".into(),
        major: 1,
        minor: 5,
        file_mode: Some(0o640),
        uid: Some(3),
        gid: Some(4),
        ..LinuxDevice::default()
    }];
    let expected = "3\n3\nextra fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \
                    /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\ncrw-r-----\n3:4 1:5 640\n666\n";
    assert_eq!(world.run(&spec).ok(), expected);
}

fn read_only_root() {
    let world = World::new();
    let mut spec = world.spec("touch /x; touch /dev/shm/x && echo shm");
    spec.root.as_mut().unwrap().readonly = true;
    let outcome = world.run(&spec);
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    assert_eq!(outcome.stdout, "shm\n");
    assert!(!world.root().join("x").exists());
}

fn root_is_not_on_the_host() {
    let world = World::new();
    own_shared_mounts();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut container = world.sleeper(&world.spec("echo; exec sleep 1000"), None);
    let during = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    expect_no_new_mounts(&before, &during);
    container.kill(9).unwrap();
    container.wait().unwrap();
    // And nothing of the host's is in the container.
    let inside = world.sh("cut -d' ' -f5 /proc/self/mountinfo").ok();
    let lines: Vec<&str> = inside.lines().collect();
    assert_eq!(lines[0], "/");
    for line in &lines[1..] {
        assert!(
            ["/proc", "/dev", "/sys"]
                .iter()
                .any(|place| line.starts_with(place)),
            "{inside}"
        );
    }
}

/// /proc of the image leads elsewhere: what is masked by path would be somewhere else too.
fn proc_link() {
    let world = World::new();
    let root = world.root();
    std::fs::remove_dir(root.join("proc")).unwrap();
    std::fs::create_dir(root.join("elsewhere")).unwrap();
    symlink("/elsewhere", root.join("proc")).unwrap();
    let error = world.refusal(&world.spec("true")).to_string();
    assert!(
        error.contains("/proc must be mounted on ordinary directory"),
        "{error}"
    );
}

/// CVE-2025-31133: what files are masked with is the container's own /dev/null, if it is it.
fn false_null() {
    let world = World::new();
    let mut spec = world.spec("true");
    let fake = world.scratch().join("fake dev");
    std::fs::create_dir(&fake).unwrap();
    symlink("/proc/sysrq-trigger", fake.join("null")).unwrap();
    spec.mounts
        .retain(|mount| !mount.destination.starts_with("/dev"));
    spec.mounts
        .push(mount("/dev", "bind", fake.to_str().unwrap(), &["rbind"]));
    let error = world.refusal(&spec).to_string();
    assert!(error.starts_with("mask /proc/k"), "{error}");
    assert!(error.contains("/dev/null"), "{error}");
}

fn mount_targets() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("here"), "").unwrap();
    let target = outside.path().to_str().unwrap();
    symlink(target, world.root().join("link")).unwrap();
    let mut spec = world.spec("ls /link/sub /../link/file | tr '\\n' ' '");
    let source = source.path().to_str().unwrap();
    spec.mounts
        .push(mount("/link/sub", "bind", source, &["rbind"]));
    spec.mounts.push(mount(
        "/../../link/file",
        "bind",
        &format!("{source}/here"),
        &["bind"],
    ));
    let listed = world.run(&spec).ok();
    assert!(listed.contains("/link/sub: here"), "{listed}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn proc_cannot_be_covered() {
    let world = World::new();
    let source = world.scratch().join("file");
    std::fs::write(&source, "covered\n").unwrap();
    let source = source.to_str().unwrap();
    let mut spec = world.spec("cat /proc/uptime");
    spec.mounts
        .push(mount("/proc/uptime", "bind", source, &["bind"]));
    assert_eq!(world.run(&spec).ok(), "covered\n");
    symlink("/proc/self", world.root().join("me")).unwrap();
    for place in [
        "/proc/sys/kernel/core_pattern",
        "/proc/1/attr/exec",
        "/me/attr/exec",
    ] {
        let mut spec = world.spec("true");
        spec.mounts.push(mount(place, "bind", source, &["bind"]));
        let error = world.refusal(&spec).to_string();
        let refused = error.contains("may not be covered")
            || error.contains("Not a directory")
            || error.contains("No such");
        assert!(refused, "{place}: {error}");
    }
}

/// CVE-2024-21626: a descriptor of a host directory that leaks into init, used as the working directory. What init
/// still has open itself is inside of the root.
fn working_directory_outside() {
    let world = World::new();
    let host = std::fs::File::open("/").unwrap().into_raw_fd();
    for number in (3..16).chain([host]) {
        let mut spec = world.spec("[ . -ef / ] && echo inside");
        spec.process_mut().cwd = format!("/proc/self/fd/{number}");
        let root = world.root();
        let (stdio, output) = pipes();
        let mut container =
            ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
        match container.start() {
            Ok(()) => assert_eq!(output.read().0, "inside\n", "{number}"),
            Err(error) => assert!(
                error.to_string().contains("chdir to cwd"),
                "{number}: {error}"
            ),
        }
    }
}

fn session_keyring() {
    let world = World::new();
    let mut spec = world.spec("cat /proc/keys");
    spec.linux_mut().masked_paths.clear();
    // Of a user without keys only what it possesses is listed: its session keyring, which nobody has seen before.
    spec.process_mut().user.uid = 61_234;
    let numbers = |text: &str| -> Vec<String> {
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        text.lines().filter_map(first).collect()
    };
    let ours = numbers(&std::fs::read_to_string("/proc/keys").unwrap());
    let theirs = numbers(&world.run(&spec).ok());
    assert!(!theirs.is_empty());
    assert!(!theirs.iter().any(|key| ours.contains(key)), "{theirs:?}");
}

fn filter_forbids() {
    let world = World::new();
    let mut spec = world.spec("mkdir /tmp/x && echo made; unshare -m true; chmod 700 /tmp");
    let rule = |names: &[&str], errno| SeccompSyscall {
        names: list(names),
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: errno,
        ..SeccompSyscall::default()
    };
    spec.linux_mut().seccomp = Some(LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        architectures: list(&["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]),
        syscalls: vec![
            rule(&["unshare"], None),
            rule(&["chmod", "fchmodat"], Some(38)),
        ],
        ..LinuxSeccomp::default()
    });
    for user in [0, 1000] {
        for no_new_privileges in [false, true] {
            let _ = std::fs::remove_dir(world.root().join("tmp/x"));
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(world.root().join("tmp"), mode).unwrap();
            spec.process_mut().user.uid = user;
            spec.process_mut().no_new_privileges = no_new_privileges;
            let outcome = world.run(&spec);
            assert_eq!(outcome.stdout, "made\n", "{outcome:?}");
            assert!(
                outcome
                    .stderr
                    .contains("unshare(0x20000): Operation not permitted"),
                "{outcome:?}"
            );
            assert!(
                outcome
                    .stderr
                    .contains("chmod: /tmp: Function not implemented"),
                "{outcome:?}"
            );
        }
    }
    let (spec, root) = (world.spec("grep Seccomp: /proc/self/status"), world.root());
    let (stdio, output) = pipes();
    let filter = LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        ..LinuxSeccomp::default()
    };
    let program = ketch_runtime::seccomp::compile(&filter).unwrap();
    let mut options = world.options(&spec, &root, None, stdio);
    options.seccomp = Some(&program);
    let mut container = ketch_runtime::create(options).unwrap();
    container.start().unwrap();
    assert_eq!(output.read().0, "Seccomp:\t2\n");
    container.wait().unwrap();
}

fn docker_filter() {
    let world = World::new();
    let script = "mount -t tmpfs x /tmp; unshare -m true; unshare -U true; dmesg | head -1; echo fine; \
                  setpriv --dump > /dev/null; ls /proc/self/fd > /dev/null && echo done";
    let mut spec = world.spec(script);
    let filter = include_str!("../../src/seccomp/docker-default.json");
    spec.linux_mut().seccomp = Some(serde_json::from_str(filter).unwrap());
    spec.process_mut().capabilities.as_mut().unwrap().effective =
        ketch_runtime::known_capabilities();
    let outcome = world.run(&spec);
    assert_eq!(outcome.stdout, "fine\ndone\n", "{outcome:?}");
    for refused in [
        "mount: permission denied",
        "unshare(0x20000)",
        "unshare(0x10000000)",
        "klogctl",
    ] {
        assert!(outcome.stderr.contains(refused), "{refused}: {outcome:?}");
    }
}

/// CVE-2019-5736: the image's program is a link to /proc/self/exe, which is the program of the process that executes
/// it, ours, with the image's libraries. Here the program does itself what code in such a library would do.
fn attack_on_own_program() {
    let world = World::new();
    // The interpreter is asked for by one path and mapped from another.
    let interpreters = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let libraries = mapped
        .filter(|path| path.contains(".so"))
        .chain(interpreters);
    for library in libraries.filter(|path| std::path::Path::new(path).exists()) {
        let place = world.root().join(&library[1..]);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(library, place).unwrap();
    }
    symlink("/proc/self/exe", world.root().join("bin/evil")).unwrap();
    let mut spec = world.spec("");
    spec.process_mut().args = list(&["/bin/evil", "--case", "inner_evil"]);
    println!("{:?}", world.run(&spec));
}

fn evil() {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4777);
    println!("{:?}", std::fs::set_permissions("/proc/self/exe", mode));
}

fn own_program() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let program = scratch.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let attack = |executable: &std::path::Path| {
        let mut command = std::process::Command::new(executable);
        let output = command
            .args(["--case", "inner_attack_on_own_program"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let mode = std::fs::metadata(&program).unwrap().permissions().mode() & 0o7777;
        (mode, String::from_utf8(output.stdout).unwrap())
    };
    let before = 0o755;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(before)).unwrap();
    let sealed = ketch_runtime::read_only_program(&program).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&sealed));
    let (mode, outcome) = attack(path.as_ref());
    assert_eq!(mode, before, "{outcome}");
    assert!(outcome.contains("ReadOnlyFilesystem"), "{outcome}");
    // The attack is a real one: without the mount it succeeds.
    let (mode, outcome) = attack(&program);
    assert_eq!(mode, 0o4777, "{outcome}");
}
