use std::os::fd::AsFd;

use ketch_spec::mount::{self, MountSource};

use super::*;
use crate::container::config::{Device, Seccomp, Ulimit};
use crate::container::state::Status;
use crate::container::test_support::{config, put};
use crate::test_support::engine;

fn prepared(config: &ContainerConfig) -> Prepared {
    Prepared {
        user: ResolvedUser {
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".into(),
        },
        mounts: Vec::new(),
        namespaces: vec![LinuxNamespace {
            kind: NamespaceKind::Network,
            path: None,
        }],
        devices: Vec::new(),
        apparmor: "box".into(),
        files_of: config.id.clone(),
        _held: Vec::new(),
    }
}

fn mount(source: MountSource, target: &str) -> mount::Mount {
    mount::Mount {
        source,
        target: target.into(),
        read_only: false,
        propagation: None,
        non_recursive: false,
    }
}

fn bind(path: &str, target: &str) -> mount::Mount {
    mount(
        MountSource::Bind {
            path: path.into(),
            create: false,
        },
        target,
    )
}

#[test]
fn the_defaults_are_dockers() {
    let (_dir, engine) = engine();
    let mut config = config();
    config.process.command = vec!["true".into()];
    config.process.env = vec!["A=1".into(), "PATH=/bin".into()];
    let spec = runtime_spec(&engine, &config, &prepared(&config), None).unwrap();
    assert!(filter(&config, &spec).unwrap().is_some());
    let process = spec.process.unwrap();
    assert_eq!(process.args, ["true"]);
    assert_eq!(
        process.env,
        [
            "PATH=/bin",
            &format!("HOSTNAME={}", config.id.short()),
            "A=1",
            "HOME=/root"
        ]
    );
    assert_eq!(process.cwd, "/");
    assert_eq!(process.capabilities.unwrap().effective.len(), 14);
    assert!(!process.no_new_privileges);
    let linux = spec.linux.unwrap();
    assert_eq!(linux.cgroups_path, format!("/ketch/{}", config.id));
    // The default filter was compiled beforehand.
    assert!(linux.seccomp.is_none());
    assert!(linux.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert!(linux.readonly_paths.contains(&"/proc/sys".to_owned()));
    assert_eq!(linux.sysctl["net.ipv4.ip_unprivileged_port_start"], "0");
    let rules = linux.resources.unwrap().devices;
    assert!(!rules[0].allow && rules[0].kind == "a");
    let targets: Vec<&str> = spec
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    assert_eq!(
        targets,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/hosts"
        ]
    );
    assert!(spec.mounts[6].options.contains(&"size=67108864".to_owned()));
    assert!(spec.mounts[3].options.contains(&"ro".to_owned()));
}

#[test]
fn privileged_containers_have_everything() {
    let (_dir, engine) = engine();
    let mut config = config();
    config.security.privileged = true;
    let spec = runtime_spec(&engine, &config, &prepared(&config), None).unwrap();
    assert!(filter(&config, &spec).unwrap().is_none());
    let linux = spec.linux.unwrap();
    assert!(
        linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty()
    );
    assert_eq!(linux.resources.unwrap().devices.len(), 1);
    assert!(spec.mounts[3].options.contains(&"rw".to_owned()));
    assert_eq!(
        spec.process.unwrap().capabilities.unwrap().bounding.len(),
        capabilities::ALL.len()
    );
}

#[test]
fn init_and_terminal() {
    let (_dir, engine) = engine();
    let mut config = config();
    config.init = true;
    config.process.tty = true;
    config.process.command = vec!["sh".into(), "-c".into(), "true".into()];
    let spec = runtime_spec(&engine, &config, &prepared(&config), Some((24, 80))).unwrap();
    let process = spec.process.unwrap();
    assert_eq!(
        process.args,
        ["/sbin/docker-init", "--", "sh", "-c", "true"]
    );
    assert_eq!(process.env[2], "TERM=xterm");
    assert_eq!(process.console_size.unwrap().width, 80);
    assert!(spec.mounts.iter().any(|mount| mount.destination == INIT_PATH && mount.options.contains(&"ro".to_owned())));
}

