//! Where a container's cgroup is, and whose.

use std::time::Duration;

use ketch_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use super::error::{Refusal, Result};
use super::record::Asked;
use super::store::Id;
use crate::cgroup::Cgroup;
use crate::error::Error;

/// How long processes may take to end after they were killed.
pub(super) const END_DEADLINE: Duration = Duration::from_secs(10);

/// A place in the hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    /// As [`Cgroup::create`] takes it.
    pub path: String,
    /// Whether it was there before the container, and stays after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

impl Place {
    /// From `linux.cgroupsPath`: a relative path begins at the root of the hierarchies, an empty one is the id.
    pub fn new(spec: &Spec, id: &Id, systemd: bool) -> Self {
        let given = spec.linux.as_ref().map_or("", |linux| &linux.cgroups_path);
        let path = match given {
            "" if systemd => format!(":ketch:{id}"),
            "" => format!("/{id}"),
            given if systemd => given.to_owned(),
            given => crate::mounts::clean(given).to_string_lossy().into_owned(),
        };
        Self {
            path,
            foreign: false,
        }
    }

    /// The cgroups that exist there.
    pub fn open(&self) -> Result<Cgroup> {
        Ok(Cgroup::open(&self.path)?)
    }

    /// Looks whether it is there already. One with processes is someone's.
    pub fn survey(&mut self) -> Result<()> {
        let before = self.open()?;
        self.foreign = before.exists();
        if self.foreign && !before.processes()?.is_empty() {
            return Err(Refusal::CgroupInUse(self.path.clone()).into());
        }
        Ok(())
    }

    /// Makes it.
    pub fn make(&self, resources: Option<&LinuxResources>) -> Result<Cgroup> {
        let none = LinuxResources::default();
        Ok(Cgroup::create(&self.path, resources.unwrap_or(&none))?)
    }

    /// Whether its processes are frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(self.open()?.is_frozen()?)
    }

    /// Removes it, unless it was there before; what still runs in it is killed.
    pub fn remove(&self) -> Result<()> {
        if self.foreign {
            return Ok(());
        }
        let cgroup = self.open()?;
        match cgroup.remove_only(Duration::ZERO) {
            Err(Error::Timeout { .. }) => {
                cgroup.kill()?;
                Ok(cgroup.remove_only(END_DEADLINE)?)
            }
            other => Ok(other?),
        }
    }
}

/// Removes what a killed create has made. Its process ends with it; others in there are not the container's.
pub(super) fn discard(asked: &Asked) -> Result<()> {
    if asked.cgroup.foreign {
        return Ok(());
    }
    let cgroup = asked.cgroup.open()?;
    match cgroup.remove_only(END_DEADLINE) {
        Err(Error::Timeout { .. }) => Ok(()),
        other => Ok(other?),
    }
}
