//! Protected calls of an operator's domain to the manager ([`brane_abi::operator`]), for the console, the remote line and tests.
//!
//! The module owns no state: the caller owns the channel and the reply region. The manager is trusted and answers at once. If a
//! request takes longer, the manager answers with the number of a job and notifies the caller when the job has ended.
//!
//! Each program compiles this file as a module of its own, because a library with these calls would not link into the crate's
//! host tests.

use brane_abi::operator::{CALL, CANCEL, LATER, MAX_REQUEST, POLL};
use sel4_microkit::{Channel, MessageInfo, Region, get_mr, set_mr, with_msg_bytes_mut};

/// The manager, as an operator reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Manager {
    /// The channel to the manager.
    pub channel: Channel,
    /// The region of the manager's answers. Only the manager can write it.
    pub reply: Region,
}

/// Reply of the manager.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// A job with this number has begun, or is still under way.
    Later(u64),
    /// The final reply.
    Ended {
        /// Label of the reply: `OK`, `ERROR` or an unknown label.
        label: u64,
        /// CBOR, of the type that the label defines.
        text: &'a [u8],
    },
}

impl Manager {
    /// Sends a request and passes the reply to `read`. Cuts the request off after [`MAX_REQUEST`] bytes.
    pub fn call<R>(&self, request: &[u8], read: impl FnOnce(Reply<'_>) -> R) -> R {
        let len = request.len().min(MAX_REQUEST);
        with_msg_bytes_mut(|bytes| bytes[8..8 + len].copy_from_slice(&request[..len]));
        set_mr(0, len as u64);
        self.said(MessageInfo::new(CALL, 1 + len.div_ceil(8)), read)
    }

    /// Fetches the result of a job and passes the reply to `read`.
    pub fn poll<R>(&self, job: u64, read: impl FnOnce(Reply<'_>) -> R) -> R {
        set_mr(0, job);
        self.said(MessageInfo::new(POLL, 1), read)
    }

    /// Cancels a job.
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
        // SAFETY: the length lies inside the region, which stays mapped for this domain's life. The manager is its only writer,
        // and writes only while it answers a call of this domain. `read` makes no call that could change the bytes. The reference
        // ends with `read`, and this domain has one thread, which runs `read`.
        let text = unsafe { core::slice::from_raw_parts(self.reply.as_ptr(), len) };
        read(Reply::Ended {
            label: info.label(),
            text,
        })
    }
}
