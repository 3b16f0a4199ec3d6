//! Protected calls of an operator's domain to the manager ([`brane_abi::operator`]): of the console, of the remote line, and of tests.
//!
//! The module owns no state: the caller owns the channel and the reply region. The manager is trusted and answers at once. If a request
//! takes longer, the manager answers with the number of a job and notifies the caller when the job has ended.
//!
//! Each program compiles this file as a module of its own: a library that makes calls would not link into the host tests of this crate.

use brane_abi::operator::{CALL, CANCEL, LATER, MAX_REQUEST, POLL};
use sel4_microkit::{Channel, MessageInfo, Region, get_mr, set_mr, with_msg_bytes_mut};

/// The manager, as one operator reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Manager {
    /// The channel to it.
    pub channel: Channel,
    /// The region that it answers in, which only it can write.
    pub reply: Region,
}

/// What it says.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// A job of this number has begun, or is still under way.
    Later(u64),
    /// The end, by the label of the reply.
    Ended {
        /// `OK`, `ERROR` or something that is not known.
        label: u64,
        /// CBOR, as the label has it.
        text: &'a [u8],
    },
}

impl Manager {
    /// Sends a request of [`MAX_REQUEST`] bytes at most, the rest of a longer one being left out, and reads what is said.
    pub fn call<R>(&self, request: &[u8], read: impl FnOnce(Reply<'_>) -> R) -> R {
        let len = request.len().min(MAX_REQUEST);
        with_msg_bytes_mut(|bytes| bytes[8..8 + len].copy_from_slice(&request[..len]));
        set_mr(0, len as u64);
        self.said(MessageInfo::new(CALL, 1 + len.div_ceil(8)), read)
    }

    /// Asks for the end of a job.
    pub fn poll<R>(&self, job: u64, read: impl FnOnce(Reply<'_>) -> R) -> R {
        set_mr(0, job);
        self.said(MessageInfo::new(POLL, 1), read)
    }

    /// Says that nobody waits for a job any more.
    pub fn cancel(&self, job: u64) {
        set_mr(0, job);
        self.channel.pp_call(MessageInfo::new(CANCEL, 1));
    }

    fn said<R>(&self, message: MessageInfo, read: impl FnOnce(Reply<'_>) -> R) -> R {
        let info = self.channel.pp_call(message);
        let word = |i: usize| if i < info.count() { get_mr(i) } else { 0 };
        if info.label() == LATER {
            return read(Reply::Later(word(1)));
        }
        let len = usize::try_from(word(0))
            .unwrap_or(usize::MAX)
            .min(self.reply.size);
        // SAFETY: the length lies inside the region, which is mapped for this domain's life. Its only writer is the manager,
        // which writes only while a call of ours is answered, and `read` makes none that could change what it was given: the
        // reference ends with it, and this domain has one thread, which is in `read`.
        let text = unsafe { core::slice::from_raw_parts(self.reply.as_ptr(), len) };
        read(Reply::Ended {
            label: info.label(),
            text,
        })
    }
}
