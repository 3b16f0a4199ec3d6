//! The echo services of a host under test. The client is the real socket library.

use super::Host;
use brane_socket::{Interface, ListenOptions, RingSizes, TcpListener, UdpSocket};

/// Spawns a UDP echo server at port 7.
pub fn udp(host: &Host) {
    let stack = host.stack.clone();
    host.spawn(async move {
        stack.ready().await;
        let sizes = RingSizes { rx: 65536, tx: 65536 };
        let mut socket = UdpSocket::bind(&stack, "[::]:7".parse().unwrap(), sizes)
            .await
            .unwrap();
        socket
            .serve(64, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
}

/// Spawns a UDP and a TCP echo server at port 7 and lets both come up. The TCP server queues `backlog` connections.
pub fn serve(host: &mut Host, backlog: u32) {
    udp(host);
    let stack = host.stack.clone();
    host.spawn(async move {
        stack.ready().await;
        let options = ListenOptions {
            backlog,
            ..ListenOptions::default()
        };
        let listener = TcpListener::bind(&stack, "[::]:7".parse().unwrap(), options)
            .await
            .unwrap();
        loop {
            let mut stream = listener.accept().await.unwrap();
            while stream.echo().await.is_ok_and(|n| n != 0) {}
        }
    });
    (0..3).for_each(|_| host.settle());
}

/// Spawns a UDP socket at port 9 that has joined 239.0.0.1 and ff05::1 and echoes what it receives.
pub fn join(host: &mut Host) {
    let stack = host.stack.clone();
    host.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, "[::]:9".parse().unwrap(), RingSizes::default())
            .await
            .unwrap();
        for group in ["239.0.0.1", "ff05::1"] {
            let joined = socket
                .join_multicast(group.parse().unwrap(), Interface::Any)
                .await;
            joined.unwrap();
        }
        socket
            .serve(64, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
    (0..3).for_each(|_| host.settle());
}
