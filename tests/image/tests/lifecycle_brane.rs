//! The lifecycle of a brane: it is created, started, shut down, started again and deleted, while its
//! neighbors continue to work.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::control::{Family, FamilyConfig, Protocol};
use brane_abi::net::MacAddr;
use brane_abi::operator::{Answer, Done, Free, Request};
use brane_abi::query;
use etherparse::{ArpOperation, IcmpEchoHeader, Icmpv4Type, SlicedPacket, TransportSlice};
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, assign, boot, family, fixed, vnic};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::wire6::{self, icmp6, ping6, resolve6};
use image_tests::{BRANES, PATIENCE, until};
use operator_cli::refusals::Words;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const CONFIG: &str = "two-nics";
const GREEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);
const GREEN6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x30);
const ADDRESSES: [&str; 2] = ["10.0.2.30/24", "fec0::30/64"];
/// Tolerance after a deadline for the work that the deadline triggers.
const LATE: Duration = Duration::from_secs(5);
/// Time in which nothing must arrive.
const SILENCE: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

fn on_tap() -> Result<(NetNs, Guest, Operator)> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let guest = boot(CONFIG, Net::Tap(&ns), None)?;
    let operator = Operator::when_started(&guest)?;
    Ok((ns, guest, operator))
}

fn on_wire() -> Result<(Wire, Guest, Operator)> {
    let socket = Socket::new()?;
    let guest = boot(CONFIG, Net::Wire(socket.address()?), None)?;
    let wire = socket.accept()?;
    let operator = Operator::when_started(&guest)?;
    Ok((wire, guest, operator))
}

fn answers(to: IpAddr) -> Result<()> {
    let answer = Pinger::new(to)?.until_answer(PATIENCE)?;
    answer.map(drop).with_context(|| format!("{to} does not answer"))
}

/// Compares free resources before and after. The manager's heap may have grown a little.
fn same(before: &Free, after: &Free) -> Result<()> {
    let counted = |f: &Free| (f.slots, f.ports, f.names, f.macs, f.vifs);
    ensure!(
        counted(before) == counted(after),
        "before: {before:?}\nafter: {after:?}"
    );
    ensure!(
        after.bytes.abs_diff(before.bytes) < 16 << 10,
        "before: {before:?}\nafter: {after:?}"
    );
    Ok(())
}

fn serves() -> Result<()> {
    for ip in [IpAddr::from(GREEN), GREEN6.into()] {
        answers(ip)?;
        probe::udp_echo(SocketAddr::new(ip, 7))?;
        probe::tcp_echo(SocketAddr::new(ip, 7), 100_000)?;
    }
    probe::page(
        SocketAddr::new(GREEN.into(), 80),
        &["<h1>brane green</h1>", &GREEN.to_string()],
    )
}

/// Opens a connection to green's echo service and sends data over it.
fn connection() -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(GREEN.into(), 7), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    let mut back = [0; 5];
    stream.read_exact(&mut back)?;
    ensure!(&back == b"hello", "{back:?}");
    Ok(stream)
}

/// Shuts green down. Returns the duration by the guest's clock.
fn shut_down(operator: &mut Operator, deadline: Duration) -> Result<Duration> {
    let (answer, took) = operator.timed(&Request::Shutdown {
        name: "green".to_owned(),
        deadline_ms: deadline.as_millis() as u32,
    })?;
    ensure!(
        matches!(&answer, Answer::Done(Done::ShutDown { brane, .. }) if brane == "green"),
        "{answer:?}"
    );
    Ok(took)
}

