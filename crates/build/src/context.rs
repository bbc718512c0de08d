//! The build context and the Dockerfile: found, opened, ignore files read.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ketch_engine::{Engine, ErrorKind, layer};
use ketch_spec::Digest;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::dockerfile::MAX_BYTES;
use crate::error::{BuildError, Source};
use crate::ignore::Matcher;
use crate::request::{BuildRequest, Context, DockerfileSource};
use crate::source::{SourceRoot, StatCache};

/// An ignore file longer than this is refused.
const MAX_IGNORE_BYTES: u64 = 4 << 20;

/// A context, ready for COPY.
pub struct OpenContext {
    /// Its files; None if there are none.
    pub root: Option<SourceRoot>,
    /// Digests of its files.
    pub stamps: StatCache,
    /// Keeps an unpacked archive until the build ends.
    _archive: Option<layer::ArchiveRoot>,
}

/// A context that is open, before its ignore file is known.
struct Opened {
    directory: Option<OwnedFd>,
    /// Where it lies, if that is the same at the next build.
    path: Option<PathBuf>,
    archive: Option<layer::ArchiveRoot>,
    /// The Dockerfile that came instead of an archive.
    text: Option<String>,
}

/// Opens the request's context and reads its Dockerfile and ignore file.
///
/// # Errors
/// Something is missing, unreadable, too long or no archive.
pub fn open(
    engine: &Engine,
    request: &mut BuildRequest,
) -> Result<(OpenContext, Source), BuildError> {
    let opened = open_context(engine, std::mem::take(&mut request.context))?;
    let plain = match &opened.directory {
        Some(directory) => Some(SourceRoot::context(clone(directory)?, Matcher::default())),
        None => None,
    };
    let (source, beside) = read_dockerfile(request, &opened, plain.as_ref())?;
    let ignore = read_ignore(plain.as_ref(), beside.as_ref())?;
    let stamps = match &opened.path {
        Some(path) => StatCache::load(stamps_file(engine, path)),
        None => StatCache::none(),
    };
    let root = opened
        .directory
        .map(|directory| SourceRoot::context(directory, ignore));
    Ok((
        OpenContext {
            root,
            stamps,
            _archive: opened.archive,
        },
        source,
    ))
}

/// Opens a directory given with `--build-context`.
///
/// # Errors
/// As [`open`].
pub fn open_named(engine: &Engine, path: &Path) -> Result<(SourceRoot, StatCache), BuildError> {
    let opened = open_context(engine, Context::Directory(path.to_owned()))?;
    let Some(directory) = opened.directory else {
        return Err(no_files(path));
    };
    let plain = SourceRoot::context(clone(&directory)?, Matcher::default());
    let ignore = read_ignore(Some(&plain), None)?;
    let stamps = opened.path.map_or_else(StatCache::none, |path| {
        StatCache::load(stamps_file(engine, &path))
    });
    Ok((SourceRoot::context(directory, ignore), stamps))
}

fn no_files(path: &Path) -> BuildError {
    BuildError::Context {
        call: "open",
        path: path.to_owned(),
        error: Errno::NOTDIR.into(),
    }
}

fn clone(directory: &OwnedFd) -> Result<OwnedFd, BuildError> {
    directory.try_clone().map_err(|error| BuildError::Context {
        call: "fcntl",
        path: ".".into(),
        error,
    })
}

/// The digests of a context's files lie under the name of its path.
fn stamps_file(engine: &Engine, path: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    engine
        .paths()
        .build_dir()
        .join("stamps")
        .join(Digest::of(path.as_os_str().as_bytes()).hex())
}

fn open_context(engine: &Engine, context: Context) -> Result<Opened, BuildError> {
    match context {
        Context::Empty => Ok(Opened {
            directory: None,
            path: None,
            archive: None,
            text: None,
        }),
        Context::Directory(path) => {
            let failed = |call, error| BuildError::Context {
                call,
                path: path.clone(),
                error,
            };
            let directory = ketch_sys::fs::open_directory(&path)
                .map_err(|error| failed("open", error.errno.into()))?;
            let real = std::fs::canonicalize(&path).map_err(|error| failed("realpath", error))?;
            Ok(Opened {
                directory: Some(directory),
                path: Some(real),
                archive: None,
                text: None,
            })
        }
        Context::Archive(mut stream) => {
            let failed = |error| BuildError::Context {
                call: "read",
                path: "-".into(),
                error,
            };
            let mut head = Vec::new();
            stream
                .by_ref()
                .take(layer::ARCHIVE_HEAD_BYTES)
                .read_to_end(&mut head)
                .map_err(failed)?;
            if layer::looks_like_archive(&head) {
                let archive =
                    layer::ArchiveRoot::unpack(engine, std::io::Cursor::new(head).chain(stream))?;
                let directory = archive.directory().try_clone_to_owned().map_err(failed)?;
                return Ok(Opened {
                    directory: Some(directory),
                    path: None,
                    archive: Some(archive),
                    text: None,
                });
            }
            let text = text_of(std::io::Cursor::new(head).chain(stream), "-")?;
            Ok(Opened {
                directory: None,
                path: None,
                archive: None,
                text: Some(text),
            })
        }
    }
}

