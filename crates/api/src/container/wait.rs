//! `POST /containers/{id}/wait`.

use ketch_engine::container::{self, ExitRecord, WaitCondition};
use ketch_engine::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::{JSON, Reply};
use crate::shared::Shared;

/// The head is sent when the wait has begun: a client that starts the container then cannot miss its exit.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let condition = condition(call.query.get("condition").unwrap_or_default())?;
    let exiting = container::begin_wait(&shared.engine, &call.name, condition)?;
    Ok(Reply::stream(JSON, move |sink| {
        let value = match exiting.finish() {
            Ok(exit) => document(&exit),
            Err(error) => json!({"StatusCode": -1, "Error": {"Message": error.to_string()}}),
        };
        sink.send_json(&value);
    }))
}

fn condition(text: &str) -> Result<WaitCondition> {
    match text {
        "" | "not-running" => Ok(WaitCondition::NotRunning),
        "next-exit" => Ok(WaitCondition::NextExit),
        "removed" => Ok(WaitCondition::Removed),
        other => Err(Error::new(
            ErrorKind::Invalid,
            format!("invalid condition: {other:?}"),
        )),
    }
}

fn document(exit: &ExitRecord) -> Value {
    if exit.error.is_empty() {
        json!({"StatusCode": exit.code})
    } else {
        json!({"StatusCode": exit.code, "Error": {"Message": exit.error}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_dockers_names() {
        assert_eq!(condition("").unwrap(), WaitCondition::NotRunning);
        assert_eq!(condition("next-exit").unwrap(), WaitCondition::NextExit);
        assert_eq!(condition("removed").unwrap(), WaitCondition::Removed);
        assert_eq!(
            condition("gone").unwrap_err().message,
            "invalid condition: \"gone\""
        );
    }
}
