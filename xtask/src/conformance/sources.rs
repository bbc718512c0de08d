//! Sources of Debian's packages, with `apt-get source`, from lists of our own: the machine's settings stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::bounded;
use crate::privileges;

/// Where a package's sources are looked for after the machine's own release.
const LATER_RELEASES: [&str; 2] = ["trixie", "sid"];
const FETCH_SECONDS: u32 = 180;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The unpacked upstream sources of `package`, from the first release whose sources have `wanted`, a path in them. They
/// are fetched once and kept below `work`.
pub fn fetch(work: &Path, package: &str, wanted: &str) -> Option<PathBuf> {
    let place = work.join("sources").join(package);
    let tree = place.join("tree");
    if tree.join(wanted).exists() {
        return Some(tree);
    }
    let releases = own_release().into_iter();
    let releases = releases.chain(LATER_RELEASES.map(str::to_owned));
    for release in releases {
        let _ = fs::remove_dir_all(&place);
        match fetch_from(&place, package, &release) {
            Ok(()) if tree.join(wanted).exists() => return Some(tree),
            Ok(()) => println!("{package} of {release} has no {wanted}"),
            Err(reason) => println!("{package} of {release}: {reason}"),
        }
    }
    None
}

fn own_release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Where this machine's packages come from.
fn archive() -> Result<String, String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .args(["Created-By: Packages", "Component: main"])
        .output()
        .map_err(|error| format!("apt-get: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().find(|line| line.ends_with("/debian/"));
    first
        .map(str::to_owned)
        .ok_or_else(|| "apt-get names no archive of Debian".to_owned())
}

fn fetch_from(place: &Path, package: &str, release: &str) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", place.display());
    for directory in ["lists/partial", "parts", "tree"] {
        fs::create_dir_all(place.join(directory)).map_err(at)?;
    }
    let list = format!(
        "Types: deb-src\nURIs: {}\nSuites: {release}\nComponents: main\nSigned-By: {KEYRING}\n",
        archive()?
    );
    fs::write(place.join("parts/own.sources"), list).map_err(at)?;
    apt(place, &["update", "-qq"])?;
    // Whatever it says in the end: some archives miss a package's small files, and only the upstream ones are needed.
    // What arrives was checked against the signed lists.
    let said = apt(place, &["source", "-qq", "--download-only", package]);
    let archive = fs::read_dir(place)
        .map_err(at)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.to_string_lossy();
            name.contains(".orig.tar.") && !name.ends_with(".asc")
        });
    let Some(archive) = archive else {
        return said.and(Err("there are no upstream sources".to_owned()));
    };
    let status = Command::new("tar")
        .args(["--strip-components=1", "-C"])
        .arg(place.join("tree"))
        .arg("-xf")
        .arg(&archive)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("tar -xf {}: {other:?}", archive.display())),
    }
}

fn apt(place: &Path, words: &[&str]) -> Result<(), String> {
    let option = |name: &str, value: String| ["-o".to_owned(), format!("{name}={value}")];
    let shown = |part: &str| place.join(part).display().to_string();
    let status = privileges::command("timeout")
        .arg(FETCH_SECONDS.to_string())
        .arg("apt-get")
        .args(option("Dir::Etc::SourceList", "/dev/null".into()))
        .args(option("Dir::Etc::SourceParts", shown("parts")))
        .args(option("Dir::State::Lists", shown("lists")))
        .args(option("Dir::Cache::pkgcache", String::new()))
        .args(option("Dir::Cache::srcpkgcache", String::new()))
        .args(option("APT::Sandbox::User", "root".into()))
        .args(words)
        .current_dir(place)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("apt-get: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("apt-get {}: {status}", words.join(" "))),
    }
}

/// Builds the Go program `package` of the directory `from` into `program`, with Debian's libraries and `gopath`.
pub fn go_build(gopath: &Path, from: &Path, program: &Path, words: &[&str]) -> Result<(), String> {
    let status = bounded(300, "go")
        .arg("build")
        .args(words)
        .arg("-o")
        .arg(program)
        .arg(".")
        .current_dir(from)
        .env("GO111MODULE", "off")
        .env("GOPATH", format!("{}:/usr/share/gocode", gopath.display()))
        .status()
        .map_err(|error| format!("go: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{} does not build: {status}", from.display())),
    }
}
