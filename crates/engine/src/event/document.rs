//! Docker's document about an event (Engine API, `EventMessage`).

use serde_json::{Map, Value, json};

use super::Event;

/// The document; `status`, `id` and `from` are for clients from before API 1.22.
pub fn document(event: &Event) -> Value {
    let mut found = Map::new();
    if matches!(event.noun.as_str(), "container" | "image") {
        found.insert("status".into(), json!(event.action));
        found.insert("id".into(), json!(event.id));
        if let Some(image) = event.attributes.get("image") {
            found.insert("from".into(), json!(image));
        }
    }
    found.insert("Type".into(), json!(event.noun));
    found.insert("Action".into(), json!(event.action));
    found.insert(
        "Actor".into(),
        json!({"ID": event.id, "Attributes": event.attributes}),
    );
    found.insert("scope".into(), json!("local"));
    found.insert("time".into(), json!(event.time.as_second()));
    let nanoseconds = i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX);
    found.insert("timeNano".into(), json!(nanoseconds));
    Value::Object(found)
}
