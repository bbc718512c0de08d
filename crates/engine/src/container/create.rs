//! `create`: from a request to a container on disk.
//!
//! Steps: image (pulled by policy) → merge → checks → directory with the owner lock → name → config → volumes → state.
//! The state record is the commit point: a directory without one is garbage that the next listing sweeps, and its name
//! and volumes are free for others.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use jiff::Timestamp;
use ketch_spec::image::RunConfig;
use ketch_spec::mount::{Mount, MountSource};
use ketch_spec::{Id, Platform, Reference};
use serde_json::Map;

use super::config::{self, ContainerConfig, ImageSource, NetworkConfig, NetworkMode};
use super::request::{CreateRequest, NetworkRequest, PullPolicy};
use super::state::ContainerState;
use super::{load, merge, remove, root, spec, validate};
use crate::event::{self, Event};
use crate::image::{self, Image, PullObserver};
use crate::lock::OwnerLock;
use crate::record::Durability;
use crate::volume::{self, VolumeRequest};
use crate::{Engine, Error, ErrorKind, Result, names, network, record};

/// A container made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: Id,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Makes a container. May block for as long as a pull takes.
///
/// # Errors
/// `NotFound` for an image that cannot be had, a network or a container that is not there; `Conflict` for a name in
/// use; `Invalid` for a request that contradicts itself: in Docker's words.
pub fn create(
    engine: &Engine,
    request: CreateRequest,
    observer: &dyn PullObserver,
) -> Result<Created> {
    if let Some(name) = &request.name {
        names::check(names::CONTAINER, name.strip_prefix('/').unwrap_or(name))
            .map_err(Error::from)?;
    }
    let (image, _kept) = find_image(engine, &request, observer)?;
    let mut config = merged(engine, &request, &image)?;
    let warnings = validate::check(&config)?;
    if let NetworkMode::Container(other) = &config.network.mode {
        // Sharing the network means sharing the host name, as with Docker.
        let (other, _) = load::load(engine, other)?;
        config.hostname = spec::hostname(&other);
        config.domainname = other.domainname;
    }
    let lock = make_dir(engine, &mut config)?;
    if let Err(error) = fill(engine, &request, &mut config) {
        undo(engine, &config);
        return Err(error);
    }
    drop(lock);
    let _ = event::publish(engine, &Event::of_container("create", &config));
    Ok(Created {
        id: config.id,
        warnings,
    })
}

/// The image, pulled if the policy says so, and the store's lock that keeps it until the container's records do.
fn find_image(
    engine: &Engine,
    request: &CreateRequest,
    observer: &dyn PullObserver,
) -> Result<(Image, ketch_store::StoreLock)> {
    let platform = request
        .platform
        .as_deref()
        .map(|text| {
            text.parse::<Platform>()
                .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))
        })
        .transpose()?;
    let mut pulled = false;
    loop {
        if request.pull == PullPolicy::Always && !pulled {
            pull(engine, request, platform.as_ref(), observer)?;
            pulled = true;
        }
        let lock = engine.store().lock_shared().map_err(|error| {
            Error::caused(ErrorKind::Internal, "cannot lock the image store", &error)
        })?;
        match image::resolve_for(engine, &request.image, platform.as_ref()) {
            Ok(image) => return Ok((image, lock)),
            Err(error)
                if error.kind == ErrorKind::NotFound
                    && request.pull == PullPolicy::Missing
                    && !pulled => {}
            Err(error) => return Err(error),
        }
        drop(lock);
        pull(engine, request, platform.as_ref(), observer)?;
        pulled = true;
    }
}

fn pull(
    engine: &Engine,
    request: &CreateRequest,
    platform: Option<&Platform>,
    observer: &dyn PullObserver,
) -> Result<()> {
    let reference: Reference = request
        .image
        .parse()
        .map_err(|_| Error::new(ErrorKind::Invalid, "invalid reference format"))?;
    image::pull(engine, &reference, platform, observer)?;
    Ok(())
}

