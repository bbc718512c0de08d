//! Progress of saves, loads and imports: a line a layer.

use ketch_engine::image::{ArchiveObserver, ArchiveStep};

use crate::board::{Board, Status, Stream};
use crate::text;

/// Which work is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// `load`.
    Load,
    /// `save`.
    Save,
    /// `import`.
    Import,
}

/// Shows the steps of one save, load or import; or nothing.
pub struct ArchiveProgress {
    work: Work,
    board: Option<Board>,
}

impl ArchiveProgress {
    /// On a terminal, bars: those of `load` on standard output, as Docker's, the others on standard error, because
    /// standard output has the archive or the id. Elsewhere plain lines on standard error: what scripts read of
    /// standard output stays what it is. `quiet` shows nothing.
    pub fn new(work: Work, quiet: bool) -> Self {
        let on_terminal = work == Work::Load && rustix::termios::isatty(std::io::stdout());
        let stream = if on_terminal {
            Stream::Stdout
        } else {
            Stream::Stderr
        };
        Self {
            work,
            board: (!quiet).then(|| Board::new(stream)),
        }
    }

    /// The work is at its end, one way or the other.
    pub fn finish(&self) {
        if let Some(board) = &self.board {
            board.finish();
        }
    }
}

impl ArchiveObserver for ArchiveProgress {
    fn step(&self, step: ArchiveStep<'_>) {
        let Some(board) = &self.board else {
            return;
        };
        let (word, done) = match self.work {
            Work::Load => ("Loading layer", "Loaded"),
            Work::Save => ("Saving layer", "Saved"),
            Work::Import => ("Importing", "Imported"),
        };
        let (name, status) = match step {
            ArchiveStep::Progress {
                name,
                done_bytes,
                total_bytes,
            } => {
                let status = Status::Bar {
                    word,
                    done_bytes,
                    total_bytes,
                };
                (name, status)
            }
            ArchiveStep::Exists { name } => (name, Status::Done("Already exists".into())),
            ArchiveStep::Done { name, .. } => (name, Status::Done(done.into())),
        };
        board.set(label(name), status, true);
    }
}

/// Short for a digest; of a path in an older archive the part that names the layer.
fn label(name: &str) -> &str {
    if name.starts_with("sha256:") {
        return text::short_id(name);
    }
    let is_hex = |part: &&str| part.len() >= 12 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let stem = |part| str::split(part, '.').next().unwrap_or(part);
    match name.split('/').map(stem).find(is_hex) {
        Some(id) => text::short_id(id),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_short_names() {
        let hex = "0123456789abcdef";
        assert_eq!(label(&format!("sha256:{hex}")), "0123456789ab");
        assert_eq!(label(&format!("{hex}/layer.tar")), "0123456789ab");
        assert_eq!(label(&format!("{hex}.tar.gz")), "0123456789ab");
        assert_eq!(label("rootfs.tar"), "rootfs.tar");
    }
}
