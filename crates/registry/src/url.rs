//! As much of URLs as a registry client needs: origin, target, relative references, query parameters.

use std::fmt;

/// An absolute `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Whether it is `https`.
    pub secure: bool,
    /// Host and optional port.
    pub authority: String,
    /// Path and query, starting with `/`.
    pub target: String,
}

impl Url {
    pub fn new(secure: bool, authority: &str, target: impl Into<String>) -> Self {
        Self {
            secure,
            authority: authority.into(),
            target: target.into(),
        }
    }

    /// Reads an absolute URL; user names in it are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split('#').next()?;
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let valid = !authority.is_empty()
            && authority
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
        if !valid || !is_visible(target) {
            return None;
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Self {
            secure,
            authority: authority.to_ascii_lowercase(),
            target: format!("{slash}{target}"),
        })
    }

    /// Resolves a `Location` header against this URL (RFC 3986, section 5, without dot segments).
    pub fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let location = location.split('#').next()?;
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        if !is_visible(location) || location.is_empty() {
            return None;
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let directory = &path[..=path.rfind('/')?];
            format!("{directory}{location}")
        };
        Some(Self {
            target,
            ..self.clone()
        })
    }

    /// Adds a query parameter.
    pub fn query(&mut self, name: &str, value: &str) {
        self.target
            .push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(name);
        self.target.push('=');
        encode_into(value, &mut self.target);
    }

    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Scheme and authority: what may be shown, where the query may hold secrets.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether credentials for `other` may be sent here.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.authority.eq_ignore_ascii_case(&other.authority)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.target)
    }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

/// Percent-encodes what is not unreserved (RFC 3986, section 2.3), as form values need it.
pub(crate) fn encode_into(value: &str, text: &mut String) {
    use fmt::Write;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// Whether `host[:port]` is this machine by its words: `localhost`, 127.0.0.0/8, `[::1]`.
pub(crate) fn is_loopback(authority: &str) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|a| a.is_loopback());
    }
    let host = authority.split(':').next().unwrap_or_default();
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_shows() {
        for text in [
            "https://a.b/x?y=z",
            "http://127.0.0.1:5000/v2/",
            "http://[::1]:5000/",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Url::parse("https://A.b").unwrap().to_string(),
            "https://a.b/"
        );
        assert_eq!(
            Url::parse("https://a?x=1").unwrap().to_string(),
            "https://a/?x=1"
        );
        for text in [
            "ftp://a/",
            "https://",
            "https://u:p@h/",
            "https://a/\r\nX: y",
            "a/b",
            "https://a/ b",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn joins_locations() {
        let base = Url::parse("https://r.io/v2/x/blobs/1?q").unwrap();
        let cases = [
            ("/y?z", "https://r.io/y?z"),
            ("2", "https://r.io/v2/x/blobs/2"),
            ("?a", "https://r.io/v2/x/blobs/1?a"),
            ("//cdn.io/z", "https://cdn.io/z"),
            ("http://other/z#f", "http://other/z"),
        ];
        for (location, wanted) in cases {
            assert_eq!(
                base.join(location).unwrap().to_string(),
                wanted,
                "{location}"
            );
        }
        assert_eq!(base.join("a b"), None);
        assert_eq!(base.join(""), None);
    }

    #[test]
    fn encodes_parameters() {
        let mut url = Url::parse("https://a/t").unwrap();
        url.query("scope", "repository:a/b:pull,push");
        url.query("x", "é&");
        assert_eq!(
            url.to_string(),
            "https://a/t?scope=repository%3Aa%2Fb%3Apull%2Cpush&x=%C3%A9%26"
        );
    }

    #[test]
    fn loopback_is_by_words_only() {
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:5000",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.evil.com",
            "128.0.0.1",
            "127.0.0.1.nip.io",
            "[::2]:80",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
