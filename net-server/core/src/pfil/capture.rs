//! Captures: copies of frames at the link-level heads, for an operator ([`brane_abi::capture`]).
//!
//! Owns the captures that the manager (trusted) has begun, and the brane's side of the region `capture-N`. On the other side of
//! that region is the domain remote, which is not trusted: it can only lose its own records. The brane never waits for it. A
//! record without room is dropped and counted.
//!
//! A capture sees an interface while the interface has one generation of its vif. Then a record says that it is gone, and nothing
//! of the interface follows. A capture of all interfaces of the brane sees a new generation as another interface.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::capture::{
    self, BRANE_CAPTURES, CaptureConfig, Captured, End, FrameHeader, Gone, Interface, Link, QUERY_FRAMES,
    QUERY_SNAPLEN, RECORD_BIT, Reader, record,
};
use brane_abi::endpoint::{Endpoint, LinkEvent};
use brane_abi::layout;
use brane_abi::link::Side;
use brane_abi::query::{Answer, Refusal};
use brane_abi::ring::{Producer, RingError};
use brane_abi::shared::SharedRegion;
use branes_bpf::Program;
use core::cell::RefCell;
use zerocopy::IntoBytes;

/// Frames that wait for a query, at most.
const LIST: usize = 64;
/// Interfaces that one capture sees, with those that are gone and whose reader does not know it yet, at most.
const VIEWS: usize = 64;
/// Bytes of the ring that frames leave free, for records about interfaces.
const RESERVE: usize = 2048;
/// Time in nanoseconds after which records without room are tried again.
pub const RETRY: u64 = 10_000_000;

/// Memory of all captures in bytes: their programs, the lists of frames, the interfaces, and the configuration that they come from.
pub const BYTES: usize = BRANE_CAPTURES
    * (branes_bpf::BYTES
        + LIST * size_of::<Kept>()
        + VIEWS * size_of::<View>()
        + branes_bpf::MAX_LENGTH * size_of::<brane_abi::filter::Instruction>());

/// A frame that waits for a query.
struct Kept {
    time_ns: u64,
    interface: Rc<str>,
    link: Link,
    sent: bool,
    /// Length of the whole frame.
    length: u32,
    /// Bytes that are kept.
    kept: u8,
    bytes: [u8; QUERY_SNAPLEN as usize],
}

/// An interface of the brane that frames can pass.
#[derive(Clone)]
struct Present {
    index: usize,
    name: Rc<str>,
    device: String,
    generation: u32,
    link: Link,
}

/// A capture's view of an interface.
struct View {
    interface: Present,
    /// The reader knows it.
    announced: bool,
    dropped: u64,
    matched: u64,
    /// It is gone, and the reader does not know it yet.
    gone: Option<End>,
}

struct Capture {
    tag: u32,
    /// Name of its only interface.
    interface: Option<String>,
    reader: Reader,
    snaplen: usize,
    /// By link type. `None`: all frames match.
    programs: [Option<Program>; 2],
    views: Vec<View>,
    list: VecDeque<Kept>,
    /// Frames that were lost, of all interfaces.
    dropped: u64,
    /// It sees no interface any more.
    end: Option<End>,
}

/// The captures of a brane. Clones share them.
#[derive(Clone, Default)]
pub struct Captures(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    /// The region `capture-N`, if the system has one.
    endpoint: Option<Endpoint<Producer>>,
    brane: String,
    /// Count of the brane's restarts.
    generation: u32,
    present: Vec<Present>,
    captures: Vec<Capture>,
    /// Frames that were lost since the start.
    dropped: u64,
}

impl Captures {
    /// Starts the brane's side of the region `capture-N`. Returns `None` if the region is too small or not aligned.
    pub fn connect(&self, region: SharedRegion) -> Option<()> {
        let ring = layout::capture::brane_ring(region)?;
        self.0.borrow_mut().endpoint = Some(Endpoint::start(region, Side::A, ring)?);
        Some(())
    }

