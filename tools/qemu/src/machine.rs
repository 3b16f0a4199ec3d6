//! The machine: a q35 PC as a typed description, which becomes QEMU's command line.
//!
//! It has one processor, one to four virtio network devices, from 00:02.0 on, one to three serial lines, and perhaps a virtio-console
//! device for the control line, at 00:19.0.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::board::BOARD;

use crate::Error;
use crate::host::QEMU;
use crate::tap;

/// Returns the MAC address of network device `number`, from 1 on: 02:77:01:00:00:00 for the second one.
pub fn nic_mac(number: usize) -> String {
    format!("02:77:{number:02x}:00:00:00")
}

/// A machine to start. Start from [`Machine::new`] and change the fields that differ.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel as a 32-bit ELF file (`sel4_32.elf`).
    pub kernel: PathBuf,
    /// The image (`loader.img`).
    pub image: PathBuf,
    pub memory_mib: u64,
    /// Peer of the network device.
    pub net: Net,
    /// MAC address of the network device.
    pub mac: String,
    /// Peers of the further network devices, beginning with the second one. Their MAC addresses are those of
    /// [`nic_mac`].
    pub more_nets: Vec<Net>,
    /// True for a machine with an IOMMU (Intel VT-d), which translates the network devices' accesses to memory.
    pub iommu: bool,
    /// Additional properties of the network devices, such as `csum=off`.
    pub nic_options: Vec<String>,
    /// First serial line (COM1): the console.
    pub console: Serial,
    /// Peer of the virtio-console device: the control line to the operator's machine. `None` for a machine without the device.
    pub line: Option<Serial>,
    /// Second serial line (COM2): the control line of a machine without the virtio-console device.
    pub second_serial: Option<Serial>,
    /// Third serial line (COM3). The system does not use it.
    pub third_serial: Option<Serial>,
    /// Additional devices, each in the syntax of QEMU's option `-device`.
    pub devices: Vec<String>,
    /// Source of the machine's clocks.
    pub clock: Clock,
    /// Unix socket of QEMU's gdb stub. With it, the machine waits before its first instruction until a debugger
    /// continues it.
    pub gdb: Option<PathBuf>,
    /// Command line of the kernel, if the kernel accepts one.
    pub kernel_arguments: Option<String>,
    /// A plugin of QEMU with its arguments, in the syntax of QEMU's option `-plugin`.
    pub plugin: Option<OsString>,
    /// File that backs the machine's RAM. Another process can then read RAM while the machine runs.
    pub memory_file: Option<PathBuf>,
}

/// Source of the machine's clocks (TSC, HPET, PIT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    #[default]
    Host,
    /// The guest's instructions: each advances the clocks by one nanosecond. While the processor is halted,
    /// they follow the host's clock. So a duration counts executed instructions plus halted time, however
    /// busy the host is.
    Instructions,
}

/// Peer of a network device.
#[derive(Clone, Debug)]
pub enum Net {
    /// QEMU's own network. The guest can reach the host's networks, and the host reaches the guest through
    /// forwarded ports. Offers no offloads.
    User {
        /// Address and prefix length of the network, and the host's address in it.
        v4: (Ipv4Addr, u8, Ipv4Addr),
        /// IPv6 prefix of 64 bits, and the host's address in it.
        v6: (Ipv6Addr, Ipv6Addr),
        /// Forwarded ports.
        forwards: Vec<Forward>,
    },
    /// An existing tap device, by name.
    Tap(String),
    /// The server at this TCP address. Each frame is preceded by its length (4 bytes, big endian). Offers no
    /// offloads.
    Stream(SocketAddr),
    /// No peer: the device exists, but its cable is not plugged in.
    Unplugged,
}

impl Net {
    /// Returns QEMU's usual user network: 10.0.2.0/24 with the host at 10.0.2.2, and fec0::/64.
    pub fn user(forwards: Vec<Forward>) -> Net {
        let v4 = (Ipv4Addr::new(10, 0, 2, 0), 24, Ipv4Addr::new(10, 0, 2, 2));
        Net::User {
            v4,
            v6: (
                Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
                Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2),
            ),
            forwards,
        }
    }
}

