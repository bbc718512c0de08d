//! The Engine API server's archives, images of containers, prunes and events.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use ketch_test_support::{Registry, World, eventually};
use serde_json::{Value, json};

/// A server in a world, killed at its end.
struct Server {
    child: Child,
    curl: String,
}

impl Server {
    fn start(world: &World) -> Self {
        let mut child = world
            .command(["api", "serve"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the server");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("read what the server says");
        let socket = world.run_root().join("api.sock");
        let curl = format!("curl -sS --max-time 30 --unix-socket {}", socket.display());
        Self { child, curl }
    }

    /// Status and text of a request.
    fn call(&self, world: &World, method: &str, path: &str, more: &str) -> (u16, String) {
        let curl = &self.curl;
        let ran = world
            .on_host(&format!(
                "{curl} -X {method} -w \\n%{{http_code}} {more} 'http://ketch{path}'"
            ))
            .ok();
        let (text, status) = ran.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), text.trim().to_owned())
    }

    fn document(&self, world: &World, method: &str, path: &str) -> Value {
        let (status, text) = self.call(world, method, path, "");
        assert!(status < 300, "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Saves what a path gives.
    fn save(&self, world: &World, path: &str, file: &str) {
        let curl = &self.curl;
        world
            .on_host(&format!("{curl} --fail -o {file} http://ketch{path}"))
            .ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn images_go_out_and_come_in_as_they_are() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    let before = server.document(&world, "GET", "/images/busybox/json");
    server.save(&world, "/images/get?names=busybox", "several.tar");
    server.save(&world, "/images/busybox:latest/get", "one.tar");
    world.run("save -q -o own.tar busybox").ok();
    world.on_host("cmp several.tar own.tar").ok();
    world.on_host("cmp one.tar own.tar").ok();
    world.run("rmi busybox").ok();
    let tar = "-H 'Content-Type: application/x-tar' --data-binary @own.tar";
    let (status, text) = server.call(&world, "POST", "/images/load?quiet=1", tar);
    assert_eq!(
        (status, text.as_str()),
        (200, "{\"stream\":\"Loaded image: busybox:latest\\n\"}")
    );
    let after = server.document(&world, "GET", "/images/busybox/json");
    assert_eq!(before["Descriptor"], after["Descriptor"]);
    // More than any document may have.
    let size = std::fs::metadata(world.path().join("own.tar")).expect("the archive");
    world.on_host("truncate -s 1M cut.tar").ok();
    world
        .on_host("dd if=own.tar of=cut.tar bs=1M count=1 status=none")
        .ok();
    assert!(size.len() > 1 << 20);
    let (status, text) = server.call(&world, "POST", "/images/load", "--data-binary @cut.tar");
    assert!(
        status == 400 && text.contains("blobs/sha256/"),
        "{status} {text}"
    );
    let (status, text) = server.call(&world, "GET", "/images/absent/get", "");
    assert!(
        status == 404 && text.contains("No such image: absent"),
        "{text}"
    );
    let (status, _) = server.call(&world, "GET", "/images/busybox/get?platform=linux/mips", "");
    assert_eq!(status, 404);
    drop(server);
    world.finish();
}

#[test]
fn containers_are_exported_compared_committed_and_pruned() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    world
        .ketch([
            "run",
            "--name",
            "box",
            "busybox",
            "sh",
            "-c",
            "echo hi > /f; rm /etc/passwd",
        ])
        .ok();
    assert_eq!(
        server.document(&world, "GET", "/containers/box/changes"),
        json!([
            {"Path": "/etc", "Kind": 0}, {"Path": "/etc/passwd", "Kind": 2}, {"Path": "/f", "Kind": 1},
        ])
    );
    server.save(&world, "/containers/box/export", "box.tar");
    world.on_host("tar -tf box.tar f").ok();
    let path =
        "/commit?container=box&repo=made&tag=1&comment=note&author=me&changes=CMD%20cat%20%2Ff";
    let made = server.document(&world, "POST", path);
    let image = server.document(&world, "GET", "/images/made:1/json");
    assert_eq!(image["Id"], made["Id"]);
    assert_eq!(
        (&image["Comment"], &image["Author"]),
        (&json!("note"), &json!("me"))
    );
    assert_eq!(world.run("run --rm made:1").ok(), "hi");
    let body = "-H Content-Type:application/json -d {\"Cmd\":[\"x\"]}";
    let (status, text) = server.call(&world, "POST", "/commit?container=box", body);
    assert!(
        status == 501 && text.contains("Cmd in the body"),
        "{status} {text}"
    );
    let usage = server.document(&world, "GET", "/system/df");
    assert_eq!(usage["Images"].as_array().map(Vec::len), Some(2));
    assert_eq!(usage["Containers"][0]["SizeRw"], json!(3));
    let pruned = server.document(&world, "POST", "/containers/prune");
    assert_eq!(
        pruned["ContainersDeleted"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(pruned["SpaceReclaimed"], json!(3));
    let all = "/images/prune?filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D";
    let pruned = server.document(&world, "POST", all);
    assert_eq!(pruned["SpaceReclaimed"], usage["LayersSize"]);
    assert_eq!(server.document(&world, "GET", "/images/json"), json!([]));
    drop(server);
    world.finish();
}

#[test]
fn events_are_streamed() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    world.run("tag busybox other:1").ok();
    let past = format!("/events?since=0&until={}", now() + 1);
    let (status, text) = server.call(&world, "GET", &past, "");
    assert!(
        status == 200 && text.contains("\"Action\":\"tag\""),
        "{text}"
    );
    let curl = &server.curl;
    let line = format!(
        "{curl} -N http://ketch/events?filters=%7B%22event%22%3A%7B%22untag%22%3Atrue%7D%7D"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let mut command: Command = world.host(&words);
    let mut listening = command.stdout(Stdio::piped()).spawn().expect("start curl");
    let mut out = BufReader::new(listening.stdout.take().expect("a pipe"));
    let told = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).expect("a line");
            line
        });
        eventually("an event is told", || {
            world.run("tag busybox other:1").ok();
            world.run("rmi other:1").ok();
            reader.is_finished().then_some(())
        });
        reader.join().expect("the reader")
    });
    let event: Value = serde_json::from_str(&told).expect("a document");
    assert_eq!(
        (
            &event["Type"],
            &event["Action"],
            &event["Actor"]["Attributes"]["name"]
        ),
        (&json!("image"), &json!("untag"), &json!("other:1"))
    );
    listening.kill().expect("end curl");
    listening.wait().expect("wait for curl");
    drop(server);
    world.finish();
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs()
}

