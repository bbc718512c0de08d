//! Names and sets of capabilities.

use ketch_spec::runtime::Capabilities;
use ketch_sys::capability::{self, CapabilitySets};

use crate::error::{During, Result};

/// Names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const SETPCAP: u64 = 1 << 8;
const SYS_ADMIN: u64 = 1 << 21;

/// The names of all capabilities that the calling process could give, `CAP_` included, in the order of their numbers.
pub fn available() -> Vec<String> {
    let set = capability::bounding();
    let numbers = (0..NAMES.len()).filter(|number| set & (1 << number) != 0);
    numbers
        .map(|number| format!("CAP_{}", NAMES[number]))
        .collect()
}

/// The names of all capabilities that are known, `CAP_` included, in the order of their numbers.
pub fn known() -> Vec<String> {
    NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}

/// The five sets as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilityPlan {
    bounding: u64,
    sets: CapabilitySets,
    ambient: u64,
}

/// In the parent: turns names into bits, and warns of those that cannot be given: names that this kernel does not
/// know, capabilities that the caller does not have itself. As the specification wants they are left out, so that one
/// configuration serves machines with more and with less.
pub(crate) fn plan(capabilities: Option<&Capabilities>) -> Result<(CapabilityPlan, Vec<String>)> {
    let mut warnings = Vec::new();
    let Some(capabilities) = capabilities else {
        return Ok((CapabilityPlan::default(), warnings));
    };
    let mine = capability::get().during("read the own capabilities")?;
    let possible = capability::bounding() & mine.permitted;
    let mut bits = |names: &[String]| bits(names, possible, &mut warnings);
    let bounding = bits(&capabilities.bounding);
    let permitted = bits(&capabilities.permitted);
    let effective = bits(&capabilities.effective) & permitted;
    let inheritable = bits(&capabilities.inheritable);
    let ambient = bits(&capabilities.ambient) & permitted & inheritable;
    let plan = CapabilityPlan {
        bounding,
        sets: CapabilitySets {
            effective,
            permitted,
            inheritable,
        },
        ambient,
    };
    Ok((plan, warnings))
}

/// The possible ones of the capabilities that are named; of the others each is warned of once.
fn bits(names: &[String], possible: u64, warnings: &mut Vec<String>) -> u64 {
    let mut set = 0;
    for name in names {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        let bit = NAMES
            .iter()
            .position(|known| *known == bare)
            .map(|number| 1u64 << number);
        let why = match bit {
            Some(bit) if bit & possible != 0 => {
                set |= bit;
                continue;
            }
            Some(_) => "the runtime does not have it itself",
            None => "it is unknown",
        };
        let warning = format!("capability {name:?} is not given: {why}");
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    set
}

impl CapabilityPlan {
    /// In the child, before the change of user: limits the bounding set and lets permitted capabilities survive.
    pub fn before_user_change(&self) -> Result<()> {
        let step = "limit the capabilities";
        // All that will be permitted stays permitted over the change, and what the next steps need with it.
        capability::keep_over_user_change(true).during(step)?;
        capability::limit_bounding(self.bounding).during(step)
    }

    /// In the child, after the change of user: makes effective again what loading the filter needs.
    pub fn after_user_change(&self) -> Result<()> {
        let now = capability::get().during("read the own capabilities")?;
        let effective = now.permitted & (self.sets.permitted | SYS_ADMIN | SETPCAP);
        let sets = CapabilitySets { effective, ..now };
        capability::set(&sets).during("keep capabilities over the change of user")
    }

    /// In the child, at the very end: the final sets.
    pub fn finish(&self) -> Result<()> {
        let step = "set the capabilities";
        capability::set(&self.sets).during(step)?;
        capability::keep_over_user_change(false).during(step)?;
        capability::set_ambient(self.ambient).during(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers() {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let bits = |list: &[&str]| {
            let mut warnings = Vec::new();
            (super::bits(&names(list), !2, &mut warnings), warnings)
        };
        let both = ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"];
        assert_eq!(bits(&both), (1 | 1 << 40, vec![]));
        assert_eq!(bits(&["SYS_ADMIN"]), (SYS_ADMIN, vec![]));
        assert_eq!(bits(&["CAP_SETPCAP"]), (SETPCAP, vec![]));
        let (set, warnings) = bits(&["CAP_FLY", "CAP_DAC_OVERRIDE", "CAP_FLY"]);
        assert_eq!((set, warnings.len()), (0, 2));
        assert!(warnings[0].contains("\"CAP_FLY\" is not given: it is unknown"));
        assert!(warnings[1].contains("does not have it itself"));
    }

    #[test]
    fn no_capabilities_means_none() {
        assert_eq!(plan(None).unwrap(), (CapabilityPlan::default(), vec![]));
    }
}
