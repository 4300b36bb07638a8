//! Whatever becomes of the ledger's server, in whatever order: no ID is granted twice, as long as clusters tell what they know and an
//! operator what is true.

use std::time::Duration;

use blockhouse::block::{Life, OnFailover, Span};
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{
    Accept, Admin, Expected, Facts, GrantRequest, Ledger, NewSequence, Purpose, Report, Reported, State,
};

use super::conformance::ENVIRONMENT;

const GAP: i64 = 400;
const STEPS: usize = 120;
const SEEDS: u64 = 300;

/// One cluster: what it read of the ledger, which its pods keep, and what it was granted since, which they may lose.
#[derive(Clone)]
struct Cluster {
    name: &'static str,
    read: Facts,
    newest: i64,
}

impl Cluster {
    fn high_water(&self) -> i64 {
        self.newest.max(self.read.granted[0].1)
    }

    fn life(&self) -> Life {
        self.read.identity.life
    }

    fn report(&self, closed: Life) -> Report {
        Report {
            cluster: self.name.into(),
            holder: self.name.into(),
            closed,
            follows: Some(self.life()),
            read_at_us: Some(self.read.read_at_us),
            on_failover: Some(self.read.catalogue.on_failover),
            sequences: vec![(self.read.catalogue.sequences["tasks"].clone(), self.high_water())],
        }
    }

    fn ask(&self, count: i64) -> GrantRequest {
        GrantRequest {
            sequence: "tasks".into(),
            generation: 1,
            life: self.life(),
            least: 1,
            need: count,
            want: count,
            known_high_water: self.high_water(),
            purpose: Purpose::Fallback,
            holder: self.name.into(),
            cluster: self.name.into(),
            pod: None,
        }
    }
}

/// What happened, so that a history in which nothing did is no proof.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    grants: u32,
    restarted: u32,
    jumped: u32,
    accepted: u32,
}

struct World {
    rng: fastrand::Rng,
    /// The server that everybody is connected to; who is connected to another is cut off.
    primary: Memory,
    copies: Vec<Memory>,
    clusters: Vec<Cluster>,
    issued: Vec<Span>,
    told: Told,
}

impl World {
    async fn begin(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let primary = Memory::new(Expected { environment: ENVIRONMENT.into(), id: None }, rng.fork());
        let tasks = NewSequence {
            name: "tasks".into(),
            first: 1,
            last: i64::MAX,
            block_size: 10,
            buffer: None,
            failover_gap: Some(GAP),
            if_not_exists: false,
        };
        primary.create(&tasks).await.unwrap();
        if rng.u8(..4) > 0 {
            primary.set_on_failover(OnFailover::Jump).await.unwrap();
        }
        let read = primary.facts(None).await.unwrap();
        let clusters =
            ["east", "north", "west"].map(|name| Cluster { name, read: read.clone(), newest: 0 }).into();
        let mut world =
            World { rng, primary, copies: Vec::new(), clusters, issued: Vec::new(), told: Told::default() };
        world.renew().await;
        world
    }

    /// Every leader renews its lease, as it does every few seconds.
    async fn renew(&mut self) {
        for cluster in &self.clusters {
            let lease = self.primary.lead(cluster.name, cluster.name, Duration::from_secs(15)).await;
            assert!(lease.unwrap().held);
        }
    }

    async fn step(&mut self) {
        let most = if self.rng.u8(..10) == 0 { 7200 } else { 300 };
        let seconds = self.rng.u64(..most);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let which = self.rng.usize(..self.clusters.len());
        match self.rng.u8(..16) {
            0..6 => self.grant(which).await,
            6..9 => self.read(which).await,
            9 => self.clusters.iter_mut().for_each(|cluster| cluster.newest = 0),
            10..12 => {
                let copy = self.primary.copy();
                self.copies.push(copy);
            }
            12 => self.primary.restart(),
            13 => self.promote(),
            14 => self.put_files_back(),
            _ => self.primary.restore_dump(&self.primary.clone()),
        }
        self.settle().await;
        self.renew().await;
    }

