//! Debian's docker-registry on loopback, inside a world's network namespace.

use std::process::{Child, Stdio};

use crate::{World, eventually};

/// A running registry; it ends with this value.
pub struct Registry {
    process: Child,
}

/// `me` with the password `s3cret`, by crypt(3).
const PASSWORDS: &str = "me:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

/// Where it listens, in the world's namespace.
pub const ADDRESS: &str = "127.0.0.1:5000";

impl Registry {
    /// Starts one with empty storage below the world's scratch directory and waits until it answers.
    pub fn start(world: &World) -> Self {
        Self::start_with(world, "")
    }

    /// Starts one that only `me` may use, with the password `s3cret`.
    pub fn start_for_user(world: &World) -> Self {
        let passwords = world.file("htpasswd", PASSWORDS);
        let path = passwords.display();
        Self::start_with(
            world,
            &format!("auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"),
        )
    }

    fn start_with(world: &World, settings: &str) -> Self {
        let storage = world.path().join("registry");
        let config = world.file(
            "registry.yml",
            &format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{ADDRESS}'}}\n{settings}",
                storage.display()
            ),
        );
        let process = world
            .host(&["docker-registry", "serve", &config.to_string_lossy()])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(Self::log(world)).expect("make the registry's log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("start docker-registry");
        eventually("the registry answers", || {
            (world
                .on_host(&format!("curl -s -o /dev/null http://{ADDRESS}/v2/"))
                .code()
                == Some(0))
            .then_some(())
        });
        Self { process }
    }

    /// Where it writes a line a request, in the combined log format: `… "GET /v2/… HTTP/1.1" STATUS BYTES …`.
    pub fn log(world: &World) -> std::path::PathBuf {
        world.path().join("registry.log")
    }

    /// `127.0.0.1:5000/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("{ADDRESS}/{name}")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
