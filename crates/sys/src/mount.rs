//! Mount calls that rustix lacks: mount_setattr(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::clone::last_errno;
use crate::{Error, Result};

/// Attribute: nothing can be written (`MOUNT_ATTR_RDONLY`).
pub const READ_ONLY: u64 = 0x01;
/// Attribute: set-user-id bits do not count.
pub const NO_SUID: u64 = 0x02;
/// Attribute: device nodes cannot be opened.
pub const NO_DEV: u64 = 0x04;
/// Attribute: nothing can be executed.
pub const NO_EXEC: u64 = 0x08;
/// Mask of the access time attributes.
pub const ATIME_MASK: u64 = 0x70;
/// Attribute: access times as `relatime`.
pub const RELATIVE_ATIME: u64 = 0x00;
/// Attribute: no access times.
pub const NO_ATIME: u64 = 0x10;
/// Attribute: every access time.
pub const STRICT_ATIME: u64 = 0x20;
/// Attribute: no access times of directories.
pub const NO_DIR_ATIME: u64 = 0x80;
/// Attribute: ids are mapped by a user namespace.
pub const ID_MAP: u64 = 0x0010_0000;
/// Attribute: symbolic links are not followed.
pub const NO_SYMLINK_FOLLOW: u64 = 0x0020_0000;

/// Propagation type: `MS_UNBINDABLE`.
pub const UNBINDABLE: u64 = 1 << 17;
/// Propagation type: `MS_PRIVATE`.
pub const PRIVATE: u64 = 1 << 18;
/// Propagation type: `MS_SLAVE`.
pub const SLAVE: u64 = 1 << 19;
/// Propagation type: `MS_SHARED`.
pub const SHARED: u64 = 1 << 20;

/// What [`set_attributes`] changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear. Setting an access time attribute needs [`ATIME_MASK`] here.
    pub clear: u64,
    /// New propagation type, or 0 to leave it.
    pub propagation: u64,
    /// User namespace of [`ID_MAP`].
    pub id_map: Option<BorrowedFd<'a>>,
    /// The mounts below too.
    pub recursive: bool,
}

/// What the kernel has to say about a mount context of fsopen(2): lines that begin with `e `, `w ` or `i `, joined.
/// Empty if it says nothing.
pub fn messages(context: BorrowedFd<'_>) -> String {
    let mut said = Vec::new();
    let mut line = [0u8; 512];
    while said.len() < 16 {
        match rustix::io::read(context, &mut line) {
            Ok(count) if count > 0 => {
                said.push(String::from_utf8_lossy(&line[..count]).trim().to_owned())
            }
            _ => break,
        }
    }
    said.join("; ")
}

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// mount_setattr(2) on the mount that `mount` is open on.
///
/// # Errors
/// What mount_setattr(2) says.
pub fn set_attributes(mount: impl AsFd, attributes: &Attributes<'_>) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if attributes.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let argument = MountAttr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the path is an empty C string, `argument` has the size that is passed; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&argument),
            std::mem::size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::new("mount_setattr", last_errno()))
    }
}
