//! Where a container's cgroup is, and whose.

use std::path::PathBuf;
use std::time::Duration;

use ketch_spec::runtime::{LinuxResources, Spec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Error as Failure, Refusal, Result};
use super::record::Asked;
use super::store::Id;
use crate::cgroup::{self, Cgroup, ScopeProperties};
use crate::error::Error;

/// How long processes may take to end after they were killed.
pub(super) const END_DEADLINE: Duration = Duration::from_secs(10);

/// A place in the hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    /// As [`Cgroup::create`] takes it; empty: the container has none of its own.
    pub path: String,
    /// Those of its directories that were there before the container, and stay after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<PathBuf>,
}

impl Place {
    /// From `linux.cgroupsPath`: a relative path begins at the root of the hierarchies, an empty one is the id.
    /// With systemd it is `slice:prefix:name`, by default a scope of the usual slice.
    ///
    /// # Errors
    /// A path of the one form where the other was asked for.
    pub fn new(spec: &Spec, id: &Id, systemd: bool) -> Result<Self, Refusal> {
        let given = spec.linux.as_ref().map_or("", |linux| &linux.cgroups_path);
        let path = match given {
            "" if systemd => format!(":ketch:{id}"),
            "" => format!("/{id}"),
            given if systemd && given.matches(':').count() == 2 => given.to_owned(),
            given if systemd || given.contains(':') => {
                return Err(Refusal::CgroupsPath(given.to_owned()));
            }
            given => crate::mounts::clean(given).to_string_lossy().into_owned(),
        };
        Ok(Self {
            path,
            before: Vec::new(),
        })
    }

    /// The cgroups that exist there.
    pub fn open(&self) -> Result<Cgroup> {
        if self.path.is_empty() {
            return Err(Refusal::NoCgroup.into());
        }
        Ok(Cgroup::open(&self.path)?)
    }

    /// The same; None if the container has none.
    pub fn open_if_any(&self) -> Result<Option<Cgroup>> {
        match self.path.is_empty() {
            true => Ok(None),
            false => self.open().map(Some),
        }
    }

    /// Looks whether it is there already. One with processes is someone's.
    pub fn survey(&mut self) -> Result<()> {
        let before = self.open()?;
        let directories = before.directories().into_iter();
        let directories = directories.map(|(_, directory)| directory);
        self.before = directories.filter(|directory| directory.is_dir()).collect();
        if self.before.is_empty() {
            return Ok(());
        }
        if !before.processes()?.is_empty() {
            return Err(Refusal::CgroupInUse(self.path.clone()).into());
        }
        if before.is_frozen()? {
            return Err(Refusal::CgroupFrozen(self.path.clone()).into());
        }
        Ok(())
    }

    /// Makes it; without the right to, the container has none if the caller has said so by `rootless` and asks for no
    /// limits. Rules for devices are none then: a user makes no devices.
    pub fn make(
        &mut self,
        spec: &Spec,
        rootless: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Cgroup>> {
        match self.make_all(spec, warnings) {
            Err(Failure::Runtime(error)) if rootless && may_not(&error) && !has_limits(spec) => {
                self.path.clear();
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Makes it, and gives it to whom the specification says. What is left out goes to `warnings`.
    fn make_all(&self, spec: &Spec, warnings: &mut Vec<String>) -> Result<Cgroup> {
        let none = LinuxResources::default();
        let linux = spec.linux.as_ref();
        let resources = linux
            .and_then(|linux| linux.resources.as_ref())
            .unwrap_or(&none);
        // Those of scopes: without systemd nobody reads them.
        let cgroup = match cgroup::is_scope(&self.path) {
            true => {
                let properties = ScopeProperties::from_annotations(&spec.annotations)?;
                Cgroup::create_with(&self.path, resources, &properties)?
            }
            false => Cgroup::create(&self.path, resources)?,
        };
        warnings.extend(cgroup::warnings(resources));
        if let Some(uid) = cgroup::owner(spec) {
            cgroup.give_to(uid)?;
        }
        Ok(cgroup)
    }

    /// Whether its processes are frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.open_if_any()? {
            Some(cgroup) => Ok(cgroup.is_frozen()?),
            None => Ok(false),
        }
    }

    /// What of it was not there before.
    fn made(&self) -> Result<Option<Cgroup>> {
        let cgroup = self.open_if_any()?;
        Ok(cgroup.and_then(|cgroup| cgroup.without(&self.before)))
    }

    /// Removes what was not there before; what still runs in it is killed.
    pub fn remove(&self) -> Result<()> {
        let Some(cgroup) = self.made()? else {
            return Ok(());
        };
        match cgroup.remove_only(Duration::ZERO) {
            Err(Error::Timeout { .. }) => {
                cgroup.kill()?;
                Ok(cgroup.remove_only(END_DEADLINE)?)
            }
            other => Ok(other?),
        }
    }
}

/// Whether a number or a name is given for anything but devices.
fn has_limits(spec: &Spec) -> bool {
    fn says_something(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Bool(given) => *given,
            Value::Number(number) => number.as_i64() != Some(0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => list.iter().any(says_something),
            Value::Object(fields) => fields.values().any(says_something),
        }
    }
    let linux = spec.linux.as_ref();
    let resources = linux.and_then(|linux| linux.resources.clone());
    let Some(mut resources) = resources else {
        return false;
    };
    resources.devices.clear();
    // What cannot be written as JSON was not read from it either.
    serde_json::to_value(resources).is_ok_and(|value| says_something(&value))
}

fn may_not(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS)
    )
}