    /// Sets the name of the brane and the count of its restarts.
    pub fn identify(&self, brane: &str, generation: u32) {
        let mut state = self.0.borrow_mut();
        (state.brane, state.generation) = (brane.to_string(), generation);
    }

    /// Begins a capture. The error is the reason of a refusal.
    pub fn begin(&self, config: CaptureConfig) -> Result<(), String> {
        self.0.borrow_mut().begin(config)
    }

    /// Checks that captures can begin together. The error is the reason of a refusal.
    pub fn check(configs: &[CaptureConfig]) -> Result<(), String> {
        if configs.len() > BRANE_CAPTURES {
            return Err(format!("a brane takes part in {BRANE_CAPTURES} captures at most"));
        }
        configs.iter().try_for_each(|config| programs(config).map(|_| ()))
    }

    /// Ends a capture. Does nothing if there is none of this tag.
    pub fn end(&self, tag: u32) {
        let mut state = self.0.borrow_mut();
        if let Some(capture) = state.captures.iter_mut().find(|capture| capture.tag == tag) {
            capture.end_all(End::Stopped);
            capture.list = VecDeque::new();
        }
        state
            .captures
            .retain(|c| c.tag != tag || c.reader == Reader::Line);
        state.write_gone();
    }

    /// Frames can pass an interface from now on. A generation that differs from the last one makes it another interface.
    pub fn up(&self, index: usize, name: &str, device: &str, generation: u32, link: Link) {
        let mut state = self.0.borrow_mut();
        let known = |p: &Present| p.index == index && p.generation == generation && p.device == device;
        if state.present.iter().any(known) {
            return;
        }
        state.gone(index, End::Moved);
        let present = Present {
            index,
            name: name.into(),
            device: device.to_string(),
            generation,
            link,
        };
        for capture in &mut state.captures {
            capture.see(&present);
        }
        state.present.push(present);
        state.announce();
    }

    /// An interface is gone.
    pub fn gone(&self, index: usize, end: End) {
        self.0.borrow_mut().gone(index, end);
    }

    /// All interfaces are gone.
    pub fn all_gone(&self, end: End) {
        let mut state = self.0.borrow_mut();
        while let Some(present) = state.present.last() {
            let index = present.index;
            state.gone(index, end);
        }
    }

    /// An interface has other names. Its captures go on.
    pub fn renamed(&self, index: usize, name: &str, device: &str) {
        let mut state = self.0.borrow_mut();
        let State {
            present, captures, ..
        } = &mut *state;
        let views = captures
            .iter_mut()
            .flat_map(|capture| &mut capture.views)
            .filter(|view| view.gone.is_none())
            .map(|view| &mut view.interface);
        for interface in present.iter_mut().chain(views).filter(|p| p.index == index) {
            interface.name = name.into();
            interface.device = device.to_string();
        }
    }

    /// Returns true if a capture sees an interface.
    pub fn watches(&self, index: usize) -> bool {
        let state = self.0.borrow();
        let mut captures = state.captures.iter();
        captures.any(|capture| capture.view(index).is_some())
    }

    /// Returns true if there is nothing to do in a turn without frames.
    pub fn is_idle(&self) -> bool {
        let state = self.0.borrow();
        state.captures.is_empty()
    }

    /// Returns the time at which a turn is due, for records that wait for room.
    pub fn deadline(&self, now: u64) -> u64 {
        let state = self.0.borrow();
        let mut views = state.captures.iter().flat_map(|capture| &capture.views);
        match views.any(|view| view.gone.is_some()) {
            true => now + RETRY,
            false => u64::MAX,
        }
    }

    /// Returns the number of frames that were lost because a reader was slow.
    pub fn dropped(&self) -> u64 {
        self.0.borrow().dropped
    }

    /// Takes a frame that passes an interface.
    pub fn frame(&self, now: u64, index: usize, sent: bool, frame: &[u8]) {
        // Nothing borrows the state while a frame passes.
        if let Ok(mut state) = self.0.try_borrow_mut() {
            state.frame(now, index, sent, frame);
        }
    }

