//! Compares our own image of the small system with its description. The root task's description matches, and
//! each change in it is found and named.

mod support;

use branes_audit::{Authority, Kernel, image};
use branes_image::Description;
use initialiser_spec::{
    Cap, CapKind, GRANT, Header, Irq, Mapping, Pd, READ, Region, Run, Source, Spec, WRITE,
};
use support::{differences, folder, named, system};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The description in an image, with the changes of a test.
struct EditedImage {
    bytes: Vec<u8>,
    pages: usize,
}

impl EditedImage {
    fn new() -> EditedImage {
        let folder = folder();
        let description = Description::of(&support::image(folder.path())).unwrap_or_else(|e| panic!("{e}"));
        EditedImage {
            bytes: description.bytes,
            pages: description.pages,
        }
    }

    fn spec(&self) -> Spec<'_> {
        Spec::parse(&self.bytes, self.pages).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Changes one record.
    fn edit<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        which: impl Fn(&Spec<'_>) -> *const T,
        change: impl Fn(&mut T),
    ) {
        let at = which(&self.spec()) as usize - self.bytes.as_ptr() as usize;
        let place = at..at + size_of::<T>();
        let mut record = T::read_from_bytes(&self.bytes[place.clone()]).unwrap();
        change(&mut record);
        self.bytes[place].copy_from_slice(record.as_bytes());
    }

    fn pd(&self, name: &str) -> usize {
        let spec = self.spec();
        spec.pds
            .iter()
            .position(|pd| spec.text(pd.name) == name)
            .unwrap_or_else(|| panic!("no domain {name}"))
    }

    fn edit_pd(&mut self, name: &str, change: impl Fn(&mut Pd)) {
        let index = self.pd(name);
        self.edit(|spec| &raw const spec.pds[index], change);
    }

    fn edit_cap(&mut self, name: &str, slot: u32, change: impl Fn(&mut Cap)) {
        let index = self.pd(name);
        let find = |spec: &Spec<'_>| {
            let caps = &spec.caps[spec.pds[index].caps.range()];
            &raw const *caps
                .iter()
                .find(|cap| cap.slot.get() == slot)
                .expect("a filled slot")
        };
        self.edit(find, change);
    }

    fn region(&self, name: &str) -> usize {
        let spec = self.spec();
        spec.regions
            .iter()
            .position(|r| spec.text(r.name) == name)
            .unwrap_or_else(|| panic!("no region {name}"))
    }

    fn edit_region(&mut self, name: &str, change: impl Fn(&mut Region)) {
        let index = self.region(name);
        self.edit(|spec| &raw const spec.regions[index], change);
    }

    fn edit_mapping(&mut self, name: &str, vaddr: u64, change: impl Fn(&mut Mapping)) {
        let index = self.pd(name);
        let find = |spec: &Spec<'_>| {
            let maps = &spec.mappings[spec.pds[index].mappings.range()];
            &raw const *maps
                .iter()
                .find(|map| map.vaddr.get() == vaddr)
                .expect("a mapping")
        };
        self.edit(find, change);
    }

    fn read(&self) -> Authority {
        image::read(&self.spec(), |name| system().region(name).is_some())
    }

    fn found(&self) -> Vec<String> {
        differences(Kernel::Registry, self.read())
    }
}

fn after(change: impl FnOnce(&mut EditedImage)) -> Vec<String> {
    let mut edited = EditedImage::new();
    change(&mut edited);
    edited.found()
}

#[test]
fn the_image_is_as_described() {
    assert_eq!(EditedImage::new().found(), Vec::<String>::new());
}

