//! Names from endpoint records, read on demand and kept while the directory does not change.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::Names;
use crate::claim::endpoints;

/// A directory that has changed so recently could change again without its time changing.
const SETTLING: Duration = Duration::from_millis(100);

/// The names of the user networks that a container is in.
#[derive(Debug, Default)]
pub struct EndpointNames {
    networks: Vec<NetworkNames>,
}

#[derive(Debug)]
struct NetworkNames {
    network: String,
    directory: PathBuf,
    /// When the directory had last changed, when it was read.
    read_at: Option<SystemTime>,
    addresses: BTreeMap<String, Vec<Ipv4Addr>>,
    names: BTreeMap<Ipv4Addr, String>,
}

impl EndpointNames {
    /// Names of networks, given by name and directory (`networks/<id>`), in the order in which they are asked.
    pub fn new(networks: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let networks = networks
            .into_iter()
            .map(|(network, directory)| NetworkNames {
                network: network.to_ascii_lowercase(),
                directory,
                read_at: None,
                addresses: BTreeMap::new(),
                names: BTreeMap::new(),
            });
        Self {
            networks: networks.collect(),
        }
    }
}

impl NetworkNames {
    /// Reads the records anew if there may be others.
    fn refresh(&mut self) {
        let changed = fs::metadata(self.directory.join("endpoints"))
            .and_then(|metadata| metadata.modified())
            .ok();
        if changed.is_some() && changed == self.read_at {
            return;
        }
        let settled = changed.filter(|at| at.elapsed().is_ok_and(|age| age > SETTLING));
        // A record that cannot be read now has no names now.
        let records = endpoints(&self.directory).unwrap_or_default();
        self.addresses.clear();
        self.names.clear();
        for record in &records {
            for name in record.names() {
                let addresses = self.addresses.entry(name.to_ascii_lowercase()).or_default();
                if !addresses.contains(&record.ipv4) {
                    addresses.push(record.ipv4);
                }
            }
            self.names
                .insert(record.ipv4, format!("{}.{}", record.name, self.network));
        }
        self.read_at = settled;
    }
}

impl Names for EndpointNames {
    fn addresses(&mut self, name: &str) -> Option<Vec<Ipv4Addr>> {
        self.networks.iter_mut().find_map(|network| {
            network.refresh();
            let without_network = || {
                name.strip_suffix(network.network.as_str())?
                    .strip_suffix('.')
            };
            let found = network
                .addresses
                .get(name)
                .or_else(|| network.addresses.get(without_network()?));
            found.cloned()
        })
    }

    fn name_of(&mut self, address: Ipv4Addr) -> Option<String> {
        self.networks.iter_mut().find_map(|network| {
            network.refresh();
            network.names.get(&address).cloned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &std::path::Path, number: u8, name: &str, aliases: &[&str]) {
        let id = ketch_spec::Id::from_bytes([number; 32]);
        let record = serde_json::json!({
            "version": 1, "network_id": id, "container": id, "endpoint_id": id, "name": name, "aliases": aliases,
            "ipv4": format!("10.1.0.{number}"), "prefix": 16, "mac": "02:42:0a:01:00:02", "host_link": "kt0",
        });
        let directory = root.join("endpoints");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{id}.json")), record.to_string()).unwrap();
    }

    #[test]
    fn names_aliases_and_network_names_resolve_at_once() {
        let root = tempfile::tempdir().unwrap();
        let mut names = EndpointNames::new([("Inner".to_owned(), root.path().to_path_buf())]);
        assert_eq!(names.addresses("web"), None);
        write(root.path(), 2, "Web-1", &["web"]);
        write(root.path(), 3, "web-2", &["web"]);
        let (two, three) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3));
        assert_eq!(names.addresses("web-1"), Some(vec![two]));
        assert_eq!(names.addresses("web"), Some(vec![two, three]));
        assert_eq!(names.addresses("web.inner"), Some(vec![two, three]));
        assert_eq!(names.addresses("web.outer"), None);
        assert_eq!(names.addresses("webinner"), None);
        assert_eq!(names.name_of(two).as_deref(), Some("Web-1.inner"));
        fs::remove_file(
            root.path()
                .join("endpoints")
                .join(format!("{}.json", ketch_spec::Id::from_bytes([2; 32]))),
        )
        .unwrap();
        assert_eq!(names.addresses("web"), Some(vec![three]));
    }
}
