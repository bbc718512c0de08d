//! `linux.intelRdt`: classes of cache and memory bandwidth, which are directories of a resctrl file system.
//!
//! The rules are those of the specification: a class that is named must be there or be described; one that is there
//! must be as it is described; without a name it is the container's own. What is made is told beforehand as a
//! [`Claim`], so that a creation that was killed can be cleaned up after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ketch_spec::runtime::IntelRdt;
use ketch_sys::Error as SysError;
use ketch_sys::Result as SysResult;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, open};
use serde::{Deserialize, Serialize};

use crate::error::{Called, During, Error, Result};

const FIELD: &str = "linux.intelRdt";
const SCHEMATA: &str = "schemata";
const TASKS: &str = "tasks";
const MONITORS: &str = "mon_groups";
/// Directories of the file system that are no classes.
const RESERVED: [&str; 5] = [".", "..", "info", MONITORS, "mon_data"];
/// The class of everything that is in no other.
const ROOT_CLASS: &str = "/";

/// What a container has made there, or is about to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The directory of the class.
    class: PathBuf,
    /// Whether it is made for the container.
    made: bool,
    /// The directory that its use is counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<PathBuf>,
}

/// A class that was checked and not made yet.
#[derive(Debug)]
pub(crate) struct Plan {
    claim: Claim,
    /// What is written to the class, one write each.
    writes: Vec<String>,
}

/// A class that a container's processes enter.
#[derive(Debug)]
pub struct Group {
    claim: Claim,
}

/// Where the file system is mounted, from `/proc/self/mountinfo`; None: nowhere.
///
/// # Errors
/// What reading says.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path)
        .map_err(|error| SysError::from_io("read", path, &error))
        .during("look for a resctrl file system")?;
    Ok(find_in(&text))
}

/// `36 35 0:30 / /sys/fs/resctrl rw - resctrl resctrl rw`: the type is after the dash. The last one is on top.
fn find_in(mountinfo: &str) -> Option<PathBuf> {
    let is_one = |line: &&str| {
        let after = line.split_once(" - ").map(|(_, after)| after);
        after.is_some_and(|after| after.split(' ').next() == Some("resctrl"))
    };
    let line = mountinfo.lines().rev().find(is_one)?;
    line.split(' ').nth(4).map(|path| unescape(path).into())
}

/// Blanks in paths are written as `\040`.
fn unescape(path: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
}

/// Refuses what cannot be had here.
pub(crate) fn without() -> Error {
    Error::unsupported(
        FIELD,
        "no resctrl file system is mounted: this processor or kernel has none, or nobody has mounted it",
    )
}

impl Plan {
    /// Checks what `wanted` says against what is below `root`.
    ///
    /// # Errors
    /// A name or a line that is none; a class that is not there, or is another one than described; monitoring that the
    /// processor does not have.
    pub fn new(root: &Path, wanted: &IntelRdt, id: &str) -> Result<Self> {
        let described = described(wanted)?;
        let named = !wanted.clos_id.is_empty();
        let class = match wanted.clos_id.as_str() {
            ROOT_CLASS => root.to_owned(),
            "" => root.join(name("the container's id", id)?),
            given => root.join(name("closID", given)?),
        };
        let exists = class.is_dir();
        let writes = !described.is_empty() || !wanted.schemata.is_empty();
        if named && !exists && !writes {
            let reason = format!(
                "there is no class {}, and nothing says how to make it",
                class.display()
            );
            return Err(Error::invalid(format!("{FIELD}.closID"), reason));
        }
        if !named && exists {
            let reason = format!(
                "{} is there already: name a class by closID to share it",
                class.display()
            );
            return Err(Error::invalid(FIELD, reason));
        }
        if exists {
            compare(&class, &described)?;
        }
        let mut lines = Vec::new();
        if !exists && !described.is_empty() {
            lines.push(described.join("\n") + "\n");
        }
        if !wanted.schemata.is_empty() {
            // After the others, as the specification says.
            lines.push(wanted.schemata.join("\n") + "\n");
        }
        let monitor = match monitored(root, wanted)? {
            true => Some(class.join(MONITORS).join(name("the container's id", id)?)),
            false => None,
        };
        Ok(Self {
            claim: Claim {
                class,
                made: !exists,
                monitor,
            },
            writes: lines,
        })
    }

