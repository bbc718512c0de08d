//! Docker's daemon from Debian, where it is installed, with the runtimes given by `--add-runtime`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::case::{self, Case, Suite};
use super::daemon::Daemon;
use super::{PLACE, Row, Runtime};

const BEFORE: &str = r#"
export DOCKER_HOST=unix://$PLACE/docker.socket DOCKER_CONFIG=$PLACE/docker-client
docker=/usr/bin/docker; test -x $docker || docker=docker
case $RUNTIME in *ketch*) name=ketch ;; *) name=runc ;; esac
d() { $docker "$@"; }
run() { $docker run --runtime $name "$@"; }
pid() { d inspect -f '{{.State.Pid}}' "$1"; }
"#;

const AFTER: &str = "set +e; for id in $(d ps -aq); do d rm -f -v $id; done";

/// Where Debian has the daemon.
const DOCKERD: &str = "/usr/sbin/dockerd";

/// Runs the checks.
pub fn run(archive: &Path, runtimes: &[Runtime], wanted: &[&str]) -> Result<Vec<Row>, String> {
    let place = Path::new(PLACE);
    fs::create_dir_all(place.join("docker-client"))
        .map_err(|error| format!("{}: {error}", place.display()))?;
    let runtime = format!("ketch={}", runtimes[0].program.display());
    let _daemon = start(place, &["--add-runtime", &runtime])?;
    let suite = Suite {
        name: "docker",
        before: BEFORE,
        after: AFTER,
    };
    let import = format!("d import {} busybox", archive.display());
    case::shell(&suite, &import, &runtimes[1])?;
    Ok(case::run(&suite, CASES, runtimes, wanted))
}

/// Starts a daemon of Docker with all of its files below `place`, and these words besides.
pub fn start(place: &Path, words: &[&str]) -> Result<Daemon, String> {
    if !Path::new(DOCKERD).exists() {
        return Err(format!("{DOCKERD} is not there: install docker.io"));
    }
    let socket = place.join("docker.socket");
    let mut command = Command::new(DOCKERD);
    command
        .args(["--cgroup-parent", "/ketch-conformance"])
        .arg("--data-root")
        .arg(place.join("docker"))
        .arg("--exec-root")
        .arg(place.join("docker-run"))
        .arg("--pidfile")
        .arg(place.join("docker.pid"))
        .arg("--host")
        .arg(format!("unix://{}", socket.display()))
        .args(words);
    Daemon::start(command, &place.join("docker.log"), &socket)
}