#[test]
fn a_brane_is_created_started_shut_down_and_deleted_while_the_others_carry_traffic() -> Result<()> {
    let (ns, guest, mut operator) = on_tap()?;
    ns.enter(|| -> Result<()> {
        let mut trains = Vec::new();
        for brane in &BRANES {
            answers(brane.v4.into())?;
            trains.push((
                brane.name,
                Train::start(brane.v4.into(), Duration::from_millis(10))?,
            ));
        }
        let before = operator.clean()?;
        operator.create("green", false)?;
        operator.device(vnic("g0"))?;
        let said = operator.assign("g0", "green", &ADDRESSES)?;
        ensure!(said.contains("net0"), "{said}");
        ensure!(
            Pinger::new(GREEN.into())?.until_answer(SECOND)?.is_none(),
            "green answers before it is started"
        );
        operator.start("green")?;
        serves()?;
        operator.clean()?;

        // The connection closes gracefully, long before the deadline: the host reads the end of the stream,
        // then closes.
        let mut open = connection()?;
        let reader = std::thread::spawn(move || open.read(&mut [0; 16]));
        let took = shut_down(&mut operator, PATIENCE)?;
        let end = reader.join().expect("the reader").context("its connection")?;
        ensure!(end == 0, "{end} bytes instead of an end");
        ensure!(took < PATIENCE / 2, "drained only after {took:?}");
        ensure!(
            operator.show("green")?.state == "created",
            "green is not only created"
        );
        ensure!(
            Pinger::new(GREEN.into())?.until_answer(SECOND)?.is_none(),
            "green answers although it is shut down"
        );

        // This time the host does not close its end.
        operator.start("green")?;
        serves()?;
        let mut open = connection()?;
        let took = shut_down(&mut operator, SECOND)?;
        // The deadline is a duration of the guest's clock.
        ensure!((SECOND..SECOND + LATE).contains(&took), "aborted after {took:?}");
        operator.start("green")?;
        serves()?;
        until(
            || Ok(open.write_all(b"anybody?").err()),
            || "a connection outlived the deadline".to_owned(),
        )?;

        let _open = connection()?;
        let deadline = SECOND / 2;
        let request = Request::Delete {
            name: "green".to_owned(),
            deadline_ms: deadline.as_millis() as u32,
        };
        let Answer::Receipt(receipt) = operator.call(&request)? else {
            bail!("no receipt")
        };
        let took = Duration::from_micros(receipt.took_us);
        ensure!(
            receipt.name == "green" && receipt.released == ["g0"] && receipt.aborted == 1,
            "{receipt:?}"
        );
        ensure!(
            (deadline..deadline + LATE).contains(&took),
            "deleted after {took:?}"
        );
        let Answer::Receipt(device) = operator.call(&Request::DeleteDevice("g0".to_owned()))? else {
            bail!("no receipt")
        };
        same(&before, &device.after)?;
        same(&before, &operator.clean()?)?;
        eprintln!("deleted within {} us: {receipt:?}", receipt.took_us);
        let list = operator.list(false)?;
        ensure!(!list.iter().any(|b| b.name == "green"), "{list:?}");
        for (name, train) in trains {
            train.stop_unharmed(name)?;
        }
        Ok(())
    })?;
    guest.untroubled()
}

#[test]
fn a_brane_lives_until_it_is_deleted_with_or_without_clients() -> Result<()> {
    let (ns, guest, mut operator) = on_tap()?;
    // Without TCP and UDP its client cannot open anything.
    let families = vec![
        family(Family::Inet, &[Protocol::Icmp]),
        family(Family::Inet6, &[Protocol::Icmp6]),
    ];
    operator.create_with("green", Some(families), true)?;
    operator.device(vnic("g0"))?;
    operator.assign("g0", "green", &ADDRESSES)?;
    ns.enter(|| -> Result<()> {
        answers(GREEN.into())?;
        let train = Train::start(GREEN.into(), Duration::from_millis(10))?;
        let query::Answer::Sockets(sockets, false) =
            operator.inside("green", query::Query::Sockets { skip: 0 })?
        else {
            bail!("no table of sockets")
        };
        ensure!(sockets.is_empty(), "{sockets:?}");
        let query::Answer::Sockets(sockets, _) = operator.inside("red", query::Query::Sockets { skip: 0 })?
        else {
            bail!("no table of sockets")
        };
        ensure!(!sockets.is_empty(), "red's client has no sockets either");
        std::thread::sleep(6 * SECOND);
        answers(GREEN6.into())?;
        train.stop_unharmed("green")
    })?;
    let green = operator.show("green")?;
    ensure!(green.restarts == 0 && green.state == "started", "{green:?}");
    operator.delete("green")?;
    operator.clean()?;
    guest.untroubled()
}

