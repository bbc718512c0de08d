//! Layers that are kept as images, mounted: once for everyone, at `<run root>/layers/<hex of diff id>`, as long as anyone
//! uses them.
//!
//! A user holds a shared lock on the layer's byte of `<run root>/layers.lock`: the monitor for the whole life of its
//! container, a verb while it looks. Who lets go tries to lock the byte alone; who can is the last, and unmounts. Mounting
//! and unmounting happen under the exclusive lock of byte 0. The kernel frees the locks of a killed user, and the next
//! one to let go of anything, or [`sweep`], unmounts what it left.
//!
//! Order: a layer's byte shared, then byte 0, then layers' bytes exclusive without waiting. So nobody waits in a circle.
//!
//! In another mount namespace than the one the layer was mounted in, it is mounted again; the last user's rmdir(2) takes
//! the mounts of all namespaces off.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ketch_spec::Digest;
use ketch_store::OpenLayer;
use ketch_sys as sys;
use ketch_sys::lock::Kind;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::LayerError;
use crate::{Engine, Result};

/// The byte that is locked to mount and unmount.
const PLACE_BYTE: u64 = 0;

/// Layers in use: while it lives, their mounts stay.
#[derive(Debug)]
pub struct LayerUse {
    /// None if no layer is mounted for it.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    place: Place,
    bytes: Vec<u64>,
}

impl LayerUse {
    /// Whether there are images among the layers.
    pub(super) fn has_images(&self) -> bool {
        self.held.is_some()
    }

    /// Mounts what is not mounted of `layers` (diff ids), and keeps it so.
    ///
    /// # Errors
    /// `NotFound` if a layer is not in the store; the kernel's.
    pub fn new(engine: &Engine, layers: &[Digest]) -> Result<Self> {
        Ok(attach(engine, layers)?.1)
    }
}

impl Drop for LayerUse {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // What cannot be unmounted now, the next user's end unmounts.
            let _ = held.release();
        }
    }
}

impl Held {
    fn release(self) -> Result<(), LayerError> {
        for byte in &self.bytes {
            sys::lock::unlock_byte(self.place.lock.as_fd(), *byte)?;
        }
        self.place.unmount_unused()
    }
}

/// Unmounts the layers that nobody uses: those that killed users left.
///
/// # Errors
/// The kernel's.
pub fn sweep(engine: &Engine) -> Result<()> {
    let path = engine.paths().layer_mounts();
    let is_empty = |listing: fs::ReadDir| listing.count() == 0;
    match fs::read_dir(&path).map(is_empty) {
        Ok(false) => Ok(Place::open(engine)?.unmount_unused()?),
        Ok(true) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LayerError::Io {
            call: "readdir",
            path,
            source,
        }
        .into()),
    }
}

/// Opens the files of `layers`, mounting those that are images and not mounted.
pub(super) fn attach(
    engine: &Engine,
    layers: &[Digest],
) -> Result<(Vec<OwnedFd>, LayerUse), LayerError> {
    let mut files: Vec<Option<OwnedFd>> = Vec::with_capacity(layers.len());
    let mut used = LayerUse { held: None };
    let mut missing = Vec::new();
    let mut has_images = false;
    for (number, diff_id) in layers.iter().enumerate() {
        let held = match &mut used.held {
            Some(held) => held,
            held => held.insert(Held {
                place: Place::open(engine)?,
                bytes: Vec::with_capacity(layers.len()),
            }),
        };
        let byte = byte_of(diff_id);
        sys::lock::lock_byte(held.place.lock.as_fd(), byte, Kind::Shared)?;
        held.bytes.push(byte);
        let mut found = held.place.mounted(diff_id)?;
        has_images |= found.is_some();
        if found.is_none() {
            match engine.store().open_layer(diff_id)? {
                OpenLayer::Directory(tree) => found = Some(tree),
                image => missing.push((number, image)),
            }
        }
        files.push(found);
    }
    has_images |= !missing.is_empty();
    if !has_images {
        // Nothing is there to be kept, nor to be unmounted.
        used.held = None;
    }
    if let Some(held) = used.held.as_mut().filter(|_| !missing.is_empty()) {
        held.place.mount_all(engine, layers, missing, &mut files)?;
    }
    Ok((files.into_iter().flatten().collect(), used))
}

