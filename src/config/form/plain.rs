//! Forms of single values.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{Change, Form, Shape, Wrong, describe, describe_type, text};
use crate::config::{duration, nearest};

/// A name that is safe in keys, labels and logs.
pub struct Name {
    /// The longest, in bytes.
    pub most: usize,
    /// Whether `:` may stand in it.
    pub colon: bool,
}

impl Name {
    /// Whether `c` may stand in it.
    pub fn takes(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || (self.colon && c == ':')
    }
}

impl Form for Name {
    type Value = Arc<str>;

    fn allowed(&self) -> String {
        let marks = if self.colon { "'_', '.', ':' or '-'" } else { "'_', '.' or '-'" };
        format!("1 to {} letters, digits, {marks}", self.most)
    }

    fn read(&self, value: &Value) -> Result<Arc<str>, Wrong> {
        text(value)
            .filter(|name| (1..=self.most).contains(&name.len()) && name.chars().all(|c| self.takes(c)))
            .map(Arc::from)
            .ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &Arc<str>) -> Option<toml::Value> {
        Some(toml::Value::from(&**value))
    }
}

/// Any text but none.
pub struct Text;

impl Form for Text {
    type Value = String;

    fn allowed(&self) -> String {
        "a text".to_owned()
    }

    fn read(&self, value: &Value) -> Result<String, Wrong> {
        let text = text(value).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &String) -> Option<toml::Value> {
        Some(toml::Value::from(value.as_str()))
    }
}

/// A file, relative to the folder that the process was started in.
pub struct FilePath;

impl Form for FilePath {
    type Value = PathBuf;

    fn allowed(&self) -> String {
        "the path of a file".to_owned()
    }

    fn read(&self, value: &Value) -> Result<PathBuf, Wrong> {
        let path = text(value).filter(|path| !path.is_empty() && !path.contains('\0'));
        path.map(PathBuf::from).ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &PathBuf) -> Option<toml::Value> {
        Some(toml::Value::from(value.to_string_lossy().into_owned()))
    }
}

/// A secret. References are resolved before it is read.
pub struct Secret;

impl Form for Secret {
    type Value = SecretString;

    fn allowed(&self) -> String {
        r#"a text, "file:PATH" or "credential:NAME""#.to_owned()
    }

    fn read(&self, value: &Value) -> Result<SecretString, Wrong> {
        let secret = text(value).filter(|secret| !secret.is_empty());
        secret.map(SecretString::from).ok_or_else(|| Wrong::must(&self.allowed(), describe_type(&value.kind)))
    }

    fn show(&self, _: &SecretString) -> Option<toml::Value> {
        Some(toml::Value::from("***"))
    }

    fn change(&self, from: &SecretString, to: &SecretString) -> Change {
        Change::of(from.expose_secret() == to.expose_secret())
    }
}

/// A whole number.
pub struct Whole<T> {
    least: i64,
    most: i64,
    of: PhantomData<T>,
}

impl<T> Whole<T> {
    /// From `least` to `most`, which must both be a `T`.
    pub fn new(least: i64, most: i64) -> Whole<T> {
        Whole { least, most, of: PhantomData }
    }
}

impl<T: TryFrom<i64> + TryInto<i64> + Copy> Form for Whole<T> {
    type Value = T;

    fn allowed(&self) -> String {
        match self.most {
            i64::MAX => format!("a whole number, {} or more", self.least),
            most => format!("a whole number from {} to {most}", self.least),
        }
    }

    fn shape(&self) -> Shape {
        Shape::Whole
    }

    fn read(&self, value: &Value) -> Result<T, Wrong> {
        match value.kind {
            ValueKind::I64(number) if (self.least..=self.most).contains(&number) => T::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &T) -> Option<toml::Value> {
        (*value).try_into().ok().map(toml::Value::Integer)
    }
}

/// A finite number.
pub struct Real {
    /// The smallest.
    pub least: f64,
    /// The greatest.
    pub most: f64,
}

impl Form for Real {
    type Value = f64;

    fn allowed(&self) -> String {
        format!("a number from {} to {}", self.least, self.most)
    }

    fn shape(&self) -> Shape {
        Shape::Real
    }

    fn read(&self, value: &Value) -> Result<f64, Wrong> {
        let number = match value.kind {
            ValueKind::Float(number) => Some(number),
            ValueKind::I64(number) => Some(number as f64),
            _ => None,
        };
        number
            .filter(|number| (self.least..=self.most).contains(number))
            .ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &f64) -> Option<toml::Value> {
        Some(toml::Value::Float(*value))
    }
}

/// A duration of at least `.0`.
pub struct Time(pub Duration);

impl Time {
    /// 0 means at once, or never.
    pub const ANY: Time = Time(Duration::ZERO);
    /// 0 would be no use.
    pub const POSITIVE: Time = Time(Duration::from_millis(1));
}

impl Form for Time {
    type Value = Duration;

    fn allowed(&self) -> String {
        let least = if self.0.is_zero() { "" } else { " above 0" };
        format!(r#"a duration{least} such as "250ms", "5m" or "24h""#)
    }

    fn read(&self, value: &Value) -> Result<Duration, Wrong> {
        let duration = text(value).and_then(duration::parse).filter(|duration| *duration >= self.0);
        duration.ok_or_else(|| {
            let meant = text(value).and_then(duration::meant).map(|meant| format!("{meant:?}"));
            Wrong::must(&self.allowed(), describe(value)).meant(meant)
        })
    }

    fn show(&self, value: &Duration) -> Option<toml::Value> {
        Some(toml::Value::from(duration::show(*value)))
    }
}

/// One of a few words. A value may have several; the first is shown.
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T> Choice<T> {
    fn words(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(word, _)| *word)
    }
}

impl<T: Copy + PartialEq> Form for Choice<T> {
    type Value = T;

    fn allowed(&self) -> String {
        any_of(self.words().map(|word| format!("{word:?}")))
    }

    fn read(&self, value: &Value) -> Result<T, Wrong> {
        let found = text(value).and_then(|text| self.0.iter().find(|(word, _)| *word == text));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let meant = text(value).and_then(|text| nearest(text, self.words()));
            Wrong::must(&self.allowed(), describe(value)).meant(meant.map(|meant| format!("{meant:?}")))
        })
    }

    fn show(&self, value: &T) -> Option<toml::Value> {
        self.0.iter().find(|(_, choice)| choice == value).map(|(word, _)| toml::Value::from(*word))
    }
}

/// `a`, `a or b`, `a, b or c`
fn any_of<T: Display>(words: impl Iterator<Item = T>) -> String {
    let mut words: Vec<_> = words.map(|word| word.to_string()).collect();
    let last = words.pop().unwrap_or_default();
    if words.is_empty() { last } else { format!("{} or {last}", words.join(", ")) }
}

/// The id that `ledger migrate` gave a ledger.
pub struct LedgerId;

impl Form for LedgerId {
    type Value = Uuid;

    fn allowed(&self) -> String {
        "the UUID that 'blockhouse ledger show' prints".to_owned()
    }

    fn read(&self, value: &Value) -> Result<Uuid, Wrong> {
        let id = text(value).and_then(|id| Uuid::try_parse(id).ok()).filter(|id| !id.is_nil());
        id.ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &Uuid) -> Option<toml::Value> {
        Some(toml::Value::from(value.to_string()))
    }
}
