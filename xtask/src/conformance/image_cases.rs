//! The checks of images, as lines of shell.

use super::case::Case;

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "pushed by ketch: Docker, podman and skopeo pull and run",
        lines: r#"k tag busybox $open/from-ketch:1
k push -q $open/from-ketch:1
want=$(k image inspect -f '{{index .RepoDigests 0}}' $open/from-ketch:1); want=${want#*@}
same $(there from-ketch:1) $want
d pull -q $open/from-ketch:1
d image inspect -f '{{.RepoDigests}}' $open/from-ketch:1 | grep -q from-ketch@$want
same $(did $open/from-ketch:1) $(kid busybox)
same "$(d run --rm --network none $open/from-ketch:1 echo hello)" hello
p pull -q --tls-verify=false $open/from-ketch:1
same $(p image inspect -f '{{.Digest}}' $open/from-ketch:1) $want
same $(pid $open/from-ketch:1) $(kid busybox)
same "$(p run --rm --network none $open/from-ketch:1 echo hello)" hello
s copy -q --src-tls-verify=false docker://$open/from-ketch:1 dir:copy
same sha256:$(sha256sum copy/manifest.json | cut -c-64) $want"#,
    },
    Case {
        name: "built by ketch: the layers arrive whole",
        lines: r#"k run --name one busybox sh -c 'mkdir -p /data/deep; echo words > /data/deep/file; ln -s deep /data/link; rm /bin/wget; cp /bin/busybox /data/set; chmod 4711 /data/set'
k commit one $open/made:1; k push -q $open/made:1
d pull -q $open/made:1; p pull -q --tls-verify=false $open/made:1
look='cat /data/link/file; ls /bin/wget 2>&1 | wc -l; stat -c %a /data/set'
want=$(k run --rm $open/made:1 sh -c "$look")
same "$(d run --rm --network none $open/made:1 sh -c "$look")" "$want"
same "$(p run --rm --network none $open/made:1 sh -c "$look")" "$want""#,
    },
    Case {
        name: "pushed by Docker: ketch pulls, runs and keeps every digest",
        lines: r#"k save busybox | d load
d tag busybox $open/from-docker:1; d push -q $open/from-docker:1
want=$(there from-docker:1)
k pull -q $open/from-docker:1
k image inspect -f '{{.RepoDigests}}' $open/from-docker:1 | grep -q from-docker@$want
same $(kid $open/from-docker:1) $(did $open/from-docker:1)
same "$(k run --rm $open/from-docker:1 echo hello)" hello
k tag $open/from-docker:1 $open/again:1; k push -q $open/again:1
same $(there again:1) $want
k save -o saved.tar $open/from-docker:1
k rmi -f $open/from-docker:1 $open/again:1
k load -q -i saved.tar
k tag $open/from-docker:1 $open/loaded:1; k push -q $open/loaded:1
same $(there loaded:1) $want"#,
    },
    Case {
        name: "pushed by podman: ketch pulls, runs and keeps every digest",
        lines: r#"k save --format oci-archive -o box.tar busybox
p load -q -i box.tar
p tag docker.io/library/busybox:latest $open/from-podman:1
p push -q --tls-verify=false $open/from-podman:1
want=$(there from-podman:1)
k pull -q $open/from-podman:1
same $(kid $open/from-podman:1) $(pid $open/from-podman:1)
same "$(k run --rm $open/from-podman:1 echo hello)" hello
k tag $open/from-podman:1 $open/back:1; k push -q $open/back:1
same $(there back:1) $want"#,
    },
    Case {
        name: "copied by skopeo, every format and compression: ketch pulls and runs",
        lines: r#"k save --format oci-archive -o box.tar busybox
mkdir layout && tar -xf box.tar -C layout
for format in oci v2s2; do for pack in gzip zstd; do
    if [ $format$pack = v2s2zstd ]; then continue; fi
    s copy -q --format $format --dest-compress-format $pack --dest-tls-verify=false \
        oci:layout:latest docker://$open/skopeo-$format-$pack:1
    k pull -q $open/skopeo-$format-$pack:1
    k image inspect -f '{{.RepoDigests}}' $open/skopeo-$format-$pack:1 | grep -q @$(there skopeo-$format-$pack:1)
    same "$(k run --rm $open/skopeo-$format-$pack:1 echo hello)" hello
done; done"#,
    },
    Case {
        name: "archives: Docker's and podman's are loaded, ketch's are loaded by them",
        lines: r#"k save -o ketch.tar busybox
d load -q -i ketch.tar; p load -q -i ketch.tar
same $(did busybox) $(kid busybox)
same $(pid busybox) $(kid busybox)
same "$(d run --rm --network none busybox echo hello)" hello
d tag busybox by-docker:1; d save -o docker.tar by-docker:1
k load -q -i docker.tar
same $(kid by-docker:1) $(kid busybox)
same "$(k run --rm by-docker:1 echo hello)" hello
for format in docker-archive oci-archive; do
    p tag busybox localhost/by-podman:$format
    p save -q --format $format -o $format.tar localhost/by-podman:$format
    k load -q -i $format.tar
    same "$(k run --rm localhost/by-podman:$format echo hello)" hello
done
same $(kid localhost/by-podman:docker-archive) $(kid busybox)"#,
    },
    Case {
        name: "the store is read in place by skopeo, umoci and podman",
        lines: r#"store=$KETCH_DATA_ROOT/images
name=docker.io/library/busybox:latest
s inspect --raw oci:$store:$name > manifest.json
same sha256:$(sha256sum manifest.json | cut -c-64) $(k image inspect -f '{{.Descriptor.digest}}' busybox)
umoci list --layout $store | grep -q busybox
cp -r $store copy
umoci unpack --image copy:$name bundle
test -x bundle/rootfs/bin/busybox
same "$(p run --rm --network none oci:$store:$name echo hello)" hello"#,
    },
    Case {
        name: "several platforms: what is here of an index is pushed, one alone on demand",
        lines: r#"k save --format oci-archive -o box.tar busybox; mkdir layout; tar -xf box.tar -C layout
for machine in amd64 arm64; do
    s copy -q --override-arch $machine oci:layout:latest dir:$machine
    config=$(sed -n 's/.*"config":{[^}]*"digest":"sha256:\([0-9a-f]*\)".*/\1/p' $machine/manifest.json)
    sed -i "s/\"architecture\":\"[a-z0-9]*\"/\"architecture\":\"$machine\"/" $machine/$config
    new=$(sha256sum $machine/$config | cut -c-64); size=$(stat -c %s $machine/$config)
    mv $machine/$config $machine/$new 2>/dev/null || true
    sed -i "s/$config/$new/; s/\(\"config\":{[^}]*\"size\":\)[0-9]*/\1$size/" $machine/manifest.json
    s copy -q --dest-tls-verify=false dir:$machine docker://$open/one:$machine
done
k manifest create $open/both:1 $open/one:amd64 $open/one:arm64
k manifest push $open/both:1
want=$(there both:1)
k pull -q $open/both:1
k tag $open/both:1 $open/part:1; k push -q $open/part:1
mine=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
same $(there part:1) $(there one:$mine)
k pull -q --platform linux/arm64 $open/both:1; k pull -q --platform linux/amd64 $open/both:1
k tag $open/both:1 $open/whole:1; k push -q $open/whole:1
same $(there whole:1) $want
k push -q --platform linux/arm64 $open/part:1
same $(there part:1) $(there one:arm64)
fails k push -q --platform linux/s390x $open/part:1
k save -o both.tar $open/both:1; k rmi -f $open/both:1 $open/part:1 $open/whole:1
k load -q -i both.tar
k tag $open/both:1 $open/loaded:2; k push -q $open/loaded:2
same $(there loaded:2) $want"#,
    },
    Case {
        name: "Docker's client at ketch's server: images",
        lines: r#"a tag busybox box:1
a images --format '{{.Repository}}:{{.Tag}}' | grep -qx box:1
same $(a images -q --no-trunc box:1) $(kid box:1)
a history --format '{{.Comment}}' box:1 | grep -q Imported
a images --digests --filter reference=box --format '{{.Tag}}' | grep -qx 1
a save -o box.tar box:1; k save -q -o own.tar box:1; cmp box.tar own.tar
a rmi box:1 | grep -qx 'Untagged: box:1'
same "$(a load -q -i box.tar)" 'Loaded image: box:1'
mkdir root; echo words > root/file; tar -cf root.tar -C root .
id=$(a import -c 'CMD /file' -m hello root.tar made:1)
same $(kid made:1) $id
same "$(k image inspect -f '{{.Config.Cmd}} {{.Comment}}' made:1)" '[/bin/sh -c /file] hello'
a image inspect -f '{{.Id}}' made:1 | grep -qx $id
a image prune -f
fails a rmi absent
fails a import /nonexistent"#,
    },
    Case {
        name: "Docker's client at ketch's server: registries",
        lines: r#"fails a login -u me -p wrong $closed
fails a push $closed/private:1
a tag busybox $closed/private:1
code a push $closed/private:1 > out 2>&1; grep -q 'The push refers to repository' out
echo s3cret | a login -u me --password-stdin $closed | grep -q 'Login Succeeded'
a push $closed/private:1 | grep -q '^1: digest: sha256:[0-9a-f]* size: [0-9]*$'
want=$(k image inspect -f '{{index .RepoDigests 0}}' $closed/private:1); want=${want#*@}
a rmi $closed/private:1
a pull $closed/private:1 | grep -q "^Digest: $want"
a pull $closed/private:1 | grep -q "^Status: Image is up to date for $closed/private:1"
a tag busybox $closed/private:2
a push -a $closed/private | grep -q '^2: digest: '
a rmi $closed/private:1 $closed/private:2
a pull -q -a $closed/private
same $(a images -q $closed/private | wc -l) 2
same "$(a run --rm $closed/private:2 echo hello)" hello
a logout $closed
a rmi $closed/private:1
fails a pull -q $closed/private:1
k save busybox | d load -q; d tag busybox $open/plain:1; d push -q $open/plain:1
a manifest create --insecure $open/list:1 $open/plain:1
a manifest push --insecure $open/list:1
a manifest inspect --insecure $open/list:1 | grep -q manifests
code a search $open/box > out 2>&1; grep -q 'cannot be searched' out"#,
    },
];