/// A layer's byte: any number that others hardly have. If two layers share one, each stays as long as both are used.
fn byte_of(diff_id: &Digest) -> u64 {
    let digits = diff_id.hex().get(..15).unwrap_or_default();
    // 60 bits, behind byte 0.
    1 + u64::from_str_radix(digits, 16).unwrap_or_default()
}

/// The directory of mounts, and its locks.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    lock: OwnedFd,
    path: std::path::PathBuf,
}

impl Place {
    fn open(engine: &Engine) -> Result<Self, LayerError> {
        let path = engine.paths().layer_mounts();
        let lock_path = engine.paths().layer_mounts_lock();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&lock_path, flags, Mode::from(0o600))
            .map_err(|errno| sys::Error::on("open", lock_path, errno))?;
        let directory = match open_directory(&path) {
            Err(Errno::NOENT) => {
                match fs::DirBuilder::new().mode(0o700).create(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(LayerError::Io {
                            call: "mkdir",
                            path,
                            source,
                        });
                    }
                    _ => {}
                }
                open_directory(&path)
            }
            other => other,
        };
        let directory = directory.map_err(|errno| sys::Error::on("open", &path, errno))?;
        Ok(Self {
            directory,
            lock,
            path,
        })
    }

    /// The root directory of a layer, if it is mounted in this namespace.
    fn mounted(&self, diff_id: &Digest) -> Result<Option<OwnedFd>, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, diff_id.hex(), flags, Mode::empty()) {
            Ok(root) if is_mount(root.as_fd())? => Ok(Some(root)),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => {
                Err(sys::Error::on("openat", self.path.join(diff_id.hex()), errno).into())
            }
        }
    }

    /// Mounts layers that were found not to be mounted, unless someone else just did.
    fn mount_all(
        &mut self,
        engine: &Engine,
        layers: &[Digest],
        missing: Vec<(usize, OpenLayer)>,
        files: &mut [Option<OwnedFd>],
    ) -> Result<(), LayerError> {
        sys::lock::lock_byte(self.lock.as_fd(), PLACE_BYTE, Kind::Exclusive)?;
        let ready = self.open_again().and_then(|()| self.keep_private());
        let mounted = ready.and_then(|()| {
            for (number, image) in missing {
                let diff_id = &layers[number];
                files[number] = match self.mounted(diff_id)? {
                    Some(root) => Some(root),
                    None => Some(self.mount_or_unpack(engine, diff_id, image)?),
                };
            }
            Ok(())
        });
        sys::lock::unlock_byte(self.lock.as_fd(), PLACE_BYTE)?;
        mounted
    }

    /// Mounts an image; or makes files of it, if it came here under a kernel that does and this one mounts none.
    fn mount_or_unpack(
        &self,
        engine: &Engine,
        diff_id: &Digest,
        image: OpenLayer,
    ) -> Result<OwnedFd, LayerError> {
        let store = engine.store();
        match self.mount(diff_id, image) {
            Err(LayerError::Store(ketch_store::Error::Mount { .. })) if !store.mounts_images() => {
                store.unpack_image(diff_id)?;
                Ok(store.open_layer(diff_id)?.into_files(diff_id)?)
            }
            other => other,
        }
    }

    fn mount(&self, diff_id: &Digest, image: OpenLayer) -> Result<OwnedFd, LayerError> {
        let mount = image.into_files(diff_id)?;
        let name = diff_id.hex();
        let on = |call: &'static str| {
            let path = self.path.join(name);
            move |errno| sys::Error::on(call, path, errno)
        };
        match rustix::fs::mkdirat(&self.directory, name, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(on("mkdirat")(errno).into()),
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", &self.directory, name, flags)
            .map_err(on("move_mount"))?;
        // The descriptor of a detached mount, attached: it is the mount's root now, with which it was opened by path only.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(
            rustix::fs::openat(&self.directory, name, flags, Mode::empty())
                .map_err(on("openat"))?,
        )
    }

    /// Someone may have mounted or unmounted the directory itself since it was opened.
    fn open_again(&mut self) -> Result<(), LayerError> {
        self.directory = open_directory(&self.path)
            .map_err(|errno| sys::Error::on("open", &self.path, errno))?;
        Ok(())
    }

    /// Makes sure that what is mounted here does not show up in other mount namespaces: where the directory is in a mount
    /// that shares with others, it gets one of its own that does not.
    fn keep_private(&mut self) -> Result<(), LayerError> {
        if is_mount(self.directory.as_fd())? || !is_shared(self.directory.as_fd())? {
            return Ok(());
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let clone = rustix::mount::open_tree(&self.directory, "", flags)
            .map_err(|errno| sys::Error::on("open_tree", &self.path, errno))?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&clone, "", &self.directory, "", flags)
            .map_err(|errno| sys::Error::on("move_mount", &self.path, errno))?;
        // Only now: attaching it made it shared.
        let attributes = sys::mount::Attributes {
            propagation: sys::mount::PRIVATE,
            ..Default::default()
        };
        sys::mount::set_attributes(&clone, &attributes)?;
        self.open_again()
    }

    /// Unmounts every layer that nobody uses, and at the end the directory's own mount.
    fn unmount_unused(&self) -> Result<(), LayerError> {
        sys::lock::lock_byte(self.lock.as_fd(), PLACE_BYTE, Kind::Exclusive)?;
        let unmounted = self.unmount_unused_alone();
        sys::lock::unlock_byte(self.lock.as_fd(), PLACE_BYTE)?;
        unmounted
    }

    fn unmount_unused_alone(&self) -> Result<(), LayerError> {
        let mut left = 0;
        let listed = |source| LayerError::Io {
            call: "readdir",
            path: self.path.clone(),
            source,
        };
        for entry in fs::read_dir(&self.path).map_err(listed)? {
            let name = entry.map_err(listed)?.file_name();
            let Some(diff_id) = digest_of(&name) else {
                continue;
            };
            let byte = byte_of(&diff_id);
            if sys::lock::try_lock_byte(self.lock.as_fd(), byte, Kind::Exclusive)? {
                let removed = self.unmount(&name);
                sys::lock::unlock_byte(self.lock.as_fd(), byte)?;
                removed?;
            } else {
                left += 1;
            }
        }
        let directory = open_directory(&self.path)
            .map_err(|errno| sys::Error::on("open", &self.path, errno))?;
        if left == 0 && is_mount(directory.as_fd())? {
            unmount(&self.path)?;
        }
        Ok(())
    }

    fn unmount(&self, name: &OsStr) -> Result<(), LayerError> {
        // The path of the directory is ours, all of it, and the name is hex digits.
        unmount(&self.path.join(name))?;
        match rustix::fs::unlinkat(CWD, self.path.join(name), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(sys::Error::on("rmdir", self.path.join(name), errno).into()),
        }
    }
}