    /// What [`Plan::make`] makes.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Makes it. After an error nothing is left.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(self) -> Result<Group> {
        let Self { claim, writes } = self;
        match make(&claim, &writes) {
            Ok(()) => Ok(Group { claim }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = claim.remove();
                Err(error)
            }
        }
    }
}

fn make(claim: &Claim, writes: &[String]) -> Result<()> {
    let step = "make the class of linux.intelRdt";
    if claim.made {
        make_directory(&claim.class).during(step)?;
    }
    for text in writes {
        write_schemata(&claim.class, text)?;
    }
    match &claim.monitor {
        Some(monitor) => make_directory(monitor).during("make the monitor of linux.intelRdt"),
        None => Ok(()),
    }
}

fn make_directory(path: &Path) -> SysResult<()> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o755)).called_on("mkdir", path)
}

/// The kernel says what is wrong with a line in a file of its own.
fn write_schemata(class: &Path, text: &str) -> Result<()> {
    let Err(error) = write(&class.join(SCHEMATA), text) else {
        return Ok(());
    };
    let roots = class.ancestors().take(2);
    let told = roots
        .filter_map(|root| std::fs::read_to_string(root.join("info/last_cmd_status")).ok())
        .find(|told| !matches!(told.trim(), "" | "ok"));
    let step = match told {
        Some(told) => format!("set {FIELD} to {:?} ({})", text.trim_end(), told.trim()),
        None => format!("set {FIELD} to {:?}", text.trim_end()),
    };
    Err(error).during(step)
}

/// The kernel has made the file; in a plain directory, as tests have it, it is made here.
fn write(path: &Path, text: &str) -> SysResult<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::RUSR | Mode::WUSR).called_on("open", path)?;
    rustix::io::write(&file, text.as_bytes())
        .map(drop)
        .called_on("write", path)
}

impl Claim {
    /// The class again, for a process that joins.
    pub(crate) fn group(&self) -> Group {
        Group {
            claim: self.clone(),
        }
    }

    /// Changes what the class is.
    pub(crate) fn update(&self, wanted: &IntelRdt) -> Result<()> {
        match described(wanted)?.as_slice() {
            [] => Ok(()),
            lines => write_schemata(&self.class, &(lines.join("\n") + "\n")),
        }
    }

    /// Removes what was made. A class that others have entered by its name is left to them.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn remove(&self) -> Result<()> {
        if let Some(monitor) = &self.monitor {
            remove_directory(monitor).during("remove the monitor of linux.intelRdt")?;
        }
        if !self.made || self.is_in_use()? {
            return Ok(());
        }
        remove_directory(&self.class).during("remove the class of linux.intelRdt")
    }

    fn is_in_use(&self) -> Result<bool> {
        let path = self.class.join(TASKS);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text
                .lines()
                .filter_map(|line| line.trim().parse().ok())
                .any(lives)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(SysError::from_io("read", path, &error))
                .during("look who uses the class of linux.intelRdt"),
        }
    }
}

/// One that has ended and was not waited for yet is still listed.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|text| {
        let state = text.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    })
}

fn remove_directory(path: &Path) -> SysResult<()> {
    let removed = match std::fs::remove_dir(path) {
        // The kernel's own directories never say so: it is a plain one, as tests have it.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
            std::fs::remove_dir_all(path)
        }
        other => other,
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::from_io("rmdir", path, &error))
        }
        _ => Ok(()),
    }
}