#[test]
fn registries_are_reached_with_the_clients_credentials() {
    let world = World::with_busybox();
    let registry = Registry::start_for_user(&world);
    let name = registry.reference("team/box");
    let server = Server::start(&world);
    let json = "-H 'Content-Type: application/json'";
    let login = |password: &str| {
        let body = format!(
            r#"{{"username":"me","password":"{password}","serveraddress":"127.0.0.1:5000"}}"#
        );
        server.call(&world, "POST", "/auth", &format!("{json} -d '{body}'"))
    };
    let (status, text) = login("wrong");
    assert!(
        status == 401 && text.contains("failed with status: 401 Unauthorized"),
        "{status} {text}"
    );
    let (status, text) = login("s3cret");
    assert!(
        status == 200 && text.contains("Login Succeeded"),
        "{status} {text}"
    );
    // It is the client that keeps it, and sends it along.
    world.run(&format!("tag busybox {name}:1")).ok();
    let push = format!("/images/{name}/push?tag=1");
    // {"username":"me","password":"s3cret"}
    let given = "-H 'X-Registry-Auth: eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzM2NyZXQifQ=='";
    // {"127.0.0.1:5000":{"username":"me","password":"s3cret"}}
    let config = "-H 'X-Registry-Config: eyIxMjcuMC4wLjE6NTAwMCI6eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzM2NyZXQifX0='";
    let (status, text) = server.call(&world, "POST", &push, "-H 'X-Registry-Auth: e30='");
    assert!(
        status == 200 && text.contains("push access denied") && text.contains("errorDetail"),
        "{status} {text}"
    );
    let (_, text) = server.call(&world, "POST", &push, given);
    let first = format!("The push refers to repository [{name}]");
    assert!(
        text.contains(&first) && text.contains("\"Pushed\""),
        "{text}"
    );
    assert!(
        text.contains("\"aux\":{\"Tag\":\"1\",\"Digest\":\"sha256:"),
        "{text}"
    );
    let described = format!("/distribution/{name}:1/json");
    let (status, _) = server.call(&world, "GET", &described, "");
    assert_eq!(status, 401);
    let (_, text) = server.call(&world, "GET", &described, config);
    let described: Value = serde_json::from_str(&text).expect("a document");
    assert_eq!(described["Platforms"][0]["os"], "linux");
    let digest = described["Descriptor"]["digest"]
        .as_str()
        .expect("a digest");
    world.run(&format!("rmi {name}:1")).ok();
    let create = format!("/images/create?fromImage={name}&tag=1");
    let (status, text) = server.call(&world, "POST", &create, "");
    assert!(
        status == 404 && text.contains("pull access denied"),
        "{status} {text}"
    );
    let (_, text) = server.call(&world, "POST", &create, config);
    assert!(text.contains(&format!("Digest: {digest}")), "{text}");
    // Without a tag it is every tag.
    let all = format!("/images/create?fromImage={name}");
    let (_, text) = server.call(&world, "POST", &all, given);
    assert!(text.contains("Image is up to date"), "{text}");
    let (status, _) = server.call(&world, "POST", &create, "-H 'X-Registry-Auth: %'");
    assert_eq!(status, 400);
    let search = "/images/search?term=127.0.0.1:5000/box";
    let (status, text) = server.call(&world, "GET", search, "");
    assert!(
        status == 501 && text.contains("cannot be searched"),
        "{status} {text}"
    );
    let (status, text) = server.call(&world, "GET", "/images/search?term=x&limit=101", "");
    assert!(
        status == 400 && text.contains("range of [1, 100]"),
        "{text}"
    );

    // An import comes as the body.
    world.file("root/file", "words");
    world.on_host("tar -cf root.tar -C root file").ok();
    let import = "/images/create?fromSrc=-&repo=made&tag=1&changes=CMD+/file&message=hello";
    let (_, text) = server.call(&world, "POST", import, "--data-binary @root.tar");
    let made: Value = serde_json::from_str(&text).expect("a document");
    let shown = server.document(&world, "GET", "/images/made:1/json");
    assert_eq!(made["status"], shown["Id"]);
    assert_eq!(shown["Comment"], "hello");
    let listed = server.document(&world, "GET", "/images/json?manifests=1");
    let manifests = &listed[0]["Manifests"];
    assert_eq!(manifests[0]["Kind"], "image");
    assert_eq!(manifests[0]["ImageData"]["Platform"]["os"], "linux");
    let plain = server.document(&world, "GET", "/images/json");
    assert!(plain[0].get("Manifests").is_none(), "{plain}");
    let shown = server.document(&world, "GET", "/images/made:1/json?manifests=1");
    assert_eq!(shown["Manifests"], *manifests);
    assert_eq!(manifests[0]["ID"], shown["Descriptor"]["digest"]);
    let both = "/images/made:1/json?manifests=1&platform=linux/amd64";
    let (status, text) = server.call(&world, "GET", both, "");
    assert!(
        status == 400 && text.contains("conflicting options"),
        "{text}"
    );
    drop(server);
    drop(registry);
    world.finish();
}
