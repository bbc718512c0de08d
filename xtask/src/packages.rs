//! Debian packages: says what it is about to install, and installs it.

use std::path::Path;
use std::process::Stdio;

use crate::{Outcome, privileges};

/// A package and a file that tells that it is there.
pub struct Package {
    /// Debian's name.
    pub name: &'static str,
    /// A program or file of it.
    pub proof: &'static str,
}

/// What the program is built with, beside Rust.
pub const BUILD: &[Package] = &[
    Package {
        name: "gcc",
        proof: "/usr/bin/gcc",
    },
    Package {
        name: "libc6-dev",
        proof: "/usr/include/stdlib.h",
    },
    Package {
        name: "musl-tools",
        proof: "/usr/bin/musl-gcc",
    },
];

/// What the demo needs besides.
pub const DEMO: &[Package] = &[
    Package {
        name: "busybox-static",
        proof: "/bin/busybox",
    },
    Package {
        name: "mmdebstrap",
        proof: "/usr/bin/mmdebstrap",
    },
    Package {
        name: "curl",
        proof: "/usr/bin/curl",
    },
    Package {
        name: "ca-certificates",
        proof: "/etc/ssl/certs/ca-certificates.crt",
    },
];

/// What the tests need besides.
pub const TEST: &[Package] = &[
    Package {
        name: "strace",
        proof: "/usr/bin/strace",
    },
    Package {
        name: "iproute2",
        proof: "/usr/sbin/ip",
    },
    Package {
        name: "nftables",
        proof: "/usr/sbin/nft",
    },
    Package {
        name: "docker-registry",
        proof: "/usr/bin/docker-registry",
    },
    Package {
        name: "skopeo",
        proof: "/usr/bin/skopeo",
    },
    Package {
        name: "umoci",
        proof: "/usr/bin/umoci",
    },
    Package {
        name: "podman",
        proof: "/usr/bin/podman",
    },
    Package {
        name: "xz-utils",
        proof: "/usr/bin/xz",
    },
    Package {
        name: "bzip2",
        proof: "/usr/bin/bzip2",
    },
    Package {
        name: "zstd",
        proof: "/usr/bin/zstd",
    },
    Package {
        name: "python3-minimal",
        proof: "/usr/bin/python3",
    },
    Package {
        name: "util-linux",
        proof: "/usr/bin/nsenter",
    },
    // disks that lose their power
    Package {
        name: "mount",
        proof: "/usr/sbin/losetup",
    },
    Package {
        name: "e2fsprogs",
        proof: "/usr/sbin/mkfs.ext4",
    },
];

/// What measures images, and an engine to compare with.
pub const IMAGE_BENCH: &[Package] = &[
    Package {
        name: "time",
        proof: "/usr/bin/time",
    },
    Package {
        name: "podman",
        proof: "/usr/bin/podman",
    },
];

/// What tests in the lab's virtual machines need, which see this machine's files.
pub const LAB: &[Package] = &[
    Package {
        name: "apparmor",
        proof: "/usr/sbin/apparmor_parser",
    },
    Package {
        name: "kmod",
        proof: "/usr/sbin/modprobe",
    },
    Package {
        name: "systemd",
        proof: "/usr/lib/systemd/systemd",
    },
    Package {
        name: "dbus",
        proof: "/usr/bin/dbus-daemon",
    },
    Package {
        name: "busybox-static",
        proof: "/bin/busybox",
    },
];

/// What the lab's tests below a real systemd need besides: users' managers and buses, and runc to compare with.
pub const LAB_SYSTEMD: &[Package] = &[
    Package {
        name: "libpam-systemd",
        proof: "/usr/share/doc/libpam-systemd/copyright",
    },
    Package {
        name: "dbus-user-session",
        proof: "/usr/lib/systemd/user/dbus.socket",
    },
    Package {
        name: "runc",
        proof: "/usr/sbin/runc",
    },
    Package {
        name: "strace",
        proof: "/usr/bin/strace",
    },
];

/// What the fuzzer is built with, beside Rust.
pub const FUZZ: &[Package] = &[
    Package {
        name: "g++",
        proof: "/usr/bin/g++",
    },
    Package {
        name: "libc6-dev",
        proof: "/usr/include/stdlib.h",
    },
];

/// What libseccomp's answers are made with.
pub const ORACLE: &[Package] = &[
    Package {
        name: "libseccomp-dev",
        proof: "/usr/include/seccomp.h",
    },
    Package {
        name: "pkg-config",
        proof: "/usr/bin/pkg-config",
    },
    Package {
        name: "gcc",
        proof: "/usr/bin/gcc",
    },
];

