//! ICMP errors about connections.
//!
//! Errors come from any host. [`ErrorReport`] quotes a packet that the brane need not have sent.

use super::connection::{Connection, State};
use super::{FlowKey, Owner, Tcp};
use crate::net::Net;
use crate::transport::icmp::{Cause, ErrorReport};
use brane_abi::socket::error;

impl Tcp {
    /// Handles an ICMP error. A hard error ends a connection whose SYN it quotes. Nothing ends an established connection, because
    /// any host can forge an error (RFC 5927, 5.2).
    pub(super) fn note_error(&mut self, net: &mut Net, report: &ErrorReport) {
        let (local_port, remote_port) = report.ports();
        let key = FlowKey {
            netif: report.netif,
            local: report.local,
            remote: report.remote,
            local_port,
            remote_port,
        };
        let Some(id) = self.flows.find(&self.conns, &key) else {
            net.counters.icmp_errors_stray += 1;
            return;
        };
        let conn = &mut self.conns[id];
        if conn.socket.state() != State::SynSent {
            net.counters.tcp_icmp_errors += 1;
            return;
        }
        // Nothing but the SYN is on its way (RFC 5927, 4.1).
        if conn.iss != Some(report.sequence()) {
            net.counters.icmp_errors_stray += 1;
            return;
        }
        net.counters.tcp_icmp_errors += 1;
        if !report.cause.is_hard() {
            return;
        }
        conn.failure = Some(match report.cause {
            Cause::Port | Cause::Protocol => error::REFUSED,
            _ => error::UNREACHABLE,
        });
        if conn.owner == Owner::Nobody {
            self.remove(id);
        } else {
            conn.socket.abort();
            self.touch(id);
        }
    }
}
