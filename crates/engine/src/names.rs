//! Names: a claim on a name is a symbolic link `names/<noun>/<name>` whose text is the id of the object.
//!
//! Making a link is exclusive and makes the name and the id visible at once; a claim is never seen half-made. A claim
//! whose id has no object was left by a crash and is taken over. Claims are removed and taken over under the noun's
//! lock only, so that nobody removes a claim that has just become another's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ketch_spec::Id;

use crate::lock::{self, LeafLock};
use crate::{Engine, Error as EngineError, ErrorKind};

mod words;

/// Claims of container names.
pub const CONTAINER: &str = "container";
/// Claims of network names.
pub const NETWORK: &str = "network";

/// How often a drawn name may be taken before a number is put behind it.
const DRAWS: usize = 5;

/// Why a name could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object has it.
    #[error("name {name:?} is already in use by {holder}")]
    Taken {
        /// The name.
        name: String,
        /// Who has it.
        holder: Id,
    },
    /// It is not a name. Docker's wording.
    #[error("Invalid {noun} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Invalid {
        /// `container`, `network`, …
        noun: String,
        /// The name.
        name: String,
    },
    /// An input or output call failed.
    #[error("{call} {path}: {source}")]
    Io {
        /// Which call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The noun's lock could not be taken.
    #[error(transparent)]
    Lock(#[from] lock::Error),
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::Taken { .. } => EngineError::new(ErrorKind::Conflict, error.to_string()),
            Error::Invalid { .. } => EngineError::new(ErrorKind::Invalid, error.to_string()),
            Error::Lock(error) => error.into(),
            Error::Io { .. } => {
                EngineError::caused(ErrorKind::Internal, "cannot keep names", &error)
            }
        }
    }
}

/// Checks a name of a container, network or volume: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, at most 255 bytes. A network's may be
/// one letter, as in Docker.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check(noun: &str, name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let valid = bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && (name.len() > 1 || noun == NETWORK)
        && name.len() <= 255
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if valid {
        Ok(())
    } else {
        Err(Error::Invalid {
            noun: noun.into(),
            name: name.into(),
        })
    }
}

/// Claims `name` for `id`. `exists` tells whether an id still has an object (made, or being made by someone alive).
///
/// # Errors
/// [`Error::Taken`] if an object has the name, [`Error::Invalid`] if it is none.
pub fn claim(
    engine: &Engine,
    noun: &str,
    name: &str,
    id: &Id,
    exists: impl Fn(&Id) -> bool,
) -> Result<(), Error> {
    check(noun, name)?;
    let path = engine.paths().name(noun, name);
    loop {
        match std::os::unix::fs::symlink(id.as_str(), &path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_dir(&engine.paths().names_dir(noun))?;
                continue;
            }
            Err(source) => {
                return Err(Error::Io {
                    call: "symlink",
                    path,
                    source,
                });
            }
        }
        let _lock = LeafLock::take(&engine.paths().names_lock(noun))?;
        match read(&path)? {
            Some(holder) if holder == *id => return Ok(()),
            Some(holder) if exists(&holder) => {
                return Err(Error::Taken {
                    name: name.into(),
                    holder,
                });
            }
            _ => remove(&path)?,
        }
    }
}

