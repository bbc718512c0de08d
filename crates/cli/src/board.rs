//! Lines of progress that change: kept in place on a terminal, written anew on each change of state elsewhere.
//!
//! On a terminal the whole block is drawn again each time, from what the terminal's size is then: a line never wraps, a
//! block never becomes higher than the screen, and one that a smaller window has wrapped is found again.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ketch_spec::size;
use unicode_width::UnicodeWidthStr;

use crate::{terminal, text};

/// Shortest time between two redraws because of a bar.
const REDRAW: Duration = Duration::from_millis(100);
/// Characters of a bar.
const BAR: u64 = 50;
/// Terminals with fewer columns get numbers without a bar, as Docker's client has it.
const BAR_COLUMNS: usize = 110;
/// The size of a terminal that does not tell.
const UNKNOWN_SIZE: (u16, u16) = (24, 200);

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a line says after its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// At work.
    Text(String),
    /// Nothing more will come.
    Done(String),
    /// So many bytes of so many; 0 of all if nobody knows.
    Bar {
        /// What is being done.
        word: &'static str,
        /// Bytes so far.
        done_bytes: u64,
        /// All of them.
        total_bytes: u64,
    },
}

/// The lines.
pub struct Board {
    stream: Stream,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: Vec<(String, Status)>,
    /// Display widths of the rows that the last drawing wrote.
    drawn: Vec<usize>,
    /// Whether that left lines out.
    cut: bool,
    last_bar: Option<Instant>,
}

