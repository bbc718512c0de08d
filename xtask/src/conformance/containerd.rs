//! containerd from Debian: a daemon of our own, driven with `ctr`, with the runtime given by `--runc-binary`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::case::{self, Case, Suite};
use super::daemon::Daemon;
use super::{PLACE, Row, Runtime};

const CONFIGURATION: &str = r#"
version = 2
root = "/run/ketch-conformance/containerd/root"
state = "/run/ketch-conformance/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "/run/ketch-conformance/containerd/socket"
"#;

const BEFORE: &str = r#"
c() { ctr --address $PLACE/containerd/socket --namespace ketch-conformance "$@"; }
image=localhost/busybox:latest
run() { c run --runc-binary "$RUNTIME" "$@"; }
gone() { for try in 1 2 3 4 5 6 7 8 9 10; do c task ls | grep -q "^$1 .*STOPPED" && return 0; sleep 0.2; done; return 1; }
pid() { c task ls | sed -n "s/^$1  *\([0-9]*\) .*/\1/p"; }
"#;

const AFTER: &str = r#"
set +e
for task in $(c task ls -q); do
    c task resume "$task"
    c task kill -s KILL "$task"
    gone "$task"
    c task delete "$task"
done
for name in $(c container ls -q); do c container rm "$name"; done
"#;

/// Makes an archive of the image in a format that containerd imports.
const IMAGE: &str = r#"
export CONTAINERS_STORAGE_CONF=$PLACE/containerd/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' $PLACE/containerd/images $PLACE/containerd/images-run > $CONTAINERS_STORAGE_CONF
podman import -q ARCHIVE busybox
podman save -q -o $PLACE/containerd/busybox.tar busybox
podman rmi -f busybox
c images import $PLACE/containerd/busybox.tar
"#;

/// Runs the checks.
pub fn run(archive: &Path, runtimes: &[Runtime], wanted: &[&str]) -> Result<Vec<Row>, String> {
    let place = Path::new(PLACE).join("containerd");
    let configuration = place.join("config.toml");
    fs::create_dir_all(&place)
        .and_then(|()| fs::write(&configuration, CONFIGURATION))
        .map_err(|error| format!("{}: {error}", configuration.display()))?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(&configuration);
    let _daemon = Daemon::start(command, &place.join("log"), &place.join("socket"))?;
    let suite = Suite {
        name: "containerd",
        before: BEFORE,
        after: AFTER,
    };
    let image = IMAGE.replace("ARCHIVE", &archive.to_string_lossy());
    case::shell(&suite, &image, &runtimes[1])?;
    Ok(case::run(&suite, CASES, runtimes, wanted))
}