#[test]
fn own_mounts_hide_standard_ones_and_come_in_order_of_depth() {
    let (dir, engine) = engine();
    let root = std::fs::File::open(dir.path()).unwrap();
    let mut config = config();
    config.mounts = vec![
        bind("/tmp", "/a/b"),
        bind("/tmp", "/a"),
        bind("/tmp", "/dev/shm"),
        bind("/tmp", "/etc/hosts"),
    ];
    config.mounts[0].read_only = true;
    let prepared = prepare(&engine, &config, root.as_fd()).unwrap();
    let spec = runtime_spec(&engine, &config, &prepared, None).unwrap();
    let targets: Vec<&str> = spec
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    assert_eq!(
        targets
            .iter()
            .filter(|target| **target == "/dev/shm")
            .count(),
        1
    );
    assert_eq!(
        targets
            .iter()
            .filter(|target| **target == "/etc/hosts")
            .count(),
        1
    );
    let place = |target: &str| targets.iter().position(|other| *other == target).unwrap();
    assert!(place("/a") < place("/a/b"));
    assert_eq!(
        spec.mounts[place("/a/b")].options,
        ["rbind", "rro", "rprivate"]
    );
    // A user's /dev hides what we would put below it.
    config.mounts = vec![bind("/tmp", "/dev")];
    let prepared = prepare(&engine, &config, root.as_fd()).unwrap();
    let spec = runtime_spec(&engine, &config, &prepared, None).unwrap();
    assert!(
        !spec
            .mounts
            .iter()
            .any(|mount| mount.destination.starts_with("/dev/"))
    );
}

#[test]
fn a_bind_source_is_made_only_where_that_was_asked_for() {
    let (dir, engine) = engine();
    let root = std::fs::File::open(dir.path()).unwrap();
    let missing = dir
        .path()
        .join("missing/deep")
        .to_string_lossy()
        .into_owned();
    let mut config = config();
    config.mounts = vec![bind(&missing, "/a")];
    assert_eq!(
        prepare(&engine, &config, root.as_fd()).unwrap_err().message,
        format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {missing}"
        )
    );
    config.mounts = vec![mount(
        MountSource::Bind {
            path: missing.clone(),
            create: true,
        },
        "/a",
    )];
    prepare(&engine, &config, root.as_fd()).unwrap();
    assert!(std::path::Path::new(&missing).is_dir());
}

#[test]
fn a_subpath_stays_in_its_volume() {
    let (dir, engine) = engine();
    let root = std::fs::File::open(dir.path()).unwrap();
    let request = crate::volume::VolumeRequest {
        name: Some("data".into()),
        ..Default::default()
    };
    crate::volume::create(&engine, request).unwrap();
    let data = engine.paths().volume_data("data");
    std::fs::create_dir(data.join("sub")).unwrap();
    std::os::unix::fs::symlink("/etc", data.join("out")).unwrap();
    let volume = |subpath: &str| MountSource::Volume {
        name: Some("data".into()),
        anonymous: false,
        no_copy: false,
        subpath: Some(subpath.into()),
        labels: Default::default(),
    };
    let mut config = config();
    config.mounts = vec![mount(volume("sub"), "/a")];
    let prepared = prepare(&engine, &config, root.as_fd()).unwrap();
    assert_eq!(
        std::fs::canonicalize(&prepared.mounts[0].source).unwrap(),
        std::fs::canonicalize(data.join("sub")).unwrap()
    );
    config.mounts = vec![mount(volume("out"), "/a")];
    let error = prepare(&engine, &config, root.as_fd()).unwrap_err();
    assert!(
        error
            .message
            .starts_with("cannot access path out of volume data"),
        "{error}"
    );
}

