//! Mounts as users write them: `-v` and `--mount`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
