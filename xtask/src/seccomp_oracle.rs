//! What libseccomp makes of filters, kept beside ours as the answers that a test compares with.
//!
//! Each case is a filter in the runtime specification's form (`<case>.json`), and the program that libseccomp made of
//! it (`<case>.bpf`, the kernel's `struct sock_filter` one after the other). The test runs both programs over system
//! calls and arguments; it needs no libseccomp. `cargo xtask seccomp-oracle` makes the files anew: after a change of
//! Docker's profile, of a case in `cases.rs`, or to hear a newer libseccomp (package libseccomp-dev; a C compiler).

mod cases;
mod profile;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Outcome, packages, shell};

/// Makes all cases anew.
pub fn run() -> Outcome {
    let directory = shell::workspace().join("crates/runtime/src/seccomp/oracle");
    packages::install(&[packages::ORACLE])?;
    let program = build()?;
    let version = version()?;
    std::fs::create_dir_all(&directory).map_err(|error| told(&directory, &error))?;
    for case in cases::all()? {
        let (bytes, unknown) =
            ask(&program, &case).map_err(|error| format!("{}: {error}", case.name))?;
        let record = json!({
            "libseccomp": version,
            "machine": case.machine,
            "unknownToLibseccomp": unknown,
            "filter": case.filter,
        });
        let base = directory.join(&case.name);
        let text = format!("{}\n", pretty(&record)?);
        write(&base.with_extension("json"), text.as_bytes())?;
        write(&base.with_extension("bpf"), &bytes)?;
        println!(
            "{}: {} instructions, {} names unknown",
            case.name,
            bytes.len() / 8,
            unknown.len()
        );
    }
    Ok(())
}

/// A filter and the machine that it is for.
pub struct Case {
    /// Name of the files.
    pub name: String,
    /// `x86_64` or `aarch64`.
    pub machine: &'static str,
    /// `linux.seccomp` of the runtime specification.
    pub filter: Value,
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    std::fs::write(path, bytes).map_err(|error| told(path, &error))
}

fn pretty(value: &Value) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

fn build() -> Result<PathBuf, String> {
    let program = shell::target_directory().join("seccomp-oracle");
    let source = shell::workspace().join("xtask/src/seccomp_oracle/oracle.c");
    let status = Command::new("cc")
        .args(["-Wall", "-O1", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-lseccomp")
        .status()
        .map_err(|error| format!("cc: {error}"))?;
    if status.success() {
        Ok(program)
    } else {
        Err("the program does not build: is libseccomp-dev installed?".into())
    }
}

fn version() -> Result<String, String> {
    let output = Command::new("pkg-config")
        .args(["--modversion", "libseccomp"])
        .output()
        .map_err(|error| format!("pkg-config: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The program of libseccomp, and the names it does not know.
fn ask(program: &Path, case: &Case) -> Result<(Vec<u8>, Vec<String>), String> {
    let script = script(case)?;
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| told(program, &error))?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    // It reads all before it writes much: at most some names.
    stdin
        .write_all(script.as_bytes())
        .map_err(|error| told(program, &error))?;
    drop(stdin);
    let output = child
        .wait_with_output()
        .map_err(|error| told(program, &error))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{}: {said}", output.status));
    }
    let mut unknown: Vec<String> = said.lines().map(str::to_owned).collect();
    unknown.sort();
    unknown.dedup();
    Ok((output.stdout, unknown))
}

/// The filter in the words of `oracle.c`, told as runc tells it to libseccomp.
fn script(case: &Case) -> Result<String, String> {
    let filter = &case.filter;
    let default = action(&filter["defaultAction"], &filter["defaultErrnoRet"])?;
    let mut script = format!("default {default}\nbadarch {}\n", 0x8000_0000u32);
    let arches = filter["architectures"]
        .as_array()
        .ok_or("no architectures")?;
    for name in arches {
        script += &format!("arch add {}\n", token(name)?);
    }
    for token in [0xc000_003eu32, 0xc000_00b7] {
        if case.machine == "x86_64" && token == 0xc000_00b7
            || case.machine == "aarch64" && token == 0xc000_003e
        {
            script += &format!("arch remove {token}\n");
        }
    }
    for rule in filter["syscalls"].as_array().into_iter().flatten() {
        let action = action(&rule["action"], &rule["errnoRet"])?;
        if action == default {
            continue;
        }
        for name in rule["names"].as_array().into_iter().flatten() {
            for args in alternatives(rule)? {
                script += &format!(
                    "rule {action} {} {}{}\n",
                    name.as_str().unwrap_or_default(),
                    args.len(),
                    args.concat()
                );
            }
        }
    }
    Ok(script)
}

/// The conditions of a rule; two about the same argument make each a rule of its own, as runc has it.
fn alternatives(rule: &Value) -> Result<Vec<Vec<String>>, String> {
    let mut conditions = Vec::new();
    let mut indices = Vec::new();
    for arg in rule["args"].as_array().into_iter().flatten() {
        let operator = match arg["op"].as_str().unwrap_or_default() {
            "SCMP_CMP_NE" => 1,
            "SCMP_CMP_LT" => 2,
            "SCMP_CMP_LE" => 3,
            "SCMP_CMP_EQ" => 4,
            "SCMP_CMP_GE" => 5,
            "SCMP_CMP_GT" => 6,
            "SCMP_CMP_MASKED_EQ" => 7,
            other => return Err(format!("operator {other:?}")),
        };
        let number = |field: &str| arg[field].as_u64().unwrap_or(0);
        conditions.push(format!(
            " {} {operator} {} {}",
            number("index"),
            number("value"),
            number("valueTwo")
        ));
        indices.push(number("index"));
    }
    indices.sort_unstable();
    let repeated = indices.windows(2).any(|pair| pair[0] == pair[1]);
    Ok(if repeated {
        conditions
            .into_iter()
            .map(|condition| vec![condition])
            .collect()
    } else {
        vec![conditions]
    })
}

/// libseccomp's numbers of actions are the kernel's, with the data in the lower half.
fn action(name: &Value, errno: &Value) -> Result<u32, String> {
    let data = errno.as_u64().unwrap_or(1) as u32;
    Ok(match name.as_str().unwrap_or_default() {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => return Err(format!("action {other:?}")),
    })
}

/// libseccomp's numbers of architectures: `AUDIT_ARCH_…`, and x86's machine number for x32.
fn token(name: &Value) -> Result<u32, String> {
    Ok(match name.as_str().unwrap_or_default() {
        "SCMP_ARCH_X86_64" => 0xc000_003e,
        "SCMP_ARCH_X86" => 0x4000_0003,
        "SCMP_ARCH_X32" => 0x4000_003e,
        "SCMP_ARCH_AARCH64" => 0xc000_00b7,
        "SCMP_ARCH_ARM" => 0x4000_0028,
        other => return Err(format!("architecture {other:?}")),
    })
}
