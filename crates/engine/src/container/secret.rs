//! Variables that must never be written to a disk: they go from the starting command to the monitor in memory.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;

/// More than any program's environment may be: what is longer comes from nobody of ours.
const MAX_BYTES: u64 = 16 << 20;

/// `NAME=value` each, for a container's environment and for no record, log or key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretEnv(Vec<String>);

impl SecretEnv {
    /// Takes variables.
    pub fn new(variables: Vec<String>) -> Self {
        Self(variables)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts them into an environment, in the place of those of the same names.
    pub fn apply(&self, env: &mut Vec<String>) {
        for variable in &self.0 {
            let name = name_of(variable);
            env.retain(|other| name_of(other) != name);
            env.push(variable.clone());
        }
    }

    /// Writes them to memory that only its descriptor leads to (memfd_create(2)), to be inherited by the monitor.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn to_memory(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(rustix::fs::memfd_create("ketch", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&self.0)?)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.into())
    }

    /// Reads what the starting command has left in memory, and lets go of that.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` for what is no list of variables.
    pub fn from_memory(memory: OwnedFd) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::from(memory).take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(Self(serde_json::from_slice(&bytes)?))
    }
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

impl fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretEnv({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_go_through_memory_and_are_not_shown() {
        let secrets = SecretEnv::new(vec!["TOKEN=a\nb".into(), "EMPTY=".into()]);
        let memory = secrets.to_memory().unwrap();
        assert_eq!(SecretEnv::from_memory(memory).unwrap(), secrets);
        assert_eq!(format!("{secrets:?}"), "SecretEnv(2 variables)");
    }

    #[test]
    fn a_secret_takes_the_place_of_a_variable_of_its_name() {
        let mut env = vec!["A=1".to_owned(), "TOKEN=public".into(), "TOKENS=2".into()];
        SecretEnv::new(vec!["TOKEN=x".into()]).apply(&mut env);
        assert_eq!(env, ["A=1", "TOKENS=2", "TOKEN=x"]);
    }
}