/// Whether a scope could not be made because there is one of that name.
pub(super) fn is_taken(error: &Failure) -> bool {
    matches!(error, Failure::Runtime(Error::Systemd(error)) if error.is_taken())
}

/// Removes what a killed create has made. Its process ends with it; others in there are not the container's.
pub(super) fn discard(asked: &Asked) -> Result<()> {
    let Some(cgroup) = asked.cgroup.made()? else {
        return Ok(());
    };
    match cgroup.remove_only(END_DEADLINE) {
        Err(Error::Timeout { .. }) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::Linux;

    use super::*;

    fn place(given: &str, systemd: bool) -> Result<String, Refusal> {
        let linux = Some(Linux {
            cgroups_path: given.into(),
            ..Linux::default()
        });
        let spec = Spec {
            linux,
            ..Spec::default()
        };
        let id = Id::new("id").unwrap();
        Place::new(&spec, &id, systemd).map(|place| place.path)
    }

    #[test]
    fn paths_stay_below_the_root_of_the_hierarchies() {
        assert_eq!(place("", false).unwrap(), "/id");
        assert_eq!(place("a/b", false).unwrap(), "/a/b");
        assert_eq!(place("/../../a/./b/..", false).unwrap(), "/a");
    }

    #[test]
    fn scopes_are_told_from_paths() {
        assert_eq!(place("", true).unwrap(), ":ketch:id");
        assert_eq!(place("a.slice:b:c", true).unwrap(), "a.slice:b:c");
        assert!(place("a.slice:b:c", false).is_err());
        assert!(place("/a", true).is_err());
    }

    #[test]
    fn limits_are_told_from_empty_words() {
        let asked = |resources: &str| {
            let text = format!(r#"{{"linux":{{"resources":{resources}}}}}"#);
            has_limits(&serde_json::from_str(&text).unwrap())
        };
        for none in [
            "{}",
            r#"{"devices":[{"allow":false,"access":"rwm"}]}"#,
            r#"{"memory":{},"cpu":{"shares":0,"cpus":""},"pids":{"limit":0},"hugepageLimits":[]}"#,
        ] {
            assert!(!asked(none), "{none}");
        }
        for some in [
            r#"{"memory":{"limit":1}}"#,
            r#"{"cpu":{"cpus":"0"}}"#,
            r#"{"unified":{"memory.max":"1"}}"#,
        ] {
            assert!(asked(some), "{some}");
        }
        assert!(!has_limits(&Spec::default()));
    }

    #[test]
    fn a_container_without_a_group_is_not_frozen_and_leaves_none() {
        let none = Place {
            path: String::new(),
            before: Vec::new(),
        };
        assert!(!none.is_frozen().unwrap());
        none.remove().unwrap();
        assert!(none.open().is_err());
    }
}