#[test]
fn a_capability_too_many_or_too_few_is_named() {
    let lines = after(|edited| {
        // Behind the last domain's own.
        let target = U32::new(edited.pd("brane-0") as u32);
        let cap = Cap {
            slot: U32::new(20),
            kind: CapKind::Notification as u8,
            rights: WRITE,
            reserved: [0; 2],
            target,
            data: U64::new(1 << 62 | 1),
        };
        edited.edit_pd("brane-1", |pd| pd.caps.count = U32::new(pd.caps.count.get() + 1));
        let end = {
            // Not parsed: the run is too long at this point.
            let header = size_of::<Header>();
            let tables = [
                size_of::<Pd>(),
                size_of::<Region>(),
                size_of::<Mapping>(),
                size_of::<Cap>(),
            ];
            let counts_at = header - 28;
            let count = |i: usize| {
                let at = counts_at + 4 * i;
                u32::from_le_bytes(edited.bytes[at..at + 4].try_into().unwrap())
            };
            header
                + tables
                    .iter()
                    .enumerate()
                    .map(|(i, size)| size * count(i) as usize)
                    .sum::<usize>()
        };
        edited.bytes.splice(end..end, cap.as_bytes().iter().copied());
        let at = size_of::<Header>() - 28 + 4 * 3;
        let count = u32::from_le_bytes(edited.bytes[at..at + 4].try_into().unwrap()) + 1;
        edited.bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
    });
    named(
        &lines,
        &["brane-1, slot 20: described nothing; in the image notification of brane-0 (send, as signal 0)"],
    );
    let lines =
        after(|edited| edited.edit_pd("brane-1", |pd| pd.caps.count = U32::new(pd.caps.count.get() - 1)));
    named(
        &lines,
        &["brane-1, slot 11", "notification of nic0", "in the image nothing"],
    );
    let lines =
        after(|edited| edited.edit_pd("brane-0", |pd| pd.caps.count = U32::new(pd.caps.count.get() + 1)));
    named(&lines, &["brane-0 has two capabilities in slot 1"]);
}

#[test]
fn wrong_rights_badges_and_targets_are_named() {
    let lines = after(|edited| edited.edit_cap("brane-0", 2, |cap| cap.rights |= READ));
    named(
        &lines,
        &[
            "brane-0, slot 2",
            "(send+grant, as fault of child 7)",
            "(receive+send+grant, as fault",
        ],
    );
    let lines = after(|edited| edited.edit_cap("nic0", 10, |cap| cap.rights = READ | WRITE | GRANT));
    named(
        &lines,
        &[
            "nic0, slot 10",
            "(send, as signal 1)",
            "(receive+send+grant, as signal 1)",
        ],
    );
    let lines = after(|edited| edited.edit_cap("manager", 79, |cap| cap.data = U64::new(1 << 27 | 9)));
    named(&lines, &["manager, slot 79", "as call 6", "as call 9"]);
    let lines = after(|edited| edited.edit_cap("brane-1", 11, |cap| cap.data = U64::new(1 << 62 | 3)));
    named(
        &lines,
        &[
            "brane-1, slot 11",
            "as signal 1",
            "unknown badge 0x4000000000000003",
        ],
    );
    let lines = after(|edited| {
        let other = edited.pd("brane-0") as u32;
        edited.edit_cap("brane-1", 11, |cap| cap.target = U32::new(other));
    });
    named(
        &lines,
        &[
            "brane-1, slot 11",
            "notification of nic0",
            "notification of brane-0",
        ],
    );
    let lines = after(|edited| edited.edit_cap("brane-1", 3, |cap| cap.kind = CapKind::Tcb as u8));
    named(
        &lines,
        &["brane-1, slot 3", "address space of brane-1", "thread of brane-1"],
    );
}

fn system_irqs() -> usize {
    system().protection_domains.iter().map(|pd| pd.irqs.len()).sum()
}

/// A change of a capability, and whether it must be found.
type Change = (bool, fn(&mut Cap));

