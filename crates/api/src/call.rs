//! One request, taken apart.

use hyper::body::Bytes;
use ketch_engine::filter::Filters;
use ketch_engine::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

use crate::filters;
use crate::moment;
use crate::version::Version;

/// A request whose body has been read.
#[derive(Debug, Clone)]
pub struct Call {
    /// The version of the API that the client speaks.
    pub version: Version,
    /// What stands for `{id}` or `{name}` in the route.
    pub name: String,
    /// The query.
    pub query: Query,
    /// `Content-Type`, without parameters.
    pub content_type: String,
    /// `X-Registry-Auth`, as it came.
    pub registry_auth: String,
    /// `X-Registry-Config`, as it came.
    pub registry_config: String,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// The body as JSON.
    ///
    /// # Errors
    /// `Invalid` for another content type, an empty body, or one that does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        if self.body.is_empty() {
            return Err(invalid(
                "invalid JSON: got EOF while reading request body".into(),
            ));
        }
        if self.content_type != "application/json" {
            return Err(invalid(format!(
                "unsupported Content-Type header ({}): must be 'application/json'",
                self.content_type
            )));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| invalid(format!("invalid JSON: {error}")))
    }

    /// The body as JSON, or the default where there is none.
    ///
    /// # Errors
    /// As [`Call::json`].
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T> {
        if self.body.is_empty() {
            Ok(T::default())
        } else {
            self.json()
        }
    }
}

/// The parameters of a query, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands behind the `?`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key, true), decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a parameter that is given and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(have, _)| have == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter that are not empty.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(have, value)| have == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Docker's idea of a boolean: missing, empty, `0`, `no`, `false` and `none` are false.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| {
            !matches!(
                value.trim().to_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            )
        })
    }

    /// A number.
    ///
    /// # Errors
    /// `Invalid` for something else.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.get(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::new(
                        ErrorKind::Invalid,
                        format!("invalid value for {key:?}: {text:?} is not a number"),
                    )
                })
            })
            .transpose()
    }

    /// A point in time.
    ///
    /// # Errors
    /// `Invalid` for something else.
    pub fn moment(&self, key: &str) -> Result<Option<jiff::Timestamp>> {
        moment::parse(
            key,
            self.get(key).unwrap_or_default(),
            jiff::Timestamp::now(),
        )
    }

    /// The parameter `filters`.
    ///
    /// # Errors
    /// `Invalid` for a text that is none, and for keys that are not `known`.
    pub fn filters(&self, known: &[&str]) -> Result<Filters> {
        filters::parse(self.get("filters").unwrap_or_default(), known)
    }

    /// Refuses a parameter that is set and has no effect here.
    ///
    /// # Errors
    /// `Unsupported`, naming it.
    pub fn refuse(&self, key: &str) -> Result<()> {
        match self.get(key) {
            Some(value) if !matches!(value, "0" | "false") => Err(Error::new(
                ErrorKind::Unsupported,
                format!("parameter {key} is not supported"),
            )),
            _ => Ok(()),
        }
    }
}

/// Decodes `%41`; in queries `+` is a blank. What is not UTF-8 becomes replacement characters.
pub fn decode(text: &str, plus_is_blank: bool) -> String {
    let hex = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = tail;
                }
                _ => bytes.push(first),
            },
            (b'+', _) if plus_is_blank => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("a=1&b=%7B%22x%22%3A+1%7D&c&d=False&e=0&f=yes");
        assert_eq!(query.get("b"), Some("{\"x\": 1}"));
        assert_eq!(query.get("c"), None);
        assert!(query.flag("a") && query.flag("f"));
        assert!(!query.flag("c") && !query.flag("d") && !query.flag("e") && !query.flag("absent"));
        assert_eq!(query.number::<u64>("a").unwrap(), Some(1));
        assert_eq!(
            query.number::<u64>("f").unwrap_err().kind,
            ErrorKind::Invalid
        );
        assert!(
            query
                .refuse("f")
                .unwrap_err()
                .message
                .contains("parameter f")
        );
        query.refuse("e").unwrap();
    }

    #[test]
    fn percent_signs_that_encode_nothing_stay() {
        assert_eq!(decode("a%2Fb%zz%4", false), "a/b%zz%4");
        assert_eq!(decode("a+b", false), "a+b");
    }

    #[test]
    fn bodies_need_their_type() {
        let call = |content_type: &str, body: &'static str| Call {
            version: crate::version::NEWEST,
            name: String::new(),
            query: Query::default(),
            content_type: content_type.into(),
            registry_auth: String::new(),
            registry_config: String::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let json = |content_type, body| call(content_type, body).json::<serde_json::Value>();
        assert_eq!(json("application/json", "{\"a\":1}").unwrap()["a"], 1);
        assert!(
            json("text/plain", "{}")
                .unwrap_err()
                .message
                .contains("text/plain")
        );
        assert!(
            json("application/json", "")
                .unwrap_err()
                .message
                .contains("EOF")
        );
        assert_eq!(
            json("application/json", "{").unwrap_err().kind,
            ErrorKind::Invalid
        );
    }
}
