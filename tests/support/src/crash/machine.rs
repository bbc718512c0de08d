//! A disk, and a mount namespace in which it is the data root: what a machine has that can lose its power.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::eventually;

/// Makes the namespace's mounts, says so, and keeps them until its standard input ends. Nothing is written to the disk
/// that nobody asked to be written, as far as mount options can say that.
const BOOT: &str = r#"
set -e
mkdir -p "$1/data" "$1/run"
cat /proc/sys/kernel/random/uuid > "$1/boot_id"
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount -t ext4 -o "$3" "$2" "$1/data"
echo up
exec cat
"#;

/// A machine that is on.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Holds the namespace.
    holder: Child,
    disk: PathBuf,
}

impl Machine {
    /// Makes a disk: a file in `scratch` of `mebibytes`, or the file or block device that `KETCH_TEST_DISK` names.
    pub fn make_disk(scratch: &Path, mebibytes: u32) -> PathBuf {
        let disk = match std::env::var_os("KETCH_TEST_DISK") {
            Some(device) => PathBuf::from(device),
            None => {
                let file = scratch.join("disk.img");
                let made = std::fs::File::create(&file).expect("make the disk");
                made.set_len(u64::from(mebibytes) << 20)
                    .expect("set the disk's size");
                file
            }
        };
        let mut make = Command::new("mkfs.ext4");
        let made = make
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&disk)
            .status();
        assert!(made.expect("mkfs.ext4").success());
        disk
    }

    /// Turns it on.
    pub fn start(scratch: &Path, disk: &Path) -> Self {
        let options = if disk.is_file() {
            "loop,commit=300"
        } else {
            "commit=300"
        };
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", BOOT, "sh"])
            .args([scratch, disk])
            .arg(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let output = holder.stdout.take().expect("a pipe");
        let mut said = String::new();
        BufReader::new(output)
            .read_line(&mut said)
            .expect("read what the machine says");
        assert_eq!(said, "up\n", "the machine starts");
        Self {
            holder,
            disk: disk.to_owned(),
        }
    }

    /// The namespace, for nsenter(1).
    pub fn namespace(&self) -> String {
        format!("/proc/{}/ns/mnt", self.holder.id())
    }

    /// Where the machine's file at `path` is for us.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// Turns it off and waits until nobody has the disk any more; what its file system still has to write, it writes,
    /// unless it was told to stop before. Returns the disk.
    pub fn stop(mut self) -> PathBuf {
        drop(self.holder.stdin.take());
        self.holder.wait().expect("wait for the holder");
        let is_free = || {
            if self.disk.is_file() {
                let users = Command::new("losetup").arg("-j").arg(&self.disk).output();
                users.expect("losetup").stdout.is_empty()
            } else {
                let name = self.disk.file_name().unwrap_or_default();
                !Path::new("/sys/fs/ext4").join(name).exists()
            }
        };
        eventually("the disk is free", || is_free().then_some(()));
        std::mem::take(&mut self.disk)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