/// A forwarded port of the user network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub protocol: Protocol,
    /// Address at which QEMU listens on the host.
    pub host: SocketAddrV4,
    /// Destination in the guest.
    pub guest: SocketAddrV4,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Peer of a serial line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serial {
    /// The terminal of this process, in raw mode, shared with QEMU's monitor. Ctrl-A x ends QEMU, Ctrl-A h
    /// shows help.
    Terminal,
    /// This process's standard input and output.
    Stdio,
    /// This process's standard output, without input.
    Stdout,
    /// The harness, through [`Qemu::wait_for`](crate::Qemu::wait_for) and
    /// [`Qemu::send_line`](crate::Qemu::send_line). Only for the console.
    Harness,
    File(PathBuf),
    /// A Unix socket that QEMU makes and listens on, without waiting for a peer.
    Unix(PathBuf),
    /// A new pseudo-terminal. QEMU prints its name on standard output.
    Pty,
}

impl Machine {
    /// Returns a machine with 256 MiB, an unplugged network cable, and its console connected to the harness.
    pub fn new(kernel: impl Into<PathBuf>, image: impl Into<PathBuf>) -> Machine {
        Machine {
            kernel: kernel.into(),
            image: image.into(),
            memory_mib: 256,
            net: Net::Unplugged,
            mac: "02:77:f0:00:00:00".to_owned(),
            more_nets: Vec::new(),
            iommu: false,
            nic_options: Vec::new(),
            console: Serial::Harness,
            line: None,
            second_serial: None,
            third_serial: None,
            devices: Vec::new(),
            clock: Clock::Host,
            gdb: None,
            kernel_arguments: None,
            plugin: None,
            memory_file: None,
        }
    }

    /// Checks that the machine can start. Fails for a port in use or a missing tap device.
    pub fn check(&self) -> Result<(), Error> {
        for net in std::iter::once(&self.net).chain(&self.more_nets) {
            match net {
                Net::User { forwards, .. } => forwards.iter().try_for_each(Forward::check)?,
                Net::Tap(name) => tap::check(name)?,
                Net::Stream(_) | Net::Unplugged => {}
            }
        }
        let others = [&self.line, &self.second_serial, &self.third_serial];
        for serial in others.into_iter().flatten() {
            serial.check()?;
        }
        self.gdb.as_deref().map_or(Ok(()), crate::socket::check)
    }

    /// Returns QEMU's command line. Standard streams are not set yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command.args([
            "-name",
            "branes,debug-threads=on",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ]);
        command.args([
            "-display",
            "none",
            "-machine",
            BOARD.qemu.machine,
            "-accel",
            "tcg",
            "-smp",
            "1",
        ]);
        command
            .args(["-cpu", BOARD.qemu.cpu, "-m"])
            .arg(format!("{}M", self.memory_mib));
        if self.clock == Clock::Instructions {
            command.args(["-icount", "shift=0,sleep=on"]);
        }
        self.console.add("console", &mut command);
        let others = [("second", &self.second_serial), ("third", &self.third_serial)];
        let count = others
            .iter()
            .rposition(|(_, line)| line.is_some())
            .map_or(0, |last| last + 1);
        for (name, line) in &others[..count] {
            match line {
                Some(line) => line.add(name, &mut command),
                None => drop(command.args(["-serial", "null"])),
            }
        }
        if self.iommu {
            // Must precede the devices behind it. Interrupts are not remapped, because the kernel does not
            // support that.
            command.args(["-device", "intel-iommu,intremap=off"]);
        }
        let macs = std::iter::once(self.mac.clone()).chain((1..).map(nic_mac));
        let nets = std::iter::once(&self.net).chain(&self.more_nets);
        let nics = nets.zip(macs).zip(BOARD.qemu.nic_places);
        for (number, ((net, mac), place)) in nics.enumerate() {
            self.nic(&mut command, number, net, &mac, place);
        }
        if let Some(line) = &self.line {
            self.line(&mut command, line);
        }
        for device in &self.devices {
            command.arg("-device").arg(device);
        }
        if let Some(path) = &self.gdb {
            let mut socket = OsString::from("socket,id=gdb,path=");
            socket.push(escaped(path.as_os_str()));
            socket.push(",server=on,wait=off");
            command.arg("-chardev").arg(socket);
            command.args(["-gdb", "chardev:gdb", "-S"]);
        }
        if let Some(file) = &self.memory_file {
            let mut backend = OsString::from(format!(
                "memory-backend-file,id=ram,size={}M,share=on,mem-path=",
                self.memory_mib
            ));
            backend.push(escaped(file.as_os_str()));
            command
                .arg("-object")
                .arg(backend)
                .args(["-machine", "memory-backend=ram"]);
        }
        if let Some(plugin) = &self.plugin {
            command.arg("-plugin").arg(plugin);
        }
        if let Some(arguments) = &self.kernel_arguments {
            command.arg("-append").arg(arguments);
        }
        command
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(escaped(self.image.as_os_str()));
        command
    }
}

