//! Detached mounts of stacked layers.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ketch_spec::Digest;
use ketch_sys as sys;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
};

use super::LayerError;
use super::attach::{LayerUse, attach};
use crate::{Engine, Result};

/// The directories that make an overlay writable; both on one file system, which also holds the layers.
#[derive(Debug, Clone, Copy)]
pub struct Writable<'a> {
    /// Where changes go.
    pub upper: &'a Path,
    /// Overlayfs's scratch directory.
    pub work: &'a Path,
    /// Nobody needs the changes after a power cut: overlayfs leaves out its syncs.
    pub volatile: bool,
}

/// How many lower layers one overlay can have (fs/overlayfs/params.h, `OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;

/// How long the option text of the old mount call may be: one page, with the NUL.
const OLD_OPTIONS_MAX_BYTES: usize = 4095;

/// Upper directories become layers and layers become other people's archives: nothing may be in them that means
/// something to this overlay only.
const PLAIN: [(&str, &str); 3] = [
    ("metacopy", "off"),
    ("redirect_dir", "nofollow"),
    ("index", "off"),
];

/// Whether the layers are on several file systems, as images are. Then overlayfs makes inode numbers of the layer's
/// number and the file's own: without that files would have other device numbers than their directories, and programs
/// that stay on one file system (`du -x`, `tar --one-file-system`) would leave them out.
fn xino(several: bool) -> (&'static str, &'static str) {
    ("xino", if several { "on" } else { "off" })
}

/// Stacks `layers` (diff ids, lowest first), read-only or with a writable layer on top, as a detached mount. Private,
/// so that nothing propagates to or from it. Not attached anywhere: the caller moves it to its place or uses it through
/// the descriptor. The layers are in use for as long as the other half of the result lives, which should outlive the
/// mount.
///
/// # Errors
/// `NotFound` if a layer is not in the store, `Unsupported` if the kernel refuses the stack.
pub fn mount(
    engine: &Engine,
    layers: &[Digest],
    writable: Option<Writable<'_>>,
) -> Result<(OwnedFd, LayerUse)> {
    let layers = &without_repeats(layers)[..];
    if layers.len() > MAX_LAYERS {
        return Err(LayerError::TooManyLayers {
            layers: layers.len(),
            limit: MAX_LAYERS,
        }
        .into());
    }
    // The kernel wants the uppermost first.
    let stacked: Vec<Digest> = layers.iter().rev().cloned().collect();
    let (lowers, used) = attach(engine, &stacked)?;
    let mount = match (&lowers[..], writable) {
        ([], None) => empty(),
        ([], Some(writable)) => sys::fs::open_directory(writable.upper)
            .map_err(LayerError::from)
            .and_then(|d| clone_of(d.as_fd(), false)),
        ([single], None) => clone_of(single.as_fd(), true),
        (several, writable) => overlay(several, writable, used.has_images(), || {
            lower_paths(engine, layers)
        }),
    };
    Ok((mount?, used))
}

/// Each layer once, where it stands uppermost: overlayfs refuses a directory that it has already (`ELOOP`), and what is
/// in the upper one, or taken away by it, hides the same in the lower one. Steps of a build that change nothing, or the
/// same, give equal layers.
fn without_repeats(layers: &[Digest]) -> Vec<Digest> {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<Digest> = layers
        .iter()
        .rev()
        .filter(|layer| seen.insert(*layer))
        .cloned()
        .collect();
    kept.reverse();
    kept
}

/// The directories by path, uppermost first: for kernels that know no other way, and so mount no images.
fn lower_paths(engine: &Engine, layers: &[Digest]) -> Result<Vec<PathBuf>, LayerError> {
    layers
        .iter()
        .rev()
        .map(|diff_id| super::shown_dir(engine, diff_id).map_err(LayerError::from))
        .collect()
}

/// A read-only file system without files, for an image without layers.
fn empty() -> Result<OwnedFd, LayerError> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|e| sys::Error::new("fsopen", e))?;
    for (key, value) in [("mode", "0755"), ("size", "4k"), ("nr_inodes", "2")] {
        rustix::mount::fsconfig_set_string(&context, key, value)
            .map_err(|e| sys::Error::new("fsconfig", e))?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|e| sys::Error::new("fsconfig", e))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|e| sys::Error::new("fsmount", e))?,
    )
}

/// A detached bind mount of one directory.
fn clone_of(directory: BorrowedFd<'_>, read_only: bool) -> Result<OwnedFd, LayerError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = rustix::mount::open_tree(directory, "", flags)
        .map_err(|e| sys::Error::new("open_tree", e))?;
    let set = if read_only { sys::mount::READ_ONLY } else { 0 };
    let attributes = sys::mount::Attributes {
        set,
        propagation: sys::mount::PRIVATE,
        ..Default::default()
    };
    sys::mount::set_attributes(&mount, &attributes)?;
    Ok(mount)
}

