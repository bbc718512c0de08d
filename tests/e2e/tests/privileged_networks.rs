//! Networks, names and ports.

use ketch_test_support::{World, eventually};

const SERVE: &str = "sh -c 'echo here > /index.html; exec httpd -f -p 80 -h /'";

fn reachable(world: &World, from: &str, url: &str) -> bool {
    world
        .run(&format!("exec {from} timeout 2 wget -q -O - {url}"))
        .stdout()
        == "here"
}

#[test]
fn containers_of_a_user_network_find_each_other_by_name() {
    let world = World::with_busybox();
    world.run("network create inner").ok();
    world
        .run(&format!(
            "run -d --name web --network inner --network-alias site busybox {SERVE}"
        ))
        .ok();
    world
        .run("run -d --name client --network inner busybox sleep 600")
        .ok();
    for name in ["web", "site", "web.inner", "WEB"] {
        eventually(name, || {
            reachable(&world, "client", &format!("http://{name}/")).then_some(())
        });
    }
    let unknown = world.run("exec client nslookup nowhere.invalid");
    assert_ne!(unknown.code(), Some(0), "{}", unknown.describe());
    assert!(
        world
            .run("exec client cat /etc/resolv.conf")
            .ok()
            .contains("nameserver 127.0.0.11")
    );
    world.run("rm -f web client").ok();
    assert_eq!(world.run("network rm inner").ok(), "inner");
    world.finish();
}

#[test]
fn two_user_networks_cannot_reach_each_other() {
    let world = World::with_busybox();
    world.run("network create one").ok();
    world.run("network create two").ok();
    world
        .run(&format!("run -d --name web --network one busybox {SERVE}"))
        .ok();
    world
        .run("run -d --name near --network one busybox sleep 600")
        .ok();
    world
        .run("run -d --name far --network two busybox sleep 600")
        .ok();
    world.run("run -d --name default busybox sleep 600").ok();
    let address = world
        .run("inspect -f {{.NetworkSettings.Networks.one.IPAddress}} web")
        .ok();
    let url = format!("http://{address}/");
    eventually("the near one reaches it", || {
        reachable(&world, "near", &url).then_some(())
    });
    assert!(!reachable(&world, "far", &url));
    assert!(!reachable(&world, "default", &url));
    assert!(!reachable(&world, "far", "http://web/"));
    world.run("network connect two web").ok();
    eventually("connected", || {
        reachable(&world, "far", "http://web/").then_some(())
    });
    world.run("network disconnect two web").ok();
    assert!(!reachable(&world, "far", "http://web/"));
    let busy = world.run("network rm one").fails(1);
    assert!(busy.contains("has active endpoints"), "{busy}");
    world.run("rm -f web near far default").ok();
    world.run("network rm one two").ok();
    world.finish();
}

#[test]
fn ports_are_published_on_all_addresses_and_loopback() {
    let world = World::with_busybox();
    world.on_host("ip link add outside type bridge").ok();
    world.on_host("ip addr add 203.0.113.7/24 dev outside").ok();
    world.on_host("ip link set outside up").ok();
    world
        .run(&format!("run -d --name web -p 8080:80 busybox {SERVE}"))
        .ok();
    for address in ["127.0.0.1", "203.0.113.7"] {
        eventually(address, || {
            (world
                .on_host(&format!("curl -s -m 2 http://{address}:8080/"))
                .stdout()
                == "here")
                .then_some(())
        });
    }
    assert_eq!(world.run("port web").ok(), "80/tcp -> 0.0.0.0:8080");
    assert_eq!(world.run("port web 80").ok(), "0.0.0.0:8080");
    assert!(world.run("ps").ok().contains("0.0.0.0:8080->80/tcp"));
    let taken = world.run("run --rm -p 8080:80 busybox true").fails(125);
    assert!(
        taken.contains("8080") && taken.contains("port is already allocated"),
        "{taken}"
    );
    world.run("run -d --name client busybox sleep 600").ok();
    assert!(
        reachable(&world, "client", "http://203.0.113.7:8080/"),
        "another container reaches the host's address"
    );
    assert!(
        reachable(&world, "web", "http://203.0.113.7:8080/"),
        "the container reaches itself by the host's address"
    );
    world
        .run(&format!("run -d --name any -p 80 busybox {SERVE}"))
        .ok();
    let chosen = world.run("port any 80").ok();
    eventually("the chosen port", || {
        (world
            .on_host(&format!(
                "curl -s -m 2 http://{}/",
                chosen.replace("0.0.0.0", "127.0.0.1")
            ))
            .stdout()
            == "here")
            .then_some(())
    });
    world.run("rm -f web client any").ok();
    world.on_host("ip link delete outside").ok();
    world.finish();
}

