//! The OCI runtime beside crun and runc: one busybox bundle with the default configuration, run and thrown away.
//!
//! Wall time is told apart into user, system (both of the runtime and of the container's own processes) and waiting:
//! what the kernel makes a caller wait for, RCU grace periods above all.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, WaitOptions};

use super::median;
use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, packages, privileges};

const ROUNDS: usize = 40;

/// What is timed: command lines, one after another.
struct Case {
    name: &'static str,
    lines: &'static [&'static [&'static str]],
    /// The most of crun's time that it may take.
    goal: f64,
}

const CASES: &[Case] = &[
    Case {
        name: "create + start + delete",
        lines: &[
            &["create", "--bundle", "BUNDLE", "bench"],
            &["start", "bench"],
            // a container that still ends is killed: everyone then does the same work
            &["delete", "--force", "bench"],
        ],
        goal: 0.4,
    },
    Case {
        name: "run",
        lines: &[&["run", "--bundle", "BUNDLE", "bench"]],
        goal: 0.5,
    },
];

/// One runtime's figures for one case.
#[derive(Default)]
struct Samples {
    wall_ms: Vec<f64>,
    user_ms: f64,
    system_ms: f64,
}

/// Builds, and measures as root in a mount namespace of its own.
pub fn run() -> Outcome {
    let mut timed = Timed::default();
    packages::install(&[packages::BUILD, packages::DEMO, packages::RUNTIMES])?;
    timed.step("Build the release binary", || {
        shell::cargo(&["build", "--release", "--package", "ketch-cli"])
    })?;
    let scratch = shell::target_directory().join("bench-runtime");
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let archive = base_images::busybox(&scratch)?;
    let xtask = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let line = format!(
        "mkdir -p {scratch}/bundle/rootfs && tar -xf {archive} -C {scratch}/bundle/rootfs && \
         ln -sf {program} {scratch}/ketch-runtime && \
         exec unshare --mount {xtask} bench-runtime-inside {scratch}/ketch-runtime {scratch}",
        scratch = scratch.display(),
        archive = archive.display(),
        program = target::ketch(Profile::Release).display(),
        xtask = xtask.display(),
    );
    let status = privileges::command("sh")
        .args(["-c", &line])
        .status()
        .map_err(|error| format!("sh: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the measurement failed: {status}"))
    }
}

/// The measurement.
pub fn inside(program: &str, scratch: &str) -> Outcome {
    // crun refuses a machine whose version 2 hierarchy beside version 1 has controllers: nobody sees it here.
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.exists() {
        quietly(Command::new("umount").arg(hybrid))?;
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("become a subreaper: {error}"))?;
    let scratch = Path::new(scratch);
    let bundle = scratch.join("bundle");
    configure(program, &bundle)?;
    let runtimes: Vec<(&str, Vec<String>)> = [
        ("ketch", program),
        ("crun", "/usr/bin/crun"),
        ("runc", "/usr/sbin/runc"),
    ]
    .into_iter()
    .map(|(name, path)| {
        let root = scratch.join(format!("state-{name}")).display().to_string();
        (name, vec![path.to_owned(), "--root".to_owned(), root])
    })
    .collect();
    println!(
        "\nms per round, {ROUNDS} rounds in turns: median wall (least); mean user, system, waiting\n"
    );
    for case in CASES {
        measure(case, &runtimes, &bundle.display().to_string())?;
    }
    Ok(())
}

/// The default configuration, but for `true` instead of a shell on a terminal, and without the limits that a root
/// that may not raise them cannot set.
fn configure(program: &str, bundle: &Path) -> Outcome {
    let path = bundle.join("config.json");
    let _ = fs::remove_file(&path);
    quietly(Command::new(program).arg("spec").current_dir(bundle))?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
    let mut spec: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failed(&error))?;
    // what the oldest of the runtimes knows
    spec["ociVersion"] = "1.0.2".into();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = vec!["true"].into();
    if let Some(process) = spec["process"].as_object_mut() {
        process.remove("rlimits");
    }
    fs::write(&path, spec.to_string()).map_err(|error| failed(&error))
}

fn measure(case: &Case, runtimes: &[(&str, Vec<String>)], bundle: &str) -> Outcome {
    let mut all: Vec<Samples> = runtimes.iter().map(|_| Samples::default()).collect();
    // the first round warms caches and is not counted
    for round in 0..=ROUNDS {
        // who comes after whom changes: what one leaves to the kernel to clean up, the next one meets
        for turn in 0..runtimes.len() {
            let index = (round + turn) % runtimes.len();
            let (program, samples) = (&runtimes[index].1, &mut all[index]);
            let (user, system) = children_ms()?;
            let begin = Instant::now();
            for line in case.lines {
                let words = line
                    .iter()
                    .map(|word| if *word == "BUNDLE" { bundle } else { word });
                quietly(Command::new(&program[0]).args(&program[1..]).args(words))?;
            }
            let wall = begin.elapsed().as_secs_f64() * 1e3;
            // containers that outlived their command are ours now; their time counts too
            while let Ok(Some(_)) = rustix::process::waitpid(None::<Pid>, WaitOptions::empty()) {}
            if round > 0 {
                let after = children_ms()?;
                samples.wall_ms.push(wall);
                samples.user_ms += after.0 - user;
                samples.system_ms += after.1 - system;
            }
        }
    }
    println!("{} (goal: at most {} of crun's)", case.name, case.goal);
    let medians: Vec<f64> = all.iter_mut().map(|s| median(&mut s.wall_ms)).collect();
    for (((name, _), samples), wall) in runtimes.iter().zip(&all).zip(&medians) {
        let (user, system) = (
            samples.user_ms / ROUNDS as f64,
            samples.system_ms / ROUNDS as f64,
        );
        let mean = samples.wall_ms.iter().sum::<f64>() / ROUNDS as f64;
        println!(
            "  {name:8} {wall:7.2} ({:.2})   user {user:5.2}  system {system:5.2}  waiting {:5.2}   {:.2} of crun",
            samples.wall_ms[0],
            (mean - user - system).max(0.0),
            wall / medians[1],
        );
    }
    Ok(())
}

/// User and system time of all children that were waited for, and of theirs (proc_pid_stat(5), fields 16 and 17).
/// Counted in ticks of 10 ms, which even out over the rounds.
fn children_ms() -> Result<(f64, f64), String> {
    let stat = fs::read_to_string("/proc/self/stat").map_err(|error| format!("stat: {error}"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        let text = fields.get(index).copied().unwrap_or_default();
        text.parse::<f64>()
            .map(|ticks| ticks * 10.0)
            .map_err(|error| format!("/proc/self/stat: {error}"))
    };
    Ok((ticks(13)?, ticks(14)?))
}

fn quietly(command: &mut Command) -> Outcome {
    // Errors go to a file: a pipe would be held open by the container.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
