//! Reads sources into layers, and collects everything that is wrong with them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use config::Value;
use toml::de::{DeTable, DeValue};

use super::form::Wrong;
use super::keys::{Key, Keys, PREFIX, is_reserved};
use super::layer::{Layer, Places, from_text, from_toml};
use super::problem::Problem;
use super::secret::Reference;
use super::settings::Settings;
use super::suggest::nearest;

/// The longest file, in bytes.
const MOST: u64 = 256 << 10;

/// Variables of ours that are no keys.
const OTHERS: [&str; 5] = [
    "BLOCKHOUSE_CONFIG",
    "BLOCKHOUSE_SERVER",
    "BLOCKHOUSE_ADMIN",
    "BLOCKHOUSE_ADMIN_TOKEN_FILE",
    "BLOCKHOUSE_UNKNOWN_KEYS",
];

/// Goes over one source after the other. A value is judged where it stands, even if a later source wins over it.
pub(super) struct Reader<'a> {
    keys: &'a Keys,
    /// Takes the values that are tried, and is thrown away.
    scratch: Settings,
    lenient: bool,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) unknown_keys: usize,
}

impl<'a> Reader<'a> {
    /// `unknown` is `$BLOCKHOUSE_UNKNOWN_KEYS`.
    pub(super) fn new(keys: &'a Keys, unknown: Option<&OsStr>) -> Reader<'a> {
        let mut errors = Vec::new();
        let lenient = match unknown.map(OsStr::to_string_lossy).as_deref() {
            None | Some("error") => false,
            Some("warn") => true,
            Some(other) => {
                let what = format!("must be \"error\" or \"warn\", not {other:?}");
                errors.push(Problem::new("environment BLOCKHOUSE_UNKNOWN_KEYS", "", what));
                false
            }
        };
        Reader { keys, scratch: Settings::blank(), lenient, errors, warnings: Vec::new(), unknown_keys: 0 }
    }

    /// One TOML file.
    pub(super) fn file(&mut self, path: &Path) -> Layer {
        let mut layer = Layer::default();
        match read(path) {
            Ok(text) => self.document(path, text.strip_prefix('\u{feff}').unwrap_or(&text), &mut layer),
            Err(problem) => self.errors.push(problem),
        }
        layer
    }

    fn document(&mut self, path: &Path, text: &str, layer: &mut Layer) {
        let places = Places::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return self.table("", table.get_ref(), &|at| places.at(at), layer);
        }
        // The parser goes on in a line that it no longer understands: only its first complaint helps.
        let mut lines = BTreeSet::new();
        for error in errors {
            let place = error.span().map_or_else(|| path.display().to_string(), |span| places.at(span.start));
            let line = place.rsplit_once(':').map_or("", |(line, _)| line).to_owned();
            if lines.insert(line) {
                // Not its `Display`, which shows the line: that may hold a secret.
                self.errors.push(Problem::new(place, "", format!("not TOML: {}", error.message())));
            }
        }
    }