#[test]
fn udp_is_published_too() {
    let world = World::with_busybox();
    world.file("echo.py", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 9000))\nwhile True:\n    data, peer = s.recvfrom(99)\n    s.sendto(data, peer)\n");
    // busybox has no server for datagrams, so the host's Python comes along
    world.run("run -d --name echo -p 9000:9000/udp -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro -v ./echo.py:/echo.py busybox /usr/bin/python3 /echo.py").ok();
    eventually("an answer", || {
        let answer = world.on_host("python3 -c 'import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(b\"ping\", (\"127.0.0.1\", 9000)); print(s.recv(9).decode())'");
        (answer.stdout() == "ping").then_some(())
    });
    world.run("rm -f echo").ok();
    world.finish();
}

#[test]
fn containers_reach_the_outside_through_nat() {
    let world = World::with_busybox();
    let outside = format!(
        "{}-out",
        world
            .path()
            .file_name()
            .and_then(|n| n.to_str())
            .expect("a name")
    );
    world
        .on_host("ip link add out0 type veth peer name out1")
        .ok();
    world.on_host("ip addr add 198.51.100.1/24 dev out0").ok();
    world.on_host("ip link set out0 up").ok();
    world.on_host(&format!("ip netns add {outside}")).ok();
    world
        .on_host(&format!("ip link set out1 netns {outside}"))
        .ok();
    world
        .on_host(&format!(
            "ip -n {outside} addr add 198.51.100.2/24 dev out1"
        ))
        .ok();
    world
        .on_host(&format!("ip -n {outside} link set out1 up"))
        .ok();
    world.file("www/index.html", "here");
    let mut server = world
        .host(&[
            "ip",
            "netns",
            "exec",
            &outside,
            "/bin/busybox",
            "httpd",
            "-f",
            "-p",
            "80",
            "-h",
            &world.path().join("www").to_string_lossy(),
        ])
        .spawn()
        .expect("a server outside");
    world.run("run -d --name client busybox sleep 600").ok();
    eventually("the outside answers", || {
        reachable(&world, "client", "http://198.51.100.2/").then_some(())
    });
    world.run("network create --internal closed").ok();
    world
        .run("run -d --name shut --network closed busybox sleep 600")
        .ok();
    assert!(!reachable(&world, "shut", "http://198.51.100.2/"));
    world.run("rm -f client shut").ok();
    world.run("network rm closed").ok();
    server.kill().expect("end the server");
    server.wait().expect("reap the server");
    world.on_host(&format!("ip netns delete {outside}")).ok();
    eventually("the link is gone with its namespace", || {
        (world.on_host("ip link show out0").code() != Some(0)).then_some(())
    });
    world.finish();
}

#[test]
fn host_none_and_container_modes() {
    let world = World::with_busybox();
    assert_eq!(
        world
            .run("run --rm --network none busybox ls /sys/class/net")
            .ok(),
        "lo"
    );
    world.on_host("ip link add seen type bridge").ok();
    assert!(
        world
            .run("run --rm --network host busybox ip link")
            .ok()
            .contains("seen")
    );
    world.on_host("ip link delete seen").ok();
    world
        .run(&format!("run -d --name web busybox {SERVE}"))
        .ok();
    eventually("shared loopback", || {
        (world
            .run("run --rm --network container:web busybox wget -q -O - http://127.0.0.1/")
            .stdout()
            == "here")
            .then_some(())
    });
    world.run("rm -f web").ok();
    world.finish();
}

#[test]
fn network_commands() {
    let world = World::with_busybox();
    assert_eq!(
        world.run("network ls --format {{.Name}}").ok(),
        "bridge\nhost\nnone"
    );
    assert_eq!(
        world
            .run("network create --subnet 10.77.0.0/24 --label a=b mine")
            .ok()
            .len(),
        64
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&world.run("network inspect mine").ok()).expect("JSON");
    assert_eq!(inspected[0]["IPAM"]["Config"][0]["Subnet"], "10.77.0.0/24");
    assert_eq!(inspected[0]["Labels"]["a"], "b");
    let twice = world.run("network create mine").fails(1);
    assert!(
        twice.contains("network with name mine already exists"),
        "{twice}"
    );
    let overlap = world
        .run("network create --subnet 10.77.0.0/16 other")
        .fails(1);
    assert!(overlap.contains("overlap"), "{overlap}");
    assert_eq!(
        world
            .run("run --rm --network mine --ip 10.77.0.9 busybox hostname -i")
            .ok(),
        "10.77.0.9"
    );
    let predefined = world.run("network rm bridge").fails(1);
    assert!(predefined.contains("pre-defined"), "{predefined}");
    let missing = world
        .run("run --rm --network absent busybox true")
        .fails(125);
    assert!(missing.contains("network absent not found"), "{missing}");
    assert!(world.run("network prune -f").ok().contains("mine"));
    world.finish();
}

#[test]
fn a_network_may_have_one_letter_and_a_volume_may_not() {
    let world = World::with_busybox();
    world.run("network create n").ok();
    world.run("run --rm --network n busybox true").ok();
    assert_eq!(world.run("network rm n").ok(), "n");
    let refused = world.run("volume create v").fails(1);
    let words =
        "create v: volume name is too short, names should be at least two alphanumeric characters";
    assert!(refused.contains(words), "{refused}");
    world.finish();
}
