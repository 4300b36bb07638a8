//! What a running process can be told anew: passwords, certificates, the admin token and the level of its log.

use std::rc::Rc;
use std::sync::Arc;

use crate::admin::Token;
use crate::config::{Reload, Settings};
use crate::ledger::Ledger;
use crate::observe::log::LogLevel;
use crate::pods::discovery::Servers;

/// Changes a running process, all or nothing. The ledger's and the pods' present connections stay; the next ones are opened
/// with what is new.
pub struct Reloader {
    /// What the process goes by.
    pub(super) settings: Arc<Settings>,
    pub(super) ledger: Rc<dyn Ledger>,
    pub(super) pods: Servers,
    pub(super) token: Token,
    pub(super) level: LogLevel,
}

impl Reloader {
    /// Makes everything ready that could fail, then makes the change. Certificates are read anew whether or not their key
    /// changed.
    ///
    /// # Errors
    /// What can't be used, for people; nothing is changed.
    pub fn reload(&mut self, read: &Settings) -> Result<Reload, String> {
        let reload = Reload::between(&self.settings, read);
        let new = &reload.settings;
        let ledger = self.ledger.log_in_with(&new.ledger).map_err(|error| format!("ledger: {error}"))?;
        let pods = self.pods.log_in_with(&new.redis).map_err(|why| format!("redis: {why}"))?;
        ledger();
        pods();
        self.token.set(new.admin.token.clone());
        self.level.set(new.log.level);
        self.settings = Arc::new(new.clone());
        Ok(reload)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use secrecy::ExposeSecret;
    use slog::{Drain, Level, Logger};

    use super::*;
    use crate::config::{Sources, load};
    use crate::ledger::{self, Expected};
    use crate::observe::log::{self, LogGuard, Origin};
    use crate::observe::metrics::Counter;
    use crate::pods::discovery;

    fn settings(set: &[&str]) -> Settings {
        let set = ["ledger.url=postgres://app@db/ids", "redis.pods=redis://a"].iter().chain(set);
        let set = set.map(|&assignment| assignment.to_owned()).collect();
        load(Sources { set, ..Sources::default() }).unwrap().settings
    }

    fn running(settings: Settings) -> (Reloader, Logger, LogGuard) {
        let origin = Origin { instance: "a", cluster: "b" };
        let (log, guard) = log::build_to(std::io::sink(), false, &settings.log, origin, Counter::default());
        let expected = Expected { environment: "test".into(), id: None };
        let ledger: Rc<dyn Ledger> = ledger::open(&settings.ledger, expected, "a", &log).unwrap();
        let (_, pods) = discovery::roster(&settings.redis, &mut Rng::with_seed(1), &log).unwrap();
        let token = Token::new(settings.admin.token.clone());
        (Reloader { settings: settings.into(), ledger, pods, token, level: guard.level() }, log, guard)
    }

    fn token(reloader: &Reloader) -> String {
        reloader.token.get().map_or_else(String::new, |token| token.expose_secret().to_owned())
    }

    #[test]
    fn what_changed_takes_effect_and_is_what_the_next_reload_compares_with() {
        let (mut reloader, log, _guard) = running(settings(&["admin.token=old"]));
        let new = settings(&["admin.token=new", "log.level=debug", "grpc.max_count=7"]);
        let reload = reloader.reload(&new).unwrap();
        assert_eq!(reload.changed, ["admin.token", "log.level"]);
        assert_eq!((token(&reloader).as_str(), log.is_enabled(Level::Debug)), ("new", true));
        let again = reloader.reload(&new).unwrap();
        assert_eq!((again.changed.len(), again.needs_restart.as_slice()), (0, &["grpc.max_count"][..]));
    }

    #[test]
    fn every_key_that_is_marked_for_reloads_is_taken_over_here() {
        let keys = crate::config::keys::Keys::default();
        let marked: Vec<_> = keys.iter().filter(|key| key.reloads).map(|key| key.name).collect();
        let ledger = ["ledger.url", "ledger.password", "ledger.ca", "ledger.cert", "ledger.key"];
        let expected = ["admin.token"].into_iter().chain(ledger);
        let expected: Vec<_> = expected.chain(["redis.username", "redis.password", "log.level"]).collect();
        assert_eq!(marked, expected, "a key that nobody takes over would be said to be in effect");
    }

    #[test]
    fn a_certificate_that_can_not_be_read_leaves_everything_as_it_was() {
        let (mut reloader, log, _guard) = running(settings(&["admin.token=old"]));
        let new =
            settings(&["admin.token=new", "log.level=debug", "ledger.cert=/nowhere.crt", "ledger.key=/k"]);
        let why = reloader.reload(&new).unwrap_err();
        assert!(why.contains("/nowhere.crt"), "{why}");
        assert_eq!((token(&reloader).as_str(), log.is_enabled(Level::Debug)), ("old", false));
        assert!(reloader.settings.ledger.cert.is_none());
    }
}
