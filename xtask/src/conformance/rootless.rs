//! podman from Debian as an ordinary user calls it, with the runtime given by `--runtime`: no root, no cgroups of its
//! own where the machine has version 1 of them, ids from `/etc/subuid`.

use std::fs;
use std::path::Path;

use super::case::{self, Case, Suite};
use super::{PLACE, Row, Runtime};

/// The user, and the ids that are his besides his own. His records are in a view of `/etc` that ends with the run.
const SETUP: &str = r#"
home=$PLACE/rootless
mkdir -p $home/etc/upper $home/etc/work $home/home/.config/containers $home/run
mount -t overlay overlay -o lowerdir=/etc,upperdir=$home/etc/upper,workdir=$home/etc/work /etc
echo "tester:x:4242:4242::$home/home:/bin/sh" >> /etc/passwd
echo "tester:x:4242:" >> /etc/group
echo tester:200000:65536 >> /etc/subuid
echo tester:200000:65536 >> /etc/subgid
printf '[storage]\ndriver = "vfs"\n' > $home/home/.config/containers/storage.conf
cat > $home/home/.config/containers/containers.conf <<EOF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["ketch-runtime", "runc", "crun"]
EOF
cp ARCHIVE $home/busybox.tar
chown -R 4242:4242 $home/home $home/run
chmod 755 $home $home/bin $home/bin/ketch-runtime
chmod 644 $home/busybox.tar
chmod 700 $home/run
p import -q $home/busybox.tar busybox
"#;

const BEFORE: &str = r#"
case $RUNTIME in *ketch-runtime) RUNTIME=$PLACE/rootless/bin/ketch-runtime ;; esac
p() {
    cd $PLACE/rootless/home
    setpriv --reuid 4242 --regid 4242 --clear-groups --inh-caps=-all env -i PATH=$PATH \
        HOME=$PLACE/rootless/home XDG_RUNTIME_DIR=$PLACE/rootless/run podman --runtime "$RUNTIME" "$@"
}
"#;

const AFTER: &str = "p pod rm -f -a -t 0; p rm -f -a -t 0; p volume prune -f";

/// Runs the checks.
pub fn run(archive: &Path, runtimes: &[Runtime], wanted: &[&str]) -> Result<Vec<Row>, String> {
    let directory = Path::new(PLACE).join("rootless/bin");
    // where the user can reach it
    fs::create_dir_all(&directory)
        .and_then(|()| fs::copy(&runtimes[0].program, directory.join("ketch-runtime")))
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let suite = Suite {
        name: "podman-rootless",
        before: BEFORE,
        after: AFTER,
    };
    let setup = SETUP.replace("ARCHIVE", &archive.to_string_lossy());
    case::shell(&suite, &setup, &runtimes[1])?;
    Ok(case::run(&suite, CASES, runtimes, wanted))
}

const CASES: &[Case] = &[
    Case {
        name: "run: ids of the user",
        lines: "same \"$(p run --rm --network none busybox sh -c 'id -u; cat /proc/self/uid_map' | tr -s ' \\n' ' ')\" '0 0 4242 1 1 200000 65536 '",
    },
    Case {
        name: "run: exit code, programs that are not there",
        lines: "same $(code p run --rm --network none busybox sh -c 'exit 42') 42
same $(code p run --rm --network none busybox /nowhere) 127
same $(code p run --rm --network none busybox /etc/passwd) 126",
    },
    Case {
        name: "run -d, exec, logs, stop",
        lines: "p run -d --name c --network none busybox sh -c 'echo out; exec sleep 99'
same $(p exec c echo inside) inside
same $(code p exec c sh -c 'exit 9') 9
same $(p exec -u 12 c id -u) 12
p exec -t c tty | grep -q /dev/pts/
same $(p logs c) out
p stop -t 0 c
same $(p inspect -f '{{.State.ExitCode}}' c) 137
p start c
p rm -f -t 0 c",
    },
    Case {
        name: "run -t, -i",
        lines: "p run --rm -t --network none busybox tty | grep -q /dev/pts/0",
    },
    Case {
        name: "--network host",
        lines: "same $(p run --rm --network host busybox readlink /proc/self/ns/net) $(readlink /proc/self/ns/net)",
    },
    Case {
        name: "--userns keep-id, --uidmap",
        lines: "same $(p run --rm --network none --userns keep-id busybox id -u) 4242
same \"$(p run --rm --network none --uidmap 0:1:1000 busybox cat /proc/self/uid_map | tr -s ' ')\" ' 0 1 1000'
p run -d --name c --network none --userns keep-id busybox sleep 99
same $(p exec c id -u) 4242",
    },
    Case {
        name: "--init, --pid host",
        lines: "p run --rm --network none --init busybox sh -c 'test $$ != 1'
p run --rm --network none --pid host busybox sh -c 'test $$ != 1'",
    },
    Case {
        name: "--read-only, --cap-drop, --security-opt",
        lines: "fails p run --rm --network none --read-only busybox touch /file
p run --rm --network none --cap-drop all busybox grep -q 'CapBnd:.0000000000000000' /proc/self/status
p run --rm --network none busybox grep -q 'Seccomp:.2' /proc/self/status
p run --rm --network none --security-opt no-new-privileges busybox grep -q 'NoNewPrivs:.1' /proc/self/status",
    },
    Case {
        name: "--privileged",
        lines: "p run --rm --network none --privileged busybox sh -c 'mount -t tmpfs none /tmp && grep -q Seccomp:.0 /proc/self/status'",
    },
    Case {
        name: "volumes, tmpfs, devices",
        lines: "mkdir -p $PLACE/rootless/home/v; echo outside > $PLACE/rootless/home/v/file
same $(p run --rm --network none -v $PLACE/rootless/home/v:/v:ro busybox cat /v/file) outside
fails p run --rm --network none -v $PLACE/rootless/home/v:/v:ro busybox touch /v/other
p run --rm --network none -v named:/v busybox sh -c 'echo kept > /v/file'
same $(p run --rm --network none -v named:/v busybox cat /v/file) kept
p run --rm --network none --tmpfs /t:size=1m busybox sh -c 'df -k /t | grep -q 1024'
p run --rm --network none busybox sh -c 'echo x > /dev/null && head -c 1 /dev/zero > /dev/full 2>/dev/null || true'",
    },
    Case {
        name: "pod with shared namespaces",
        lines: "p pod create --name k --network none --share net,ipc,uts,pid >/dev/null
p run -d --pod k --name one busybox sleep 99
p run -d --pod k --name two busybox sleep 99
same $(p exec one readlink /proc/self/ns/net) $(p exec two readlink /proc/self/ns/net)
same $(p exec one readlink /proc/self/ns/pid) $(p exec two readlink /proc/self/ns/pid)
p pod rm -f -t 0 k",
    },
    Case {
        name: "namespaces of another container",
        lines: "p run -d --name c --network none busybox sleep 99
p run --rm --network container:c --pid container:c --ipc container:c busybox ps | grep -q 'sleep 99'",
    },
    Case {
        name: "five containers at once",
        lines: "for n in 1 2 3 4 5; do p run -d --name many$n --network none busybox sleep 99 & done; wait
same $(p ps -q | wc -l) 5",
    },
];
