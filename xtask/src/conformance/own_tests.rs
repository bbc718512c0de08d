//! The integration tests that runc and crun have of themselves, from the sources of Debian's packages, run with ketch in
//! their place. Those of crun are called through a script that puts crun's own flags in runc's words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::leaks::Snapshot;
use super::{PLACE, Row, Runtime, Verdict, bounded, sources};
use crate::Outcome;

/// A file of tests that hangs holds the others up so long.
const FILE_SECONDS: u32 = 240;
/// Lines of a failed test that are kept.
const DETAIL_LINES: usize = 14;
/// Files that judge nothing here: the network is needed, or programs that Debian does not have. That of crun's listener
/// wants one where no call is to be notified of, against the specification, and waits for ever with runc too.
const LEFT_OUT: [&str; 4] = [
    "spec.bats",
    "checkpoint.bats",
    "mounts_sshfs.bats",
    "test_seccomp.py",
];

/// What runs a test of crun: `$RUNTIME` with the flags that only crun has left out or said otherwise.
const AS_RUNC: &str = r#"#!/bin/bash
args=(); config=
while (($#)); do
  case $1 in
    --cgroup-manager) [[ $2 == systemd ]] && args+=(--systemd-cgroup); shift 2 ;;
    --config) config=$2; shift 2 ;;
    *) args+=("$1"); shift ;;
  esac
done
[[ -n $config && $config != config.json ]] && cp "$config" config.json
exec "$RUNTIME" "${args[@]}"
"#;

/// What a suite of them needs, below the directory `work`.
struct Tree {
    name: &'static str,
    source: PathBuf,
}

/// Fetches and builds what the suite `name` needs. Where the sources cannot be had this says so.
pub fn build(name: &'static str, work: &Path, archive: &Path) -> Outcome {
    let wanted = match name {
        "runc" => "tests/integration/helpers.bash",
        _ => "tests/init.c",
    };
    let Some(source) = sources::fetch(work, name, wanted) else {
        println!("The tests of {name} cannot be had.");
        return Ok(());
    };
    let tree = Tree { name, source };
    match name {
        "runc" => tree.build_runc(work, archive),
        _ => tree.build_crun(),
    }
}

impl Tree {
    fn build_runc(&self, work: &Path, archive: &Path) -> Outcome {
        let gopath = work.join("gopath-runc");
        let above = gopath.join("src/github.com/opencontainers");
        let _ = fs::remove_dir_all(&gopath);
        fs::create_dir_all(&above)
            .and_then(|()| std::os::unix::fs::symlink(&self.source, above.join("runc")))
            .map_err(|error| format!("{}: {error}", above.display()))?;
        for program in ["recvtty", "seccompagent"] {
            let from = above.join("runc/contrib/cmd").join(program);
            sources::go_build(&gopath, &from, &from.join(program), &["-tags", "seccomp"])?;
        }
        let image = self.source.join("busybox.tar");
        let script = format!(
            "#!/bin/sh\necho BUSYBOX_IMAGE={image}\necho DEBIAN_IMAGE={image}\n",
            image = image.display()
        );
        self.write("tests/integration/get-images.sh", &script, true)?;
        // as in the image that the tests are written for
        shell(
            "cp \"$1\" \"$2\" && tar --delete -f \"$2\" ./proc ./sys",
            &[archive, &image],
        )
    }

    fn build_crun(&self) -> Outcome {
        self.write(
            "config.h",
            "#define HAVE_SECCOMP 1\n#define HAVE_ERROR_H 1\n",
            false,
        )?;
        self.write("as-runc", AS_RUNC, true)?;
        shell(
            "gcc -static -I \"$1\" -o \"$1/init\" \"$1/tests/init.c\"",
            &[&self.source],
        )
    }

