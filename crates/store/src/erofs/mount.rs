//! Mounting images from files: no loop device (Linux 6.12 and later, `CONFIG_EROFS_FS_BACKED_BY_FILE`).

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ketch_spec::Digest;
use ketch_sys as sys;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::Writer;
use crate::pipeline::Work;
use crate::tar::{self, Reader};
use crate::{Error, Result, Store, target};

/// What the kernel said, and what it wrote into the mount's message log.
#[derive(Debug)]
pub struct Refusal {
    /// The call and the error number.
    pub source: sys::Error,
    /// The log, or else the error number's text.
    pub said: String,
}

/// Mounts an image with its archive, read-only, attached nowhere.
///
/// # Errors
/// The kernel's.
pub fn mount(image: BorrowedFd<'_>, archive: BorrowedFd<'_>) -> Result<OwnedFd, Refusal> {
    let refused = |call: &'static str, said: String| {
        move |errno| {
            let source = sys::Error::new(call, errno);
            Refusal {
                said: if said.is_empty() {
                    source.to_string()
                } else {
                    said
                },
                source,
            }
        }
    };
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(refused("fsopen", String::new()))?;
    let path = |file: BorrowedFd<'_>| format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::mount::fsconfig_set_string(&context, "source", path(image))
        .and_then(|()| rustix::mount::fsconfig_set_string(&context, "device", path(archive)))
        .and_then(|()| rustix::mount::fsconfig_set_flag(&context, "ro"))
        .and_then(|()| rustix::mount::fsconfig_create(&context))
        .map_err(|errno| refused("fsconfig", sys::mount::messages(context.as_fd()))(errno))?;
    // What is set-user-id or a device in it counts in containers' own mounts only.
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(refused("fsmount", String::new()))
}

/// Mounts an image of nothing.
///
/// # Errors
/// It does not work here.
pub fn probe(store: &Store) -> Result<()> {
    let work = Work(store.work_directory("probe")?);
    let create = |name: &str| {
        let path = work.0.join(name);
        let opened = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        opened.map_err(Error::io("create", path))
    };
    let (image, archive) = (create(target::IMAGE)?, create(target::TAR)?);
    let clone = |file: &File| file.try_clone().map_err(Error::io("dup", &work.0));
    let empty = [0u8; 2 * tar::BLOCK_BYTES];
    std::io::Write::write_all(&mut &archive, &empty).map_err(Error::io("write", &work.0))?;
    let writer = Writer::new(clone(&image)?, clone(&archive)?)?;
    let (_, unsealed) = writer.run(&mut Reader::new(BufReader::new(&empty[..])))?;
    let digest = Digest::of(&empty);
    unsealed
        .seal(&digest, empty.len() as u64)
        .map_err(Error::io("write", &work.0))?;
    let mounted = mount(image.as_fd(), archive.as_fd());
    mounted.map(drop).map_err(|refusal| Error::Mount {
        diff_id: digest,
        said: refusal.said,
        source: refusal.source,
    })
}
