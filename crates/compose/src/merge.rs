//! How a later file changes an earlier one.
//!
//! Mappings merge by key and sequences append, with the exceptions of the Compose Specification ("Merge and
//! override"): some sequences replace, some are keyed and a later entry of the same key wins, and the two forms of
//! `KEY=value` lists and mappings meet as mappings.

use crate::node::{Node, Tag, Value};

/// What a path of the document is when two files meet there.
enum Rule {
    /// The later one replaces the earlier one.
    Replace,
    /// Both are turned into mappings `KEY: value`, split at the given separators.
    Pairs(&'static [char]),
    /// Entries are keyed by a function; the later one wins.
    Keyed(fn(&Node) -> String),
    /// A list of names and the mapping form `name: {…}` meet as mappings.
    Names,
    /// Appended without repetition; a single one counts as a list.
    Unique,
    /// The short form is one key of the long one.
    Short(&'static str),
    /// Options of another driver are of no use.
    Driver,
}

/// Lays `later` over `earlier`.
pub fn merge(earlier: Node, later: Node) -> Node {
    at(earlier, later, &mut Vec::new())
}

fn at(earlier: Node, later: Node, path: &mut Vec<String>) -> Node {
    match later.tag {
        Some(Tag::Reset) => {
            return Node {
                value: Value::Null,
                tag: Some(Tag::Reset),
                ..later
            };
        }
        Some(Tag::Override) => return later,
        None => {}
    }
    let rule = rule(path);
    if later.value == Value::Null && !matches!(rule, Some(Rule::Replace)) {
        // a key without a value says nothing
        return earlier;
    }
    match rule {
        Some(Rule::Replace) => later,
        Some(Rule::Short(key)) => maps(long(earlier, key), long(later, key), path),
        Some(Rule::Driver) => match driver(&earlier, &later) {
            true => maps(earlier, later, path),
            false => later,
        },
        Some(Rule::Pairs(separators)) => {
            maps(pairs(earlier, separators), pairs(later, separators), path)
        }
        Some(Rule::Names) => maps(names(earlier), names(later), path),
        Some(Rule::Keyed(key)) => lists(earlier, later, |old, item| key(old) == key(item)),
        Some(Rule::Unique) => lists(earlier, later, |old, item| old.value == item.value),
        None => match (&earlier.value, &later.value) {
            (Value::Map(_), Value::Map(_)) => maps(earlier, later, path),
            (Value::List(_), Value::List(_)) => lists(earlier, later, |_, _| false),
            // a short form (build: ./dir) cannot be mixed with a long one
            _ => later,
        },
    }
}

fn maps(earlier: Node, later: Node, path: &mut Vec<String>) -> Node {
    let (Value::Map(mut entries), Value::Map(new)) = (earlier.value, later.value.clone()) else {
        return later;
    };
    for (key, item) in new {
        match entries.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => {
                path.push(key);
                let previous = std::mem::replace(old, Node::empty(old.at.clone()));
                *old = at(previous, item, path);
                path.pop();
            }
            None => entries.push((key, item)),
        }
    }
    Node {
        value: Value::Map(entries),
        at: earlier.at,
        tag: earlier.tag,
    }
}

/// Appends; an item that is the `same` as an earlier one takes its place.
fn lists(earlier: Node, later: Node, same: impl Fn(&Node, &Node) -> bool) -> Node {
    let into_list = |node: Node| match node.value {
        Value::List(items) => items,
        Value::Null => Vec::new(),
        _ => vec![node],
    };
    let place = later.at.clone();
    let mut items = into_list(earlier);
    for item in into_list(later) {
        match items.iter_mut().find(|old| same(old, &item)) {
            Some(old) => *old = item,
            None => items.push(item),
        }
    }
    Node {
        value: Value::List(items),
        at: place,
        tag: None,
    }
}

/// A short form as the mapping `key: text`.
fn long(node: Node, key: &str) -> Node {
    match node.value {
        Value::Text(_) => {
            let at = node.at.clone();
            let inner = Node { tag: None, ..node };
            Node {
                value: Value::Map(vec![(key.to_owned(), inner)]),
                at,
                tag: None,
            }
        }
        _ => node,
    }
}

/// Whether two `logging`s are about the same driver.
fn driver(earlier: &Node, later: &Node) -> bool {
    match (scalar(earlier, "driver"), scalar(later, "driver")) {
        (Some(earlier), Some(later)) => earlier == later,
        _ => true,
    }
}

/// Removes what `!reset` marked.
pub fn finish(node: &mut Node) {
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|(_, item)| item.tag != Some(Tag::Reset));
            entries.iter_mut().for_each(|(_, item)| finish(item));
        }
        Value::List(items) => {
            items.retain(|item| item.tag != Some(Tag::Reset));
            items.iter_mut().for_each(finish);
        }
        _ => {}
    }
}

