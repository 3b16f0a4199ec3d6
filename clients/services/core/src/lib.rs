//! The small services that every brane offers through its client: echo (7), discard (9), source (19) and HTTP (80).
//!
//! It owns their behaviour and how many slots and how much ring memory each may use ([`plan`]). On the other side are
//! hosts on the network, trusted with nothing: what they send is bounded in length and time. Below is the brane, which
//! can restart; then all services start anew.
//!
//! It runs on anything that has a [`Stack`]: the protection domain `services-N`, or a test on the host.
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
use brane_socket::{Error, Executor, Stack, TcpListener, TcpStream, UdpSocket};
use core::cell::Cell;
use core::fmt;
use core::net::{Ipv6Addr, SocketAddr};
use core::pin::pin;
use core::task::{Poll, Waker};
use plan::{TcpPlan, UdpPlan};

pub use page::{BODY, Page};

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// How long a connection of a service other than HTTP may be silent (or take nothing), in nanoseconds.
const IDLE_LIMIT: u64 = 600 * SECOND;

/// The same for HTTP.
const HTTP_LIMIT: u64 = 60 * SECOND;

/// Pause before a socket that could not be opened is tried again.
const RETRY: u64 = SECOND;

/// Datagrams handled before other tasks get their turn.
const DATAGRAM_BUDGET: usize = 64;

/// Bytes moved on a stream before other tasks get their turn.
const STREAM_BUDGET: usize = 16 << 10;

/// Ports whose services answer whatever comes. A datagram that claims to come from one of them is not answered: two such
/// services, once made to talk to each other by a forged datagram, would never stop.
const ANSWERING_PORTS: [u16; 2] = [plan::ECHO, plan::SOURCE];

/// What the services share.
#[derive(Clone)]
pub struct Services {
    stack: Stack,
    executor: Executor,
    log: Rc<dyn Fn(fmt::Arguments<'_>)>,
    page: Rc<Page>,
    looped: Rc<Cell<u64>>,
    /// A worker has found its listener ended.
    lost: Rc<Cell<bool>>,
    /// Wakes who waits for that.
    waker: Rc<Cell<Option<Waker>>>,
}

impl Services {
    /// Services on this stack, their tasks on this executor; `log` gets a line for what an operator should know.
    pub fn new(stack: Stack, executor: Executor, log: impl Fn(fmt::Arguments<'_>) + 'static) -> Services {
        let page = Rc::new(Page::new(stack.clone()));
        Services {
            stack,
            executor,
            log: Rc::new(log),
            page,
            looped: Rc::default(),
            lost: Rc::default(),
            waker: Rc::default(),
        }
    }

    /// Datagrams that were not answered because they came from an answering service's port.
    pub fn looped(&self) -> u64 {
        self.looped.get()
    }

    /// Runs for ever: starts all services when the brane is ready, and again after each of its restarts and shutdowns.
    pub async fn run(self) {
        loop {
            let brane = self.stack.ready().await;
            let life = self.stack.life();
            (self.log)(format_args!(
                "in brane {} (generation {}), MAC {}",
                brane.name, brane.generation, brane.mac
            ));
            self.lost.set(false);
            let tasks = self.start();
            self.until_lost(life).await;
            if self.stack.life() == life {
                (self.log)(format_args!(
                    "brane has ended the listeners, waiting for it to take new ones"
                ));
                // Meanwhile connections end in order.
                self.stack.ready().await;
            } else {
                (self.log)(format_args!("brane is gone, waiting for it"));
            }
            drop(tasks);
        }
    }

    /// Waits until the brane has restarted since `life`, or a worker has found its listener ended.
    async fn until_lost(&self, life: u64) {
        let serial = self.stack.serial();
        let mut changed = pin!(self.stack.changed(serial));
        core::future::poll_fn(|cx| {
            while let Poll::Ready(serial) = changed.as_mut().poll(cx) {
                changed.set(self.stack.changed(serial));
                if self.stack.life() != life {
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

    /// A worker has found its listener ended.
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

    /// One TCP service: a listener, and as many workers as connections are planned, each with its accept posted.
    fn tcp<S>(&self, plan: &'static TcpPlan, serve: S) -> Task<()>
    where
        S: AsyncFn(TcpStream) -> Result<(), Error> + 'static,
    {
        let me = self.clone();
        self.executor.spawn(async move {
            let listener = loop {
                me.stack.ready().await;
                match TcpListener::bind(&me.stack, any(plan.port), plan.options()).await {
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
                // Whatever ended the connection ended it; the next one is as good.
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

    /// One UDP service, answering or not.
    async fn udp(self, plan: &'static UdpPlan, answer: bool) {
        loop {
            self.stack.ready().await;
            match UdpSocket::bind(&self.stack, any(plan.port), plan.rings).await {
                Ok(socket) => {
                    let error = self.datagrams(socket, answer).await;
                    match error {
                        Error::BraneRestarted => return,
                        // The brane was shut down, and this was its end.
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

    /// Says what could not be done and waits before the next try.
    async fn failed(&self, what: fmt::Arguments<'_>, error: Error) {
        (self.log)(format_args!("{what}: {error}"));
        self.stack.sleep(RETRY).await;
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// Echo (RFC 862): sends back what comes, until the remote closes.
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

/// Discard (RFC 863): reads and drops; closes after the remote has.
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