/// The config, but for names that are drawn and the volumes that are made.
fn merged(engine: &Engine, request: &CreateRequest, image: &Image) -> Result<ContainerConfig> {
    let empty = RunConfig::default();
    let defaults = image.config.config.as_ref().unwrap_or(&empty);
    let (mode, endpoints) = networks(engine, request)?;
    let inherited = inherited_mounts(engine, &request.volumes_from)?;
    Ok(ContainerConfig {
        version: config::VERSION,
        id: names::draw_id()?,
        name: String::new(),
        created: Timestamp::now(),
        image: ImageSource {
            reference: request.image.clone(),
            id: Some(image.id.clone()),
            layers: image.layers.clone(),
        },
        process: merge::process(request, defaults)?,
        hostname: request.hostname.clone().unwrap_or_default(),
        domainname: request.domainname.clone().unwrap_or_default(),
        labels: merge::labels(&request.labels, defaults),
        mounts: merge::mounts(&request.mounts, inherited, defaults)?,
        network: NetworkConfig {
            mode,
            endpoints,
            ports: request.ports.clone(),
            exposed: merge::exposed(request, defaults)?,
            publish_all: request.publish_all,
            dns: request.dns.clone(),
            dns_search: request.dns_search.clone(),
            dns_options: request.dns_options.clone(),
            extra_hosts: request.extra_hosts.clone(),
        },
        resources: request.resources.clone(),
        security: request.security.clone(),
        namespaces: request.namespaces.clone(),
        restart: request.restart,
        auto_remove: request.auto_remove,
        init: request.init,
        stop_signal: request
            .stop_signal
            .clone()
            .or_else(|| defaults.stop_signal.clone()),
        stop_timeout_s: request.stop_timeout_s,
        health: merge::health(request.health.as_ref(), defaults),
        log: request.log.clone(),
        hidden: false,
        writable_dir: None,
        other: Map::new(),
    })
}

/// Resolves `--network`. Names of networks are kept as the network's own name.
fn networks(
    engine: &Engine,
    request: &CreateRequest,
) -> Result<(NetworkMode, Vec<config::EndpointConfig>)> {
    let wanted = match &request.network {
        NetworkRequest::Host => return Ok((NetworkMode::Host, Vec::new())),
        NetworkRequest::None => return Ok((NetworkMode::None, Vec::new())),
        NetworkRequest::Container(other) => {
            return Ok((
                NetworkMode::Container(load::resolve(engine, other)?),
                Vec::new(),
            ));
        }
        NetworkRequest::Default => vec![config::EndpointConfig {
            network: "bridge".into(),
            ..Default::default()
        }],
        NetworkRequest::Networks(list) => list.clone(),
    };
    let mut endpoints: Vec<config::EndpointConfig> = Vec::new();
    for mut endpoint in wanted {
        let found = network::resolve(engine, &endpoint.network)?;
        match found.driver.as_str() {
            "host" if endpoints.is_empty() => return Ok((NetworkMode::Host, Vec::new())),
            "null" if endpoints.is_empty() => return Ok((NetworkMode::None, Vec::new())),
            "host" | "null" => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                ));
            }
            _ => {}
        }
        endpoint.network = found.name;
        if endpoints
            .iter()
            .any(|other| other.network == endpoint.network)
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("network {:?} is specified multiple times", endpoint.network),
            ));
        }
        endpoints.push(endpoint);
    }
    if let Some(first) = endpoints.first_mut() {
        first
            .aliases
            .extend(request.network_aliases.iter().cloned());
        if first.network == "bridge" && !first.aliases.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "network-scoped alias is supported only for containers in user defined networks",
            ));
        }
    }
    Ok((NetworkMode::Bridge, endpoints))
}

/// The mounts of other containers, `--volumes-from`: volumes and binds, no tmpfs.
fn inherited_mounts(engine: &Engine, from: &[String]) -> Result<Vec<Mount>> {
    let mut all: Vec<Mount> = Vec::new();
    for text in from {
        let (name, mode) = text.split_once(':').unwrap_or((text, ""));
        let read_only = match mode {
            "" => None,
            "ro" => Some(true),
            "rw" => Some(false),
            _ => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("invalid mode: {mode}"),
                ));
            }
        };
        let (other, _) = load::load(engine, &load::resolve(engine, name)?)?;
        for mut mount in other.mounts {
            if matches!(mount.source, MountSource::Tmpfs { .. }) {
                continue;
            }
            mount.read_only = match read_only {
                Some(true) => true,
                _ => mount.read_only,
            };
            // What was copied once is not copied again into the other's volume.
            if let MountSource::Volume { no_copy, .. } = &mut mount.source {
                *no_copy = true;
            }
            all.retain(|earlier| earlier.target != mount.target);
            all.push(mount);
        }
    }
    Ok(all)
}

