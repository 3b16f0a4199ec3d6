//! Capabilities of a protection domain, in the slots that Microkit 2.3 defines, and the words with the
//! program's constants.

use std::collections::HashSet;

use branes_system::{ExtraCapKind, ProtectionDomain as PdModel};
use initialiser_spec::{Cap, CapKind, GRANT, NONE, READ, WRITE};
use sel4::registry::badge;
use zerocopy::little_endian::{U32, U64};

use crate::Error;
use crate::build::Builder;
use crate::layout::Patch;

/// Slots of the capability table that Microkit 2.3 defines.
pub mod slot {
    pub const INPUT: u32 = 1;
    pub const FAULT: u32 = 2;
    pub const VSPACE: u32 = 3;
    pub const NOTIFY: u32 = 10;
    pub const CALL: u32 = 74;
    pub const IRQ: u32 = 138;
    pub const CHILD: u32 = 202;
    pub const IOPORT: u32 = 394;
}

/// Bytes of a program's name.
const NAME_LEN: usize = 64;

impl Builder<'_> {
    fn index(&self, name: &str) -> u32 {
        self.system
            .protection_domains
            .iter()
            .position(|pd| pd.name == name)
            .map_or(NONE, |index| index as u32)
    }

    /// Returns the capabilities of a protection domain.
    pub fn caps(&self, index: u32, pd: &PdModel, has_endpoint: bool) -> Vec<Cap> {
        let mut caps = Vec::new();
        let mut give = |slot: u32, kind: CapKind, rights: u8, target: u32, data: u64| {
            let (slot, target, data) = (U32::new(slot), U32::new(target), U64::new(data));
            caps.push(Cap {
                slot,
                kind: kind as u8,
                rights,
                reserved: [0; 2],
                target,
                data,
            });
        };
        let input = if has_endpoint {
            CapKind::Endpoint
        } else {
            CapKind::Notification
        };
        give(slot::INPUT, input, READ, index, 0);
        match (&pd.parent, pd.child_id) {
            (Some(parent), Some(child)) => {
                let data = badge::fault(child.into());
                give(
                    slot::FAULT,
                    CapKind::Endpoint,
                    WRITE | GRANT,
                    self.index(parent),
                    data,
                );
            }
            _ => give(
                slot::FAULT,
                CapKind::Monitor,
                WRITE | GRANT,
                NONE,
                u64::from(index) + 1,
            ),
        }
        give(slot::VSPACE, CapKind::VSpace, READ | WRITE | GRANT, index, 0);
        for (own, other) in self.system.ends(&pd.name) {
            let target = self.index(&other.pd);
            let (id, other_id) = (u32::from(own.id), u32::from(other.id));
            if own.notify {
                give(
                    slot::NOTIFY + id,
                    CapKind::Notification,
                    WRITE,
                    target,
                    badge::notification(other_id),
                );
            }
            if own.pp {
                give(
                    slot::CALL + id,
                    CapKind::Endpoint,
                    WRITE | GRANT,
                    target,
                    badge::call(other_id),
                );
            }
        }
        for child in self.system.children(&pd.name) {
            if let Some(id) = child.child_id {
                give(
                    slot::CHILD + u32::from(id),
                    CapKind::Tcb,
                    READ | WRITE | GRANT,
                    self.index(&child.name),
                    0,
                );
            }
        }
        for ports in &pd.ioports {
            let last = u64::from(ports.addr) + u64::from(ports.size) - 1;
            let data = u64::from(ports.addr) << 16 | last;
            give(
                slot::IOPORT + u32::from(ports.id),
                CapKind::IoPorts,
                READ | WRITE | GRANT,
                NONE,
                data,
            );
        }
        for extra in &pd.cspace {
            let kind = match extra.kind {
                ExtraCapKind::Tcb => CapKind::Tcb,
                ExtraCapKind::VSpace => CapKind::VSpace,
                ExtraCapKind::SchedulingContext => continue,
            };
            let slot = Cap::ROOT_SLOT + u32::from(extra.slot);
            give(slot, kind, READ | WRITE | GRANT, self.index(&extra.pd), 0);
        }
        caps
    }

    /// Returns all words that are written into the program before it runs: Microkit's symbols and the setvar
    /// symbols.
    pub fn patches(&self, pd: &PdModel) -> Result<Vec<Patch>, Error> {
        let program = &self.programs[&(pd.program.clone(), pd.program_for_symbols.clone())];
        let mut patches = Vec::new();
        let mut used = HashSet::new();
        let mut put = |symbol: &str, sizes: &[u64], bytes: &[u8]| {
            let address = program.symbol(&pd.name, symbol, sizes)?;
            if !used.insert(symbol.to_owned()) {
                return Err(Error::Symbol {
                    pd: pd.name.clone(),
                    symbol: symbol.into(),
                    path: program.path.clone(),
                    what: "is the target of two setvar attributes; give each its own symbol".into(),
                });
            }
            patches.push(Patch {
                address,
                bytes: bytes.to_vec(),
            });
            Ok(())
        };
        let mut name = pd.name.as_bytes().to_vec();
        name.resize(NAME_LEN, 0);
        let bits =
            |ids: &mut dyn Iterator<Item = u8>| ids.fold(0u64, |bits, id| bits | 1 << id).to_le_bytes();
        let own_ends = || self.system.ends(&pd.name).map(|(own, _)| own);
        put("microkit_name", &[NAME_LEN as u64], &name)?;
        put("microkit_passive", &[1], &[u8::from(pd.passive)])?;
        put(
            "microkit_irqs",
            &[8],
            &bits(&mut pd.irqs.iter().map(|irq| irq.id)),
        )?;
        let notifications = bits(&mut own_ends().filter(|end| end.notify).map(|end| end.id));
        put("microkit_notifications", &[8], &notifications)?;
        put(
            "microkit_pps",
            &[8],
            &bits(&mut own_ends().filter(|end| end.pp).map(|end| end.id)),
        )?;
        put(
            "microkit_ioports",
            &[8],
            &bits(&mut pd.ioports.iter().map(|ports| ports.id)),
        )?;

        let mut set = |symbol: &Option<String>, value: u64| match symbol {
            Some(symbol) => put(symbol, &[8], &value.to_le_bytes()),
            None => Ok(()),
        };
        for end in own_ends() {
            set(&end.setvar_id, end.id.into())?;
        }
        for irq in &pd.irqs {
            set(&irq.setvar_id, irq.id.into())?;
        }
        for ports in &pd.ioports {
            set(&ports.setvar_id, ports.id.into())?;
            set(&ports.setvar_addr, ports.addr.into())?;
        }
        for child in self.system.children(&pd.name) {
            set(&child.setvar_id, child.child_id.unwrap_or(0).into())?;
        }
        for map in &pd.maps {
            let Some(region) = self.regions.get(&map.mr) else {
                continue;
            };
            set(&map.setvar_vaddr, map.vaddr)?;
            set(&map.setvar_size, region.size)?;
            set(&map.setvar_prefill_size, region.prefill_size)?;
        }
        for setvar in &pd.setvars {
            let Some(paddr) = self
                .system
                .region(&setvar.region)
                .and_then(|region| region.phys_addr)
            else {
                return Err(Error::Unsupported {
                    who: format!("protection domain '{}'", pd.name),
                    what: format!(
                        "setvar '{}' asks for the physical address of '{}': give that region a phys_addr",
                        setvar.symbol, setvar.region
                    ),
                });
            };
            set(&Some(setvar.symbol.clone()), paddr)?;
        }
        Ok(patches)
    }
}
