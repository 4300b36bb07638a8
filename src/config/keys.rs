//! Keys: what a key is, and how they are found.

use config::Value;

use super::form::{Change, Form, Shape, Wrong};
use super::settings::Settings;
use super::{suggest, table};

/// The variables that set a key begin with it.
pub const PREFIX: &str = "BLOCKHOUSE__";

/// One key: all that parsing, validation, `config print` and `config reference` know of it.
pub struct Key {
    /// `redis.timeout`
    pub name: &'static str,
    /// As TOML; `None` for what is not set unless somebody does.
    pub default: Option<&'static str>,
    /// For people.
    pub meaning: &'static str,
    /// Takes `file:PATH` and `credential:NAME`, and is never shown.
    pub secret: bool,
    /// A reload may change it while the process runs.
    pub reloads: bool,
    slot: Box<dyn Slot>,
}

impl Key {
    /// A key with its default (as TOML), its form, and where its value lives.
    pub(super) fn new<F: Form + 'static>(
        name: &'static str,
        default: impl Into<Option<&'static str>>,
        meaning: &'static str,
        form: F,
        field: fn(&mut Settings) -> &mut F::Value,
    ) -> Key {
        let slot = Box::new(Place { form, field });
        Key { name, default: default.into(), meaning, secret: false, reloads: false, slot }
    }

    /// Marks a secret.
    pub(super) fn secret(self) -> Key {
        Key { secret: true, reloads: true, ..self }
    }

    /// Marks a key that a reload may change.
    pub(super) fn reloads(self) -> Key {
        Key { reloads: true, ..self }
    }

    /// `BLOCKHOUSE__REDIS__TIMEOUT`
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase().replace('.', "__"))
    }

    /// What may stand there, for people.
    pub fn allowed(&self) -> String {
        self.slot.allowed()
    }

    /// The value as TOML, secrets hidden; `None` where it isn't set.
    pub fn show(&self, settings: &mut Settings) -> Option<toml::Value> {
        self.slot.show(settings)
    }

    pub(super) fn shape(&self) -> Shape {
        self.slot.shape()
    }

    /// Sets it.
    pub(super) fn read(&self, value: &Value, into: &mut Settings) -> Result<(), Wrong> {
        self.slot.read(value, into)
    }

    /// What became of it between two loads.
    pub(super) fn change(&self, from: &mut Settings, to: &mut Settings) -> Change {
        self.slot.change(from, to)
    }

    /// Sets it to what it is in other settings.
    pub(super) fn carry(&self, from: &mut Settings, into: &mut Settings) {
        self.slot.carry(from, into);
    }
}

/// A form and the field of the settings that it fills, whatever its type.
trait Slot {
    fn allowed(&self) -> String;
    fn shape(&self) -> Shape;
    fn read(&self, value: &Value, into: &mut Settings) -> Result<(), Wrong>;
    fn show(&self, settings: &mut Settings) -> Option<toml::Value>;
    fn change(&self, from: &mut Settings, to: &mut Settings) -> Change;
    fn carry(&self, from: &mut Settings, into: &mut Settings);
}

struct Place<F: Form> {
    form: F,
    field: fn(&mut Settings) -> &mut F::Value,
}

impl<F: Form> Slot for Place<F> {
    fn allowed(&self) -> String {
        self.form.allowed()
    }

    fn shape(&self) -> Shape {
        self.form.shape()
    }

    fn read(&self, value: &Value, into: &mut Settings) -> Result<(), Wrong> {
        *(self.field)(into) = self.form.read(value)?;
        Ok(())
    }

    fn show(&self, settings: &mut Settings) -> Option<toml::Value> {
        self.form.show((self.field)(settings))
    }

    fn change(&self, from: &mut Settings, to: &mut Settings) -> Change {
        self.form.change((self.field)(from), (self.field)(to))
    }

    fn carry(&self, from: &mut Settings, into: &mut Settings) {
        (self.field)(into).clone_from((self.field)(from));
    }
}

/// All keys, in the order of the reference.
pub struct Keys(Vec<Key>);

impl Default for Keys {
    fn default() -> Keys {
        Keys(table::keys())
    }
}

impl Keys {
    /// In the order of the reference.
    pub fn iter(&self) -> impl Iterator<Item = &Key> + Clone {
        self.0.iter()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }

    /// Whether keys live in a table of that name.
    pub(super) fn is_table(&self, name: &str) -> bool {
        self.0.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// What an unknown key was meant to be.
    pub(super) fn meant(&self, unknown: &str) -> Option<String> {
        let tables = self.0.iter().filter_map(|key| key.name.split_once('.')).map(|(table, _)| table);
        let names = self.0.iter().map(|key| key.name).chain(tables);
        suggest::key(unknown, names).map(|meant| format!("did you mean {meant}?"))
    }
}

/// Whether a key, or the table it is in, is kept for a later release.
pub(super) fn is_reserved(name: &str) -> bool {
    table::RESERVED.iter().any(|(reserved, _)| {
        name.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_stands_twice_and_none_is_reserved() {
        let keys = Keys::default();
        let names: BTreeSet<_> = keys.iter().map(|key| key.name).collect();
        let variables: BTreeSet<_> = keys.iter().map(Key::variable).collect();
        assert_eq!(names.len(), keys.iter().count());
        assert_eq!(variables.len(), names.len());
        assert!(!names.into_iter().any(is_reserved));
    }

    #[test]
    fn a_key_is_no_table() {
        let keys = Keys::default();
        assert!(keys.iter().all(|key| !keys.is_table(key.name)));
        assert!(keys.is_table("redis") && !keys.is_table("red"));
    }

    #[test]
    fn a_reserved_table_covers_what_is_in_it_and_nothing_else() {
        assert!(is_reserved("access") && is_reserved("access.mode") && is_reserved("grpc.tls.cert"));
        assert!(!is_reserved("accessories") && !is_reserved("grpc.tlsx") && !is_reserved("ledger.tls"));
    }
}
