//! System calls of the root task, and the kernel's boot information. The kernel is trusted.

use sel4::registry::{call, label, recv};
use sel4::{MessageInfo, Refused};

/// A capability slot in the root task's table.
pub type Slot = usize;

/// Slots that the kernel fills before the root task runs.
pub mod initial {
    use super::Slot;
    pub const CNODE: Slot = 2;
    pub const VSPACE: Slot = 3;
    pub const IRQ_CONTROL: Slot = 4;
    pub const ASID_POOL: Slot = 6;
    pub const IO_PORTS: Slot = 7;
}

/// Kernel object types of seL4 5.0.0 (x86_64, huge pages on, no IOMMU, no VT-x).
pub mod object {
    pub const UNTYPED: usize = 0;
    pub const TCB: usize = 1;
    pub const ENDPOINT: usize = 2;
    pub const NOTIFICATION: usize = 3;
    pub const CAP_TABLE: usize = 4;
    pub const PDPT: usize = 5;
    pub const PML4: usize = 6;
    pub const SMALL_PAGE: usize = 8;
    pub const LARGE_PAGE: usize = 9;
    pub const PAGE_TABLE: usize = 10;
    pub const PAGE_DIRECTORY: usize = 11;
}

/// Maximum of untyped memory objects that the kernel lists.
pub const MAX_UNTYPED: usize = 230;

/// Slots `start` to `end - 1`.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct SlotRegion {
    pub start: u64,
    pub end: u64,
}

/// One untyped memory object.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct UntypedDesc {
    pub paddr: u64,
    pub padding: [u8; 2],
    pub size_bits: u8,
    pub is_device: u8,
}

/// The kernel's information for the root task.
#[repr(C, packed)]
pub struct BootInfo {
    pub extra_len: u64,
    pub node_id: u64,
    pub num_nodes: u64,
    pub num_io_pt_levels: u64,
    pub ipc_buffer: u64,
    pub empty: SlotRegion,
    pub shared_frames: SlotRegion,
    pub user_image_frames: SlotRegion,
    pub user_image_paging: SlotRegion,
    pub io_space_caps: SlotRegion,
    pub extra_bi_pages: SlotRegion,
    pub cnode_size_bits: u8,
    pub domain: u64,
    pub tsc_mhz: u64,
    pub untyped: SlotRegion,
    pub untyped_list: [UntypedDesc; MAX_UNTYPED],
}

/// A message to an object: label, words, and additional capabilities.
struct Message<'a> {
    label: u64,
    words: &'a [u64],
    caps: &'a [Slot],
}

/// Offset of the capability list in the IPC buffer, in words: tag, 120 message words, user data.
const CAPS_OFFSET: usize = 122;

/// System call interface of the root task's only thread.
pub struct Kernel {
    ipc_buffer: *mut u64,
}

/// A received message.
pub struct Received {
    /// Badge of the capability through which it was sent.
    pub badge: u64,
    pub label: u64,
    /// The first words. Missing words are 0.
    pub words: [u64; 20],
}

impl Kernel {
    /// Creates the system call interface.
    ///
    /// # Safety
    /// Must be called only once, in the root task's only thread, with the buffer that the boot information names.
    pub unsafe fn new(ipc_buffer: u64) -> Self {
        Kernel {
            ipc_buffer: ipc_buffer as *mut u64,
        }
    }

    fn buffer(&mut self, word: usize) -> *mut u64 {
        self.ipc_buffer.wrapping_add(word)
    }

    fn call(&mut self, object: Slot, message: Message<'_>) -> Result<u64, Refused> {
        let info = MessageInfo::new(message.label, message.words.len()).with_caps(message.caps.len());
        let mut registers = [0u64; 4];
        for (i, &word) in message.words.iter().enumerate() {
            match registers.get_mut(i) {
                Some(register) => *register = word,
                // SAFETY: the IPC buffer has 120 message words behind the tag; messages here have at most 8.
                None => unsafe { self.buffer(1 + i).write_volatile(word) },
            }
        }
        for (i, &cap) in message.caps.iter().enumerate() {
            // SAFETY: the IPC buffer has room for three capabilities; messages here have at most three.
            unsafe { self.buffer(CAPS_OFFSET + i).write_volatile(cap as u64) };
        }
        match call(object as u64, info, &mut registers).label() {
            0 => Ok(registers[0]),
            error => Err(Refused(error)),
        }
    }

