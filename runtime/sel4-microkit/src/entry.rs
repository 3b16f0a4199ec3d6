//! The path from the entry code to the program: the expansion of `#[protection_domain]`.
//!
//! Owns nothing. `start` (the entry code) calls `__sel4_microkit_main`, which the macro defines in the program.

use crate::Handler;
use core::cell::UnsafeCell;

/// Records the reason of the domain's start.
pub fn begin(reason: u64) {
    crate::scrub::set(reason);
}

/// Runs `init`, then handles events forever. An error of the handler is a panic.
pub fn run_main<H: Handler>(init: impl FnOnce() -> H) -> ! {
    match init().run() {
        Err(error) => panic!("{error}"),
    }
}

/// A stack of the program's own, for `#[protection_domain(stack_size = N)]`.
#[repr(C, align(16))]
pub struct Stack<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl<const SIZE: usize> Sync for Stack<SIZE> {}

impl<const SIZE: usize> Stack<SIZE> {
    /// Makes the stack.
    #[allow(clippy::new_without_default, reason = "only the macro makes one")]
    pub const fn new() -> Self {
        assert!(SIZE.is_multiple_of(16), "a stack's size is a multiple of 16");
        Self(UnsafeCell::new([0; SIZE]))
    }

    /// Continues with `main` on this stack.
    ///
    /// # Safety
    /// Nothing else uses the stack.
    pub unsafe fn enter(&'static self, main: extern "C" fn() -> !) -> ! {
        let top = self.0.get().wrapping_add(1);
        // SAFETY: `top` is the end of memory that is writable for the domain's life. It is aligned to 16, because its
        // start and its size are. The caller guarantees that nothing else uses the memory. The old stack is never
        // returned to, because `main` never returns.
        unsafe {
            core::arch::asm!("mov rsp, {top}", "xor ebp, ebp", "call {main}", "ud2",
                top = in(reg) top, main = in(reg) main, options(noreturn));
        }
    }
}

/// Makes a function the protection domain's entry. `#[protection_domain]` expands to this macro.
#[doc(hidden)]
#[macro_export]
macro_rules! declare_protection_domain {
    (init = $init:expr $(, stack_size = $stack_size:expr)? $(, heap_size = $heap_size:expr)? $(,)?) => {
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn __sel4_microkit_main(reason: u64) -> ! {
                $crate::_private::begin(reason);
                $({
                    use $crate::_private::{MaybeUninit, StaticCell};
                    const SIZE: usize = $heap_size;
                    static HEAP: StaticCell<[MaybeUninit<u8>; SIZE]> = StaticCell::new([MaybeUninit::uninit(); SIZE]);
                    $crate::_private::give(HEAP.take());
                })?
                extern "C" fn main() -> ! {
                    $crate::_private::run_main($init)
                }
                $({
                    const SIZE: usize = $stack_size;
                    static STACK: $crate::_private::Stack<SIZE> = $crate::_private::Stack::new();
                    // SAFETY: the stack has no other name, and this function runs once at each start.
                    unsafe { STACK.enter(main) }
                })?
                #[allow(unreachable_code)]
                main()
            }
        };
    };
}
