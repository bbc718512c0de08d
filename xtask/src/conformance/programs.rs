//! The validation programs of the OCI runtime specification (opencontainers/runtime-tools), built with Debian's Go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::leaks::Snapshot;
use super::{PLACE, Row, Runtime, Verdict, bounded, sources};
use crate::Outcome;

const PACKAGE: &str = "golang-github-opencontainers-runtime-tools";
const REPOSITORY: &str = "https://github.com/opencontainers/runtime-tools";
const IMPORT_PATH: &str = "src/github.com/opencontainers/runtime-tools";
/// Where Debian's packages keep the sources of Go libraries.
const DEBIAN_GOPATH: &str = "/usr/share/gocode";
const CLONE_SECONDS: u32 = 60;
const BUILD_SECONDS: u32 = 300;
/// The slowest program makes 64 containers.
const PROGRAM_SECONDS: u32 = 150;
/// TAP's directive for a test that may fail.
const EXPECTED_TO_FAIL: &str = "# TODO";

/// Builds the programs into `programs`. Where their sources cannot be had this says so, and leaves the directory away.
pub fn build(work: &Path, programs: &Path, archive: &Path) -> Outcome {
    let _ = fs::remove_dir_all(programs);
    let Some(checkout) = checkout(work) else {
        return Ok(());
    };
    let gopath = work.join("gopath");
    let source = gopath.join(IMPORT_PATH);
    let _ = fs::remove_dir_all(&gopath);
    make(&source)?;
    make(programs)?;
    let tap = source.join("vendor/github.com/mndrix/tap-go");
    make(&tap)?;
    fs::write(tap.join("tap.go"), include_str!("tap.go"))
        .map_err(|error| format!("{}: {error}", tap.display()))?;
    // Debian packages the libraries of the same repository: a checkout that lacks some is completed with them
    let libraries = Path::new(DEBIAN_GOPATH).join(IMPORT_PATH);
    for tree in [libraries.as_path(), checkout.as_path()] {
        if tree.exists() {
            copy(tree, &source)?;
        }
    }
    go_build(
        &gopath,
        &source.join("cmd/runtimetest"),
        &programs.join("runtimetest"),
    )?;
    let mut failed = Vec::new();
    for name in program_names(&source.join("validation")) {
        let package = source.join("validation").join(&name);
        if go_build(&gopath, &package, &programs.join(format!("{name}.t"))).is_err() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        println!("not built: {}", failed.join(", "));
    }
    root_archive(archive, programs)
}

/// The checkout named by `KETCH_RUNTIME_TOOLS`, the sources of Debian's package, or a fresh clone.
fn checkout(work: &Path) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KETCH_RUNTIME_TOOLS") {
        return Some(path.into());
    }
    if let Some(tree) = sources::fetch(work, PACKAGE, "validation/default") {
        return Some(tree);
    }
    let clone = work.join("runtime-tools");
    if clone.join("validation").exists() {
        return Some(clone);
    }
    let status = bounded(CLONE_SECONDS, "git")
        .args(["clone", "--quiet", "--depth=1", REPOSITORY])
        .arg(&clone)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stderr(Stdio::null())
        .status();
    if status.is_ok_and(|status| status.success()) {
        return Some(clone);
    }
    println!(
        "The programs are not here and {REPOSITORY} cannot be reached: set KETCH_RUNTIME_TOOLS to a checkout."
    );
    None
}

fn program_names(validation: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(validation)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "util")
        .collect();
    names.sort();
    names
}

fn go_build(gopath: &Path, package: &Path, program: &Path) -> Outcome {
    let status = bounded(BUILD_SECONDS, "go")
        .arg("build")
        .arg("-o")
        .arg(program)
        .arg(".")
        .current_dir(package)
        .env("GO111MODULE", "off")
        .env("CGO_ENABLED", "0")
        .env("GOPATH", format!("{}:{DEBIAN_GOPATH}", gopath.display()))
        .status()
        .map_err(|error| format!("go: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} does not build: {status}", package.display()))
    }
}

/// The programs unpack `rootfs-ARCHITECTURE.tar.gz` of their working directory for each container.
fn root_archive(archive: &Path, programs: &Path) -> Outcome {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let target = programs.join(format!("rootfs-{architecture}.tar.gz"));
    let file =
        fs::File::create(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    let status = Command::new("gzip")
        .args(["-1", "-c"])
        .arg(archive)
        .stdout(file)
        .status()
        .map_err(|error| format!("gzip: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("gzip of {} failed: {status}", archive.display()))
    }
}

fn make(directory: &Path) -> Outcome {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))
}