/// Reads a Dockerfile. Bytes that are not UTF-8 can only stand in comments or be nonsense; they are replaced.
fn text_of(stream: impl Read, path: &str) -> Result<String, BuildError> {
    let mut bytes = Vec::new();
    let failed = |error| BuildError::Dockerfile {
        path: path.into(),
        error,
    };
    stream
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("the dockerfile {path} is longer than {MAX_BYTES} bytes");
        return Err(BuildError::Request {
            kind: ErrorKind::Invalid,
            message,
        });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The Dockerfile, and the path of the ignore file that belongs to it alone.
fn read_dockerfile(
    request: &BuildRequest,
    opened: &Opened,
    context: Option<&SourceRoot>,
) -> Result<(Source, Option<IgnoreFile>), BuildError> {
    if let DockerfileSource::Text(text) = &request.dockerfile {
        return Ok((
            Source {
                file: "Dockerfile".into(),
                text: text.clone(),
            },
            None,
        ));
    }
    if let Some(text) = &opened.text {
        return Ok((
            Source {
                file: "Dockerfile".into(),
                text: text.clone(),
            },
            None,
        ));
    }
    match &request.dockerfile {
        DockerfileSource::Path(path) => dockerfile_at(path, opened.archive.is_some(), context),
        _ => default_dockerfile(context),
    }
}

/// The Dockerfile at a path of the host, or, if there is none and the path is relative, of the context.
fn dockerfile_at(
    path: &Path,
    in_archive: bool,
    context: Option<&SourceRoot>,
) -> Result<(Source, Option<IgnoreFile>), BuildError> {
    let shown = path.to_string_lossy().into_owned();
    let failed = |error| BuildError::Dockerfile {
        path: path.to_owned(),
        error,
    };
    let host = if in_archive {
        Err(std::io::ErrorKind::NotFound.into())
    } else {
        host_file(path)
    };
    match host {
        Ok(file) => {
            let text = text_of(file, &shown)?;
            Ok((
                Source { file: shown, text },
                Some(IgnoreFile::Host(with_suffix(path))),
            ))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.is_relative() => {
            let bytes = read_in(context, path).map_err(|_| failed(error))?;
            let text = text_of(&bytes[..], &shown)?;
            Ok((
                Source { file: shown, text },
                Some(IgnoreFile::InContext(with_suffix(path))),
            ))
        }
        Err(error) => Err(failed(error)),
    }
}

/// `Dockerfile` at the root of the context, or `dockerfile`.
fn default_dockerfile(
    context: Option<&SourceRoot>,
) -> Result<(Source, Option<IgnoreFile>), BuildError> {
    let failed = |error| BuildError::Dockerfile {
        path: "Dockerfile".into(),
        error,
    };
    let (name, bytes) = match read_in(context, Path::new("Dockerfile")) {
        Ok(bytes) => ("Dockerfile", bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (
            "dockerfile",
            read_in(context, Path::new("dockerfile")).map_err(|_| failed(error))?,
        ),
        Err(error) => return Err(failed(error)),
    };
    let source = Source {
        file: name.to_owned(),
        text: text_of(&bytes[..], name)?,
    };
    Ok((
        source,
        Some(IgnoreFile::InContext(with_suffix(Path::new(name)))),
    ))
}

/// Where the ignore file of one Dockerfile may be.
#[derive(Debug)]
enum IgnoreFile {
    Host(PathBuf),
    InContext(PathBuf),
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".dockerignore");
    name.into()
}

fn host_file(path: &Path) -> std::io::Result<std::fs::File> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    Ok(file)
}

/// Reads a file of the context, bounded.
fn read_in(context: Option<&SourceRoot>, path: &Path) -> std::io::Result<Vec<u8>> {
    let Some(context) = context else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let file = std::fs::File::from(context.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if file.metadata()?.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES.max(MAX_IGNORE_BYTES) + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `<Dockerfile>.dockerignore` if it is there, else `.dockerignore` of the context.
fn read_ignore(
    context: Option<&SourceRoot>,
    beside: Option<&IgnoreFile>,
) -> Result<Matcher, BuildError> {
    let own = beside.map(|file| match file {
        IgnoreFile::Host(path) => (
            path.to_string_lossy().into_owned(),
            host_file(path).and_then(read_bounded),
        ),
        IgnoreFile::InContext(path) => {
            (path.to_string_lossy().into_owned(), read_in(context, path))
        }
    });
    let general = || {
        (
            ".dockerignore".to_owned(),
            read_in(context, Path::new(".dockerignore")),
        )
    };
    let (name, content) = match own {
        Some((name, Ok(bytes))) => (name, Ok(bytes)),
        Some((name, Err(error))) if error.kind() != std::io::ErrorKind::NotFound => {
            (name, Err(error))
        }
        _ => general(),
    };
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Matcher::default()),
        Err(error) => {
            return Err(BuildError::Context {
                call: "read",
                path: name.into(),
                error,
            });
        }
    };
    if bytes.len() as u64 > MAX_IGNORE_BYTES {
        let message = format!("{name} is longer than {MAX_IGNORE_BYTES} bytes");
        return Err(BuildError::Request {
            kind: ErrorKind::Invalid,
            message,
        });
    }
    Matcher::from_file(&name, &String::from_utf8_lossy(&bytes))
}

fn read_bounded(file: std::fs::File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_IGNORE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
