//! Users and groups by name, as an image's own /etc/passwd and /etc/group say.
//!
//! The files belong to the image, so they are opened inside its root only, must be regular files, and are read up to
//! a bound. The rules are Docker's: a number is always an id, never a name.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// How much of each file is read, in bytes.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Docker's bound of ids.
const MAX_ID: u32 = i32::MAX as u32;

/// A user in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory, `/` where none is known.
    pub home: String,
}

/// Resolves `user[:group]` and further groups against the files inside `root`. An empty user is 0.
///
/// # Errors
/// `Invalid` in Docker's words for a name that is not there or an id out of range; `Internal` if a file cannot be read.
pub fn resolve(root: BorrowedFd<'_>, user: &str, groups: &[String]) -> Result<ResolvedUser> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let passwd = read_file(root, "/etc/passwd")?;
    let found = find_user(&passwd, name)?;
    // Groups matter only for a name, a group given or groups added: for plain numbers one file less is read.
    let group_text = match (group, &found.name, groups) {
        (None, None, []) => Vec::new(),
        _ => read_file(root, "/etc/group")?,
    };
    let mut gid = found.gid;
    let mut supplementary = Vec::new();
    match group {
        Some(group) => gid = find_group(&group_text, group, "unable to find group")?,
        None => supplementary = groups_of(&group_text, found.name.as_deref()),
    }
    for group in groups {
        supplementary.push(find_group(&group_text, group, "Unable to find group")?);
    }
    let mut all = vec![gid];
    for group in supplementary {
        if !all.contains(&group) {
            all.push(group);
        }
    }
    Ok(ResolvedUser {
        uid: found.uid,
        gid,
        groups: all,
        home: found.home,
    })
}

struct User {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_user(passwd: &[u8], wanted: &str) -> Result<User> {
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    let number = wanted.parse::<u32>().ok();
    for fields in lines(passwd) {
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            continue;
        };
        let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>()) else {
            continue;
        };
        if number.map_or(name == wanted, |number| number == uid) {
            check_range(uid)?;
            check_range(gid)?;
            let home = if home.is_empty() { "/" } else { home };
            return Ok(User {
                name: Some(name.to_owned()),
                uid,
                gid,
                home: home.to_owned(),
            });
        }
    }
    match number {
        Some(uid) => {
            check_range(uid)?;
            Ok(User {
                name: None,
                uid,
                gid: 0,
                home: "/".into(),
            })
        }
        None if wanted.bytes().all(|byte| byte.is_ascii_digit()) => Err(out_of_range()),
        None => Err(invalid(format!(
            "unable to find user {wanted}: no matching entries in passwd file"
        ))),
    }
}

fn find_group(file: &[u8], wanted: &str, message: &str) -> Result<u32> {
    if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        let gid = wanted.parse::<u32>().map_err(|_| out_of_range())?;
        check_range(gid)?;
        return Ok(gid);
    }
    let found = lines(file).find_map(|fields| match fields[..] {
        [name, _, gid, ..] if name == wanted => gid.parse::<u32>().ok(),
        _ => None,
    });
    found.ok_or_else(|| {
        invalid(format!(
            "{message} {wanted}: no matching entries in group file"
        ))
    })
}

fn groups_of(file: &[u8], member: Option<&str>) -> Vec<u32> {
    let Some(member) = member else {
        return Vec::new();
    };
    lines(file)
        .filter_map(|fields| match fields[..] {
            [_, _, gid, members, ..] if members.split(',').any(|name| name == member) => {
                gid.parse().ok()
            }
            _ => None,
        })
        .collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

fn read_file(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    // NONBLOCK: a fifo that an image puts there must not stop us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match ketch_sys::fs::open_in_root(root, Path::new(path), flags, Mode::empty()) {
        Ok(file) => file,
        // Without the file, numbers still work and names are not found.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(Vec::new()),
        Err(errno) => return Err(failed("open", path, &errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed("stat", path, &errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", path, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(invalid(format!(
            "the image's {path} is longer than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn check_range(id: u32) -> Result<()> {
    if id > MAX_ID {
        Err(out_of_range())
    } else {
        Ok(())
    }
}

fn out_of_range() -> Error {
    invalid(format!("uids and gids must be in range 0-{MAX_ID}"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn failed(call: &str, path: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {path} in the container's root"),
        error,
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Image(tempfile::TempDir);

    impl Image {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("etc")).unwrap();
            fs::write(
                dir.path().join("etc/passwd"),
                "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nweb:x:33:34::/var/www:/bin/false\n7up:x:70:70:::\n",
            )
            .unwrap();
            fs::write(
                dir.path().join("etc/group"),
                "root:x:0:\nwww:x:34:\nlogs:x:50:web,root\nssl:x:51:web\n",
            )
            .unwrap();
            Self(dir)
        }

        fn resolve(&self, user: &str, groups: &[&str]) -> Result<ResolvedUser> {
            let root = fs::File::open(self.0.path()).unwrap();
            let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
            resolve(root.as_fd(), user, &groups)
        }
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> ResolvedUser {
        ResolvedUser {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.into(),
        }
    }

    #[test]
    fn names_numbers_and_groups() {
        let image = Image::new();
        assert_eq!(
            image.resolve("", &[]).unwrap(),
            user(0, 0, &[0, 50], "/root")
        );
        assert_eq!(
            image.resolve("web", &[]).unwrap(),
            user(33, 34, &[34, 50, 51], "/var/www")
        );
        assert_eq!(
            image.resolve("33", &[]).unwrap(),
            user(33, 34, &[34, 50, 51], "/var/www")
        );
        assert_eq!(
            image.resolve("web:ssl", &[]).unwrap(),
            user(33, 51, &[51], "/var/www")
        );
        assert_eq!(
            image.resolve("web:1234", &["logs", "7"]).unwrap(),
            user(33, 1234, &[1234, 50, 7], "/var/www")
        );
        assert_eq!(
            image.resolve("1000", &[]).unwrap(),
            user(1000, 0, &[0], "/")
        );
        assert_eq!(
            image.resolve("1000:1000", &[]).unwrap(),
            user(1000, 1000, &[1000], "/")
        );
        assert_eq!(image.resolve("7up", &[]).unwrap(), user(70, 70, &[70], "/"));
    }

    #[test]
    fn errors_are_dockers() {
        let image = Image::new();
        let message =
            |user: &str, groups: &[&str]| image.resolve(user, groups).unwrap_err().to_string();
        assert_eq!(
            message("nobody", &[]),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            message("web:none", &[]),
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            message("web", &["none"]),
            "Unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            message("4294967295", &[]),
            "uids and gids must be in range 0-2147483647"
        );
        assert_eq!(
            message("99999999999", &[]),
            "uids and gids must be in range 0-2147483647"
        );
    }

    #[test]
    fn an_image_without_the_files_has_numbers_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        assert_eq!(
            resolve(root.as_fd(), "", &[]).unwrap(),
            user(0, 0, &[0], "/")
        );
        assert!(resolve(root.as_fd(), "root", &[]).is_err());
    }

    #[test]
    fn a_link_out_of_the_image_stays_inside_and_a_fifo_is_no_file() {
        let image = Image::new();
        let passwd = image.0.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        // The host's /etc/passwd has root's home; inside the image the link leads to itself.
        symlink("/etc/passwd", &passwd).unwrap();
        assert_eq!(image.resolve("0", &[]).unwrap(), user(0, 0, &[0], "/"));
        fs::remove_file(&passwd).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &passwd,
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(image.resolve("0", &[]).unwrap(), user(0, 0, &[0], "/"));
    }
}