/// Draws a name such as `quiet_noether` and claims it for `id`.
///
/// # Errors
/// As [`claim`], but never [`Error::Taken`] in practice: after a few draws a number is put behind the name.
pub fn claim_random(
    engine: &Engine,
    noun: &str,
    id: &Id,
    exists: impl Fn(&Id) -> bool,
) -> Result<String, Error> {
    let mut draw = 0;
    loop {
        let seed = random()?;
        let mut name = words::name(seed);
        if draw >= DRAWS {
            name.push_str(&(seed >> 32).to_string());
        }
        match claim(engine, noun, &name, id, &exists) {
            Ok(()) => return Ok(name),
            Err(Error::Taken { .. }) if draw < 2 * DRAWS => draw += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Gives back a name if it is `id`'s; succeeds where it is not claimed.
///
/// # Errors
/// Input and output, locking.
pub fn release(engine: &Engine, noun: &str, name: &str, id: &Id) -> Result<(), Error> {
    let path = engine.paths().name(noun, name);
    if read(&path)?.as_ref() != Some(id) {
        return Ok(());
    }
    let _lock = LeafLock::take(&engine.paths().names_lock(noun))?;
    if read(&path)?.as_ref() == Some(id) {
        remove(&path)?;
    }
    Ok(())
}

/// Gives back whatever names `id` has: for an object that was never finished, so that nobody knows its name.
///
/// # Errors
/// Input and output, locking.
pub fn release_all(engine: &Engine, noun: &str, id: &Id) -> Result<(), Error> {
    let dir = engine.paths().names_dir(noun);
    let failed = |source| Error::Io {
        call: "readdir",
        path: dir.clone(),
        source,
    };
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        // The lock is no claim, and a name that is not text cannot be one.
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            release(engine, noun, name, id)?;
        }
    }
    Ok(())
}

/// Who has a name; None for a name that nobody claimed or that could not be one.
///
/// # Errors
/// Input and output.
pub fn lookup(engine: &Engine, noun: &str, name: &str) -> Result<Option<Id>, Error> {
    if check(noun, name).is_err() {
        return Ok(None);
    }
    read(&engine.paths().name(noun, name))
}

/// Draws an id: 32 bytes of the kernel's randomness.
///
/// # Errors
/// getrandom(2)'s.
pub fn draw_id() -> Result<Id, Error> {
    let mut bytes = [0; 32];
    fill_random(&mut bytes)?;
    Ok(Id::from_bytes(bytes))
}

fn read(path: &Path) -> Result<Option<Id>, Error> {
    match fs::read_link(path) {
        // A link that is not ours in form stands for nobody: it is treated as a stale claim.
        Ok(target) => Ok(target.to_str().and_then(|text| text.parse().ok())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            call: "readlink",
            path: path.to_owned(),
            source,
        }),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            call: "unlink",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Io {
        call: "mkdir",
        path: path.to_owned(),
        source,
    })
}

fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    // Requests of up to 256 bytes are never cut short (getrandom(2)).
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
        .map(|_| ())
        .map_err(|errno| Error::Io {
            call: "getrandom",
            path: PathBuf::new(),
            source: errno.into(),
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::test_support::engine;

    #[test]
    fn dockers_grammar() {
        for good in ["ab", "web-1", "a_b.c", "0x", &"a".repeat(255)] {
            assert!(check("container", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "-a",
            ".a",
            "_a",
            "a/b",
            "a b",
            "ä1",
            "a\0",
            &"a".repeat(256),
        ] {
            assert!(check("container", bad).is_err(), "{bad}");
        }
        assert!(check(NETWORK, "a").is_ok());
        for bad in ["", ".", "-", "/"] {
            assert!(check(NETWORK, bad).is_err(), "{bad}");
        }
        assert_eq!(
            check("container", "a b").unwrap_err().to_string(),
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn a_name_has_one_holder_and_is_given_back_by_it_only() {
        let (_dir, engine) = engine();
        let (one, two) = (draw_id().unwrap(), draw_id().unwrap());
        claim(&engine, CONTAINER, "web", &one, |_| true).unwrap();
        claim(&engine, CONTAINER, "web", &one, |_| true).unwrap();
        let error = claim(&engine, CONTAINER, "web", &two, |_| true).unwrap_err();
        assert!(matches!(error, Error::Taken { holder, .. } if holder == one));
        release(&engine, CONTAINER, "web", &two).unwrap();
        assert_eq!(
            lookup(&engine, CONTAINER, "web").unwrap(),
            Some(one.clone())
        );
        release(&engine, CONTAINER, "web", &one).unwrap();
        assert_eq!(lookup(&engine, CONTAINER, "web").unwrap(), None);
        claim(&engine, CONTAINER, "web", &two, |_| true).unwrap();
    }

    #[test]
    fn a_stale_claim_is_taken_over_by_exactly_one() {
        let (_dir, engine) = engine();
        let stale = draw_id().unwrap();
        claim(&engine, CONTAINER, "web", &stale, |_| true).unwrap();
        let barrier = Barrier::new(8);
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let id = draw_id().unwrap();
                        barrier.wait();
                        usize::from(
                            claim(&engine, CONTAINER, "web", &id, |holder| *holder != stale)
                                .is_ok(),
                        )
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn drawn_names_are_names() {
        let (_dir, engine) = engine();
        for _ in 0..50 {
            let id = draw_id().unwrap();
            let name = claim_random(&engine, CONTAINER, &id, |_| true).unwrap();
            assert!(name.contains('_'), "{name}");
            assert_eq!(lookup(&engine, CONTAINER, &name).unwrap(), Some(id));
        }
    }
}
