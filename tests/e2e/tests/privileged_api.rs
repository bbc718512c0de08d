//! The Engine API server, spoken to as any client does: HTTP over its unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ketch_test_support::{Registry, World};
use serde_json::{Value, json};

/// A server in a world, killed at its end.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(world: &World) -> Self {
        let mut command = world.command(["api", "serve"]);
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the server");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("a pipe");
        BufReader::new(stderr)
            .read_line(&mut line)
            .expect("read what the server says");
        let socket = world.run_root().join("api.sock");
        assert_eq!(
            line.trim_end(),
            format!("API listen on {}", socket.display())
        );
        Self { child, socket }
    }

    /// Status and document of a request; null for an empty answer.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--write-out",
            "\n%{http_code}",
            "--unix-socket",
        ]);
        curl.arg(&self.socket).args(["--request", method]);
        if let Some(body) = body {
            curl.args([
                "--header",
                "Content-Type: application/json",
                "--data",
                &body.to_string(),
            ]);
        }
        let output = curl
            .arg(format!("http://ketch{path}"))
            .output()
            .expect("run curl: install it");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{method} {path}: {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (document, status) = text.rsplit_once('\n').expect("a status line");
        let document =
            serde_json::from_str(document.trim()).unwrap_or_else(|_| json!(document.trim()));
        (
            status.parse().expect("a status"),
            if document == json!("") {
                Value::Null
            } else {
                document
            },
        )
    }

    fn get(&self, path: &str) -> Value {
        let (status, document) = self.call("GET", path, None);
        assert_eq!(status, 200, "{path}: {document}");
        document
    }

    #[track_caller]
    fn expect(&self, status: u16, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (found, document) = self.call(method, path, body);
        assert_eq!(found, status, "{method} {path}: {document}");
        document
    }

    /// Makes a container and gives its id.
    fn create(&self, name: &str, body: &Value) -> String {
        let made = self.expect(
            201,
            "POST",
            &format!("/containers/create?name={name}"),
            Some(body),
        );
        made["Id"].as_str().expect("an id").to_owned()
    }

    /// Sends a POST and reads the head of its answer; what follows is for the caller.
    fn open(&self, path: &str, headers: &str, body: &str) -> (String, UnixStream) {
        let mut stream = UnixStream::connect(&self.socket).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: ketch\r\n{headers}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("send the head");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answer)));
            answer.push(byte[0]);
        }
        (String::from_utf8_lossy(&answer).into_owned(), stream)
    }

    /// Takes over a connection, as clients that attach do: what is left is the stream.
    fn hijack(&self, path: &str, body: &str) -> UnixStream {
        let (head, stream) = self.open(path, "Connection: Upgrade\r\nUpgrade: tcp", body);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        stream
    }

    fn stop(mut self) {
        let told = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .expect("run kill");
        assert!(told.success(), "stop the server");
        assert!(self.child.wait().expect("wait for the server").success());
        assert!(!self.socket.exists(), "the socket goes with the server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(kind: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short").to_be_bytes();
    [&[kind, 0, 0, 0], length.as_slice(), text.as_bytes()].concat()
}

#[test]
fn the_server_says_who_it_is_and_what_it_does_not_serve() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    let mode = std::fs::metadata(&server.socket)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(server.get("/_ping"), json!("OK"));
    let version = server.get("/version");
    assert_eq!(
        (&version["ApiVersion"], &version["MinAPIVersion"]),
        (&json!("1.51"), &json!("1.24"))
    );
    let info = server.get("/v1.44/info");
    assert_eq!(
        (&info["Images"], &info["Swarm"]["LocalNodeState"]),
        (&json!(1), &json!("inactive"))
    );
    let message =
        |status, method, path: &str| server.expect(status, method, path, None)["message"].clone();
    assert_eq!(message(404, "GET", "/nothing"), "page not found");
    assert_eq!(message(404, "PATCH", "/info"), "page not found");
    assert_eq!(
        message(501, "GET", "/v1.44/containers/x/stats"),
        "GET /containers/{id}/stats is not supported"
    );
    assert!(
        message(400, "GET", "/v1.23/info")
            .as_str()
            .expect("words")
            .contains("1.23 is too old")
    );
    assert!(
        message(400, "GET", "/v1.99/info")
            .as_str()
            .expect("words")
            .contains("1.99 is too new")
    );
    assert_eq!(
        message(404, "GET", "/containers/absent/json"),
        "No such container: absent"
    );
    let second = world.run("api serve").fails(1);
    assert!(second.contains("another server listens on"), "{second}");
    server.stop();
    world.finish();
}

