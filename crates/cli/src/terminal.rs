//! What the terminal we sit at can tell.

use std::os::fd::AsFd;

/// Rows and columns of the terminal behind `stream`; None if it is no terminal or does not know its size.
pub fn size(stream: impl AsFd) -> Option<(u16, u16)> {
    let size = ketch_sys::pty::size(stream).ok()?;
    (size.rows > 0 && size.columns > 0).then_some((size.rows, size.columns))
}

/// The size that a container's terminal starts with: that of our output, else of our input.
pub fn session_size() -> Option<(u16, u16)> {
    size(std::io::stdout()).or_else(|| size(std::io::stdin()))
}