#[test]
fn a_brane_that_is_not_started_sends_and_answers_nothing() -> Result<()> {
    let (mut wire, guest, mut operator) = on_wire()?;
    operator.create("green", false)?;
    let MacAddr(mac) = operator.device(vnic("g0"))?;
    operator.assign("g0", "green", &ADDRESSES)?;
    wire.send(&wire::arp(
        ArpOperation::REQUEST,
        [0xff; 6],
        wire::HOST_MAC,
        wire::HOST_IP,
        [0; 6],
        GREEN,
    ))?;
    wire.send(&wire6::solicitation(GREEN6))?;
    wire.send(&wire::echo_request(mac, GREEN, 1))?;
    wire.send(&wire6::echo_request6(mac, GREEN6, 1))?;
    wire.send(&wire::tcp_syn(mac, GREEN, 5000, 7))?;
    let heard = wire.listen(SILENCE)?;
    let own: Vec<_> = heard.iter().filter(|f| wire::source(f) == Some(mac)).collect();
    ensure!(
        own.is_empty(),
        "frames of a brane that is not started: {own:02x?}"
    );
    ensure!(
        operator.show("green")?.state == "created",
        "green is not only created"
    );
    // The same requests are answered as soon as it is started, and it announces its addresses.
    operator.start("green")?;
    let heard = wire.listen(SECOND)?;
    ensure!(
        heard
            .iter()
            .any(|f| wire::parse_arp(f).is_some_and(|(_, from, ip)| from == mac && ip == GREEN)),
        "no gratuitous ARP"
    );
    ensure!(
        heard.iter().any(|f| wire6::unsolicited(f) == Some((GREEN6, mac))),
        "no unsolicited advertisement"
    );
    ensure!(
        wire.resolve(GREEN, PATIENCE)? == mac && wire.ping(mac, GREEN, 2, PATIENCE)?,
        "no answer"
    );
    guest.untroubled()
}

/// Replies to probes: whether an IPv4 echo request was answered, and the ICMP errors for a datagram and for a
/// SYN.
struct Heard {
    echo: bool,
    udp: Option<Icmpv4Type>,
    tcp: Option<Icmpv4Type>,
}

fn icmp4(frame: &[u8], from: Mac) -> Option<Icmpv4Type> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else {
        return None;
    };
    (wire::source(frame) == Some(from)).then(|| icmp.icmp_type())
}

fn ask4(wire: &mut Wire, mac: Mac) -> Result<Heard> {
    let unreachable =
        |frame: &[u8]| icmp4(frame, mac).filter(|kind| matches!(kind, Icmpv4Type::DestinationUnreachable(_)));
    wire.send(&wire::echo_request(mac, GREEN, 1))?;
    let echo = wire.wait_for(SECOND, |frame| {
        icmp4(frame, mac).filter(|kind| matches!(kind, Icmpv4Type::EchoReply(IcmpEchoHeader { seq: 1, .. })))
    })?;
    wire.send(&wire::udp(mac, GREEN, 7, b"anybody?"))?;
    let udp = wire.wait_for(SECOND, unreachable)?;
    wire.send(&wire::tcp_syn(mac, GREEN, 5000, 7))?;
    let tcp = wire.wait_for(SECOND, unreachable)?;
    Ok(Heard {
        echo: echo.is_some(),
        udp,
        tcp,
    })
}

fn is_protocol_unreachable(said: &Option<Icmpv4Type>) -> bool {
    use etherparse::icmpv4::DestUnreachableHeader::Protocol;
    matches!(said, Some(Icmpv4Type::DestinationUnreachable(Protocol)))
}

