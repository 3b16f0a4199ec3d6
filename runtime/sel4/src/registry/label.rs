//! Invocation labels of seL4 5.0.0 in this project's kernel configuration (both flavours).
//!
//! They follow from the kernel's XML interface files and its configuration. After each build, the kernel builder reads
//! the real labels and fails if they differ from these (`tools/kernel`).

/// Make objects of untyped memory.
pub const UNTYPED_RETYPE: u64 = 1;
/// Read a thread's registers.
pub const TCB_READ_REGISTERS: u64 = 2;
/// Write a thread's registers.
pub const TCB_WRITE_REGISTERS: u64 = 3;
/// Set all of a thread's spaces.
pub const TCB_CONFIGURE: u64 = 5;
/// Stop a thread.
pub const TCB_SUSPEND: u64 = 10;
/// Let a stopped thread continue.
pub const TCB_RESUME: u64 = 11;
/// Bind a notification to a thread.
pub const TCB_BIND_NOTIFICATION: u64 = 12;
/// Copy a capability.
pub const CNODE_COPY: u64 = 17;
/// Copy a capability with less rights or a badge.
pub const CNODE_MINT: u64 = 18;
/// Acknowledge an interrupt.
pub const IRQ_ACK_IRQ: u64 = 24;
/// Set the notification of an interrupt.
pub const IRQ_SET_IRQ_HANDLER: u64 = 25;
/// Map a page directory pointer table.
pub const X86_PDPT_MAP: u64 = 28;
/// Map a page directory.
pub const X86_PAGE_DIRECTORY_MAP: u64 = 30;
/// Map a page table.
pub const X86_PAGE_TABLE_MAP: u64 = 33;
/// Map a page.
pub const X86_PAGE_MAP: u64 = 37;
/// Unmap a page.
pub const X86_PAGE_UNMAP: u64 = 39;
/// Give an address space an identifier.
pub const X86_ASID_POOL_ASSIGN: u64 = 43;
/// Read 8 bits of an I/O port.
pub const X86_IO_PORT_IN8: u64 = 44;
/// Read 16 bits.
pub const X86_IO_PORT_IN16: u64 = 45;
/// Read 32 bits.
pub const X86_IO_PORT_IN32: u64 = 46;
/// Write 8 bits of an I/O port.
pub const X86_IO_PORT_OUT8: u64 = 47;
/// Write 16 bits.
pub const X86_IO_PORT_OUT16: u64 = 48;
/// Write 32 bits.
pub const X86_IO_PORT_OUT32: u64 = 49;
/// Make a handler for an I/O APIC pin.
pub const X86_IRQ_ISSUE_IRQ_HANDLER_IOAPIC: u64 = 50;
/// Make a handler for a message-signalled interrupt.
pub const X86_IRQ_ISSUE_IRQ_HANDLER_MSI: u64 = 51;

/// Name in the kernel's headers and value of each label above.
pub const ALL: &[(&str, u64)] = &[
    ("UntypedRetype", UNTYPED_RETYPE),
    ("TCBReadRegisters", TCB_READ_REGISTERS),
    ("TCBWriteRegisters", TCB_WRITE_REGISTERS),
    ("TCBConfigure", TCB_CONFIGURE),
    ("TCBSuspend", TCB_SUSPEND),
    ("TCBResume", TCB_RESUME),
    ("TCBBindNotification", TCB_BIND_NOTIFICATION),
    ("CNodeCopy", CNODE_COPY),
    ("CNodeMint", CNODE_MINT),
    ("IRQAckIRQ", IRQ_ACK_IRQ),
    ("IRQSetIRQHandler", IRQ_SET_IRQ_HANDLER),
    ("X86PDPTMap", X86_PDPT_MAP),
    ("X86PageDirectoryMap", X86_PAGE_DIRECTORY_MAP),
    ("X86PageTableMap", X86_PAGE_TABLE_MAP),
    ("X86PageMap", X86_PAGE_MAP),
    ("X86PageUnmap", X86_PAGE_UNMAP),
    ("X86ASIDPoolAssign", X86_ASID_POOL_ASSIGN),
    ("X86IOPortIn8", X86_IO_PORT_IN8),
    ("X86IOPortIn16", X86_IO_PORT_IN16),
    ("X86IOPortIn32", X86_IO_PORT_IN32),
    ("X86IOPortOut8", X86_IO_PORT_OUT8),
    ("X86IOPortOut16", X86_IO_PORT_OUT16),
    ("X86IOPortOut32", X86_IO_PORT_OUT32),
    ("X86IRQIssueIRQHandlerIOAPIC", X86_IRQ_ISSUE_IRQ_HANDLER_IOAPIC),
    ("X86IRQIssueIRQHandlerMSI", X86_IRQ_ISSUE_IRQ_HANDLER_MSI),
];
