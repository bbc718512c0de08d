//! Mounts: Docker's standard ones, the container's own files, volumes, binds and tmpfs.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_spec::Id;
use ketch_spec::mount::{self, MountSource};
use ketch_spec::runtime::Mount;
use rustix::fs::{Mode, OFlags};

use super::Prepared;
use crate::container::config::{ContainerConfig, NamespaceMode};
use crate::container::init_program;
use crate::volume;
use crate::{Engine, Error, ErrorKind, Result};

/// Where `--init` puts our reaper.
pub const INIT_PATH: &str = "/sbin/docker-init";
/// Docker's default of `--shm-size`.
const SHM_BYTES: u64 = 64 << 20;

/// All mounts in the order in which they are made: parents before what is below them.
///
/// # Errors
/// Those of making the init program's file.
pub(super) fn all(
    engine: &Engine,
    config: &ContainerConfig,
    prepared: &Prepared,
) -> Result<Vec<Mount>> {
    let own = prepared
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str());
    let own: Vec<&str> = own.map(|path| path.trim_end_matches('/')).collect();
    let hidden =
        |path: &str| own.contains(&path) || (own.contains(&"/dev") && path.starts_with("/dev/"));
    let mut mounts: Vec<Mount> = standard(config)
        .into_iter()
        .filter(|mount| !hidden(&mount.destination))
        .collect();
    mounts.extend(
        files(engine, &prepared.files_of, config)
            .into_iter()
            .filter(|mount| !hidden(&mount.destination)),
    );
    if config.init {
        let source = init_program::ensure(engine)?;
        mounts.push(bind(
            source.to_string_lossy().into_owned(),
            INIT_PATH.into(),
            &["bind", "ro", "nosuid", "nodev", "private"],
        ));
    }
    let mut user = prepared.mounts.clone();
    // Stable: mounts of the same depth stay in the user's order.
    user.sort_by_key(|mount| depth(&mount.destination));
    mounts.extend(user);
    Ok(mounts)
}

/// Volumes, binds and tmpfs as the user asked for them, with sources that exist.
pub(super) fn of_user(
    engine: &Engine,
    config: &ContainerConfig,
    root: BorrowedFd<'_>,
    held: &mut Vec<OwnedFd>,
) -> Result<Vec<Mount>> {
    config
        .mounts
        .iter()
        .map(|mount| one(engine, mount, root, held))
        .collect()
}

fn one(
    engine: &Engine,
    mount: &mount::Mount,
    root: BorrowedFd<'_>,
    held: &mut Vec<OwnedFd>,
) -> Result<Mount> {
    match &mount.source {
        MountSource::Volume {
            name,
            no_copy,
            subpath,
            ..
        } => {
            let name = name.as_deref().ok_or_else(|| nameless(&mount.target))?;
            if !no_copy {
                volume::populate(engine, name, root, Path::new(&mount.target))?;
            }
            let source = volume_source(engine, name, subpath.as_deref(), held)?;
            Ok(bind(source, mount.target.clone(), &bind_options(mount)))
        }
        MountSource::Bind { path, create } => {
            ensure_source(path, *create)?;
            Ok(bind(
                path.clone(),
                mount.target.clone(),
                &bind_options(mount),
            ))
        }
        MountSource::Tmpfs {
            size_bytes,
            mode,
            options,
        } => Ok(tmpfs(mount, *size_bytes, *mode, options)),
    }
}

