//! The family virtio-net: the crate [`virtio_net`] over the PCI function of this domain.

use crate::device::NetDevice;
use crate::own::Own;
use brane_abi::net::MacAddr;
use core::fmt::{Debug, Display};
use nic_switch::Link;
use virtio::pci::{self, Kicks};
use virtio_drivers::transport::pci::PciTransport;
use virtio_net::VirtioNet;
use virtio_net::memory::QUEUE;

/// The device of this domain.
pub type Virtio = VirtioNet<Own, PciTransport, Kicks<2>>;

impl NetDevice for Virtio {
    const FAMILY: &str = "virtio-net";
    const RX_BUFFERS: u32 = QUEUE as u32;

    fn open() -> Result<Option<Self>, impl Display> {
        match pci::open::<Own, 2>() {
            Some((transport, kicks)) => VirtioNet::start(transport, kicks).map(Some),
            None => Ok(None),
        }
    }

    fn link(&self) -> Link {
        VirtioNet::link(self)
    }

    fn mac(&self) -> MacAddr {
        VirtioNet::mac(self)
    }

    fn features(&self) -> impl Debug {
        VirtioNet::features(self)
    }

    fn rx_malformed(&self) -> u64 {
        self.counters().rx_malformed
    }

    #[inline]
    fn failure(&self) -> Option<impl Display> {
        VirtioNet::failure(self)
    }

    fn interrupt_reason(&mut self) -> bool {
        VirtioNet::interrupt_reason(self)
    }

    #[inline]
    fn rx_interrupts(&mut self, on: bool) -> bool {
        VirtioNet::rx_interrupts(self, on)
    }

    #[inline]
    fn tx_interrupts(&mut self, on: bool) -> bool {
        VirtioNet::tx_interrupts(self, on)
    }

    #[inline]
    fn refill(&mut self) -> usize {
        VirtioNet::refill(self)
    }

    #[inline]
    fn reclaim(&mut self) {
        VirtioNet::reclaim(self)
    }
}
