//! Memory that hosts on the wire and clients can make a brane take: bounded, and the brane lives when there is none.
//!
//! This program has an allocator of its own, which counts what a brane's turns allocate and can refuse it at random.

mod common;

use brane_socket::executor::yield_now;
use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::SocketAddr;
use net_server_core::family::{Account, Families, Protosw};
use net_server_core::stack::Stack;
use rlsf::Tlsf;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

thread_local! {
    /// Allocations count, and may fail.
    static TURN: Cell<bool> = const { Cell::new(false) };
    /// One allocation of so many fails; 0 for none.
    static ONE_OF: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0x1234_5678_9abc_def1) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
    static GRANTED: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the turns have taken and not given back.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Bytes of a brane's heap in the image.
const HEAP: usize = 6 << 20;

thread_local! {
    /// The allocator of the image, once a test has limited the memory. What turns allocate is in it.
    static POOL: UnsafeCell<Tlsf<'static, u32, u32, 20, 32>> = const { UnsafeCell::new(Tlsf::new()) };
    /// Where its memory is; 0 without one.
    static START: Cell<usize> = const { Cell::new(0) };
}

fn is_pooled(ptr: *mut u8) -> bool {
    (ptr as usize).wrapping_sub(START.get()) < HEAP && START.get() != 0
}

struct Unreliable;

fn refuses() -> bool {
    if !TURN.get() {
        return false;
    }
    let mut word = RANDOM.get();
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    RANDOM.set(word);
    let refused = ONE_OF.get() != 0 && word.is_multiple_of(ONE_OF.get());
    let count = if refused { &REFUSED } else { &GRANTED };
    count.set(count.get() + 1);
    refused
}

fn hold(bytes: i64) {
    if TURN.get() {
        HELD.set(HELD.get() + bytes);
    }
}

// SAFETY: each pointer goes back to the allocator that it came from: the system's, or one of the same thread. A thread's
// branes stay in it, and the pool is not entered from itself. To refuse a request is allowed.
unsafe impl GlobalAlloc for Unreliable {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses() {
            return std::ptr::null_mut();
        }
        hold(layout.size() as i64);
        if TURN.get() && START.get() != 0 {
            // SAFETY: the only reference to the pool for the duration of the call.
            let got = POOL.with(|pool| unsafe { (*pool.get()).allocate(layout) });
            return got.map_or(std::ptr::null_mut(), NonNull::as_ptr);
        }
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        if is_pooled(ptr) {
            // SAFETY: as above; the pointer came from there.
            POOL.with(|pool| unsafe {
                (*pool.get()).deallocate(NonNull::new_unchecked(ptr), layout.align())
            });
            return;
        }
        // SAFETY: the caller's contract is handed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refuses() {
            return std::ptr::null_mut();
        }
        hold(size as i64 - layout.size() as i64);
        if is_pooled(ptr) {
            // SAFETY: as above; the pointer came from there, and the alignment is that of the old layout.
            let got = POOL.with(|pool| unsafe {
                let layout = Layout::from_size_align_unchecked(size, layout.align());
                (*pool.get()).reallocate(NonNull::new_unchecked(ptr), layout)
            });
            return got.map_or(std::ptr::null_mut(), NonNull::as_ptr);
        }
        // SAFETY: the caller's contract is handed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Unreliable = Unreliable;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const RINGS: RingSizes = RingSizes { rx: 4096, tx: 4096 };

/// Listens at a port with buffers of these sizes, and holds what it accepts until the other end closes.
fn serve(host: &Host, port: u16, rx: u32, tx: u32) {
    let stack = host.stack.clone();
    let executor = host.executor;
    host.spawn(async move {
        stack.ready().await;
        let options = ListenOptions {
            rings: RINGS,
            backlog: 64,
            rx_buffer: rx,
            tx_buffer: tx,
        };
        let local = SocketAddr::new("::".parse().unwrap(), port);
        let listener = TcpListener::bind(&stack, local, options).await.unwrap();
        loop {
            let mut stream = listener.accept().await.unwrap();
            executor
                .spawn(async move { while stream.discard().await.is_ok_and(|n| n != 0) {} })
                .detach();
        }
    });
}

