//! `cp`: files into and out of a container, running or not, with the rules of Docker's `cp`.
//!
//! Everything that the container controls is resolved inside its own root ([`root`]); what comes out of it is unpacked
//! inside the target directory only. Between the two sides goes a tar archive.

mod pack;
mod root;
mod rules;
mod unpack;

use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use self::rules::Source;
use self::unpack::{Owner, Unpack};
use super::load;
use crate::{Engine, Error, ErrorKind, Result};

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Last component.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// File type and permissions as the kernel has them (`st_mode`).
    pub mode: u32,
    /// Modification time.
    pub modified: Timestamp,
    /// Where a symbolic link points, as it says.
    pub link_target: String,
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// `-L`: copy what a link at the source points to.
    pub follow_link: bool,
    /// `-a`: keep owners; otherwise everything belongs to root in a container and to the caller on the host.
    pub archive: bool,
}

/// What a path in a container is; a link at the end is not followed.
///
/// # Errors
/// `NotFound` in Docker's words: "Could not find the file /x in container c".
pub fn stat_path(engine: &Engine, wanted: &str, path: &str) -> Result<PathStat> {
    let id = load::resolve(engine, wanted)?;
    root::with(engine, &id, |place| {
        Source::find(place.root, path, false)
            .map_err(|e| missing(e, path, wanted))?
            .stat()
    })
}

/// Writes a tar archive of a path in a container; its entries begin with the path's last component (`.` for a path that
/// ends in `/.`).
///
/// # Errors
/// As [`stat_path`]; the writer's.
pub fn copy_out(
    engine: &Engine,
    wanted: &str,
    path: &str,
    follow_link: bool,
    writer: &mut (dyn Write + Send),
) -> Result<PathStat> {
    let id = load::resolve(engine, wanted)?;
    root::with(engine, &id, |place| {
        let source = Source::find(place.root, path, follow_link)
            .map_err(|error| missing(error, path, wanted))?;
        let stat = source.stat()?;
        pack::pack(&source, &source.name(), writer)?;
        Ok(stat)
    })
}

/// Unpacks a tar archive into a directory of a container.
///
/// # Errors
/// As [`stat_path`]; `Invalid` if the path is no directory or is read-only, for a directory over a file or the other
/// way round, and for a damaged archive.
pub fn copy_in(
    engine: &Engine,
    wanted: &str,
    path: &str,
    options: CopyOptions,
    reader: &mut (dyn Read + Send),
) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    root::with(engine, &id, |place| {
        let source =
            Source::find(place.root, path, true).map_err(|error| missing(error, path, wanted))?;
        if !source.is_dir() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "extraction point is not a directory",
            ));
        }
        place.check_writable(path)?;
        let owner = if options.archive {
            Owner::Archive
        } else {
            Owner::Fixed(0, 0)
        };
        Unpack::new(place.root, Path::new(path), owner)
            .run(BufReader::new(reader))
            .map(drop)
    })
}

