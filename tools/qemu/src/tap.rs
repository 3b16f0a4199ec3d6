//! Check of a tap device: attaches to it as QEMU will, and detaches at once.
//!
//! Owns no lasting state. On the other side: the host's kernel, which is trusted, and the network devices in
//! the namespace of the calling thread.

use std::ffi::c_short;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::Error;

/// The file through which a program attaches to a tap device.
const TUN: &str = "/dev/net/tun";
/// Request to attach to a device (`linux/if_tun.h`).
const TUNSETIFF: Opcode = 0x4004_54ca;
/// Request to read a device's flags (`linux/sockios.h`).
const SIOCGIFFLAGS: Opcode = 0x8913;
/// The flags that QEMU uses: whole Ethernet frames, each preceded by virtio's header only.
const TAP_AS_QEMU_USES_IT: c_short = 0x0002 | 0x1000 | 0x4000;
/// Flag of a device that is up (`linux/if.h`).
const IFF_UP: c_short = 1;
/// Maximum length of a name in bytes.
const MAX_NAME: usize = 15;

/// `struct ifreq` with the only member of its union that is used here.
#[repr(C)]
struct Request {
    name: [u8; MAX_NAME + 1],
    flags: c_short,
    rest: [u8; 22],
}

/// Checks that QEMU can use this device and that frames can pass. The error contains the remedy.
pub fn check(name: &str) -> Result<(), Error> {
    let refusal = |what: String| Error::Tap {
        name: name.to_owned(),
        what,
    };
    let mut request = Request {
        name: [0; MAX_NAME + 1],
        flags: 0,
        rest: [0; 22],
    };
    match request.name.get_mut(..name.len()) {
        Some(start) if (1..=MAX_NAME).contains(&name.len()) => start.copy_from_slice(name.as_bytes()),
        _ => {
            let what = format!("is no name of a network device: it has 1 to {MAX_NAME} bytes");
            return Err(refusal(what));
        }
    }
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(|e| Error::io("query the network devices")(e.into()))?;
    if netdevice::name_to_index(&any, name).is_err() {
        return Err(Error::NoInterface(name.to_owned()));
    }
    let tun = open().map_err(|cause| {
        refusal(match cause.kind() {
            ErrorKind::PermissionDenied => {
                format!("cannot be used by this user ({TUN}: {cause}); run it as root")
            }
            _ => format!(
                "cannot be used ({TUN}: {cause}); load the kernel's module as root with: modprobe tun"
            ),
        })
    })?;

    request.flags = TAP_AS_QEMU_USES_IT;
    ask::<TUNSETIFF>(&tun, &mut request).map_err(|cause| {
        refusal(match cause {
            Errno::INVAL => {
                "is no tap device, or one of several queues; make one as root with: ip tuntap add dev tap0 mode tap && ip link set dev tap0 up"
                    .to_owned()
            }
            Errno::BUSY => "is in use by another program; stop it, or use another tap device".to_owned(),
            Errno::PERM => format!(
                "belongs to another user; run it as root, or make the device yours as root with: ip tuntap add dev {name} mode tap user NAME"
            ),
            other => format!("cannot be used ({})", io::Error::from(other)),
        })
    })?;
    request.flags = 0;
    ask::<SIOCGIFFLAGS>(&any, &mut request)
        .map_err(|e| Error::io("query the tap device's state")(e.into()))?;
    if request.flags & IFF_UP == 0 {
        return Err(refusal(format!(
            "is down; bring it up as root with: ip link set dev {name} up"
        )));
    }
    Ok(())
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(TUN)
}

fn ask<const CODE: Opcode>(at: impl AsFd, request: &mut Request) -> Result<(), Errno> {
    // SAFETY: this is called with two codes only. Both read and write a `struct ifreq`, which `Request`
    // equals in size and layout.
    unsafe { ioctl(at, Updater::<CODE, Request>::new(request)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_large_as_the_kernels() {
        assert_eq!(size_of::<Request>(), 40);
    }

    #[test]
    fn what_is_no_tap_device_is_refused_with_its_name() {
        let message = |name: &str| check(name).unwrap_err().to_string();
        let missing = message("no-such-tap");
        assert!(
            missing.contains("ip tuntap add dev no-such-tap mode tap"),
            "{missing}"
        );
        for name in ["", "a-name-of-sixtee"] {
            assert!(message(name).contains("1 to 15 bytes"), "{name}");
        }
    }
}
