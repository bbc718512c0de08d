//! One program for all targets: `KETCH_FUZZ_TARGET` says which. Started by `cargo xtask fuzz`.
#![no_main]

use std::sync::OnceLock;

use ketch_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("KETCH_FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|target| target.name == name) {
            Some(target) => target,
            None => panic!("KETCH_FUZZ_TARGET={name}: there is no such target"),
        }
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (target().run)(bytes));
