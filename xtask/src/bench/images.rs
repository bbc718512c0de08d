//! Images beside podman and docker: pull, first run, save, load and removal of an image of eight layers, about 1 GB and
//! 30,000 entries, from a registry on loopback.
//!
//! Everything happens in a network and mount namespace of its own: the registry, the engines, and a docker daemon that
//! is started for it where one is installed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::median;
use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, packages, privileges};

const ROUNDS: usize = 3;
const LAYERS: usize = 8;
/// What is installed on top of Debian's minimal system.
const CONTENTS: &str = "build-essential,python3,git,golang-1.19-go";
const REGISTRY: &str = "127.0.0.1:5000";
/// Where skopeo notes, for root, which blobs it saw where.
const SKOPEO_CACHE: &str = "/var/lib/containers/cache";

/// An engine: its name, and the words that begin its command lines. EMPTY: a line for `sh` that empties its store.
struct Engine {
    name: &'static str,
    words: Vec<String>,
    pull: &'static [&'static str],
    empty: String,
    /// Whether the process that is timed does the work, so that its processor time and memory say something.
    works_itself: bool,
}

/// Builds, makes the image, and measures as root in namespaces of its own: the engines of these names, or all.
pub fn run(engines: &[&str]) -> Outcome {
    let mut timed = Timed::default();
    packages::install(&[
        packages::BUILD,
        packages::DEMO,
        packages::TEST,
        packages::IMAGE_BENCH,
    ])?;
    timed.step("Build the release binary", || {
        shell::cargo(&["build", "--release", "--package", "ketch-cli"])
    })?;
    let scratch = shell::target_directory().join("bench-images");
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    if !scratch.join("image.tar").exists() {
        timed.step("Make the image", || make_image(&scratch))?;
    }
    let xtask = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let status = privileges::command("unshare")
        .args(["--net", "--mount", "--"])
        .arg(xtask)
        .arg("bench-images-inside")
        .arg(target::ketch(Profile::Release))
        .arg(&scratch)
        .args(engines)
        .status()
        .map_err(|error| format!("unshare: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the measurement failed: {status}"))
    }
}

