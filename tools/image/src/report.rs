//! Size of an image, for the person who builds it, and the check whether a machine is large enough.

use std::fmt;

use branes_qemu::board::BOARD;

use crate::Error;

/// Upper bound in bytes for kernel, firmware tables, the root task's capability table, and rounding to powers
/// of two.
const OVERHEAD: u64 = 12 << 20;
/// Upper bound in bytes for use at the end of RAM. The firmware uses less than 1 MiB. The kernel uses a few
/// pages and the root task's first capability table, 2 MiB at a multiple of 2 MiB.
const END_OF_RAM: u64 = 5 << 20;

/// A finished image.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub image_bytes: u64,
    /// Bytes of the description for the root task.
    pub spec_bytes: u64,
    /// Pages of program code, data and prefilled contents.
    pub content_pages: u64,
    /// Bytes of RAM for all objects and regions, without those at fixed addresses.
    pub ram_bytes: u64,
    /// First address, first address after the end, and name of each fixed region in RAM.
    pub fixed_ram: Vec<(u64, u64, String)>,
    /// Number of protection domains.
    pub pds: usize,
    /// Pages mapped by the root task.
    pub mapped_pages: u64,
    /// Slots that the root task needs in its capability table.
    pub slots: u64,
    /// A line about requested features that this kernel does not have.
    pub warning: Option<String>,
}

impl Report {
    /// Returns true if an address range is in RAM, on a machine with enough RAM.
    pub(crate) fn is_ram(start: u64) -> bool {
        start < BOARD.ram_limit
    }

    /// Returns the MiB of memory that a machine needs to run the image.
    pub fn needed_mib(&self) -> u64 {
        let fixed: u64 = self.fixed_ram.iter().map(|(start, end, _)| end - start).sum();
        let sum = self.ram_bytes + fixed + self.image_bytes + OVERHEAD;
        let top = self
            .fixed_ram
            .iter()
            .map(|(_, end, _)| *end + END_OF_RAM)
            .max()
            .unwrap_or(0);
        sum.max(top).div_ceil(1 << 20)
    }

    /// Refuses a machine with too little memory.
    pub fn check_memory(&self, machine_mib: u64) -> Result<(), Error> {
        let needed = self.needed_mib();
        if needed <= machine_mib {
            return Ok(());
        }
        let outside = self
            .fixed_ram
            .iter()
            .find(|(_, end, _)| *end + END_OF_RAM > machine_mib << 20);
        let hint = match outside {
            Some((start, _, name)) => format!("memory region '{name}' is at physical address {start:#x}"),
            None => format!(
                "{} MiB are for memory regions, stacks and kernel objects",
                self.ram_bytes >> 20
            ),
        };
        Err(Error::Memory {
            needed,
            has: machine_mib,
            hint,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} protection domains, image {:.1} MiB, RAM {} MiB, {} pages mapped",
            self.pds,
            self.image_bytes as f64 / f64::from(1 << 20),
            self.needed_mib(),
            self.mapped_pages
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_does_not_fit() {
        let report = Report {
            image_bytes: 2 << 20,
            ram_bytes: 100 << 20,
            fixed_ram: vec![(0x800_0000, 0x840_0000, "dma".into())],
            ..Report::default()
        };
        assert_eq!(report.needed_mib(), 137);
        assert!(report.check_memory(137).is_ok());
        assert!(report.check_memory(136).is_err());
        let error = report.check_memory(64).unwrap_err().to_string();
        assert_eq!(
            error,
            "image needs 137 MiB, machine has 64 MiB: memory region 'dma' is at physical address 0x8000000"
        );
        let error = Report {
            fixed_ram: vec![],
            ..report
        }
        .check_memory(100)
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("image needs 114 MiB, machine has 100 MiB: 100 MiB are for"),
            "{error}"
        );
    }
}
