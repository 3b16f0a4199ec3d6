//! Transport protocols. Segments and datagrams come from any host; their headers were checked by [`crate::headers`].

pub mod tcp;
pub mod udp;
