//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, on the stable compiler.
//!
//! Coverage comes from LLVM's own pass, which the stable compiler runs when asked: counters, a table of their places,
//! and comparisons. Only our crates and their dependencies get it, not build scripts: hence an explicit target.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, packages, privileges, shell};

/// LLVM's coverage, as libFuzzer reads it.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
];

/// Bytes that are kept of what a target's fuzzer found.
const KEPT_BYTES: u64 = 32 << 10;

/// Seconds a target runs if nothing else is said.
const SECONDS: u64 = 60;

/// Runs one target, or all of them one after the other, and keeps of what they found what covers more.
pub fn run(words: &[&str]) -> Outcome {
    let (wanted, seconds) = parse(words)?;
    packages::install(&[packages::FUZZ])?;
    let program = build()?;
    let corpus = shell::workspace().join("fuzz/corpus");
    let names = targets()?;
    let chosen: Vec<&String> = names
        .iter()
        .filter(|name| wanted.is_none_or(|wanted| wanted == name.as_str()))
        .collect();
    if chosen.is_empty() {
        return Err(format!("no such target; there are: {}", names.join(" ")));
    }
    privileges::explain("to make files with owners and attributes");
    let mut failed = Vec::new();
    for name in chosen {
        println!("\nfuzzing {name} for {seconds} seconds");
        if let Err(message) = one(&program, &corpus, name, seconds) {
            println!("{message}");
            failed.push(name.clone());
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "found something in {}: the inputs are in {}",
            failed.join(", "),
            artifacts().display()
        )),
    }
}

fn parse<'a>(words: &[&'a str]) -> Result<(Option<&'a str>, u64), String> {
    let seconds_of = |text: &str| {
        text.parse()
            .map_err(|_| format!("--seconds {text}: not a number"))
    };
    match *words {
        [] => Ok((None, SECONDS)),
        ["--seconds", seconds] => Ok((None, seconds_of(seconds)?)),
        [target] => Ok((Some(target), SECONDS)),
        [target, "--seconds", seconds] => Ok((Some(target), seconds_of(seconds)?)),
        _ => Err("usage: cargo xtask fuzz [TARGET] [--seconds N]".into()),
    }
}

/// Where inputs go that make a target fail.
fn artifacts() -> PathBuf {
    shell::target_directory().join("fuzz-artifacts")
}

/// The targets are the directories of the corpus; a test of `fuzz/` sees that these are the same.
fn targets() -> Result<Vec<String>, String> {
    let corpus = shell::workspace().join("fuzz/corpus");
    let entries =
        std::fs::read_dir(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf, String> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let directory = shell::target_directory().join("fuzz");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--package",
            "ketch-fuzz",
            "--features",
            "libfuzzer",
        ])
        .args(["--profile", "fuzz", "--target", &triple, "--target-dir"])
        .arg(&directory)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .current_dir(shell::workspace())
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the fuzzers do not build: {status}"));
    }
    Ok(directory.join(triple).join("fuzz/ketch-fuzz"))
}

/// Runs one target on a copy of its corpus, then takes over what adds coverage.
fn one(program: &Path, corpus: &Path, name: &str, seconds: u64) -> Outcome {
    let kept = corpus.join(name);
    let grown = shell::target_directory().join("fuzz-corpus").join(name);
    let merged = shell::target_directory().join("fuzz-merged").join(name);
    let _ = std::fs::remove_dir_all(&merged);
    for directory in [&grown, &merged, &artifacts()] {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let prefix = format!("-artifact_prefix={}/{name}-", artifacts().display());
    let limit = max_bytes(name);
    let found = fuzzer(program, name)
        .args([&prefix, &format!("-max_total_time={seconds}"), &limit])
        .args([
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-use_value_profile=1",
        ])
        .args([&grown, &kept])
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    // What is kept by hand has names; the merge is asked for what is new beyond it.
    let status = fuzzer(program, name)
        .args([
            "-merge=1",
            "-timeout=20",
            "-rss_limit_mb=2048",
            &limit,
            &prefix,
        ])
        .args([&merged, &kept, &grown])
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if status.success() {
        replace(&kept, &merged)?;
    }
    match found.success() {
        true => Ok(()),
        false => Err(format!("{name}: {found}")),
    }
}

fn fuzzer(program: &Path, name: &str) -> Command {
    let mut command = privileges::command("env");
    command
        .arg(format!("KETCH_FUZZ_TARGET={name}"))
        .arg(program);
    command.stdin(Stdio::null());
    command
}

/// Longer inputs only make a target slow.
fn max_bytes(name: &str) -> String {
    let bytes = match name {
        "archive" | "load" => 32 << 10,
        "layer" => 16 << 10,
        "compressed" | "manifest" | "config" | "specification" => 8 << 10,
        "answer" | "settings" | "dockerfile" | "compose" => 4 << 10,
        "entries" | "seccomp" => 1 << 10,
        _ => 512,
    };
    format!("-max_len={bytes}")
}

/// Files whose names are digests are libFuzzer's and are replaced; others have been kept by hand and stay.
fn replace(kept: &Path, merged: &Path) -> Outcome {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for entry in std::fs::read_dir(kept)
        .map_err(|error| failed(kept, error))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_digest(&name) {
            std::fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), error))?;
        }
    }
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(merged)
        .map_err(|error| failed(merged, error))?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path())))
        .collect();
    // The shortest first: there is room for more of them, and they are the quickest.
    found.sort();
    let mut bytes = 0;
    for (length, from) in found {
        bytes += length;
        let Some(name) = from.file_name().filter(|_| bytes <= KEPT_BYTES) else {
            break;
        };
        let path = kept.join(name);
        std::fs::copy(&from, &path).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn is_digest(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
