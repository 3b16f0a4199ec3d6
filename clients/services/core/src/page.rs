//! The page at `/`: the brane's name, its addresses and its MAC address, in exactly [`BODY`] bytes.
//!
//! Owns the current page. The brane is not trusted, so its texts are escaped and cut.

use alloc::rc::Rc;
use alloc::string::String;
use brane_socket::{Identity, NetClient};
use core::cell::RefCell;
use core::fmt::Write;

/// Length of the page in bytes.
pub const BODY: usize = 1024;

const END: &str = "</ul>\n</body>\n</html>\n";

/// The current page. It is composed again only if the brane's identity has changed.
pub struct Page {
    net: NetClient,
    cached: RefCell<Option<(u64, Rc<[u8]>)>>,
}

impl Page {
    /// Makes the page of this stack's brane.
    pub fn new(net: NetClient) -> Page {
        Page {
            net,
            cached: RefCell::new(None),
        }
    }

    /// Returns the page, [`BODY`] bytes.
    pub fn body(&self) -> Rc<[u8]> {
        let serial = self.net.serial();
        let mut cached = self.cached.borrow_mut();
        match &*cached {
            Some((of, body)) if *of == serial => body.clone(),
            _ => {
                let body: Rc<[u8]> = compose(&self.net.identity()).into_bytes().into();
                *cached = Some((serial, body.clone()));
                body
            }
        }
    }
}

/// A text that is cut at a maximum length.
struct Bounded {
    text: String,
    limit: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        if self.text.len() + s.len() > self.limit {
            return Err(core::fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}

/// Text with HTML's special characters escaped.
struct Escaped<'a>(&'a str);

impl core::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Composes the page for an identity: exactly [`BODY`] bytes, padded with spaces after the last tag.
fn compose(brane: &Identity) -> String {
    let mut page = Bounded {
        text: String::with_capacity(BODY),
        limit: BODY - END.len(),
    };
    let name = Escaped(&brane.name);
    let role = if brane.primary { "primary" } else { "secondary" };
    // The fixed text is short and the name has at most 32 bytes, so only addresses may not fit. Those are
    // omitted as a whole.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{name}</title></head>\n<body>\n\
         <h1>brane {name}</h1>\n<p>The {role} brane number {}, generation {}.</p>\n<p>MAC address {}</p>\n\
         <p>Addresses:</p>\n<ul>\n",
        brane.id, brane.generation, brane.mac
    );
    for address in &brane.addresses {
        let before = page.text.len();
        if writeln!(page, "<li>{address}</li>").is_err() {
            page.text.truncate(before);
        }
    }
    let mut text = page.text;
    text.push_str(END);
    while text.len() < BODY {
        text.push(' ');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use brane_abi::net::{Cidr, MacAddr};
    use proptest::prelude::*;

    #[test]
    fn it_names_the_brane_its_addresses_and_its_mac() {
        let text = compose(&Identity {
            id: 1,
            generation: 3,
            name: "red".into(),
            mac: MacAddr([2, 0x77, 0, 0, 0, 1]),
            addresses: vec![
                Cidr {
                    ip: "10.0.2.16".parse().unwrap(),
                    prefix: 24,
                },
                Cidr {
                    ip: "fec0::16".parse().unwrap(),
                    prefix: 64,
                },
            ],
            ..Identity::default()
        });
        for part in [
            "<h1>brane red</h1>",
            "02:77:00:00:00:01",
            "10.0.2.16/24",
            "fec0::16/64",
            "generation 3",
            "</html>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    proptest! {
        #[test]
        fn it_has_1024_bytes_whatever_the_brane_says(name in ".{0,32}", ips in prop::collection::vec(any::<u128>(), 0..9)) {
            let mut name: String = name;
            while name.len() > 32 {
                name.pop();
            }
            let addresses = ips.iter().map(|&ip| Cidr { ip: core::net::Ipv6Addr::from_bits(ip).into(), prefix: 128 }).collect();
            let text = compose(&Identity { name, addresses, id: u32::MAX, generation: u32::MAX, ..Identity::default() });
            prop_assert_eq!(text.len(), BODY);
            prop_assert!(text.trim_end().ends_with("</html>"));
            for ip in ips {
                prop_assert!(text.contains(&core::net::Ipv6Addr::from_bits(ip).to_string()), "eight addresses always fit");
            }
        }
    }
}
