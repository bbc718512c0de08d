//! Links the program so that it starts fast: every start of a container starts it twice.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A table of relative relocations a tenth as long.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return; // Elsewhere all of the program is static.
    }
    // The unwinder from the archive that comes with every compiler, instead of a shared library that has to be found,
    // mapped and relocated at each start: a tenth of a millisecond. Without the archive the library does.
    if let Some(directory) = directory_of("libgcc_eh.a") {
        println!("cargo::rustc-link-search=native={}", directory.display());
        println!("cargo::rustc-link-lib=static=gcc_eh");
    }
}

/// Where the C compiler has a library of its own.
fn directory_of(library: &str) -> Option<PathBuf> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .arg(format!("-print-file-name={library}"))
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // A compiler that has none says the name back.
    path.is_absolute()
        .then(|| path.parent().map(PathBuf::from))?
}
