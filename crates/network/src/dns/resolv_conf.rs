//! Resolvers from resolv.conf(5).

use std::net::IpAddr;

/// The addresses of the `nameserver` lines, in order; what cannot be read is left out, as resolvers do.
pub fn nameservers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next())
                .flatten()
        })
        // A scope (`fe80::1%eth0`) has no meaning beyond its link's name: such a resolver is left out.
        .filter_map(|address| address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read_and_others_are_not() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.2\n\tnameserver\t::1 ; local\nnameserverx 9.9.9.9\n\
                    search a b\nnameserver\nnameserver not-an-address\n";
        assert_eq!(
            nameservers(text),
            [
                "10.0.0.2".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
    }
}
