//! Times of the commands people type most, beside the other engines that are installed and running here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::median;
use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, packages, privileges};

const ROUNDS: usize = 20;
const DATA_ROOT: &str = "/var/lib/ketch-bench";
const RUN_ROOT: &str = "/run/ketch-bench";

/// One thing to time: lines for `sh`, with `E` standing for the engine's program.
struct Case {
    name: &'static str,
    before: &'static str,
    timed: &'static str,
    after: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "run --rm true",
        before: "",
        timed: "E run --rm busybox true",
        after: "",
    },
    Case {
        name: "run --rm --network none true",
        before: "",
        timed: "E run --rm --network none busybox true",
        after: "",
    },
    Case {
        name: "run --rm --network host true",
        before: "",
        timed: "E run --rm --network host busybox true",
        after: "",
    },
    Case {
        name: "run -d",
        before: "",
        timed: "E run -d --name bench busybox sleep 600",
        after: "E rm -f bench",
    },
    Case {
        name: "start",
        before: "E create --name bench busybox sleep 600",
        timed: "E start bench",
        after: "E rm -f bench",
    },
    Case {
        name: "exec true",
        before: "E run -d --name bench busybox sleep 600",
        timed: "E exec bench true",
        after: "E rm -f bench",
    },
    Case {
        name: "ps",
        before: "E run -d --name bench busybox sleep 600",
        timed: "E ps",
        after: "E rm -f bench",
    },
    Case {
        name: "inspect",
        before: "E run -d --name bench busybox sleep 600",
        timed: "E inspect bench",
        after: "E rm -f bench",
    },
    Case {
        name: "stop -t 0",
        before: "E run -d --name bench busybox sleep 600",
        timed: "E stop -t 0 bench",
        after: "E rm -f bench",
    },
    Case {
        name: "rm -f",
        before: "E run -d --name bench busybox sleep 600",
        timed: "E rm -f bench",
        after: "",
    },
    Case {
        name: "build, all cached",
        before: "",
        timed: "E build -t bench CONTEXT",
        after: "",
    },
];

/// An engine to measure.
struct Engine {
    name: &'static str,
    program: String,
}

/// Runs the cases whose name contains one of `wanted`, or all.
pub fn run(wanted: &[&str]) -> Outcome {
    let mut timed = Timed::default();
    packages::install(&[packages::BUILD, packages::DEMO])?;
    timed.step("Build the release binary", || {
        shell::cargo(&["build", "--release", "--package", "ketch-cli"])
    })?;
    let archives = shell::target_directory().join("base-images");
    fs::create_dir_all(&archives).map_err(|error| format!("{}: {error}", archives.display()))?;
    let archive = base_images::busybox(&archives)?;
    let context = context(&archives)?;
    let engines = engines(&archive)?;
    println!("\nmilliseconds, median (minimum) of {ROUNDS} rounds; engines take turns\n");
    print!("{:32}", "");
    for engine in &engines {
        print!("{:>20}", engine.name);
    }
    println!("{:>12}", "ketch / best");
    for case in CASES
        .iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part)))
    {
        measure(case, &engines, &context)?;
    }
    memory(&engines[0])?;
    root_shell(&format!(
        "{} rmi -f busybox bench >/dev/null; rm -rf {DATA_ROOT} {RUN_ROOT}",
        engines[0].program
    ))
    .map(drop)
}

fn engines(archive: &Path) -> Result<Vec<Engine>, String> {
    let ketch = target::ketch(Profile::Release);
    let program = format!(
        "{} --data-root {DATA_ROOT} --run-root {RUN_ROOT}",
        ketch.display()
    );
    let mut engines = vec![Engine {
        name: "ketch",
        program,
    }];
    for name in ["docker", "podman"] {
        if root_shell(&format!("{name} info")).is_ok() {
            engines.push(Engine {
                name,
                program: name.to_owned(),
            });
        }
    }
    for engine in &engines {
        root_shell(&format!(
            "{} import --change 'CMD [\"sh\"]' {} busybox:latest",
            engine.program,
            archive.display()
        ))?;
    }
    // an engine that is installed need not be able to run containers on this machine
    engines.retain(|engine| {
        let works = root_shell(&format!("{} run --rm busybox true", engine.program));
        if let Err(error) = &works {
            println!("leaving out {}: {error}", engine.name);
        }
        works.is_ok()
    });
    if engines.first().is_none_or(|engine| engine.name != "ketch") {
        return Err("ketch cannot run a container".to_owned());
    }
    Ok(engines)
}

