//! Device nodes: those asked for with `--device`, or all of the host's for a privileged container.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use ketch_spec::runtime::LinuxDevice;

use crate::container::config::{ContainerConfig, Device};
use crate::{Error, ErrorKind, Result};

/// How deep directories of devices go.
const MAX_DEPTH: usize = 8;

/// What below /dev is the container's own or not a device of the machine.
const OWN: &[&str] = &[
    "/dev/pts",
    "/dev/shm",
    "/dev/fd",
    "/dev/mqueue",
    "/dev/console",
    "/dev/ptmx",
    "/dev/.lxc",
    "/dev/.udev",
];

/// The device nodes of a container besides the default ones.
pub(super) fn of(config: &ContainerConfig) -> Result<Vec<LinuxDevice>> {
    let mut found = Vec::new();
    if config.security.privileged {
        collect(Path::new("/dev"), "/dev", 0, &mut found)?;
    }
    for device in &config.resources.devices {
        found.retain(|node: &LinuxDevice| node.path != device.container);
        add(device, &mut found)?;
    }
    Ok(found)
}

fn add(device: &Device, found: &mut Vec<LinuxDevice>) -> Result<()> {
    let host = Path::new(&device.host);
    let metadata = fs::metadata(host).map_err(|error| gathering(&device.host, &error))?;
    if metadata.is_dir() {
        return collect(host, &device.container, 0, found);
    }
    match node(&metadata, &device.container) {
        Some(node) => found.push(node),
        None => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "error gathering device information while adding custom device \"{}\": not a device node",
                    device.host
                ),
            ));
        }
    }
    Ok(())
}

fn collect(dir: &Path, target: &str, depth: usize, found: &mut Vec<LinuxDevice>) -> Result<()> {
    let entries =
        fs::read_dir(dir).map_err(|error| gathering(&dir.display().to_string(), &error))?;
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{target}/{name}");
        // Links are left out, as by Docker: what they lead to is found by itself. A node may go while we look.
        let Ok(metadata) = entry.path().symlink_metadata() else {
            continue;
        };
        if OWN.contains(&path.as_str()) {
            continue;
        }
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                collect(&entry.path(), &path, depth + 1, found)?;
            }
        } else if let Some(node) = node(&metadata, &path) {
            found.push(node);
        }
    }
    Ok(())
}

fn node(metadata: &fs::Metadata, path: &str) -> Option<LinuxDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    Some(LinuxDevice {
        path: path.to_owned(),
        kind: kind.into(),
        major: rustix::fs::major(metadata.rdev()).into(),
        minor: rustix::fs::minor(metadata.rdev()).into(),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
        ..LinuxDevice::default()
    })
}

fn gathering(path: &str, error: &std::io::Error) -> Error {
    Error::caused(
        ErrorKind::Invalid,
        format!("error gathering device information while adding custom device \"{path}\""),
        error,
    )
}
