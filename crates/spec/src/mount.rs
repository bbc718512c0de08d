//! Mounts as users write them: `-v`, `--mount` and `--tmpfs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::size::SizeError;

mod long;
mod short;

pub use long::parse_mount;
pub use short::{parse_tmpfs, parse_volume};

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// `ro`.
    #[serde(default)]
    pub read_only: bool,
    /// `rprivate` (the default), `rshared`, `rslave`, `private`, `shared`, `slave`.
    #[serde(default)]
    pub propagation: Option<String>,
    /// For binds: leave out mounts below the source (`bind-recursive=disabled`).
    #[serde(default)]
    pub non_recursive: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    /// A named volume, or an anonymous one: its name is then drawn at `create` and `anonymous` set.
    Volume {
        /// Name; None until drawn.
        name: Option<String>,
        /// Made for this container only.
        #[serde(default)]
        anonymous: bool,
        /// Do not take over what the image has at the target.
        #[serde(default)]
        no_copy: bool,
        /// Directory inside the volume.
        #[serde(default)]
        subpath: Option<String>,
        /// Labels for a volume that this mount makes.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
    /// A path of the host.
    Bind {
        /// Absolute path.
        path: String,
        /// Make it as a directory if it is missing (`-v` does, `--mount` does not).
        #[serde(default)]
        create: bool,
    },
    /// Memory.
    Tmpfs {
        /// Size limit in bytes.
        #[serde(default)]
        size_bytes: Option<u64>,
        /// Mode of the root, 0o1777 by default.
        #[serde(default)]
        mode: Option<u32>,
        /// Further options of `--tmpfs`, such as `noexec`.
        #[serde(default)]
        options: Vec<String>,
    },
}

/// Why a mount is refused; the words are Docker's where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// `-v` with a wrong number of parts, or an empty one.
    #[error("invalid volume specification: '{text}'")]
    Specification {
        /// What was given.
        text: String,
    },
    /// An option of `-v` that is unknown, given twice, or of another kind of mount.
    #[error("invalid mode: {mode}")]
    Mode {
        /// All options.
        mode: String,
    },
    /// A path that has to be absolute.
    #[error("invalid mount path: '{path}' mount path must be absolute")]
    NotAbsolute {
        /// The path.
        path: String,
    },
    /// The target is the root.
    #[error("invalid specification: destination can't be '/'")]
    RootTarget,
    /// A name that no volume can have.
    #[error(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName {
        /// The name.
        name: String,
    },
    /// A one-letter name.
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    VolumeNameShort,
    /// A part that names a path outside the volume.
    #[error("invalid volume-subpath '{path}': it must be relative and stay inside the volume")]
    Subpath {
        /// The path.
        path: String,
    },
    /// A broken quotation in `--mount`.
    #[error("parse error in '{text}': bare or unclosed \" in a field")]
    Quotes {
        /// What was given.
        text: String,
    },
    /// A field of `--mount` without `=`.
    #[error("invalid field '{field}' must be a key=value pair")]
    Field {
        /// The field.
        field: String,
    },
    /// A key of `--mount` that nobody knows.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// The key.
        key: String,
        /// The field.
        field: String,
    },
    /// A value that its key does not take.
    #[error("invalid value for {key}: {value}{note}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What would be valid, in brackets; may be empty.
        note: &'static str,
    },
    /// A size that is none.
    #[error("invalid value for {key}: {source}")]
    Size {
        /// The key.
        key: String,
        /// Why.
        source: SizeError,
    },
    /// A key that has to be there.
    #[error("{key} is required")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// Options of one kind of mount on another.
    #[error("cannot mix '{prefix}-*' options with mount type '{kind}'")]
    Mixed {
        /// `bind`, `volume`, `tmpfs`.
        prefix: &'static str,
        /// The type given.
        kind: String,
    },
    /// A tmpfs has no source.
    #[error("invalid mount config for type \"tmpfs\": field Source must not be specified")]
    TmpfsSource,
    /// An option of `--tmpfs` that the kernel's tmpfs does not have.
    #[error("invalid tmpfs option {option:?}")]
    TmpfsOption {
        /// The option.
        option: String,
    },
    /// Something Docker has and this version does not.
    #[error("{what} is not supported")]
    Unsupported {
        /// The option or type.
        what: String,
    },
}

impl MountError {
    /// Whether it is valid for Docker and only missing here.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

/// Checks a volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, at most 255 bytes.
pub fn check_volume_name(name: &str) -> Result<(), MountError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !first || !rest || name.len() > 255 {
        return Err(MountError::VolumeName { name: name.into() });
    }
    if name.len() == 1 {
        Err(MountError::VolumeNameShort)
    } else {
        Ok(())
    }
}

/// Removes `.`, `..` and double slashes from an absolute path by its words alone, as Go's `path.Clean`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The absolute path of a host path; only `.`, `..`, `./…` and `../…` are relative to `cwd`.
fn host_path(path: &str, cwd: &str) -> Option<String> {
    let relative = path == "." || path == ".." || path.starts_with("./") || path.starts_with("../");
    if path.contains('\0') {
        None
    } else if path.starts_with('/') {
        Some(clean(path))
    } else if relative && cwd.starts_with('/') {
        Some(clean(&format!("{cwd}/{path}")))
    } else {
        None
    }
}

/// Checks and cleans a path in the container.
fn target_path(path: &str) -> Result<String, MountError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(MountError::NotAbsolute { path: path.into() });
    }
    let path = clean(path);
    if path == "/" {
        Err(MountError::RootTarget)
    } else {
        Ok(path)
    }
}

/// The propagation modes of mount(8).
fn is_propagation(word: &str) -> bool {
    matches!(
        word,
        "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate"
    )
}
