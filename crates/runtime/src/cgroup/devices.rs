//! Rules of the device cgroup: the last one that matches decides.

use ketch_spec::runtime::DeviceRule;

use crate::error::{Error, Result};

/// A rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    /// None: character and block devices.
    pub block: Option<bool>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Bits: 1 mknod, 2 read, 4 write, as the kernel's device filters have them.
    pub access: u32,
}

pub(super) const MKNOD: u32 = 1;
pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;

/// Checks the rules. What comes before a rule about all devices does not count.
pub(super) fn check(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut checked = Vec::new();
    for rule in rules {
        let rule = check_one(rule)?;
        if rule.is_about_all() {
            checked.clear();
        }
        checked.push(rule);
    }
    Ok(checked)
}

fn check_one(rule: &DeviceRule) -> Result<Rule> {
    let wrong = |reason: String| Error::invalid("linux.resources.devices", reason);
    let block = match rule.kind.as_str() {
        "" | "a" => None,
        "b" => Some(true),
        "c" | "u" => Some(false),
        other => return Err(wrong(format!("unknown type {other:?}"))),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(format!("{number} is no device number"))),
        },
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            other => return Err(wrong(format!("unknown access {other:?}"))),
        };
    }
    // A rule without access is about all of it.
    let access = if access == 0 { ALL } else { access };
    let (major, minor) = (number(rule.major)?, number(rule.minor)?);
    if block.is_none() && (major.is_some() || minor.is_some() || access != ALL) {
        return Err(wrong(
            "a rule of type a is about all devices and all access".into(),
        ));
    }
    Ok(Rule {
        allow: rule.allow,
        block,
        major,
        minor,
        access,
    })
}

impl Rule {
    fn is_about_all(&self) -> bool {
        self.block.is_none()
    }
}

/// The lines that are written on version 1, and whether into `devices.allow`.
pub(super) fn v1_lines(rules: &[DeviceRule]) -> Result<Vec<(bool, String)>> {
    let line = |rule: Rule| {
        let Some(block) = rule.block else {
            return (rule.allow, "a".to_owned());
        };
        let number =
            |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String = letters
            .iter()
            .filter(|(bit, _)| rule.access & bit != 0)
            .map(|(_, letter)| letter)
            .collect();
        let kind = if block { 'b' } else { 'c' };
        (
            rule.allow,
            format!(
                "{kind} {}:{} {access}",
                number(rule.major),
                number(rule.minor)
            ),
        )
    };
    Ok(check(rules)?.into_iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major: (major >= 0).then_some(major),
            minor: Some(minor),
            access: access.into(),
        }
    }

    #[test]
    fn lines_are_as_the_kernel_reads_them() {
        let rules = [
            rule(true, "c", 9, 9, "r"),
            rule(false, "a", -1, -1, "rwm"),
            rule(true, "c", 1, 3, "rwm"),
            rule(true, "b", -1, -1, "m"),
        ];
        let lines = v1_lines(&rules).unwrap();
        let expected = [(false, "a"), (true, "c 1:3 rwm"), (true, "b *:* m")];
        assert_eq!(
            lines,
            expected.map(|(allow, line)| (allow, line.to_owned()))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            rule(true, "x", 1, 1, "r"),
            rule(true, "c", 1, 1, "q"),
            rule(true, "c", 1, -2, "r"),
            rule(true, "a", 1, 1, "rwm"),
            rule(true, "a", -1, -1, "r"),
        ] {
            assert!(check(std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
