//! Ethernet: frames that leave. The NIC driver is on the other side and is trusted.

pub mod device;
mod offload;
