//! Forms that only drills have.

use config::{Value, ValueKind};

use super::{Form, Shape, Wrong, describe, text};
use crate::block::chaos::Quiet;

/// `true` or `false`.
pub struct Flag;

impl Form for Flag {
    type Value = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Flag
    }

    fn read(&self, value: &Value) -> Result<bool, Wrong> {
        match value.kind {
            ValueKind::Boolean(flag) => Ok(flag),
            _ => Err(Wrong::must(&self.allowed(), describe(value))),
        }
    }

    fn show(&self, value: &bool) -> Option<toml::Value> {
        Some(toml::Value::from(*value))
    }
}

/// A part of the week.
pub struct QuietHours;

impl Form for QuietHours {
    type Value = Quiet;

    fn allowed(&self) -> String {
        r#"days, hours or both, by UTC, such as "sat-sun" or "mon-fri 22:00-06:00""#.to_owned()
    }

    fn read(&self, value: &Value) -> Result<Quiet, Wrong> {
        let text = text(value).ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))?;
        text.parse().map_err(|why| Wrong::because(format!("{}: {why}", describe(value))))
    }

    fn show(&self, value: &Quiet) -> Option<toml::Value> {
        Some(toml::Value::from(value.to_string()))
    }
}
