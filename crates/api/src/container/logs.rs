//! `GET /containers/{id}/logs`.

use ketch_engine::container::logs::LogStream;
use ketch_engine::container::{self, LogLine, LogOptions};
use ketch_engine::{Error, ErrorKind, Result};

use crate::call::{Call, Query};
use crate::connection::framing::{self, Framing};
use crate::reply::Reply;
use crate::shared::Shared;

/// The log, and with `follow` what comes.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let options = options(&call.query)?;
    let id = container::resolve(&shared.engine, &call.name)?;
    let (config, _) = container::load(&shared.engine, &id)?;
    let reader = container::logs(&shared.engine, id.as_str(), options)?;
    let framing = Framing::of(config.process.tty);
    let look = Look {
        timestamps: call.query.flag("timestamps"),
        details: call.query.flag("details"),
    };
    Ok(Reply::stream(
        framing.content_type(call.version),
        move |sink| {
            for line in reader {
                let piece = match &line {
                    Ok(line) => framing.wrap(kind(line.stream), &look.of(line)),
                    // The head has been sent: the stream is the only place left for it.
                    Err(error) => framing.wrap(framing::ERROR, format!("{error}\n").as_bytes()),
                };
                if !sink.send(piece) || line.is_err() {
                    return;
                }
            }
        },
    ))
}

/// The number of a stream in frames.
pub fn kind(stream: LogStream) -> u8 {
    match stream {
        LogStream::Stdout => framing::STDOUT,
        LogStream::Stderr => framing::STDERR,
    }
}

fn options(query: &Query) -> Result<LogOptions> {
    let stream = match (query.flag("stdout"), query.flag("stderr")) {
        (true, true) => None,
        (true, false) => Some(LogStream::Stdout),
        (false, true) => Some(LogStream::Stderr),
        (false, false) => {
            return Err(Error::new(
                ErrorKind::Invalid,
                "Bad parameters: you must choose at least one stream",
            ));
        }
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        since: query.moment("since")?,
        until: query.moment("until")?,
        // What is not a number means all, as with Docker.
        tail: query.get("tail").and_then(|text| text.parse().ok()),
        stream,
    })
}

/// What stands before each message.
#[derive(Clone, Copy)]
struct Look {
    timestamps: bool,
    details: bool,
}

impl Look {
    fn of(self, line: &LogLine) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(line.bytes.len() + 40);
        if self.timestamps {
            let time = line.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ");
            bytes.extend_from_slice(time.to_string().as_bytes());
        }
        if self.details {
            // The attributes that a log driver was told to keep: ours keeps none.
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&line.bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stream_has_to_be_chosen() {
        let of = |text: &str| options(&Query::parse(text));
        assert_eq!(of("follow=1").unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(of("stderr=1").unwrap().stream, Some(LogStream::Stderr));
        let all = of("stdout=1&stderr=1&tail=all&since=5.5").unwrap();
        assert_eq!((all.stream, all.tail), (None, None));
        assert_eq!(all.since.unwrap().as_millisecond(), 5500);
        assert_eq!(of("stdout=1&tail=7").unwrap().tail, Some(7));
    }

    #[test]
    fn times_have_nine_digits() {
        let line = LogLine {
            stream: LogStream::Stdout,
            time: jiff::Timestamp::new(1, 5).unwrap(),
            bytes: b"hi\n".to_vec(),
        };
        let look = Look {
            timestamps: true,
            details: false,
        };
        assert_eq!(look.of(&line), b"1970-01-01T00:00:01.000000005Z hi\n");
    }
}
