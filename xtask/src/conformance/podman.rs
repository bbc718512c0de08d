//! podman from Debian, with the runtime given by `--runtime`.

use std::fs;
use std::path::Path;

use super::case::{self, Case, Suite};
use super::{PLACE, Row, Runtime};

/// podman's own places below [`PLACE`]. The limits of open files and processes are below what root may raise them to on
/// a machine without CAP_SYS_RESOURCE.
pub const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["ketch-runtime", "runc", "crun"]
tmp_dir = "/run/ketch-conformance/podman/tmp"
hooks_dir = ["/run/ketch-conformance/podman/hooks"]
"#;

/// Where podman keeps its images and containers.
pub const STORAGE: &str = r#"
[storage]
driver = "overlay"
graphroot = "/run/ketch-conformance/podman/graph"
runroot = "/run/ketch-conformance/podman/runroot"
"#;

const BEFORE: &str = r#"
export CONTAINERS_CONF=$PLACE/podman/containers.conf CONTAINERS_STORAGE_CONF=$PLACE/podman/storage.conf
p() { podman --runtime "$RUNTIME" "$@"; }
pid() { p inspect -f '{{.State.Pid}}' "$1"; }
"#;

const AFTER: &str =
    "p pod rm -f -a -t 0; p rm -f -a -t 0; p volume prune -f; rm -f $PLACE/podman/hooks/*";

/// Runs the checks.
pub fn run(archive: &Path, runtimes: &[Runtime], wanted: &[&str]) -> Result<Vec<Row>, String> {
    let place = Path::new(PLACE).join("podman");
    let write = |name: &str, text: &str| {
        fs::write(place.join(name), text).map_err(|error| format!("{name}: {error}"))
    };
    fs::create_dir_all(place.join("hooks"))
        .map_err(|error| format!("{}: {error}", place.display()))?;
    write("containers.conf", CONFIGURATION)?;
    write("storage.conf", STORAGE)?;
    let suite = Suite {
        name: "podman",
        before: BEFORE,
        after: AFTER,
    };
    // the image is made once, by the judge's podman
    let import = format!("p import -q {} busybox", archive.display());
    case::shell(&suite, &import, &runtimes[1])?;
    Ok(case::run(&suite, CASES, runtimes, wanted))
}

