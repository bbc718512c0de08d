//! Others' tests of `ketch runtime`: the specification's own validation programs, the tests that runc and crun have of
//! themselves, and podman, containerd and Docker from Debian's packages with ketch as their runtime. runc is the judge of what can pass on this machine: ketch must
//! pass what runc passes, or the difference is listed with its reason.
//!
//! Everything runs in private namespaces with an empty `/run`, so that daemons, networks and mounts of the run end
//! with it and never touch the machine's own engines.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, packages, privileges};

mod case;
mod containerd;
mod daemon;
mod docker;
mod image_cases;
pub mod images;
mod known;
mod leaks;
mod own_tests;
mod podman;
mod programs;
mod rootless;
mod sources;

/// The suites, in the order they run.
const SUITES: [&str; 7] = [
    "runtime-tools",
    "runc",
    "crun",
    "podman",
    "podman-rootless",
    "containerd",
    "docker",
];

/// Files of the run; on the private `/run`.
const PLACE: &str = "/run/ketch-conformance";

/// The word that starts the part of the run which is root in private namespaces.
pub const INSIDE: &str = "conformance-inside";

/// A runtime under test.
struct Runtime {
    name: &'static str,
    program: PathBuf,
}

/// How a check ended.
#[derive(Default)]
struct Verdict {
    /// What failed, in words that are the same for each runtime; empty: the check passed.
    failures: BTreeSet<String>,
    /// What a reader needs to find the cause.
    detail: String,
}

/// A check with a verdict for each runtime, in the order of the runtimes.
struct Row {
    suite: &'static str,
    name: String,
    verdicts: Vec<Verdict>,
}

/// `cargo xtask conformance runtime [SUITE] [CHECK...]`, started by the developer.
pub fn run(words: &[&str]) -> Outcome {
    let mut timed = Timed::default();
    let wanted = wanted_suites(words);
    timed.step("Install what is missing", || {
        packages::install(&[packages::BUILD, packages::DEMO, packages::CONFORMANCE])
    })?;
    let ketch = timed.step("Build the program", build_ketch)?;
    let work = shell::target_directory().join("conformance");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let archive = base_images::busybox(&work)?;
    let programs = work.join("programs");
    if wanted.contains(&"runtime-tools") {
        timed.step("Build the specification's validation programs", || {
            programs::build(&work, &programs, &archive)
        })?;
    }
    for suite in ["runc", "crun"] {
        if wanted.contains(&suite) {
            timed.step(&format!("Fetch and build the tests of {suite}"), || {
                own_tests::build(suite, &work, &archive)
            })?;
        }
    }
    privileges::explain("to run containers");
    timed.step("Run the checks", || {
        run_inside_namespaces(INSIDE, &[&ketch, &archive, &programs], words)
    })?;
    timed.report();
    Ok(())
}

/// The suites that `words` ask for: those named, or all.
fn wanted_suites(words: &[&str]) -> Vec<&'static str> {
    let named: Vec<&str> = SUITES
        .into_iter()
        .filter(|suite| words.contains(suite))
        .collect();
    if named.is_empty() {
        SUITES.to_vec()
    } else {
        named
    }
}

/// Builds ketch, unless `KETCH_BIN` names a built one.
fn build_ketch() -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os("KETCH_BIN") {
        return Ok(program.into());
    }
    shell::cargo(&["build", "--package", "ketch-cli"])?;
    Ok(target::ketch(Profile::Debug))
}

/// Starts this program again as root, in namespaces of its own whose first process reaps what daemons leave behind.
fn run_inside_namespaces(inside: &str, paths: &[&PathBuf], words: &[&str]) -> Outcome {
    let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let status = privileges::command("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-c"])
        .arg("mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/lock && ip link set lo up || exit 1; \"$@\" & wait $!")
        .arg("sh")
        .arg(this)
        .arg(inside)
        .args(paths)
        .args(words)
        .status()
        .map_err(|error| format!("unshare: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the conformance run failed: {status}"))
    }
}

/// The part of the run that is root in private namespaces: `KETCH ARCHIVE PROGRAMS [SUITE] [CHECK...]`.
pub fn run_inside(words: &[&str]) -> Outcome {
    let [ketch, archive, programs, words @ ..] = words else {
        return Err(format!(
            "{INSIDE} is started by `cargo xtask conformance runtime`"
        ));
    };
    let checks: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !SUITES.contains(word))
        .collect();
    fs::create_dir_all(PLACE).map_err(|error| format!("{PLACE}: {error}"))?;
    let runtimes = runtimes(Path::new(ketch))?;
    let work = Path::new(programs).parent().unwrap_or(Path::new("/"));
    let mut rows = Vec::new();
    for suite in wanted_suites(words) {
        let found = match suite {
            "runtime-tools" => programs::run(Path::new(programs), &runtimes, &checks),
            "runc" => own_tests::run("runc", work, &runtimes[..2], &checks),
            "crun" => own_tests::run("crun", work, &runtimes, &checks),
            "podman" => podman::run(Path::new(archive), &runtimes[..2], &checks),
            "podman-rootless" => rootless::run(Path::new(archive), &runtimes[..2], &checks),
            "containerd" => containerd::run(Path::new(archive), &runtimes[..2], &checks),
            _ => docker::run(Path::new(archive), &runtimes[..2], &checks),
        };
        match found {
            Ok(found) => rows.extend(found),
            Err(reason) => println!("{suite} is left out: {reason}"),
        }
    }
    print_table(&rows, &runtimes);
    match judge(&rows) {
        0 => Ok(()),
        differing => Err(format!(
            "{differing} checks that runc passes fail with ketch"
        )),
    }
}

