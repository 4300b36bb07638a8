//! One source's values by key, as the `config` crate merges them.

use std::path::Path;

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::form::Shape;
use super::keys::Key;

/// The values of one source. Each carries its place, which the `config` crate hands through when it merges.
#[derive(Clone, Default)]
pub(super) struct Layer(Vec<(&'static str, Value)>);

impl Layer {
    pub(super) fn set(&mut self, key: &Key, value: Value) {
        self.0.push((key.name, value));
    }
}

impl std::fmt::Debug for Layer {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }
}

/// All layers, later ones over earlier ones.
pub(super) struct Merged(Config);

impl Merged {
    pub(super) fn of(layers: Vec<Layer>) -> Result<Merged, ConfigError> {
        let builder = layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(layer));
        builder.build().map(Merged)
    }

    /// The value that won, with its place.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        // `Config::get` would give the value without its place.
        name.split('.').try_fold(&self.0.cache, |value, part| match &value.kind {
            ValueKind::Table(table) => table.get(part),
            _ => None,
        })
    }
}

/// A value of an environment variable or a flag: TOML if that has the key's type, else as it stands, for a list comma-separated.
///
/// The `config` crate's own `try_parsing` would turn a password `0123` into 123.
pub(super) fn from_text(shape: Shape, text: &str, place: &str) -> Value {
    let parsed = toml::de::DeValue::parse(text).ok();
    let typed = parsed.map(|value| from_toml(value.get_ref(), &|_| place.to_owned(), 0));
    if let Some(value) = typed.filter(|value| shape.fits(value)) {
        return value;
    }
    let origin = Some(place.to_owned());
    match shape {
        Shape::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let items: Vec<_> = items.map(|item| Value::new(origin.as_ref(), item)).collect();
            Value::new(origin.as_ref(), items)
        }
        _ => Value::new(origin.as_ref(), text),
    }
}

/// A value of a file. `place` names an offset in it.
pub(super) fn from_toml(value: &toml::de::DeValue<'_>, place: &dyn Fn(usize) -> String, at: usize) -> Value {
    use toml::de::DeValue;
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => whole(number),
        DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => ValueKind::Boolean(*value),
        // No key takes one: see `form::describe`.
        DeValue::Datetime(_) => ValueKind::Nil,
        DeValue::Array(items) => {
            let items = items.iter().map(|item| from_toml(item.get_ref(), place, item.span().start));
            ValueKind::Array(items.collect())
        }
        DeValue::Table(_) => ValueKind::Table(Map::new()),
    };
    Value::new(Some(&place(at)), kind)
}

fn whole(number: &toml::de::DeInteger<'_>) -> ValueKind {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => ValueKind::I64(number),
        Err(_) => ValueKind::I128(i128::MAX),
    }
}

/// Where a byte of a text stands.
pub(super) struct Places<'a> {
    path: &'a Path,
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Places<'a> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Places { path, text, lines }
    }

    /// `FILE:LINE:COLUMN`, both from 1, the column in characters.
    pub(super) fn at(&self, offset: usize) -> String {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        format!("{}:{line}:{}", self.path.display(), before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let places = Places::new(Path::new("a.toml"), "ä = 1\r\n\r\nöö = 2");
        assert_eq!(places.at(0), "a.toml:1:1");
        assert_eq!(places.at(5), "a.toml:1:5");
        assert_eq!(places.at(10), "a.toml:3:1");
        assert_eq!(places.at(17), "a.toml:3:6");
        assert_eq!(places.at(999), "a.toml:3:1");
    }

    #[test]
    fn a_text_keeps_its_leading_zeros_and_a_list_may_be_toml_or_not() {
        let kind = |shape, text| from_text(shape, text, "x").kind;
        assert_eq!(kind(Shape::Text, "0123"), ValueKind::from("0123"));
        assert_eq!(kind(Shape::Text, "123"), ValueKind::from("123"));
        assert_eq!(kind(Shape::Text, "true"), ValueKind::from("true"));
        assert_eq!(kind(Shape::Text, r#""quoted""#), ValueKind::from("quoted"));
        assert_eq!(kind(Shape::Text, ""), ValueKind::from(""));
        assert_eq!(kind(Shape::Whole, "1_000"), ValueKind::from(1000_i64));
        assert_eq!(kind(Shape::Whole, "0123"), ValueKind::from("0123"));
        assert_eq!(kind(Shape::Whole, "1.5"), ValueKind::from("1.5"));
        assert_eq!(kind(Shape::Real, "1"), ValueKind::from(1_i64));
        assert_eq!(kind(Shape::Real, "0.5"), ValueKind::from(0.5));
        let texts = |text| match kind(Shape::List, text) {
            ValueKind::Array(items) => {
                items.into_iter().map(|item| item.kind.to_string()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(texts("a, b,"), ["a", "b"]);
        assert_eq!(texts(r#"["a,b"]"#), ["a,b"]);
        assert_eq!(texts(""), [""; 0]);
    }
}