/// Opens that many connections to a port, one after another, and holds them for a while.
fn open(pair: &mut Pair, port: u16, count: usize) -> usize {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let stack = pair.a.stack.clone();
            pair.a.spawn(async move {
                stack.ready().await;
                let to = SocketAddr::new("10.0.2.2".parse().unwrap(), port);
                let stream = TcpStream::connect(&stack, to, RINGS).await;
                if let Ok(mut stream) = stream {
                    let _ = stream.write_all(b"some bytes").await;
                    stack.sleep(2 * SECOND).await;
                    return true;
                }
                false
            })
        })
        .collect();
    pair.run(5 * SECOND);
    tasks.iter().filter(|task| *task.borrow() == Some(true)).count()
}

/// Starts the second brane anew with as much memory as a brane has in the image.
fn limit(pair: &mut Pair) {
    let layout = Layout::from_size_align(HEAP, 4096).unwrap();
    // SAFETY: the layout has a size above zero. The memory is never freed, and belongs to the pool from here on.
    POOL.with(|pool| unsafe {
        let memory = System.alloc_zeroed(layout);
        START.set(memory as usize);
        (*pool.get()).insert_free_block(std::slice::from_raw_parts_mut(memory.cast(), HEAP));
    });
    TURN.set(true);
    pair.b.restart();
    TURN.set(false);
    watch(pair, 0);
    pair.run(10 * MS);
}

/// The turns of the second brane are counted, and one allocation of so many fails there.
fn watch(pair: &mut Pair, one_of: u64) {
    ONE_OF.set(one_of);
    REFUSED.set(0);
    GRANTED.set(0);
    pair.b.around = |turn| TURN.set(turn);
}

/// Sixty connections to a port with one size of buffers, and sixty to a port with another one, again and again: as many are
/// served each time, since no size can keep the memory from another one.
#[test]
fn connections_of_one_size_of_buffers_do_not_use_up_the_memory_for_another() {
    let mut pair = Pair::new(0);
    limit(&mut pair);
    serve(&pair.b, 9, 256 << 10, 4 << 10);
    serve(&pair.b, 19, 4 << 10, 256 << 10);
    serve(&pair.b, 7, 16 << 10, 16 << 10);
    let mut counts = Vec::new();
    for _ in 0..3 {
        for port in [9, 19, 7] {
            counts.push(open(&mut pair, port, 40));
            // The last acknowledgements, and TIME-WAIT.
            pair.run(20 * SECOND);
        }
        assert_eq!(pair.b.counter("tcp buffer bytes"), 0);
    }
    // 3.5 MiB hold 13 connections of 260 KiB at once.
    for round in counts.chunks(3) {
        assert!(round[0] >= 13 && round[1] >= 13 && round[2] == 40, "{counts:?}");
    }
}

/// A brane lives on when memory that a host on the wire or its client would make it take is refused, and serves as
/// before when there is memory again.
#[test]
fn a_refused_allocation_is_a_drop_and_no_crash() {
    let mut pair = Pair::new(0);
    serve(&pair.b, 9, 64 << 10, 4 << 10);
    pair.run(10 * MS);
    for one_of in [1, 2, 3] {
        watch(&mut pair, one_of);
        let stack = pair.b.stack.clone();
        let sends = async move {
            // To somebody who does not answer, and to itself.
            let Ok(mut socket) = UdpSocket::bind(&stack, at("[::]:5000"), RINGS).await else {
                return;
            };
            for n in 0..20 {
                let _ = socket.send_to(&[n; 1000], at("10.0.2.77:9")).await;
                let _ = socket.send_to(&[n; 1000], at("127.0.0.1:5000")).await;
                yield_now().await;
            }
        };
        pair.b.executor.spawn(sends).detach();
        open(&mut pair, 9, 20);
        assert!(REFUSED.get() > 5, "only {} were refused", REFUSED.get());
    }
    watch(&mut pair, 0);
    let dropped = pair.b.counter("tcp no memory") + pair.b.counter("no memory");
    assert!(dropped != 0);
    pair.run(70 * SECOND);
    assert_eq!(open(&mut pair, 9, 20), 20);
}