/// ketch first, runc second, and crun where it is installed.
fn runtimes(ketch: &Path) -> Result<Vec<Runtime>, String> {
    let directory = Path::new(PLACE).join("bin");
    let link = directory.join("ketch-runtime");
    fs::create_dir_all(&directory)
        .and_then(|()| std::os::unix::fs::symlink(ketch, &link))
        .map_err(|error| format!("{}: {error}", link.display()))?;
    let mut runtimes = vec![
        Runtime {
            name: "ketch",
            program: link,
        },
        Runtime {
            name: "runc",
            program: "/usr/sbin/runc".into(),
        },
    ];
    if Path::new("/usr/bin/crun").exists() {
        runtimes.push(Runtime {
            name: "crun",
            program: "/usr/bin/crun".into(),
        });
    }
    Ok(runtimes)
}

fn print_table(rows: &[Row], runtimes: &[Runtime]) {
    let mut suite = "";
    for row in rows {
        if row.suite != suite {
            suite = row.suite;
            let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name).collect();
            println!("\n{suite:44} {}", names.join("   "));
        }
        let verdicts: Vec<&str> = row
            .verdicts
            .iter()
            .map(|verdict| {
                if verdict.failures.is_empty() {
                    "pass "
                } else {
                    "FAIL "
                }
            })
            .collect();
        println!("  {:42} {}", row.name, verdicts.join("  "));
    }
    println!();
    for suite in SUITES {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.suite == suite).collect();
        let passed = |index: usize| {
            let good = |row: &&&Row| {
                let verdict = row.verdicts.get(index);
                verdict.is_some_and(|verdict| verdict.failures.is_empty())
            };
            rows.iter().filter(good).count()
        };
        let count = rows.first().map_or(0, |row| row.verdicts.len());
        let totals: Vec<String> = runtimes
            .iter()
            .enumerate()
            .take(count)
            .map(|(index, runtime)| format!("{} {}", runtime.name, passed(index)))
            .collect();
        if !rows.is_empty() {
            println!(
                "{suite}: {} checks; passed: {}",
                rows.len(),
                totals.join(", ")
            );
        }
    }
}

/// Says where ketch fails in something that runc does not, and counts what is not listed as known.
fn judge(rows: &[Row]) -> usize {
    let mut differing = 0;
    for row in rows {
        let [ketch, runc, ..] = row.verdicts.as_slice() else {
            continue;
        };
        let worse: Vec<&String> = ketch.failures.difference(&runc.failures).collect();
        if row.suite != "runtime-tools" && !runc.failures.is_empty() {
            println!(
                "{}: {} is not judged, runc fails in it here:",
                row.suite, row.name
            );
            print_detail(&runc.detail);
        }
        let known = known::reason(row.suite, &row.name);
        match (worse.is_empty(), known) {
            (true, None) => {}
            (true, Some(_)) => println!(
                "{}: {} is listed, but does not differ here",
                row.suite, row.name
            ),
            (false, Some(reason)) => {
                println!("{}: {} differs as listed: {reason}", row.suite, row.name)
            }
            (false, None) => {
                differing += 1;
                println!(
                    "\n{}: {} fails with ketch and not with runc:",
                    row.suite, row.name
                );
                for failure in worse.iter().take(8) {
                    println!("    {failure}");
                }
                print_detail(&ketch.detail);
            }
        }
    }
    differing
}

fn print_detail(detail: &str) {
    for line in detail.lines().take(12) {
        println!("    | {line}");
    }
}

/// Says how a check ended, as soon as it has.
fn tell(suite: &str, check: &str, runtime: &Runtime, verdict: &Verdict, begin: Instant) {
    let word = if verdict.failures.is_empty() {
        "pass"
    } else {
        "FAIL"
    };
    println!(
        "{:6} {word} {:5.1} s  {suite}: {check}",
        runtime.name,
        begin.elapsed().as_secs_f64()
    );
}

/// In the lab's emulated machines everything takes ten times as long.
fn slowness() -> u32 {
    match std::env::var_os("KETCH_LAB") {
        Some(_) => 10,
        None => 1,
    }
}

/// A command that is ended after `seconds`, with all that it started and did not detach.
fn bounded(seconds: u32, program: &str) -> Command {
    let seconds = seconds * slowness();
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", &seconds.to_string(), program])
        .stdin(std::process::Stdio::null());
    command
}