    /// Polls the link with remote. Call it before frames pass.
    pub fn poll(&self) {
        self.0.borrow_mut().poll();
    }

    /// Makes the records visible to remote. Returns true if remote must be notified.
    pub fn flush(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.write_gone();
        let Some(endpoint) = &mut state.endpoint else {
            return false;
        };
        let published = endpoint.is_up() && endpoint.rings.publish();
        endpoint.flush(if published { RECORD_BIT } else { 0 })
    }

    /// Answers a query for the next frames of a capture.
    pub fn take(&self, now: u64, tag: u32) -> Answer {
        let mut state = self.0.borrow_mut();
        let mut captures = state.captures.iter_mut();
        let of_tag = |capture: &&mut Capture| capture.tag == tag && capture.reader == Reader::Query;
        let Some(capture) = captures.find(of_tag) else {
            return Answer::Refused(Refusal::NoSuchCapture(tag));
        };
        let count = capture.list.len().min(QUERY_FRAMES);
        let frames = capture.list.drain(..count).map(|kept| Captured {
            time_ns: kept.time_ns,
            interface: kept.interface.to_string(),
            link: kept.link,
            sent: kept.sent,
            length: kept.length,
            bytes: kept.bytes[..usize::from(kept.kept)].to_vec(),
        });
        Answer::Captured {
            frames: frames.collect(),
            dropped: capture.dropped,
            // A reader that knows the end asks no more, so the last frames come first.
            end: capture.end.filter(|_| capture.list.is_empty()),
            now_ns: now,
        }
    }
}

/// Verifies the programs of a capture.
fn programs(config: &CaptureConfig) -> Result<[Option<Program>; 2], String> {
    let verify = |name: &str, code: &[_]| match code {
        [] => Ok(None),
        code => Program::verify(code)
            .map(Some)
            .map_err(|fault| format!("program for {name}: {fault}")),
    };
    if config.ethernet.len() + config.raw.len() > branes_bpf::MAX_LENGTH {
        return Err(format!("more than {} instructions", branes_bpf::MAX_LENGTH));
    }
    Ok([verify("Ethernet", &config.ethernet)?, verify("lo0", &config.raw)?])
}

impl Capture {
    /// Returns the view of an interface that is not gone.
    fn view(&self, index: usize) -> Option<usize> {
        let of_index = |view: &View| view.interface.index == index && view.gone.is_none();
        self.views.iter().position(of_index)
    }

    /// Sees an interface from now on, if it is one that the capture is for.
    fn see(&mut self, present: &Present) {
        let wanted = match &self.interface {
            // One interface, and one generation of it.
            Some(name) => *name == *present.name && self.views.is_empty(),
            None => true,
        };
        if self.end.is_some() || !wanted || self.views.len() >= VIEWS {
            return;
        }
        self.views.push(View {
            interface: present.clone(),
            announced: false,
            dropped: 0,
            matched: 0,
            gone: None,
        });
    }

    /// Does not see an interface any more.
    fn lose(&mut self, index: usize, end: End) {
        let Some(at) = self.view(index) else { return };
        let view = &mut self.views[at];
        match self.reader {
            Reader::Line if view.announced => view.gone = Some(end),
            _ => {
                self.views.swap_remove(at);
            }
        }
        if self.interface.is_some() {
            self.end = Some(end);
        }
    }

    fn end_all(&mut self, end: End) {
        while let Some(view) = self.views.iter().find(|view| view.gone.is_none()) {
            let index = view.interface.index;
            self.lose(index, end);
        }
        self.end = Some(end);
    }

    /// Returns true if nothing more comes of it, and its reader knows.
    fn is_over(&self) -> bool {
        self.reader == Reader::Line && self.end.is_some() && self.views.is_empty()
    }
}