#[test]
fn a_container_lives_its_life() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    let body = json!({
        "Image": "busybox", "Cmd": ["sh", "-c", "echo out; echo err >&2; exec sleep 600"], "Labels": {"a": "b"},
        "HostConfig": {"Memory": 33554432, "Binds": ["data:/data"]},
    });
    let id = server.create("web", &body);
    let again = server.expect(409, "POST", "/containers/create?name=web", Some(&body));
    assert!(
        again["message"]
            .as_str()
            .expect("words")
            .contains("is already in use"),
        "{again}"
    );
    let refused = json!({"Image": "busybox", "HostConfig": {"CgroupParent": "/x"}});
    let refused = server.expect(501, "POST", "/containers/create", Some(&refused));
    assert_eq!(
        refused["message"],
        "HostConfig.CgroupParent is not supported"
    );
    server.expect(
        404,
        "POST",
        "/containers/create",
        Some(&json!({"Image": "absent"})),
    );
    server.expect(204, "POST", "/containers/web/start", None);
    server.expect(304, "POST", "/containers/web/start", None);
    let listed = server.get("/containers/json?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    assert_eq!(
        (&listed[0]["Id"], &listed[0]["State"]),
        (&json!(id), &json!("running"))
    );
    assert_eq!(listed[0]["Mounts"][0]["Name"], "data");
    let inspected = server.get("/containers/web/json");
    assert_eq!(inspected["HostConfig"]["Memory"], 33554432);
    assert!(
        server.get("/containers/web/top")["Processes"]
            .to_string()
            .contains("sleep 600")
    );
    server.expect(204, "POST", "/containers/web/pause", None);
    assert_eq!(
        server.get("/containers/web/json")["State"]["Status"],
        "paused"
    );
    server.expect(204, "POST", "/containers/web/unpause", None);
    server.expect(204, "POST", "/containers/web/rename?name=site", None);
    server.expect(409, "DELETE", "/containers/site", None);
    server.expect(204, "POST", "/containers/site/kill?signal=KILL", None);
    assert_eq!(
        server.expect(200, "POST", "/containers/site/wait", None)["StatusCode"],
        137
    );
    server.expect(409, "POST", "/containers/site/kill", None);
    server.expect(204, "POST", "/containers/site/restart?t=0", None);
    server.expect(204, "POST", "/containers/site/stop?t=0", None);
    server.expect(304, "POST", "/containers/site/stop", None);
    assert_eq!(server.get("/containers/json"), json!([]));
    server.expect(204, "DELETE", "/containers/site?v=1", None);
    server.expect(204, "DELETE", "/volumes/data", None);
    server.stop();
    world.finish();
}

