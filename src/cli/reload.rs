//! SIGHUP: the configuration is read again, from where it was read at the start.

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use slog::{Logger, error, info, warn};
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::run::Command;
use crate::app::Reloader;
use crate::config::{self, Errors, Loaded, Reload, Sources};
use crate::observe::metrics::Metrics;

/// For reading files: one may be on a file system that has gone away.
const READ: Duration = Duration::from_secs(10);

/// Answers every SIGHUP of a process.
pub struct Reloads<'a, C> {
    /// SIGHUP.
    pub hang_up: Signal,
    /// What the process was told at its start.
    pub sources: Sources,
    /// What its configuration must have.
    pub command: &'a C,
    /// What changes it.
    pub reloader: Reloader,
    /// Where reloads are counted.
    pub metrics: Metrics,
    /// Where it is said what became of them.
    pub log: Logger,
}

impl<C: Command> Reloads<'_, C> {
    /// # Cancel safety
    /// A change is made whole or not at all.
    pub async fn run(mut self) -> Infallible {
        loop {
            // Without a signal handler there is nothing to wait for.
            if self.hang_up.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            match self.reload().await {
                Ok(reload) => self.succeeded(&reload),
                Err(why) => {
                    self.metrics.reload("failed");
                    error!(self.log, "configuration not re-read, nothing is changed"; "error" => why);
                }
            }
        }
    }

    async fn reload(&mut self) -> Result<Reload, String> {
        let loaded = read(self.sources.clone()).await?;
        self.command.check(&loaded.settings).map_err(|errors| in_one_line(&errors))?;
        let reload = self.reloader.reload(&loaded.settings)?;
        self.metrics.set_unknown_keys(loaded.unknown_keys);
        for ignored in &loaded.warnings {
            warn!(self.log, "ignored in the configuration"; "what" => %ignored);
        }
        Ok(reload)
    }

    fn succeeded(&self, Reload { changed, needs_restart, .. }: &Reload) {
        self.metrics.reload("ok");
        info!(self.log, "configuration re-read"; "changed" => changed.join(", "));
        if !needs_restart.is_empty() {
            warn!(self.log, "a change of the configuration needs a restart"; "keys" => needs_restart.join(", "));
        }
    }
}

/// Reads on a thread of its own, which nobody waits for beyond the limit.
async fn read(sources: Sources) -> Result<Loaded, String> {
    let (done, loaded) = oneshot::channel();
    let load = move || drop(done.send(config::load(sources)));
    thread::Builder::new().name("reload".to_owned()).spawn(load).map_err(|error| error.to_string())?;
    match timeout(READ, loaded).await {
        Ok(Ok(loaded)) => loaded.map_err(|errors| in_one_line(&errors)),
        Ok(Err(_)) => Err("it panicked; please report it".to_owned()),
        Err(_) => Err(format!("its files could not be read within {READ:?}")),
    }
}

fn in_one_line(Errors(problems): &Errors) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}
