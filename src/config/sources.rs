//! Where configuration comes from.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// What a process is told, before anybody has looked at it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`: files and folders, later wins. Empty: `$BLOCKHOUSE_CONFIG`, else [`Sources::folder`] if it exists.
    pub files: Vec<PathBuf>,
    /// The folder of a machine's configuration.
    pub folder: Option<PathBuf>,
    /// Environment variables.
    pub variables: Vec<(OsString, OsString)>,
    /// `--set KEY=VALUE`, later wins.
    pub set: Vec<String>,
    /// Flags that stand for keys; they win over everything.
    pub flags: Vec<Assigned>,
    /// A command's own defaults, such as `dev`'s: they win over the built-in ones only. `by` is the command.
    pub defaults: Vec<Assigned>,
    /// The host's name, for `instance`.
    pub host: String,
    /// The process's number, for `instance`.
    pub pid: u32,
}

/// A key that somebody other than a file or a variable sets.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// `--log-level`, `blockhouse dev`
    pub by: &'static str,
    /// `log.level`
    pub key: &'static str,
    /// As `--set` takes it.
    pub value: String,
}

impl Sources {
    /// What this process was told, but for its command line.
    pub fn of_process() -> Sources {
        Sources {
            folder: Some("/etc/blockhouse".into()),
            variables: std::env::vars_os().collect(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            ..Sources::default()
        }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// The files to read, in order. What can't be looked at is named with the reason.
    pub(super) fn paths(&self) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
        self.roots().into_iter().flat_map(|root| expand(&root)).collect()
    }

    fn roots(&self) -> Vec<PathBuf> {
        if !self.files.is_empty() {
            return self.files.clone();
        }
        if let Some(list) = self.variable("BLOCKHOUSE_CONFIG") {
            return std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
        }
        self.folder.iter().filter(|folder| folder.is_dir()).cloned().collect()
    }
}

/// A file is itself, a folder its `*.toml` by name; hidden ones are left out (editors keep copies there).
fn expand(root: &Path) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
    if !root.is_dir() {
        return vec![Ok(root.to_owned())];
    }
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => return vec![Err((root.to_owned(), error))],
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension() == Some(OsStr::new("toml")) && !path.is_dir()
    });
    paths.sort();
    paths.into_iter().map(Ok).collect()
}