#[test]
fn another_containers_namespace_needs_it_running() {
    let (dir, engine) = engine();
    let root = std::fs::File::open(dir.path()).unwrap();
    let other = put(&engine, "other", Status::Exited);
    let mut config = config();
    config.network.mode = NetworkMode::Container(other.id.clone());
    let error = prepare(&engine, &config, root.as_fd()).unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "cannot join network of a non running container: {}",
            other.id
        )
    );
    // Let this test's own process be the other container's init.
    let lock = crate::lock::OwnerLock::take(&engine.paths().owner_lock(&other.id))
        .unwrap()
        .unwrap();
    let mut state = crate::container::ContainerState::created();
    state.status = Status::Running;
    state.pid = std::process::id();
    crate::container::load::write_state(&engine, &other, &state).unwrap();
    let prepared = prepare(&engine, &config, root.as_fd()).unwrap();
    let network = prepared
        .namespaces
        .iter()
        .find(|namespace| namespace.kind == NamespaceKind::Network)
        .unwrap();
    let path = network.path.as_ref().unwrap();
    assert_eq!(
        std::fs::read_link(path).unwrap(),
        std::fs::read_link("/proc/self/ns/net").unwrap()
    );
    let spec = runtime_spec(&engine, &config, &prepared, None).unwrap();
    assert!(spec.linux.unwrap().sysctl.is_empty());
    let hosts = spec
        .mounts
        .iter()
        .find(|mount| mount.destination == "/etc/hosts")
        .unwrap();
    assert_eq!(
        hosts.source,
        engine.paths().hosts(&other.id).to_string_lossy()
    );
    drop(lock);
}

#[test]
fn devices_are_found_by_number_and_limits_by_name() {
    let mut config = config();
    config.resources.devices = vec![Device {
        host: "/dev/null".into(),
        container: "/dev/nothing".into(),
        permissions: "r".into(),
    }];
    let found = devices::of(&config).unwrap();
    assert_eq!(
        (found[0].path.as_str(), found[0].major, found[0].minor),
        ("/dev/nothing", 1, 3)
    );
    let rules = resources::of(&config, &found).unwrap().devices;
    assert_eq!(rules.last().unwrap().access, "r");
    config.resources.devices[0].host = "/etc/passwd".into();
    assert!(
        devices::of(&config)
            .unwrap_err()
            .message
            .contains("not a device node")
    );
    let limit = |name: &str, soft, hard| {
        rlimit(&Ulimit {
            name: name.into(),
            soft,
            hard,
        })
    };
    assert_eq!(limit("nofile", 10, -1).unwrap().kind, "RLIMIT_NOFILE");
    assert_eq!(limit("nofile", 10, -1).unwrap().hard, u64::MAX);
    assert!(limit("nofile", 20, 10).is_err() && limit("nope", 1, 1).is_err());
}

#[test]
fn exec_sessions_have_the_containers_environment() {
    let mut config = config();
    config.process.env = vec!["A=1".into(), "B=2".into()];
    config.process.working_dir = "/srv".into();
    let exec = crate::container::ExecConfig {
        command: vec!["env".into()],
        env: vec!["B=3".into()],
        privileged: true,
        ..Default::default()
    };
    let user = ResolvedUser {
        uid: 33,
        gid: 33,
        groups: vec![33],
        home: "/var/www".into(),
    };
    let process = exec_process(&config, &exec, &user, "box".into()).unwrap();
    assert_eq!(process.apparmor_profile, "box");
    assert_eq!(process.cwd, "/srv");
    assert_eq!(process.env[2..], ["A=1", "B=3", "HOME=/var/www"]);
    assert_eq!(
        process.capabilities.unwrap().bounding.len(),
        capabilities::ALL.len()
    );
    assert_eq!(process.user.uid, 33);
}

#[test]
fn every_container_has_the_filter_that_it_asks_for() {
    let (_dir, engine) = engine();
    let mut config = config();
    let length = |config: &ContainerConfig| {
        let spec = runtime_spec(&engine, config, &prepared(config), None).unwrap();
        let rules = spec.linux.as_ref().unwrap().seccomp.is_some();
        let program = filter(config, &spec).unwrap();
        (rules, program.map(|program| program.len()))
    };
    let (rules, default) = length(&config);
    assert!(!rules && default > Some(500));
    config.security.cap_add = vec!["SYS_ADMIN".into()];
    let (rules, more) = length(&config);
    assert!(rules && more.is_some() && more != default);
    config.security.seccomp = Seccomp::Profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.into());
    assert!(matches!(length(&config), (true, Some(1..20))));
    config.security.seccomp = Seccomp::Unconfined;
    assert_eq!(length(&config), (false, None));
}
