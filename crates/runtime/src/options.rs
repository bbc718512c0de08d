//! Mount options as fstab and the OCI specification write them.

use ketch_sys::mount as attr;

use crate::error::{Error, Result};

/// The options of one mount, sorted by what they are for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub own: Change,
    /// Attributes of it and of everything below.
    pub below: Change,
    /// Propagation types, in order; true: everything below too.
    pub propagation: Vec<(u64, bool)>,
    /// A bind mount; `Some(true)`: with everything below.
    pub bind: Option<bool>,
    /// An id-mapped mount; `Some(true)`: with everything below.
    pub id_map: Option<bool>,
    /// Copy what the root has at the mount point into the new tmpfs.
    pub copy_up: bool,
    /// Change what is mounted there already.
    pub remount: bool,
    /// Flags of the file system as a whole, which every type of file system knows.
    pub flags: Vec<&'static str>,
    /// What the file system itself is told: name, and value if any.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Whether the file system itself is told something by that name.
    pub fn has_data(&self, name: &str) -> bool {
        self.data.iter().any(|(key, _)| key == name)
    }
}

/// Attributes to set and to clear.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    /// The later of two options that contradict each other counts.
    fn apply(&mut self, set: u64, clear: u64) {
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
    }

    /// Whether it changes nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What to clear, with the mask that the kernel wants when an access time attribute is set.
    pub fn clear_mask(self) -> u64 {
        let times = attr::NO_ATIME | attr::STRICT_ATIME;
        if (self.set | self.clear) & times != 0 {
            self.clear | attr::ATIME_MASK
        } else {
            self.clear
        }
    }
}

/// Sorts the options of the mount at `destination`.
/// Options that are for the file system itself stay as they are.
pub(crate) fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        if let Some((set, clear)) = attribute(option) {
            parsed.own.apply(set, clear);
        } else if let Some((set, clear)) = option.strip_prefix('r').and_then(recursive_attribute) {
            parsed.below.apply(set, clear);
        } else if let Some(propagation) = propagation(option) {
            parsed.propagation.push(propagation);
        } else if let Some(flag) = FLAGS.iter().find(|&flag| flag == option) {
            parsed.flags.push(flag);
        } else if !has_no_effect(option) {
            parse_other(option, &mut parsed);
        }
    }
    parsed
}

/// What the kernel's own parser takes for every file system. On a bind mount they change nothing, as with mount(8).
const FLAGS: [&str; 7] = [
    "async",
    "dirsync",
    "lazytime",
    "mand",
    "nolazytime",
    "nomand",
    "sync",
];

/// Options that mount(8) knows and that change nothing here: defaults; what is for its own use in fstab; versions of
/// inodes, which kernels count always; how much the kernel says in its log, which is nothing for these calls.
fn has_no_effect(option: &str) -> bool {
    const WORDS: [&str; 12] = [
        "",
        "defaults",
        "iversion",
        "noiversion",
        "silent",
        "loud",
        "auto",
        "noauto",
        "nofail",
        "nouser",
        "nogroup",
        "_netdev",
    ];
    let prefixes = ["x-", "X-", "comment="];
    WORDS.contains(&option) || prefixes.iter().any(|prefix| option.starts_with(prefix))
}

fn parse_other(option: &str, parsed: &mut Options) {
    match option {
        // Whoever may mount, as of mount(8): nobody asks here, but what it implies counts.
        "user" | "users" => parsed
            .own
            .apply(attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC, 0),
        "owner" | "group" => parsed.own.apply(attr::NO_SUID | attr::NO_DEV, 0),
        "bind" => parsed.bind = parsed.bind.or(Some(false)),
        "rbind" => parsed.bind = Some(true),
        "idmap" => parsed.id_map = parsed.id_map.or(Some(false)),
        "ridmap" => parsed.id_map = Some(true),
        "tmpcopyup" => parsed.copy_up = true,
        "remount" => parsed.remount = true,
        _ => match option.split_once('=') {
            Some((key, value)) => parsed.data.push((key.into(), Some(value.into()))),
            None => parsed.data.push((option.into(), None)),
        },
    }
}

/// Attributes that an option sets and clears.
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "relatime" => (attr::RELATIVE_ATIME, attr::NO_ATIME | attr::STRICT_ATIME),
        "norelatime" | "nostrictatime" => (0, attr::STRICT_ATIME),
        _ => return recursive_attribute(option),
    })
}

