//! `WWW-Authenticate` (RFC 9110, section 11.6.1): which proof a registry wants.

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token of a service (the distribution specification's token authentication).
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Name of the registry to the service.
        service: String,
    },
}

/// Longest header looked at, in bytes.
const HEADER_MAX: usize = 8192;

impl Challenge {
    /// Picks Bearer before Basic from all challenges of all headers; Err holds the first unknown scheme.
    pub fn from_headers<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut basic = false;
        let mut unknown = None;
        for header in headers.filter(|header| header.len() <= HEADER_MAX) {
            for (scheme, parameters) in challenges(header) {
                let parameter = |name: &str| {
                    let found = parameters
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone())
                };
                if scheme.eq_ignore_ascii_case("bearer") {
                    if let Some(realm) = parameter("realm") {
                        let service = parameter("service").unwrap_or_default();
                        return Ok(Self::Bearer { realm, service });
                    }
                } else if scheme.eq_ignore_ascii_case("basic") {
                    basic = true;
                } else {
                    unknown.get_or_insert(scheme);
                }
            }
        }
        if basic {
            Ok(Self::Basic)
        } else {
            Err(unknown.unwrap_or_default())
        }
    }
}

type Parameters = Vec<(String, String)>;

/// Splits a header into schemes with their parameters. Broken input ends the list.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match value {
            // A word without "=" is a scheme.
            None => {
                found.push((word.into(), Vec::new()));
                rest = after;
            }
            Some(value) => {
                let Some((text, after)) = parameter_value(value.trim_start_matches([' ', '\t']))
                else {
                    return found;
                };
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.into(), text));
                }
                rest = after;
            }
        }
    }
}

/// A token or a quoted string with backslash escapes, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return Some((text[..end].into(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(headers: &[&str]) -> Result<Challenge, String> {
        Challenge::from_headers(headers.iter().copied())
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"";
        let wanted = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: "registry.docker.io".into(),
        };
        assert_eq!(read(&[hub]), Ok(wanted.clone()));
        assert_eq!(read(&["Basic realm=\"x\"", hub]), Ok(wanted.clone()));
        assert_eq!(
            read(&[&format!("Basic realm=\"a, b=c\", {hub}")]),
            Ok(wanted)
        );
        assert_eq!(
            read(&["basic realm=\"Registry Realm\""]),
            Ok(Challenge::Basic)
        );
        assert_eq!(read(&["Basic"]), Ok(Challenge::Basic));
        let bare = Challenge::Bearer {
            realm: "http://x/y".into(),
            service: String::new(),
        };
        assert_eq!(read(&["bearer realm = http://x/y"]), Ok(bare));
    }

    #[test]
    fn refuses_the_rest() {
        assert_eq!(read(&["Negotiate abc=="]), Err("Negotiate".into()));
        assert_eq!(read(&["Bearer service=\"x\""]), Err(String::new()));
        assert_eq!(read(&["Bearer realm=\"unclosed"]), Err(String::new()));
        assert_eq!(read(&[]), Err(String::new()));
    }

    proptest! {
        #[test]
        fn never_panics(header in "\\PC{0,60}") {
            let _ = read(&[&header]);
        }
    }
}
