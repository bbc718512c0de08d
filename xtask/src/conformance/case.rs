//! Checks written as lines of shell, run once with each runtime.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use super::leaks::Snapshot;
use super::{PLACE, Row, Runtime, Verdict, bounded};

/// How long one check may take.
const SECONDS: u32 = 60;

/// Looks at a container's limits in its control group: `limit PID CONTROLLER V1-FILE V2-FILE`.
const LIMIT: &str = r#"
limit() {
    path=$(sed -n "s/^[0-9]*:\([^:]*,\)\{0,1\}$2\(,[^:]*\)\{0,1\}:\(.*\)/\3/p" /proc/$1/cgroup)
    if [ -n "$path" ]; then cat "/sys/fs/cgroup/$2$path/$3"
    else cat "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$1/cgroup)/$4"; fi
}
fails() { if "$@"; then echo "succeeded: $*" >&2; return 1; fi; }
code() { status=0; "$@" || status=$?; echo $status; }
same() { if [ "$1" != "$2" ]; then echo "expected: $2; found: $1" >&2; return 1; fi; }
"#;

/// A check: passes if its lines do, under `sh -e`.
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// The lines.
    pub lines: &'static str,
}

/// What the checks of one engine have in common.
pub struct Suite<'a> {
    /// Its name.
    pub name: &'static str,
    /// Lines before those of each check: functions that call the engine with the runtime `$RUNTIME`.
    pub before: &'a str,
    /// Lines after each check, whether it passed or not: they remove what it made.
    pub after: &'a str,
}

/// Runs those of `cases` whose name contains one of `wanted`, or all.
pub fn run(suite: &Suite, cases: &[Case], runtimes: &[Runtime], wanted: &[&str]) -> Vec<Row> {
    let chosen = cases
        .iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part)));
    let mut rows = Vec::new();
    for case in chosen {
        let verdicts = runtimes
            .iter()
            .map(|runtime| {
                let begin = Instant::now();
                let before = Snapshot::take();
                let mut verdict = run_one(suite, case.lines, runtime);
                let _ = shell(suite, suite.after, runtime);
                before.compare(&mut verdict);
                super::tell(suite.name, case.name, runtime, &verdict, begin);
                verdict
            })
            .collect();
        rows.push(Row {
            suite: suite.name,
            name: case.name.to_owned(),
            verdicts,
        });
    }
    rows
}

fn run_one(suite: &Suite, lines: &str, runtime: &Runtime) -> Verdict {
    match shell(suite, lines, runtime) {
        Ok(()) => Verdict::default(),
        Err(detail) => Verdict {
            failures: ["it fails".to_owned()].into(),
            detail,
        },
    }
}

/// Runs lines of the suite; the error is the end of what they printed.
pub fn shell(suite: &Suite, lines: &str, runtime: &Runtime) -> Result<(), String> {
    let script = format!("{LIMIT}\n{}\n{lines}\n", suite.before);
    // a file and not a pipe: what a check leaves running may hold the writing end
    let path = Path::new(PLACE).join("output");
    let output = File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
    let (output, errors) = output.map_err(|error| format!("{}: {error}", path.display()))?;
    let status = bounded(SECONDS, "sh")
        .args(["-e", "-c", &script])
        .env("RUNTIME", &runtime.program)
        .env("PLACE", PLACE)
        .current_dir(PLACE)
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|error| format!("sh: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(10)..].join("\n");
    Err(format!("{status}\n{end}"))
}
