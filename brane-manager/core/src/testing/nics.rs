//! NIC drivers for the tests: real switches, called with the bytes of the protected calls.

use crate::driver::Driver;
use brane_abi::layout::ports;
use brane_abi::log::{Level, Line};
use brane_abi::net::MacAddr;
use brane_abi::operator::DriverRefusal;
use brane_abi::shared::SharedRegion;
use brane_abi::vif::{
    self, AddVif, BindVif, DeviceInfo, SetMode, VifCounters, VifEntry, VifLimits, VifRef, VifTable,
    VifTableAt,
};
use nic_switch::{Silent, Switch};
use std::alloc::{Layout, alloc_zeroed};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Number of branes of each switch.
const BRANES: usize = 8;

/// A driver's state of a vif, as set by the calls.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub mode: u32,
    /// The limits that were set last; `None` before the first.
    pub limits: Option<VifLimits>,
}

pub struct Nics {
    switches: Vec<Box<Switch<BRANES, 2>>>,
    /// Calls until one is refused, for tests of what is left then; `None` again after it.
    pub refuse_after: Option<u32>,
    /// True if a call was ever refused that way.
    pub refused: bool,
    known: BTreeMap<(u8, u32), Known>,
    /// Levels set at serial, by the number of the domain.
    pub levels: BTreeMap<u32, Level>,
    /// Lines stored by serial: the number of the domain, the line's number, its text.
    pub lines: Vec<(u32, u64, String)>,
}

fn region() -> SharedRegion {
    let layout = Layout::from_size_align(ports::SIZE, 4096).unwrap();
    // SAFETY: the layout has a size above zero.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: never freed, aligned, and reached only through this value's copies.
    unsafe { SharedRegion::new(base, ports::SIZE) }
}

impl std::fmt::Debug for Nics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} switches", self.switches.len())
    }
}

impl Nics {
    pub fn new(nics: usize) -> Nics {
        // One memory for all tests of a thread, because no test reads the rings.
        thread_local!(static REGIONS: Vec<SharedRegion> = (0..BRANES).map(|_| region()).collect());
        Nics {
            switches: (0..nics)
                .map(|_| {
                    let mut switch = Box::new(Switch::new());
                    REGIONS.with(|all| {
                        for (n, region) in all.iter().enumerate() {
                            assert!(switch.attach(n, *region));
                        }
                    });
                    switch
                })
                .collect(),
            refuse_after: None,
            refused: false,
            known: BTreeMap::new(),
            levels: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    /// Returns the driver's state of a vif, if the driver has the vif.
    pub fn known(&self, nic: u8, vif: u32) -> Option<&Known> {
        self.known.get(&(nic, vif))
    }

    fn call<T: IntoBytes + Immutable>(&mut self, nic: u8, label: u64, argument: &T) -> (u64, Vec<u8>) {
        let mut message = [0; 960];
        let bytes = argument.as_bytes();
        message[..bytes.len()].copy_from_slice(bytes);
        let info = DeviceInfo {
            mac: MacAddr([2, 0xee, 0, 0, 0, nic]),
            ..DeviceInfo::default()
        };
        let (label, len) =
            self.switches[usize::from(nic)].call(label, bytes.len(), &mut message, info, &mut Silent);
        (label, message[..len].to_vec())
    }

    fn change<T: IntoBytes + Immutable>(
        &mut self,
        nic: u8,
        label: u64,
        argument: &T,
    ) -> Result<(), DriverRefusal> {
        match &mut self.refuse_after {
            Some(0) => {
                self.refuse_after = None;
                self.refused = true;
                return Err(DriverRefusal::Full);
            }
            Some(n) => *n -= 1,
            None => {}
        }
        DriverRefusal::from_label(self.call(nic, label, argument).0)
    }
}

impl Driver for Nics {
    fn nics(&self) -> usize {
        self.switches.len()
    }
    fn add(&mut self, nic: u8, add: AddVif) -> Result<(), DriverRefusal> {
        self.change(nic, vif::ADD_VIF, &add)?;
        let known = Known {
            mode: add.mode,
            limits: None,
        };
        self.known.insert((nic, add.vif), known);
        Ok(())
    }
    fn remove(&mut self, nic: u8, vif: u32) -> Result<(), DriverRefusal> {
        assert_eq!(self.call(nic, vif::REMOVE_VIF, &VifRef { vif }).0, vif::OK);
        self.known.remove(&(nic, vif));
        Ok(())
    }
    fn bind(&mut self, nic: u8, bind: BindVif) -> Result<(), DriverRefusal> {
        let known = self
            .known(nic, bind.vif)
            .expect("a vif is added before it is bound");
        assert!(known.limits.is_some(), "a vif is limited before it is bound");
        self.change(nic, vif::BIND_VIF, &bind)
    }
    fn unbind(&mut self, nic: u8, vif: u32) -> Result<(), DriverRefusal> {
        assert_eq!(self.call(nic, vif::UNBIND_VIF, &VifRef { vif }).0, vif::OK);
        Ok(())
    }
    fn limit(&mut self, nic: u8, limits: VifLimits) -> Result<(), DriverRefusal> {
        self.change(nic, vif::SET_LIMITS, &limits)?;
        if let Some(known) = self.known.get_mut(&(nic, limits.vif)) {
            known.limits = Some(limits);
        }
        Ok(())
    }
    fn mode(&mut self, nic: u8, vif: u32, mode: u32) -> Result<(), DriverRefusal> {
        self.change(nic, vif::SET_MODE, &SetMode { vif, mode })?;
        if let Some(known) = self.known.get_mut(&(nic, vif)) {
            known.mode = mode;
        }
        Ok(())
    }
    fn counters(&mut self, nic: u8, vif: u32) -> Option<VifCounters> {
        let (label, bytes) = self.call(nic, vif::VIF_COUNTERS, &VifRef { vif });
        (label == vif::OK).then(|| VifCounters::read_from_prefix(&bytes).unwrap().0)
    }
    fn device(&mut self, nic: u8) -> Option<DeviceInfo> {
        let (label, bytes) = self.call(nic, vif::DEVICE_INFO, &[0u8; 0]);
        (label == vif::OK).then(|| DeviceInfo::read_from_prefix(&bytes).unwrap().0)
    }
    fn table(&mut self, nic: u8) -> Vec<VifEntry> {
        let mut all = Vec::new();
        loop {
            let (label, bytes) = self.call(
                nic,
                vif::VIF_TABLE,
                &VifTableAt {
                    skip: all.len() as u32,
                },
            );
            assert_eq!(label, vif::OK);
            let part = VifTable::read_from_prefix(&bytes).unwrap().0;
            all.extend_from_slice(&part.entries[..part.count as usize]);
            if part.count == 0 || all.len() == part.total as usize {
                return all;
            }
        }
    }
    fn logs(&self) -> Vec<(String, u32)> {
        let branes = (0..2).map(|n| (format!("brane-{n}"), n));
        branes.chain([("nic0".into(), 57)]).collect()
    }
    fn set_log_level(&mut self, domain: u32, level: Level) -> bool {
        self.levels.insert(domain, level);
        true
    }
    fn log_lines(&mut self, domain: u32, after: u64, line: &mut dyn FnMut(Line<'_>)) {
        let kept = self.lines.iter();
        for (_, number, text) in kept.filter(|(d, n, _)| *d == domain && *n > after) {
            line(Line {
                number: *number,
                at_ns: 1_000 * number,
                level: Level::Info,
                text,
            });
        }
    }
    fn heap_used(&self) -> u64 {
        0
    }
}
