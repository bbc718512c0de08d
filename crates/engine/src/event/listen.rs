//! Events as they happen, with those of the past before them.

use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::inotify::WatchFlags;

use super::{Event, Follower, Selection, read};
use crate::container::Watch;
use crate::{Engine, Error, ErrorKind, Result};

/// How long a wait lasts at most before the clock is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A listener. It misses nothing between its making and its end.
#[derive(Debug)]
pub struct Listener {
    follower: Follower,
    watch: Watch,
    selection: Selection,
    until: Option<Timestamp>,
    past: Vec<Event>,
}

impl Listener {
    /// Listens from now on; with `since` or `until`, first come the events of the past that are kept and lie between.
    ///
    /// # Errors
    /// Input and output.
    pub fn new(
        engine: &Engine,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        selection: Selection,
    ) -> Result<Self> {
        let directory = engine.paths().events_dir();
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        // Before the first look, so that nothing falls between the two.
        let watch = Watch::on(&directory, changes)?.ok_or_else(|| {
            let what = format!("no directory {}", directory.display());
            Error::new(ErrorKind::Internal, what)
        })?;
        let follower = Follower::from_now(engine)?;
        let past = match (since, until) {
            (None, None) => Vec::new(),
            _ => read(engine, since, until)?,
        };
        Ok(Self {
            follower,
            watch,
            selection,
            until,
            past,
        })
    }

    /// The events of the past, the oldest first. To be called first.
    ///
    /// # Errors
    /// Input and output.
    pub fn past(&mut self) -> Result<Vec<Event>> {
        let mut past = std::mem::take(&mut self.past);
        // What happened since the follower began is in both.
        let new = self.follower.take_new()?;
        let new = new.into_iter().filter(|event| !past.contains(event));
        let new: Vec<Event> = new.collect();
        past.extend(new);
        past.retain(|event| self.wants(event));
        Ok(past)
    }

    /// Waits until there are events, at most as long as `limit`, which may pass without any. None: the end of the time
    /// has come.
    ///
    /// # Errors
    /// Input and output.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Vec<Event>>> {
        let mut limit = limit.min(LOOK_AGAIN);
        if let Some(until) = self.until {
            let left = until.duration_since(Timestamp::now());
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => limit = limit.min(left),
                _ => return Ok(None),
            }
        }
        self.watch.wait(limit)?;
        let mut events = self.follower.take_new()?;
        events.retain(|event| self.wants(event));
        Ok(Some(events))
    }

    fn wants(&self, event: &Event) -> bool {
        self.until.is_none_or(|until| event.time <= until) && self.selection.has(event)
    }
}

#[cfg(test)]
mod tests {
    use super::super::publish;
    use super::*;
    use crate::test_support::engine;

    fn told(engine: &Engine, action: &str) {
        publish(engine, &Event::now("container", action, "x")).unwrap();
    }

    fn actions(events: Vec<Event>) -> Vec<String> {
        events.into_iter().map(|event| event.action).collect()
    }

    #[test]
    fn nothing_is_missed_and_nothing_told_twice() {
        let (_dir, engine) = engine();
        told(&engine, "one");
        let since = Some(Timestamp::UNIX_EPOCH);
        let mut all = Listener::new(&engine, since, None, Selection::default()).unwrap();
        let mut new = Listener::new(&engine, None, None, Selection::default()).unwrap();
        told(&engine, "two");
        assert_eq!(actions(all.past().unwrap()), ["one", "two"]);
        assert_eq!(actions(new.past().unwrap()), ["two"]);
        told(&engine, "three");
        let limit = Duration::from_secs(30);
        // The watch knows of the second event too: a wait may end with nothing new.
        let mut found = Vec::new();
        while found.is_empty() {
            found = all.next(limit).unwrap().unwrap();
        }
        assert_eq!(actions(found), ["three"]);
    }

    #[test]
    fn a_listener_ends_at_its_time() {
        let (_dir, engine) = engine();
        told(&engine, "one");
        let until = Some(Timestamp::now());
        let mut past = Listener::new(&engine, None, until, Selection::default()).unwrap();
        told(&engine, "later");
        assert_eq!(actions(past.past().unwrap()), ["one"]);
        assert_eq!(past.next(Duration::from_secs(30)).unwrap(), None);
    }
}