/// The same for those that have a form for everything below, with an `r` before them.
fn recursive_attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (attr::READ_ONLY, 0),
        "rw" => (0, attr::READ_ONLY),
        "nosuid" => (attr::NO_SUID, 0),
        "suid" => (0, attr::NO_SUID),
        "nodev" => (attr::NO_DEV, 0),
        "dev" => (0, attr::NO_DEV),
        "noexec" => (attr::NO_EXEC, 0),
        "exec" => (0, attr::NO_EXEC),
        "noatime" => (attr::NO_ATIME, attr::STRICT_ATIME),
        "atime" => (0, attr::NO_ATIME),
        "strictatime" => (attr::STRICT_ATIME, attr::NO_ATIME),
        "relatime" => (0, attr::NO_ATIME | attr::STRICT_ATIME),
        "norelatime" | "nostrictatime" => (0, attr::STRICT_ATIME),
        "nodiratime" => (attr::NO_DIR_ATIME, 0),
        "diratime" => (0, attr::NO_DIR_ATIME),
        "nosymfollow" => (attr::NO_SYMLINK_FOLLOW, 0),
        "symfollow" => (0, attr::NO_SYMLINK_FOLLOW),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<(u64, bool)> {
    Some(match option {
        "private" => (attr::PRIVATE, false),
        "rprivate" => (attr::PRIVATE, true),
        "slave" => (attr::SLAVE, false),
        "rslave" => (attr::SLAVE, true),
        "shared" => (attr::SHARED, false),
        "rshared" => (attr::SHARED, true),
        "unbindable" => (attr::UNBINDABLE, false),
        "runbindable" => (attr::UNBINDABLE, true),
        _ => return None,
    })
}

/// The propagation type of `linux.rootfsPropagation`, or 0 for none.
pub(crate) fn root_propagation(name: &str) -> Result<u64> {
    match name {
        "" => Ok(0),
        _ => match propagation(name) {
            Some((kind, _)) => Ok(kind),
            None => Err(Error::invalid(
                "linux.rootfsPropagation",
                format!("unknown value {name:?}"),
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        let list: Vec<String> = text.split(' ').map(str::to_owned).collect();
        parse(&list)
    }

    #[test]
    fn options_are_sorted() {
        let parsed = options("rbind ro nosuid rnoexec rprivate size=64k newinstance");
        assert_eq!(parsed.bind, Some(true));
        assert_eq!(parsed.own.set, attr::READ_ONLY | attr::NO_SUID);
        assert_eq!(parsed.below.set, attr::NO_EXEC);
        assert_eq!(parsed.propagation, [(attr::PRIVATE, true)]);
        let data = [
            ("size".into(), Some("64k".into())),
            ("newinstance".into(), None),
        ];
        assert_eq!(parsed.data, data);
    }

    #[test]
    fn the_last_word_counts() {
        let parsed = options("ro rw");
        assert_eq!((parsed.own.set, parsed.own.clear), (0, attr::READ_ONLY));
        let parsed = options("rw ro");
        assert_eq!((parsed.own.set, parsed.own.clear), (attr::READ_ONLY, 0));
    }

    #[test]
    fn words_that_begin_with_r_are_not_recursive_by_that() {
        let parsed = options("relatime ro rw");
        assert!(parsed.below.is_empty());
        assert!(options("rro").own.is_empty());
        assert_eq!(
            options("rrelatime").below.clear,
            attr::NO_ATIME | attr::STRICT_ATIME
        );
    }

    #[test]
    fn setting_an_access_time_clears_the_others() {
        assert_eq!(
            options("noatime").own.clear_mask() & attr::ATIME_MASK,
            attr::ATIME_MASK
        );
        assert_eq!(options("ro").own.clear_mask(), 0);
    }

    /// Every option of the specification's table is understood: none is left for the file system.
    #[test]
    fn the_specification_s_options_are_known() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
                     nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow \
                     private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec \
                     rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave \
                     rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync \
                     tmpcopyup unbindable idmap ridmap rnodev";
        for option in table.split_whitespace() {
            assert!(options(option).data.is_empty(), "{option}");
        }
        assert_eq!(options("sync nolazytime").flags, ["sync", "nolazytime"]);
        assert!(options("remount").remount && options("tmpcopyup").copy_up);
    }

    /// Every recursive option changes what is below, and nothing of the mount's own.
    #[test]
    fn recursive_options_are_for_everything_below() {
        for option in "ratime rdev rdiratime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime \
                       rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow"
            .split_whitespace()
        {
            let parsed = options(option);
            assert!(parsed.own.is_empty() && !parsed.below.is_empty(), "{option}");
            let alone = options(&option[1..]).own;
            let (set, clear) = (parsed.below.set, parsed.below.clear);
            let same = alone.set & set == set && (alone.clear == clear || option == "rrelatime");
            assert!(same, "{option}");
        }
    }

    #[test]
    fn what_is_for_mount_s_own_use_is_left_out() {
        let parsed = options("noauto nofail _netdev x-systemd.automount comment=hello user");
        assert!(parsed.data.is_empty());
        assert_eq!(parsed.own.set, attr::NO_SUID | attr::NO_DEV | attr::NO_EXEC);
    }
}
