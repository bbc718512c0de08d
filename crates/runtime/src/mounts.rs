//! The parent's part of mounts: they are checked, and the sources of bind mounts are opened in its own mount namespace.
//! The child's part is in `attach`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

use ketch_spec::runtime::Mount;
use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Called, During, Error, Result};
use crate::id_map::{self, Mapper};
use crate::labels;
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
    /// User namespace that maps the ids of a new file system.
    pub id_map: Option<OwnedFd>,
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
    /// What is mounted there already is changed.
    Remount,
}

/// What mounts of a container have in common.
#[derive(Debug)]
pub(crate) struct MountContext<'a> {
    /// Where relative sources begin.
    pub bundle: &'a Path,
    /// Id mappings.
    pub mapper: Mapper<'a>,
    /// `linux.mountLabel`.
    pub label: &'a str,
}

/// In the parent: checks the mounts and opens their sources.
pub(crate) fn plan(mounts: &[Mount], mut context: MountContext<'_>) -> Result<Vec<MountPlan>> {
    if !context.label.is_empty() && !labels::has_selinux() {
        let what = format!("linux.mountLabel {:?}", context.label);
        return Err(Error::unsupported(what, "the kernel has no SELinux"));
    }
    mounts
        .iter()
        .map(|mount| plan_one(mount, &mut context))
        .collect()
}

fn plan_one(mount: &Mount, context: &mut MountContext<'_>) -> Result<MountPlan> {
    let destination = clean(&mount.destination);
    let mut options = options::parse(&mount.options);
    let kind = mount.kind.as_str();
    let bind = options.bind.is_some() || kind == "bind";
    check(mount, &options, &destination, bind)?;
    let mut id_map = None;
    let object = if options.remount {
        Object::Remount
    } else if bind {
        Object::Tree(bind_source(mount, &options, context)?)
    } else if kind == "cgroup" || (kind == "cgroup2" && crate::cgroup::is_unified()) {
        Object::Cgroup
    } else {
        if is_mapped(mount, &options) {
            let namespace = context.mapper.namespace(mount)?;
            let copy = namespace
                .try_clone()
                .map_err(|error| SysError::from_io("dup", "", &error))
                .during(format!("map the ids of the mount at {}", mount.destination))?;
            id_map = Some(copy);
        }
        // Of these two the kernel itself labels what is in them.
        if !context.label.is_empty() && !matches!(kind, "proc" | "sysfs") {
            let label = context.label.to_owned();
            options.data.push(("context".into(), Some(label)));
        }
        Object::New(kind.to_owned(), mount.source.clone())
    };
    Ok(MountPlan {
        destination,
        object,
        options,
        id_map,
    })
}

fn is_mapped(mount: &Mount, options: &Options) -> bool {
    options.id_map.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty()
}

/// Why nothing can be mounted at `destination`.
pub(crate) fn covers_the_root(destination: &Path) -> Error {
    let field = format!("mount at {}", destination.display());
    Error::invalid(field, "the root itself cannot be covered")
}

/// What contradicts itself.
fn check(mount: &Mount, options: &Options, destination: &Path, bind: bool) -> Result<()> {
    let kind = mount.kind.as_str();
    let refuse = |reason: &str| {
        let field = format!("mount at {}", mount.destination);
        Err(Error::invalid(field, reason))
    };
    if mount.destination.is_empty() {
        return refuse("it has no destination");
    }
    if destination == Path::new("/") && !options.remount {
        return Err(covers_the_root(destination));
    }
    if is_mapped(mount, options) && (options.remount || kind == "cgroup") {
        return refuse("only bind mounts and new file systems can have their ids mapped");
    }
    if options.copy_up && (bind || kind != "tmpfs") {
        return refuse("tmpcopyup is for a tmpfs");
    }
    if options.remount {
        return match options.data.first() {
            Some((option, _)) if bind => {
                refuse(&format!("{option} is not an option of a bind mount"))
            }
            _ => Ok(()),
        };
    }
    if bind {
        if let Some((option, _)) = options.data.first() {
            return refuse(&format!("{option} is not an option of a bind mount"));
        }
        if mount.source.is_empty() {
            return refuse("it has no source");
        }
    } else if kind.is_empty() {
        return refuse("it has no type");
    }
    Ok(())
}

