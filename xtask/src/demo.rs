//! The main job on real input: a Dockerfile becomes an image, the image becomes containers, a Compose file an application.

use std::net::TcpListener;
use std::path::Path;

use crate::shell::{self, Session, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, packages, privileges};

const DATA_ROOT: &str = "/var/lib/ketch-demo";
const RUN_ROOT: &str = "/run/ketch-demo";

/// Runs the demo; what it made is removed at its end, whether it succeeds or not.
pub fn run() -> Outcome {
    let mut timed = Timed::default();
    timed.step("Install what is missing", || {
        packages::install(&[packages::BUILD, packages::DEMO])
    })?;
    timed.step("Build the release binary", || {
        shell::cargo(&["build", "--release", "--package", "ketch-cli"])
    })?;
    privileges::explain("to run containers");

    let archives = shell::target_directory().join("base-images");
    std::fs::create_dir_all(&archives)
        .map_err(|error| format!("{}: {error}", archives.display()))?;
    let session = Session {
        program_directory: target::directory(Profile::Release),
        environment: vec![
            ("KETCH_DATA_ROOT".into(), DATA_ROOT.into()),
            ("KETCH_RUN_ROOT".into(), RUN_ROOT.into()),
            ("VISITS_PORT".into(), free_port()?.to_string()),
        ],
    };
    let outcome = main_job(&session, &archives, &mut timed);
    let cleaned = timed.step("Remove everything", || clean(&session));
    timed.report();
    outcome.and(cleaned)
}

fn main_job(session: &Session, archives: &Path, timed: &mut Timed) -> Outcome {
    timed.step("Base images, without any registry", || {
        let busybox = base_images::busybox(archives)?;
        session.show(&format!(
            "ketch import --change 'CMD [\"sh\"]' {} busybox:latest",
            busybox.display()
        ))?;
        let debian = base_images::debian(archives)?;
        session.show(&format!(
            "ketch import --change 'CMD [\"bash\"]' {} debian:bookworm",
            debian.display()
        ))
    })?;
    timed.step("Build images from Dockerfiles", || {
        session.show("ketch build -t visits-redis examples/visits/redis")?;
        session.show("ketch build -t visits-web examples/visits/web")?;
        session.show("ketch images")
    })?;
    timed.step("Build again: nothing runs", || {
        session.show("ketch build -t visits-web examples/visits/web")
    })?;
    timed.step(
        "Run containers on a network, with a volume and a published port",
        || start_containers(session),
    )?;
    timed.step("Look at them", || look(session))?;
    timed.step("Stop and remove them", || {
        session.show("ketch stop web redis")?;
        session.show("ketch ps -a")?;
        session.show("ketch rm web redis")?;
        session.show("ketch network rm visits-net")
    })?;
    timed.step("The volume's data is still there", || {
        let listing = session.capture("ketch run --rm -v counts:/data busybox ls -R /data")?;
        contains(&listing, "appendonly")?;
        session.show("ketch volume rm counts")
    })?;
    compose(session, timed)
}

fn start_containers(session: &Session) -> Outcome {
    session.show("ketch network create visits-net")?;
    session.show("ketch run -d --name redis --network visits-net -v counts:/data visits-redis")?;
    session.show("ketch run -d --name web --network visits-net -p $VISITS_PORT:8080 visits-web")?;
    contains(&curl(session)?, "visit number 1.")?;
    contains(&curl(session)?, "visit number 2.")
}

fn look(session: &Session) -> Outcome {
    session.show("ketch ps")?;
    session.show("ketch logs web")?;
    contains(
        &session.capture("ketch exec redis redis-cli get visits")?,
        "2",
    )?;
    session.show("ketch run --rm --network visits-net busybox wget -q -O - http://web:8080")?;
    session.show("ketch top redis")?;
    session.show("ketch inspect --format '{{.State.Status}} {{json .NetworkSettings.Ports}}' web")
}

fn compose(session: &Session, timed: &mut Timed) -> Outcome {
    const FILE: &str = "-f examples/visits/compose.yaml";
    timed.step("Compose: an application of two services", || {
        session.show(&format!("ketch compose {FILE} up -d --build"))?;
        session.show(&format!("ketch compose {FILE} ps"))?;
        contains(&curl(session)?, "visit number 1.")
    })?;
    timed.step("Down keeps the volume, down -v removes it", || {
        session.show(&format!("ketch compose {FILE} down"))?;
        session.show(&format!("ketch compose {FILE} up -d"))?;
        contains(&curl(session)?, "visit number 2.")?;
        session.show(&format!("ketch compose {FILE} down -v"))?;
        session.show("ketch volume ls")
    })
}

fn curl(session: &Session) -> Result<String, String> {
    session.capture(
        "curl -s --retry 20 --retry-delay 1 --retry-all-errors http://127.0.0.1:$VISITS_PORT/",
    )
}

fn clean(session: &Session) -> Outcome {
    session
        .show("ketch compose -f examples/visits/compose.yaml down -v >/dev/null 2>&1 || true")?;
    session.show("ketch ps -aq | xargs -r ketch rm -f -v")?;
    session.show("ketch network prune -f")?;
    session.show("ketch volume prune -a -f")?;
    session.show("ketch images -q | sort -u | xargs -r ketch rmi -f >/dev/null")?;
    session.show("ketch images; ketch ps -a; ketch volume ls")?;
    session.show(&format!("rm -rf {DATA_ROOT} {RUN_ROOT}"))
}

fn contains(text: &str, wanted: &str) -> Outcome {
    if text.contains(wanted) {
        Ok(())
    } else {
        Err(format!("expected {wanted:?} in {text:?}"))
    }
}

fn free_port() -> Result<u16, String> {
    let preferred = TcpListener::bind("0.0.0.0:8080").or_else(|_| TcpListener::bind("0.0.0.0:0"));
    preferred
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}
