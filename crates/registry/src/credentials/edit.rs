//! Changing Docker's `config.json`: what `login` and `logout` do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Credentials, CredentialsError, FILE_MAX, find, helper, host_of, key_of, read_config};

/// Docker's `config.json` as the place where credentials are kept. It need not exist.
#[derive(Debug, Clone)]
pub struct CredentialFile {
    path: PathBuf,
}

/// What is kept of a log-in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password or access token.
    pub password: String,
    /// The token service's token, which is kept instead of the password.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for Login {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Where a log-in is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file itself, readable for whoever reads the file.
    File(PathBuf),
    /// With a helper program, by its whole name.
    Helper(String),
}

impl CredentialFile {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user name that is kept for a registry; empty for an identity token, None where nothing is kept.
    ///
    /// # Errors
    /// The file or the helper cannot be read.
    pub fn user(&self, host: &str) -> Result<Option<String>, CredentialsError> {
        Ok(find(&self.path, host)?.map(|found| match found {
            Credentials::Password { user, .. } => user,
            Credentials::Identity(_) | Credentials::Registry(_) => String::new(),
        }))
    }

    /// Keeps a log-in: with the helper that the file names for the registry, or in the file.
    ///
    /// # Errors
    /// The file cannot be read or replaced, the helper fails.
    pub fn keep(&self, host: &str, login: &Login) -> Result<Kept, CredentialsError> {
        let key = key_of(host);
        let identity = login.identity_token.as_deref();
        let Some(name) = self.helper(host)? else {
            let mut entry = json!({"auth": encode(login)});
            if let Some(token) = identity {
                entry["identitytoken"] = token.into();
            }
            self.change(|auths| {
                auths.insert(key.into(), entry);
                true
            })?;
            return Ok(Kept::File(self.path.clone()));
        };
        helper::store(&name, key, &login.user, &login.password, identity)?;
        // As Docker does: that there is something is told here, what it is there.
        self.change(|auths| {
            auths.insert(key.into(), json!({}));
            true
        })?;
        Ok(Kept::Helper(format!("docker-credential-{name}")))
    }

    /// Forgets what is kept for a registry; whether there was anything.
    ///
    /// # Errors
    /// As [`CredentialFile::keep`].
    pub fn forget(&self, host: &str) -> Result<bool, CredentialsError> {
        let mut found = false;
        if let Some(name) = self.helper(host)? {
            found = helper::erase(&name, key_of(host))?;
        }
        let key = key_of(host);
        if read_config(&self.path)?.is_none() {
            return Ok(found);
        }
        self.change(|auths| {
            let before = auths.len();
            auths.retain(|entry, _| entry != key && host_of(entry) != host);
            found |= auths.len() < before;
            auths.len() < before
        })?;
        Ok(found)
    }

    /// The helper for a registry.
    fn helper(&self, host: &str) -> Result<Option<String>, CredentialsError> {
        let Some(config) = read_config(&self.path)? else {
            return Ok(None);
        };
        let own = [host, key_of(host)]
            .into_iter()
            .find_map(|key| config.cred_helpers.get(key).cloned());
        Ok(own
            .or(Some(config.creds_store))
            .filter(|name| !name.is_empty()))
    }