/// Changes each field of every record of a capability: each change must be found.
#[test]
fn no_field_of_a_capability_changes_unseen() {
    let edited = EditedImage::new();
    let count = edited.spec().caps.len();
    assert_eq!(count, EditedImage::new().read().capabilities() - system_irqs());
    for index in 0..count {
        let kind = CapKind::from_u8(edited.spec().caps[index].kind).unwrap();
        let badged = matches!(kind, CapKind::Endpoint | CapKind::Monitor | CapKind::Notification);
        let changes: [Change; 5] = [
            (true, |cap| cap.slot = U32::new(cap.slot.get() ^ 256)),
            (true, |cap| cap.kind ^= 1),
            (badged, |cap| cap.rights ^= WRITE),
            (badged || kind == CapKind::IoPorts, |cap| {
                cap.data = U64::new(cap.data.get() ^ 2)
            }),
            (!matches!(kind, CapKind::Monitor | CapKind::IoPorts), |cap| {
                cap.target = U32::new(cap.target.get() ^ 1)
            }),
        ];
        for (i, (counts, change)) in changes.into_iter().enumerate() {
            let mut edited = EditedImage {
                bytes: edited.bytes.clone(),
                pages: edited.pages,
            };
            edited.edit(|spec| &raw const spec.caps[index], change);
            // The root task refuses some of them.
            let seen = match Spec::parse(&edited.bytes, edited.pages) {
                Ok(_) => !edited.found().is_empty(),
                Err(_) => true,
            };
            assert!(seen || !counts, "change {i} of capability {index}");
        }
    }
}

#[test]
fn a_page_that_another_sees_is_named() {
    let lines = after(|edited| {
        let other = edited.region("heap-0") as u32;
        edited.edit_mapping("brane-1", 0x2020_0000, |map| map.region = U32::new(other));
    });
    named(
        &lines,
        &[
            "brane-1, memory at 0x20200000",
            "described region heap-1",
            "in the image region heap-0",
        ],
    );
    let lines = after(|edited| {
        let index = edited.region("heap-0");
        let first = edited.spec().regions[index].first;
        edited.edit_region("heap-1", |region| region.first = first);
    });
    named(
        &lines,
        &["page 0 of heap-1 is the same object as page 0 of heap-0"],
    );
    let lines = after(|edited| {
        edited.edit_region("heap-1", |region| {
            region.source = Source::Fixed as u8;
            region.paddr = U64::new(0x800_0000);
        });
    });
    named(
        &lines,
        &[
            "brane-1, memory at 0x20200000",
            "region heap-1",
            "at physical address 0x8000000",
        ],
    );
    let lines = after(|edited| {
        let index = edited.region("stack of brane-0");
        let first = edited.spec().regions[index].first;
        edited.edit_region("stack of brane-1", |region| region.first = first);
    });
    named(
        &lines,
        &[
            "brane-1, memory at 0x7fff",
            "writable memory outside all regions, shared by brane-0, brane-1",
        ],
    );
}

#[test]
fn pages_of_programs_are_private_or_written_by_nobody() {
    let edited = EditedImage::new();
    // The first pages of both programs are the same pages of the image.
    let first = |name: &str| {
        let spec = edited.spec();
        let pd = spec.pds[edited.pd(name)];
        spec.mappings[pd.mappings.range()][0].region
    };
    assert_eq!(first("brane-0"), first("brane-1"));
    let lines = after(|edited| edited.edit_mapping("brane-0", 0x20_0000, |map| map.rights = READ | WRITE));
    named(
        &lines,
        &[
            "brane-1, memory at 0x200000",
            "writable memory outside all regions, shared by brane-0, brane-1",
        ],
    );
    // The patched words of one domain, mapped by another.
    let lines = after(|edited| {
        let spec = edited.spec();
        let pd = spec.pds[edited.pd("brane-0")];
        let data = spec.mappings[pd.mappings.range()]
            .iter()
            .find(|map| map.vaddr.get() == 0x20_4000)
            .unwrap()
            .region;
        edited.edit_mapping("brane-1", 0x20_4000, |map| map.region = data);
    });
    named(
        &lines,
        &[
            "brane-0, memory at 0x204000",
            "writable memory outside all regions, shared by brane-0, brane-1",
        ],
    );
}

