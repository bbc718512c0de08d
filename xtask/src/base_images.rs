//! Base images without any registry: archives of a root file system, for `ketch import`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::privileges;

/// Makes `busybox.tar` in `directory` from Debian's busybox-static: the program and a link for each of its applets.
pub fn busybox(directory: &Path) -> Result<PathBuf, String> {
    let root = directory.join("busybox-root");
    let archive = directory.join("busybox.tar");
    if archive.exists() {
        return Ok(archive);
    }
    build_busybox_root(&root)
        .map_err(|error| format!("busybox root in {}: {error}", root.display()))?;
    let status = Command::new("tar")
        .args([
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--sort=name",
            "-C",
        ])
        .arg(&root)
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status()
        .map_err(|error| format!("tar: {error}"))?;
    if !status.success() {
        return Err(format!("tar of {} failed: {status}", root.display()));
    }
    fs::remove_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(archive)
}

fn build_busybox_root(root: &Path) -> std::io::Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    for directory in [
        "bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "var",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    symlink("../../bin/env", root.join("usr/bin/env"))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\ndaemon:x:1:\nwheel:x:10:root\nnogroup:x:65534:\n",
    )?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))
}

/// Makes `debian.tar` in `directory` with mmdebstrap, from the package sources of this machine.
pub fn debian(directory: &Path) -> Result<PathBuf, String> {
    let archive = directory.join("debian.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let partial = directory.join("debian.tar.partial");
    let status = privileges::command("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--format=tar", "bookworm"])
        .arg(&partial)
        .status()
        .map_err(|error| format!("mmdebstrap: {error}"))?;
    if !status.success() {
        return Err(format!("mmdebstrap failed: {status}"));
    }
    fs::rename(&partial, &archive).map_err(|error| format!("{}: {error}", archive.display()))?;
    Ok(archive)
}