const CASES: &[Case] = &[
    Case {
        name: "run",
        lines: "same $(p run --rm --network none busybox echo hello) hello",
    },
    Case {
        name: "run: exit code",
        lines: "same $(code p run --rm --network none busybox sh -c 'exit 42') 42",
    },
    Case {
        name: "run: program that is not there: 127",
        lines: "same $(code p run --rm --network none busybox /nowhere) 127",
    },
    Case {
        name: "run: program that is not in PATH: 127",
        lines: "same $(code p run --rm --network none busybox nowhere) 127",
    },
    Case {
        name: "run: file that is no program: 126",
        lines: "same $(code p run --rm --network none busybox /etc/passwd) 126",
    },
    Case {
        name: "run: killed by a signal: 137",
        lines: "p run -d --name c --network none busybox sleep 99
p kill -s KILL c
same $(p wait c) 137",
    },
    Case {
        name: "run -i: standard input",
        lines: "same \"$(echo words | p run -i --rm --network none busybox cat)\" words",
    },
    Case {
        name: "run -t: terminal",
        lines: "p run -t --rm --network none busybox tty | grep -q '^/dev/pts/0'
script -qec 'podman --runtime $RUNTIME run -it --rm --network none busybox sh -c \"stty size; tty\"' /dev/null </dev/null | grep -q /dev/pts/0",
    },
    Case {
        name: "run -d, logs",
        lines: "p run -d --name c --network none busybox sh -c 'echo one; echo two >&2'
p wait c
same \"$(p logs c 2>&1 | sort | tr '\\n' ' ')\" 'one two '",
    },
    Case {
        name: "create, start, start -a",
        lines: "p create --name c --network none busybox sh -c 'echo words; exit 3'
same \"$(p inspect -f '{{.State.Status}}' c)\" created
p init c
same \"$(p inspect -f '{{.State.Status}}' c)\" initialized
same \"$(code p start -a c)\" 'words
3'",
    },
    Case {
        name: "exec",
        lines: "p run -d --name c --network none busybox sleep 99
same \"$(p exec c echo inside)\" inside
same $(code p exec c sh -c 'exit 9') 9
same $(code p exec c /nowhere) 127
same \"$(echo words | p exec -i c cat)\" words",
    },
    Case {
        name: "exec: user, directory, variables, no capabilities",
        lines: "p run -d --name c --network none busybox sleep 99
same \"$(p exec -u 1000:1001 -w /tmp -e A=b c sh -c 'id -u; id -g; pwd; echo $A' | tr '\\n' ' ')\" '1000 1001 /tmp b '
p exec -u 1000 c grep -q 'CapEff:.0000000000000000' /proc/self/status
p exec --privileged c sh -c 'echo 1 > /proc/self/oom_score_adj; cat /proc/self/status' | grep -q CapEff",
    },
    Case {
        name: "exec -t: terminal",
        lines: "p run -d --name c --network none busybox sleep 99
p exec -t c tty | grep -q /dev/pts/",
    },
    Case {
        name: "exec -d",
        lines: "p run -d --name c --network none busybox sleep 99
p exec -d c sh -c 'echo done > /tmp/file; sleep 99'
for try in 1 2 3 4 5 6 7 8 9 10; do p exec c test -s /tmp/file && break; sleep 0.2; done
same \"$(p exec c cat /tmp/file)\" done",
    },
    Case {
        name: "stop: signal and exit code",
        lines: "p run -d --name c --network none busybox sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'
sleep 0.5
p stop -t 20 c
same $(p inspect -f '{{.State.ExitCode}}' c) 7
same $(p inspect -f '{{.State.Status}}' c) exited",
    },
    Case {
        name: "stop: after the time-out",
        lines: "p run -d --name c --network none busybox sh -c 'trap \"\" TERM; sleep 99'
p stop -t 1 c
same $(p inspect -f '{{.State.ExitCode}}' c) 137",
    },
    Case {
        name: "kill -s HUP",
        lines: "p run -d --name c --network none busybox sh -c 'trap \"exit 5\" HUP; while :; do sleep 0.1; done'
sleep 0.5
p kill -s HUP c
same $(p wait c) 5",
    },
    Case {
        name: "restart",
        lines: "p run -d --name c --network none busybox sleep 99
old=$(pid c)
p restart -t 0 c
test $old != $(pid c)
same $(p inspect -f '{{.State.Status}}' c) running",
    },
    Case {
        name: "start again after the end",
        lines: "p run --name c --network none busybox sh -c 'echo x >> /file; wc -l < /file'
same $(p start -a c) 2",
    },
    Case {
        name: "rm of a running one, rm -f",
        lines: "p run -d --name c --network none busybox sleep 99
fails p rm c
p rm -f -t 0 c
fails p inspect c",
    },
    Case {
        name: "--memory",
        lines: "p run -d --name c --network none --memory 64m --memory-swap 128m --memory-reservation 32m busybox sleep 99
same $(limit $(pid c) memory memory.limit_in_bytes memory.max) 67108864
same $(limit $(pid c) memory memory.soft_limit_in_bytes memory.low) 33554432",
    },
    Case {
        name: "--memory: killed beyond it",
        lines: "same $(code p run --name c --network none --memory 24m --memory-swap 24m busybox tail /dev/zero) 137",
    },
    Case {
        name: "--pids-limit",
        lines: "p run -d --name c --network none --pids-limit 50 busybox sleep 99
same $(limit $(pid c) pids pids.max pids.max) 50",
    },
    Case {
        name: "--cpus, --cpu-shares, --cpuset-cpus",
        lines: "p run -d --name c --network none --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 busybox sleep 99
limit $(pid c) cpu cpu.cfs_quota_us cpu.max | grep -q '^50000'
limit $(pid c) cpu cpu.shares cpu.weight | grep -Eq '^(512|20|59)$'
same $(limit $(pid c) cpuset cpuset.cpus cpuset.cpus) 0
same \"$(p exec c grep Cpus_allowed_list /proc/self/status | cut -f2)\" 0",
    },
    Case {
        name: "update",
        lines: "p run -d --name c --network none --memory 64m --memory-swap 128m busybox sleep 99
p update --memory 96m c
same $(limit $(pid c) memory memory.limit_in_bytes memory.max) 100663296
p update --cpu-shares 256 c
limit $(pid c) cpu cpu.shares cpu.weight | grep -Eq '^(256|10|39)$'",
    },
    Case {
        name: "pause, unpause",
        lines: "p run -d --name c --network none busybox sleep 99
p pause c
same $(p inspect -f '{{.State.Status}}' c) paused
p unpause c
same $(p inspect -f '{{.State.Status}}' c) running
p pause c
p rm -f -t 0 c",
    },
    Case {
        name: "top, stats, ps",
        lines: "p run -d --name c --network none busybox sleep 99
p top c | grep -q 'sleep 99'
p stats --no-stream --format '{{.Name}} {{.PIDs}}' c | grep -q '^c 1'
p ps --format '{{.Names}}' | grep -qx c",
    },
    Case {
        name: "attach",
        lines: "p run -d -i --name c --network none busybox sh -c 'read line; echo got $line'
echo words | p attach c | grep -qx 'got words'",
    },
    Case {
        name: "healthcheck",
        lines: "p run -d --name c --network none --health-cmd 'test -f /ok' --health-interval disable busybox sleep 99
fails p healthcheck run c
p exec c touch /ok
p healthcheck run c",
    },
    Case {
        name: "--read-only",
        lines: "fails p run --rm --network none --read-only busybox touch /file
p run --rm --network none --read-only busybox touch /tmp/file
fails p run --rm --network none --read-only --read-only-tmpfs=false busybox touch /tmp/file",
    },
    Case {
        name: "--cap-drop, --cap-add",
        lines: "p run --rm --network none --cap-drop all busybox grep -q 'CapBnd:.0000000000000000' /proc/self/status
p run --rm --network none --cap-drop all --cap-add net_admin busybox grep -q 'CapEff:.0000000000001000' /proc/self/status
fails p run --rm --network none --cap-drop chown busybox chown 1 /tmp",
    },
    Case {
        name: "--user, --group-add, --workdir, --env, --hostname",
        lines: "same \"$(p run --rm --network none --user 12:34 --group-add 56 -w /tmp -e A=b -h name busybox sh -c 'id -u; id -g; id -G; pwd; echo $A; hostname' | tr '\\n' ' ')\" '12 34 34 56 /tmp b name '",
    },
    Case {
        name: "--security-opt: seccomp and no-new-privileges",
        lines: "p run --rm --network none busybox grep -q 'Seccomp:.2' /proc/self/status
p run --rm --network none --security-opt seccomp=unconfined busybox grep -q 'Seccomp:.0' /proc/self/status
p run --rm --network none --security-opt no-new-privileges busybox grep -q 'NoNewPrivs:.1' /proc/self/status",
    },
    Case {
        name: "masked and read-only paths",
        lines: "same \"$(p run --rm --network none busybox sh -c 'head -c 1 /proc/kcore; head -c 1 /proc/keys; ls /sys/firmware')\" ''
fails p run --rm --network none busybox sh -c 'echo 1 > /proc/sys/kernel/panic'",
    },
    Case {
        name: "--privileged",
        lines: "p run --rm --network none --privileged busybox sh -c 'mount -t tmpfs none /tmp && grep -q Seccomp:.0 /proc/self/status && test -e /dev/full'",
    },
    Case {
        name: "volumes",
        lines: "mkdir -p $PLACE/volume; echo outside > $PLACE/volume/file
same $(p run --rm --network none -v $PLACE/volume:/v:ro busybox cat /v/file) outside
fails p run --rm --network none -v $PLACE/volume:/v:ro busybox touch /v/other
p run --rm --network none -v named:/v busybox sh -c 'echo kept > /v/file'
same $(p run --rm --network none -v named:/v busybox cat /v/file) kept
p run --rm --network none -v $PLACE/volume/file:/etc/one-file:rw busybox sh -c 'echo inside > /etc/one-file'
same $(cat $PLACE/volume/file) inside",
    },
    Case {
        name: "--tmpfs, --mount, --shm-size",
        lines: "p run --rm --network none --tmpfs /t:size=1m,mode=1777 busybox sh -c 'df -k /t | grep -q 1024'
p run --rm --network none --mount type=tmpfs,destination=/m,tmpfs-size=2m busybox sh -c 'df -k /m | grep -q 2048'
p run --rm --network none --shm-size 3m busybox sh -c 'df -k /dev/shm | grep -q 3072'",
    },
    Case {
        name: "--device",
        lines: "p run --rm --network none --device /dev/null:/dev/other:rw busybox sh -c 'test -c /dev/other && echo x > /dev/other'
fails p run --rm --network none busybox sh -c 'mknod /dev/m c 1 1 && head -c 1 /dev/m'",
    },
    Case {
        name: "--uidmap: a user namespace",
        lines: "same \"$(p run --rm --network none --uidmap 0:100000:2000 --gidmap 0:100000:2000 busybox sh -c 'id -u; cat /proc/self/uid_map; touch /file && stat -c %u /file' | tr -s ' \\n' ' ')\" '0 0 100000 2000 0 '",
    },
    Case {
        name: "--uidmap: exec",
        lines: "p run -d --name c --network none --uidmap 0:100000:2000 --gidmap 0:100000:2000 busybox sleep 99
same $(p exec c id -u) 0
grep -q '100000' /proc/$(pid c)/uid_map",
    },
    Case {
        name: "--pid, --ipc, --uts of the host, --cgroupns",
        lines: "p run --rm --network none --pid host busybox sh -c 'test $$ != 1'
same $(p run --rm --network none --ipc host busybox readlink /proc/self/ns/ipc) $(readlink /proc/self/ns/ipc)
same $(p run --rm --network none --uts host busybox readlink /proc/self/ns/uts) $(readlink /proc/self/ns/uts)
same $(p run --rm --network none --cgroupns host busybox readlink /proc/self/ns/cgroup) $(readlink /proc/self/ns/cgroup)
test $(p run --rm --network none --cgroupns private busybox readlink /proc/self/ns/cgroup) != $(readlink /proc/self/ns/cgroup)",
    },
    Case {
        name: "namespaces of another container",
        lines: "p run -d --name c --network none busybox sleep 99
p run --rm --network container:c --pid container:c --ipc container:c busybox ps | grep -q 'sleep 99'",
    },
    Case {
        name: "--sysctl, --ulimit, --oom-score-adj",
        lines: "same $(p run --rm --network none --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward) 1
same $(p run --rm --network none --ulimit nofile=99:100 --ulimit nproc=1000:1000 busybox sh -c 'ulimit -n') 99
same $(p run --rm --network none --oom-score-adj 123 busybox cat /proc/self/oom_score_adj) 123",
    },
    Case {
        name: "--init",
        lines: "p run --rm --network none --init busybox sh -c 'test $$ != 1 && grep -aq catatonit /proc/1/cmdline'",
    },
    Case {
        name: "--network host",
        lines: "same $(p run --rm --network host busybox readlink /proc/self/ns/net) $(readlink /proc/self/ns/net)",
    },
    Case {
        name: "--network none",
        lines: "same \"$(p run --rm --network none busybox ls /sys/class/net)\" lo",
    },
    Case {
        name: "bridge network: containers reach each other",
        lines: "p network create k >/dev/null
p run -d --name server --network k busybox httpd -f -h /etc
address=$(p inspect -f '{{.NetworkSettings.Networks.k.IPAddress}}' server)
p run --rm --network k busybox wget -q -O- http://$address/passwd | grep -q root
p rm -f -t 0 server
p network rm k",
    },
    Case {
        name: "bridge network: published port",
        lines: "p run -d --name server -p 8099:80 busybox httpd -f -h /etc
wget -q -O- http://127.0.0.1:8099/passwd 2>/dev/null | grep -q root || curl -s http://127.0.0.1:8099/passwd | grep -q root",
    },
    Case {
        name: "pod with an infra container",
        lines: "p pod create --name k --network none >/dev/null
p run -d --pod k --name one busybox sleep 99
p run -d --pod k --name two busybox sleep 99
same $(p exec one readlink /proc/self/ns/net) $(p exec two readlink /proc/self/ns/net)
same $(p exec one readlink /proc/self/ns/ipc) $(p exec two readlink /proc/self/ns/ipc)
p pod stop -t 0 k
p pod start k
p pod rm -f -t 0 k",
    },
    Case {
        name: "OCI hooks",
        lines: "cat > $PLACE/podman/hooks/k.json <<EOF
{\"version\": \"1.0.0\", \"hook\": {\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"cat >> $PLACE/hooked\"]}, \"when\": {\"always\": true}, \"stages\": [\"prestart\", \"createRuntime\", \"poststart\", \"poststop\"]}
EOF
rm -f $PLACE/hooked
p run --name c --network none busybox true
p rm c
grep -q '\"status\":\"creat' $PLACE/hooked
same $(grep -o ociVersion $PLACE/hooked | wc -l) 4
grep -q '\"status\":\"stopped\"' $PLACE/hooked",
    },
    Case {
        name: "--preserve-fds",
        lines: "echo words > $PLACE/descriptor
same $(p run --rm --network none --preserve-fds 1 busybox sh -c 'cat <&3' 3< $PLACE/descriptor) words",
    },
    Case {
        name: "commit, diff, cp",
        lines: "p run -d --name c --network none busybox sh -c 'echo x > /new; sleep 99'
sleep 0.3
p diff c | grep -q '/new'
p cp c:/new $PLACE/new
p commit -q -p c changed
same $(p run --rm --network none changed cat /new) x
p rmi -f changed",
    },
    Case {
        name: "ten containers at once",
        lines: "for n in 1 2 3 4 5 6 7 8 9 10; do p run -d --name many$n --network none busybox sleep 99 & done; wait
same $(p ps -q | wc -l) 10
p rm -f -a -t 0
same $(p ps -a -q | wc -l) 0",
    },
    Case {
        name: "errors name what is wrong",
        lines: "p run --rm --network none --cwd /x busybox true 2>/dev/null || true
p run --rm --network none --device /dev/nowhere busybox true 2>&1 | grep -q nowhere
p run --rm --network none -v /nowhere:/v busybox true 2>&1 | grep -q nowhere",
    },
];
