//! What every source of configuration does, on real files.

mod errors;
mod layers;
mod reload;
mod round_trip;
mod secrets;

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// Files in a folder of their own.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

fn of_file(text: impl AsRef<[u8]>) -> Result<Loaded, String> {
    let files = Files::new();
    let path = files.put("a.toml", text);
    load(Sources { files: vec![path], ..Sources::default() })
        .map_err(|errors| errors.to_string().replace(&format!("{}/", files.path().display()), ""))
}

fn of_variables(variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    load(Sources { variables, ..Sources::default() }).map_err(|errors| errors.to_string())
}

fn of_set(set: &[&str]) -> Result<Loaded, String> {
    let set = set.iter().map(|&assignment| assignment.to_owned()).collect();
    load(Sources { set, ..Sources::default() }).map_err(|errors| errors.to_string())
}

fn shown(loaded: &Loaded, key: &str) -> String {
    let shown = loaded.shown().into_iter().find(|shown| shown.key == key).unwrap();
    shown.value.map_or("not set".to_owned(), |value| value.to_string())
}

fn origin<'a>(loaded: &'a Loaded, key: &str) -> &'a str {
    &loaded.origins[key]
}