impl Machine {
    /// Adds network device `number` with its peer.
    fn nic(&self, command: &mut Command, number: usize, net: &Net, mac: &str, place: &str) {
        command.arg("-netdev").arg(net.netdev(number));
        // The device's ROM would only cost time, because the machine does not boot from the network.
        let mut device = format!(
            "{},id=nic{number},netdev=net{number},mac={mac},addr={place},romfile=",
            BOARD.qemu.nic
        );
        device.push_str(self.translated());
        for option in &self.nic_options {
            let _ = write!(device, ",{option}");
        }
        command.arg("-device").arg(device);
    }
}

impl Machine {
    /// Adds the device of the control line, with one port and its peer.
    fn line(&self, command: &mut Command, peer: &Serial) {
        peer.add_backend("line", command);
        let device = format!(
            "{},id=line,addr={},max_ports=2{}",
            BOARD.qemu.line,
            BOARD.qemu.line_place,
            self.translated()
        );
        command.arg("-device").arg(device);
        // Not `virtconsole` (port 0): QEMU drops what its peer does not read in time.
        command
            .arg("-device")
            .arg("virtserialport,chardev=line,bus=line.0,nr=1");
    }

    /// Returns the options of a virtio device whose accesses an IOMMU translates, if the machine has one.
    fn translated(&self) -> &'static str {
        match self.iommu {
            true => ",iommu_platform=on,disable-legacy=on",
            false => "",
        }
    }
}

impl Forward {
    /// Fails if another process listens there already.
    fn check(&self) -> Result<(), Error> {
        let taken = match self.protocol {
            Protocol::Tcp => TcpListener::bind(self.host).map(drop),
            Protocol::Udp => UdpSocket::bind(self.host).map(drop),
        };
        taken.map_err(|cause| Error::Port {
            taken: cause.kind() == ErrorKind::AddrInUse,
            protocol: match self.protocol {
                Protocol::Tcp => "TCP",
                Protocol::Udp => "UDP",
            },
            address: self.host.into(),
            cause,
        })
    }
}

impl Net {
    fn netdev(&self, number: usize) -> OsString {
        match self {
            Net::User {
                v4: (net, prefix, host),
                v6: (prefix6, host6),
                forwards,
            } => {
                let mut text = format!(
                    "user,id=net{number},net={net}/{prefix},host={host},ipv6-prefix={prefix6},ipv6-prefixlen=64,ipv6-host={host6}"
                );
                for Forward {
                    protocol,
                    host,
                    guest,
                } in forwards
                {
                    let _ = write!(text, ",hostfwd={}:{host}-{guest}", protocol.name());
                }
                text.into()
            }
            Net::Tap(name) => {
                let name = name.replace(',', ",,");
                format!("tap,id=net{number},ifname={name},script=no,downscript=no,vhost=off").into()
            }
            Net::Stream(address) => format!("socket,id=net{number},connect={address}").into(),
            Net::Unplugged => format!("hubport,id=net{number},hubid={number}").into(),
        }
    }
}

