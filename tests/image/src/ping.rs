//! A train of pings at a fixed rate ([`Train`]), over the ICMP echo socket of `branes_bench`.

pub use branes_bench::ping::{Pinger, checksum};

use crate::patience::ANSWER;
use anyhow::{Result, ensure};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// Number of pings that show whether a brane was harmed. On a fast machine the event beside them can be over
/// earlier.
const MANY: u32 = 101;

/// Replaces the number of pings while more are to be sent.
const RUNNING: u32 = u32::MAX;

/// Result of a train of pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    pub sent: u32,
    /// Echo requests that were answered, each counted once.
    pub answered: u32,
}

/// Sends echo requests at a fixed rate on two threads of its own, until [`Train::stop`].
pub struct Train {
    stop: Arc<AtomicBool>,
    /// Pings that are sent even if the train is stopped earlier.
    least: Arc<AtomicU32>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<u32>,
}

impl Train {
    /// Starts to ping `to` every `gap`, in the network namespace of the calling thread. Sends at most 60,000
    /// pings.
    pub fn start(to: IpAddr, gap: Duration) -> io::Result<Train> {
        let stop = Arc::new(AtomicBool::new(false));
        let tx = Arc::new(Pinger::new(to)?);
        let (rx, stopped) = (tx.clone(), stop.clone());
        let least = Arc::new(AtomicU32::new(0));
        let wanted = least.clone();
        let total = Arc::new(AtomicU32::new(RUNNING));
        let sent_all = total.clone();
        let sender = spawn(move || {
            let start = Instant::now();
            let mut sent = 0u32;
            let goes_on = |sent| !stopped.load(Ordering::Acquire) || sent < wanted.load(Ordering::Relaxed);
            while goes_on(sent) && sent < 60_000 {
                tx.send(sent as u16).expect("sending an echo request");
                sent += 1;
                sleep((start + gap * sent).saturating_duration_since(Instant::now()));
            }
            sent_all.store(sent, Ordering::Relaxed);
            sent
        });
        let stopped = total.clone();
        let receiver = spawn(move || {
            let mut seen = vec![false; 1 << 16];
            let (mut count, mut last) = (0, Instant::now());
            loop {
                let total = stopped.load(Ordering::Relaxed);
                let over = total != RUNNING && last.elapsed() >= ANSWER;
                if count == total || over {
                    return count;
                }
                let turn = Instant::now() + Duration::from_millis(50);
                if let Some(seq) = rx.receive(turn).expect("receiving echo replies") {
                    count += u32::from(!std::mem::replace(&mut seen[usize::from(seq)], true));
                    last = Instant::now();
                }
                if total == RUNNING {
                    last = Instant::now();
                }
            }
        });
        Ok(Train {
            stop,
            least,
            sender,
            receiver,
        })
    }

    /// Stops sending, waits for the replies in flight, and returns the counts.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Release);
        let sent = self.sender.join().expect("the sending thread");
        Tally {
            sent,
            answered: self.receiver.join().expect("the receiving thread"),
        }
    }
}

impl Train {
    /// Stops after at least `MANY` pings. Fails unless all of them were answered. `name` is the pinged brane.
    pub fn stop_unharmed(self, name: &str) -> Result<()> {
        self.least.store(MANY, Ordering::Relaxed);
        let tally = self.stop();
        ensure!(tally.answered == tally.sent, "{name} lost pings: {tally:?}");
        Ok(())
    }
}