/// Makes the container's directory and takes its lock. A sweeper that comes between the two takes the directory for
/// garbage; then another id is drawn.
fn make_dir(engine: &Engine, config: &mut ContainerConfig) -> Result<OwnerLock> {
    loop {
        let dir = engine.paths().container_dir(&config.id);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                Error::caused(
                    ErrorKind::Internal,
                    format!("mkdir {}", dir.display()),
                    &error,
                )
            })?;
        if let Ok(Some(lock)) = OwnerLock::take(&engine.paths().owner_lock(&config.id)) {
            return Ok(lock);
        }
        config.id = names::draw_id()?;
    }
}

fn fill(engine: &Engine, request: &CreateRequest, config: &mut ContainerConfig) -> Result<()> {
    let exists = |id: &Id| load::exists_or_is_made(engine, id);
    match &request.name {
        Some(name) => {
            let name = name.strip_prefix('/').unwrap_or(name);
            names::claim(engine, names::CONTAINER, name, &config.id, exists)
                .map_err(|error| name_error(error, name))?;
            name.clone_into(&mut config.name);
        }
        None => config.name = names::claim_random(engine, names::CONTAINER, &config.id, exists)?,
    }
    for mount in &mut config.mounts {
        if let MountSource::Volume {
            name: name @ None,
            anonymous,
            ..
        } = &mut mount.source
        {
            *name = Some(names::draw_id()?.to_string());
            *anonymous = true;
        }
    }
    write(engine, config)
}

/// Puts a config whose directory, lock and name are there on disk, and with the state makes it a container.
pub(super) fn write(engine: &Engine, config: &ContainerConfig) -> Result<()> {
    // Before the volumes: so a sweeper knows which of them a killed `create` has made.
    let content = match config.durability() {
        Durability::Synced => Durability::Content,
        other => other,
    };
    record::write(
        &engine.paths().container_config(&config.id),
        config,
        content,
    )?;
    for mount in &config.mounts {
        take_volume(engine, config, mount)?;
    }
    root::make_dirs(engine, config)?;
    let log = engine.paths().log_dir(&config.id);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&log)
        .map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("mkdir {}", log.display()),
                &error,
            )
        })?;
    // Commit point: the container exists.
    load::write_state(engine, config, &ContainerState::created())?;
    if config.durability() == Durability::Synced {
        record::sync_dir_of(&engine.paths().container_dir(&config.id))?;
    }
    Ok(())
}

/// Makes a mount's volume if it is missing, and becomes its user.
fn take_volume(engine: &Engine, config: &ContainerConfig, mount: &Mount) -> Result<()> {
    let MountSource::Volume {
        name: Some(name),
        anonymous,
        labels,
        ..
    } = &mount.source
    else {
        return Ok(());
    };
    loop {
        let mut labels = labels.clone();
        if *anonymous {
            labels.insert(volume::ANONYMOUS_LABEL.to_owned(), String::new());
        }
        volume::create_for(
            engine,
            VolumeRequest {
                name: Some(name.clone()),
                labels,
                ..Default::default()
            },
            *anonymous,
        )?;
        match volume::attach_user(engine, name, &config.id) {
            // Somebody removed it between the two.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            other => return other,
        }
    }
}

/// Takes back what a failed `create` has made. What fails here is left to the next sweep.
fn undo(engine: &Engine, config: &ContainerConfig) {
    let _ = names::release(engine, names::CONTAINER, &config.name, &config.id);
    let _ = remove::discard(engine, config);
}

/// A failed claim in Docker's words.
pub(super) fn name_error(error: names::Error, name: &str) -> Error {
    match error {
        names::Error::Taken { holder, .. } => Error::new(
            ErrorKind::Conflict,
            format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove \
                 (or rename) that container to be able to reuse that name."
            ),
        ),
        other => other.into(),
    }
}
