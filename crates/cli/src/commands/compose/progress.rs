//! What happens to images, networks, volumes and containers, told on standard error: line by line, or on a terminal in
//! place.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ketch_build::BuildObserver;
use ketch_compose::ComposeObserver;
use ketch_engine::image::{PullEvent, PullObserver};
use ketch_spec::size;

use crate::commands::image::Plain;
use crate::context::Context;
use crate::failure::Failure;
use crate::terminal;

use super::globals::Style;
use super::project;

/// Shortest time between two counts of a pull's bytes.
const REDRAW: Duration = Duration::from_millis(100);

/// Told of events besides those that are shown.
pub type Listener<'a> = dyn Fn(&str, &str) + Sync + 'a;

/// Shows events.
pub struct Progress<'a> {
    style: Style,
    colours: bool,
    to_stdout: bool,
    quiet_pull: bool,
    quiet_build: bool,
    cancelled: AtomicBool,
    listener: Option<&'a Listener<'a>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Subjects in the order of their first event.
    lines: Vec<Line>,
    /// How many lines stand on the terminal to be written over.
    drawn: usize,
}

struct Line {
    subject: String,
    status: String,
    began: Instant,
    took_ms: Option<u128>,
}

impl<'a> Progress<'a> {
    /// In the style that the flags and variables ask for.
    ///
    /// # Errors
    /// A variable with an unknown style.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let to_stdout = super::globals::is_on("COMPOSE_STATUS_STDOUT");
        let is_terminal = match to_stdout {
            true => rustix::termios::isatty(io::stdout()),
            false => rustix::termios::isatty(io::stderr()),
        };
        let globals = context.compose();
        let colours = globals.colours(is_terminal)?;
        let style = match globals.style()? {
            Style::Auto if is_terminal && colours => Style::Tty,
            Style::Auto => Style::Plain,
            style => style,
        };
        Ok(Self {
            style,
            colours,
            to_stdout,
            quiet_pull: style == Style::Quiet,
            quiet_build: style == Style::Quiet,
            cancelled: AtomicBool::new(false),
            listener: None,
            state: Mutex::default(),
        })
    }

    /// The same without the progress of pulls, or of builds, or of both.
    #[must_use]
    pub fn quiet(mut self, pull: bool, build: bool) -> Self {
        self.quiet_pull |= pull;
        self.quiet_build |= build;
        self
    }

    /// The same, telling another one, too.
    #[must_use]
    pub fn listened(mut self, listener: &'a Listener<'a>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// From now on nothing new begins.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Leaves what stands on the terminal as it is: what comes next is written below.
    pub fn settle(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.clear();
        state.drawn = 0;
    }

    fn write(&self, text: &str) {
        // Progress that nobody reads must not end the work.
        let _ = match self.to_stdout {
            true => io::stdout().lock().write_all(text.as_bytes()),
            false => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

impl ComposeObserver for Progress<'_> {
    fn event(&self, subject: &str, status: &str) {
        if let Some(listener) = self.listener {
            listener(subject, status);
        }
        if self.style == Style::Quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.style == Style::Plain {
            self.write(&format!(" {subject}  {status}\n"));
            return;
        }
        state.note(subject, status);
        let rows = terminal::size(io::stderr()).map_or(24, |(rows, _)| usize::from(rows));
        let text = state.draw(rows, self.colours);
        self.write(&text);
    }

    fn warning(&self, text: &str) {
        self.settle();
        project::warn(text);
    }

    fn build(&self, _: &str) -> Box<dyn BuildObserver + '_> {
        if self.quiet_build {
            return Box::new(ketch_build::Silent);
        }
        self.settle();
        Box::new(Plain::new())
    }

    fn pull(&self, service: &str) -> Box<dyn PullObserver + '_> {
        if self.quiet_pull || self.style != Style::Tty {
            return Box::new(ketch_engine::image::Silent);
        }
        Box::new(PullLine {
            progress: self,
            subject: service.to_owned(),
            layers: Mutex::default(),
        })
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// A pull on a terminal: one line that counts bytes, for several pulls go side by side.
struct PullLine<'a> {
    progress: &'a Progress<'a>,
    subject: String,
    layers: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    bytes: BTreeMap<String, (u64, u64)>,
    last: Option<Instant>,
}

impl PullObserver for PullLine<'_> {
    fn event(&self, event: PullEvent) {
        let PullEvent::Downloading {
            digest,
            done_bytes,
            total_bytes,
        } = event
        else {
            return;
        };
        let mut counted = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = (done_bytes, total_bytes);
        counted.bytes.insert(digest.to_string(), bytes);
        if counted.last.is_some_and(|last| last.elapsed() < REDRAW) {
            return;
        }
        counted.last = Some(Instant::now());
        let done = counted.bytes.values().map(|(done, _)| done).sum();
        let total = counted.bytes.values().map(|(_, total)| total).sum();
        let status = format!("{}/{} Pulling", size::human(done), size::human(total));
        self.progress.event(&self.subject, &status);
    }
}

