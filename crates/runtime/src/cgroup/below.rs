//! Groups below a container's own, which `exec` may name.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A group below a container's own: `[CONTROLLER[,CONTROLLER...]:]PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubGroup {
    pub(super) controllers: Vec<String>,
    pub(super) path: PathBuf,
}

impl SubGroup {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a colon without a controller before it, and a path that could lead out of the container's
    /// group.
    pub fn parse(text: &str) -> Result<Self> {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), text),
        };
        if controllers.iter().any(|name| name.is_empty()) {
            let reason = format!("{text:?} has no controller before the colon");
            return Err(Error::invalid("cgroup", reason));
        }
        if Path::new(path)
            .components()
            .any(|part| part == Component::ParentDir)
        {
            let reason = format!("{path} is not a sub cgroup path");
            return Err(Error::invalid("cgroup", reason));
        }
        let path = crate::mounts::clean(path);
        Ok(Self {
            controllers: controllers.into_iter().map(str::to_owned).collect(),
            path: path.strip_prefix("/").unwrap_or(&path).to_owned(),
        })
    }

    pub(super) fn of(&self, directory: &Path) -> Result<PathBuf> {
        let below = directory.join(&self.path);
        if below.is_dir() {
            return Ok(below);
        }
        let procs = below.join("cgroup.procs");
        let reason = format!(
            "adding pid to it: {}: no such file or directory",
            procs.display()
        );
        Err(Error::invalid("cgroup", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_below_stay_below_and_name_their_controllers() {
        let read = |text| {
            let group = SubGroup::parse(text).unwrap();
            let path = group.path.to_string_lossy().into_owned();
            (group.controllers.join(" "), path)
        };
        assert_eq!(read("a/b"), (String::new(), "a/b".into()));
        assert_eq!(read("memory,pids:/x"), ("memory pids".into(), "x".into()));
        for wrong in [":x", "memory,:x", ",:x", "..", "/../../a", "memory:a/../b"] {
            assert!(SubGroup::parse(wrong).is_err(), "{wrong}");
        }
    }
}
