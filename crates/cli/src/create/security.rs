//! Privileges and namespaces.

use ketch_engine::container::config::{NamespaceMode, Seccomp};
use ketch_engine::container::request::CreateRequest;
use ketch_engine::container::security_option::{self, SecurityOption, SecurityOptionError};

use super::Surroundings;
use crate::failure::Failure;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Security Options
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// PID namespace to use
    #[arg(long, value_name = "string")]
    pid: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string")]
    ipc: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string")]
    uts: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string")]
    cgroupns: Option<String>,
    /// User namespace to use
    #[arg(long, value_name = "string")]
    userns: Option<String>,
}

impl Flags {
    /// Puts the flags into the request.
    pub fn apply(
        self,
        request: &mut CreateRequest,
        around: &Surroundings<'_>,
    ) -> Result<(), Failure> {
        request.security.privileged = self.privileged;
        request.security.cap_add = self.cap_add;
        request.security.cap_drop = self.cap_drop;
        for option in &self.security_opt {
            security_option(option, request)?;
        }
        let namespaces = &mut request.namespaces;
        namespaces.pid = match self.pid.as_deref() {
            None | Some("") => NamespaceMode::Private,
            Some("host") => NamespaceMode::Host,
            Some(other) => {
                of_container(other, around)?.ok_or(Failure::request("--pid: invalid PID mode"))?
            }
        };
        namespaces.ipc = match self.ipc.as_deref() {
            // Another container can join ours by `container:` in any case.
            None | Some("" | "private" | "shareable") => NamespaceMode::Private,
            Some("host") => NamespaceMode::Host,
            Some("none") => return Err(Failure::request("--ipc none is not supported")),
            Some(other) => of_container(other, around)?
                .ok_or_else(|| Failure::request(format!("invalid IPC mode: {other}")))?,
        };
        namespaces.uts = match self.uts.as_deref() {
            None | Some("") => NamespaceMode::Private,
            Some("host") => NamespaceMode::Host,
            Some(_) => return Err(Failure::request("--uts: invalid UTS mode")),
        };
        namespaces.cgroup = match self.cgroupns.as_deref() {
            None | Some("" | "private") => NamespaceMode::Private,
            Some("host") => NamespaceMode::Host,
            Some(_) => return Err(Failure::request("--cgroupns: invalid CGROUP mode")),
        };
        match self.userns.as_deref() {
            // There is no remapping to opt out of.
            None | Some("" | "host") => Ok(()),
            Some(_) => Err(Failure::request("--userns: invalid USER mode")),
        }
    }
}

/// `container:NAME`; None for anything else.
fn of_container(text: &str, around: &Surroundings<'_>) -> Result<Option<NamespaceMode>, Failure> {
    match text.strip_prefix("container:") {
        Some(name) if !name.is_empty() => {
            Ok(Some(NamespaceMode::Container((around.resolve)(name)?)))
        }
        _ => Ok(None),
    }
}

/// Reads the file of a seccomp profile; every other option means what it says.
fn security_option(option: &str, request: &mut CreateRequest) -> Result<(), Failure> {
    let parsed = security_option::parse(option).map_err(|error| {
        Failure::request(match error {
            SecurityOptionError::Unsupported => {
                format!("--security-opt {option} is not supported")
            }
            SecurityOptionError::Unknown => format!("Invalid --security-opt: {option:?}"),
        })
    })?;
    let parsed = match parsed {
        SecurityOption::Seccomp(Seccomp::Profile(path)) => {
            let profile = std::fs::read_to_string(&path).map_err(|error| {
                Failure::request(format!("opening seccomp profile ({path}) failed: {error}"))
            })?;
            SecurityOption::Seccomp(Seccomp::Profile(profile))
        }
        other => other,
    };
    parsed.apply(&mut request.security);
    Ok(())
}