impl Group {
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Puts a process into it; those that it makes later are in it too.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn enter(&self, pid: u32) -> Result<()> {
        let step = "enter the class of linux.intelRdt";
        let directories = std::iter::once(&self.claim.class).chain(&self.claim.monitor);
        for directory in directories {
            write(&directory.join(TASKS), &pid.to_string()).during(step)?;
        }
        Ok(())
    }
}

/// The name of a directory.
fn name<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    if name.is_empty() || name.contains(['/', '\n', '\0']) || RESERVED.contains(&name) {
        let reason = format!("{what} {name:?} is no name of a class");
        return Err(Error::invalid(FIELD, reason));
    }
    Ok(name)
}

/// The lines that `l3CacheSchema` and `memBwSchema` are together.
fn described(wanted: &IntelRdt) -> Result<Vec<String>> {
    let bandwidth = &wanted.mem_bw_schema;
    if !bandwidth.is_empty() && (!bandwidth.starts_with("MB:") || bandwidth.contains('\n')) {
        let reason = format!("{bandwidth:?} is not one line that begins with MB:");
        return Err(Error::invalid(format!("{FIELD}.memBwSchema"), reason));
    }
    let lines = wanted
        .l3_cache_schema
        .lines()
        .filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines
        .filter(|line| bandwidth.is_empty() || !line.starts_with("MB:"))
        .map(str::to_owned)
        .collect();
    if !bandwidth.is_empty() {
        lines.push(bandwidth.clone());
    }
    if let Some(line) = lines
        .iter()
        .chain(&wanted.schemata)
        .find(|line| parse(line).is_none())
    {
        let reason = format!("{line:?} is not of the form RESOURCE:DOMAIN=VALUE;…");
        return Err(Error::invalid(FIELD, reason));
    }
    Ok(lines)
}

/// A class that is there must be what the lines say.
fn compare(class: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = class.join(SCHEMATA);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| SysError::from_io("read", &path, &error))
        .during("compare the class of linux.intelRdt")?;
    let there: BTreeMap<_, _> = text.lines().filter_map(parse).collect();
    for line in lines {
        let same = parse(line).is_some_and(|(resource, domains)| {
            there.get(resource).is_some_and(|there| {
                let mut domains = domains.iter();
                domains.all(|(domain, value)| there.get(domain) == Some(value))
            })
        });
        if !same {
            let reason = format!("the class {} is there and is not {line:?}", class.display());
            return Err(Error::invalid(format!("{FIELD}.closID"), reason));
        }
    }
    Ok(())
}

/// `L3:0=7f0;1=1f`: the resource, and its values by domain without leading zeros and in small letters.
fn parse(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    if resource.is_empty() {
        return None;
    }
    let mut values = BTreeMap::new();
    for part in domains.split(';').filter(|part| !part.trim().is_empty()) {
        let (domain, value) = part.split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        values.insert(domain.trim(), value);
    }
    (!values.is_empty()).then_some((resource.trim(), values))
}

/// Whether the container's use is counted apart.
fn monitored(root: &Path, wanted: &IntelRdt) -> Result<bool> {
    let flags = [
        ("enableCMT", wanted.enable_cmt, Some("llc_occupancy")),
        ("enableMBM", wanted.enable_mbm, Some("mbm_total_bytes")),
        ("enableMonitoring", wanted.enable_monitoring, None),
    ];
    for (flag, _, feature) in flags.iter().filter(|(_, wanted, _)| *wanted) {
        let features = std::fs::read_to_string(root.join("info/L3_MON/mon_features"));
        let has = |features: &String| {
            feature.is_none_or(|name| features.lines().any(|line| line == name))
        };
        if !features.as_ref().is_ok_and(has) {
            let reason = "the processor or the kernel does not count that";
            return Err(Error::unsupported(format!("{FIELD}.{flag}"), reason));
        }
    }
    Ok(flags.iter().any(|(_, wanted, _)| *wanted))
}

#[cfg(test)]
mod tests;
