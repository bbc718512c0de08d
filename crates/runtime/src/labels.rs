//! Labels of security modules: AppArmor's profile and SELinux's label of a process.

use std::path::Path;

use ketch_spec::runtime::Process;
use ketch_sys::Error as SysError;
use rustix::io::Errno;

use crate::error::{During, Error, Result};
use crate::procfs::Procfs;

/// Whether AppArmor is at work: `Y`.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// There if SELinux is at work: its file system.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Whether AppArmor is at work.
pub fn has_apparmor() -> bool {
    says_yes(Path::new(APPARMOR))
}

/// Whether SELinux is at work.
pub(crate) fn has_selinux() -> bool {
    Path::new(SELINUX).exists()
}

fn says_yes(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.starts_with('Y'))
}

/// In the parent: refuses labels of modules that the kernel does not have.
pub(crate) fn check(process: &Process) -> Result<()> {
    let (profile, label) = (&process.apparmor_profile, &process.selinux_label);
    if !profile.is_empty() && !has_apparmor() {
        let what = format!("process.apparmorProfile {profile:?}");
        return Err(Error::unsupported(what, "the kernel has no AppArmor"));
    }
    if !label.is_empty() && !has_selinux() {
        let what = format!("process.selinuxLabel {label:?}");
        return Err(Error::unsupported(what, "the kernel has no SELinux"));
    }
    Ok(())
}

/// In the child, while the host's /proc is there: sets what execve will take on.
pub(crate) fn set(process: &Process) -> Result<()> {
    let (profile, label) = (&process.apparmor_profile, &process.selinux_label);
    if !profile.is_empty() {
        set_profile(
            &Procfs::open().during("set process.apparmorProfile")?,
            profile,
        )?;
    }
    if !label.is_empty() {
        set_label(&Procfs::open().during("set process.selinuxLabel")?, label)?;
    }
    Ok(())
}

/// AppArmor's own file where the kernel has it (5.8), since others may have the common one.
fn set_profile(procfs: &Procfs, profile: &str) -> Result<()> {
    let own = procfs.has("self/attr/apparmor/exec");
    let path = if own {
        "self/attr/apparmor/exec"
    } else {
        "self/attr/exec"
    };
    match procfs.write(path, format!("exec {profile}").as_bytes()) {
        Err(error) if error.call == "write" && error.errno == Errno::NOENT => Err(Error::invalid(
            format!("process.apparmorProfile {profile:?}"),
            "the kernel has no profile of that name: apparmor_parser(8) loads one",
        )),
        other => other.during(format!("set process.apparmorProfile {profile:?}")),
    }
}

fn set_label(procfs: &Procfs, label: &str) -> Result<()> {
    match procfs.write("self/attr/exec", label.as_bytes()) {
        Err(SysError {
            errno: Errno::INVAL,
            ..
        }) => Err(Error::invalid(
            format!("process.selinuxLabel {label:?}"),
            "the kernel's policy has no such label",
        )),
        other => other.during(format!("set process.selinuxLabel {label:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    /// A directory with the files that a process has, which takes what is written.
    fn fake(files: &[&str]) -> (tempfile::TempDir, Procfs) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        (directory, Procfs::from_mount(root))
    }

    #[test]
    fn a_profile_is_written_to_apparmor_s_own_file_where_there_is_one() {
        let (directory, procfs) = fake(&["self/attr/exec", "self/attr/apparmor/exec"]);
        let read =
            |file: &str| fs::read_to_string(directory.path().join("self/attr").join(file)).unwrap();
        set_profile(&procfs, "box").unwrap();
        assert_eq!(
            (read("apparmor/exec"), read("exec")),
            ("exec box".into(), String::new())
        );
        let (directory, procfs) = fake(&["self/attr/exec"]);
        set_profile(&procfs, "box").unwrap();
        let text = fs::read_to_string(directory.path().join("self/attr/exec")).unwrap();
        assert_eq!(text, "exec box");
    }

    #[test]
    fn a_label_is_written_as_it_is() {
        let (directory, procfs) = fake(&["self/attr/exec"]);
        let label = "system_u:system_r:container_t:s0:c1,c2";
        set_label(&procfs, label).unwrap();
        let text = fs::read_to_string(directory.path().join("self/attr/exec")).unwrap();
        assert_eq!(text, label);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let (_directory, procfs) = fake(&[]);
        let error = set_profile(&procfs, "box").unwrap_err().to_string();
        assert!(
            error.contains("\"box\"") && error.contains("/proc/self/attr/exec"),
            "{error}"
        );
        let error = set_label(&procfs, "l").unwrap_err().to_string();
        assert!(error.contains("/proc/self/attr/exec"), "{error}");
    }

    #[test]
    fn the_module_says_whether_it_is_at_work() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enabled");
        assert!(!says_yes(&path));
        fs::write(&path, "N\n").unwrap();
        assert!(!says_yes(&path));
        fs::write(&path, "Y\n").unwrap();
        assert!(says_yes(&path));
    }
}