impl State {
    fn begin(&mut self, config: CaptureConfig) -> Result<(), String> {
        if self.captures.iter().any(|capture| capture.tag == config.tag) {
            return Err(format!("there is a capture {}", config.tag));
        }
        let live = self.captures.iter().filter(|capture| capture.end.is_none());
        if live.count() >= BRANE_CAPTURES {
            return Err(format!("a brane takes part in {BRANE_CAPTURES} captures at most"));
        }
        let programs = programs(&config)?;
        // Ended ones whose reader takes nothing make room.
        if self.captures.len() >= BRANE_CAPTURES
            && let Some(at) = self.captures.iter().position(|capture| capture.end.is_some())
        {
            self.captures.remove(at);
        }
        let (mut list, mut views) = (VecDeque::new(), Vec::new());
        let most = match config.reader {
            Reader::Line => capture::MAX_SNAPLEN,
            Reader::Query => {
                list.try_reserve_exact(LIST).map_err(|_| "no memory for frames")?;
                QUERY_SNAPLEN
            }
        };
        views
            .try_reserve_exact(VIEWS)
            .map_err(|_| "no memory for frames")?;
        let mut capture = Capture {
            tag: config.tag,
            interface: config.interface,
            reader: config.reader,
            snaplen: config.snaplen.min(most) as usize,
            programs,
            views,
            list,
            dropped: 0,
            end: None,
        };
        for present in &self.present {
            capture.see(present);
        }
        self.captures.push(capture);
        self.announce();
        Ok(())
    }

    fn gone(&mut self, index: usize, end: End) {
        self.present.retain(|present| present.index != index);
        for capture in &mut self.captures {
            capture.lose(index, end);
        }
        self.write_gone();
    }

    fn frame(&mut self, now: u64, index: usize, sent: bool, frame: &[u8]) {
        let State {
            endpoint,
            captures,
            brane,
            generation,
            dropped,
            ..
        } = self;
        let mut violated = false;
        for capture in captures {
            let Some(at) = capture.view(index) else { continue };
            let view = &mut capture.views[at];
            // A packet of `lo0` is sent and received. It is one packet.
            if sent && view.interface.link == Link::Raw {
                continue;
            }
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            let wanted = match &capture.programs[view.interface.link as usize] {
                None => capture.snaplen,
                Some(program) => match program.run(frame, length) {
                    0 => continue,
                    bytes => capture.snaplen.min(bytes as usize),
                },
            };
            view.matched += 1;
            let bytes = &frame[..frame.len().min(wanted)];
            let taken = match capture.reader {
                Reader::Query => keep(&mut capture.list, now, &view.interface, sent, length, bytes),
                Reader::Line => {
                    let ring = endpoint.as_mut().filter(|endpoint| endpoint.is_up());
                    let put = ring.map(|endpoint| {
                        let ring = &mut endpoint.rings;
                        announce(ring, capture.tag, view, brane, *generation)?;
                        put_frame(ring, capture.tag, view, now, sent, length, bytes)
                    });
                    violated |= put == Some(Err(RingError::Peer));
                    put == Some(Ok(()))
                }
            };
            if !taken {
                view.dropped += 1;
                capture.dropped += 1;
                *dropped += 1;
            }
        }
        if violated {
            self.lose_link();
        }
    }

    fn poll(&mut self) {
        let Some(endpoint) = &mut self.endpoint else {
            return;
        };
        let mut event = endpoint.poll();
        if event == LinkEvent::PeerRestarted {
            endpoint.accept();
            event = endpoint.poll();
            self.forget_reader();
        }
        match event {
            LinkEvent::CameUp => {
                self.forget_reader();
                self.announce();
            }
            LinkEvent::Lost | LinkEvent::Incompatible => self.forget_reader(),
            LinkEvent::Unchanged | LinkEvent::PeerRestarted => {}
        }
    }

    /// Remote has written impossible indices: nothing goes there until it restarts.
    fn lose_link(&mut self) {
        if let Some(endpoint) = &mut self.endpoint {
            let _ = endpoint.violation();
        }
        self.forget_reader();
    }

    /// The ring is empty, and its reader knows nothing.
    fn forget_reader(&mut self) {
        for capture in &mut self.captures {
            capture.views.retain(|view| view.gone.is_none());
            capture.views.iter_mut().for_each(|view| view.announced = false);
        }
        self.captures.retain(|capture| !capture.is_over());
    }

