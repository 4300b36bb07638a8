//! Forms: what the value of a key looks like, how it is read, and how it is shown.
//!
//! A form is all that parsing, validation, `config print` and `config reference` know of a value, so they can't disagree.

mod address;
mod chaos;
mod plain;
mod url;

use std::fmt;

use config::{Value, ValueKind};

pub(super) use address::{Discovery, Listening};
pub(super) use chaos::{Flag, QuietHours};
pub(super) use plain::{Choice, FilePath, LedgerId, Name, Real, Secret, Text, Time, Whole};
pub(super) use url::{LedgerUrl, PodUrl};

/// What the value of a key looks like.
pub(super) trait Form {
    /// What the settings hold.
    type Value: Clone;

    /// Completes "must be …".
    fn allowed(&self) -> String;

    /// Which TOML type it is written in.
    fn shape(&self) -> Shape {
        Shape::Text
    }

    /// Reads it.
    fn read(&self, value: &Value) -> Result<Self::Value, Wrong>;

    /// Writes it so that it reads back, but for secrets. `None` where it isn't set.
    fn show(&self, value: &Self::Value) -> Option<toml::Value>;

    /// What became of it between two loads. A form that hides what it shows compares what is hidden, too.
    fn change(&self, from: &Self::Value, to: &Self::Value) -> Change {
        Change::of(self.show(from) == self.show(to))
    }
}

/// What became of a value between two loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is the same.
    None,
    /// It differs.
    Value,
    /// It names another server: more than a reload may change, whatever the key.
    Place,
}

impl Change {
    fn of(same: bool) -> Change {
        if same { Change::None } else { Change::Value }
    }
}

/// The TOML type that a form is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// An integer.
    Whole,
    /// A float or an integer.
    Real,
    /// An array of strings.
    List,
    /// `true` or `false`.
    Flag,
}

impl Shape {
    /// Whether a value has this type.
    pub(super) fn fits(self, value: &Value) -> bool {
        match value.kind {
            ValueKind::String(_) => self == Shape::Text,
            ValueKind::I64(_) | ValueKind::I128(_) => matches!(self, Shape::Whole | Shape::Real),
            ValueKind::Float(_) => self == Shape::Real,
            ValueKind::Array(_) => self == Shape::List,
            ValueKind::Boolean(_) => self == Shape::Flag,
            _ => false,
        }
    }
}

/// Why a value can't be taken. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong and what is allowed.
    pub what: String,
    /// What was probably meant.
    pub hint: Option<String>,
    /// Where, if more exactly known than the key's own place.
    pub place: Option<String>,
}

impl Wrong {
    /// `must be ALLOWED, not FOUND`
    fn must(allowed: &str, found: impl fmt::Display) -> Wrong {
        Wrong::because(format!("must be {allowed}, not {found}"))
    }

    /// For values that must not be shown.
    fn because(what: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), hint: None, place: None }
    }

    /// `did you mean MEANT?`
    fn meant(mut self, meant: Option<impl fmt::Display>) -> Wrong {
        self.hint = meant.map(|meant| format!("did you mean {meant}?"));
        self
    }
}

/// A value as an error names it.
fn describe(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) if text.chars().count() > 60 => "so long a text".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        kind => describe_type(kind),
    }
}

/// The same without what a text says, which may be a secret.
fn describe_type(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Boolean(value) => value.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "so great a number".to_owned(),
        ValueKind::String(_) => "a text".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Nil => "a date or time".to_owned(),
    }
}

/// The text, if it is one.
fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

/// What may be left out: unset, or set to `""`.
pub(super) struct Maybe<F>(pub F);

impl<F: Form> Form for Maybe<F> {
    type Value = Option<F::Value>;

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn read(&self, value: &Value) -> Result<Self::Value, Wrong> {
        if text(value) == Some("") { Ok(None) } else { self.0.read(value).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> Option<toml::Value> {
        value.as_ref().and_then(|value| self.0.show(value))
    }

    fn change(&self, from: &Self::Value, to: &Self::Value) -> Change {
        match (from, to) {
            (Some(from), Some(to)) => self.0.change(from, to),
            (from, to) => Change::of(from.is_none() && to.is_none()),
        }
    }
}

/// Several values, at least `least`.
pub(super) struct ListOf<F> {
    /// What each of them is.
    pub of: F,
    /// How many at least.
    pub least: usize,
}

impl<F: Form> Form for ListOf<F> {
    type Value = Vec<F::Value>;

    fn allowed(&self) -> String {
        let least = if self.least > 0 { " (at least one)" } else { "" };
        format!("a list{least} of {}", self.of.allowed())
    }

    fn shape(&self) -> Shape {
        Shape::List
    }

    fn read(&self, value: &Value) -> Result<Self::Value, Wrong> {
        let ValueKind::Array(items) = &value.kind else {
            // What stands there instead may be an item with a secret in it.
            return Err(Wrong::must(&self.allowed(), describe_type(&value.kind)));
        };
        if items.len() < self.least {
            return Err(Wrong::must(&self.allowed(), "an empty list"));
        }
        items.iter().map(|item| self.of.read(item).map_err(|wrong| at(wrong, item))).collect()
    }

    fn show(&self, value: &Self::Value) -> Option<toml::Value> {
        Some(toml::Value::Array(value.iter().filter_map(|item| self.of.show(item)).collect()))
    }

    fn change(&self, from: &Self::Value, to: &Self::Value) -> Change {
        let mut pairs = from.iter().zip(to);
        Change::of(from.len() == to.len() && pairs.all(|(from, to)| self.of.change(from, to) == Change::None))
    }
}

fn at(wrong: Wrong, item: &Value) -> Wrong {
    Wrong { place: wrong.place.or_else(|| item.origin().map(str::to_owned)), ..wrong }
}