    fn write(&self, name: &str, text: &str, executable: bool) -> Outcome {
        use std::os::unix::fs::PermissionsExt;
        let path = self.source.join(name);
        let mode = if executable { 0o755 } else { 0o644 };
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Its files of tests.
    fn files(&self) -> Vec<String> {
        let (directory, prefix, suffix) = match self.name {
            "runc" => ("tests/integration", "", ".bats"),
            _ => ("tests", "test_", ".py"),
        };
        let entries = fs::read_dir(self.source.join(directory));
        let mut files: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
            .filter(|name| !LEFT_OUT.contains(&name.as_str()))
            .collect();
        files.sort();
        files
    }

    /// Runs a file of tests; its output.
    fn run(&self, file: &str, runtime: &Runtime) -> String {
        let place = Path::new(PLACE).join("own-tests");
        let _ = fs::remove_dir_all(&place);
        // the tests of crun look for their program here, some of them in spite of INIT
        let _ = fs::create_dir_all(place.join("tests"))
            .and_then(|()| fs::copy(self.source.join("init"), place.join("tests/init")));
        let mut command = match self.name {
            // the tests want a terminal
            "runc" => {
                let mut command = bounded(FILE_SECONDS, "script");
                command
                    .args(["-qec", &format!("bats -t {file}"), "/dev/null"])
                    .current_dir(self.source.join("tests/integration"))
                    .env("RUNC", &runtime.program);
                command
            }
            _ => {
                let mut command = bounded(FILE_SECONDS, "python3");
                let program = match runtime.name {
                    "crun" => runtime.program.clone(),
                    _ => self.source.join("as-runc"),
                };
                command
                    .arg(self.source.join("tests").join(file))
                    .current_dir(&place)
                    .env("OCI_RUNTIME", program)
                    .env("INIT", self.source.join("init"));
                command
            }
        };
        command
            .env("RUNTIME", &runtime.program)
            .env("TMPDIR", &place);
        let output = command.output();
        clean_up(runtime);
        match output {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                String::from_utf8_lossy(&text).replace('\r', "")
            }
            Err(error) => format!("not ok 1 it does not run: {error}"),
        }
    }
}

