//! `--chmod`: octal (`755`, `0644`, `u+rwX,go-w`) as chmod(1) reads it.

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits.
    Set(u32),
    /// Clauses in order.
    Clauses(Vec<Clause>),
}

/// One clause of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Which classes, as a mask of permission, set-id and sticky bits.
    who: u32,
    operator: char,
    /// `r`, `w`, `x`, `s`, `t` as bits of every class.
    bits: u32,
    /// `X`: execute, for directories and what is executable already.
    execute_if: bool,
}

impl ModeChange {
    /// Reads a mode; None if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .map(Self::Set);
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        clauses.map(|clauses| Self::Clauses(clauses.concat()))
    }

    /// The bits after the change.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Set(bits) => *bits,
            Self::Clauses(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = self.bits;
        if self.execute_if && (is_directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !(self.who & 0o777)) | bits,
        }
    }
}

/// `ugo+rw-x`: several operators may follow one list of classes.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let rest = text.trim_start_matches(['u', 'g', 'o', 'a']);
    let classes = &text[..text.len() - rest.len()];
    let class = |c| match c {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o1007,
        _ => 0o7777,
    };
    let who = if classes.is_empty() {
        0o7777
    } else {
        classes.chars().map(class).fold(0, |all, mask| all | mask)
    };
    let mut found: Vec<Clause> = Vec::new();
    for c in rest.chars() {
        if matches!(c, '+' | '-' | '=') {
            found.push(Clause {
                who,
                operator: c,
                bits: 0,
                execute_if: false,
            });
            continue;
        }
        let clause = found.last_mut()?;
        match c {
            'r' => clause.bits |= 0o444,
            'w' => clause.bits |= 0o222,
            'x' => clause.bits |= 0o111,
            's' => clause.bits |= 0o6000,
            't' => clause.bits |= 0o1000,
            'X' => clause.execute_if = true,
            _ => return None,
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, before, directory, after) in [
            ("755", 0o600, false, 0o755),
            ("04711", 0o600, false, 0o4711),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o755, true, 0o700),
            ("a=rX", 0o640, false, 0o444),
            ("a=rX", 0o750, false, 0o555),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("u+rw-x", 0o500, false, 0o600),
            ("g+s", 0o755, true, 0o2755),
            ("o=", 0o757, false, 0o750),
        ] {
            let change = ModeChange::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(change.apply(before, directory), after, "{text}");
        }
        for bad in ["", "88", "77777", "u", "u+q", "rwx", "u+x,", "0o644"] {
            assert_eq!(ModeChange::parse(bad), None, "{bad}");
        }
    }
}