/// Words of what is still going on.
fn is_going_on(status: &str) -> bool {
    status.ends_with("ing") && status != "Running" || status == "Recreate"
}

impl State {
    fn note(&mut self, subject: &str, status: &str) {
        let known = self.lines.iter().position(|line| line.subject == subject);
        let at = known.unwrap_or_else(|| {
            self.lines.push(Line {
                subject: subject.to_owned(),
                status: String::new(),
                began: Instant::now(),
                took_ms: None,
            });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        status.clone_into(&mut line.status);
        line.took_ms = (!is_going_on(status)).then(|| line.began.elapsed().as_millis());
    }

    /// The text that takes the place of what was drawn before: a head line and the last lines that there is room for.
    fn draw(&mut self, rows: usize, colours: bool) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r", self.drawn));
        }
        let done = self.lines.iter().filter(|line| line.took_ms.is_some());
        text.push_str(&format!(
            "\x1b[2K[+] Running {}/{}\n",
            done.count(),
            self.lines.len()
        ));
        let width = self.lines.iter().map(|line| line.subject.len()).max();
        let shown = self.lines.len().min(rows.saturating_sub(2).max(1));
        for line in &self.lines[self.lines.len() - shown..] {
            let (mark, colour) = match (line.took_ms, line.status.as_str()) {
                (None, _) => ("⠿", "33"),
                (Some(_), "Error") => ("✘", "31"),
                (Some(_), _) => ("✔", "32"),
            };
            let took = line.took_ms.unwrap_or(0);
            let row = format!(
                "{mark} {:width$}  {:10} {}.{}s",
                line.subject,
                line.status,
                took / 1000,
                took % 1000 / 100,
                width = width.unwrap_or(0)
            );
            if colours {
                text.push_str(&format!("\x1b[2K \x1b[{colour}m{row}\x1b[0m\n"));
            } else {
                text.push_str(&format!("\x1b[2K {row}\n"));
            }
        }
        self.drawn = shown + 1;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_over_in_their_order() {
        let mut state = State::default();
        state.note("Network p_default", "Creating");
        assert!(
            state
                .draw(24, false)
                .starts_with("\x1b[2K[+] Running 0/1\n")
        );
        state.note("Network p_default", "Created");
        state.note("Container p-a-1", "Creating");
        let text = state.draw(24, false);
        assert!(
            text.starts_with("\x1b[2A\r\x1b[2K[+] Running 1/2\n"),
            "{text:?}"
        );
        assert!(text.contains("✔ Network p_default  Created"), "{text:?}");
        assert!(text.contains("⠿ Container p-a-1    Creating"), "{text:?}");
        assert_eq!(state.drawn, 3);
    }

    #[test]
    fn no_more_lines_than_rows() {
        let mut state = State::default();
        (0..50).for_each(|n| state.note(&format!("Container {n}"), "Started"));
        assert_eq!(state.draw(10, true).lines().count(), 9);
    }

    #[test]
    fn words_that_end_and_words_that_do_not() {
        assert!(is_going_on("Creating") && is_going_on("Recreate") && is_going_on("Waiting"));
        assert!(!is_going_on("Running") && !is_going_on("Started") && !is_going_on("Healthy"));
    }
}