/// A Debian system cut into layers of about the same size, as a docker archive.
fn make_image(scratch: &Path) -> Outcome {
    let script = format!(
        "set -e; cd '{}'; rm -rf root layers; mkdir layers
mmdebstrap --quiet --variant=minbase --include={CONTENTS} bookworm root
cd root
find . -mindepth 1 -printf '%s\\t%P\\n' | LC_ALL=C sort -k2 | awk -F '\\t' -v layers={LAYERS} '
  {{ size[NR] = $1 + 1024; name[NR] = $2; total += size[NR] }}
  END {{ for (i = 1; i <= NR; i++) {{ sum += size[i]; n = int((sum - 1) * layers / total); print name[i] > (\"../layers/\" n) }} }}'
cd ..
for n in layers/?; do tar -C root --numeric-owner --no-recursion -T $n -cf $n.tar; rm $n; done
rm -rf root
sha256sum layers/*.tar > layers/sums",
        scratch.display()
    );
    root_shell(&script)?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", scratch.display());
    let sums = fs::read_to_string(scratch.join("layers/sums")).map_err(|error| failed(&error))?;
    let mut diff_ids = Vec::new();
    let mut names = Vec::new();
    for (sum, name) in sums.lines().filter_map(|line| line.split_once("  ")) {
        diff_ids.push(format!("sha256:{sum}"));
        names.push(name.to_owned());
    }
    let config = json!({"architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux", "created": "2024-01-01T00:00:00Z", "config": {"Cmd": ["true"], "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": names.iter().map(|name| json!({"created_by": name})).collect::<Vec<_>>()});
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["bench:latest"], "Layers": names}]);
    fs::write(scratch.join("config.json"), config.to_string()).map_err(|error| failed(&error))?;
    fs::write(scratch.join("manifest.json"), manifest.to_string())
        .map_err(|error| failed(&error))?;
    root_shell(&format!(
        "cd '{}' && tar -cf partial manifest.json config.json layers/*.tar && rm -rf layers registry && mv partial image.tar",
        scratch.display()
    ))
    .map(drop)
}

/// The measurement, of the engines of these names, or all.
pub fn inside(program: &str, scratch: &str, wanted: &[&str]) -> Outcome {
    let scratch = Path::new(scratch);
    root_shell("mount --make-rprivate / && ip link set lo up")?;
    let _registry = Daemon::start(registry(scratch)?, || {
        std::net::TcpStream::connect(REGISTRY).is_ok()
    })?;
    fill_registry(scratch)?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
    let docker = match is_wanted("docker") {
        true => docker(scratch)?,
        false => None,
    };
    let mut engines = engines(program, scratch, docker.is_some());
    engines.retain(|engine| is_wanted(engine.name));
    println!("\nseconds: median wall (processor time) and peak memory, {ROUNDS} rounds in turns\n");
    print!("{:16}", "");
    for engine in &engines {
        print!("{:>32}", engine.name);
    }
    println!();
    let archive = scratch.join("image.tar").display().to_string();
    let saved = scratch.join("saved.tar").display().to_string();
    let gzip = format!("{REGISTRY}/bench:gzip");
    let zstd = format!("{REGISTRY}/bench:zstd");
    let mut table = Table::new(&engines);
    for _ in 0..ROUNDS {
        for (index, engine) in engines.iter().enumerate() {
            let mut time = |case: &'static str, arguments: &[&str]| {
                table.add(case, index, measure(engine, scratch, arguments));
            };
            for (kind, image) in [("gzip", &gzip), ("zstd", &zstd)] {
                let (pull, run) = match kind {
                    "gzip" => ("pull gzip", "first run"),
                    _ => ("pull zstd", "first run "),
                };
                prepare(engine, scratch)?;
                time(pull, &[engine.pull, &[image]].concat());
                time(run, &["run", "--rm", "--network", "none", image, "true"]);
                if kind == "gzip" {
                    let _ = fs::remove_file(&saved);
                    time("save", &["save", "-o", &saved, image]);
                    time("rmi", &["rmi", image]);
                }
            }
            prepare(engine, scratch)?;
            time("load", &["load", "-i", &archive]);
        }
    }
    for engine in &engines {
        root_shell(&engine.empty)?;
    }
    let _ = fs::remove_file(&saved);
    table.print();
    Ok(())
}

/// Empties an engine's store, and has what it is going to read in the page cache, whatever went on before.
fn prepare(engine: &Engine, scratch: &Path) -> Outcome {
    root_shell(&engine.empty)?;
    root_shell(&format!(
        "cd '{}' && find registry image.tar -type f -exec cat {{}} + >/dev/null",
        scratch.display()
    ))
}

fn engines(program: &str, scratch: &Path, docker: bool) -> Vec<Engine> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let place = scratch.display();
    let mut engines = vec![Engine {
        name: "ketch",
        words: words(&format!(
            "{program} --data-root {place}/ketch --run-root /run/ketch-bench-images"
        )),
        pull: &["pull", "-q"],
        empty: format!("rm -rf {place}/ketch; sync"),
        works_itself: true,
    }];
    if Path::new("/usr/bin/podman").exists() {
        let words = words(&format!(
            "/usr/bin/podman --root {place}/podman --runroot /run/podman-bench"
        ));
        engines.push(Engine {
            name: "podman",
            empty: format!("{} rmi -af >/dev/null 2>&1; sync", words.join(" ")),
            words,
            pull: &["pull", "-q", "--tls-verify=false"],
            works_itself: true,
        });
    }
    if docker {
        let words = words(&format!("docker -H unix://{place}/docker.sock"));
        engines.push(Engine {
            name: "docker",
            empty: format!(
                "{0} images -q | sort -u | xargs -r {0} rmi -f >/dev/null; sync",
                words.join(" ")
            ),
            words,
            pull: &["pull", "-q"],
            works_itself: false,
        });
    }
    engines
}

/// Wall seconds, processor seconds and MiB, or why there are none.
type Measured = Result<(f64, f64, f64), String>;

fn measure(engine: &Engine, scratch: &Path, arguments: &[&str]) -> Measured {
    let report = scratch.join("time");
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%e %U %S %M", "-o"])
        .arg(&report)
        .args(&engine.words)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("time: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().last().unwrap_or_default().to_owned());
    }
    let text = fs::read_to_string(&report).map_err(|error| format!("time: {error}"))?;
    let numbers: Vec<f64> = text
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    match numbers[..] {
        [wall, user, system, kib] => Ok((wall, user + system, kib / 1024.0)),
        _ => Err(format!("time said {text:?}")),
    }
}

/// Samples by case and engine.
struct Table<'a> {
    engines: &'a [Engine],
    cases: Vec<(&'static str, Vec<Vec<Measured>>)>,
}

impl<'a> Table<'a> {
    fn new(engines: &'a [Engine]) -> Self {
        Self {
            engines,
            cases: Vec::new(),
        }
    }

    fn add(&mut self, case: &'static str, engine: usize, measured: Measured) {
        if !self.cases.iter().any(|(name, _)| *name == case) {
            let empty = self.engines.iter().map(|_| Vec::new()).collect();
            self.cases.push((case, empty));
        }
        for (name, samples) in &mut self.cases {
            if *name == case {
                samples[engine].push(measured.clone());
            }
        }
    }

    fn print(&self) {
        let mut reasons = Vec::new();
        for (case, samples) in &self.cases {
            print!("{case:16}");
            for (engine, samples) in self.engines.iter().zip(samples) {
                let good: Vec<_> = samples.iter().flatten().collect();
                if good.len() < samples.len() {
                    reasons.extend(samples.iter().find_map(|sample| {
                        let error = sample.as_ref().err()?;
                        Some(format!("{} {case}: {error}", engine.name))
                    }));
                    print!("{:>32}", "-");
                    continue;
                }
                let mut wall: Vec<f64> = good.iter().map(|sample| sample.0).collect();
                let mut processor: Vec<f64> = good.iter().map(|sample| sample.1).collect();
                let memory = good.iter().map(|sample| sample.2).fold(0.0, f64::max);
                let text = if engine.works_itself {
                    format!(
                        "{:.2} ({:.2}) {memory:.0} MiB",
                        median(&mut wall),
                        median(&mut processor)
                    )
                } else {
                    format!("{:.2}", median(&mut wall))
                };
                print!("{text:>32}");
            }
            println!();
        }
        for reason in reasons {
            println!("{reason}");
        }
    }
}

/// A process that ends with us.
struct Daemon(Child);

impl Daemon {
    fn start(mut command: Command, ready: impl Fn() -> bool) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let daemon = Self(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready() {
            if Instant::now() > deadline {
                return Err(format!("{command:?} does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn registry(scratch: &Path) -> Result<Command, String> {
    let configuration = scratch.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}/registry\nhttp:\n  addr: {REGISTRY}\n",
        scratch.display()
    );
    fs::write(&configuration, text).map_err(|error| format!("registry.yml: {error}"))?;
    let mut command = Command::new("/usr/bin/docker-registry");
    command.arg("serve").arg(configuration);
    Ok(command)
}

fn fill_registry(scratch: &Path) -> Outcome {
    let place = scratch.display();
    if scratch
        .join("registry/docker/registry/v2/repositories/bench/_manifests/tags/zstd")
        .exists()
    {
        return Ok(());
    }
    println!("Filling the registry: gzip and zstd");
    for (format, kind) in [("gzip", "v2s2"), ("zstd", "oci")] {
        // Else skopeo remembers the gzip blobs and gives them to the second image too.
        root_shell(&format!(
            "mkdir -p {SKOPEO_CACHE} && mount -t tmpfs none {SKOPEO_CACHE} && skopeo --insecure-policy copy -q --format {kind} --dest-tls-verify=false --dest-compress-format {format} \
             docker-archive:{place}/image.tar docker://{REGISTRY}/bench:{format}"
        ))?;
    }
    Ok(())
}

/// A docker daemon of our own, where one is installed.
fn docker(scratch: &Path) -> Result<Option<Daemon>, String> {
    let Some(program) = ["/usr/sbin/dockerd", "/usr/bin/dockerd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        return Ok(None);
    };
    let place = scratch.display();
    let socket = scratch.join("docker.sock");
    let mut command = Command::new(program);
    command.args(["--bridge=none", "--iptables=false"]);
    command.arg(format!("--data-root={place}/docker"));
    command.arg("--exec-root=/run/docker-bench-images");
    command.arg(format!("--host=unix://{place}/docker.sock"));
    command.arg(format!("--pidfile={place}/docker.pid"));
    Daemon::start(command, || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })
    .map(Some)
}

fn root_shell(line: &str) -> Outcome {
    let output = privileges::command("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("sh: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "`{line}`: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
