//! What the image tests share: booting the image, network namespaces, a host peer that sends exact frames, probes.
//!
//! The image under test is the real one, as `cargo xtask image` writes it. Everything here runs on the host and speaks
//! to it by wire protocols and by its console. Traffic stays on loopback and in namespaces that a test makes itself.

pub mod guest;
pub mod netns;
pub mod ping;
pub mod probe;
pub mod wire;