/// At least two directories, or one and a writable one.
fn overlay(
    lowers: &[OwnedFd],
    writable: Option<Writable<'_>>,
    images: bool,
    paths: impl FnOnce() -> Result<Vec<PathBuf>, LayerError>,
) -> Result<OwnedFd, LayerError> {
    static APPENDS: OnceLock<bool> = OnceLock::new();
    if !*APPENDS.get().unwrap_or(&true) {
        return overlay_by_mount(&paths()?, writable);
    }
    let step = match overlay_by_context(lowers, writable, images) {
        Ok(mount) => return Ok(mount),
        Err(step) => step,
    };
    // `lowerdir+` is what kernels before 6.5 do not know; they collect options without looking and refuse them at the end
    if step.errno == Errno::INVAL
        && matches!(step.at, At::FirstLower | At::Create)
        && let Ok(mount) = overlay_by_mount(&paths()?, writable)
    {
        let _ = APPENDS.set(false);
        return Ok(mount);
    }
    Err(step.into_error(lowers.len()))
}

/// Where setting up a mount context stopped.
#[derive(Debug, PartialEq)]
enum At {
    Open,
    FirstLower,
    Option,
    Create,
    Mount,
}

#[derive(Debug)]
struct Step {
    at: At,
    errno: Errno,
    said: String,
}

impl Step {
    fn into_error(self, layers: usize) -> LayerError {
        let call = match self.at {
            At::Open => "fsopen",
            At::Mount => "fsmount",
            _ => "fsconfig",
        };
        let source = sys::Error::new(call, self.errno);
        let said = if self.said.is_empty() {
            source.to_string()
        } else {
            self.said
        };
        LayerError::Overlay {
            layers,
            said,
            source,
        }
    }
}

/// Linux 6.5 and later: one `lowerdir+` a layer, which has no bound but the kernel's stack.
fn overlay_by_context(
    lowers: &[OwnedFd],
    writable: Option<Writable<'_>>,
    images: bool,
) -> Result<OwnedFd, Step> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| Step {
            at: At::Open,
            errno,
            said: String::new(),
        })?;
    let failed = |at: At| {
        let context = context.as_fd();
        move |errno| Step {
            at,
            errno,
            said: sys::mount::messages(context),
        }
    };
    for (position, lower) in lowers.iter().enumerate() {
        let at = if position == 0 {
            At::FirstLower
        } else {
            At::Option
        };
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", through(lower.as_fd()))
            .map_err(failed(at))?;
    }
    for (key, value) in PLAIN.into_iter().chain([xino(images)]) {
        rustix::mount::fsconfig_set_string(&context, key, value).map_err(failed(At::Option))?;
    }
    // Kept open until the mount is made: their numbers are the paths.
    let mut held = Vec::new();
    if let Some(writable) = writable {
        for (key, path) in [("upperdir", writable.upper), ("workdir", writable.work)] {
            let directory = sys::fs::open_directory(path).map_err(|error| Step {
                at: At::Option,
                errno: error.errno,
                said: error.to_string(),
            })?;
            rustix::mount::fsconfig_set_string(&context, key, through(directory.as_fd()))
                .map_err(failed(At::Option))?;
            held.push(directory);
        }
        if writable.volatile {
            rustix::mount::fsconfig_set_flag(&context, "volatile").map_err(failed(At::Option))?;
        }
    }
    rustix::mount::fsconfig_create(&context).map_err(failed(At::Create))?;
    let attributes = if writable.is_some() {
        MountAttrFlags::empty()
    } else {
        MountAttrFlags::MOUNT_ATTR_RDONLY
    };
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(failed(At::Mount))
}

