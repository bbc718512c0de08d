//! The directories of the containers, and their locks.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_sys::Error as SysError;
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::cgroups;
use super::error::{Error, Result};
use super::record::{Asked, Record};
use crate::channel::Channel;
use crate::error::{Called, During};
use crate::placed::PlacedRoot;

const ASKED: &str = "create.json";
const STATE: &str = "state.json";
const NEW_STATE: &str = "state.json.new";
const SOCKET: &str = "start.sock";
const PLACE: &str = "place.json";
const FILES: [&str; 5] = [STATE, SOCKET, PLACE, ASKED, NEW_STATE];

/// Longest id: a name of a file.
const MAX_ID_BYTES: usize = 255;
/// What most of the files fit in.
const FILE_BYTES: usize = 8192;
/// What is done when a container is looked for.
const OPEN: &str = "open the container's directory";
/// How often to begin anew when others make and remove the same id.
const ATTEMPTS: usize = 1000;

/// A container's id: letters, digits, `_`, `+`, `-` and `.`, but neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    /// Checks an id.
    ///
    /// # Errors
    /// [`Error::InvalidId`].
    pub fn new(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        let good = (1..=MAX_ID_BYTES).contains(&text.len())
            && text.bytes().all(allowed)
            && !matches!(text, "." | "..");
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::InvalidId(text.to_owned()))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory with a directory for each container.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// The root at `path`, which is made when the first container is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes the directory of a new container and locks it. What a killed create has left there is removed.
    pub(super) fn claim(&self, id: &Id) -> Result<Entry> {
        let step = "make the container's directory";
        let root = self.make().during(step)?;
        for _ in 0..ATTEMPTS {
            let made = match mkdirat(&root, id.as_str(), Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(self.failed("mkdir", id, errno)).during(step)?,
            };
            let Some(entry) = self.open_in(root.as_fd(), id)? else {
                continue;
            };
            match entry.try_lock()? {
                Locking::Locked => {}
                Locking::Held => return Err(Error::Exists(id.to_string())),
                Locking::Gone => continue,
            }
            if !made {
                if entry.record()?.is_some() {
                    return Err(Error::Exists(id.to_string()));
                }
                entry.clean_half_made()?;
            }
            return Ok(entry);
        }
        Err(self.failed("mkdir", id, Errno::BUSY)).during(step)?
    }

    /// The directory of an existing container, not locked.
    pub(super) fn entry(&self, id: &Id) -> Result<Entry> {
        let root = match self.open().during(OPEN) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return Err(Error::NotFound(id.to_string()));
            }
            other => other?,
        };
        self.open_in(root.as_fd(), id)?
            .ok_or_else(|| Error::NotFound(id.to_string()))
    }

    /// The same, locked: waits for other verbs on it.
    pub(super) fn locked(&self, id: &Id) -> Result<Entry> {
        let entry = self.entry(id)?;
        entry.lock()?;
        Ok(entry)
    }

    /// Ids of all containers, sorted; half-made ones too.
    pub(super) fn ids(&self) -> Result<Vec<Id>> {
        let step = "list the containers";
        let root = match self.open().during(step) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Vec::new()),
            other => other?,
        };
        let mut ids = Vec::new();
        for entry in Dir::new(root)
            .called_on("getdents", &self.path)
            .during(step)?
        {
            let entry = entry.called_on("getdents", &self.path).during(step)?;
            ids.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .and_then(|name| Id::new(name).ok()),
            );
        }
        ids.sort();
        Ok(ids)
    }

    fn failed(&self, call: &'static str, id: &Id, errno: Errno) -> SysError {
        SysError::on(call, self.path.join(id.as_str()), errno)
    }

    fn open(&self) -> ketch_sys::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty()).called_on("open", &self.path)
    }

    fn make(&self) -> ketch_sys::Result<OwnedFd> {
        use std::os::unix::fs::DirBuilderExt;
        match self.open() {
            Err(error) if error.errno == Errno::NOENT => {}
            other => return other,
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|error| SysError::from_io("mkdir", &self.path, &error))?;
        self.open()
    }

    fn open_in(&self, root: BorrowedFd<'_>, id: &Id) -> Result<Option<Entry>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(root, id.as_str(), flags, Mode::empty()) {
            Ok(directory) => {
                let path = self.path.join(id.as_str());
                check_owner(&directory, &path)?;
                let root = root
                    .try_clone_to_owned()
                    .map_err(|error| SysError::from_io("dup", &self.path, &error))
                    .during(OPEN)?;
                Ok(Some(Entry {
                    root,
                    directory,
                    path,
                    id: id.clone(),
                }))
            }
            // A file of that name is none of ours, and no container.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.failed("open", id, errno)).during(OPEN)?,
        }
    }
}

