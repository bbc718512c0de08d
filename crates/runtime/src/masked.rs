//! Paths of /proc and /sys that show nothing, or cannot be written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::attach::{attach, duplicate, new_file_system};
use crate::devices::open_null;
use crate::error::{During, Result};
use crate::mounts::{MountPlan, Object, clean};
use crate::options::{Change, Options};
use crate::resolve::{self, PROC_MAGIC};

/// In the child: what is at /proc is the procfs that was mounted there. What is masked and made read-only is so by its
/// path, which someone who shares the image's directories could have exchanged meanwhile.
pub(crate) fn check_proc(root: BorrowedFd<'_>, mounts: &[MountPlan]) -> Result<()> {
    let place = Path::new("/proc");
    let step = "check that /proc is what was mounted there";
    let is_proc = |mount: &MountPlan| {
        let new = matches!(&mount.object, Object::New(kind, _) if kind == "proc");
        new && mount.destination == place
    };
    if !mounts.iter().any(is_proc) {
        return Ok(());
    }
    let found = resolve::open_without_links(root, place, OFlags::PATH).during(step)?;
    if resolve::is_on(&found, PROC_MAGIC).during(step)? {
        Ok(())
    } else {
        Err(SysError::on("fstatfs", place, Errno::INVAL)).during(step)
    }
}

/// In the child: covers `paths`, files with the null device, directories with an empty file system. Paths that are
/// not there are passed over.
pub(crate) fn mask(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    let mut null = None;
    let mut empty = None;
    for path in paths {
        let step = format!("mask {path}");
        let Some(point) = find(root, path).during(&step)? else {
            continue;
        };
        if resolve::is_directory(&point).during(&step)? {
            cover_directory(&mut empty, point.as_fd()).during(&step)?;
        } else {
            cover_file(root, &mut null, point.as_fd()).during(&step)?;
        }
    }
    Ok(())
}

/// One empty file system serves all directories: a copy of a mount costs less than a new one.
fn cover_directory(empty: &mut Option<OwnedFd>, point: BorrowedFd<'_>) -> Result<(), SysError> {
    if let Some(empty) = empty {
        return attach(duplicate(empty.as_fd(), false)?.as_fd(), point);
    }
    let read_only = Change {
        set: attr::READ_ONLY | attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC,
        clear: 0,
    };
    let data = vec![
        ("nr_inodes".into(), Some("1".into())),
        ("mode".into(), Some("755".into())),
    ];
    let options = Options {
        own: read_only,
        data,
        ..Options::default()
    };
    let mount = new_file_system("tmpfs", "tmpfs", &options)?;
    attach(mount.as_fd(), point)?;
    *empty = Some(mount);
    Ok(())
}

fn cover_file(
    root: BorrowedFd<'_>,
    null: &mut Option<OwnedFd>,
    point: BorrowedFd<'_>,
) -> Result<(), SysError> {
    let null = match null {
        Some(null) => null,
        None => null.insert(open_null(root)?),
    };
    attach(duplicate(null.as_fd(), false)?.as_fd(), point)
}

/// In the child: makes `paths` and what is below them read-only. Paths that are not there are passed over.
pub(crate) fn make_read_only(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    for path in paths {
        let step = format!("make {path} read-only");
        let Some(point) = find(root, path).during(&step)? else {
            continue;
        };
        let tree = duplicate(point.as_fd(), true).during(&step)?;
        let change = Attributes {
            set: attr::READ_ONLY,
            recursive: true,
            ..Attributes::default()
        };
        set_attributes(&tree, &change).during(&step)?;
        attach(tree.as_fd(), point.as_fd()).during(&step)?;
    }
    Ok(())
}

fn find(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, SysError> {
    match resolve::open(root, Path::new(&clean(path)), OFlags::PATH) {
        Ok(point) => Ok(Some(point)),
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}