    /// Informs the readers of interfaces that they do not know yet, while there is room. A frame tries again.
    fn announce(&mut self) {
        let State {
            endpoint,
            captures,
            brane,
            generation,
            ..
        } = self;
        let Some(endpoint) = endpoint.as_mut().filter(|endpoint| endpoint.is_up()) else {
            return;
        };
        let lines = captures.iter_mut().filter(|c| c.reader == Reader::Line);
        let violated = lines.fold(false, |violated, capture| {
            let tag = capture.tag;
            let views = capture.views.iter_mut().filter(|view| view.gone.is_none());
            views.fold(violated, |violated, view| {
                let put = announce(&mut endpoint.rings, tag, view, brane, *generation);
                violated | (put == Err(RingError::Peer))
            })
        });
        if violated {
            self.lose_link();
        }
    }

    /// Writes the records of interfaces that are gone, while there is room.
    fn write_gone(&mut self) {
        let State {
            endpoint, captures, ..
        } = self;
        let mut violated = false;
        for capture in captures.iter_mut() {
            let tag = capture.tag;
            capture.views.retain(|view| {
                let Some(end) = view.gone else { return true };
                let Some(endpoint) = endpoint.as_mut().filter(|endpoint| endpoint.is_up()) else {
                    return false;
                };
                let gone = Gone {
                    dropped: view.dropped,
                    matched: view.matched,
                    end: end.code(),
                    reserved: 0,
                };
                let words = [record::GONE, tag, view.interface.index as u32];
                match endpoint.rings.push(&[gone.as_bytes()], words) {
                    Ok(()) => false,
                    Err(RingError::Full) => true,
                    Err(_) => {
                        violated = true;
                        false
                    }
                }
            });
        }
        captures.retain(|capture| !capture.is_over());
        if violated {
            self.lose_link();
        }
    }
}

/// Puts a frame into the list for queries. Returns false if there is no room.
fn keep(
    list: &mut VecDeque<Kept>,
    now: u64,
    interface: &Present,
    sent: bool,
    length: u32,
    from: &[u8],
) -> bool {
    if list.len() >= LIST {
        return false;
    }
    let mut bytes = [0; QUERY_SNAPLEN as usize];
    let kept = from.len().min(bytes.len());
    bytes[..kept].copy_from_slice(&from[..kept]);
    list.push_back(Kept {
        time_ns: now,
        interface: interface.name.clone(),
        link: interface.link,
        sent,
        length,
        kept: kept as u8,
        bytes,
    });
    true
}

/// Informs the reader of an interface, if it does not know it yet.
fn announce(
    ring: &mut Producer,
    tag: u32,
    view: &mut View,
    brane: &str,
    brane_generation: u32,
) -> Result<(), RingError> {
    if view.announced {
        return Ok(());
    }
    let interface = Interface {
        brane: brane.to_string(),
        brane_generation,
        name: view.interface.name.to_string(),
        device: view.interface.device.clone(),
        generation: view.interface.generation,
        link: view.interface.link,
    };
    // Writing to a vector cannot fail.
    let text = minicbor::to_vec(&interface).unwrap_or_default();
    let words = [record::INTERFACE, tag, view.interface.index as u32];
    ring.push(&[&text], words)?;
    view.announced = true;
    Ok(())
}

fn put_frame(
    ring: &mut Producer,
    tag: u32,
    view: &View,
    now: u64,
    sent: bool,
    length: u32,
    bytes: &[u8],
) -> Result<(), RingError> {
    let header = FrameHeader {
        time_ns: now,
        dropped: view.dropped,
        length,
        reserved: 0,
    };
    let need = size_of::<FrameHeader>() + bytes.len();
    if !ring.has_room((need + RESERVE).min(ring.max_payload()))? {
        return Err(RingError::Full);
    }
    let sent = if sent { record::SENT } else { 0 };
    let words = [record::FRAME, tag, view.interface.index as u32 | sent];
    ring.push(&[header.as_bytes(), bytes], words)
}
