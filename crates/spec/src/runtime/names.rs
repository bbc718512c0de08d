//! Objects whose names are the caller's: no name twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A map as of the specification's glossary: JSON objects must not include duplicate names. Whoever checks a document
/// may take another of the values than who acts upon it.
pub(super) fn unique<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Unique(PhantomData))
}

struct Unique<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry::<String, V>()? {
            if values.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate name {name:?}")));
            }
            values.insert(name, value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::Spec;

    #[test]
    fn a_name_is_given_once() {
        for text in [
            r#"{"annotations":{"a":"1","a":"1"}}"#,
            r#"{"linux":{"sysctl":{"a":"1","b":"2","a":"3"}}}"#,
            r#"{"linux":{"timeOffsets":{"a":{},"a":{}}}}"#,
            r#"{"linux":{"resources":{"rdma":{"a":{},"a":{}}}}}"#,
            r#"{"linux":{"resources":{"unified":{"a":"1","a":"2"}}}}"#,
        ] {
            let error = serde_json::from_str::<Spec>(text).unwrap_err().to_string();
            assert!(error.contains("duplicate name \"a\""), "{text}: {error}");
        }
        let fields = r#"{"hostname":"a","hostname":"b"}"#;
        let error = serde_json::from_str::<Spec>(fields)
            .unwrap_err()
            .to_string();
        assert!(error.contains("duplicate field `hostname`"), "{error}");
        let different = r#"{"annotations":{"a":"1","b":"1"}}"#;
        let spec: Spec = serde_json::from_str(different).unwrap();
        assert_eq!(spec.annotations.len(), 2);
    }
}
