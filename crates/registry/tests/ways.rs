//! The way to a registry: proxies for plain HTTP, and redirects out of TLS.
#![allow(missing_docs)]

mod server;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use ketch_registry::{Client, ClientOptions, Proxies};
use ketch_spec::Reference;
use server::{Reply, Server, client, descriptor, options};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":2},"layers":[]}"#;

/// A proxy for plain HTTP, and what gets its requests through it.
fn proxied(proxy: &Server, except: Vec<String>) -> Client {
    Client::new(ClientOptions {
        insecure: vec!["registry.invalid".into(), "registry.invalid:5000".into()],
        proxies: Proxies {
            http: Some(format!("http://me:pass@{}", proxy.address)),
            https: None,
            except,
        },
        ..options()
    })
    .unwrap()
}

#[test]
fn plain_registries_are_asked_for_by_their_whole_url() {
    let proxy = Server::start(|request| match request.target.as_str() {
        "http://registry.invalid:5000/v2/app/manifests/1" => Reply::new(200, MANIFEST),
        "http://registry.invalid:5000/v2/app/blobs/uploads/" => {
            Reply::new(202, "").header("Location", "/v2/app/blobs/uploads/1?state=x")
        }
        target if target.starts_with("http://registry.invalid:5000/v2/app/blobs/uploads/1?") => {
            Reply::new(201, "")
        }
        target => Reply::new(404, target),
    });
    let client = proxied(&proxy, vec![]);
    let far: Reference = "registry.invalid:5000/app:1".parse().unwrap();
    client.resolve(&far).unwrap();
    let asked = &proxy.requests()[0];
    assert_eq!(asked.method, "GET");
    assert_eq!(asked.header("host"), "registry.invalid:5000");
    assert_eq!(asked.header("proxy-authorization"), "Basic bWU6cGFzcw==");
    // What has a body, too, and more of it than fits into one write.
    let content = vec![7; 1 << 20];
    let blob = descriptor(&content);
    client
        .upload_blob(&far, &blob, &mut |offset| {
            let rest = content[usize::try_from(offset).unwrap()..].to_vec();
            Ok(Box::new(std::io::Cursor::new(rest)))
        })
        .unwrap();
    let sent: u64 = proxy.requests().iter().map(|r| r.body_length).sum();
    assert_eq!(sent, content.len() as u64);
    // What the list excepts is looked for directly, in vain here.
    let seen = proxy.requests().len();
    for except in ["*", "invalid", ".invalid", "registry.invalid:5000"] {
        let client = proxied(&proxy, vec![except.into()]);
        client.resolve(&far).unwrap_err();
        assert_eq!(proxy.requests().len(), seen, "{except}");
    }
    for asked in ["other.invalid", "registry.invalid:80"] {
        proxied(&proxy, vec![asked.into()]).resolve(&far).unwrap();
    }
}

#[test]
fn a_proxy_that_refuses_is_not_taken_for_the_registry_being_away() {
    let proxy =
        Server::start(|_| Reply::new(407, "who are you?").header("Content-Type", "text/plain"));
    let far: Reference = "registry.invalid/app:1".parse().unwrap();
    let error = proxied(&proxy, vec![]).resolve(&far).unwrap_err();
    assert!(error.to_string().contains("407"), "{error}");
    assert!(!error.to_string().contains("pass"), "{error}");
}

/// A server of TLS that sends away in plain HTTP whoever asks.
#[test]
fn redirects_from_tls_to_plain_are_refused() {
    let plain = Server::start(|_| Reply::new(200, MANIFEST));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v2/app/manifests");
    std::fs::create_dir_all(&path).unwrap();
    let answer = format!(
        "HTTP/1.0 307 Elsewhere\r\nLocation: http://{}/v2/app/manifests/1\r\nContent-Length: 0\r\n\r\n",
        plain.address
    );
    std::fs::write(path.join("1"), answer).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args([
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=127.0.0.1",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut tls = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-HTTP"])
        .args(["-key", "key.pem", "-cert", "cert.pem"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tls.stdout.take().unwrap()).lines();
    let accept = lines.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.to_owned()));
    let address = accept.unwrap();
    let port = address.rsplit(':').next().unwrap();
    // Of its own, so that it ends also where an assertion fails.
    let error = std::panic::catch_unwind(|| {
        let reference: Reference = format!("127.0.0.1:{port}/app:1").parse().unwrap();
        client().resolve(&reference).unwrap_err().to_string()
    });
    tls.kill().unwrap();
    tls.wait().unwrap();
    let error = error.unwrap();
    assert!(error.contains("which is not encrypted"), "{error}");
    assert_eq!(plain.requests().len(), 0);
}
