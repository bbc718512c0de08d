//! `GET /events`.

use std::time::Duration;

use ketch_engine::Result;
use ketch_engine::event::{self, KEYS, Listener, Selection};

use crate::call::Call;
use crate::reply::{JSON, Reply};
use crate::shared::Shared;

/// How long a client that has gone keeps its thread at most.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The stream: what is kept since `since`, then what happens, until `until` or until the client goes.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let selection = Selection::of(call.query.filters(&KEYS)?);
    let (since, until) = (call.query.moment("since")?, call.query.moment("until")?);
    let mut listener = Listener::new(&shared.engine, since, until, selection)?;
    Ok(Reply::stream(JSON, move |sink| {
        let Ok(mut events) = listener.past() else {
            return sink.abort();
        };
        loop {
            for event in &events {
                if !sink.send_json(&event::document(event)) {
                    return;
                }
            }
            if sink.is_closed() {
                return;
            }
            events = match listener.next(LOOK_AGAIN) {
                Ok(Some(events)) => events,
                Ok(None) => return,
                Err(_) => return sink.abort(),
            };
        }
    }))
}
