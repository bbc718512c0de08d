//! Privileges and namespaces.

use ketch_engine::Result;
use ketch_engine::container::config::{NamespaceMode, Namespaces, Security};
use ketch_engine::container::security_option::{self, SecurityOption, SecurityOptionError};
use ketch_spec::Id;

use super::body::{HostConfig, invalid, unsupported};

/// Finds a container by name, for `container:NAME`.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Result<Id>;

/// The privileges of a body.
///
/// # Errors
/// `Invalid` or `Unsupported` for options that are not Docker's or not ours.
pub fn security(host: &mut HostConfig) -> Result<Security> {
    let mut security = Security {
        privileged: host.privileged,
        cap_add: host.cap_add.take().unwrap_or_default(),
        cap_drop: host.cap_drop.take().unwrap_or_default(),
        read_only: host.readonly_rootfs,
        ..Security::default()
    };
    for option in host.security_opt.take().unwrap_or_default() {
        apply(&option, &mut security)?;
    }
    // `systempaths=unconfined` comes as two empty lists; null means the default.
    match (host.masked_paths.as_deref(), host.readonly_paths.as_deref()) {
        (None, None) => {}
        (Some([]), Some([])) => security.system_paths_unconfined = true,
        (Some(_), _) => return Err(unsupported("HostConfig.MaskedPaths")),
        (None, Some(_)) => return Err(unsupported("HostConfig.ReadonlyPaths")),
    }
    Ok(security)
}

fn apply(option: &str, security: &mut Security) -> Result<()> {
    let unknown = || invalid(format!("invalid --security-opt 2: {option:?}"));
    match security_option::parse(option) {
        // A word of the command line: clients send empty lists of paths instead.
        Ok(SecurityOption::SystemPathsUnconfined) => return Err(unknown()),
        Ok(parsed) => parsed.apply(security),
        Err(SecurityOptionError::Unsupported) => {
            return Err(unsupported(&format!("security option {option}")));
        }
        Err(SecurityOptionError::Unknown) => return Err(unknown()),
    }
    Ok(())
}

/// The namespaces of a body.
///
/// # Errors
/// `Invalid` for modes that are not Docker's, `NotFound` for a container, `Unsupported` for what we have not.
pub fn namespaces(host: &HostConfig, resolve: Resolve<'_>) -> Result<Namespaces> {
    match host.userns_mode.as_deref() {
        // There is no remapping to opt out of.
        None | Some("" | "host") => {}
        Some(_) => return Err(invalid("invalid USER mode")),
    }
    let shared = |text: &str, what: &str| match text.strip_prefix("container:") {
        Some(name) if !name.is_empty() => Ok(NamespaceMode::Container(resolve(name)?)),
        _ => Err(invalid(format!("invalid {what} mode: {text}"))),
    };
    let plain = |text: Option<&str>, what: &str| match text.unwrap_or_default() {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        other => Err(invalid(format!("invalid {what} mode: {other}"))),
    };
    Ok(Namespaces {
        pid: match host.pid_mode.as_deref().unwrap_or_default() {
            "" => NamespaceMode::Private,
            "host" => NamespaceMode::Host,
            other => shared(other, "PID")?,
        },
        ipc: match host.ipc_mode.as_deref().unwrap_or_default() {
            // Another container can join ours by `container:` in any case.
            "" | "private" | "shareable" => NamespaceMode::Private,
            "host" => NamespaceMode::Host,
            "none" => return Err(unsupported("IPC mode none")),
            other => shared(other, "IPC")?,
        },
        uts: plain(host.uts_mode.as_deref(), "UTS")?,
        cgroup: plain(host.cgroupns_mode.as_deref(), "CGROUP")?,
    })
}
