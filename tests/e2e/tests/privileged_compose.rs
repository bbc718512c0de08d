//! Compose: an application of services.

use ketch_test_support::{World, eventually};

const FILE: &str = r#"
services:
  web:
    build: ./web
    environment:
      - WHO=${WHO:-nobody}
    env_file: web.env
    ports: ["${PORT}:80"]
    depends_on:
      store: {condition: service_healthy}
  store:
    image: busybox
    command: sh -c "mkdir -p /data && touch /data/ready && exec nc -ll -p 7000 -e cat /data/value"
    volumes: ["values:/data"]
    healthcheck:
      test: ["CMD-SHELL", "test -e /data/ready"]
      interval: 200ms
      retries: 50
volumes:
  values:
"#;

fn application(world: &World) {
    world.file("shop/compose.yaml", FILE);
    world.file("shop/.env", "PORT=8090\nWHO=env\n");
    world.file("shop/web.env", "EXTRA=from file\n");
    world.file("shop/web/Dockerfile", "FROM busybox\nCOPY serve /serve\nCMD [\"sh\", \"/serve\"]\n");
    world.file("shop/web/serve", "echo \"$WHO $EXTRA\" > /index.html\nexec httpd -f -p 80 -h /\n");
}

#[test]
fn up_runs_services_in_order_and_down_removes_them() {
    let world = World::with_busybox();
    application(&world);
    world.run("compose -f shop/compose.yaml up -d --build").ok();
    eventually("the web answers", || (world.on_host("curl -s -m 2 http://127.0.0.1:8090/").stdout() == "env from file").then_some(()));
    let listed = world.run("compose -f shop/compose.yaml ps").ok();
    assert!(listed.contains("shop-web-1") && listed.contains("shop-store-1") && listed.contains("(healthy)"), "{listed}");
    world.run("exec shop-store-1 sh -c 'echo kept > /data/value'").ok();
    eventually("services talk", || (world.run("exec shop-web-1 nc store 7000").stdout() == "kept").then_some(()));
    let before = world.run("ps -q --no-trunc").ok();
    world.run("compose -f shop/compose.yaml up -d").ok();
    assert_eq!(world.run("ps -q --no-trunc").ok(), before, "an unchanged project stays as it is");
    world.run("compose -f shop/compose.yaml down").ok();
    assert_eq!(world.run("ps -aq").ok(), "");
    assert_eq!(world.run("network ls -q --filter name=shop_default").ok(), "");
    assert_eq!(world.run("volume ls -q").ok(), "shop_values");
    world.run("compose -f shop/compose.yaml up -d").ok();
    assert_eq!(world.run("exec shop-store-1 cat /data/value").ok(), "kept");
    world.run("compose -f shop/compose.yaml down -v").ok();
    assert_eq!(world.run("volume ls -q").ok(), "");
    world.finish();
}

#[test]
fn config_shows_the_project_and_names_mistakes() {
    let world = World::with_busybox();
    application(&world);
    let shown = world.run("compose -f shop/compose.yaml config").ok();
    assert!(shown.contains("name: shop") && shown.contains("WHO: env") && shown.contains("published: \"8090\""), "{shown}");
    assert_eq!(world.run("compose -f shop/compose.yaml config --services").ok(), "store\nweb");
    world.file("bad/compose.yaml", "services:\n  a:\n    image: busybox\n    comand: true\n");
    let unknown = world.run("compose -f bad/compose.yaml config").fails(1);
    assert!(unknown.contains("comand") && unknown.contains("compose.yaml"), "{unknown}");
    world.file("bad/compose.yaml", "services:\n  a:\n    image: busybox\n    depends_on: [b]\n  b:\n    image: busybox\n    depends_on: [a]\n");
    let cycle = world.run("compose -f bad/compose.yaml config").fails(1);
    assert!(cycle.contains("cycle"), "{cycle}");
    let absent = world.run("compose -f nothing.yaml up").fails(1);
    assert!(absent.contains("nothing.yaml"), "{absent}");
    world.finish();
}

#[test]
fn logs_and_changes() {
    let world = World::with_busybox();
    world.file("p/docker-compose.yml", "services:\n  talk:\n    image: busybox\n    command: echo spoken\n");
    world.run("compose -f p/docker-compose.yml up -d").ok();
    eventually("it spoke", || world.run("compose -f p/docker-compose.yml logs --no-color").stdout().contains("talk-1  | spoken").then_some(()));
    world.file("p/docker-compose.yml", "services:\n  talk:\n    image: busybox\n    command: echo changed\n");
    world.run("compose -f p/docker-compose.yml up -d").ok();
    eventually("recreated", || world.run("compose -f p/docker-compose.yml logs --no-color").stdout().contains("changed").then_some(()));
    world.run("compose -f p/docker-compose.yml down").ok();
    world.finish();
}
