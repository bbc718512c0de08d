//! Where everything is: the only code that joins names under the data root and the run root.
//!
//! What each entry means, who writes it and what a crash can leave is in docs/state-on-disk.md. Names that arrive here
//! (ids, volume names, container names) have been checked by their types or by [`crate::names::check`]: none contains
//! a slash or begins with a dot.

use std::path::{Path, PathBuf};

use ketch_spec::Id;

/// The paths of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    data: PathBuf,
    run: PathBuf,
}

impl Paths {
    /// Paths below a data root and a run root.
    pub fn new(data_root: impl Into<PathBuf>, run_root: impl Into<PathBuf>) -> Self {
        Self {
            data: data_root.into(),
            run: run_root.into(),
        }
    }

    /// The data root.
    pub fn data_root(&self) -> &Path {
        &self.data
    }

    /// The run root.
    pub fn run_root(&self) -> &Path {
        &self.run
    }

    /// The version of the data root's layout.
    pub fn version(&self) -> PathBuf {
        self.data.join("version")
    }

    /// The program that `--init` containers have as process 1, by the digest of its bytes.
    pub fn init_program(&self, digest: &ketch_spec::Digest) -> PathBuf {
        self.data.join("init").join(digest.short())
    }

    /// All containers.
    pub fn containers_dir(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// One container's persistent state.
    pub fn container_dir(&self, id: &Id) -> PathBuf {
        self.data.join("containers").join(id.as_str())
    }

    /// Where a container's directory goes as the commit point of its removal.
    pub fn container_removing(&self, id: &Id, with_volumes: bool) -> PathBuf {
        let prefix = if with_volumes {
            REMOVING_WITH_VOLUMES
        } else {
            REMOVING
        };
        self.data.join("containers").join(format!("{prefix}{id}"))
    }

    /// What the user asked for.
    pub fn container_config(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("config.json")
    }

    /// What is.
    pub fn container_state(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("state.json")
    }

    /// Says who may write the container.
    pub fn owner_lock(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("owner.lock")
    }

    /// The writable layer: the parent of [`Paths::writable_upper`] and [`Paths::writable_work`].
    pub fn writable(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("writable")
    }

    /// Overlay's upper directory.
    pub fn writable_upper(&self, id: &Id) -> PathBuf {
        self.writable(id).join("upper")
    }

    /// Overlay's work directory.
    pub fn writable_work(&self, id: &Id) -> PathBuf {
        self.writable(id).join("work")
    }

    /// Logs.
    pub fn log_dir(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("log")
    }

    /// The current log; rotated ones have `.1`, `.2` and so on behind the name, newest first.
    pub fn log_file(&self, id: &Id) -> PathBuf {
        self.log_dir(id).join("container.log")
    }

    /// What the container sees as /etc/hosts.
    pub fn hosts(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("hosts")
    }

    /// What the container sees as /etc/hostname.
    pub fn hostname(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("hostname")
    }

    /// What the container sees as /etc/resolv.conf.
    pub fn resolv_conf(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join("resolv.conf")
    }

    /// One container's state that is gone at boot.
    pub fn run_dir(&self, id: &Id) -> PathBuf {
        self.run.join("containers").join(id.as_str())
    }

    /// Where layers are mounted that are images, each in a directory named by the hex digits of its diff id.
    pub fn layer_mounts(&self) -> PathBuf {
        self.run.join("layers")
    }

    /// Locks of those mounts: one byte a layer.
    pub fn layer_mounts_lock(&self) -> PathBuf {
        self.run.join("layers.lock")
    }

    /// All run directories.
    pub fn run_dirs(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// Where the monitor listens.
    pub fn control_socket(&self, id: &Id) -> PathBuf {
        self.run_dir(id).join("control.sock")
    }

    /// The OCI bundle.
    pub fn bundle(&self, id: &Id) -> PathBuf {
        self.run_dir(id).join("bundle")
    }

    /// Claimed names of a noun.
    pub fn names_dir(&self, noun: &str) -> PathBuf {
        self.data.join("names").join(noun)
    }

    /// One claimed name.
    pub fn name(&self, noun: &str, name: &str) -> PathBuf {
        self.names_dir(noun).join(name)
    }

    /// Taken to release or reclaim a name of a noun.
    pub fn names_lock(&self, noun: &str) -> PathBuf {
        self.names_dir(noun).join(".lock")
    }

    /// All volumes.
    pub fn volumes_dir(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// One volume.
    pub fn volume_dir(&self, name: &str) -> PathBuf {
        self.volumes_dir().join(name)
    }

    /// The volume's record.
    pub fn volume_record(&self, name: &str) -> PathBuf {
        self.volume_dir(name).join("volume.json")
    }

    /// The volume's leaf lock.
    pub fn volume_lock(&self, name: &str) -> PathBuf {
        self.volume_dir(name).join("lock")
    }

    /// The containers that refer to the volume, one empty file each, named by id.
    pub fn volume_users(&self, name: &str) -> PathBuf {
        self.volume_dir(name).join("users")
    }

    /// What containers see.
    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.volume_dir(name).join("data")
    }

    /// All networks.
    pub fn networks_dir(&self) -> PathBuf {
        self.data.join("networks")
    }

    /// Taken to make and to remove networks.
    pub fn networks_lock(&self) -> PathBuf {
        self.networks_dir().join(".lock")
    }

    /// A network in the making or on its way out; `name` begins with a dot.
    pub fn network_aside(&self, name: &str) -> PathBuf {
        self.networks_dir().join(name)
    }

    /// One network.
    pub fn network_dir(&self, id: &Id) -> PathBuf {
        self.networks_dir().join(id.as_str())
    }

    /// The network's record.
    pub fn network_record(&self, id: &Id) -> PathBuf {
        self.network_dir(id).join("network.json")
    }

    /// The network's leaf lock.
    pub fn network_lock(&self, id: &Id) -> PathBuf {
        self.network_dir(id).join("lock")
    }

    /// Build cache records and cache mounts.
    pub fn build_dir(&self) -> PathBuf {
        self.data.join("build")
    }

    /// Unfinished blobs, layers and drafts of layers.
    pub fn ingest_dir(&self) -> PathBuf {
        self.data.join("ingest")
    }

    /// Events.
    pub fn events_dir(&self) -> PathBuf {
        self.data.join("events")
    }

    /// The events that are being written; the older half is [`Paths::events_old`].
    pub fn events_file(&self) -> PathBuf {
        self.events_dir().join("events.jsonl")
    }

    /// The events before those, until the next rotation.
    pub fn events_old(&self) -> PathBuf {
        self.events_dir().join("events.1.jsonl")
    }

    /// Taken to rotate events.
    pub fn events_lock(&self) -> PathBuf {
        self.events_dir().join("lock")
    }
}

/// Directory names of removals whose commit point has passed begin so.
pub const REMOVING: &str = ".removing-";
/// The same where the container's anonymous volumes go too.
pub const REMOVING_WITH_VOLUMES: &str = ".removing-volumes-";
