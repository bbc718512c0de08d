//! Seccomp agents: who answers the system calls whose action is `SCMP_ACT_NOTIFY`.
//!
//! The filter's listener comes into being in the child, which hands it over to the process that started it; that one
//! sends it to the agent, with the container process state, before the program executes.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::runtime::{Spec, VERSION};
use ketch_sys::Error as SysError;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use serde::Serialize;

use crate::channel::Channel;
use crate::error::{Called, During, Error, Result};

/// Name of the only descriptor that is sent, as of the specification.
const LISTENER_NAME: &str = "seccompFd";

/// An agent, and what it is told of the container.
#[derive(Debug, Clone)]
pub struct NotifyAgent {
    path: PathBuf,
    metadata: String,
    id: String,
    version: String,
    bundle: PathBuf,
    annotations: BTreeMap<String, String>,
}

/// "The container process state" of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State<'a>,
}

/// "State" of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    pid: u32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl NotifyAgent {
    /// The agent that `linux.seccomp.listenerPath` names, if any, for the container `id` in `bundle`.
    pub fn new(spec: &Spec, id: &str, bundle: &Path) -> Option<Self> {
        let filter = spec.linux.as_ref()?.seccomp.as_ref()?;
        if filter.listener_path.is_empty() {
            return None;
        }
        Some(Self {
            path: bundle.join(&filter.listener_path),
            metadata: filter.listener_metadata.clone(),
            id: id.to_owned(),
            version: spec.oci_version.clone(),
            bundle: bundle.to_owned(),
            annotations: spec.annotations.clone(),
        })
    }

    /// Sends `listener` and the state of the process `pid` over a connection of its own, and closes both. `status` is
    /// the container's: `creating` for its first process, `running` for one that joins it.
    ///
    /// # Errors
    /// What connect(2) and sendmsg(2) say: nobody listens, a path that is longer than 107 bytes.
    pub fn tell(&self, pid: u32, status: &str, listener: OwnedFd) -> Result<()> {
        self.send(&self.state(pid, status), listener)
            .during("failed to connect with seccomp agent at linux.seccomp.listenerPath")
    }

    fn state(&self, pid: u32, status: &str) -> Vec<u8> {
        let state = ProcessState {
            oci_version: VERSION,
            fds: [LISTENER_NAME],
            pid,
            metadata: &self.metadata,
            state: State {
                oci_version: &self.version,
                id: &self.id,
                status,
                pid,
                bundle: &self.bundle,
                annotations: &self.annotations,
            },
        };
        // A structure of numbers, strings and a map with string keys: serde_json fails on a bundle's path that is no
        // UTF-8 only, and then the agent gets nothing that it could misread.
        serde_json::to_vec(&state).unwrap_or_default()
    }

    fn send(&self, state: &[u8], listener: OwnedFd) -> Result<(), SysError> {
        if state.is_empty() {
            return Err(SysError::on("write as JSON", &self.bundle, Errno::ILSEQ));
        }
        let address = SocketAddrUnix::new(&self.path).called_on("connect", &self.path)?;
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).called("socket")?;
        connect(&socket, &address).called_on("connect", &self.path)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let mut sent = 0;
        while sent < state.len() {
            let part = [IoSlice::new(&state[sent..])];
            match sendmsg(&socket, &part, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                other => {
                    sent += other.called_on("sendmsg", &self.path)?;
                    // Descriptors go with the first part only.
                    control.clear();
                }
            }
        }
        Ok(())
    }
}

/// In the child, with the filter loaded: hands the listener over and waits until the agent has it.
pub(crate) fn hand_over(listener: &OwnedFd, channel: &Channel) -> Result<()> {
    channel
        .hand_over(listener.as_raw_fd())
        .during("hand over the system call listener")
}

/// A filter whose calls nobody would answer, so that they would wait for ever.
pub(crate) fn without_agent() -> Error {
    Error::invalid(
        "linux.seccomp",
        "SCMP_ACT_NOTIFY needs an agent: listenerPath is missing",
    )
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::{Linux, LinuxSeccomp};

    use super::*;

    fn agent(path: &str) -> Option<NotifyAgent> {
        let seccomp = Some(LinuxSeccomp {
            listener_path: path.into(),
            listener_metadata: "words".into(),
            ..LinuxSeccomp::default()
        });
        let linux = Some(Linux {
            seccomp,
            ..Linux::default()
        });
        let spec = Spec {
            oci_version: "1.1.0".into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            linux,
            ..Spec::default()
        };
        NotifyAgent::new(&spec, "box", Path::new("/bundle"))
    }

    #[test]
    fn the_state_is_the_specification_s() {
        assert!(agent("").is_none());
        let state = agent("/agent").unwrap().state(7, "creating");
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let expected = serde_json::json!({
            "ociVersion": VERSION,
            "fds": ["seccompFd"],
            "pid": 7,
            "metadata": "words",
            "state": {
                "ociVersion": "1.1.0",
                "id": "box",
                "status": "creating",
                "pid": 7,
                "bundle": "/bundle",
                "annotations": { "a": "b" },
            },
        });
        assert_eq!(state, expected);
    }

    #[test]
    fn an_agent_that_is_not_there_is_named() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let error = agent("/nowhere/agent").unwrap().tell(7, "creating", reader);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("connect /nowhere/agent: No such file"),
            "{error}"
        );
    }
}