/// Copies a path of a container to an absolute path of the host, and returns how many bytes of content that were.
///
/// # Errors
/// As [`copy_out`]; "no such directory", "cannot copy directory" and the like for a target that does not fit.
pub fn copy_to_host(
    engine: &Engine,
    wanted: &str,
    from: &str,
    to: &Path,
    options: CopyOptions,
) -> Result<u64> {
    let id = load::resolve(engine, wanted)?;
    let host = open_host_root()?;
    root::with(engine, &id, |place| {
        let source = Source::find(place.root, from, options.follow_link)
            .map_err(|e| missing(e, from, wanted))?;
        let target = rules::target(host.as_fd(), &host_path(to), &source)
            .map_err(|error| host_missing(error, to))?;
        // The directory itself is the root of the unpacking: links that came out of the container lead nowhere else.
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = ketch_sys::fs::open_in_root(host.as_fd(), &target.dir, flags, Mode::empty())
            .map_err(|errno| host_missing(errno, to))?;
        let owner = match options.archive {
            true => Owner::Archive,
            false => Owner::Fixed(
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
        };
        stream(
            &source,
            &target.name,
            Unpack::new(dir.as_fd(), Path::new("."), owner),
        )
    })
}

/// Copies an absolute path of the host to a path of a container, and returns how many bytes of content that were.
///
/// # Errors
/// As [`copy_in`] and [`copy_to_host`].
pub fn copy_from_host(
    engine: &Engine,
    from: &Path,
    wanted: &str,
    to: &str,
    options: CopyOptions,
) -> Result<u64> {
    let id = load::resolve(engine, wanted)?;
    let host = open_host_root()?;
    let source = Source::find(host.as_fd(), &host_path(from), options.follow_link)
        .map_err(|e| host_missing(e, from))?;
    root::with(engine, &id, |place| {
        let target =
            rules::target(place.root, to, &source).map_err(|error| missing(error, to, wanted))?;
        place.check_writable(&target.dir.to_string_lossy())?;
        let owner = if options.archive {
            Owner::Archive
        } else {
            Owner::Fixed(0, 0)
        };
        stream(
            &source,
            &target.name,
            Unpack::new(place.root, &target.dir, owner),
        )
    })
}

/// Packs in one thread and unpacks in another, through a pipe.
fn stream(source: &Source, name: &str, unpack: Unpack<'_>) -> Result<u64> {
    let (reader, writer) =
        io::pipe().map_err(|error| Error::caused(ErrorKind::Internal, "pipe", &error))?;
    std::thread::scope(|scope| {
        let packer = scope.spawn(|| pack::pack(source, name, writer));
        let unpacked = unpack.run(BufReader::with_capacity(256 << 10, reader));
        let packed = packer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Where the unpacker gave up, the packer's broken pipe is not the reason.
        let bytes = unpacked?;
        packed?;
        Ok(bytes)
    })
}

fn open_host_root() -> Result<std::os::fd::OwnedFd> {
    ketch_sys::fs::open_directory(Path::new("/"))
        .map_err(|error| Error::caused(ErrorKind::Internal, "open /", &error))
}

/// The path as text; what is not UTF-8 cannot be typed in most shells, and is then not found.
fn host_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Why a place could not be found or used.
#[derive(Debug)]
enum PlaceError {
    /// It is not there.
    NotFound,
    /// Docker's words for what does not fit.
    Unfit(String),
    /// The kernel's.
    Errno(rustix::io::Errno),
}

impl From<rustix::io::Errno> for PlaceError {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Self::NotFound,
            errno => Self::Errno(errno),
        }
    }
}

fn missing(error: PlaceError, path: &str, container: &str) -> Error {
    place_error(
        error,
        format!("Could not find the file {path} in container {container}"),
    )
}

fn host_missing(error: impl Into<PlaceError>, path: &Path) -> Error {
    place_error(
        error.into(),
        format!("lstat {}: no such file or directory", path.display()),
    )
}

fn place_error(error: PlaceError, not_found: String) -> Error {
    match error {
        PlaceError::NotFound => Error::new(ErrorKind::NotFound, not_found),
        PlaceError::Unfit(message) => Error::new(ErrorKind::Invalid, message),
        PlaceError::Errno(errno) => Error::caused(ErrorKind::Internal, "cannot copy", &errno),
    }
}

fn path_stat(name: String, stat: &Stat, link_target: String) -> PathStat {
    PathStat {
        name,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode,
        modified: Timestamp::new(
            stat.st_mtime,
            i32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        )
        .unwrap_or(Timestamp::UNIX_EPOCH),
        link_target,
    }
}

/// Stat of a name in an open directory, not following it.
fn stat_at(dir: impl AsFd, name: &std::ffi::OsStr) -> rustix::io::Result<(Stat, FileType)> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat, FileType::from_raw_mode(stat.st_mode)))
}

/// Whether an extended attribute is copied: not what means something to this host's overlays and security modules only.
fn is_taken(key: &[u8]) -> bool {
    match key {
        b"security.capability" => true,
        key => !key.starts_with(b"security.") && !key.starts_with(b"trusted.overlay."),
    }
}

/// A path below a directory of an archive.
fn join(dir: &Path, name: &Path) -> PathBuf {
    dir.join(name.strip_prefix("/").unwrap_or(name))
}

#[cfg(test)]
mod tests;