fn rule(path: &[String]) -> Option<Rule> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let inside = match path.as_slice() {
        ["services", _, inside @ ..] => inside,
        ["volumes" | "networks", _, "labels"] => return Some(Rule::Pairs(&['='])),
        ["include"] => return None,
        _ => return None,
    };
    Some(match inside {
        ["command" | "entrypoint"] | ["healthcheck", "test"] => Rule::Replace,
        ["environment" | "labels" | "sysctls" | "annotations"] | ["build", "args" | "labels"] => {
            Rule::Pairs(&['='])
        }
        ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Pairs(&['=', ':']),
        ["networks" | "depends_on"] => Rule::Names,
        ["build"] => Rule::Short("context"),
        ["logging"] => Rule::Driver,
        ["volumes" | "devices" | "secrets" | "configs"] => Rule::Keyed(target),
        ["ports"] => Rule::Keyed(port),
        [
            "dns" | "dns_search" | "dns_opt" | "expose" | "cap_add" | "cap_drop" | "security_opt"
            | "group_add" | "tmpfs" | "env_file" | "label_file" | "profiles",
        ] => Rule::Unique,
        _ => return None,
    })
}

/// `["A=1", "B"]` as `{A: 1, B: null}`.
fn pairs(node: Node, separators: &[char]) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let entries = items
        .into_iter()
        .filter_map(|item| {
            let text = match &item.value {
                Value::Text(text) | Value::Number(text) => text.clone(),
                _ => return None,
            };
            let (key, value) = match text.split_once(separators) {
                Some((key, value)) => (key.to_owned(), Value::Text(value.to_owned())),
                None => (text, Value::Null),
            };
            Some((
                key,
                Node {
                    value,
                    at: item.at,
                    tag: item.tag,
                },
            ))
        })
        .collect();
    Node {
        value: Value::Map(entries),
        at: node.at,
        tag: node.tag,
    }
}

/// `[a, b]` as `{a: null, b: null}`.
fn names(node: Node) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let entries = items
        .into_iter()
        .filter_map(|item| match item.value {
            Value::Text(name) => Some((
                name,
                Node {
                    value: Value::Null,
                    at: item.at,
                    tag: item.tag,
                },
            )),
            _ => None,
        })
        .collect();
    Node {
        value: Value::Map(entries),
        at: node.at,
        tag: node.tag,
    }
}

