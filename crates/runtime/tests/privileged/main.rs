//! Real containers from a real busybox. Needs root.
//!
//! `clone` refuses to work in a process with threads, which every test of the standard harness is in. So this file is
//! its own harness: it executes itself anew for each case, with the case's name, and a case is the whole of that
//! process. Filters of `cargo test` work as usual: a case runs if its name contains one of them.

#![expect(clippy::print_stdout, reason = "a test harness reports")]

mod agents;
mod attacks;
mod attributes;
mod basics;
mod cgroups;
mod classes;
mod entering;
mod groups;
mod isolation;
mod joining;
mod labels;
mod mount_options;
mod mounting;
mod namespaces;
mod speed;
mod systemd;
mod world;

use std::process::{Command, ExitCode};

/// A case: its name, and what it does; it fails by a panic.
type Case = (&'static str, fn());

fn all() -> Vec<Case> {
    [
        &[("privileged_table_names_tests", table_names_tests as fn())],
        basics::CASES,
        isolation::CASES,
        mounting::CASES,
        mount_options::CASES,
        entering::CASES,
        attacks::CASES,
        attributes::CASES,
        agents::CASES,
        namespaces::CASES,
        joining::CASES,
        labels::CASES,
        cgroups::CASES,
        groups::CASES,
        classes::CASES,
        systemd::CASES,
    ]
    .concat()
}

/// Every test that the table of the specification's demands names is there.
fn table_names_tests() {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [
        "src",
        "../spec/src/runtime",
        "../cli/src/runtime",
        "../../tests/e2e/tests/privileged_oci",
    ];
    let mut waiting: Vec<_> = places.map(|place| own.join(place)).into();
    let mut text = String::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    let table = include_str!("../specification.md");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let tests = rows.filter_map(|row| row.rsplit('|').nth(1));
    let names = tests.flat_map(|tests| tests.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let known = all().iter().any(|(case, _)| *case == name);
        assert!(known || text.contains(&format!("fn {name}()")), "{name}");
        count += 1;
    }
    assert!(count > 150, "{count}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name] = arguments.as_slice()
        && first == "--case"
    {
        let cases = all().into_iter().chain(speed::CASES.iter().copied());
        let case = cases.into_iter().find(|case| case.0 == name);
        (case.expect("a case of that name").1)();
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let ignored = arguments.iter().any(|argument| argument == "--ignored");
    // Names that do not begin so are parts of other cases.
    let cases = if ignored {
        speed::CASES.to_vec()
    } else {
        all()
            .into_iter()
            .filter(|case| case.0.starts_with("privileged_"))
            .collect()
    };
    let wanted = cases.into_iter().filter(|(name, _)| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(*filter))
    });
    if arguments.iter().any(|argument| argument == "--list") {
        wanted.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    run(
        wanted.map(|(name, _)| name),
        arguments.iter().any(|argument| argument == "--nocapture"),
    )
}

fn run(names: impl Iterator<Item = &'static str>, show: bool) -> ExitCode {
    let program = std::env::current_exe().expect("our own path");
    let (mut passed, mut failed) = (0, Vec::new());
    for name in names {
        let output = Command::new(&program)
            .args(["--case", name])
            .output()
            .expect("run a case");
        if output.status.success() {
            passed += 1;
            println!("test {name} ... ok");
        } else {
            failed.push(name);
            println!("test {name} ... FAILED ({})", output.status);
        }
        if show || !output.status.success() {
            println!("{}", String::from_utf8_lossy(&output.stdout));
            println!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    println!(
        "\n{passed} passed; {} failed: {}",
        failed.len(),
        failed.join(", ")
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