impl Serial {
    /// Fails if QEMU could not make a socket: another process listens there, or the path is too long or in
    /// use by another file.
    fn check(&self) -> Result<(), Error> {
        match self {
            Serial::Unix(path) => crate::socket::check(path),
            _ => Ok(()),
        }
    }

    /// Adds the character device `id` and the serial line on it.
    fn add(&self, id: &str, command: &mut Command) {
        self.add_backend(id, command);
        command.arg("-serial").arg(format!("chardev:{id}"));
        if *self == Serial::Terminal {
            command.arg("-mon").arg(format!("chardev={id},mode=readline"));
        }
    }

    /// Adds the character device `id`.
    fn add_backend(&self, id: &str, command: &mut Command) {
        let device = |kind: &str| OsString::from(format!("{kind},id={id}"));
        let at = |kind: &str, path: &Path, rest: &str| {
            let mut text = device(kind);
            text.push(",path=");
            text.push(escaped(path.as_os_str()));
            text.push(rest);
            text
        };
        let backend = match self {
            Serial::Terminal => device("stdio,mux=on,signal=off"),
            Serial::Stdio | Serial::Stdout | Serial::Harness => device("stdio,signal=off"),
            Serial::File(path) => at("file", path, ""),
            Serial::Unix(path) => at("socket", path, ",server=on,wait=off"),
            Serial::Pty => device("pty"),
        };
        command.arg("-chardev").arg(backend);
    }
}

