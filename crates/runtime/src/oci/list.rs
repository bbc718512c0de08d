//! `list`.

use super::error::Result;
use super::state::{FullState, full};
use super::store::{Id, Root};

/// The states of all containers, sorted by id; those that are being made are not among them. One that cannot be told is
/// the second list's, with the reason: it does not hide the others.
///
/// # Errors
/// What the kernel says.
pub fn list(root: &Root) -> Result<(Vec<FullState>, Vec<String>)> {
    let (mut states, mut warnings) = (Vec::new(), Vec::new());
    for id in root.ids()? {
        match one(root, &id) {
            Ok(state) => states.extend(state),
            // Removed meanwhile, or a file.
            Err(error) if error.is_not_found() => {}
            Err(error) => warnings.push(format!("container {id}: {error}")),
        }
    }
    Ok((states, warnings))
}

fn one(root: &Root, id: &Id) -> Result<Option<FullState>> {
    let entry = root.entry(id)?;
    let record = entry.record()?;
    record.map(|record| full(&entry, record)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_read_does_not_hide_others() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        for (name, file) in [("bad", "state.json"), ("half", "create.json")] {
            let directory = scratch.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join(file), "{bad").unwrap();
        }
        std::fs::write(scratch.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", scratch.path().join("link")).unwrap();
        let (states, warnings) = list(&root).unwrap();
        assert!(states.is_empty());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with("container bad: parse "),
            "{warnings:?}"
        );
    }
}