/// Takes a mount off, whoever still has something open in it; nothing where there is none.
fn unmount(path: &Path) -> Result<(), LayerError> {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(path, flags) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(sys::Error::on("umount", path, errno).into()),
    }
}

fn digest_of(name: &OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Whether a directory is the root of a mount.
fn is_mount(directory: BorrowedFd<'_>) -> Result<bool, LayerError> {
    let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(|errno| sys::Error::new("statx", errno))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether the mount a directory is in shares with others what is mounted in it (proc_pid_mountinfo(5)).
fn is_shared(directory: BorrowedFd<'_>) -> Result<bool, LayerError> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|source| LayerError::Io {
            call: "read",
            path: path.into(),
            source,
        })
    };
    let descriptor = read(&format!(
        "/proc/thread-self/fdinfo/{}",
        directory.as_raw_fd()
    ))?;
    let id = descriptor
        .lines()
        .find_map(|line| Some(line.strip_prefix("mnt_id:")?.trim().to_owned()))
        .unwrap_or_default();
    let mounts = read("/proc/thread-self/mountinfo")?;
    let mut lines = mounts.lines().map(|line| line.split(' '));
    let mount = lines.find_map(|mut fields| (fields.next() == Some(&id)).then_some(fields));
    // Optional fields end with a dash. A mount that is not listed is one of another namespace.
    Ok(mount.is_none_or(|fields| {
        fields
            .skip(5)
            .take_while(|field| *field != "-")
            .any(|field| field.starts_with("shared:"))
    }))
}
