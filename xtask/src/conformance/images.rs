//! Docker, podman, skopeo and umoci from Debian as readers and writers of the same images as ketch: by way of
//! docker-registry, of archives, and of ketch's store in place; and Docker's own client against `ketch api serve`.
//! Wherever the bytes must stay the same, digests are compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::case::{self, Suite};
use super::daemon::Daemon;
use super::image_cases::CASES;
use super::{PLACE, Runtime, build_ketch, docker, print_detail, run_inside_namespaces};
use crate::shell::{self, Timed};
use crate::{Outcome, base_images, packages, privileges};

/// The word that starts the part of the run which is root in private namespaces.
pub const INSIDE: &str = "conformance-images-inside";

/// The registries: one for everybody, one for `me` with the password `s3cret`.
const OPEN: &str = "127.0.0.1:5000";
const CLOSED: &str = "127.0.0.1:5001";
const PASSWORDS: &str = "me:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

const BEFORE: &str = r#"
export KETCH_DATA_ROOT=$PLACE/ketch/data KETCH_RUN_ROOT=$PLACE/ketch/run
export DOCKER_CONFIG=$PLACE/client REGISTRY_AUTH_FILE=$PLACE/client/podman.json
export CONTAINERS_CONF=$PLACE/podman/containers.conf CONTAINERS_STORAGE_CONF=$PLACE/podman/storage.conf
open=127.0.0.1:5000; closed=127.0.0.1:5001
docker=/usr/bin/docker; test -x $docker || docker=docker
k() { "$RUNTIME" "$@"; }
d() { DOCKER_HOST=unix://$PLACE/docker.socket $docker "$@"; }
a() { DOCKER_HOST=unix://$KETCH_RUN_ROOT/api.sock $docker "$@"; }
runc=/usr/sbin/runc; test -x $runc || runc=crun
p() { podman --runtime $runc "$@"; }
s() { skopeo --insecure-policy "$@"; }
# digest of what a registry has under NAME:TAG of the open registry
there() { s inspect --raw --tls-verify=false docker://$open/$1 | sha256sum | sed 's/ .*//; s/^/sha256:/'; }
# id of an image, by each engine
kid() { k image inspect -f '{{.Id}}' $1; }
did() { d image inspect -f '{{.Id}}' $1; }
pid() { echo sha256:$(p image inspect -f '{{.Id}}' $1); }
mkdir -p work; cd work
"#;

const AFTER: &str = r#"set +e
for id in $(k ps -aq); do k rm -f -v $id; done
for id in $(d ps -aq); do d rm -f -v $id; done
p rm -f -a -t 0
for name in $(k images --format '{{.Repository}}:{{.Tag}}' | grep -v ^busybox:); do k rmi -f $name; done
k image prune -f; d image prune -a -f; p rmi -a -f
for host in $open $closed; do k logout $host; p logout $host; done
cd ..; rm -rf work
"#;

/// `cargo xtask conformance images [CHECK...]`, started by the developer.
pub fn run(words: &[&str]) -> Outcome {
    let mut timed = Timed::default();
    timed.step("Install what is missing", || {
        packages::install(&[packages::BUILD, packages::DEMO, packages::TEST])
    })?;
    let ketch = timed.step("Build the program", build_ketch)?;
    let work = shell::target_directory().join("conformance");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let archive = base_images::busybox(&work)?;
    privileges::explain("to run daemons and containers");
    timed.step("Run the checks", || {
        run_inside_namespaces(INSIDE, &[&ketch, &archive], words)
    })?;
    timed.report();
    Ok(())
}

/// The part of the run that is root in private namespaces: `KETCH ARCHIVE [CHECK...]`.
pub fn run_inside(words: &[&str]) -> Outcome {
    let [ketch, archive, wanted @ ..] = words else {
        return Err(format!(
            "{INSIDE} is started by `cargo xtask conformance images`"
        ));
    };
    let _daemons = start(Path::new(ketch))?;
    let runtime = Runtime {
        name: "ketch",
        program: PathBuf::from(ketch),
    };
    let suite = Suite {
        name: "images",
        before: BEFORE,
        after: AFTER,
    };
    let import = format!("k import -c 'CMD [\"sh\"]' {archive} busybox:latest");
    case::shell(&suite, &import, &runtime)?;
    let rows = case::run(&suite, CASES, &[runtime], wanted);
    let mut failed = 0;
    for row in &rows {
        for verdict in row.verdicts.iter().filter(|one| !one.failures.is_empty()) {
            failed += 1;
            println!("\nimages: {} fails:", row.name);
            for failure in &verdict.failures {
                println!("    {failure}");
            }
            print_detail(&verdict.detail);
        }
    }
    println!("\nimages: {} checks; failed: {failed}", rows.len());
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} checks of images failed")),
    }
}

/// Two registries, Docker's daemon and ketch's server, and the settings of podman.
fn start(ketch: &Path) -> Result<Vec<Daemon>, String> {
    let place = Path::new(PLACE);
    let write = |name: &str, text: &str| {
        let path = place.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    write("client/config.json", "{}")?;
    write("client/podman.json", "{}")?;
    write("podman/containers.conf", super::podman::CONFIGURATION)?;
    write("podman/storage.conf", super::podman::STORAGE)?;
    write("htpasswd", PASSWORDS)?;
    let passwords = format!("auth: {{htpasswd: {{realm: test, path: {PLACE}/htpasswd}}}}\n");
    let mut daemons = Vec::new();
    for (address, more) in [(OPEN, ""), (CLOSED, passwords.as_str())] {
        let name = address.replace([':', '.'], "-");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {PLACE}/{name}}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{address}'}}\n{more}"
        );
        let settings = format!("{name}.yml");
        write(&settings, &text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(place.join(&settings));
        let log = place.join(format!("{name}.log"));
        daemons.push(Daemon::start_until(command, &log, || {
            std::net::TcpStream::connect(address).is_ok()
        })?);
    }
    daemons.push(docker::start(
        place,
        &["--bridge=none", "--iptables=false"],
    )?);
    let mut command = Command::new(ketch);
    command
        .args(["api", "serve"])
        .env("KETCH_DATA_ROOT", place.join("ketch/data"))
        .env("KETCH_RUN_ROOT", place.join("ketch/run"))
        .env("DOCKER_CONFIG", place.join("server"));
    let socket = place.join("ketch/run/api.sock");
    daemons.push(Daemon::start(command, &place.join("api.log"), &socket)?);
    Ok(daemons)
}