/// What another user has put into a root that is open to him is no state of ours: it could name any process, any cgroup
/// and any program as a hook.
fn check_owner(directory: &OwnedFd, path: &Path) -> Result<()> {
    let owner = fstat(directory)
        .called_on("fstat", path)
        .during(OPEN)?
        .st_uid;
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Error::Foreign {
        path: path.to_owned(),
        owner,
    })
}

/// What came of an attempt to lock a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// It is ours.
    Locked,
    /// Another verb is at work on it.
    Held,
    /// It was removed meanwhile.
    Gone,
}

/// The directory of one container.
#[derive(Debug)]
pub(super) struct Entry {
    root: OwnedFd,
    directory: OwnedFd,
    path: PathBuf,
    id: Id,
}

impl Entry {
    /// Locks it unless another verb has.
    pub fn try_lock(&self) -> Result<Locking> {
        match flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.whether_linked(),
            Err(Errno::WOULDBLOCK) if self.is_abandoned()? => {
                self.wait_for_lock()?;
                self.whether_linked()
            }
            Err(Errno::WOULDBLOCK) => Ok(Locking::Held),
            Err(errno) => self.cannot_lock(errno),
        }
    }

    /// Whether it is half-made and its maker has ended. Then the lock is with the first process that it cloned, whose
    /// first act is to let go of it.
    fn is_abandoned(&self) -> Result<bool> {
        if self.read(STATE)?.is_some() {
            return Ok(false);
        }
        match self.asked()? {
            Some(asked) => Ok(!asked.maker.lives()?),
            None => Ok(false),
        }
    }

    fn wait_for_lock(&self) -> Result<()> {
        loop {
            match flock(&self.directory, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return self.cannot_lock(errno),
            }
        }
    }

    /// Waits for other verbs on it.
    pub fn lock(&self) -> Result<()> {
        self.wait_for_lock()?;
        match self.whether_linked()? {
            Locking::Gone => Err(Error::NotFound(self.id.to_string())),
            _ => Ok(()),
        }
    }

    fn cannot_lock<T>(&self, errno: Errno) -> Result<T> {
        Err(SysError::on("flock", &self.path, errno)).during("lock the container")?
    }

    fn whether_linked(&self) -> Result<Locking> {
        let stat = fstat(&self.directory)
            .called_on("fstat", &self.path)
            .during("lock the container")?;
        Ok(if stat.st_nlink == 0 {
            Locking::Gone
        } else {
            Locking::Locked
        })
    }

    /// What create was asked for; None if it was killed before it wrote that down.
    pub fn asked(&self) -> Result<Option<Asked>> {
        let Some(bytes) = self.read(ASKED)? else {
            return Ok(None);
        };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// What there is; None until create has committed.
    pub fn record(&self) -> Result<Option<Record>> {
        let Some(bytes) = self.read(STATE)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).map_err(|source| Error::Parse {
            path: self.path.join(STATE),
            source,
        })?;
        Ok(Some(record))
    }

    /// The same for verbs that need a whole container.
    pub fn committed(&self) -> Result<Record> {
        self.record()?
            .ok_or_else(|| Error::NotFound(self.id.to_string()))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let step = "read the container's state";
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.called_on("open", self.path.join(name)).during(step)?,
        };
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        loop {
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => break,
                Ok(_) => bytes.reserve(FILE_BYTES),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let error = SysError::on("read", self.path.join(name), errno);
                    return Err(error).during(step)?;
                }
            }
        }
        Ok(Some(bytes))
    }

    /// Before anything is made.
    pub fn write_asked(&self, bytes: &[u8]) -> Result<()> {
        self.write(ASKED, bytes)
            .during("write down what is to be made")?;
        Ok(())
    }

    /// Before the root is attached in a mount namespace that is not the container's own.
    pub fn write_place(&self, place: &PlacedRoot) -> crate::Result<()> {
        let step = "write down where the root is to be attached";
        let bytes = serde_json::to_vec(place)
            .map_err(|error| SysError::from_io("write", self.path.join(PLACE), &error.into()))
            .during(step)?;
        self.write(PLACE, &bytes).during(step)
    }

    fn place(&self) -> Result<Option<PlacedRoot>> {
        let bytes = self.read(PLACE)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes down what [`Entry::commit`] makes true.
    pub fn prepare_commit(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|source| Error::Parse {
            path: self.path.join(STATE),
            source,
        })?;
        self.write(NEW_STATE, &bytes)
            .during("write the container's state")?;
        Ok(())
    }

    /// The commit point of create.
    pub fn commit(&self) -> Result<()> {
        renameat(&self.directory, NEW_STATE, &self.directory, STATE)
            .called_on("rename", self.path.join(STATE))
            .during("write the container's state")?;
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> ketch_sys::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file =
            openat(&self.directory, name, flags, mode).called_on("open", self.path.join(name))?;
        ketch_sys::fs::write_all(file.as_fd(), bytes).called_on("write", self.path.join(name))
    }

    /// The address of the start socket, however long the root's path is.
    fn socket_path(&self) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.directory.as_raw_fd().to_string())
            .join(SOCKET)
    }

    pub fn listen(&self) -> Result<OwnedFd> {
        let socket = Channel::listen(&self.socket_path());
        Ok(socket.during("make the start socket")?)
    }

    /// A connection to the first process; None if it does not wait to be started.
    pub fn connect(&self) -> Result<Option<Channel>> {
        match Channel::connect(&self.socket_path()) {
            Ok(channel) => Ok(Some(channel)),
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(error) => Err(error).during("connect to the start socket")?,
        }
    }

    pub fn remove_socket(&self) -> Result<()> {
        match unlinkat(&self.directory, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                let error = SysError::on("unlink", self.path.join(SOCKET), errno);
                Err(error).during("remove the start socket")?
            }
        }
    }

    /// Removes what a killed create has made, but not the directory. Its process has ended with it.
    pub fn clean_half_made(&self) -> Result<()> {
        if let Some(asked) = self.asked()? {
            // First: when it is gone the process has ended, and makes no mounts any more.
            cgroups::discard(&asked)?;
            if let Some(claim) = &asked.resctrl {
                claim.remove()?;
            }
        }
        if let Some(place) = self.place()? {
            place.release()?;
        }
        self.remove_files()
    }

    /// Removes the directory, the state last: what is left without it is half-made and removed as that.
    pub fn remove(&self) -> Result<()> {
        self.remove_files()?;
        match unlinkat(&self.root, OsStr::new(self.id.as_str()), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                let error = SysError::on("rmdir", &self.path, errno);
                Err(error).during("remove the container's directory")?
            }
        }
    }

    fn remove_files(&self) -> Result<()> {
        for name in FILES {
            match unlinkat(&self.directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let error = SysError::on("unlink", self.path.join(name), errno);
                    return Err(error).during("remove the container's state")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::new(text).unwrap()
    }

    #[test]
    fn ids_are_names_of_files() {
        for good in ["a", "A_b+c.d-e", "...", "0"] {
            assert_eq!(id(good).as_str(), good);
        }
        for wrong in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(256)] {
            assert!(Id::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_is_claimed_once_and_is_free_when_its_claim_is_given_up() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path().join("a/b"));
        assert!(root.entry(&id("x")).unwrap_err().is_not_found());
        let entry = root.claim(&id("x")).unwrap();
        entry.write_asked(b"half").unwrap();
        assert!(matches!(root.claim(&id("x")), Err(Error::Exists(_))));
        drop(entry);
        // Without a state it is half-made, whatever else there is.
        let entry = root.claim(&id("x")).unwrap();
        assert!(entry.asked().unwrap().is_none() && entry.record().unwrap().is_none());
        entry.remove().unwrap();
        assert!(root.locked(&id("x")).unwrap_err().is_not_found());
        assert!(root.ids().unwrap().is_empty());
    }

    #[test]
    fn a_socket_is_reached_however_long_the_path_is() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path().join("long/".repeat(40)));
        let entry = root.claim(&id("x")).unwrap();
        assert!(entry.connect().unwrap().is_none());
        let listener = entry.listen().unwrap();
        assert!(entry.connect().unwrap().is_some());
        drop(listener);
        assert!(entry.connect().unwrap().is_none(), "nobody listens");
        entry.remove_socket().unwrap();
        entry.remove_socket().unwrap();
    }
}