/// The first fragment of a packet, from some host of the link to the second brane.
fn first_fragment(n: u32) -> Frame {
    let mut frame = [
        &[2, 0x77, 0, 0, 0, 2, 2, 9, 9, 9, 9, 9, 8, 0][..],
        &[0; 20 + 1480],
    ]
    .concat();
    let packet = &mut frame[14..];
    (packet[0], packet[8], packet[9]) = (0x45, 64, 17);
    packet[2..4].copy_from_slice(&1500u16.to_be_bytes());
    packet[4..6].copy_from_slice(&(n as u16).to_be_bytes());
    packet[6] = 0x20;
    packet[12..16].copy_from_slice(&(0x0a00_0203 + n.wrapping_mul(0x9e37_79b9) % 250).to_be_bytes());
    packet[16..20].copy_from_slice(&[10, 0, 2, 2]);
    let sum = !net_server_core::ip::checksum::sum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    (frame, Default::default())
}

#[test]
fn unfinished_fragmented_packets_keep_no_datagram_from_passing() {
    let mut pair = Pair::new(0);
    limit(&mut pair);
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        let sizes = RingSizes { rx: 65536, tx: 65536 };
        let mut socket = UdpSocket::bind(&stack, at("[::]:7"), sizes).await.unwrap();
        socket
            .serve(8, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
    pair.run(10 * MS);
    for round in 0..3 {
        for n in 0..2000 {
            while !pair.b.driver.give(0, &first_fragment(n)) {
                pair.b.settle();
            }
        }
        let stack = pair.a.stack.clone();
        let task = pair.a.spawn(async move {
            let sizes = RingSizes { rx: 65536, tx: 65536 };
            let mut socket = UdpSocket::bind(&stack, at("[::]:0"), sizes).await.unwrap();
            socket.send_to(&[round; 9000], at("10.0.2.2:7")).await.unwrap();
            let mut out = vec![0; 9000];
            let (len, _, _) = socket.recv_from(&mut out).await.unwrap();
            out[..len] == [round; 9000]
        });
        assert!(pair.until(&task, 2 * SECOND));
    }
    assert!(pair.b.counter("reassembly failed") > 5000);
}

/// Taking the same ports again and again takes no more memory than the first time.
#[test]
fn ports_that_a_client_has_given_back_take_no_memory() {
    let mut pair = Pair::new(0);
    let stack = pair.b.stack.clone();
    let ports = |from: u16| {
        let stack = stack.clone();
        async move {
            stack.ready().await;
            for port in from..from + 2000 {
                let any = SocketAddr::new("::".parse().unwrap(), port);
                let udp = UdpSocket::bind(&stack, any, RINGS).await.unwrap();
                let tcp = TcpListener::bind(
                    &stack,
                    any,
                    ListenOptions {
                        rings: RINGS,
                        backlog: 1,
                        rx_buffer: 0,
                        tx_buffer: 0,
                    },
                )
                .await
                .unwrap();
                drop((udp, tcp));
                stack.sleep(MS / 2).await;
            }
        }
    };
    let task = pair.b.spawn(ports(2000));
    pair.until(&task, 100 * SECOND);
    let before = HELD.get();
    watch(&mut pair, 0);
    let task = pair.b.spawn(ports(5000));
    pair.until(&task, 100 * SECOND);
    assert!(HELD.get() - before < 4096, "{} bytes more", HELD.get() - before);
}

/// Creation fails at any allocation and leaves nothing, and succeeds when there is memory again.
#[test]
fn a_creation_that_the_heap_refuses_leaves_nothing() {
    let config = brane_abi::control::all_families();
    let mut refused = std::collections::BTreeSet::new();
    for round in 0..2000 {
        let mut stack = Stack::new([1; 32], 0);
        let before = HELD.get();
        ONE_OF.set(2 + round % 20);
        TURN.set(true);
        let created = Families::create(&config, &mut stack);
        TURN.set(false);
        ONE_OF.set(0);
        match created {
            Ok(created) => {
                TURN.set(true);
                created.destroy(&mut stack);
                TURN.set(false);
            }
            Err(why) => {
                assert!(why.to_string().contains("no memory"), "{why}");
                refused.insert(why.part.to_string());
            }
        }
        assert_eq!(HELD.get(), before, "bytes are left");
        assert_eq!(
            (&stack.switch, &stack.account),
            (&Protosw::default(), &Account::default())
        );
        let again = Families::create(&config, &mut stack);
        again.expect("enough memory").destroy(&mut stack);
    }
    assert_eq!(refused.len(), 8, "each part must have failed: {refused:?}");
}