    fn promote(&mut self) {
        if self.copies.is_empty() {
            return;
        }
        let copy = self.copies.swap_remove(self.rng.usize(..self.copies.len()));
        copy.promote();
        self.primary = copy;
    }

    /// That nobody can see who has forgotten all that came after them is a known limit.
    fn put_files_back(&mut self) {
        let newest = self.issued.last().map_or(0, |span| span.last());
        if let Some(copy) = self.rng.choice(&self.copies)
            && self.clusters.iter().any(|cluster| cluster.high_water() >= newest)
        {
            self.primary.restore(copy);
        }
    }

    async fn grant(&mut self, which: usize) {
        let ask = self.clusters[which].ask(self.rng.i64(1..200));
        let Ok(grant) = self.primary.grant(&ask).await else { return };
        let twice = self.issued.iter().find(|span| span.overlaps(grant.span));
        assert_eq!(twice, None, "{:?} was granted again: {:?}", grant.span, self.told);
        self.clusters[which].newest = grant.span.last();
        self.issued.push(grant.span);
        self.told.grants += 1;
    }

    async fn read(&mut self, which: usize) {
        let cluster = &mut self.clusters[which];
        let facts = self.primary.facts(Some(cluster.life())).await.unwrap();
        if facts.descends && facts.state == State::Open {
            cluster.read = facts;
        }
    }

    /// Where the ledger has closed, whoever can says what they know, and an operator what is true.
    async fn settle(&mut self) {
        let facts = self.primary.facts(None).await.unwrap();
        if facts.state == State::Open {
            return;
        }
        let closed = facts.identity.life;
        let silent = self.rng.usize(..self.clusters.len() * 4);
        let mut speakers: Vec<usize> = (0..self.clusters.len()).filter(|which| *which != silent).collect();
        self.rng.shuffle(&mut speakers);
        let mut opened = false;
        for which in speakers {
            let report = self.clusters[which].report(closed);
            opened |= self.primary.report(&report).await.unwrap() == Reported::Open;
        }
        if !opened {
            self.accept(silent).await;
        }
        for which in 0..self.clusters.len() {
            self.read(which).await;
        }
        self.note(facts.granted[0].1, opened).await;
    }

    /// Who hears everybody, and nobody has forgotten anything, needs no floor.
    async fn accept(&mut self, silent: usize) {
        let newest = self.issued.iter().map(|span| span.last()).max().unwrap_or(0);
        let heard = self.clusters.iter().enumerate().filter(|(which, _)| *which != silent);
        let known = heard.map(|(_, cluster)| cluster.high_water()).max().unwrap_or(0);
        let accept = Accept {
            without: self.clusters.get(silent).map(|cluster| cluster.name.to_owned()).into_iter().collect(),
            at_least: if known < newest { vec![("tasks".to_owned(), newest)] } else { Vec::new() },
        };
        assert_eq!(self.primary.accept(&accept, true).await.unwrap().problem, None);
    }

    async fn note(&mut self, stood: i64, by_itself: bool) {
        let moved = self.primary.moved("tasks", stood + 1).await.unwrap();
        match moved.map(|by| by.reason).as_deref() {
            Some("jumped") => self.told.jumped += 1,
            Some("accepted") => self.told.accepted += 1,
            _ if by_itself => self.told.restarted += 1,
            _ => {}
        }
    }
}

#[test]
fn no_history_of_failovers_grants_an_id_twice() {
    let mut sum = Told::default();
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let told = runtime.unwrap().block_on(async {
            let mut world = World::begin(seed).await;
            for _ in 0..STEPS {
                world.step().await;
            }
            world.told
        });
        sum.grants += told.grants;
        sum.restarted += told.restarted;
        sum.jumped += told.jumped;
        sum.accepted += told.accepted;
    }
    let least = [sum.grants / 20, sum.restarted, sum.jumped, sum.accepted].into_iter().min();
    assert!(least > Some(300), "too little happened: {sum:?}");
}
