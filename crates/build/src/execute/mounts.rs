//! The mounts of RUN, made ready: copies of files to bind, cache directories with their locks, secrets.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ketch_spec::Digest;
use ketch_spec::mount::{Mount, MountSource};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::copy::Opened;
use super::scratch::{Scratch, flock, io, make_private};
use super::{Missing, StepError, Worker};
use crate::copy::{self, Destination};
use crate::dockerfile::MountKind;
use crate::plan::{MountStep, Origin, PIPES, RunStep, Sharing};
use crate::source::{Kind, Request, Selection, StatCache};

/// Private copies of one cache, at most.
const MAX_PRIVATE: u32 = 1000;

/// Mounts for one step; what they need goes when this is dropped.
#[derive(Default)]
pub struct Prepared {
    /// For the container.
    pub mounts: Vec<Mount>,
    /// `NAME=value` of secrets.
    pub env: Vec<String>,
    /// Directories to remove.
    scratch: Vec<Scratch>,
    /// Locks of caches.
    _locks: Vec<OwnedFd>,
}

fn bind(path: &Path, mount: &MountStep) -> Mount {
    bind_at(path, &mount.target, mount.read_only)
}

fn bind_at(path: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: MountSource::Bind {
            path: path.to_string_lossy().into_owned(),
            create: false,
        },
        target: target.to_owned(),
        read_only,
        propagation: None,
        non_recursive: false,
    }
}

impl<'a> Worker<'a> {
    /// Makes everything ready that a RUN mounts.
    pub(super) fn prepare_mounts(&self, run: &RunStep) -> Result<Prepared, StepError> {
        let mut prepared = Prepared::default();
        for mount in &run.mounts {
            match mount.kind {
                MountKind::Tmpfs => prepared.mounts.push(Mount {
                    source: MountSource::Tmpfs {
                        size_bytes: mount.size_bytes,
                        mode: None,
                        options: Vec::new(),
                    },
                    ..bind_at(Path::new(""), &mount.target, mount.read_only)
                }),
                MountKind::Secret => self.secret(mount, &mut prepared)?,
                MountKind::Cache => self.cache(mount, &mut prepared)?,
                MountKind::Bind => self.bind_mount(mount, &mut prepared)?,
            }
        }
        if let Some((name, content)) = &run.script {
            let directory = self.scratch(&mut prepared)?;
            let path = directory.join(name);
            write(&path, content.as_bytes(), 0o755, (0, 0))?;
            prepared.mounts.push(bind_at(&directory, PIPES, true));
        }
        Ok(prepared)
    }

    /// A new directory under the run root.
    fn scratch(&self, prepared: &mut Prepared) -> Result<PathBuf, StepError> {
        let scratch = Scratch::new(&self.execution.scratch_dirs()[0])?;
        let path = scratch.path().to_owned();
        prepared.scratch.push(scratch);
        Ok(path)
    }

    fn secret(&self, mount: &MountStep, prepared: &mut Prepared) -> Result<(), StepError> {
        let Some(secret) = self.execution.settings.secrets.get(&mount.id) else {
            if mount.required {
                return Err(StepError::Missing(Missing::Secret(mount.id.clone())));
            }
            return Ok(());
        };
        if let Some(name) = &mount.env {
            prepared
                .env
                .push(format!("{name}={}", String::from_utf8_lossy(&secret.0)));
            return Ok(());
        }
        let scratch = Scratch::new(&self.execution.scratch_dirs()[0])?;
        let path = scratch.memory()?.join("secret");
        // Before anything can fail: it goes with the rest.
        prepared.scratch.push(scratch);
        write(&path, &secret.0, mount.mode.unwrap_or(0o400), mount.owner)?;
        prepared.mounts.push(bind(&path, mount));
        Ok(())
    }

