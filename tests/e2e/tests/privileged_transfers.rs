//! Pulls that are interrupted, and credentials that the environment has. The registry is a script that stalls.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use ketch_test_support::{Registry, World};

/// Serves the OCI layout `layout` as `app:1`. The first who asks for the layer gets a half of it, and then nothing any
/// more. Each request for the layer is told on standard output, with its range.
const STALLING: &str = r#"
import http.server, json, os, threading
layout = "layout"
index = json.load(open(f"{layout}/index.json"))
manifest = index["manifests"][0]
def blob(digest): return open(f"{layout}/blobs/sha256/{digest[7:]}", "rb").read()
layer = json.loads(blob(manifest["digest"]))["layers"][0]["digest"]
seen = threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
    def do_HEAD(self): self.do_GET()
    def do_GET(self):
        kind = "application/octet-stream"
        digest = self.path.rsplit("/", 1)[1]
        if "/manifests/" in self.path:
            digest, kind = manifest["digest"], manifest["mediaType"]
        elif "/blobs/" not in self.path:
            self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers(); return
        data, start = blob(digest), 0
        wanted = self.headers.get("Range")
        if wanted: start = int(wanted.split("=")[1].split("-")[0])
        self.send_response(206 if wanted else 200)
        if wanted: self.send_header("Content-Range", f"bytes {start}-{len(data)-1}/{len(data)}")
        self.send_header("Content-Type", kind)
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD": return
        if digest == layer and seen.acquire(blocking=False):
            self.wfile.write(data[:len(data) // 2]); self.wfile.flush()
            print("half", flush=True)
            self.rfile.read(1)
            return
        if digest == layer: print(f"range {start} of {len(data)}", flush=True)
        self.wfile.write(data[start:])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 5002), Handler)
server.daemon_threads = True
print("ready", flush=True)
server.serve_forever()
"#;

struct Stalling {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Stalling {
    fn start(world: &World) -> Self {
        let script = world.file("stalling.py", STALLING);
        let mut child = world
            .host(&["python3", &script.to_string_lossy()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the script");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stalling = Self { child, lines };
        assert_eq!(stalling.line(), "ready");
        stalling
    }

    /// What it tells next; its end is an empty line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("read a line");
        line.trim().to_owned()
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_interrupted_pull_is_continued_by_the_next() {
    let world = World::with_busybox();
    // Bytes that do not compress, more of them than are kept back anywhere.
    world
        .run("run --name noise busybox dd if=/dev/urandom of=/noise bs=1M count=8")
        .ok();
    world.run("export -o root.tar noise").ok();
    world.run("rm noise").ok();
    world.run("import root.tar app:1").ok();
    world
        .run("save -q --format oci-archive -o app.tar app:1")
        .ok();
    world.on_host("mkdir layout").ok();
    world.on_host("tar -xf app.tar -C layout").ok();
    world.run("rmi app:1").ok();
    let mut registry = Stalling::start(&world);
    let name = "127.0.0.1:5002/app:1";
    let pulling = world.spawn(&format!("pull {name}"));
    assert_eq!(registry.line(), "half");
    // What has come so far is on its way to the disk: the second half never comes.
    let partial = world.data_root().join("ingest/blobs");
    ketch_test_support::eventually("a part is kept", || {
        let mut files = std::fs::read_dir(&partial).ok()?.flatten();
        files.find(|file| file.metadata().is_ok_and(|data| data.len() > 1 << 20))
    });
    let pid = pulling.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill").success());
    let ended = pulling.wait_with_output().expect("wait");
    let status = ended.status;
    // As a shell sees it: 130.
    assert!(
        status.signal() == Some(2) || status.code() == Some(130),
        "{status}"
    );
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!told.contains("panicked"), "{told}");
    let left = world.run("images -q").ok();
    assert_eq!(left.lines().count(), 1, "{left}");

    let pulled = world.run(&format!("pull {name}")).ok();
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");
    let continued = registry.line();
    let start = continued
        .strip_prefix("range ")
        .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .expect("a range");
    assert!(start > 1 << 20, "{continued}");
    world.run(&format!("image verify {name}")).ok();
    // Quiet is quiet, and elsewhere than on a terminal nothing moves the cursor.
    let quiet = world.run(&format!("pull -q {name}")).ok();
    assert_eq!(quiet, name);
    assert!(
        !pulled.contains('\x1b') && !pulled.contains('\r'),
        "{pulled:?}"
    );
    drop(registry);
    world.finish();
}

#[test]
fn the_environment_may_hold_credentials() {
    let world = World::with_busybox();
    let registry = Registry::start_for_user(&world);
    let name = registry.reference("box:1");
    world.run(&format!("tag busybox {name}")).ok();
    world.run(&format!("push {name}")).fails(1);
    let push = |auths: &str| {
        let mut command = world.command(["push", "-q", &name]);
        command.env("DOCKER_AUTH_CONFIG", auths);
        command.output().expect("run ketch")
    };
    let given = push(r#"{"auths":{"127.0.0.1:5000":{"auth":"bWU6czNjcmV0"}}}"#);
    assert!(given.status.success(), "{given:?}");
    let wrong = push("{");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && told.contains("DOCKER_AUTH_CONFIG"),
        "{told}"
    );
    drop(registry);
    world.finish();
}

#[test]
fn digests_stay_through_pull_save_load_and_push_in_every_form_of_layers() {
    let archive = std::env::var("KETCH_BUSYBOX_TAR").expect("KETCH_BUSYBOX_TAR");
    for form in ["directory", "auto"] {
        let world = World::empty();
        let registry = Registry::start(&world);
        let run = |line: &str| {
            let mut command = world.command(line.split(' '));
            command.env("KETCH_LAYER_FORM", form);
            let output = command.output().expect("run ketch");
            assert!(output.status.success(), "{form}: {line}: {output:?}");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        // What a registry has, and in which compression, is skopeo's doing.
        run(&format!("import {archive} box:1"));
        run("save -q --format oci-dir -o layout box:1");
        run("rmi box:1");
        let (first, second) = (
            registry.reference("first:1"),
            registry.reference("second:1"),
        );
        for pack in ["gzip", "zstd"] {
            world
                .on_host(&format!(
                    "skopeo --insecure-policy copy -q --format oci --dest-compress-format {pack} --dest-tls-verify=false oci:layout docker://{first}"
                ))
                .ok();
            run(&format!("pull -q {first}"));
            let digests = "image inspect --format {{.RepoDigests}} ";
            let want = run(&format!("{digests}{first}"));
            let forms = "image inspect --format {{.GraphDriver.Data.LayerForms}} ";
            let kept = run(&format!("{forms}{first}"));
            assert!(form == "auto" || kept == form, "{kept}");
            run(&format!("save -q -o saved.tar {first}"));
            run(&format!("rmi {first}"));
            run("load -q -i saved.tar");
            run(&format!("tag {first} {second}"));
            run(&format!("push -q {second}"));
            let got = run(&format!("{digests}{second}"));
            let digest = |text: &str| text.rsplit('@').next().map(str::to_owned);
            assert_eq!(digest(&got), digest(&want), "{form} {pack}");
            assert_eq!(
                run(&format!("run --rm --network none {second} echo well")),
                "well"
            );
            run(&format!("rmi {first} {second}"));
        }
        drop(registry);
        world.finish();
    }
}