/// Fifteen steps over 5,000 small files.
fn context(directory: &Path) -> Result<PathBuf, String> {
    let context = directory.join("bench-context");
    let make = || -> std::io::Result<()> {
        for number in 0..5_000 {
            let folder = context.join(format!("files/{}", number / 100));
            fs::create_dir_all(&folder)?;
            fs::write(
                folder.join(format!("{number}.txt")),
                format!("file {number}\n").repeat(20),
            )?;
        }
        let mut dockerfile =
            String::from("FROM busybox\nWORKDIR /app\nCOPY files files\nENV A=1\n");
        for step in 0..10 {
            dockerfile.push_str(&format!("RUN echo {step} > /app/{step}\n"));
        }
        dockerfile.push_str("LABEL last=yes\n");
        fs::write(context.join("Dockerfile"), dockerfile)
    };
    if !context.join("Dockerfile").exists() {
        make().map_err(|error| format!("{}: {error}", context.display()))?;
    }
    Ok(context)
}

fn measure(case: &Case, engines: &[Engine], context: &Path) -> Outcome {
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); engines.len()];
    let line = |text: &str, engine: &Engine| {
        let text = text.replacen("E ", &format!("{} ", engine.program), 1);
        text.replace("CONTEXT", &context.to_string_lossy())
    };
    // the first round warms caches and is not counted
    for round in 0..=ROUNDS {
        for (engine, samples) in engines.iter().zip(&mut samples) {
            root_shell(&line(case.before, engine))?;
            let timed = line(case.timed, engine);
            let words: Vec<&str> = timed.split_whitespace().collect();
            let begin = Instant::now();
            let status = silent(privileges::command(words[0]).args(&words[1..]))?;
            let elapsed_ms = begin.elapsed().as_secs_f64() * 1e3;
            if !status {
                return Err(format!("`{timed}` failed"));
            }
            if round > 0 {
                samples.push(elapsed_ms);
            }
            root_shell(&line(case.after, engine))?;
        }
    }
    print!("{:32}", case.name);
    let medians: Vec<f64> = samples.iter_mut().map(|samples| median(samples)).collect();
    for (median, samples) in medians.iter().zip(&samples) {
        print!("{:>20}", format!("{median:.1} ({:.1})", samples[0]));
    }
    match medians[1..].iter().copied().reduce(f64::min) {
        Some(best) => println!("{:>12.2}", medians[0] / best),
        None => println!("{:>12}", "-"),
    }
    Ok(())
}

/// Proportional set size of an idle monitor.
fn memory(engine: &Engine) -> Outcome {
    let program = &engine.program;
    root_shell(&format!("{program} run -d --name bench busybox sleep 600"))?;
    // a monitor gives memory back once the start is over
    std::thread::sleep(std::time::Duration::from_secs(2));
    let pids = root_shell("pgrep -f 'ketch monitor .*ketch-bench'")?;
    let pid = pids.split_whitespace().next().ok_or("no monitor found")?;
    let rollup = root_shell(&format!("cat /proc/{pid}/smaps_rollup"))?;
    println!("\nmemory of an idle monitor:");
    for line in rollup.lines().filter(|line| {
        ["Pss:", "Pss_Anon:", "Private_Dirty:"]
            .iter()
            .any(|name| line.starts_with(name))
    }) {
        println!("  {line}");
    }
    root_shell(&format!("{program} rm -f bench")).map(drop)
}

fn silent(command: &mut Command) -> Result<bool, String> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status
        .map(|status| status.success())
        .map_err(|error| error.to_string())
}

fn root_shell(line: &str) -> Result<String, String> {
    if line.is_empty() {
        return Ok(String::new());
    }
    let output = privileges::command("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("sh: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "`{line}`: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
