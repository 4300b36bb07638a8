//! What can befall the bytes of a connection on their way: one kind, or several at once, in one direction or both.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::proxy::Counts;

/// Between two slices.
const SLICED: Duration = Duration::from_millis(1);

/// The most that is read at once; a slow line carries less.
const PIECE: usize = 64 * 1024;

/// One thing that befalls bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toxic {
    /// They come so much later.
    Latency(Duration),
    /// They come later, each piece by another time up to this.
    Jitter(Duration),
    /// So many get through in a second.
    Bandwidth(u32),
    /// None gets through, and no end is told, until the toxic is gone.
    Blackhole,
    /// The connection is reset as soon as one travels; in both directions, also while none does.
    Reset,
    /// They are lost for good, and what travels later gets through.
    Drop,
    /// They come in pieces of so many.
    Slice(usize),
    /// The receiver is told that nothing more comes, and nothing does; the other direction goes on.
    HalfClose,
}

impl Toxic {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Toxic::Latency(_) => "latency",
            Toxic::Jitter(_) => "jitter",
            Toxic::Bandwidth(_) => "bandwidth",
            Toxic::Blackhole => "black hole",
            Toxic::Reset => "reset",
            Toxic::Drop => "drop",
            Toxic::Slice(_) => "slicing",
            Toxic::HalfClose => "half-close",
        }
    }
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What lies on both directions of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toxics {
    up: Vec<Toxic>,
    down: Vec<Toxic>,
}

impl Toxics {
    /// On one direction, in the order in which they came.
    pub fn on(&self, way: Way) -> &[Toxic] {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub fn add(&mut self, way: Way, toxic: Toxic) {
        self.list(way).push(toxic);
    }

    /// Takes one of this kind away.
    pub fn remove(&mut self, way: Way, toxic: Toxic) {
        let list = self.list(way);
        if let Some(at) = list.iter().position(|is| *is == toxic) {
            list.remove(at);
        }
    }

    /// Whether connections are reset while nothing travels, too.
    pub fn cuts(&self) -> bool {
        [Way::Up, Way::Down].iter().all(|way| self.on(*way).contains(&Toxic::Reset))
    }

    fn list(&mut self, way: Way) -> &mut Vec<Toxic> {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// Returns once this holds, or nobody can change it any more.
pub async fn until(toxics: &mut watch::Receiver<Toxics>, holds: impl FnMut(&Toxics) -> bool) {
    let _ = toxics.wait_for(holds).await;
}

/// Carries one direction until an end is told or the connection is reset. Both ends are dropped when it returns.
pub async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut toxics: watch::Receiver<Toxics>,
    way: Way,
    counts: &Counts,
) {
    let (mut buffer, mut closed) = (vec![0; PIECE], false);
    loop {
        let mut listened = toxics.clone();
        let close = until(&mut listened, |toxics| !closed && toxics.on(way).contains(&Toxic::HalfClose));
        let read = tokio::select! {
            biased;
            () = close => None,
            read = from.read(&mut buffer) => Some(read),
        };
        let Some(read) = read else {
            counts.touch();
            closed = true;
            let _ = to.shutdown().await;
            continue;
        };
        // Not even an end gets through a black hole.
        if toxics.borrow().on(way).contains(&Toxic::Blackhole) {
            counts.touch();
            until(&mut toxics, |toxics| !toxics.on(way).contains(&Toxic::Blackhole)).await;
        }
        let Ok(count @ 1..) = read else { return };
        let mut fate = Fate { lost: closed, slice: count };
        let lying = toxics.borrow().on(way).to_vec();
        for toxic in lying {
            counts.touch();
            if toxic == Toxic::Reset {
                return;
            }
            fate.suffer(toxic, count, way, &mut toxics).await;
        }
        if fate.lost {
            counts.lost(way, count);
            continue;
        }
        for piece in buffer[..count].chunks(fate.slice) {
            if to.write_all(piece).await.is_err() {
                return;
            }
            if fate.slice < count {
                sleep(SLICED).await;
            }
        }
        counts.passed(way, count);
    }
}

/// What becomes of one piece.
struct Fate {
    lost: bool,
    slice: usize,
}

impl Fate {
    async fn suffer(&mut self, toxic: Toxic, count: usize, way: Way, toxics: &mut watch::Receiver<Toxics>) {
        let pause = match toxic {
            Toxic::Latency(latency) => latency,
            Toxic::Jitter(most) => most.mul_f64(fastrand::f64()),
            Toxic::Bandwidth(rate) => Duration::from_secs_f64(count as f64 / f64::from(rate)),
            Toxic::Drop => {
                self.lost = true;
                return;
            }
            Toxic::Slice(size) => {
                self.slice = size.max(1).min(count);
                return;
            }
            Toxic::Blackhole | Toxic::Reset | Toxic::HalfClose => return,
        };
        // Whoever takes the toxic away needn't wait for what it held up.
        let gone = until(toxics, |toxics| !toxics.on(way).contains(&toxic));
        tokio::select! {
            biased;
            () = gone => {}
            () = sleep(pause) => {}
        }
    }
}
