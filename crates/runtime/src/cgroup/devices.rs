//! Rules of the device cgroup: the last one that matches decides, and what none matches is refused.
//!
//! As with runc, the rules of a specification are followed by those for the devices that every container has: a
//! specification as most tools write it refuses everything and relies on that.

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

/// Devices that every container may use: null, zero, full, random, urandom, tty, console, ptmx, pts; and making any
/// node, which is no use of it. (block, major, minor, access)
const ALWAYS: [(bool, Option<u32>, Option<u32>, u32); 11] = [
    (false, None, None, MKNOD),
    (true, None, None, MKNOD),
    (false, Some(1), Some(3), ALL),
    (false, Some(1), Some(5), ALL),
    (false, Some(1), Some(7), ALL),
    (false, Some(1), Some(8), ALL),
    (false, Some(1), Some(9), ALL),
    (false, Some(5), Some(0), ALL),
    (false, Some(5), Some(1), ALL),
    (false, Some(5), Some(2), ALL),
    (false, Some(136), None, ALL),
];

/// Checks the rules and adds those about what is always allowed. What comes before a rule about all devices does not
/// count, and neighbours about the same devices become one.
pub(super) fn check(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut checked = Vec::new();
    for rule in rules {
        add(&mut checked, check_one(rule)?);
    }
    if !matches!(
        checked.as_slice(),
        [Rule {
            allow: true,
            block: None,
            ..
        }]
    ) {
        for (block, major, minor, access) in ALWAYS {
            let allow = true;
            let block = Some(block);
            add(
                &mut checked,
                Rule {
                    allow,
                    block,
                    major,
                    minor,
                    access,
                },
            );
        }
    }
    Ok(checked)
}