fn volume_source(
    engine: &Engine,
    name: &str,
    subpath: Option<&str>,
    held: &mut Vec<OwnedFd>,
) -> Result<String> {
    let data = volume::data_source(engine, name)?;
    let Some(subpath) = subpath.filter(|path| !path.is_empty()) else {
        return Ok(data.to_string_lossy().into_owned());
    };
    // Containers write the volume: a link in it must not lead out of it, now or when the mount is made.
    let failed = |errno: rustix::io::Errno| {
        Error::caused(
            ErrorKind::Invalid,
            format!("cannot access path {subpath} of volume {name}"),
            &errno,
        )
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let dir = rustix::fs::open(&data, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let inside = ketch_sys::fs::open_in_root(dir.as_fd(), Path::new(subpath), flags, Mode::empty())
        .map_err(failed)?;
    let source = format!("/proc/self/fd/{}", inside.as_raw_fd());
    held.push(inside);
    Ok(source)
}

/// Checks a bind's source, or makes it as a directory where that was asked for.
pub(crate) fn ensure_source(path: &str, create: bool) -> Result<()> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && create => {
            fs::create_dir_all(path).map_err(|error| {
                Error::caused(
                    ErrorKind::Invalid,
                    format!("error while creating mount source path '{path}'"),
                    &error,
                )
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {path}"
            ),
        )),
        Err(error) => Err(Error::caused(
            ErrorKind::Invalid,
            format!("invalid mount config for type \"bind\": {path}"),
            &error,
        )),
    }
}

fn bind_options(mount: &mount::Mount) -> Vec<&str> {
    let recursive = if mount.non_recursive { "bind" } else { "rbind" };
    let propagation = mount
        .propagation
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or("rprivate");
    // As Docker since 25: read-only also for what is mounted below the source.
    let access = match (mount.read_only, mount.non_recursive) {
        (false, _) => "rw",
        (true, true) => "ro",
        (true, false) => "rro",
    };
    vec![recursive, access, propagation]
}

fn tmpfs(
    mount: &mount::Mount,
    size_bytes: Option<u64>,
    mode: Option<u32>,
    more: &[String],
) -> Mount {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    for option in more {
        // An option takes the place of its opposite among the defaults.
        options.retain(|default| *default != format!("no{option}"));
        options.push(option.clone());
    }
    options.push(if mount.read_only { "ro" } else { "rw" }.to_owned());
    options.extend(size_bytes.map(|bytes| format!("size={bytes}")));
    options.extend(mode.map(|mode| format!("mode={mode:o}")));
    options.push(
        mount
            .propagation
            .clone()
            .unwrap_or_else(|| "rprivate".into()),
    );
    Mount {
        destination: mount.target.clone(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options,
        ..Mount::default()
    }
}

/// hosts, hostname and resolv.conf; read-only only where the root is.
fn files(engine: &Engine, of: &Id, config: &ContainerConfig) -> Vec<Mount> {
    let access = if config.security.read_only {
        "ro"
    } else {
        "rw"
    };
    [
        (engine.paths().resolv_conf(of), "/etc/resolv.conf"),
        (engine.paths().hostname(of), "/etc/hostname"),
        (engine.paths().hosts(of), "/etc/hosts"),
    ]
    .into_iter()
    .map(|(source, target)| {
        bind(
            source.to_string_lossy().into_owned(),
            target.into(),
            &["rbind", access, "rprivate"],
        )
    })
    .collect()
}

fn standard(config: &ContainerConfig) -> Vec<Mount> {
    let writable = config.security.privileged;
    let shm = format!(
        "size={}",
        config.resources.shm_size_bytes.unwrap_or(SHM_BYTES)
    );
    let read_only =
        |options: &mut Vec<String>| options.push(if writable { "rw" } else { "ro" }.into());
    let mut sys = special("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev"]);
    let mut cgroup = special(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev"],
    );
    read_only(&mut sys.options);
    read_only(&mut cgroup.options);
    let mut mounts = vec![
        special("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        special(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        special(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        sys,
        cgroup,
    ];
    if config.namespaces.ipc == NamespaceMode::Host {
        for path in ["/dev/mqueue", "/dev/shm"] {
            // The host may have neither; then the container has none, as Docker's would not start without.
            if Path::new(path).is_dir() {
                mounts.push(bind(
                    path.into(),
                    path.into(),
                    &["rbind", "rw", "nosuid", "noexec", "nodev"],
                ));
            }
        }
        return mounts;
    }
    mounts.push(special(
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ));
    mounts.push(special(
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", &shm],
    ));
    mounts
}

fn special(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(source: String, destination: String, options: &[&str]) -> Mount {
    Mount {
        destination,
        kind: "bind".into(),
        source,
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

fn nameless(target: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the volume at {target} has no name"),
    )
}
