//! Images made by other tools, compared with what those tools unpack: needs `umoci`, and `skopeo`
//! for its archives. Without them nothing is compared, and the test prints that.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_needs::skip;
use panoptes_sbom::build::{BuildOptions, BuildResult, build};
use panoptes_sbom::model::SbomSubject;
use sha2::{Digest as _, Sha256};

fn run(folder: &Path, line: &str) {
    let mut words = line.split(' ');
    let output = bounded::output_within(
        Command::new(words.next().expect("a line has a program")).args(words).current_dir(folder),
        bounded::LONG,
    )
    .expect("the program starts");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Every regular file below a root with its hash and permissions, links not followed.
fn truth(root: &Path, path: &str, files: &mut BTreeMap<String, ([u8; 32], u32)>) {
    for entry in fs::read_dir(root.join(path.trim_start_matches('/'))).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let path = format!("{path}/{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata().expect("it is there");
        if metadata.is_dir() {
            truth(root, &path, files);
        } else if metadata.is_file() {
            let content = fs::read(entry.path()).expect("it can be read");
            let mode = metadata.permissions().mode() & 0o7777;
            files.insert(path, (Sha256::digest(content).into(), mode));
        }
    }
}

fn files(built: &BuildResult) -> BTreeMap<String, ([u8; 32], u32)> {
    let files = built.sbom.files.iter();
    files
        .map(|file| {
            let path = String::from_utf8(file.path.clone().expect("it has a path"));
            let known = (file.sha256.expect("it is hashed"), u32::from(file.mode.unwrap_or(0)));
            (path.expect("it is text"), known)
        })
        .collect()
}

fn write(root: &Path, path: &str, content: &[u8]) {
    let place = root.join(path);
    fs::create_dir_all(place.parent().expect("it has a folder")).expect("there is room");
    fs::write(&place, content).expect("there is room");
    fs::set_permissions(&place, Permissions::from_mode(0o755)).expect("the test made the file");
}

#[test]
fn an_image_of_umoci_is_what_umoci_unpacks() {
    if !skip::has("umoci") {
        return;
    }
    let folder = tempfile::tempdir().expect("there is room");
    let work = folder.path();
    let umoci = |line: &str| run(work, &format!("umoci {line}"));
    umoci("init --layout image");
    umoci("new --image image:app");
    umoci("unpack --rootless --image image:app one");
    let root = work.join("one/rootfs");
    let program = fs::read("/bin/busybox").or_else(|_| fs::read("/bin/sh"));
    write(&root, "usr/bin/busybox", &program.expect("there is a program"));
    for index in 0..50 {
        write(&root, &format!("usr/share/doc/{index}"), format!("{index}").as_bytes());
        write(&root, &format!("srv/{}/deep", "d/".repeat(index)), b"deep");
    }
    fs::hard_link(root.join("usr/bin/busybox"), root.join("usr/bin/sh")).expect("there is room");
    symlink("usr/bin", root.join("bin")).expect("there is room");
    write(&root, "etc/kind", b"a file");
    write(&root, "etc/folder/x", b"x");
    write(&root, &format!("long/{}", "n".repeat(200)), b"long");
    umoci("repack --image image:app one");

    umoci("unpack --rootless --image image:app two");
    let root = work.join("two/rootfs");
    let remove = |path: &str| fs::remove_dir_all(root.join(path)).expect("it is there");
    remove("usr/share/doc");
    write(&root, "usr/share/doc/7", b"seven");
    fs::remove_file(root.join("usr/bin/sh")).expect("it is there");
    write(&root, "usr/bin/sh", b"#!/bin/busybox\n");
    fs::remove_file(root.join("etc/kind")).expect("it is there");
    write(&root, "etc/kind/now/a/folder", b"y");
    remove("etc/folder");
    write(&root, "etc/folder", b"now a file");
    fs::remove_file(root.join("bin")).expect("it is there");
    write(&root, "bin/tool", b"no link any more");
    umoci("repack --image image:app two");
    umoci(
        "config --image image:app --config.entrypoint /usr/bin/busybox --config.cmd sh \
         --config.env A=b --config.workingdir /srv --architecture arm64",
    );

    umoci("unpack --rootless --image image:app three");
    let mut expected = BTreeMap::new();
    truth(&work.join("three/rootfs"), "", &mut expected);
    let image = build(&work.join("image"), &BuildOptions::default(), &()).expect("it is good");
    assert_eq!(files(&image), expected);
    assert!(expected.len() > 50);
    let SbomSubject::Image(found) = &image.sbom.subject else { panic!("it is an image") };
    assert_eq!(found.name.as_deref(), Some("app"));
    assert_eq!(
        (&found.entrypoint[..], &found.cmd[..]),
        (&["/usr/bin/busybox".to_owned()][..], &["sh".to_owned()][..])
    );
    assert_eq!(found.platform.as_deref(), Some("linux/arm64"));
    assert!(found.env.contains(&"A=b".to_owned()));
    assert_eq!(found.working_directory.as_deref(), Some("/srv"));

    if !skip::has("skopeo") {
        return;
    }
    let skopeo = |to: &str| {
        run(
            work,
            &format!("skopeo --insecure-policy --override-arch arm64 copy oci:image:app {to}"),
        );
    };
    skopeo("oci-archive:oci.tar:app");
    skopeo("docker-archive:docker.tar:app:1");
    for (archive, name) in [("oci.tar", "app"), ("docker.tar", "app:1")] {
        let built = build(&work.join(archive), &BuildOptions::default(), &()).expect("it is good");
        assert_eq!(built.sbom.files, image.sbom.files, "{archive}");
        let found = built.sbom.subject.name().unwrap_or_default();
        assert!(found.ends_with(name), "{archive}: {found}");
    }
}