    pub fn recv(&mut self, endpoint: Slot) -> Received {
        let mut registers = [0u64; 4];
        let (info, badge) = recv(endpoint as u64, &mut registers);
        let mut words = [0; 20];
        for (i, word) in words.iter_mut().enumerate().take(info.length()) {
            *word = match registers.get(i) {
                Some(&register) => register,
                // SAFETY: within the 120 message words of the IPC buffer.
                None => unsafe { self.buffer(1 + i).read_volatile() },
            };
        }
        Received {
            badge,
            label: info.label(),
            words,
        }
    }

    /// Creates `count` objects from untyped memory, with capabilities in consecutive slots from `first`.
    pub fn retype(
        &mut self,
        untyped: Slot,
        object: usize,
        size_bits: u8,
        first: Slot,
        count: u32,
    ) -> Result<(), Refused> {
        let words = [
            object as u64,
            u64::from(size_bits),
            0,
            0,
            first as u64,
            u64::from(count),
        ];
        let caps = &[initial::CNODE];
        self.call(
            untyped,
            Message {
                label: label::UNTYPED_RETYPE,
                words: &words,
                caps,
            },
        )
        .map(drop)
    }

    /// Copies a capability of the root task to another of its slots.
    pub fn copy(&mut self, from: Slot, to: Slot) -> Result<(), Refused> {
        let words = [to as u64, 64, from as u64, 64, 7];
        let caps = &[initial::CNODE];
        self.call(
            initial::CNODE,
            Message {
                label: label::CNODE_COPY,
                words: &words,
                caps,
            },
        )
        .map(drop)
    }

    /// Copies a capability of the root task into slot `index` (of `depth` bits) of `table`, with rights and data.
    pub fn mint(
        &mut self,
        table: Slot,
        index: u64,
        depth: u8,
        from: Slot,
        rights: u64,
        data: u64,
    ) -> Result<(), Refused> {
        let words = [index, u64::from(depth), from as u64, 64, rights, data];
        // Data 0 means an unbadged copy, which needs another call.
        let (label, words) = if data == 0 {
            (label::CNODE_COPY, &words[..5])
        } else {
            (label::CNODE_MINT, &words[..])
        };
        self.call(
            table,
            Message {
                label,
                words,
                caps: &[initial::CNODE],
            },
        )
        .map(drop)
    }

    /// Assigns an address space identifier. Must precede all mappings.
    pub fn assign_asid(&mut self, pml4: Slot) -> Result<(), Refused> {
        let caps = &[pml4];
        self.call(
            initial::ASID_POOL,
            Message {
                label: label::X86_ASID_POOL_ASSIGN,
                words: &[],
                caps,
            },
        )
        .map(drop)
    }

    /// Maps a second-level table.
    pub fn map_pdpt(&mut self, pdpt: Slot, pml4: Slot, vaddr: u64) -> Result<(), Refused> {
        self.map_table(label::X86_PDPT_MAP, pdpt, pml4, vaddr)
    }

    /// Maps a third-level table.
    pub fn map_page_directory(&mut self, directory: Slot, pml4: Slot, vaddr: u64) -> Result<(), Refused> {
        self.map_table(label::X86_PAGE_DIRECTORY_MAP, directory, pml4, vaddr)
    }

    /// Maps a fourth-level table.
    pub fn map_page_table(&mut self, table: Slot, pml4: Slot, vaddr: u64) -> Result<(), Refused> {
        self.map_table(label::X86_PAGE_TABLE_MAP, table, pml4, vaddr)
    }

    fn map_table(&mut self, label: u64, table: Slot, pml4: Slot, vaddr: u64) -> Result<(), Refused> {
        self.call(
            table,
            Message {
                label,
                words: &[vaddr, 0],
                caps: &[pml4],
            },
        )
        .map(drop)
    }

    /// Maps a page. `rights`: 1 write, 2 read. `attributes`: 0 write-back, 2 not cached.
    pub fn map_page(
        &mut self,
        page: Slot,
        pml4: Slot,
        vaddr: u64,
        rights: u64,
        attributes: u64,
    ) -> Result<(), Refused> {
        let words = [vaddr, rights, attributes];
        self.call(
            page,
            Message {
                label: label::X86_PAGE_MAP,
                words: &words,
                caps: &[pml4],
            },
        )
        .map(drop)
    }

    pub fn unmap_page(&mut self, page: Slot) -> Result<(), Refused> {
        self.call(
            page,
            Message {
                label: label::X86_PAGE_UNMAP,
                words: &[],
                caps: &[],
            },
        )
        .map(drop)
    }