    /// Replaces the file with changed `auths`; all else in it stays. `change` says whether anything is to be written.
    fn change(
        &self,
        change: impl FnOnce(&mut Map<String, Value>) -> bool,
    ) -> Result<(), CredentialsError> {
        // Whoever keeps the file elsewhere and links to it keeps the link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = path.parent().unwrap_or(Path::new("."));
        let failed = |call, path: &Path| {
            let path = path.to_owned();
            move |source| CredentialsError::Write { call, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("mkdir", directory))?;
        // Two log-ins at once must not lose one: the lock is on the directory, and ends with us.
        let locked = File::open(directory).map_err(failed("open", directory))?;
        locked.lock().map_err(failed("flock", directory))?;
        let mut config = self.read_value(&path)?;
        let object = config.as_object_mut().ok_or_else(|| self.shape("it"))?;
        let auths = object.entry("auths").or_insert_with(|| json!({}));
        let auths = auths.as_object_mut().ok_or_else(|| self.shape("auths"))?;
        if !change(auths) {
            return Ok(());
        }
        let mut text = Vec::new();
        // Docker's own indentation: a file that changes hands stays comparable.
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        config
            .serialize(&mut serializer)
            .map_err(|source| CredentialsError::Format {
                path: path.clone(),
                source,
            })?;
        text.push(b'\n');
        replace(&path, &text).map_err(failed("replace", &path))?;
        locked.sync_all().map_err(failed("fsync", directory))
    }

    fn shape(&self, what: &'static str) -> CredentialsError {
        CredentialsError::Shape {
            path: self.path.clone(),
            what,
        }
    }

    fn read_value(&self, path: &Path) -> Result<Value, CredentialsError> {
        let failed = |source| CredentialsError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => {
                let read = file.take(FILE_MAX + 1).read_to_end(&mut text);
                if read.map_err(failed)? as u64 > FILE_MAX {
                    return Err(failed(io::ErrorKind::FileTooLarge.into()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if text.trim_ascii().is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(&text).map_err(|source| CredentialsError::Format {
            path: path.to_owned(),
            source,
        })
    }
}

/// `auth`: base64 of `user:password`; the password is left out where a token stands for it.
fn encode(login: &Login) -> String {
    let password = match login.identity_token {
        Some(_) => "",
        None => login.password.as_str(),
    };
    STANDARD.encode(format!("{}:{password}", login.user))
}

/// Writes a file of the same directory and renames it. Only its owner may read it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_file_name(format!(
        ".{}.{}.tmp",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            user: user.into(),
            password: password.into(),
            identity_token: None,
        }
    }

    #[test]
    fn a_login_is_kept_and_forgotten_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.json");
        let file = CredentialFile::new(&path);
        assert_eq!(file.user("r.example").unwrap(), None);
        assert!(!file.forget("r.example").unwrap());
        assert!(!path.exists());
        file.keep("r.example", &login("me", "se:cret")).unwrap();
        assert_eq!(file.user("r.example").unwrap().as_deref(), Some("me"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::write(
            &path,
            r#"{"psFormat": "x", "auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "k.example": {"email": "e"}}, "zz": [1]}"#,
        )
        .unwrap();
        let kept = file.keep("docker.io", &login("you", "p")).unwrap();
        assert_eq!(kept, Kept::File(path.clone()));
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            (&value["psFormat"], &value["zz"]),
            (&json!("x"), &json!([1]))
        );
        assert_eq!(value["auths"]["k.example"]["email"], "e");
        assert_eq!(file.user("docker.io").unwrap().as_deref(), Some("you"));
        assert!(file.forget("docker.io").unwrap());
        assert_eq!(file.user("docker.io").unwrap(), None);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("{\n\t\"psFormat\"") && text.contains("\n\t\t\"k.example\""),
            "{text}"
        );
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn an_identity_token_stands_for_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let file = CredentialFile::new(&path);
        let login = Login {
            identity_token: Some("idt".into()),
            ..login("me", "secret")
        };
        file.keep("r.example:5000", &login).unwrap();
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            value["auths"]["r.example:5000"],
            json!({"auth": STANDARD.encode("me:"), "identitytoken": "idt"})
        );
        assert!(
            find(&path, "r.example:5000").unwrap() == Some(Credentials::Identity("idt".into()))
        );
    }

    #[test]
    fn a_link_stays_one_and_a_broken_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.json");
        let link = dir.path().join("config.json");
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let file = CredentialFile::new(&link);
        file.keep("r.example", &login("me", "p")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("r.example"));
        for broken in ["{", "[]", r#"{"auths": []}"#] {
            fs::write(&real, broken).unwrap();
            file.keep("r.example", &login("me", "p")).unwrap_err();
            assert_eq!(fs::read_to_string(&real).unwrap(), broken);
        }
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"credsStore": "ketch-test-nonexistent"}"#).unwrap();
        let error = CredentialFile::new(&path)
            .keep("r.example", &login("me", "p"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("docker-credential-ketch-test-nonexistent"),
            "{error}"
        );
    }
}