#[test]
fn what_a_brane_lacks_is_answered_as_rfc_1122_and_rfc_4443_want() -> Result<()> {
    use Protocol::{Icmp, Icmp6, Tcp, Udp};
    let (mut wire, guest, mut operator) = on_wire()?;
    let MacAddr(mac) = operator.device(vnic("g0"))?;
    let born = |operator: &mut Operator, families: Vec<FamilyConfig>| -> Result<()> {
        let has = |of| families.iter().any(|family| family.family == of);
        let [v4, v6] = [Family::Inet, Family::Inet6].map(has);
        let addresses: Vec<&str> = [(v4, ADDRESSES[0]), (v6, ADDRESSES[1])]
            .into_iter()
            .filter_map(|(has, address)| has.then_some(address))
            .collect();
        operator.create_with("green", Some(families), true)?;
        if addresses.len() < 2 {
            let refusal = operator.refused(&assign("g0", "green", Some(fixed(&ADDRESSES)?)))?;
            ensure!(
                refusal.words().what.contains("which the brane does not have"),
                "{refusal:?}"
            );
        }
        operator.assign("g0", "green", &addresses).map(drop)
    };

    // Without UDP: protocol unreachable (RFC 1122, 3.2.2.1), and parameter problem at the next header field
    // (RFC 4443, 3.4).
    born(
        &mut operator,
        vec![
            family(Family::Inet, &[Icmp, Tcp]),
            family(Family::Inet6, &[Icmp6, Tcp]),
        ],
    )?;
    wire.resolve(GREEN, PATIENCE)?;
    let heard = ask4(&mut wire, mac)?;
    ensure!(heard.echo && heard.tcp.is_none(), "{:?}", heard.tcp);
    ensure!(is_protocol_unreachable(&heard.udp), "{:?}", heard.udp);
    resolve6(&mut wire, GREEN6, PATIENCE)?;
    wire.send(&wire6::udp6(mac, GREEN6, 7, b"anybody?"))?;
    let problem = wire.wait_for(SECOND, |frame| {
        icmp6(frame).filter(|said| said.from == GREEN6 && said.kind < 128)
    })?;
    let problem = problem.context("nothing says that there is no UDP")?;
    ensure!(
        (problem.kind, problem.code, problem.word) == (wire6::PARAMETER_PROBLEM, 1, 6),
        "{problem:?}"
    );
    operator.delete("green")?;

    // Without ICMP no echo request is answered and no error is sent. Without TCP a SYN finds no protocol.
    born(
        &mut operator,
        vec![family(Family::Inet, &[Udp]), family(Family::Inet6, &[Udp])],
    )?;
    wire.resolve(GREEN, PATIENCE)?;
    let heard = ask4(&mut wire, mac)?;
    ensure!(!heard.echo, "an echo reply without ICMP");
    resolve6(&mut wire, GREEN6, PATIENCE)?;
    ensure!(
        !ping6(&mut wire, mac, GREEN6, 1, SECOND)?,
        "an echo reply without ICMPv6"
    );
    operator.delete("green")?;

    born(&mut operator, vec![family(Family::Inet, &[Icmp, Udp])])?;
    wire.resolve(GREEN, PATIENCE)?;
    let heard = ask4(&mut wire, mac)?;
    ensure!(
        heard.echo && is_protocol_unreachable(&heard.tcp),
        "{:?}",
        heard.tcp
    );
    ensure!(
        resolve6(&mut wire, GREEN6, SILENCE).is_err(),
        "neighbour discovery without inet6"
    );
    operator.delete("green")?;

    born(&mut operator, vec![family(Family::Inet6, &[Icmp6])])?;
    resolve6(&mut wire, GREEN6, PATIENCE)?;
    ensure!(
        ping6(&mut wire, mac, GREEN6, 2, PATIENCE)?,
        "no echo reply of inet6 alone"
    );
    ensure!(wire.resolve(GREEN, SILENCE).is_err(), "ARP without inet");
    operator.delete("green")?;
    operator.clean()?;
    guest.untroubled()
}