fn bind_source(
    mount: &Mount,
    options: &Options,
    context: &mut MountContext<'_>,
) -> Result<OwnedFd> {
    let step = || format!("mount {} at {}", mount.source, mount.destination);
    let tree = open_source(mount, options, context.bundle).during(step())?;
    if is_mapped(mount, options) {
        let namespace = context.mapper.namespace(mount)?;
        let recursive = options.id_map == Some(true);
        id_map::apply(
            tree.as_fd(),
            &mount.destination,
            recursive,
            namespace.as_fd(),
        )?;
    }
    prepare_tree(tree.as_fd(), options).during(step())?;
    Ok(tree)
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

fn open_source(mount: &Mount, options: &Options, bundle: &Path) -> Result<OwnedFd, SysError> {
    let source = bundle.join(&mount.source);
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
    set_propagation(tree, propagation)?;
    change(tree, options)
}

/// Gives a mount the propagation types, one after the other.
pub(crate) fn set_propagation(
    mount: BorrowedFd<'_>,
    types: &[(u64, bool)],
) -> Result<(), SysError> {
    for &(propagation, recursive) in types {
        let change = Attributes {
            propagation,
            recursive,
            ..Attributes::default()
        };
        set_attributes(mount, &change)?;
    }
    Ok(())
}

/// Changes the attributes of a mount as the options say, and then those of everything below it.
pub(crate) fn change(mount: BorrowedFd<'_>, options: &Options) -> Result<(), SysError> {
    for (change, recursive) in [(options.own, false), (options.below, true)] {
        if !change.is_empty() {
            let attributes = Attributes {
                set: change.set,
                clear: change.clear_mask(),
                recursive,
                ..Attributes::default()
            };
            set_attributes(mount, &attributes)?;
        }
    }
    Ok(())
}

/// Descriptors that the child needs.
pub(crate) fn descriptors(plans: &[MountPlan]) -> impl Iterator<Item = RawFd> + '_ {
    plans.iter().flat_map(|plan| {
        let tree = match &plan.object {
            Object::Tree(tree) => Some(tree.as_raw_fd()),
            _ => None,
        };
        [tree, plan.id_map.as_ref().map(AsRawFd::as_raw_fd)]
            .into_iter()
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(mount: Mount) -> Result<MountPlan> {
        let mut context = MountContext {
            bundle: Path::new("/"),
            mapper: Mapper::default(),
            label: "",
        };
        plan_one(&mount, &mut context)
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
        assert!(refused(mount("proc", &["tmpcopyup"])).contains("tmpcopyup is for a tmpfs"));
        assert!(refused(mount("cgroup", &["idmap"])).contains("ids mapped"));
        assert!(refused(mount("tmpfs", &["idmap"])).contains("no user namespace"));
        assert!(refused(mount("bind", &["size=1"])).contains("not an option of a bind mount"));
        let bare = |mount: Mount, destination: &str, source: &str| Mount {
            destination: destination.into(),
            source: source.into(),
            ..mount
        };
        assert!(refused(bare(mount("bind", &[]), "/x", "")).contains("no source"));
        assert!(refused(bare(mount("tmpfs", &[]), "", "")).contains("no destination"));
        assert!(refused(bare(mount("tmpfs", &[]), "/a/..", "")).contains("root itself"));
        let mut half = mount("bind", &["bind", "idmap"]);
        half.source = "/".into();
        half.uid_mappings
            .push(ketch_spec::runtime::IdMapping::default());
        assert!(refused(half).contains("needs uidMappings and gidMappings"));
    }

    #[test]
    fn labels_need_selinux() {
        if labels::has_selinux() {
            return;
        }
        let context = MountContext {
            bundle: Path::new("/"),
            mapper: Mapper::default(),
            label: "system_u:object_r:x_t:s0",
        };
        let error = plan(&[], context).unwrap_err().to_string();
        assert!(error.contains("the kernel has no SELinux"), "{error}");
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