    fn table(
        &mut self,
        prefix: &str,
        table: &DeTable<'_>,
        place: &dyn Fn(usize) -> String,
        layer: &mut Layer,
    ) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(part, _)| part.span().start);
        for (part, value) in entries {
            let name = format!("{prefix}{}", part.get_ref());
            let nested = if let DeValue::Table(nested) = value.get_ref() { Some(nested) } else { None };
            let dotted = part.get_ref().contains('.');
            match (self.keys.find(&name).filter(|_| !dotted), nested) {
                (Some(key), _) => {
                    self.value(key, from_toml(value.get_ref(), place, value.span().start), layer);
                }
                (None, Some(nested)) if self.keys.is_table(&name) || is_reserved(&name) => {
                    self.table(&format!("{name}."), nested, place, layer);
                }
                (None, None) if self.keys.is_table(&name) => {
                    let what = format!("is a table: write [{name}] and its keys below it");
                    self.errors.push(Problem::new(place(value.span().start), name, what));
                }
                (None, _) if is_reserved(&name) => {
                    self.reserved(place(part.span().start), &name, is_off(value.get_ref()));
                }
                (None, _) => self.unknown(place(part.span().start), &name, self.keys.meant(&name)),
            }
        }
    }

    /// All environment variables that are ours.
    pub(super) fn variables(&mut self, variables: &[(OsString, OsString)]) -> Layer {
        let mut layer = Layer::default();
        let mut ours: Vec<_> =
            variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value))).collect();
        ours.retain(|(name, _)| name.starts_with("BLOCKHOUSE_") && !OTHERS.contains(name));
        ours.sort_unstable();
        for (name, value) in ours {
            let place = format!("environment {name}");
            if let Some(key) = self.keys.iter().find(|key| key.variable() == name) {
                match value.to_str() {
                    Some(text) => self.value(key, from_text(key.shape(), text, &place), &mut layer),
                    None => self.errors.push(Problem::new(place, key.name, "is not UTF-8")),
                }
            } else if let Some(rest) = name.strip_prefix(PREFIX) {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                match is_reserved(&key) {
                    true => self.reserved(place, &key, value == "off" || value == "false"),
                    false => self.unknown(place, &key, self.variable_meant(name)),
                }
            } else if let Some(meant) = self.lookalike(name) {
                self.unknown(place, "", Some(format!("did you mean {meant}?")));
            }
        }
        layer
    }

    fn variable_meant(&self, name: &str) -> Option<String> {
        let variables: Vec<_> = self.keys.iter().map(|key| key.variable().to_ascii_lowercase()).collect();
        let meant = nearest(name, variables.iter().map(String::as_str))?;
        Some(format!("did you mean {}?", meant.to_ascii_uppercase()))
    }

    /// The key's variable that was meant where only underscores are missing. Other names are left alone: Kubernetes
    /// sets `BLOCKHOUSE_SERVICE_HOST`, `BLOCKHOUSE_PORT` and more beside a service of our name.
    fn lookalike(&self, name: &str) -> Option<String> {
        let variables = self.keys.iter().map(Key::variable);
        variables.into_iter().find(|variable| variable.replace("__", "_") == name.replace("__", "_"))
    }

    /// A `--set`.
    pub(super) fn set(&mut self, assignment: &str, layer: &mut Layer) {
        match assignment.split_once('=') {
            Some((name, value)) => self.assigned("--set", name.trim(), value, layer),
            None => {
                // No more than may be a key: a secret may stand behind it.
                let end = assignment.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_'));
                let name = &assignment[..end.unwrap_or(assignment.len())];
                self.errors.push(Problem::new("--set", name, "must be KEY=VALUE"));
            }
        }
    }

    /// A key by its name, with a value as text.
    pub(super) fn assigned(&mut self, place: &str, name: &str, value: &str, layer: &mut Layer) {
        match self.keys.find(name) {
            Some(key) => self.value(key, from_text(key.shape(), value, place), layer),
            None if is_reserved(name) => {
                self.reserved(place.to_owned(), name, value == "off" || value == "false")
            }
            None => self.unknown(place.to_owned(), name, self.keys.meant(name)),
        }
    }

    fn value(&mut self, key: &Key, value: Value, layer: &mut Layer) {
        let elsewhere = key.secret && reference(&value).is_some();
        if !elsewhere && let Err(wrong) = key.read(&value, &mut self.scratch) {
            return self.errors.push(problem(key, &value, wrong));
        }
        layer.set(key, value);
    }

    fn unknown(&mut self, place: String, name: &str, hint: Option<String>) {
        let what = if name.is_empty() { "unknown variable" } else { "unknown key" };
        self.unusable(Problem::new(place, name, what).hint(hint));
    }

    /// What says that a feature is off says what is so.
    fn reserved(&mut self, place: String, name: &str, off: bool) {
        if !off {
            self.unusable(Problem::new(place, name, "reserved: comes in a later release"));
        }
    }

    fn unusable(&mut self, problem: Problem) {
        self.unknown_keys += 1;
        if self.lenient { self.warnings.push(problem) } else { self.errors.push(problem) }
    }
}

fn is_off(value: &DeValue<'_>) -> bool {
    value.as_str() == Some("off") || value.as_bool() == Some(false)
}

/// Where the text of a secret stands, if not here.
pub(super) fn reference(value: &Value) -> Option<Reference> {
    match &value.kind {
        config::ValueKind::String(text) => Reference::parse(text),
        _ => None,
    }
}

/// What is wrong with a key's value.
pub(super) fn problem(key: &Key, value: &Value, wrong: Wrong) -> Problem {
    let place = wrong.place.or_else(|| value.origin().map(str::to_owned));
    Problem::new(place.unwrap_or_default(), key.name, wrong.what).hint(wrong.hint)
}

fn read(path: &Path) -> Result<String, Problem> {
    let shown = || path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
        .map_err(|error| Problem::new(shown(), "", format!("can't read it: {error}")))?;
    if bytes.len() as u64 > MOST {
        return Err(Problem::new(shown(), "", format!("holds more than {MOST} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Problem::new(format!("{}:{line}", shown()), "", "is not UTF-8")
    })
}