fn copy(from: &Path, into: &Path) -> Outcome {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(into)
        .status()
        .map_err(|error| format!("cp: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cp of {} failed: {status}", from.display()))
    }
}

/// Runs the programs whose name contains one of `wanted`, or all.
pub fn run(programs: &Path, runtimes: &[Runtime], wanted: &[&str]) -> Result<Vec<Row>, String> {
    let mut names: Vec<String> = fs::read_dir(programs)
        .map_err(|_| "the programs could not be had".to_owned())?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".t").map(str::to_owned)
        })
        .filter(|name| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)))
        .collect();
    names.sort();
    let bundles = Path::new(PLACE).join("bundles");
    make(&bundles)?;
    let mut rows = Vec::new();
    for name in names {
        let verdicts = runtimes
            .iter()
            .map(|runtime| {
                let begin = Instant::now();
                let before = Snapshot::take();
                let mut verdict = run_program(programs, &name, runtime, &bundles);
                before.compare(&mut verdict);
                super::tell("runtime-tools", &name, runtime, &verdict, begin);
                verdict
            })
            .collect();
        rows.push(Row {
            suite: "runtime-tools",
            name,
            verdicts,
        });
    }
    Ok(rows)
}

fn run_program(programs: &Path, name: &str, runtime: &Runtime, bundles: &Path) -> Verdict {
    let output = bounded(PROGRAM_SECONDS, "nice")
        .arg(programs.join(format!("{name}.t")))
        .env("RUNTIME", &runtime.program)
        .env("TMPDIR", bundles)
        .current_dir(programs)
        .output();
    let verdict = match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut failures = failures(&text);
            if !output.status.success() {
                failures.insert(format!("it ends with {}", output.status));
            }
            Verdict {
                failures,
                detail: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        }
        Err(error) => Verdict {
            failures: [format!("it does not run: {error}")].into(),
            detail: String::new(),
        },
    };
    clean_up(runtime, bundles);
    verdict
}

/// Failed tests in the programs' TAP output. Some programs have no tests, and tell a failure by a YAML block only.
fn failures(text: &str) -> BTreeSet<String> {
    let mut failed = BTreeSet::new();
    let mut tests = 0;
    let mut complaint = None;
    for line in text.lines() {
        // tests inside the container arrive quoted in the outer test's YAML block
        let (state, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => match line.strip_prefix("ok ") {
                Some(rest) => (true, rest),
                None => {
                    if let Some((_, message)) = line.trim().split_once("error") {
                        complaint.get_or_insert_with(|| {
                            message.trim_matches(&['"', ':', ' '][..]).to_owned()
                        });
                    }
                    continue;
                }
            },
        };
        tests += 1;
        let description = rest.split_once(' ').map_or("", |(_, text)| text);
        if !state && !description.starts_with(EXPECTED_TO_FAIL) {
            failed.insert(format!("not ok {description}"));
        }
    }
    if let Some(message) = complaint.filter(|_| tests == 0) {
        failed.insert(format!("it says: {message}"));
    }
    failed
}

/// Removes the containers and bundles that a program which failed left behind.
fn clean_up(runtime: &Runtime, bundles: &Path) {
    let list = bounded(20, "sh")
        .args([
            "-c",
            "for id in $(\"$RUNTIME\" list -q); do \"$RUNTIME\" delete --force \"$id\"; done; \
             rmdir /sys/fs/cgroup/pids/cgrouptest /sys/fs/cgroup/*/testdir/cgrouptest /sys/fs/cgroup/*/testdir \
             /sys/fs/cgroup/testdir/cgrouptest /sys/fs/cgroup/testdir",
        ])
        .env("RUNTIME", &runtime.program)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if list.is_err() {
        println!("the containers of {} could not be listed", runtime.name);
    }
    let _ = fs::remove_dir_all(bundles);
    let _ = fs::create_dir_all(bundles);
}

#[test]
fn failed_tests_are_found_in_tap_output() {
    let text = "TAP version 13\nok 1 - fine\nnot ok 2 - hostname is set\n  ---\n  error: x\n  ...\nnot ok 3 # TODO later\nok 4 # SKIP\n1..4\n";
    let expected: BTreeSet<String> = ["not ok - hostname is set".to_owned()].into();
    assert_eq!(failures(text), expected);
    assert!(failures("TAP version 13\n1..0\n").is_empty());
    let told = failures(
        "TAP version 13\n  ---\n  {\n    \"error\": \"hooks MUST be called\"\n  }\n  ...\n1..0\n",
    );
    assert_eq!(told, ["it says: hooks MUST be called".to_owned()].into());
}