#[test]
fn wrong_rights_to_memory_are_named() {
    let lines = after(|edited| edited.edit_mapping("nic0", 0x2001_0000, |map| map.rights = READ | WRITE));
    named(
        &lines,
        &[
            "nic0, memory at 0x20010000",
            "region tsc to 0x20011000, r,",
            "region tsc to 0x20011000, rw,",
        ],
    );
    let lines = after(|edited| edited.edit_mapping("nic0", 0x2000_0000, |map| map.cached = 1));
    named(&lines, &["nic0, memory at 0x20000000", "uncached"]);
    let lines = after(|edited| edited.edit_mapping("nic0", 0x3000_0000, |map| map.pages.count = U32::new(1)));
    named(
        &lines,
        &[
            "nic0, memory at 0x30000000",
            "region ports-0 to 0x30002000",
            "region ports-0 to 0x30001000",
        ],
    );
    let lines = after(|edited| edited.edit_region("bar", |region| region.paddr = U64::new(0xd000_1000)));
    named(
        &lines,
        &[
            "nic0, memory at 0x20000000",
            "physical address 0xd0000000",
            "physical address 0xd0001000",
        ],
    );
    let lines = after(|edited| edited.edit_mapping("manager", 0x2000_0000, |map| map.rights = READ | WRITE));
    named(&lines, &["manager, memory at 0x20000000", "region config"]);
}

#[test]
fn objects_that_two_have_are_named() {
    let part = |field: fn(&mut Pd) -> &mut U32| {
        after(|edited| {
            let mut other = edited.spec().pds[edited.pd("brane-0")];
            let its = *field(&mut other);
            edited.edit_pd("brane-1", |pd| *field(pd) = its);
        })
    };
    named(
        &part(|pd| &mut pd.pml4),
        &["the address space of brane-1 is the same object as the address space of brane-0"],
    );
    named(
        &part(|pd| &mut pd.cnode),
        &["the capability table of brane-1 is the same object"],
    );
    named(
        &part(|pd| &mut pd.notification),
        &["the notification of brane-1 is the same object"],
    );
    named(
        &part(|pd| &mut pd.tcb),
        &["the thread of brane-1 is the same object"],
    );
    named(
        &part(|pd| &mut pd.ipc_region),
        &["brane-1, thread", "message buffer not mapped at its address"],
    );
    let lines = after(|edited| {
        let endpoint = edited.spec().pds[edited.pd("manager")].endpoint;
        edited.edit(
            |spec| &raw const *spec.header,
            |header: &mut Header| header.monitor_endpoint = endpoint,
        );
    });
    named(
        &lines,
        &["the endpoint of monitor is the same object as the endpoint of manager"],
    );
    let lines = after(|edited| edited.edit_pd("brane-0", |pd| pd.priority = 254));
    named(&lines, &["brane-0, thread", "priority 100", "priority 254"]);
    let lines = after(|edited| edited.edit_pd("brane-0", |pd| pd.caps = Run::new(0, 0)));
    named(&lines, &["brane-0, thread", "faults have no handler"]);
}

#[test]
fn wrong_devices_are_named() {
    let lines = after(|edited| edited.edit_cap("nic0", 397, |cap| cap.data = U64::new(0x3f8 << 16 | 0xcff)));
    named(
        &lines,
        &[
            "nic0, slot 397",
            "I/O ports 0x3f8 to 0x3ff",
            "I/O ports 0x3f8 to 0xcff",
        ],
    );
    let irq = |change: fn(&mut Irq)| after(|edited| edited.edit(|spec| &raw const spec.irqs[0], change));
    named(
        &irq(|irq| irq.source[1] = U32::new(4)),
        &["nic0, slot 199", "pin 11", "pin 4"],
    );
    named(
        &irq(|irq| irq.vector = U32::new(7)),
        &["nic0, slot 199", "vector 101", "vector 7"],
    );
    named(
        &irq(|irq| irq.badge = U64::new(1 << 62 | 1)),
        &["nic0, slot 199", "as signal 61", "as signal 0"],
    );
    named(
        &irq(|irq| irq.pd = U32::new(3)),
        &["brane-0, slot 199: described nothing; in the image interrupt"],
    );
}

#[test]
fn what_is_no_image_of_ours_is_refused() {
    let folder = folder();
    let path = support::image(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let at = whole.windows(8).position(|eight| eight == Header::MAGIC).unwrap();
    for change in [
        |bytes: &mut Vec<u8>, at: usize| bytes[at] ^= 1,
        |bytes: &mut Vec<u8>, _| bytes.truncate(4096),
        |bytes: &mut Vec<u8>, _| bytes.clear(),
    ] {
        let mut bytes = whole.clone();
        change(&mut bytes, at);
        std::fs::write(&path, bytes).unwrap();
        assert!(Description::of(&path).is_err());
    }
}
