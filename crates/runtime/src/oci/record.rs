//! What is kept of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ketch_spec::runtime::{Hook, Spec};
use serde::{Deserialize, Serialize};

use super::cgroups::Place;
use super::identity::Identity;
use crate::hooks::{State, Status};
use crate::placed::PlacedRoot;
use crate::resctrl::Claim;

/// `state.json`: what was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub oci_version: String,
    pub id: String,
    pub init: Identity,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// Nanoseconds since 1970.
    pub created_ns: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub cgroup: Place,
    /// Where the root is attached, if it is in a mount namespace that others use too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<PlacedRoot>,
    /// Its class of `linux.intelRdt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Claim>,
    /// User id of whoever made it.
    pub owner: u32,
    /// Whether its processes are numbered in a namespace of its own: they end with the first one then.
    pub own_pids: bool,
    /// Whether an agent waits for the listener of its filter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notifies: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Record {
    /// The state that the specification defines.
    pub fn state(&self, status: Status) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.init.pid
            },
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

/// `create.json`: what create was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    /// Who makes it.
    pub maker: Identity,
    /// Where the cgroup is to be.
    pub cgroup: Place,
    /// The class of `linux.intelRdt` that is to be made or entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Claim>,
    /// The bundle's configuration at that time: later changes of it have no effect.
    pub config: Spec,
}

/// The same with the configuration as it was read: neither its order nor what we do not know is lost.
pub(super) fn asked_bytes(
    maker: Identity,
    cgroup: &Place,
    resctrl: Option<&Claim>,
    config: &[u8],
) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(config.len() + 128);
    bytes.extend_from_slice(b"{\"maker\":");
    serde_json::to_writer(&mut bytes, &maker)?;
    bytes.extend_from_slice(b",\"cgroup\":");
    serde_json::to_writer(&mut bytes, cgroup)?;
    if let Some(claim) = resctrl {
        bytes.extend_from_slice(b",\"resctrl\":");
        serde_json::to_writer(&mut bytes, claim)?;
    }
    bytes.extend_from_slice(b",\"config\":");
    bytes.extend_from_slice(config);
    bytes.push(b'}');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_create_was_asked_for_keeps_the_configuration_as_it_was() {
        let config = br#"{"ociVersion": "1.2.0", "hostname":"h", "x-unknown": [1]}"#;
        let place = Place {
            path: "/id".into(),
            before: vec!["/sys/fs/cgroup/id".into()],
        };
        let maker = Identity {
            pid: 7,
            start_time: 8,
        };
        let bytes = asked_bytes(maker, &place, Some(&Claim::default()), config).unwrap();
        let asked: Asked = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((asked.maker, asked.cgroup), (maker, place));
        assert_eq!(asked.resctrl, Some(Claim::default()));
        assert_eq!(asked.config.hostname, "h");
        assert!(bytes.ends_with(b"\"x-unknown\": [1]}}"));
    }
}
