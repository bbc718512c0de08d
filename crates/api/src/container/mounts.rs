//! Volumes, binds and tmpfs.

use std::collections::BTreeMap;

use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::mount::{self, Mount, MountError, MountSource};
use serde::Deserialize;

use super::body::{HostConfig, Other, Set, invalid, refuse_set, unsupported};

/// One of `Mounts`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountBody {
    r#type: String,
    source: String,
    target: String,
    read_only: bool,
    /// How far a host and a container may see different content: only ever had a meaning on macOS.
    consistency: String,
    bind_options: Option<BindOptions>,
    volume_options: Option<VolumeOptions>,
    tmpfs_options: Option<TmpfsOptions>,
    #[serde(flatten)]
    other: Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BindOptions {
    propagation: String,
    non_recursive: bool,
    create_mountpoint: bool,
    #[serde(flatten)]
    other: Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    no_copy: bool,
    labels: Option<BTreeMap<String, String>>,
    subpath: String,
    driver_config: Option<DriverConfig>,
    #[serde(flatten)]
    other: Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DriverConfig {
    name: String,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TmpfsOptions {
    size_bytes: u64,
    mode: u32,
    options: Option<Vec<Vec<String>>>,
}

/// All mounts of a body. Paths are those of the server's host and absolute.
///
/// # Errors
/// `Invalid` for what is wrong, `Unsupported` for what we have not.
pub fn mounts(volumes: Option<Set>, host: &mut HostConfig) -> Result<Vec<Mount>> {
    match host.volume_driver.as_deref() {
        None | Some("" | "local") => {}
        Some(driver) => return Err(unsupported(&format!("volume driver {driver}"))),
    }
    let mut all = Vec::new();
    for text in host.binds.take().unwrap_or_default() {
        all.push(mount::parse_volume(&text, "/").map_err(wrong)?);
    }
    for body in host.mounts.take().unwrap_or_default() {
        all.push(one(body)?);
    }
    for (path, options) in host.tmpfs.take().unwrap_or_default() {
        let text = if options.is_empty() {
            path
        } else {
            format!("{path}:{options}")
        };
        all.push(mount::parse_tmpfs(&text).map_err(wrong)?);
    }
    for (index, mount) in all.iter().enumerate() {
        if all[..index]
            .iter()
            .any(|other: &Mount| other.target == mount.target)
        {
            return Err(invalid(format!("Duplicate mount point: {}", mount.target)));
        }
    }
    for path in volumes.unwrap_or_default().into_keys() {
        let mount = mount::parse_volume(&path, "/").map_err(wrong)?;
        // What is mounted there by name wins over an anonymous volume.
        if !all.iter().any(|other| other.target == mount.target) {
            all.push(mount);
        }
    }
    Ok(all)
}

fn wrong(error: MountError) -> Error {
    let kind = if error.is_unsupported() {
        ErrorKind::Unsupported
    } else {
        ErrorKind::Invalid
    };
    Error::new(kind, error.to_string())
}

fn one(body: MountBody) -> Result<Mount> {
    refuse_set("Mounts.", &body.other)?;
    if !body.target.starts_with('/') {
        return Err(invalid(format!(
            "invalid mount target, must be an absolute path in the container: {:?}",
            body.target
        )));
    }
    let bind = body.bind_options.unwrap_or_default();
    refuse_set("Mounts.BindOptions.", &bind.other)?;
    let _ = body.consistency;
    let source = match body.r#type.as_str() {
        "bind" if body.source.starts_with('/') => MountSource::Bind {
            path: body.source,
            create: bind.create_mountpoint,
        },
        "bind" => {
            return Err(invalid(format!(
                "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be absolute",
                body.source
            )));
        }
        "volume" => volume(body.source, body.volume_options.unwrap_or_default())?,
        "tmpfs" => tmpfs(&body.source, body.tmpfs_options.unwrap_or_default())?,
        other => return Err(unsupported(&format!("mount type {other:?}"))),
    };
    Ok(Mount {
        source,
        target: body.target,
        read_only: body.read_only,
        propagation: Some(bind.propagation).filter(|text| !text.is_empty()),
        non_recursive: bind.non_recursive,
    })
}

fn volume(name: String, options: VolumeOptions) -> Result<MountSource> {
    refuse_set("Mounts.VolumeOptions.", &options.other)?;
    let driver = options.driver_config.unwrap_or_default();
    if !matches!(driver.name.as_str(), "" | "local")
        || driver.options.is_some_and(|all| !all.is_empty())
    {
        return Err(unsupported("Mounts.VolumeOptions.DriverConfig"));
    }
    let name = Some(name).filter(|name| !name.is_empty());
    if let Some(name) = &name {
        mount::check_volume_name(name).map_err(wrong)?;
    }
    Ok(MountSource::Volume {
        anonymous: name.is_none(),
        name,
        no_copy: options.no_copy,
        subpath: Some(options.subpath).filter(|path| !path.is_empty()),
        labels: options.labels.unwrap_or_default(),
    })
}

fn tmpfs(source: &str, options: TmpfsOptions) -> Result<MountSource> {
    if !source.is_empty() {
        return Err(invalid(
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ));
    }
    let words = options.options.unwrap_or_default();
    Ok(MountSource::Tmpfs {
        size_bytes: Some(options.size_bytes).filter(|size| *size > 0),
        mode: Some(options.mode).filter(|mode| *mode > 0),
        options: words.into_iter().map(|pair| pair.join("=")).collect(),
    })
}
