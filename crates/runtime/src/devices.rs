//! Device nodes and the links that every /dev has.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use ketch_spec::runtime::LinuxDevice;
use ketch_sys::Error as SysError;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::attach::attach;
use crate::check::NO_ID;
use crate::error::{Called, During, Error, Result};
use crate::mounts::{clean, clone_tree};
use crate::namespaces::is_in_user_namespace;
use crate::resolve::{self, PointKind};

/// The devices that the OCI specification wants in every container.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// One node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    path: std::path::PathBuf,
    kind: FileType,
    device: u64,
    mode: u32,
    owner: (u32, u32),
}

/// In the parent: checks `linux.devices`, and puts the default devices before them.
pub(crate) fn plan(devices: &[LinuxDevice]) -> Result<Vec<Node>> {
    let mut wanted: Vec<Node> = devices.iter().map(plan_one).collect::<Result<_>>()?;
    // The container's own devpts makes that one.
    wanted.retain(|node| node.path != Path::new("/dev/ptmx"));
    let mut nodes: Vec<Node> = DEFAULTS
        .iter()
        .filter(|(path, ..)| wanted.iter().all(|node| node.path != Path::new(path)))
        .map(|&(path, major, minor)| Node {
            path: path.into(),
            kind: FileType::CharacterDevice,
            device: makedev(major, minor),
            mode: 0o666,
            owner: (0, 0),
        })
        .collect();
    nodes.extend(wanted);
    Ok(nodes)
}

fn plan_one(device: &LinuxDevice) -> Result<Node> {
    let field = || format!("linux.devices {}", device.path);
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Error::invalid(field(), format!("unknown type {other:?}"))),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| number);
    let (major, minor) = match (kind, number(device.major), number(device.minor)) {
        (FileType::Fifo, ..) => (0, 0),
        (_, Ok(major), Ok(minor)) => (major, minor),
        (_, Err(number), _) | (_, _, Err(number)) => {
            return Err(Error::invalid(
                field(),
                format!("{number} is no device number"),
            ));
        }
    };
    if device.uid == Some(NO_ID) || device.gid == Some(NO_ID) {
        let reason = format!("{NO_ID} is no owner");
        return Err(Error::invalid(field(), reason));
    }
    Ok(Node {
        path: clean(&device.path),
        kind,
        device: makedev(major, minor),
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
    })
}

/// In the child: makes the nodes. Where the kernel forbids that (in a user namespace), the host's are bound.
pub(crate) fn make_all(root: BorrowedFd<'_>, nodes: &[Node]) -> Result<()> {
    for node in nodes {
        make(root, node).during(format!("make the device {}", node.path.display()))?;
    }
    Ok(())
}

fn make(root: BorrowedFd<'_>, node: &Node) -> Result<(), SysError> {
    let (parent, name) = resolve::make_parent(root, &node.path)?;
    match mknodat(
        &parent,
        &name,
        node.kind,
        Mode::from_raw_mode(node.mode),
        node.device,
    ) {
        Ok(()) => {}
        Err(Errno::EXIST) => return take_existing(root, parent.as_fd(), Path::new(&name), node),
        Err(Errno::PERM) => return bind_from_host(root, node),
        Err(errno) => return Err(SysError::on("mknod", &node.path, errno)),
    }
    if node.owner != (0, 0) {
        let owner = (
            Some(Uid::from_raw(node.owner.0)),
            Some(Gid::from_raw(node.owner.1)),
        );
        chownat(&parent, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
            .called_on("chown", &node.path)?;
        // A change of owner takes set-id bits away.
        chmodat(
            &parent,
            &name,
            Mode::from_raw_mode(node.mode),
            AtFlags::empty(),
        )
        .called_on("chmod", &node.path)?;
    }
    Ok(())
}

/// An image may have the node already. In a user namespace it may have an empty file, which was made to bind the
/// host's device at when the image ran before. Anything else under its name is refused.
fn take_existing(
    root: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &Path,
    node: &Node,
) -> Result<(), SysError> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).called_on("stat", &node.path)?;
    let same = FileType::from_raw_mode(stat.st_mode) == node.kind
        && (node.kind == FileType::Fifo || stat.st_rdev == node.device);
    let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if same {
        Ok(())
    } else if file && stat.st_size == 0 && is_in_user_namespace() {
        bind_from_host(root, node)
    } else {
        Err(SysError::on("mknod", &node.path, Errno::EXIST))
    }
}

fn bind_from_host(root: BorrowedFd<'_>, node: &Node) -> Result<(), SysError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let host = rustix::fs::open(&node.path, flags, Mode::empty()).called_on("open", &node.path)?;
    let stat = rustix::fs::fstat(&host).called_on("fstat", &node.path)?;
    if FileType::from_raw_mode(stat.st_mode) != node.kind || stat.st_rdev != node.device {
        return Err(SysError::on(
            "bind the host's device",
            &node.path,
            Errno::NODEV,
        ));
    }
    let tree = clone_tree(host.as_fd(), OsStr::new(""), false)?;
    let point = resolve::mount_point(root, &node.path, PointKind::File)?;
    attach(tree.as_fd(), point.as_fd())
}

/// In the child: the links of /dev. What is there already is left, but for `ptmx`: only the container's own devpts
/// will do.
pub(crate) fn make_links(root: BorrowedFd<'_>) -> Result<()> {
    let step = "make the links in /dev";
    let dev = resolve::directory(root, Path::new("/dev")).during(step)?;
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(SysError::on("symlink", name, errno)).during(step),
        }
    }
    match unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(SysError::on("unlink", "/dev/ptmx", errno)).during(step),
    }
    symlinkat("pts/ptmx", &dev, "ptmx")
        .called_on("symlink", "/dev/ptmx")
        .during(step)
}

/// The container's own `/dev/null`, checked to be it: masking with anything else would show it instead.
pub(crate) fn open_null(root: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, SysError> {
    let path = Path::new("/dev/null");
    let null = resolve::open(root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&null).called_on("fstat", path)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3) {
        Ok(null)
    } else {
        Err(SysError::on(
            "check that it is the null device",
            path,
            Errno::NODEV,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: &str) -> LinuxDevice {
        LinuxDevice {
            path: path.into(),
            kind: kind.into(),
            major: 1,
            minor: 3,
            ..LinuxDevice::default()
        }
    }

    #[test]
    fn a_listed_device_replaces_the_default_one() {
        let mut null = device("/dev/../dev/null", "c");
        null.file_mode = Some(0o600);
        let nodes = plan(&[null]).unwrap();
        let nulls: Vec<_> = nodes
            .iter()
            .filter(|node| node.path == Path::new("/dev/null"))
            .collect();
        assert_eq!(nulls.len(), 1);
        assert_eq!(nulls[0].mode, 0o600);
        assert_eq!(nodes.len(), DEFAULTS.len());
    }

    #[test]
    fn ptmx_is_left_to_devpts() {
        let nodes = plan(&[device("/dev/ptmx", "c"), device("/dev/x", "u")]).unwrap();
        assert_eq!(nodes.len(), DEFAULTS.len() + 1);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!(
            plan(&[device("/dev/x", "z")])
                .unwrap_err()
                .to_string()
                .contains("unknown type")
        );
        let mut negative = device("/dev/x", "c");
        negative.minor = -1;
        assert!(
            plan(&[negative])
                .unwrap_err()
                .to_string()
                .contains("-1 is no device number")
        );
    }
}