#[test]
fn logs_and_streams_are_framed_and_a_terminal_is_not() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    // Attached before the start: nothing of a short output is lost.
    let body = json!({
        "Image": "busybox", "OpenStdin": true, "StdinOnce": true, "Cmd": ["sh", "-c", "cat; echo err >&2; exit 3"],
        "HostConfig": {"AutoRemove": true},
    });
    let id = server.create("one", &body);
    let mut stream = server.hijack(
        "/containers/one/attach?stream=1&stdin=1&stdout=1&stderr=1",
        "",
    );
    // The head of the wait comes before the exit: only then is it safe to start.
    let wait = format!("/containers/{id}/wait?condition=removed");
    let (head, mut waited) = server.open(&wait, "Connection: close", "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    server.expect(204, "POST", "/containers/one/start", None);
    stream.write_all(b"typed").expect("type");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("end the input");
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).expect("read the output");
    assert_eq!(seen, [frame(1, "typed"), frame(2, "err\n")].concat());
    let mut rest = String::new();
    waited.read_to_string(&mut rest).expect("read the exit");
    assert!(rest.contains(r#"{"StatusCode":3}"#), "{rest}");

    world
        .run("run --name two busybox sh -c 'echo one; echo two >&2'")
        .ok();
    let logs = |query: &str| {
        let path = format!("http://ketch/containers/two/logs?{query}");
        let output = Command::new("curl")
            .args(["--silent", "--unix-socket"])
            .arg(&server.socket)
            .arg(path)
            .output();
        output.expect("run curl").stdout
    };
    assert_eq!(logs("stdout=1"), frame(1, "one\n"));
    assert_eq!(logs("stderr=1&follow=1"), frame(2, "two\n"));
    assert_eq!(
        server.expect(400, "GET", "/containers/two/logs", None)["message"],
        "Bad parameters: you must choose at least one stream"
    );
    world.run("rm two").ok();

    world.run("run -d --name three busybox sleep 600").ok();
    let exec = |body: Value| {
        let made = server.expect(201, "POST", "/containers/three/exec", Some(&body));
        made["Id"].as_str().expect("an id").to_owned()
    };
    let session =
        exec(json!({"Cmd": ["sh", "-c", "stty size; exit 4"], "Tty": true, "AttachStdout": true}));
    let mut stream = server.hijack(
        &format!("/exec/{session}/start"),
        r#"{"Tty":true,"ConsoleSize":[33,99]}"#,
    );
    let mut seen = String::new();
    stream.read_to_string(&mut seen).expect("read the output");
    assert!(!seen.contains('\0'), "no frames: {seen:?}");
    let ended = server.get(&format!("/exec/{session}/json"));
    assert_eq!(
        (&ended["Running"], &ended["ExitCode"]),
        (&json!(false), &json!(4))
    );
    server.expect(
        409,
        "POST",
        &format!("/exec/{session}/start"),
        Some(&json!({"Detach": true})),
    );
    world.run("rm -f three").ok();
    server.stop();
    world.finish();
}

#[test]
fn images_networks_and_volumes_are_served() {
    let world = World::with_busybox();
    let server = Server::start(&world);
    server.expect(
        201,
        "POST",
        "/images/busybox/tag?repo=local/box&tag=1",
        None,
    );
    let all = server.get("/images/json");
    assert_eq!(all[0]["RepoTags"], json!(["busybox:latest", "local/box:1"]));
    assert_eq!(server.get("/images/local/box:1/json")["Id"], all[0]["Id"]);
    assert_eq!(
        server.get("/images/local/box:1/history")[0]["Id"],
        all[0]["Id"]
    );
    assert_eq!(
        server.expect(200, "DELETE", "/images/local/box:1", None),
        json!([{"Untagged": "local/box:1"}])
    );
    server.expect(404, "GET", "/images/local/box:1/json", None);

    let pool = json!({"Name": "net", "IPAM": {"Config": [{"Subnet": "10.88.0.0/24"}]}});
    server.expect(201, "POST", "/networks/create", Some(&pool));
    server.expect(
        409,
        "POST",
        "/networks/create",
        Some(&json!({"Name": "net"})),
    );
    world.run("run -d --name web busybox sleep 600").ok();
    let endpoint = json!({"Container": "web", "EndpointConfig": {"Aliases": ["alias"], "IPAMConfig": {"IPv4Address": "10.88.0.9"}}});
    server.expect(200, "POST", "/networks/net/connect", Some(&endpoint));
    assert!(
        server.get("/networks/net")["Containers"]
            .to_string()
            .contains("10.88.0.9/24")
    );
    server.expect(403, "DELETE", "/networks/net", None);
    server.expect(
        200,
        "POST",
        "/networks/net/disconnect",
        Some(&json!({"Container": "web"})),
    );
    world.run("rm -f web").ok();
    let names: Vec<Value> = server
        .get("/networks")
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["Name"].clone())
        .collect();
    assert_eq!(names, ["bridge", "host", "net", "none"]);
    assert_eq!(
        server.expect(200, "POST", "/networks/prune", None)["NetworksDeleted"],
        json!(["net"])
    );

    server.expect(
        201,
        "POST",
        "/volumes/create",
        Some(&json!({"Name": "vol", "Labels": {"a": "b"}})),
    );
    assert_eq!(server.get("/volumes/vol")["Labels"]["a"], "b");
    assert_eq!(server.get("/volumes")["Volumes"][0]["Name"], "vol");
    assert_eq!(
        server.expect(200, "POST", "/volumes/prune", None)["VolumesDeleted"],
        json!([]),
        "it has a name"
    );
    server.expect(204, "DELETE", "/volumes/vol", None);
    server.expect(404, "DELETE", "/volumes/vol", None);
    server.expect(204, "DELETE", "/volumes/vol?force=1", None);
    server.stop();
    world.finish();
}

#[test]
fn a_killed_server_loses_nothing() {
    let world = World::with_busybox();
    let mut server = Server::start(&world);
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done"]});
    let id = server.create("web", &body);
    server.expect(204, "POST", "/containers/web/start", None);
    server.child.kill().expect("kill the server");
    server.child.wait().expect("wait for the server");
    assert_eq!(
        world.run("ps -q --no-trunc").ok(),
        id,
        "its containers do not notice"
    );
    // The socket that it left is replaced.
    let server = Server::start(&world);
    assert_eq!(server.get("/containers/json")[0]["Id"], json!(id));
    server.expect(204, "POST", "/containers/web/stop", None);
    assert_eq!(server.get("/containers/web/json")["State"]["ExitCode"], 6);
    server.expect(204, "DELETE", "/containers/web", None);
    server.stop();
    world.finish();
}

#[test]
fn a_pull_is_told_as_it_happens() {
    let world = World::with_busybox();
    let registry = Registry::start(&world);
    let reference = registry.reference("team/box:2");
    world.run(&format!("tag busybox {reference}")).ok();
    world.run(&format!("push {reference}")).ok();
    world.run(&format!("rmi {reference} busybox")).ok();
    let server = Server::start(&world);
    let pull = |name: &str| {
        let (head, mut stream) = server.open(
            &format!(
                "/images/create?fromImage={}&tag=2",
                registry.reference(name)
            ),
            "Connection: close",
            "",
        );
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read the messages");
        (head, text)
    };
    let (head, messages) = pull("team/box");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    for words in [
        "Pulling from team/box",
        "Pull complete",
        "Digest: sha256:",
        "Status: Downloaded newer image for",
    ] {
        assert!(messages.contains(words), "{words}: {messages}");
    }
    assert_eq!(
        server.get("/images/json")[0]["RepoTags"],
        json!([reference])
    );
    assert!(pull("team/box").1.contains("Image is up to date"));
    let (head, message) = pull("team/absent");
    assert!(
        head.starts_with("HTTP/1.1 404"),
        "a failure before the first layer is the status: {head}{message}"
    );
    server.stop();
    world.finish();
}