/// The path of an open directory: short, and free of what overlayfs would need escaped.
fn through(directory: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

/// Before Linux 6.5 the list of layers is one option, and fsconfig(2) takes only 255 bytes: the old mount(2) takes a page.
/// It has to attach what it mounts, which happens in a mount namespace that only a thread of ours has; the detached
/// copy outlives it.
fn overlay_by_mount(
    lowers: &[PathBuf],
    writable: Option<Writable<'_>>,
) -> Result<OwnedFd, LayerError> {
    let made = std::thread::scope(|scope| scope.spawn(|| mount_privately(lowers, writable)).join());
    match made {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs in a thread of its own, whose mount namespace and working directory end with it.
fn mount_privately(
    lowers: &[PathBuf],
    writable: Option<Writable<'_>>,
) -> Result<OwnedFd, LayerError> {
    // Splits off the working directory too (unshare(2), CLONE_NEWNS implies CLONE_FS).
    sys::namespace::unshare(sys::namespace::Namespaces::MOUNT)?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|e| sys::Error::on("mount", "/", e))?;
    // Overlayfs takes only directories of the caller's mount namespace, so they are opened here.
    let mut held = Vec::new();
    let options = old_options(lowers, writable, &mut held)?;
    // The numbers in the options are links in this directory.
    let numbers = "/proc/thread-self/fd";
    rustix::process::chdir(numbers).map_err(|e| sys::Error::on("chdir", numbers, e))?;
    // Any directory will do: nobody else sees it.
    let target = "/proc";
    let flags = if writable.is_some() {
        MountFlags::empty()
    } else {
        MountFlags::RDONLY
    };
    rustix::mount::mount("overlay", target, "overlay", flags, &*options).map_err(|errno| {
        let source = sys::Error::on("mount", target, errno);
        LayerError::Overlay {
            layers: lowers.len(),
            said: source.to_string(),
            source,
        }
    })?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, target, clone)
        .map_err(|e| sys::Error::on("open_tree", target, e))?;
    Ok(mount)
}

/// The option text of mount(2), with directories as numbers of descriptors, which go to `held`.
fn old_options(
    lowers: &[PathBuf],
    writable: Option<Writable<'_>>,
    held: &mut Vec<OwnedFd>,
) -> Result<CString, LayerError> {
    let mut number = |path: &Path| -> Result<RawFd, LayerError> {
        let directory = sys::fs::open_directory(path)?;
        let number = directory.as_raw_fd();
        held.push(directory);
        Ok(number)
    };
    let mut options = String::from("lowerdir=");
    for (position, lower) in lowers.iter().enumerate() {
        let separator = if position == 0 { "" } else { ":" };
        options.push_str(&format!("{separator}{}", number(lower)?));
    }
    for (key, value) in PLAIN.into_iter().chain([xino(false)]) {
        options.push_str(&format!(",{key}={value}"));
    }
    if let Some(writable) = writable {
        options.push_str(&format!(
            ",upperdir={},workdir={}",
            number(writable.upper)?,
            number(writable.work)?
        ));
        if writable.volatile {
            options.push_str(",volatile");
        }
    }
    if options.len() > OLD_OPTIONS_MAX_BYTES {
        // Numbers of descriptors have a handful of digits at most, so this is hundreds of layers.
        let limit = lowers.len() * OLD_OPTIONS_MAX_BYTES / options.len();
        return Err(LayerError::TooManyLayers {
            layers: lowers.len(),
            limit,
        });
    }
    Ok(CString::new(options).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_layer_is_stacked_once_where_it_is_uppermost() {
        let layer = |name: &str| Digest::of(name.as_bytes());
        let [a, b, c] = ["a", "b", "c"].map(layer);
        let stack = [a.clone(), b.clone(), a.clone(), c.clone(), b.clone()];
        assert_eq!(without_repeats(&stack), [a, c, b]);
    }

    /// Both ways of mounting give the same file system; the second is the one for kernels before 6.5.
    #[test]
    fn privileged_both_ways_of_stacking_agree() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let mut paths = Vec::new();
        for number in 0..100 {
            // Names that an option text would have to escape.
            let path = at(&format!("lower:,\\{number}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("top"), number.to_string()).unwrap();
            fs::write(path.join(format!("f{number}")), "").unwrap();
            paths.push(path);
        }
        let namespace = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        for way in ["context", "mount"] {
            let (upper, work) = (at(&format!("upper-{way}")), at(&format!("work-{way}")));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            let writable = Writable {
                upper: &upper,
                work: &work,
                volatile: true,
            };
            let lowers: Vec<OwnedFd> = paths
                .iter()
                .map(|path| sys::fs::open_directory(path).unwrap())
                .collect();
            let stack = |writable: Option<Writable<'_>>| match way {
                "context" => overlay_by_context(&lowers, writable, false).unwrap(),
                _ => overlay_by_mount(&paths, writable).unwrap(),
            };
            let root = stack(Some(writable));
            let root_path = PathBuf::from(through(root.as_fd()));
            assert_eq!(fs::read(root_path.join("top")).unwrap(), b"0", "{way}");
            assert_eq!(fs::read_dir(&root_path).unwrap().count(), 101, "{way}");
            fs::remove_file(root_path.join("f7")).unwrap();
            fs::write(root_path.join("new"), way).unwrap();
            drop(root);
            assert_eq!(fs::read(upper.join("new")).unwrap(), way.as_bytes());
            let view = stack(None);
            let view_path = PathBuf::from(through(view.as_fd()));
            let attached = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            assert!(
                !attached.contains(scratch.path().to_str().unwrap()),
                "nothing is attached on the host"
            );
            assert!(
                view_path.join("f7").exists() && fs::write(view_path.join("x"), "").is_err(),
                "{way}"
            );
        }
        assert_eq!(
            fs::read_link("/proc/thread-self/ns/mnt").unwrap(),
            namespace
        );
    }

    #[test]
    fn privileged_a_refused_stack_says_why() {
        let scratch = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["a", "b"].map(|name| scratch.path().join(name)).to_vec();
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        let lowers: Vec<OwnedFd> = paths
            .iter()
            .map(|path| sys::fs::open_directory(path).unwrap())
            .collect();
        // Overlayfs refuses a scratch directory on another file system than the upper one's.
        let writable = Writable {
            upper: &paths[0],
            work: Path::new("/proc"),
            volatile: false,
        };
        let Err(step) = overlay_by_context(&lowers, Some(writable), false) else {
            panic!("a wrong work directory")
        };
        let error = step.into_error(2);
        assert!(
            error.to_string().starts_with("cannot mount 2 layers: "),
            "{error}"
        );
        assert!(overlay_by_mount(&paths, Some(writable)).is_err());
    }
}
