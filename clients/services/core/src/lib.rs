//! Small services that every brane offers through its client: echo (7), discard (9), source (19) and HTTP
//! (80).
//!
//! Owns their behaviour, and the slots and ring memory of each ([`plan`]). On the other side: untrusted hosts
//! on the network, whose input is bounded in length and time. Below is the brane. If it restarts, all
//! services start again.
//!
//! Runs on any [`NetClient`]: in the protection domain `services-N`, or in a test on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod http;
mod page;
pub mod plan;
pub mod source;

use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::ring::RingError;
use brane_socket::executor::{Task, yield_now};
use brane_socket::{Error, Executor, NetClient, TcpListener, TcpStream, UdpSocket};
use core::cell::Cell;
use core::fmt;
use core::net::{Ipv6Addr, SocketAddr};
use core::pin::pin;
use core::task::{Poll, Waker};
use plan::{TcpPlan, UdpPlan};

pub use page::{BODY, Page};

const SECOND: u64 = 1_000_000_000;

/// Time limit in nanoseconds for silence of a connection, or for not reading from it. Not for HTTP.
const IDLE_LIMIT: u64 = 600 * SECOND;

/// Time limit of HTTP connections.
const HTTP_LIMIT: u64 = 60 * SECOND;

/// Pause in nanoseconds before a failed open of a socket is repeated.
const RETRY: u64 = SECOND;

/// Datagrams handled before other tasks run.
const DATAGRAM_BUDGET: usize = 64;

/// Bytes moved on a stream before other tasks run.
const STREAM_BUDGET: usize = 16 << 10;

/// Ports of services that answer any input. Datagrams from such a source port are not answered: with a forged
/// datagram two such services would answer each other forever.
const ANSWERING_PORTS: [u16; 2] = [plan::ECHO, plan::SOURCE];