impl Board {
    /// A board without lines. A terminal that cannot move its cursor (`TERM=dumb`) is none.
    pub fn new(stream: Stream) -> Self {
        let terminal = match stream {
            Stream::Stdout => rustix::termios::isatty(io::stdout()),
            Stream::Stderr => rustix::termios::isatty(io::stderr()),
        };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stream,
            terminal: terminal && !dumb,
            state: Mutex::default(),
        }
    }

    /// Writes text that does not change, above the lines. Only before the first line.
    pub fn heading(&self, text: &str) {
        self.write(text);
    }

    /// Adds lines for ids that have none yet.
    pub fn add(&self, ids: impl IntoIterator<Item = String>, status: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plain = String::new();
        for id in ids {
            if state.lines.iter().all(|(known, _)| *known != id) {
                plain.push_str(&format!("{id}: {status}\n"));
                state.lines.push((id, Status::Text(status.to_owned())));
            }
        }
        if self.terminal {
            self.draw(&mut state, false);
        } else {
            self.write(&plain);
        }
    }

    /// Changes a line; makes it, if `may_add`.
    pub fn set(&self, id: &str, status: Status, may_add: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_bar = matches!(status, Status::Bar { .. });
        if is_bar && !self.terminal {
            return;
        }
        match state.lines.iter().position(|(known, _)| known == id) {
            Some(at) if state.lines[at].1 == status => return,
            Some(at) => state.lines[at].1 = status,
            None if may_add => state.lines.push((id.to_owned(), status)),
            None => return,
        }
        if is_bar {
            // Kept for the next drawing; this one would come too early.
            if state.last_bar.is_some_and(|last| last.elapsed() < REDRAW) {
                return;
            }
            state.last_bar = Some(Instant::now());
        }
        if self.terminal {
            self.draw(&mut state, false);
        } else if let Some((id, status)) = state.lines.iter().find(|(known, _)| known == id) {
            let line = line(id, status, usize::MAX);
            self.write(&format!("{line}\n"));
        }
    }

    /// Nothing changes any more: lines that did not fit are written too, and what comes next is below them.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.terminal && !state.lines.is_empty() {
            self.draw(&mut state, true);
        }
        state.lines.clear();
        state.drawn.clear();
    }

    fn draw(&self, state: &mut State, whole: bool) {
        let size = match self.stream {
            Stream::Stdout => terminal::size(io::stdout()),
            Stream::Stderr => terminal::size(io::stderr()),
        };
        let (rows, columns) = size.unwrap_or(UNKNOWN_SIZE);
        let text = frame(state, usize::from(rows), usize::from(columns), whole);
        self.write(&text);
    }

    fn write(&self, text: &str) {
        // Progress that nobody reads must not end the work.
        let _ = match self.stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What takes the last drawing away and writes the next.
fn frame(state: &mut State, rows: usize, columns: usize, whole: bool) -> String {
    let columns = columns.max(1);
    // A window that became narrower has wrapped the old rows.
    let height: usize = state
        .drawn
        .iter()
        .map(|width| width.div_ceil(columns).max(1))
        .sum();
    let up = height.min(rows.saturating_sub(1));
    let mut out = String::new();
    if up > 0 {
        out.push_str(&format!("\x1b[{up}A"));
    }
    out.push_str("\r\x1b[J");
    let shown = if whole {
        state.lines.iter().collect()
    } else {
        visible(&state.lines, rows)
    };
    state.cut = shown.len() < state.lines.len();
    state.drawn.clear();
    let mut row = |text: String| {
        // The last column stays free: some terminals wrap once it is filled.
        let text = text::ellipsis(&text, columns.saturating_sub(1).max(1));
        state.drawn.push(text.width());
        out.push_str(&text);
        out.push('\n');
    };
    for (id, status) in &shown {
        row(line(id, status, columns));
    }
    if state.cut {
        let hidden = state.lines.len() - shown.len();
        row(format!("… {hidden} more"));
    }
    out
}

/// The lines that fit with a row to spare, and one for the count of the others: those at work before those done.
fn visible(lines: &[(String, Status)], rows: usize) -> Vec<&(String, Status)> {
    let room = rows.saturating_sub(1).max(1);
    if lines.len() <= room {
        return lines.iter().collect();
    }
    let room = room.saturating_sub(1).max(1);
    let is_done = |line: &&(String, Status)| matches!(line.1, Status::Done(_));
    let working = lines.iter().filter(|line| !is_done(line));
    let mut shown: Vec<&(String, Status)> = working.take(room).collect();
    let missing = room - shown.len();
    let done: Vec<_> = lines.iter().filter(is_done).collect();
    let last = done.len().saturating_sub(missing);
    let mut head: Vec<_> = done[last..].to_vec();
    head.append(&mut shown);
    head
}

/// `abc123: Downloading [=====>      ]   1.2MB/3.4MB`, the words of Docker's client.
fn line(id: &str, status: &Status, columns: usize) -> String {
    match status {
        Status::Text(text) | Status::Done(text) => format!("{id}: {text}"),
        Status::Bar {
            word,
            done_bytes,
            total_bytes: 0,
        } => format!("{id}: {word} {:>8}", size::human_long(*done_bytes)),
        Status::Bar {
            word,
            done_bytes,
            total_bytes,
        } => {
            let done = size::human_long(*done_bytes);
            let total = size::human_long(*total_bytes);
            let bar = if columns > BAR_COLUMNS {
                bar(*done_bytes, *total_bytes)
            } else {
                String::new()
            };
            format!("{id}: {word} {bar}{done:>8}/{total}")
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let filled = done.saturating_mul(BAR).checked_div(total).unwrap_or(0);
    let filled = usize::try_from(filled.min(BAR)).unwrap_or(0);
    let empty = usize::try_from(BAR).unwrap_or(0) - filled;
    format!("[{}>{}] ", "=".repeat(filled), " ".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_work(word: &'static str, done_bytes: u64, total_bytes: u64) -> Status {
        Status::Bar {
            word,
            done_bytes,
            total_bytes,
        }
    }

    #[test]
    fn bars_fill_from_the_left_and_go_where_there_is_no_room() {
        assert_eq!(
            line("abc", &at_work("Pushing", 500, 1000), 200),
            format!(
                "abc: Pushing [{}>{}]     500B/1kB",
                "=".repeat(25),
                " ".repeat(25)
            )
        );
        assert_eq!(
            line("abc", &at_work("Pushing", 9, 9), 200),
            format!("abc: Pushing [{}>]       9B/9B", "=".repeat(50))
        );
        assert_eq!(
            line("abc", &at_work("Pushing", 500, 1000), 80),
            "abc: Pushing     500B/1kB"
        );
        assert_eq!(
            line("abc", &at_work("Loading layer", 500, 0), 200),
            "abc: Loading layer     500B"
        );
    }

    #[test]
    fn a_block_never_wraps_and_never_is_higher_than_the_screen() {
        let mut state = State::default();
        for number in 0..30 {
            let status = if number < 20 {
                Status::Done("Pull complete".into())
            } else {
                Status::Text("Waiting".into())
            };
            state.lines.push((format!("layer{number:02}"), status));
        }
        let text = frame(&mut state, 10, 12, false);
        let rows: Vec<&str> = text.trim_start_matches("\r\x1b[J").lines().collect();
        assert_eq!(rows.len(), 9, "{text:?}");
        assert!(rows.iter().all(|row| row.width() < 12), "{rows:?}");
        assert!(rows[0].starts_with("layer20"), "work comes first: {rows:?}");
        assert_eq!(rows[8], "… 22 more");
        let next = frame(&mut state, 10, 12, false);
        assert!(next.starts_with("\x1b[9A\r\x1b[J"), "{next:?}");
        let last = frame(&mut state, 10, 40, true);
        assert_eq!(last.matches('\n').count(), 30);
    }

    #[test]
    fn rows_that_a_smaller_window_wrapped_are_found_again() {
        let mut state = State::default();
        state
            .lines
            .push(("abc".into(), Status::Text("x".repeat(50))));
        frame(&mut state, 24, 80, false);
        let text = frame(&mut state, 24, 20, false);
        assert!(text.starts_with("\x1b[3A\r\x1b[J"), "{text:?}");
        assert!(text.ends_with("…\n"), "{text:?}");
    }
}