    /// Sets all attributes of a thread except its registers.
    pub fn configure(&mut self, tcb: Slot, config: &ThreadConfig) -> Result<(), Refused> {
        let priority = u64::from(config.priority);
        let words = [
            config.fault_endpoint,
            priority << 8 | priority,
            config.cspace_data,
            0,
            config.ipc_buffer,
        ];
        let caps = &[config.cspace, config.vspace, config.ipc_page];
        self.call(
            tcb,
            Message {
                label: label::TCB_CONFIGURE,
                words: &words,
                caps,
            },
        )
        .map(drop)
    }

    /// Binds a notification to the thread, so that its receives also return signals.
    pub fn bind_notification(&mut self, tcb: Slot, notification: Slot) -> Result<(), Refused> {
        let caps = &[notification];
        self.call(
            tcb,
            Message {
                label: label::TCB_BIND_NOTIFICATION,
                words: &[],
                caps,
            },
        )
        .map(drop)
    }

    /// Sets instruction and stack pointer without starting the thread.
    pub fn set_start(&mut self, tcb: Slot, ip: u64, sp: u64) -> Result<(), Refused> {
        let words = [0, 2, ip, sp];
        self.call(
            tcb,
            Message {
                label: label::TCB_WRITE_REGISTERS,
                words: &words,
                caps: &[],
            },
        )
        .map(drop)
    }

    /// Starts the thread.
    pub fn resume(&mut self, tcb: Slot) -> Result<(), Refused> {
        self.call(
            tcb,
            Message {
                label: label::TCB_RESUME,
                words: &[],
                caps: &[],
            },
        )
        .map(drop)
    }

    /// Creates the handler of an I/O APIC pin's interrupt. `source`: I/O APIC, pin, 1 for level, 1 for active
    /// low.
    pub fn irq_ioapic(&mut self, to: Slot, source: [u64; 4], vector: u64) -> Result<(), Refused> {
        self.irq(label::X86_IRQ_ISSUE_IRQ_HANDLER_IOAPIC, to, source, vector)
    }

    /// Creates the handler of a message-signalled interrupt. `source`: bus, device, function, handle.
    pub fn irq_msi(&mut self, to: Slot, source: [u64; 4], vector: u64) -> Result<(), Refused> {
        self.irq(label::X86_IRQ_ISSUE_IRQ_HANDLER_MSI, to, source, vector)
    }

    fn irq(&mut self, label: u64, to: Slot, source: [u64; 4], vector: u64) -> Result<(), Refused> {
        let [a, b, c, d] = source;
        let words = [to as u64, 64, a, b, c, d, vector];
        self.call(
            initial::IRQ_CONTROL,
            Message {
                label,
                words: &words,
                caps: &[initial::CNODE],
            },
        )
        .map(drop)
    }

    /// Binds an interrupt to a notification.
    pub fn set_irq_notification(&mut self, handler: Slot, notification: Slot) -> Result<(), Refused> {
        let caps = &[notification];
        self.call(
            handler,
            Message {
                label: label::IRQ_SET_IRQ_HANDLER,
                words: &[],
                caps,
            },
        )
        .map(drop)
    }

    /// Reads an I/O port.
    pub fn in8(&mut self, port: u16) -> u8 {
        let words = &[u64::from(port)];
        self.call(
            initial::IO_PORTS,
            Message {
                label: label::X86_IO_PORT_IN8,
                words,
                caps: &[],
            },
        )
        .unwrap_or(0) as u8
    }

    /// Writes an I/O port.
    pub fn out8(&mut self, port: u16, value: u8) {
        let words = &[u64::from(port), u64::from(value)];
        // The root task owns all ports, so the kernel has no reason to refuse. An error could not be reported
        // anyway.
        let _ = self.call(
            initial::IO_PORTS,
            Message {
                label: label::X86_IO_PORT_OUT8,
                words,
                caps: &[],
            },
        );
    }
}

/// Parameters of [`Kernel::configure`].
pub struct ThreadConfig {
    /// Address of the thread's fault endpoint in its own capability space.
    pub fault_endpoint: u64,
    /// Priority. This is also the highest priority that the thread may assign.
    pub priority: u8,
    /// Root of its capability space.
    pub cspace: Slot,
    /// Guard of that root.
    pub cspace_data: u64,
    /// Root of its address space.
    pub vspace: Slot,
    /// Address of its IPC buffer.
    pub ipc_buffer: u64,
    /// Page of its IPC buffer.
    pub ipc_page: Slot,
}

/// Returns the word that gives a capability table a guard of `bits` zero bits.
pub const fn guard(bits: u8) -> u64 {
    (bits as u64) << 2
}
