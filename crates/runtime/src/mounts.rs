//! The parent's part of mounts: they are checked, and the sources of bind mounts are opened in its own mount namespace.
//! The child's part is in `attach`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

use ketch_spec::runtime::{IdMapping, Mount};
use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Called, During, Error, Result};
use crate::id_map;
use crate::options::{self, Options};

/// One mount to make.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Absolute, without `.` and `..`.
    pub destination: PathBuf,
    /// What is mounted.
    pub object: Object,
    /// How.
    pub options: Options,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum Object {
    /// A bind mount: a detached copy of the source, with attributes and propagation as asked.
    Tree(OwnedFd),
    /// A file system of that type, with its source.
    New(String, String),
    /// The hierarchies of the container's cgroups.
    Cgroup,
}

/// What mounts of a container have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MountContext<'a> {
    /// Where relative sources begin.
    pub bundle: &'a Path,
    /// Ids of the container's new user namespace.
    pub uid_mappings: &'a [IdMapping],
    /// Ids of the container's new user namespace.
    pub gid_mappings: &'a [IdMapping],
}

/// In the parent: checks the mounts and opens their sources.
pub(crate) fn plan(mounts: &[Mount], context: MountContext<'_>) -> Result<Vec<MountPlan>> {
    mounts
        .iter()
        .map(|mount| plan_one(mount, context))
        .collect()
}

fn plan_one(mount: &Mount, context: MountContext<'_>) -> Result<MountPlan> {
    let destination = clean(&mount.destination);
    let options = options::parse(&mount.destination, &mount.options)?;
    let bind = options.bind.is_some() || mount.kind == "bind";
    let mapped = options.id_map.is_some() || !mount.uid_mappings.is_empty();
    if mapped && !bind {
        let what = format!("id mapping of the mount at {}", mount.destination);
        return Err(Error::unsupported(what, "only bind mounts can be mapped"));
    }
    if options.copy_up {
        let what = format!("option tmpcopyup of the mount at {}", mount.destination);
        return Err(Error::unsupported(what, ""));
    }
    let object = if bind {
        if let Some((option, _)) = options.data.first() {
            let reason = format!("{option} is not an option of a bind mount");
            return Err(Error::invalid(
                format!("mount at {}", mount.destination),
                reason,
            ));
        }
        let step = || format!("mount {} at {}", mount.source, mount.destination);
        let tree = open_source(mount, &options, context).during(step())?;
        if mapped {
            id_map::apply(tree.as_fd(), mount, options.id_map == Some(true), context)?;
        }
        prepare_tree(tree.as_fd(), &options).during(step())?;
        Object::Tree(tree)
    } else if matches!(mount.kind.as_str(), "cgroup" | "cgroup2") {
        Object::Cgroup
    } else if mount.kind.is_empty() {
        return Err(Error::invalid(
            format!("mount at {}", mount.destination),
            "it has no type",
        ));
    } else {
        Object::New(mount.kind.clone(), mount.source.clone())
    };
    Ok(MountPlan {
        destination,
        object,
        options,
    })
}

/// An absolute path without `.`, `..` and double slashes, by its letters alone.
pub(crate) fn clean(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            _ => {}
        }
    }
    cleaned
}

fn open_source(
    mount: &Mount,
    options: &Options,
    context: MountContext<'_>,
) -> Result<OwnedFd, SysError> {
    let source = context.bundle.join(&mount.source);
    let recursive = options.bind == Some(true);
    clone_tree(CWD, source.as_os_str(), recursive)
        .map_err(|error| SysError::on(error.call, source, error.errno))
}

/// A detached copy of the mount at `path`; an empty path means `directory` itself.
pub(crate) fn clone_tree(
    directory: BorrowedFd<'_>,
    path: &OsStr,
    recursive: bool,
) -> Result<OwnedFd, SysError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    open_tree(directory, path, flags).called("open_tree")
}

/// Gives a detached copy its propagation and attributes.
fn prepare_tree(tree: BorrowedFd<'_>, options: &Options) -> Result<(), SysError> {
    // The copy is in the peer group of its source. Unless asked otherwise it hears of mounts there, and what is
    // mounted in it stays in the container.
    let default = [(attr::SLAVE, true)];
    let propagation: &[(u64, bool)] = if options.propagation.is_empty() {
        &default
    } else {
        &options.propagation
    };
    for &(propagation, recursive) in propagation {
        set_attributes(
            tree,
            &Attributes {
                propagation,
                recursive,
                ..Attributes::default()
            },
        )?;
    }
    for (change, recursive) in [(options.own, false), (options.below, true)] {
        if !change.is_empty() {
            let (set, clear) = (change.set, change.clear_mask());
            set_attributes(
                tree,
                &Attributes {
                    set,
                    clear,
                    recursive,
                    ..Attributes::default()
                },
            )?;
        }
    }
    Ok(())
}

/// Descriptors that the child needs.
pub(crate) fn descriptors(plans: &[MountPlan]) -> impl Iterator<Item = RawFd> + '_ {
    plans.iter().filter_map(|plan| match &plan.object {
        Object::Tree(tree) => Some(tree.as_raw_fd()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(mount: Mount) -> Result<MountPlan> {
        let bundle = Path::new("/");
        plan_one(
            &mount,
            MountContext {
                bundle,
                uid_mappings: &[],
                gid_mappings: &[],
            },
        )
    }

    fn mount(kind: &str, options: &[&str]) -> Mount {
        Mount {
            destination: "/x".into(),
            kind: kind.into(),
            source: "/nowhere/at/all".into(),
            options: options.iter().map(|&option| option.into()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn destinations_are_cleaned() {
        assert_eq!(clean("/a/../../b/./c//d/"), Path::new("/b/c/d"));
        assert_eq!(clean("a"), Path::new("/a"));
        assert_eq!(clean("/.."), Path::new("/"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |mount| plan_of(mount).unwrap_err().to_string();
        assert!(refused(mount("", &[])).contains("it has no type"));
        assert!(refused(mount("tmpfs", &["tmpcopyup"])).contains("tmpcopyup"));
        assert!(refused(mount("tmpfs", &["idmap"])).contains("only bind mounts can be mapped"));
        assert!(refused(mount("bind", &["size=1"])).contains("not an option of a bind mount"));
    }

    #[test]
    fn a_missing_source_is_named() {
        let error = plan_of(mount("bind", &["rbind"])).unwrap_err().to_string();
        assert_eq!(
            error,
            "mount /nowhere/at/all at /x: open_tree /nowhere/at/all: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn other_file_systems_are_left_to_the_child() {
        let plan = plan_of(mount("tmpfs", &["nosuid", "size=1k"])).unwrap();
        assert!(matches!(plan.object, Object::New(kind, _) if kind == "tmpfs"));
        assert_eq!(
            plan.options.data,
            [("size".to_owned(), Some("1k".to_owned()))]
        );
    }
}