/// The path in the container that a volume, device, secret or config lands at.
fn target(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => {
            let mut parts = text.split(':');
            let first = parts.next().unwrap_or_default();
            parts.next().unwrap_or(first).to_owned()
        }
        Value::Map(_) => scalar(node, "target")
            .or_else(|| scalar(node, "source"))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// What makes a port the same: address, target, published, protocol.
fn port(node: &Node) -> String {
    match &node.value {
        Value::Text(text) | Value::Number(text) => match text.contains('/') {
            true => text.clone(),
            false => format!("{text}/tcp"),
        },
        Value::Map(_) => {
            let part = |key: &str| scalar(node, key);
            let head = [part("host_ip"), part("published"), part("target")];
            let head: Vec<String> = head.into_iter().flatten().collect();
            format!(
                "{}/{}",
                head.join(":"),
                part("protocol").unwrap_or_else(|| "tcp".into())
            )
        }
        _ => String::new(),
    }
}

fn scalar(node: &Node, key: &str) -> Option<String> {
    match &node.get(key)?.value {
        Value::Text(text) | Value::Number(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(earlier: &str, later: &str) -> Node {
        let mut node = merge(
            Node::parse("a", earlier).expect("YAML"),
            Node::parse("b", later).expect("YAML"),
        );
        finish(&mut node);
        node
    }

    fn service(node: &Node, key: &str) -> Option<Value> {
        node.get("services")?
            .get("s")?
            .get(key)
            .map(|found| found.value.clone())
    }

    fn texts(value: Option<Value>) -> Vec<String> {
        let Some(Value::List(items)) = value else {
            return Vec::new();
        };
        items
            .into_iter()
            .filter_map(|item| match item.value {
                Value::Text(text) => Some(text),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn lists_append_and_commands_replace() {
        let node = merged(
            "services: {s: {command: [a, b], dns: [1.1.1.1, 8.8.8.8], volumes: ['a:/x', 'b:/y'], ports: ['80:80']}}",
            "services: {s: {command: [c], dns: [1.1.1.1], volumes: ['c:/x'], ports: ['80:80', '81:80']}}",
        );
        assert_eq!(texts(service(&node, "command")), ["c"]);
        assert_eq!(texts(service(&node, "dns")), ["1.1.1.1", "8.8.8.8"]);
        assert_eq!(texts(service(&node, "volumes")), ["c:/x", "b:/y"]);
        assert_eq!(texts(service(&node, "ports")), ["80:80", "81:80"]);
    }

    #[test]
    fn environments_meet_as_mappings() {
        let node = merged(
            "services: {s: {environment: [A=1, B=2]}}",
            "services: {s: {environment: {B: 3}}}",
        );
        let environment = node
            .get("services")
            .and_then(|s| s.get("s"))
            .and_then(|s| s.get("environment"))
            .expect("it");
        assert_eq!(
            environment.get("A").map(|a| &a.value),
            Some(&Value::Text("1".into()))
        );
        assert_eq!(
            environment.get("B").map(|b| &b.value),
            Some(&Value::Number("3".into()))
        );
    }

    #[test]
    fn reset_removes_and_override_replaces() {
        let node = merged(
            "services: {s: {ports: ['80:80'], dns: [1.1.1.1]}}",
            "services: {s: {ports: !override ['81:81'], dns: !reset []}}",
        );
        assert_eq!(texts(service(&node, "ports")), ["81:81"]);
        assert_eq!(service(&node, "dns"), None);
    }

    #[test]
    fn short_forms_meet_long_ones_and_nothing_says_nothing() {
        let node = merged(
            "services: {s: {build: ./a, env_file: x.env, networks: {n: {aliases: [q]}}, logging: {driver: local, options: {a: 1}}}}",
            "services: {s: {build: {target: t}, env_file: [y.env], networks: [n], logging: {driver: json-file}}}",
        );
        let build = service(&node, "build");
        let Some(Value::Map(build)) = build else {
            panic!("a mapping")
        };
        assert_eq!(
            build
                .iter()
                .map(|(key, _)| key.as_str())
                .collect::<Vec<_>>(),
            ["context", "target"]
        );
        assert_eq!(texts(service(&node, "env_file")), ["x.env", "y.env"]);
        let networks = node
            .get("services")
            .and_then(|s| s.get("s"))
            .and_then(|s| s.get("networks"));
        assert!(
            networks
                .and_then(|all| all.get("n"))
                .and_then(|n| n.get("aliases"))
                .is_some()
        );
        let Some(Value::Map(logging)) = service(&node, "logging") else {
            panic!("a mapping")
        };
        assert_eq!(logging.len(), 1, "options of another driver go");
    }
}
