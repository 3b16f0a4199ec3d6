//! UDP (RFC 768): the flows that skip the long way through the stack, in both directions.

pub mod rx_flow_cache;
pub mod tx_route_cache;
