//! What a reload may change in a running process, and what needs a restart.

use super::form::Change;
use super::keys::Keys;
use super::settings::Settings;

/// The difference between what a process goes by and what was read anew.
#[derive(Debug, Clone)]
pub struct Reload {
    /// What it is to go by from now on.
    pub settings: Settings,
    /// The keys that differ from before, in the order of the reference.
    pub changed: Vec<&'static str>,
    /// The keys that stay as they were until it is started again.
    pub needs_restart: Vec<&'static str>,
}

impl Reload {
    /// Takes what a reload may change from `read`, and everything else from `running`.
    ///
    /// A password and certificates belong to the server that they are for: where `ledger.url` names another one, all of
    /// `ledger.*` waits for the restart with it.
    pub fn between(running: &Settings, read: &Settings) -> Reload {
        let (mut settings, mut read) = (running.clone(), read.clone());
        let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
        let mut ledger_moves = false;
        for key in Keys::default().iter() {
            let change = key.change(&mut settings, &mut read);
            // It is the first of its table.
            ledger_moves |= key.name == "ledger.url" && change == Change::Place;
            let held = ledger_moves && key.name.starts_with("ledger.");
            match change {
                Change::None => {}
                Change::Value if key.reloads && !held => {
                    key.carry(&mut read, &mut settings);
                    changed.push(key.name);
                }
                Change::Value | Change::Place => needs_restart.push(key.name),
            }
        }
        Reload { settings, changed, needs_restart }
    }
}
