//! Annotations `org.systemd.property.NAME`: properties that a scope gets beside those of limits, as runc has them.

use std::collections::BTreeMap;

use super::properties::Property;
use super::text;
use super::wire::Value;
use crate::error::{Error, Result};

const PREFIX: &str = "org.systemd.property.";
/// Shortest name of a property.
const SHORTEST: usize = 3;
const US_PER_S: u64 = 1_000_000;

/// Properties of a container's scope that its annotations ask for.
#[derive(Debug, Clone, Default)]
pub struct ScopeProperties(Vec<Property>);

impl ScopeProperties {
    /// From all annotations of a container; those of others are passed over. `…Sec` is turned into `…USec`, which is
    /// what systemd knows on the bus.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a name that is none of a property, a value that is none in GVariant's text form.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let ours = annotations
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
        let property = |(name, value): (&str, &String)| {
            property(name, value).map_err(|reason| {
                Error::invalid("annotations", format!("{PREFIX}{name}={value:?}: {reason}"))
            })
        };
        ours.map(property).collect::<Result<_>>().map(Self)
    }

    pub(super) fn list(&self) -> &[Property] {
        &self.0
    }
}

fn property(name: &str, value: &str) -> Result<Property, String> {
    if name.len() < SHORTEST || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("properties are named with letters, three at least".into());
    }
    let value = text::parse(value)?;
    // `TimeoutStopSec`, but not `SEC` or a property that is called `Sec` alone.
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            Ok((format!("{stem}USec").into(), microseconds(&value)?))
        }
        _ => Ok((name.to_owned().into(), value)),
    }
}

fn microseconds(value: &Value) -> Result<Value, String> {
    let whole = |seconds: Option<u64>| seconds.and_then(|seconds| seconds.checked_mul(US_PER_S));
    let microseconds = match *value {
        Value::Byte(seconds) => whole(Some(seconds.into())),
        Value::I16(seconds) => whole(seconds.try_into().ok()),
        Value::U16(seconds) => whole(Some(seconds.into())),
        Value::I32(seconds) => whole(seconds.try_into().ok()),
        Value::U32(seconds) => whole(Some(seconds.into())),
        Value::I64(seconds) => whole(seconds.try_into().ok()),
        Value::U64(seconds) => whole(Some(seconds)),
        Value::Double(bits) => {
            let exact = f64::from_bits(bits) * US_PER_S as f64;
            (0.0..u64::MAX as f64)
                .contains(&exact)
                .then_some(exact as u64)
        }
        _ => None,
    };
    microseconds
        .map(Value::U64)
        .ok_or_else(|| "that is no number of seconds".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<Vec<Property>> {
        let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        ScopeProperties::from_annotations(&annotations).map(|properties| properties.0)
    }

    #[test]
    fn annotations_are_properties() {
        let text = Value::text("inactive");
        for (asked, value, told, expected) in [
            ("TasksMax", "uint64 7", "TasksMax", Value::U64(7)),
            (
                "TimeoutStopSec",
                "3",
                "TimeoutStopUSec",
                Value::U64(3_000_000),
            ),
            (
                "TimeoutStopSec",
                "0.5",
                "TimeoutStopUSec",
                Value::U64(500_000),
            ),
            (
                "TimeoutStopUSec",
                "uint64 3",
                "TimeoutStopUSec",
                Value::U64(3),
            ),
            ("CollectMode", "'inactive'", "CollectMode", text),
        ] {
            let key = format!("{PREFIX}{asked}");
            assert_eq!(read(&key, value).unwrap(), [(told.into(), expected)]);
        }
        for other in ["org.systemd", "org.systemd.properties.A", "a"] {
            assert!(read(other, "no value").unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("Ab", "1"),
            ("", "1"),
            ("A.B.C", "1"),
            ("Abcé", "1"),
            ("TasksMax", "seven"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'3'"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("TimeoutStopSec", "-0.5"),
        ] {
            let key = format!("{PREFIX}{name}");
            let error = read(&key, value).unwrap_err().to_string();
            assert!(error.contains(&key), "{error}");
        }
    }
}