fn add(rules: &mut Vec<Rule>, rule: Rule) {
    if rule.is_about_all() {
        rules.clear();
    }
    // Reading and writing allowed one after the other is both allowed at once, unless something between them forbids.
    for earlier in rules.iter_mut().rev() {
        if earlier.is_about_the_same(rule) && earlier.allow == rule.allow {
            earlier.access |= rule.access;
            return;
        }
        if earlier.allow != rule.allow && earlier.overlaps(rule) {
            break;
        }
    }
    rules.push(rule);
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
    fn is_about_all(self) -> bool {
        self.block.is_none()
    }

    fn is_about_the_same(self, other: Self) -> bool {
        (self.block, self.major, self.minor) == (other.block, other.major, other.minor)
    }

    /// Whether there is a device that both are about.
    fn overlaps(self, other: Self) -> bool {
        let meet =
            |one: Option<u32>, two: Option<u32>| one.is_none() || two.is_none() || one == two;
        let kinds = self.block.is_none() || other.block.is_none() || self.block == other.block;
        kinds && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// Whether it is about all devices that `other` is about.
    fn covers(self, other: Self) -> bool {
        let wider = |one: Option<u32>, two: Option<u32>| one.is_none() || one == two;
        let kinds = self.block.is_none() || self.block == other.block;
        kinds && wider(self.major, other.major) && wider(self.minor, other.minor)
    }
}

/// The lines that are written on version 1, and whether into `devices.allow`: first what happens by default, then the
/// exceptions, which is all that version 1 knows.
pub(super) fn v1_lines(rules: &[DeviceRule]) -> Result<Vec<(bool, String)>> {
    let mut default = false;
    let mut exceptions: Vec<Rule> = Vec::new();
    for rule in check(rules)? {
        if rule.is_about_all() {
            default = rule.allow;
            exceptions.clear();
        } else if rule.allow != default {
            exceptions.push(rule);
        } else {
            withdraw(&mut exceptions, rule)?;
        }
    }
    let mut lines = vec![(default, "a".to_owned())];
    lines.extend(
        exceptions
            .into_iter()
            .map(|rule| (rule.allow, v1_line(rule))),
    );
    Ok(lines)
}

/// Takes `rule` out of the exceptions. A part of one cannot be taken out: version 1 would ignore it in silence.
fn withdraw(exceptions: &mut Vec<Rule>, rule: Rule) -> Result<()> {
    for exception in exceptions
        .iter_mut()
        .filter(|exception| exception.overlaps(rule))
    {
        if rule.covers(*exception) {
            exception.access &= !rule.access;
        } else if exception.access & rule.access != 0 {
            let reason = format!(
                "version 1 of cgroups cannot take {} out of {}",
                v1_line(rule),
                v1_line(*exception)
            );
            return Err(Error::unsupported("linux.resources.devices", reason));
        }
    }
    exceptions.retain(|exception| exception.access != 0);
    Ok(())
}

fn v1_line(rule: Rule) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access: String = letters
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    let kind = if rule.block == Some(true) { 'b' } else { 'c' };
    format!(
        "{kind} {}:{} {access}",
        number(rule.major),
        number(rule.minor)
    )
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

    fn lines(rules: &[DeviceRule]) -> Vec<(bool, String)> {
        let mut lines = v1_lines(rules).unwrap();
        // What is always allowed comes last.
        let own = lines.len().saturating_sub(ALWAYS.len());
        if lines.len() > ALWAYS.len() {
            lines.truncate(own.max(1));
        }
        lines
    }

    #[test]
    fn lines_are_as_the_kernel_reads_them() {
        let rules = [
            rule(true, "c", 9, 9, "r"),
            rule(false, "a", -1, -1, "rwm"),
            rule(true, "c", 10, 200, "r"),
            rule(true, "c", 10, 200, "wm"),
            rule(true, "b", 8, -1, "r"),
        ];
        let expected = [(false, "a"), (true, "c 10:200 rwm"), (true, "b 8:* r")];
        assert_eq!(
            lines(&rules),
            expected.map(|(allow, line)| (allow, line.to_owned()))
        );
        let everything = [rule(true, "a", -1, -1, "rwm")];
        assert_eq!(v1_lines(&everything).unwrap(), [(true, "a".to_owned())]);
        assert_eq!(lines(&[]), [(false, "a".to_owned())]);
    }

    #[test]
    fn what_is_always_allowed_follows_and_is_enough_for_a_shell() {
        let all = v1_lines(&[rule(false, "a", -1, -1, "rwm")]).unwrap();
        assert_eq!(all.len(), 1 + ALWAYS.len());
        assert!(
            all.contains(&(true, "c 1:3 rwm".into())) && all.contains(&(true, "b *:* m".into()))
        );
    }

    #[test]
    fn a_rule_takes_back_what_an_earlier_one_gave() {
        let rules = [
            rule(false, "a", -1, -1, "rwm"),
            rule(true, "c", 10, 200, "rwm"),
            rule(true, "c", 10, 201, "rwm"),
            rule(false, "c", 10, -1, "w"),
            rule(false, "c", 10, 201, "rm"),
        ];
        let expected = [(false, "a"), (true, "c 10:200 rm")];
        assert_eq!(
            lines(&rules),
            expected.map(|(allow, line)| (allow, line.to_owned()))
        );
        let part = [
            rule(true, "c", 10, -1, "rw"),
            rule(false, "c", 10, 200, "w"),
        ];
        assert!(
            v1_lines(&part)
                .unwrap_err()
                .to_string()
                .contains("c 10:200 w out of c 10:* rw")
        );
        // Version 2 can.
        assert_eq!(
            check(&part).unwrap()[..2]
                .iter()
                .filter(|rule| rule.allow)
                .count(),
            1
        );
    }

    #[test]
    fn rules_about_the_same_become_one_unless_something_is_between() {
        let merged = check(&[rule(true, "c", 10, 1, "r"), rule(true, "c", 10, 1, "w")]).unwrap();
        assert_eq!(merged[0].access, READ | WRITE);
        let kept = check(&[
            rule(true, "c", 10, 1, "r"),
            rule(false, "c", 10, -1, "r"),
            rule(true, "c", 10, 1, "w"),
        ])
        .unwrap();
        assert_eq!(
            kept[..3].iter().map(|rule| rule.access).collect::<Vec<_>>(),
            [READ, READ, WRITE]
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
