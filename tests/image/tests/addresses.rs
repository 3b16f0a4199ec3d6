//! Addresses from real servers: DHCP from dnsmasq, IPv6 prefixes from radvd's advertisements.

use anyhow::{Context, Result};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::Pinger;
use image_tests::probe;
use image_tests::{BRANES, PATIENCE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

/// A server process. Dropping the value ends it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(ns: &NetNs, command: &mut Command) -> Result<Server> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = ns.enter(|| command.spawn());
    Ok(Server(child.with_context(|| {
        format!("starting {:?}", command.get_program())
    })?))
}

/// Returns the address that a host with this MAC address makes for itself under a prefix (RFC 4862, EUI-64 of
/// RFC 4291).
fn slaac(prefix: [u16; 4], mac: &str) -> Ipv6Addr {
    let b: Vec<u16> = mac
        .split(':')
        .map(|x| u16::from_str_radix(x, 16).expect("a MAC address"))
        .collect();
    let [p0, p1, p2, p3] = prefix;
    Ipv6Addr::new(
        p0,
        p1,
        p2,
        p3,
        (b[0] ^ 2) << 8 | b[1],
        b[2] << 8 | 0xff,
        0xfe00 | b[3],
        b[4] << 8 | b[5],
    )
}

#[test]
fn dhcp_and_slaac_against_real_servers() -> Result<()> {
    let ns = NetNs::new(&["10.0.9.1/24", "2001:db8:9::1/64"])?;
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let given = |i: usize| Ipv4Addr::new(10, 0, 9, 50 + i as u8);

    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        "--host-record=name.test,10.0.9.77,2001:db8:9::77",
        "--interface=tap0",
    ]);
    dnsmasq.args([
        "--bind-interfaces",
        "--dhcp-authoritative",
        "--dhcp-range=10.0.9.50,10.0.9.99,1h",
        "--pid-file",
    ]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", file("leases")));
    for (i, brane) in BRANES.iter().enumerate() {
        dnsmasq.arg(format!("--dhcp-host={},{}", brane.mac, given(i)));
    }
    let _dnsmasq = start(&ns, &mut dnsmasq)?;

    std::fs::write(
        file("radvd.conf"),
        "interface tap0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
         prefix 2001:db8:9::/64 { AdvOnLink on; AdvAutonomous on; }; };\n",
    )?;
    let mut radvd = Command::new("radvd");
    radvd.args([
        "--nodaemon",
        "--logmethod",
        "none",
        "--config",
        &file("radvd.conf"),
        "--pidfile",
        &file("radvd.pid"),
    ]);
    let _radvd = start(&ns, &mut radvd)?;

    let mut guest = Guest::boot(Boot {
        config: "dhcp",
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    ns.enter(|| -> Result<()> {
        for (i, brane) in BRANES.iter().enumerate() {
            for ip in [
                IpAddr::from(given(i)),
                slaac([0x2001, 0xdb8, 9, 0], brane.mac).into(),
            ] {
                let answer = Pinger::new(ip)?.until_answer(PATIENCE)?;
                answer.with_context(|| format!("{} does not answer at {ip}", brane.name))?;
                probe::page(SocketAddr::new(ip, 80), &[brane.name, &given(i).to_string()])?;
            }
        }
        Ok(())
    })?;
    let shown = guest.command("show red")?;
    for text in ["10.0.9.51", "dhcp", "slaac", "10.0.9.1"] {
        anyhow::ensure!(
            shown.contains(text),
            "`show red` does not mention {text}:\n{shown}"
        );
    }
    // The name server comes from DHCP. An unknown name has no address.
    let found = guest.command("in red host name.test")?;
    for text in ["10.0.9.77", "2001:db8:9::77"] {
        anyhow::ensure!(
            found.contains(text),
            "`host name.test` does not find {text}:\n{found}"
        );
    }
    let missing = guest.command("in red host missing.test")?;
    anyhow::ensure!(
        !missing.contains("10.0.9.") && missing.trim().lines().count() <= 3,
        "`host missing.test` finds something:\n{missing}"
    );
    println!("{found}\n{missing}");
    Ok(())
}