/// State shared by all services.
#[derive(Clone)]
pub struct Services {
    net: NetClient,
    executor: Executor,
    log: Rc<dyn Fn(fmt::Arguments<'_>)>,
    page: Rc<Page>,
    looped: Rc<Cell<u64>>,
    /// Set by a worker whose listener has ended.
    lost: Rc<Cell<bool>>,
    /// Waker of the task that waits for `lost`.
    waker: Rc<Cell<Option<Waker>>>,
}

impl Services {
    /// Makes the services for this stack, with their tasks on this executor. `log` receives lines for the
    /// operator.
    pub fn new(net: NetClient, executor: Executor, log: impl Fn(fmt::Arguments<'_>) + 'static) -> Services {
        let page = Rc::new(Page::new(net.clone()));
        Services {
            net,
            executor,
            log: Rc::new(log),
            page,
            looped: Rc::default(),
            lost: Rc::default(),
            waker: Rc::default(),
        }
    }

    /// Returns the number of unanswered datagrams from ports of answering services.
    pub fn looped(&self) -> u64 {
        self.looped.get()
    }

    /// Runs forever: starts all services when the brane is ready, and again after each restart and shutdown.
    pub async fn run(self) {
        loop {
            let brane = self.net.ready().await;
            let incarnation = self.net.incarnation();
            (self.log)(format_args!(
                "in brane {} (generation {}), MAC {}",
                brane.name, brane.generation, brane.mac
            ));
            self.lost.set(false);
            let tasks = self.start();
            self.until_lost(incarnation).await;
            if self.net.incarnation() == incarnation {
                (self.log)(format_args!(
                    "brane has ended the listeners, waiting for it to take new ones"
                ));
                // Connections end gracefully meanwhile.
                self.net.ready().await;
            } else {
                (self.log)(format_args!("brane is gone, waiting for it"));
            }
            drop(tasks);
        }
    }

    /// Waits until the brane has restarted since `incarnation`, or until a worker finds its listener ended.
    async fn until_lost(&self, incarnation: u64) {
        let serial = self.net.serial();
        let mut changed = pin!(self.net.changed(serial));
        core::future::poll_fn(|cx| {
            while let Poll::Ready(serial) = changed.as_mut().poll(cx) {
                changed.set(self.net.changed(serial));
                if self.net.incarnation() != incarnation {
                    return Poll::Ready(());
                }
            }
            self.waker.set(Some(cx.waker().clone()));
            if self.lost.get() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Records that a listener has ended.
    fn lose(&self) {
        self.lost.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Starts all services once. Dropping the tasks ends them and their connections.
    fn start(&self) -> Vec<Task<()>> {
        let page = self.page.clone();
        alloc::vec![
            self.tcp(&plan::TCP_ECHO, async |stream| echo(stream).await),
            self.tcp(&plan::TCP_DISCARD, async |stream| discard(stream).await),
            self.tcp(&plan::TCP_SOURCE, async |stream| source::serve(
                stream, IDLE_LIMIT
            )
            .await),
            self.tcp(&plan::TCP_HTTP, async move |stream| {
                stream.set_timeout(Some(HTTP_LIMIT));
                http::serve(stream, &page).await
            }),
            self.executor.spawn(self.clone().udp(&plan::UDP_ECHO, true)),
            self.executor.spawn(self.clone().udp(&plan::UDP_DISCARD, false)),
        ]
    }

    /// Runs one TCP service: a listener, and a worker with a posted accept for each planned connection.
    fn tcp<S>(&self, plan: &'static TcpPlan, serve: S) -> Task<()>
    where
        S: AsyncFn(TcpStream) -> Result<(), Error> + 'static,
    {
        let me = self.clone();
        self.executor.spawn(async move {
            let listener = loop {
                me.net.ready().await;
                match TcpListener::bind(&me.net, any(plan.port), plan.options()).await {
                    Ok(listener) => break Rc::new(listener),
                    Err(error) => me.failed(format_args!("TCP port {}", plan.port), error).await,
                }
            };
            let serve = Rc::new(serve);
            let workers: Vec<Task<()>> = (0..plan.connections)
                .map(|_| {
                    me.executor
                        .spawn(me.clone().worker(plan, listener.clone(), serve.clone()))
                })
                .collect();
            for worker in workers {
                worker.await;
            }
        })
    }

    /// Serves one connection after the other.
    async fn worker<S>(self, plan: &'static TcpPlan, listener: Rc<TcpListener>, serve: Rc<S>)
    where
        S: AsyncFn(TcpStream) -> Result<(), Error> + 'static,
    {
        loop {
            match listener.accept().await {
                // Every reason ends only this connection. The next one is served.
                Ok(stream) => drop(serve(stream).await),
                Err(Error::BraneRestarted) => return,
                Err(_) if listener.error().is_some() => return self.lose(),
                Err(error) => {
                    self.failed(format_args!("accept on TCP port {}", plan.port), error)
                        .await
                }
            }
        }
    }

    /// Runs one UDP service, with or without answers.
    async fn udp(self, plan: &'static UdpPlan, answer: bool) {
        loop {
            self.net.ready().await;
            match UdpSocket::bind(&self.net, any(plan.port), plan.rings).await {
                Ok(socket) => {
                    let error = self.datagrams(socket, answer).await;
                    match error {
                        Error::BraneRestarted => return,
                        // The brane was shut down, which ended the socket.
                        Error::ConnectionReset => continue,
                        _ => {}
                    }
                    self.failed(format_args!("UDP port {}", plan.port), error).await;
                }
                Err(error) => self.failed(format_args!("UDP port {}", plan.port), error).await,
            }
        }
    }

    /// Handles datagrams until the socket ends.
    async fn datagrams(&self, mut socket: UdpSocket, answer: bool) -> Error {
        socket
            .serve(DATAGRAM_BUDGET, |incoming, outgoing| -> Result<(), RingError> {
                if !answer {
                    return Ok(());
                }
                if ANSWERING_PORTS.contains(&incoming.remote_port()) {
                    self.looped.set(self.looped.get() + 1);
                    return Ok(());
                }
                outgoing.echo(incoming)
            })
            .await
    }

    /// Logs a failure and waits before the next attempt.
    async fn failed(&self, what: fmt::Arguments<'_>, error: Error) {
        (self.log)(format_args!("{what}: {error}"));
        self.net.sleep(RETRY).await;
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// Sends all input back until the remote closes (echo, RFC 862).
async fn echo(mut stream: TcpStream) -> Result<(), Error> {
    stream.set_timeout(Some(IDLE_LIMIT));
    loop {
        match stream.echo().await? {
            0 => return Ok(()),
            1..STREAM_BUDGET => {}
            _ => yield_now().await,
        }
    }
}

/// Drops all input, and closes after the remote has closed (discard, RFC 863).
async fn discard(mut stream: TcpStream) -> Result<(), Error> {
    stream.set_timeout(Some(IDLE_LIMIT));
    loop {
        match stream.discard().await? {
            0 => return Ok(()),
            1..STREAM_BUDGET => {}
            _ => yield_now().await,
        }
    }
}
