//! `ketch events`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ketch_engine::event::{self, Event, Listener, Selection};
use serde_json::{Value, json};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter};
use crate::format::inspect::{self, Format};
use crate::{moment, output};

/// The command.
pub const COMMAND: Command = Command {
    names: &["system events", "events"],
    usage: "[OPTIONS]",
    about: "Get real time events from the server",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output: 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string", default_value = "")]
    until: String,
}

/// How long one wait for events lasts.
const WAIT: Duration = Duration::from_secs(3600);

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        // A template that does not parse is told before anything happens.
        Format::new(&self.format)?;
        let now = Timestamp::now();
        let time = |what, text: &str| match text {
            "" => Ok(None),
            text => moment::parse(what, text, now).map(Some),
        };
        let selection = Selection::of(filter::collect(self.filter, &event::KEYS)?);
        let (since, until) = (time("since", &self.since)?, time("until", &self.until)?);
        let mut listener = Listener::new(context.engine()?, since, until, selection)?;
        print(&listener.past()?, &self.format)?;
        while let Some(events) = listener.next(WAIT)? {
            print(&events, &self.format)?;
        }
        Ok(Exit::SUCCESS)
    }
}

fn print(events: &[Event], format: &str) -> Result<(), Failure> {
    let mut text = String::new();
    for event in events {
        text.push_str(&match format {
            "" => line(event),
            "json" | "{{json .}}" => event::document(event).to_string(),
            template => inspect::execute(template, &fields(event))?,
        });
        text.push('\n');
    }
    match text.is_empty() {
        true => Ok(()),
        false => output::print(&text),
    }
}

/// The document with the names that Go's fields have besides those of its JSON.
fn fields(event: &Event) -> Value {
    let mut document = event::document(event);
    for (json_name, go_name) in [
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ] {
        document[go_name] = match &document[json_name] {
            Value::Null => json!(""),
            value => value.clone(),
        };
    }
    document
}

/// `TIME TYPE ACTION ID (k=v, k=v)`.
fn line(event: &Event) -> String {
    let zoned = event.time.to_zoned_datetime(TimeZone::system());
    let time = zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    let time = match time.strip_suffix("+00:00") {
        Some(start) => format!("{start}Z"),
        None => time,
    };
    let Event {
        noun, action, id, ..
    } = event;
    let mut line = format!("{time} {noun} {action} {id}");
    let attributes: Vec<String> = event
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let mut event = Event::now("container", "start", "0123")
            .with("name", "web")
            .with("image", "busybox");
        event.time = "2026-11-10T02:14:46.5Z".parse().unwrap();
        let text = line(&event);
        assert!(
            text.ends_with(" container start 0123 (image=busybox, name=web)"),
            "{text}"
        );
        assert!(text.contains(":46.500000000"), "{text}");
        let all = "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.Status}} {{.From}} {{.TimeNano}}";
        assert_eq!(
            inspect::execute(all, &fields(&event)).unwrap(),
            "container start 0123 web start busybox 1794276886500000000"
        );
        let network = Event::now("network", "create", "n");
        assert_eq!(
            inspect::execute("[{{.From}}]", &fields(&network)).unwrap(),
            "[]"
        );
    }
}