const CASES: &[Case] = &[
    Case {
        name: "run",
        lines: "same $(run --rm $image k echo hello) hello",
    },
    Case {
        name: "run: exit code",
        lines: "same $(code run --rm $image k sh -c 'exit 42') 42",
    },
    Case {
        name: "run: program that is not there",
        lines: "run --rm $image k /nowhere 2>&1 | grep -qi 'no such file'",
    },
    Case {
        name: "run -t: terminal",
        lines: "script -qec 'ctr --address $PLACE/containerd/socket --namespace ketch-conformance run --runc-binary $RUNTIME --rm -t localhost/busybox:latest k tty' /dev/null </dev/null | grep -q /dev/pts/0",
    },
    Case {
        name: "run -d, task ls, ps",
        lines: "run -d $image k sleep 99
c task ls | grep -q '^k .*RUNNING'
c task ps k | grep -q \"$(pid k)\"",
    },
    Case {
        name: "task start again after its end",
        lines: "run -d $image k sleep 99
c task ls | grep -q '^k .*RUNNING'
c task kill -s KILL k
gone k
c task delete k || true
c task start -d k
c task ls | grep -q '^k .*RUNNING'",
    },
    Case {
        name: "task exec",
        lines: "run -d $image k sleep 99
same $(c task exec --exec-id one k echo inside) inside
same $(code c task exec --exec-id two k sh -c 'exit 9') 9
same $(c task exec --exec-id three --cwd /tmp k pwd) /tmp
same $(c task exec --exec-id four --user 12 k id -u) 12
fails c task exec --exec-id five k /nowhere",
    },
    Case {
        name: "task exec -t: terminal",
        lines: "run -d $image k sleep 99
script -qec 'ctr --address $PLACE/containerd/socket --namespace ketch-conformance task exec -t --exec-id one k tty' /dev/null </dev/null | grep -q /dev/pts/",
    },
    Case {
        name: "task exec -d, killed alone",
        lines: "run -d $image k sleep 99
c task exec -d --exec-id one k sleep 88
c task ps k | grep -q one
c task kill --exec-id one -s KILL k
for try in 1 2 3 4 5 6 7 8 9 10; do c task ps k | grep -q one || break; sleep 0.2; done
fails sh -c \"ps -ef | grep -v grep | grep 'sleep 88'\"
c task ls | grep -q '^k .*RUNNING'",
    },
    Case {
        name: "task kill TERM, exit status",
        lines: "run -d $image k sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'
sleep 0.5
c task kill -s TERM k
gone k
c task delete k 2>&1 | grep -q 'exit code 7'",
    },
    Case {
        name: "task kill --all",
        lines: "run -d $image k sh -c 'sleep 77 & sleep 77'
sleep 0.3
c task kill --all -s KILL k
gone k
fails sh -c \"ps -ef | grep -v grep | grep 'sleep 77'\"",
    },
    Case {
        name: "task pause, resume",
        lines: "run -d $image k sleep 99
c task pause k
c task ls | grep -q '^k .*PAUSED'
c task resume k
c task ls | grep -q '^k .*RUNNING'",
    },
    Case {
        name: "task metrics",
        lines: "run -d $image k sleep 99
c task metrics k | grep -q '^memory.usage'
c task metrics k | grep -q '^pids.current *1'",
    },
    Case {
        name: "--memory-limit, --cpus, --cpu-shares",
        lines: "run -d --memory-limit 67108864 --cpus 0.5 $image k sleep 99
same $(limit $(pid k) memory memory.limit_in_bytes memory.max) 67108864
limit $(pid k) cpu cpu.cfs_quota_us cpu.max | grep -q '^50000'",
    },
    Case {
        name: "--cgroup, --env, --cwd",
        lines: "same \"$(run --rm --cgroup ketch-conformance/other --env A=b --cwd /tmp $image k sh -c 'pwd; echo $A' | tr '\\n' ' ')\" '/tmp b '",
    },
    Case {
        name: "--read-only, --privileged, --cap-drop",
        lines: "fails run --rm --read-only $image k touch /file
run --rm --privileged $image k sh -c 'mount -t tmpfs none /tmp'
fails run --rm --cap-drop CAP_CHOWN $image k chown 1 /tmp
run --rm --cap-add CAP_NET_ADMIN $image k sh -c 'ip link set lo up'",
    },
    Case {
        name: "--seccomp",
        lines: "run --rm --seccomp $image k grep -q 'Seccomp:.2' /proc/self/status
run --rm $image k grep -q 'Seccomp:.0' /proc/self/status",
    },
    Case {
        name: "--mount, --device, --rootfs-propagation",
        lines: "mkdir -p $PLACE/containerd/volume; echo outside > $PLACE/containerd/volume/file
same $(run --rm --mount type=bind,src=$PLACE/containerd/volume,dst=/v,options=rbind:ro $image k cat /v/file) outside
fails run --rm --mount type=bind,src=$PLACE/containerd/volume,dst=/v,options=rbind:ro $image k touch /v/other
run --rm --device /dev/full $image k test -c /dev/full",
    },
    Case {
        name: "--net-host, --with-ns",
        lines: "same $(run --rm --net-host $image k readlink /proc/self/ns/net) $(readlink /proc/self/ns/net)
run -d $image k sleep 99
same $(run --rm --with-ns network:/proc/$(pid k)/ns/net $image other readlink /proc/self/ns/net) $(readlink /proc/$(pid k)/ns/net)",
    },
    Case {
        name: "--uidmap",
        lines: "same $(run --rm --uidmap 0:100000:2000 --gidmap 0:100000:2000 --remap-labels $image k id -u || run --rm --uidmap 0:100000:2000 --gidmap 0:100000:2000 $image k2 id -u) 0",
    },
    Case {
        name: "--pid-file, --rlimit-nofile, --no-pivot",
        lines: "run -d --pid-file $PLACE/containerd/pid $image k sleep 99
same $(cat $PLACE/containerd/pid) $(pid k)
same $(run --rm --no-pivot $image k2 echo hello) hello",
    },
    Case {
        name: "ten containers at once",
        lines: "for n in 1 2 3 4 5 6 7 8 9 10; do run -d $image k$n sleep 99 & done; wait
same $(c task ls | grep -c RUNNING) 10",
    },
];
