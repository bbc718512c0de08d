//! Where a reference is to be had: its own host, another location, or mirrors before it.

use std::sync::Arc;

use ketch_spec::Reference;

use crate::client::{Client, Registry};
use crate::error::{Error, Result};
use crate::options::Rule;

/// A repository at a registry.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub registry: Arc<Registry>,
    /// The reference's repository, as this registry names it.
    pub repository: String,
    /// Whether there is another place to ask after this one.
    pub mirror: bool,
}

impl Client {
    /// Where the reference itself is: what is written goes here.
    pub(crate) fn origin(&self, reference: &Reference) -> Result<Endpoint> {
        let name = match find(&self.shared.options.rules, reference) {
            Some((rule, rest)) => rule.location.as_ref().map(|place| place.clone() + &rest),
            None => None,
        };
        self.endpoint(reference, name, false)
    }

    /// Where the reference may be read, in order; the origin is the last.
    pub(crate) fn sources(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let mut sources = Vec::new();
        if let Some((rule, rest)) = find(&self.shared.options.rules, reference) {
            for mirror in &rule.mirrors {
                let endpoint = self.endpoint(reference, Some(mirror.clone() + &rest), true)?;
                if !endpoint.registry.is_down() {
                    sources.push(endpoint);
                }
            }
        }
        sources.push(self.origin(reference)?);
        Ok(sources)
    }

    /// Tries the places one after the other. Whatever is wrong with a mirror, the next place may be right; what the
    /// origin says is the answer.
    pub(crate) fn at_sources<T>(
        &self,
        reference: &Reference,
        mut attempt: impl FnMut(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        for source in self.sources(reference)? {
            match attempt(&source) {
                Err(error) if source.mirror => {
                    if matches!(error, Error::Unreachable { .. } | Error::Tls { .. }) {
                        source.registry.set_down();
                    }
                }
                result => return result,
            }
        }
        // The origin is never a mirror: the loop has returned.
        Err(Error::Host {
            host: reference.host.clone(),
        })
    }

    fn endpoint(
        &self,
        reference: &Reference,
        name: Option<String>,
        mirror: bool,
    ) -> Result<Endpoint> {
        let (host, repository) = match &name {
            None => (reference.host.as_str(), reference.repository.as_str()),
            Some(name) => name
                .split_once('/')
                .ok_or_else(|| Error::Host { host: name.clone() })?,
        };
        Ok(Endpoint {
            registry: self.registry(host)?,
            repository: repository.into(),
            mirror,
        })
    }
}

/// The rule for a reference, and what follows its prefix there: empty, or from a `/` on.
fn find<'a>(rules: &'a [Rule], reference: &Reference) -> Option<(&'a Rule, String)> {
    let fitting = rules
        .iter()
        .filter_map(|rule| Some((rule, rest(&rule.prefix, reference)?)));
    fitting.min_by_key(|(_, rest)| rest.len())
}

fn rest(prefix: &str, reference: &Reference) -> Option<String> {
    let (host, path) = prefix.split_once('/').unwrap_or((prefix, ""));
    let fits = match host.strip_prefix("*.") {
        Some(domain) => reference
            .host
            .strip_suffix(domain)
            .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        None => reference.host == host,
    };
    if !fits {
        return None;
    }
    if path.is_empty() {
        return Some(format!("/{}", reference.repository));
    }
    let rest = reference.repository.strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientOptions;

    fn places(rules: Vec<Rule>, reference: &str) -> Vec<String> {
        let client = Client::new(ClientOptions {
            rules,
            ..ClientOptions::default()
        })
        .unwrap();
        let sources = client.sources(&reference.parse().unwrap()).unwrap();
        let shown = |e: &Endpoint| format!("{}/{}", e.registry.host, e.repository);
        sources.iter().map(shown).collect()
    }

    fn rule(prefix: &str, location: Option<&str>, mirrors: &[&str]) -> Rule {
        Rule {
            prefix: prefix.into(),
            location: location.map(Into::into),
            mirrors: mirrors.iter().map(|&mirror| mirror.into()).collect(),
        }
    }

    #[test]
    fn without_rules_a_reference_is_at_its_host() {
        assert_eq!(places(vec![], "busybox"), ["docker.io/library/busybox"]);
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        let rules = vec![
            rule("docker.io", None, &["m1.example", "m2.example:5000/hub"]),
            rule("docker.io/team", Some("own.example/x"), &[]),
        ];
        assert_eq!(
            places(rules.clone(), "busybox"),
            [
                "m1.example/library/busybox",
                "m2.example:5000/hub/library/busybox",
                "docker.io/library/busybox"
            ]
        );
        assert_eq!(places(rules.clone(), "team/app"), ["own.example/x/app"]);
        assert_eq!(places(rules, "teammate/app").len(), 3);
    }

    #[test]
    fn wildcards_are_hosts_below() {
        let rules = vec![rule("*.example.com", Some("all.example/here"), &[])];
        assert_eq!(
            places(rules.clone(), "a.example.com/b"),
            ["all.example/here/b"]
        );
        assert_eq!(places(rules, "example.com/b"), ["example.com/b"]);
        let whole = vec![rule("r.example/app", Some("s.example/other"), &[])];
        assert_eq!(places(whole, "r.example/app:1"), ["s.example/other"]);
    }
}
