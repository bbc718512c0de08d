//! The engine: images, containers, volumes and networks, and the verbs on them.
//!
//! One file a verb: `container::stop` is `container/stop.rs`. State is files under the data root and the run root
//! ([`paths`] is the only code that joins their names); readers take no lock, writers follow the owner-lock rule
//! ([`lock`]). The engine never prints, never reads the environment and never assumes it is root. It does not clone:
//! a container's processes are made by its monitor, which the engine starts by executing [`EngineOptions::executable`].

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ketch_store::Store;
pub use ketch_store::{Forms, LayerForm};

pub mod container;
pub mod error;
pub mod event;
pub mod filter;
#[doc(hidden)]
pub mod fuzz;
pub mod image;
pub mod layer;
pub mod lock;
pub mod names;
pub mod network;
pub mod paths;
pub mod record;
pub mod registry;
pub mod volume;

pub use error::{Error, ErrorKind, Result};
pub use paths::Paths;

/// The layout of the data root that this program writes.
pub const LAYOUT_VERSION: u32 = 1;

/// What the caller decides for a whole engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Persistent state (`/var/lib/ketch`).
    pub data_root: PathBuf,
    /// State that is gone at boot (`/run/ketch`).
    pub run_root: PathBuf,
    /// The program to execute as a monitor: ourselves.
    pub executable: PathBuf,
    /// Where registry credentials are (`~/.docker/config.json`), if anywhere.
    pub registry_config: Option<PathBuf>,
    /// Which forms new layers may have. What only reads leaves it at the default.
    pub layer_forms: Forms,
}

/// A handle on the state: cheap to make, to clone and to share between threads; holds no lock.
#[derive(Debug, Clone)]
pub struct Engine {
    options: Arc<EngineOptions>,
    paths: Arc<Paths>,
    store: Arc<Store>,
    registries: Arc<registry::RegistryAccess>,
}

impl Engine {
    /// Opens the state, making what is missing: the roots with mode 0711, what is in them with 0700.
    ///
    /// # Errors
    /// `Forbidden` where the roots may not be made or entered, `Unsupported` for a data root on a network file system
    /// (its locks do not end with their holder) or of a later layout, `Internal` for other input and output.
    pub fn open(options: EngineOptions) -> Result<Self> {
        let paths = Paths::new(&options.data_root, &options.run_root);
        if !paths.version().exists() {
            make_data_root(&paths)?;
        }
        check_layout(&paths)?;
        make_dir(paths.run_root(), 0o711)?;
        make_dir(&paths.run_dirs(), 0o700)?;
        let store = Store::open(&options.data_root, options.layer_forms).map_err(|error| {
            Error::caused(ErrorKind::Internal, "cannot open the image store", &error)
        })?;
        let registries = registry::RegistryAccess {
            credentials: options.registry_config.clone(),
            ..registry::RegistryAccess::default()
        };
        Ok(Self {
            options: Arc::new(options),
            paths: Arc::new(paths),
            store: Arc::new(store),
            registries: Arc::new(registries),
        })
    }

    /// The same engine with another way to registries than [`EngineOptions::registry_config`] alone.
    #[must_use]
    pub fn with_registries(mut self, access: registry::RegistryAccess) -> Self {
        self.registries = Arc::new(access);
        self
    }

    /// How registries are reached.
    pub fn registries(&self) -> &registry::RegistryAccess {
        &self.registries
    }

    /// Where everything is.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What the caller decided.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// How layers that come now are kept.
    ///
    /// # Errors
    /// `Unsupported` if they are to be kept as images, and this kernel does not mount them.
    pub fn layer_form(&self) -> Result<LayerForm> {
        self.store.new_form().map_err(|error| {
            Error::caused(
                ErrorKind::Unsupported,
                "cannot keep layers as images",
                &error,
            )
        })
    }

    /// Blobs, layers and image records.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// The version file is written last: with it, the rest is there.
fn make_data_root(paths: &Paths) -> Result<()> {
    make_dir(paths.data_root(), 0o711)?;
    refuse_network_file_system(paths.data_root())?;
    for dir in [
        paths.containers_dir(),
        paths.names_dir(names::CONTAINER),
        paths.names_dir(names::NETWORK),
        paths.volumes_dir(),
        paths.networks_dir(),
        paths.build_dir(),
        paths.events_dir(),
    ] {
        make_dir(&dir, 0o700)?;
    }
    record::write_bytes(
        &paths.version(),
        format!("{LAYOUT_VERSION}\n").as_bytes(),
        0o600,
        record::Durability::Synced,
    )?;
    Ok(())
}

fn check_layout(paths: &Paths) -> Result<()> {
    let path = paths.version();
    let text = fs::read_to_string(&path).map_err(|error| io_error("read", &path, &error))?;
    match text.trim().parse::<u32>() {
        Ok(found) if found <= LAYOUT_VERSION => Ok(()),
        Ok(found) => Err(record::Error::Version {
            path,
            found,
            known: LAYOUT_VERSION,
        }
        .into()),
        Err(_) => Err(Error::new(
            ErrorKind::Internal,
            format!("damaged record {}: not a version", path.display()),
        )),
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| io_error("mkdir", path, &error))
}

fn io_error(call: &str, path: &Path, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
        _ => ErrorKind::Internal,
    };
    let error_with_path = Error::caused(kind, format!("{call} {}", path.display()), error);
    if kind == ErrorKind::Forbidden {
        return error_with_path
            .hint("run it as root, or choose other roots with --data-root and --run-root");
    }
    error_with_path
}

/// Locks on these live on a server, or nowhere, and do not end when their holder dies (statfs(2) magic numbers).
const NETWORK_FILE_SYSTEMS: &[(u64, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
];

fn refuse_network_file_system(path: &Path) -> Result<()> {
    let found = rustix::fs::statfs(path).map_err(|errno| {
        Error::caused(
            ErrorKind::Internal,
            format!("statfs {}", path.display()),
            &errno,
        )
    })?;
    // The type of `f_type` differs between targets; the magic numbers are 32 bits everywhere.
    let magic = u64::from(found.f_type as u32);
    match NETWORK_FILE_SYSTEMS
        .iter()
        .find(|(known, _)| *known == magic)
    {
        None => Ok(()),
        Some((_, name)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "data root {} is on a network file system ({name})",
                path.display()
            ),
        )
        .hint("choose a local directory with --data-root")),
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    use super::*;

    /// An engine in a scratch directory, which goes with the guard.
    pub fn engine() -> (tempfile::TempDir, Engine) {
        let dir = tempfile::tempdir().expect("scratch directory");
        let engine = Engine::open(options(dir.path())).expect("engine");
        (dir, engine)
    }

    pub fn options(root: &Path) -> EngineOptions {
        EngineOptions {
            data_root: root.join("data"),
            run_root: root.join("run"),
            executable: PathBuf::from("/proc/self/exe"),
            registry_config: None,
            layer_forms: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn roots_are_made_with_their_modes_and_can_be_opened_again() {
        let (dir, engine) = test_support::engine();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(engine.paths().data_root()), 0o711);
        assert_eq!(mode(&engine.paths().containers_dir()), 0o700);
        assert_eq!(mode(&engine.paths().run_dirs()), 0o700);
        Engine::open(test_support::options(dir.path())).unwrap();
    }

    #[test]
    fn a_later_layout_is_refused() {
        let (dir, engine) = test_support::engine();
        fs::write(engine.paths().version(), "99\n").unwrap();
        let error = Engine::open(test_support::options(dir.path())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}
