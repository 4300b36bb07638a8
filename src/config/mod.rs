//! Configuration: raw file shape → resolved settings.
//!
//! ```text
//! built-in < a command's own < files in order < environment < --set < flags
//! ```
//! One table of keys (`table`) drives parsing, validation, `config print`, `config reference` and
//! `config/default.toml`. Each source becomes a layer whose values carry their place; the `config` crate lays the layers
//! over each other; every error names file, line, column, key, what is allowed and what was probably meant.

mod blank;
pub mod duration;
mod form;
pub mod keys;
mod layer;
mod loaded;
pub mod problem;
mod reader;
mod redact;
pub mod reference;
mod reload;
mod rules;
mod secret;
pub mod settings;
pub mod sources;
mod suggest;
mod table;
mod table_chaos;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use config::{Value, ValueKind};

use keys::{Key, Keys};
use layer::{Layer, Merged, from_text};
pub use loaded::{Loaded, Shown};
pub use problem::{Errors, Problem};
use reader::Reader;
pub use redact::redact_url;
pub use reload::Reload;
pub use settings::Settings;
pub use sources::{Assigned, Sources};
use suggest::nearest;

/// The origin of what nobody set.
pub const DEFAULT: &str = "default";

/// Reads, lays over each other and checks everything that `sources` name. Blocks on files.
///
/// # Errors
/// Everything that is wrong, not just the first. No secret shows in it.
pub fn load(sources: Sources) -> Result<Loaded, Errors> {
    let keys = Keys::default();
    let mut reader = Reader::new(&keys, sources.variable("BLOCKHOUSE_UNKNOWN_KEYS"));
    let layers = layers(&sources, &keys, &mut reader);
    let merged = Merged::of(layers).map_err(|error| Errors(vec![Problem::new("", "", error.to_string())]))?;
    let Reader { mut errors, warnings, unknown_keys, .. } = reader;

    let mut settings = Settings::blank();
    let mut origins = BTreeMap::new();
    let credentials = sources.variable("CREDENTIALS_DIRECTORY").map(Path::new);
    for key in keys.iter() {
        let Some(value) = merged.get(key.name) else { continue };
        match resolve(key, value, credentials) {
            Ok((value, origin)) => match key.read(&value, &mut settings) {
                Ok(()) => drop(origins.insert(key.name, origin)),
                Err(wrong) => errors.push(reader::problem(key, &value, wrong)),
            },
            Err(problem) => errors.push(problem),
        }
    }
    if errors.is_empty() {
        let place = |key| origins.get(key).filter(|origin| *origin != DEFAULT).cloned().unwrap_or_default();
        let findings = rules::check(&settings).into_iter();
        errors.extend(findings.map(|(key, what)| Problem::new(place(key), key, what)));
    }
    let loaded = Loaded { settings, origins, warnings, unknown_keys };
    if errors.is_empty() { Ok(loaded) } else { Err(Errors(errors)) }
}

/// All layers, the lowest first.
fn layers(sources: &Sources, keys: &Keys, reader: &mut Reader<'_>) -> Vec<Layer> {
    let mut built_in = defaults(keys, sources);
    for Assigned { by, key, value } in &sources.defaults {
        reader.assigned(by, key, value, &mut built_in);
    }
    let mut layers = vec![built_in];
    for path in sources.paths() {
        match path {
            Ok(path) => layers.push(reader.file(&path)),
            Err((path, error)) => {
                let what = format!("can't read it: {error}");
                reader.errors.push(Problem::new(path.display().to_string(), "", what));
            }
        }
    }
    layers.push(reader.variables(&sources.variables));
    let mut command_line = Layer::default();
    for assignment in &sources.set {
        reader.set(assignment, &mut command_line);
    }
    for Assigned { by, key, value } in &sources.flags {
        reader.assigned(by, key, value, &mut command_line);
    }
    layers.push(command_line);
    layers
}

fn defaults(keys: &Keys, sources: &Sources) -> Layer {
    let mut layer = Layer::default();
    for key in keys.iter() {
        let computed = (key.name == "instance").then(|| instance(sources));
        if let Some(text) = computed.as_deref().or(key.default) {
            layer.set(key, from_text(key.shape(), text, DEFAULT));
        }
    }
    layer
}

/// Host name and pid, in what a name may be made of.
fn instance(sources: &Sources) -> String {
    let host = sources.host.chars().take(100).map(|c| if table::INSTANCE.takes(c) { c } else { '-' });
    let host: String = host.collect();
    let host = if host.is_empty() { "unknown" } else { &host };
    format!("{host}-{}", sources.pid)
}

/// The text of a secret that stands elsewhere, and where that is. Everything else stays as it is.
fn resolve(key: &Key, value: &Value, credentials: Option<&Path>) -> Result<(Value, String), Problem> {
    let place = value.origin().unwrap_or_default().to_owned();
    let Some(reference) = reader::reference(value).filter(|_| key.secret) else {
        return Ok((value.clone(), place));
    };
    let shown = value.kind.to_string();
    let place = format!("{place} ({shown})");
    match reference.read(credentials) {
        Ok(text) => Ok((Value::new(Some(&place), ValueKind::String(text)), place)),
        Err(why) => Err(Problem::new(place, key.name, why)),
    }
}

impl Default for Settings {
    /// Every key's default: what a process without any configuration has.
    fn default() -> Settings {
        load(Sources::default()).expect("every default is valid: a test loads them").settings
    }
}
