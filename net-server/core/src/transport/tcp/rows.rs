//! Listeners and connections as `netstat` shows them.

use super::Tcp;
use super::connection::Connection;
use crate::query::{Section, SocketRows};
use brane_abi::control;
use brane_abi::query::Socket;

impl Tcp {
    /// Lists listeners and connections.
    pub(super) fn list(&self, rows: &mut SocketRows) {
        match rows.section() {
            Section::Unconnected => {
                for (_, listener) in self.listeners.iter() {
                    rows.add(|any| Socket {
                        protocol: control::Protocol::Tcp,
                        local: any.or(listener.local, listener.port),
                        remote: None,
                        state: "LISTEN".into(),
                        receive_queue: listener.pending.len() as u32,
                        send_queue: 0,
                    });
                }
            }
            Section::Connected => {
                for (_, conn) in self.conns.iter() {
                    rows.add(|any| {
                        let socket = &conn.socket;
                        Socket {
                            protocol: control::Protocol::Tcp,
                            local: any.or(Some(conn.key.local), conn.key.local_port),
                            remote: Some(any.or(Some(conn.key.remote), conn.key.remote_port)),
                            state: socket.state().name().into(),
                            receive_queue: socket.receive_queue() as u32,
                            send_queue: socket.send_queue() as u32,
                        }
                    });
                }
            }
        }
    }
}
