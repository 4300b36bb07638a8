//! Where a secret comes from: the text itself, a file, or a credential that systemd passed in.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most that a secret's file may hold, in bytes.
const MOST: u64 = 64 << 10;

/// A secret that stands somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// `file:PATH`
    File(PathBuf),
    /// `credential:NAME`
    Credential(String),
}

impl Reference {
    /// `None` for a secret that stands there itself.
    pub(super) fn parse(text: &str) -> Option<Reference> {
        if let Some(path) = text.strip_prefix("file:") {
            return Some(Reference::File(path.into()));
        }
        text.strip_prefix("credential:").map(|name| Reference::Credential(name.to_owned()))
    }

    /// Reads it, without the newline at its end. `credentials` is `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// Why it can't be read, for people.
    pub(super) fn read(&self, credentials: Option<&Path>) -> Result<String, String> {
        match self {
            Reference::File(path) => read(path),
            Reference::Credential(name) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
                Err(format!("'{name}' can't be a credential's name"))
            }
            Reference::Credential(name) => match credentials {
                Some(folder) => read(&folder.join(name)),
                None => Err("needs LoadCredential= of systemd: CREDENTIALS_DIRECTORY is not set".to_owned()),
            },
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("can't read {shown}: {error}"))?;
    file.take(MOST + 1).read_to_string(&mut text).map_err(|error| format!("can't read {shown}: {error}"))?;
    if text.len() as u64 > MOST {
        return Err(format!("{shown} holds more than {MOST} bytes"));
    }
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_stand_in_a_file_or_be_a_credential() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        let file = Reference::parse(&format!("file:{}", path.display())).unwrap();
        assert_eq!(file.read(None).unwrap(), "s3cret");
        let credential = Reference::parse("credential:token").unwrap();
        assert_eq!(credential.read(Some(folder.path())).unwrap(), "s3cret");
        assert_eq!(Reference::parse("s3cret"), None);
    }

    #[test]
    fn a_secret_that_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Reference::File(folder.path().join(name));
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        std::fs::write(folder.path().join("long"), vec![b'x'; 70_000]).unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        for (name, why) in [
            ("none", "No such file"),
            ("empty", "is empty"),
            ("long", "more than 65536"),
            ("binary", "UTF-8"),
        ] {
            let error = at(name).read(None).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let outside = Reference::Credential("../token".to_owned());
        assert!(outside.read(Some(folder.path())).unwrap_err().contains("can't be a credential's name"));
        let nowhere = Reference::Credential("token".to_owned());
        assert!(nowhere.read(None).unwrap_err().contains("CREDENTIALS_DIRECTORY"));
    }
}
