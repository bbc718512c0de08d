//! `volume create`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ketch_spec::mount::check_volume_name;
use serde_json::Map;

use super::{ANONYMOUS_LABEL, DRIVER, VERSION, Volume, VolumeRecord, io_error, list};
use crate::event::{self, Event};
use crate::lock::OwnerLock;
use crate::record::{self, Durability};
use crate::{Engine, Error, ErrorKind, Result, names};

/// Directory names of volumes in the making begin so.
pub(super) const CREATING: &str = ".creating-";

/// A volume to make.
#[derive(Debug, Clone, Default)]
pub struct VolumeRequest {
    /// Name; None draws one of 64 digits and marks the volume as anonymous.
    pub name: Option<String>,
    /// Driver; empty means `local`.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options: none, or `type=none`, `o=bind`, `device=/path`.
    pub options: BTreeMap<String, String>,
}

/// Makes a volume, or finds the one that has the name already.
///
/// # Errors
/// `Invalid` for a name that is none and for options that do not go together, `NotFound` for another driver,
/// `Unsupported` for options of the local driver that this version does not know.
pub fn create(engine: &Engine, request: VolumeRequest) -> Result<Volume> {
    let anonymous = request.name.is_none();
    create_for(engine, request, anonymous)
}

/// The same for a mount, whose anonymous volume has its name already.
pub(crate) fn create_for(
    engine: &Engine,
    request: VolumeRequest,
    anonymous: bool,
) -> Result<Volume> {
    if !matches!(request.driver.as_str(), "" | DRIVER) {
        // Docker looks for a plugin of that name, and says so.
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("plugin {:?} not found", request.driver),
        )
        .hint("the only volume driver is local"));
    }
    check_options(&request.options)?;
    let name = match request.name {
        Some(name) => name,
        None => names::draw_id()?.to_string(),
    };
    check_volume_name(&name)
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("create {name}: {error}")))?;
    let mut labels = request.labels;
    if anonymous {
        labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    }
    let record = VolumeRecord {
        version: VERSION,
        name: name.clone(),
        created: Timestamp::now(),
        labels,
        options: request.options,
        anonymous,
        populating: false,
        other: Map::new(),
    };
    if !list::exists(engine, &name) && make(engine, &record)? {
        let _ = event::publish(
            engine,
            &Event::now("volume", "create", &name).with("driver", DRIVER),
        );
    }
    list::load(engine, &name)
}

/// Makes the directory aside and moves it into its place. False: another made the volume first.
fn make(engine: &Engine, record: &VolumeRecord) -> Result<bool> {
    let place = engine.paths().volume_dir(&record.name);
    let (aside, _lock) = make_aside(engine)?;
    let made = fill(&aside, record).and_then(|()| {
        // Commit point: the volume exists.
        match ketch_sys::fs::rename_exclusive(&aside, &place) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == rustix::io::Errno::EXIST => Ok(false),
            Err(error) => Err(Error::caused(
                ErrorKind::Internal,
                "cannot make the volume",
                &error,
            )),
        }
    });
    if !matches!(made, Ok(true)) {
        let _ = ketch_sys::fs::remove_tree(&aside);
    } else if !record.anonymous {
        record::sync_dir_of(&place)?;
    }
    made
}

fn make_aside(engine: &Engine) -> Result<(PathBuf, OwnerLock)> {
    loop {
        let aside = engine
            .paths()
            .volume_dir(&format!("{CREATING}{}", names::draw_id()?.short()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&aside)
            .map_err(|error| io_error("mkdir", &aside, &error))?;
        // The lock tells a sweeper that the maker lives. One that came between mkdir and here has swept it: again.
        if let Ok(Some(lock)) = OwnerLock::take(&aside.join("lock")) {
            return Ok((aside, lock));
        }
    }
}

fn fill(dir: &Path, record: &VolumeRecord) -> Result<()> {
    for (name, mode) in [("users", 0o700), ("data", 0o755)] {
        let path = dir.join(name);
        fs::create_dir(&path).map_err(|error| io_error("mkdir", &path, &error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(|error| io_error("chmod", &path, &error))?;
    }
    let durability = if record.anonymous {
        Durability::Volatile
    } else {
        Durability::Synced
    };
    Ok(record::write(&dir.join("volume.json"), record, durability)?)
}

fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for key in options.keys() {
        if !matches!(key.as_str(), "type" | "o" | "device") {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("invalid option: {key:?}"),
            ));
        }
    }
    let get = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    if options.is_empty() {
        return Ok(());
    }
    if get("device").is_empty() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "missing required option: \"device\"",
        ));
    }
    let bind = matches!(get("type"), "none" | "")
        && get("o")
            .split(',')
            .any(|word| word == "bind" || word == "rbind");
    let only_bind = get("o")
        .split(',')
        .all(|word| matches!(word, "bind" | "rbind" | "rw"));
    if !(bind && only_bind) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "volume options type={} o={} are not supported by this version",
                get("type"),
                get("o")
            ),
        )
        .hint("use type=none, o=bind and device=/a/directory"));
    }
    if !Path::new(get("device")).is_absolute() {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "volume option device={} is not an absolute path",
                get("device")
            ),
        ));
    }
    Ok(())
}