/// The runtimes that ours is measured beside.
pub const RUNTIMES: &[Package] = &[
    Package {
        name: "crun",
        proof: "/usr/bin/crun",
    },
    Package {
        name: "runc",
        proof: "/usr/sbin/runc",
    },
];

/// What the conformance run needs besides the demo's. Docker's daemon is used where it is installed: its package starts
/// a daemon of its own, which nobody wants in passing.
pub const CONFORMANCE: &[Package] = &[
    Package {
        name: "golang-go",
        proof: "/usr/bin/go",
    },
    Package {
        name: "golang-github-opencontainers-runtime-tools-dev",
        proof: "/usr/share/gocode/src/github.com/opencontainers/runtime-tools/generate/generate.go",
    },
    Package {
        name: "golang-github-google-uuid-dev",
        proof: "/usr/share/gocode/src/github.com/google/uuid/uuid.go",
    },
    Package {
        name: "golang-github-hashicorp-go-multierror-dev",
        proof: "/usr/share/gocode/src/github.com/hashicorp/go-multierror/multierror.go",
    },
    Package {
        name: "golang-github-mrunalp-fileutils-dev",
        proof: "/usr/share/gocode/src/github.com/mrunalp/fileutils/fileutils.go",
    },
    Package {
        name: "golang-github-urfave-cli-dev",
        proof: "/usr/share/gocode/src/github.com/urfave/cli/cli.go",
    },
    Package {
        name: "golang-github-containerd-console-dev",
        proof: "/usr/share/gocode/src/github.com/containerd/console/console.go",
    },
    Package {
        name: "golang-github-seccomp-libseccomp-golang-dev",
        proof: "/usr/share/gocode/src/github.com/seccomp/libseccomp-golang/seccomp.go",
    },
    Package {
        name: "golang-github-cyphar-filepath-securejoin-dev",
        proof: "/usr/share/gocode/src/github.com/cyphar/filepath-securejoin/join.go",
    },
    Package {
        name: "golang-github-sirupsen-logrus-dev",
        proof: "/usr/share/gocode/src/github.com/sirupsen/logrus/logrus.go",
    },
    Package {
        name: "libseccomp-dev",
        proof: "/usr/include/seccomp.h",
    },
    Package {
        name: "pkg-config",
        proof: "/usr/bin/pkg-config",
    },
    Package {
        name: "bats",
        proof: "/usr/bin/bats",
    },
    Package {
        name: "jq",
        proof: "/usr/bin/jq",
    },
    Package {
        name: "gawk",
        proof: "/usr/bin/gawk",
    },
    Package {
        name: "xz-utils",
        proof: "/usr/bin/xz",
    },
    Package {
        name: "python3-minimal",
        proof: "/usr/bin/python3",
    },
    Package {
        name: "uidmap",
        proof: "/usr/bin/newuidmap",
    },
    Package {
        name: "util-linux",
        proof: "/usr/bin/setpriv",
    },
    Package {
        name: "git",
        proof: "/usr/bin/git",
    },
    Package {
        name: "runc",
        proof: "/usr/sbin/runc",
    },
    Package {
        name: "crun",
        proof: "/usr/bin/crun",
    },
    Package {
        name: "podman",
        proof: "/usr/bin/podman",
    },
    Package {
        name: "conmon",
        proof: "/usr/bin/conmon",
    },
    Package {
        name: "netavark",
        proof: "/usr/lib/podman/netavark",
    },
    Package {
        name: "aardvark-dns",
        proof: "/usr/lib/podman/aardvark-dns",
    },
    Package {
        name: "catatonit",
        proof: "/usr/bin/catatonit",
    },
    Package {
        name: "containerd",
        proof: "/usr/bin/containerd",
    },
    Package {
        name: "iptables",
        proof: "/usr/sbin/iptables",
    },
    Package {
        name: "iproute2",
        proof: "/usr/sbin/ip",
    },
    Package {
        name: "procps",
        proof: "/usr/bin/ps",
    },
    Package {
        name: "bsdutils",
        proof: "/usr/bin/script",
    },
];

/// Installs those of `packages` that are missing.
pub fn install(packages: &[&[Package]]) -> Outcome {
    let missing: Vec<&str> = packages
        .iter()
        .flat_map(|list| list.iter())
        .filter(|package| !Path::new(package.proof).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("About to install Debian packages: {}", missing.join(" "));
    privileges::explain("to install packages");
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-qq", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Outcome {
    let status = privileges::command("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("apt-get: {error} (these commands are for Debian)"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("apt-get {} failed: {status}", arguments.join(" ")))
    }
}