const CASES: &[Case] = &[
    Case {
        name: "run, exit code",
        lines: "same $(run --rm --network none busybox echo hello) hello
same $(code run --rm --network none busybox sh -c 'exit 42') 42",
    },
    Case {
        name: "run: not there 127, no program 126",
        lines: "same $(code run --rm --network none busybox /nowhere) 127
same $(code run --rm --network none busybox nowhere) 127
same $(code run --rm --network none busybox /etc/passwd) 126",
    },
    Case {
        name: "run -i, run -t",
        lines: "same \"$(echo words | run -i --rm --network none busybox cat)\" words
run -t --rm --network none busybox tty | grep -q /dev/pts/0",
    },
    Case {
        name: "run -d, logs, wait",
        lines: "run -d --name one --network none busybox sh -c 'echo one; echo two >&2; exit 3'
same $(d wait one) 3
same \"$(d logs one 2>&1 | sort | tr '\\n' ' ')\" 'one two '",
    },
    Case {
        name: "exec",
        lines: "run -d --name one --network none busybox sleep 99
same $(d exec one echo inside) inside
same $(code d exec one sh -c 'exit 9') 9
fails d exec one /nowhere
same \"$(d exec -u 12 -w /tmp -e A=b one sh -c 'id -u; pwd; echo $A' | tr '\\n' ' ')\" '12 /tmp b '
d exec -t one tty | grep -q /dev/pts/",
    },
    Case {
        name: "stop, kill, restart, start",
        lines: "run -d --name one --network none busybox sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'
sleep 0.5
d stop -t 20 one
same $(d inspect -f '{{.State.ExitCode}}' one) 7
d start one
d restart -t 5 one
d kill -s KILL one
same $(d wait one) 137",
    },
    Case {
        name: "limits",
        lines: "run -d --name one --network none -m 64m --memory-swap 128m --pids-limit 50 --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 busybox sleep 99
same $(limit $(pid one) memory memory.limit_in_bytes memory.max) 67108864
same $(limit $(pid one) pids pids.max pids.max) 50
limit $(pid one) cpu cpu.cfs_quota_us cpu.max | grep -q '^50000'
same $(limit $(pid one) cpuset cpuset.cpus cpuset.cpus) 0",
    },
    Case {
        name: "limits: killed beyond memory",
        lines: "same $(code run --name one --network none -m 24m --memory-swap 24m busybox tail /dev/zero) 137
same $(d inspect -f '{{.State.OOMKilled}}' one) true",
    },
    Case {
        name: "update, pause, unpause",
        lines: "run -d --name one --network none -m 64m --memory-swap 128m busybox sleep 99
d update -m 96m one
same $(limit $(pid one) memory memory.limit_in_bytes memory.max) 100663296
d pause one
same $(d inspect -f '{{.State.Status}}' one) paused
d unpause one
same $(d inspect -f '{{.State.Status}}' one) running",
    },
    Case {
        name: "top, stats",
        lines: "run -d --name one --network none busybox sleep 99
d top one | grep -q 'sleep 99'
d stats --no-stream --format '{{.PIDs}}' one | grep -qx 1",
    },
    Case {
        name: "network: bridge with names and a port",
        lines: "d network create ketch-conformance >/dev/null
run -d --name server --network ketch-conformance -p 8098:80 busybox httpd -f -h /etc
run --rm --network ketch-conformance busybox wget -q -O- http://server/passwd | grep -q root
curl -s http://127.0.0.1:8098/passwd | grep -q root
d rm -f server
d network rm ketch-conformance",
    },
    Case {
        name: "network: host, none, another container's",
        lines: "same $(run --rm --network host busybox readlink /proc/self/ns/net) $(readlink /proc/self/ns/net)
same \"$(run --rm --network none busybox ls /sys/class/net)\" lo
run -d --name one busybox sleep 99
same $(run --rm --network container:one busybox readlink /proc/self/ns/net) $(d exec one readlink /proc/self/ns/net)",
    },
    Case {
        name: "security: capabilities, seccomp, read-only",
        lines: "run --rm --network none --cap-drop all busybox grep -q 'CapBnd:.0000000000000000' /proc/self/status
run --rm --network none busybox grep -q 'Seccomp:.2' /proc/self/status
fails run --rm --network none --read-only busybox touch /file
fails run --rm --network none busybox sh -c 'mount -t tmpfs none /tmp'",
    },
    Case {
        name: "--privileged",
        lines: "run --rm --network none --privileged busybox sh -c 'mount -t tmpfs none /tmp && grep -q Seccomp:.0 /proc/self/status'",
    },
    Case {
        name: "volumes, tmpfs, devices",
        lines: "run --rm --network none -v ketch-conformance:/v busybox sh -c 'echo kept > /v/file'
same $(run --rm --network none -v ketch-conformance:/v:ro busybox cat /v/file) kept
d volume rm ketch-conformance
run --rm --network none --tmpfs /t:size=1m busybox sh -c 'df -k /t | grep -q 1024'
run --rm --network none --device /dev/null:/dev/other busybox test -c /dev/other",
    },
    Case {
        name: "health check, --init, --restart",
        lines: "run -d --name one --network none --health-cmd true --health-interval 1s busybox sleep 99
for try in 1 2 3 4 5 6 7 8 9 10; do test \"$(d inspect -f '{{.State.Health.Status}}' one)\" = healthy && break; sleep 0.5; done
same $(d inspect -f '{{.State.Health.Status}}' one) healthy
run -d --name again --network none --restart on-failure:2 busybox false
for try in 1 2 3 4 5 6 7 8 9 10; do test \"$(d inspect -f '{{.RestartCount}}' again)\" = 2 && break; sleep 0.5; done
same $(d inspect -f '{{.RestartCount}}' again) 2",
    },
    Case {
        name: "build",
        lines: "mkdir -p $PLACE/docker-context
printf 'FROM busybox\\nRUN echo built > /file\\nCMD cat /file\\n' > $PLACE/docker-context/Dockerfile
DOCKER_BUILDKIT=0 d build -q -t built $PLACE/docker-context
same $(run --rm --network none built) built
d rmi -f built",
    },
];