/// Escapes a value in a list of QEMU options: a comma is doubled.
fn escaped(value: &OsStr) -> OsString {
    match value.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> String {
        let command = machine.command();
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        arguments.join(" ")
    }

    #[test]
    fn further_devices_have_networks_of_their_own() {
        let mut machine = Machine::new("k", "i");
        machine.net = Net::user(Vec::new());
        assert!(!line(&machine).contains("nic1"));
        machine.more_nets = vec![Net::Unplugged; 3];
        let line = line(&machine);
        for what in [
            "-netdev user,id=net0,",
            "-netdev hubport,id=net1,hubid=1",
            "id=nic0,netdev=net0,mac=02:77:f0:00:00:00,addr=0x2.0,",
            "id=nic1,netdev=net1,mac=02:77:01:00:00:00,addr=0x3.0,",
            "-netdev hubport,id=net3,hubid=3",
            "id=nic2,netdev=net2,mac=02:77:02:00:00:00,addr=0x4.0,",
            "id=nic3,netdev=net3,mac=02:77:03:00:00:00,addr=0x5.0,",
        ] {
            assert!(line.contains(what), "no {what}: {line}");
        }
    }

    #[test]
    fn each_serial_line_is_the_one_that_it_is_called() {
        let mut machine = Machine::new("k", "i");
        assert_eq!(line(&machine).matches("-serial").count(), 1);
        machine.third_serial = Some(Serial::File("findings".into()));
        let line = line(&machine);
        let at = |what: &str| line.find(what).unwrap_or_else(|| panic!("no {what}: {line}"));
        assert!(at("chardev:console") < at("-serial null") && at("-serial null") < at("chardev:third"));
    }

    fn port(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    #[test]
    fn forwarded_ports_are_bound_where_they_are_said_to_be() {
        let mut machine = Machine::new("k", "i");
        let guest = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
        let forward = Forward {
            protocol: Protocol::Tcp,
            host: port(8080),
            guest,
        };
        machine.net = Net::user(vec![forward]);
        let line = line(&machine);
        assert!(
            line.contains("user,id=net0,net=10.0.2.0/24,host=10.0.2.2"),
            "{line}"
        );
        assert!(line.contains("hostfwd=tcp:127.0.0.1:8080-10.0.2.15:80"), "{line}");
    }

    #[test]
    fn an_iommu_stands_before_the_device_that_it_holds() {
        let mut machine = Machine::new("k", "i");
        assert!(!line(&machine).contains("iommu"));
        machine.iommu = true;
        machine.nic_options = vec!["csum=off".to_owned()];
        let line = line(&machine);
        let at = |what: &str| line.find(what).unwrap_or_else(|| panic!("no {what}: {line}"));
        assert!(at("-device intel-iommu") < at("-device virtio-net-pci"), "{line}");
        assert!(
            line.contains(",iommu_platform=on,disable-legacy=on,csum=off"),
            "{line}"
        );
    }

    #[test]
    fn the_control_line_is_a_device_of_its_own_and_no_serial_line() {
        let mut machine = Machine::new("k", "i");
        assert!(!line(&machine).contains("virtserialport") && !line(&machine).contains("virtio-serial"));
        machine.line = Some(Serial::Unix("a,b.sock".into()));
        let plain = line(&machine);
        assert_eq!(plain.matches("-serial ").count(), 1, "{plain}");
        for what in [
            "-chardev socket,id=line,path=a,,b.sock,server=on,wait=off ",
            "-device virtio-serial-pci,id=line,addr=0x19.0,max_ports=2 ",
            "-device virtserialport,chardev=line,bus=line.0,nr=1",
        ] {
            assert!(plain.contains(what), "no {what}: {plain}");
        }
        // The IOMMU translates this device too.
        machine.iommu = true;
        let translated = line(&machine);
        let what = "addr=0x19.0,max_ports=2,iommu_platform=on,disable-legacy=on ";
        assert!(translated.contains(what), "{translated}");
    }

    #[test]
    fn the_clock_follows_the_instructions_only_if_that_is_wanted() {
        let mut machine = Machine::new("k", "i");
        assert!(!line(&machine).contains("-icount"));
        machine.clock = Clock::Instructions;
        assert!(line(&machine).contains(" -icount shift=0,sleep=on "));
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        let mut machine = Machine::new("k", "a,b/loader.img");
        machine.second_serial = Some(Serial::File("x,y".into()));
        let line = line(&machine);
        assert!(line.contains("-initrd a,,b/loader.img"), "{line}");
        assert!(line.contains("file,id=second,path=x,,y"), "{line}");
    }

    #[test]
    fn a_machine_for_a_debugger_does_not_start_by_itself() {
        let mut machine = Machine::new("k", "i");
        assert!(!line(&machine).contains(" -S"));
        machine.gdb = Some("a,b.sock".into());
        let line = line(&machine);
        assert!(
            line.contains("socket,id=gdb,path=a,,b.sock,server=on,wait=off -gdb chardev:gdb -S"),
            "{line}"
        );
    }

    #[test]
    fn ram_in_a_file_a_plugin_and_kernel_arguments_are_there_only_if_wanted() {
        let mut machine = Machine::new("k", "i");
        for absent in ["-object", "-plugin", "-append"] {
            assert!(!line(&machine).contains(absent), "{absent}");
        }
        machine.memory_file = Some("a,b/ram".into());
        machine.plugin = Some("count.so,out=x".into());
        machine.kernel_arguments = Some("quiet panic=-1".to_owned());
        let line = line(&machine);
        for what in [
            "-object memory-backend-file,id=ram,size=256M,share=on,mem-path=a,,b/ram -machine memory-backend=ram",
            "-plugin count.so,out=x",
            "-append quiet panic=-1",
        ] {
            assert!(line.contains(what), "no {what}: {line}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let mut machine = Machine::new("k", "i");
        let guest = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
        machine.net = Net::user(vec![Forward {
            protocol: Protocol::Tcp,
            host: port(number),
            guest,
        }]);
        let message = machine.check().unwrap_err().to_string();
        assert!(
            message.contains(&format!("TCP port {number} of 127.0.0.1 is in use")),
            "{message}"
        );
        drop(taken);
        machine.check().unwrap();
    }
}