/// What tests leave: groups, frozen ones among them, and processes in them; directories where hierarchies could be
/// mounted; a null device that crun has given away.
fn clean_up(runtime: &Runtime) {
    let _ = bounded(20, "sh")
        .args([
            "-c",
            "for state in /sys/fs/cgroup/freezer/frozen/freezer.state \
             /sys/fs/cgroup/freezer/runc-cgroups-integration-test/*/freezer.state; do
                test -e $state && echo THAWED > $state && xargs -r kill -KILL < ${state%freezer.state}cgroup.procs
             done
             pkill -KILL -x recvtty; pkill -KILL -x seccompagent; sleep 0.2
             rmdir /sys/fs/cgroup/*/frozen /sys/fs/cgroup/*/runc-cgroups-integration-test/* \
                /sys/fs/cgroup/*/runc-cgroups-integration-test /sys/fs/cgroup/*
             chown 0:0 /dev/null",
        ])
        .env("RUNTIME", &runtime.program)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
}

/// Runs the tests of the suite `name` with each runtime: those whose file contains one of `wanted`, or all.
pub fn run(
    name: &'static str,
    work: &Path,
    runtimes: &[Runtime],
    wanted: &[&str],
) -> Result<Vec<Row>, String> {
    let source = work.join("sources").join(name).join("tree");
    let tree = Tree { name, source };
    let files = tree.files();
    if files.is_empty() {
        return Err("its tests could not be had".to_owned());
    }
    let chosen = files
        .iter()
        .filter(|file| wanted.is_empty() || wanted.iter().any(|part| file.contains(part)));
    let mut rows = Vec::new();
    for file in chosen {
        let mut results = Vec::new();
        for runtime in runtimes {
            let begin = Instant::now();
            let before = Snapshot::take();
            let tests = read(&tree.run(file, runtime));
            let mut left = Verdict::default();
            before.compare(&mut left);
            super::tell(name, file, runtime, &summary(&tests, &left), begin);
            results.push((tests, left));
        }
        rows.extend(file_rows(name, file, results));
    }
    Ok(rows)
}

/// A test's name and verdict.
type Tests = Vec<(String, Verdict)>;

fn summary(tests: &Tests, left: &Verdict) -> Verdict {
    let failures = tests.iter().flat_map(|(_, verdict)| &verdict.failures);
    Verdict {
        failures: failures.chain(&left.failures).cloned().collect(),
        detail: String::new(),
    }
}

/// One row a test, in the order of the longest list, and one for what the file's tests left behind.
fn file_rows(suite: &'static str, file: &str, results: Vec<(Tests, Verdict)>) -> Vec<Row> {
    let longest = results.iter().max_by_key(|(tests, _)| tests.len());
    let names: Vec<String> = longest
        .map(|(tests, _)| tests.iter().map(|(name, _)| name.clone()).collect())
        .unwrap_or_default();
    let stem = file.split('.').next().unwrap_or(file);
    let (mut lists, mut lefts): (Vec<Tests>, Vec<Verdict>) = results.into_iter().unzip();
    for (_, left) in lists
        .iter()
        .zip(&mut lefts)
        .filter(|(list, _)| list.is_empty())
    {
        left.failures.insert("it tells of no test".to_owned());
    }
    let mut rows = Vec::new();
    for name in names {
        let verdicts = lists.iter_mut().map(|tests| {
            let found = tests.iter().position(|(test, _)| *test == name);
            found.map_or_else(
                || Verdict {
                    failures: ["it was not reached".to_owned()].into(),
                    detail: String::new(),
                },
                |index| tests.swap_remove(index).1,
            )
        });
        rows.push(Row {
            suite,
            name: format!("{stem}: {name}"),
            verdicts: verdicts.collect(),
        });
    }
    rows.push(Row {
        suite,
        name: format!("{stem}: nothing is left"),
        verdicts: lefts,
    });
    rows
}

/// The tests in TAP output: those that were left out have passed.
fn read(text: &str) -> Tests {
    let mut tests: Tests = Vec::new();
    for line in text.lines() {
        let (passed, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => {
                if let Some((_, verdict)) = tests.last_mut()
                    && !verdict.failures.is_empty()
                    && verdict.detail.lines().count() < DETAIL_LINES
                {
                    verdict.detail.push_str(line);
                    verdict.detail.push('\n');
                }
                continue;
            }
        };
        let name = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ' || c == '-');
        let name = name.split(" # ").next().unwrap_or(name);
        let name = name.split(" #SKIP").next().unwrap_or(name);
        let mut verdict = Verdict::default();
        if !passed {
            verdict.failures.insert("it fails".to_owned());
        }
        tests.push((name.to_owned(), verdict));
    }
    tests
}

fn shell(script: &str, arguments: &[&Path]) -> Outcome {
    let status = Command::new("sh")
        .args(["-e", "-c", script, "sh"])
        .args(arguments)
        .status()
        .map_err(|error| format!("sh: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{script}: {status}")),
    }
}

#[test]
fn tests_are_read_with_what_failed_ones_said() {
    let text = "1..3\nok 1 runs\nnot ok 2 runc exec [v1]\n# because\nok 3 - exec # skip no criu\nok 4 - tty #SKIP\n";
    let tests = read(text);
    let names: Vec<&str> = tests.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["runs", "runc exec [v1]", "exec", "tty"]);
    assert_eq!(tests[1].1.detail, "# because\n");
    let failed = tests
        .iter()
        .filter(|(_, verdict)| !verdict.failures.is_empty());
    assert_eq!(failed.count(), 1);
}

#[test]
fn tests_that_one_runtime_does_not_reach_are_failures_of_it() {
    let all = (read("ok 1 a\nok 2 b\n"), Verdict::default());
    let some = (read("ok 1 a\n"), Verdict::default());
    let rows = file_rows("runc", "exec.bats", vec![some, all]);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["exec: a", "exec: b", "exec: nothing is left"]);
    assert!(!rows[1].verdicts[0].failures.is_empty() && rows[1].verdicts[1].failures.is_empty());
}
