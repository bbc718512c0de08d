//! erofs-utils as Debian 13 has them, on whatever Debian this is: those before 1.7 know no blocks of 512 bytes. Nothing
//! is installed: the packages are unpacked below the target directory, and run with their own C library.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell;

const SUITE: &str = "trixie";

/// A program that is used as `fsck.erofs`, of 1.8 or later.
pub fn fsck() -> Result<PathBuf, String> {
    let directory = shell::target_directory().join(format!("erofs-utils-{SUITE}"));
    let program = directory.join("fsck.erofs");
    if !program.exists() {
        println!("About to download erofs-utils of Debian {SUITE}, with the libraries they need");
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        for below in ["lists/partial", "archives/partial", "root"] {
            std::fs::create_dir_all(directory.join(below)).map_err(failed)?;
        }
        download(&directory)?;
        unpack(&directory)?;
        make_program(&directory, &program)?;
    }
    Ok(program)
}

/// The packages and all they depend on, as if nothing were installed.
fn download(directory: &Path) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let sources = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {SUITE} main\n",
        mirror()?
    );
    write("sources.list", &sources)?;
    write("status", "")?;
    let place = directory.display();
    let options = [
        "APT::Sandbox::User=root".to_owned(),
        format!("Dir::Etc::SourceList={place}/sources.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={place}/lists"),
        format!("Dir::State::status={place}/status"),
        format!("Dir::Cache::archives={place}/archives"),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
        // Both lists and archives are ours alone.
        "Debug::NoLocking=1".to_owned(),
    ];
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.arg("-o").arg(option);
        }
        run(command.args(words))
    };
    apt(&["update", "-qq"])?;
    apt(&[
        "install",
        "-qq",
        "-y",
        "--download-only",
        "--no-install-recommends",
        "erofs-utils",
    ])
}

/// Where this machine has its packages from.
fn mirror() -> Result<String, String> {
    let output = Command::new("apt-cache")
        .args(["policy", "base-files"])
        .output()
        .map_err(|error| format!("apt-cache: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .find(|word| word.starts_with("http"))
        .map(str::to_owned)
        .ok_or_else(|| "apt-cache policy names no mirror; run apt-get update".into())
}

fn unpack(directory: &Path) -> Result<(), String> {
    let archives = directory.join("archives");
    let entries =
        std::fs::read_dir(&archives).map_err(|error| format!("{}: {error}", archives.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg")
                .arg("-x")
                .arg(&path)
                .arg(directory.join("root")))?;
        }
    }
    Ok(())
}

/// A script that starts it with its own loader and libraries. The last step: it is there when all is.
fn make_program(directory: &Path, program: &Path) -> Result<(), String> {
    let root = directory.join("root/usr");
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = root.join("lib").join(&triple);
    let loader = match std::env::consts::ARCH {
        "x86_64" => libraries.join("ld-linux-x86-64.so.2"),
        arch => libraries.join(format!("ld-linux-{arch}.so.1")),
    };
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.display(),
        libraries.display(),
        root.join("bin/fsck.erofs").display()
    );
    let failed = |error: std::io::Error| format!("{}: {error}", program.display());
    let unfinished = directory.join("fsck.erofs.new");
    std::fs::write(&unfinished, text).map_err(failed)?;
    std::fs::set_permissions(&unfinished, PermissionsExt::from_mode(0o755)).map_err(failed)?;
    run(Command::new(&unfinished).arg("-V"))?;
    std::fs::rename(&unfinished, program).map_err(failed)
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{name}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {status}")),
    }
}