    fn cache(&self, mount: &MountStep, prepared: &mut Prepared) -> Result<(), StepError> {
        let parent = self.execution.engine.paths().build_dir().join("mounts");
        make_private(&parent)?;
        let namespace = self.execution.settings.cache_namespace;
        let name = Digest::of(format!("{namespace}\0{}", mount.id).as_bytes())
            .hex()
            .to_owned();
        let mut taken = None;
        let copies = if mount.sharing == Sharing::Private {
            MAX_PRIVATE
        } else {
            1
        };
        for number in 0..copies {
            let path = parent.join(if number == 0 {
                name.clone()
            } else {
                format!("{name}-{number}")
            });
            let lock_path = path.with_extension("lock");
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let lock = rustix::fs::open(&lock_path, flags, Mode::from_raw_mode(0o600))
                .map_err(|errno| io("open", &lock_path)(errno.into()))?;
            let operation = match mount.sharing {
                Sharing::Shared => FlockOperation::LockShared,
                Sharing::Locked => FlockOperation::LockExclusive,
                Sharing::Private => FlockOperation::NonBlockingLockExclusive,
            };
            match flock(&lock, operation) {
                Ok(()) => {
                    taken = Some((path, lock));
                    break;
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(io("flock", &lock_path)(errno.into())),
            }
        }
        let Some((path, lock)) = taken else {
            return Err(io("flock", &parent)(Errno::WOULDBLOCK.into()));
        };
        self.fill_cache(mount, &path)?;
        prepared._locks.push(lock);
        prepared.mounts.push(bind(&path, mount));
        Ok(())
    }

    /// Makes a cache's directory; a new one begins with what `from` has. It appears whole, by rename.
    fn fill_cache(&self, mount: &MountStep, path: &Path) -> Result<(), StepError> {
        if path.is_dir() {
            return Ok(());
        }
        let scratch = Scratch::new(&self.execution.scratch_dirs()[1])?;
        let new = scratch.path().join("cache");
        fs::create_dir(&new).map_err(io("mkdir", &new))?;
        if mount.from != Origin::Scratch {
            self.copy_out(&mount.from, &mount.source, &new)?;
        }
        chown(&new, Some(mount.owner.0), Some(mount.owner.1)).map_err(io("chown", &new))?;
        let mode = fs::Permissions::from_mode(mount.mode.unwrap_or(0o755));
        fs::set_permissions(&new, mode).map_err(io("chmod", &new))?;
        match ketch_sys::fs::rename_exclusive(&new, path) {
            Ok(()) => Ok(()),
            // Another build with the same cache was faster.
            Err(error) if error.errno == Errno::EXIST => Ok(()),
            Err(error) => Err(io("rename", path)(error.errno.into())),
        }
    }

    /// A copy of the files to bind: a context's ignored files are not in it, and what is written to it is dropped.
    fn bind_mount(&self, mount: &MountStep, prepared: &mut Prepared) -> Result<(), StepError> {
        let scratch = Scratch::new(&self.execution.scratch_dirs()[1])?;
        let directory = scratch.path().to_owned();
        prepared.scratch.push(scratch);
        let path = self.copy_out(&mount.from, &mount.source, &directory.join("files"))?;
        prepared.mounts.push(bind(&path, mount));
        Ok(())
    }

    /// Copies a file or directory of an origin to the host's `to`; returns where it is.
    fn copy_out(&self, origin: &Origin, source: &str, to: &Path) -> Result<PathBuf, StepError> {
        let (selections, opened, _) = self.bind_files(origin, source)?;
        let Some(name) = to.file_name() else {
            return Ok(to.to_owned());
        };
        let parent = to.parent().unwrap_or(Path::new("/"));
        let root = ketch_sys::fs::open_directory(parent)
            .map_err(|error| io("open", parent)(error.errno.into()))?;
        let is_directory = selections
            .first()
            .is_some_and(|selection| selection.top.kind == Kind::Directory);
        let destination = Destination {
            path: Path::new("/").join(name),
            is_directory,
            ..Destination::default()
        };
        copy::copy(opened.get(), &selections, root.as_fd(), &destination)?;
        Ok(to.to_owned())
    }

    /// The files that a bind or cache mount takes from an origin.
    pub(super) fn bind_files(
        &self,
        origin: &Origin,
        source: &str,
    ) -> Result<(Vec<Selection>, Opened<'a>, &'a StatCache), StepError> {
        let (opened, stamps) = self.open_origin(origin)?;
        // A backslash keeps the characters of wildcards plain: mounts have none.
        let plain: String = source
            .chars()
            .flat_map(|c| {
                if "*?[\\".contains(c) {
                    vec!['\\', c]
                } else {
                    vec![c]
                }
            })
            .collect();
        let source = if plain.is_empty() {
            "/".to_owned()
        } else {
            plain
        };
        let selections = opened.get().select(&Request {
            sources: vec![source],
            ..Request::default()
        })?;
        Ok((selections, opened, stamps))
    }
}

fn write(path: &Path, content: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), StepError> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io("open", path))?;
    file.write_all(content).map_err(io("write", path))?;
    std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1)).map_err(io("fchown", path))?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(io("fchmod", path))
}
