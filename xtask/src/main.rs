//! Developer commands of ketch. `cargo xtask demo` shows the main job; `cargo xtask test` runs every test.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

mod base_images;
mod bench;
mod conformance;
mod demo;
mod erofs_utils;
mod fuzz;
mod install;
mod lab;
mod packages;
mod privileges;
mod seccomp_oracle;
mod shell;
mod target;
mod test;
mod tidy;

const USAGE: &str = "\
cargo xtask demo            the main job, shown command by command
cargo xtask install         build the program and install it as cargo does
cargo xtask test [FILTER]   every test: tidy, pure, contract, kernel, end to end
cargo xtask test --lab [FILTER...]
                            the runtime's kernel tests on other kernels, in virtual machines
cargo xtask test --lab systemd [CASE...]
                            of those only `ketch runtime --systemd-cgroup` below a real systemd
cargo xtask test --lab --power-cuts
                            images on machines that are reset in the middle of pull, load, build and remove
cargo xtask test --crashes [FILTER]
                            kills and power cuts at every single step of what is done to images: an hour
cargo xtask bench [CASE]    measure, beside the other engines installed here
cargo xtask bench runtime   the OCI runtime, beside crun and runc
cargo xtask bench images [ENGINE...]
                            pull, run, save, load and remove a large image, beside podman and docker
cargo xtask conformance runtime [SUITE] [CHECK]
                            others' tests of `ketch runtime`: runtime-tools, runc, crun, podman,
                            podman-rootless, containerd, docker
cargo xtask conformance images [CHECK]
                            docker, podman, skopeo and umoci as readers and writers of the same images
cargo xtask fuzz [TARGET] [--seconds N]
                            what reads others' bytes, under libFuzzer; grows fuzz/corpus
cargo xtask fsck-erofs      where a checker of EROFS images is (KETCH_FSCK_EROFS for the store's tests)
cargo xtask tidy            only the checks of the source tree
cargo xtask seccomp-oracle  libseccomp's answers, which a test of the runtime compares with ours";

/// What a developer command ends with.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["demo"] => demo::run(),
        ["install"] => install::run(),
        ["test"] => test::run(None),
        ["test", "--lab", "--power-cuts"] => lab::power_cuts::run(),
        ["test", "--crashes"] => test::run_crashes(None),
        ["test", "--crashes", filter] => test::run_crashes(Some(filter)),
        ["test", "--lab", filters @ ..] => lab::run(filters),
        ["test", filter] => test::run(Some(filter)),
        // what the measurements run as root, in namespaces of their own
        ["bench-runtime-inside", program, scratch] => bench::runtime::inside(program, scratch),
        ["bench-images-inside", program, scratch, engines @ ..] => {
            bench::images::inside(program, scratch, engines)
        }
        ["bench", cases @ ..] => bench::run(cases),
        ["seccomp-oracle"] => seccomp_oracle::run(),
        ["conformance", "runtime", words @ ..] => conformance::run(words),
        ["conformance", "images", words @ ..] => conformance::images::run(words),
        [conformance::INSIDE, words @ ..] => conformance::run_inside(words),
        [conformance::images::INSIDE, words @ ..] => conformance::images::run_inside(words),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["fsck-erofs"] => erofs_utils::fsck().map(|program| println!("{}", program.display())),
        ["tidy"] => tidy::run(),
        _ => Err(format!("usage:\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
