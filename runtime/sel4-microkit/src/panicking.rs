//! Panics, with the upstream crate's names.
//!
//! Owns the panic hook. A panic never unwinds here: it ends the protection domain, and the parent sees a fault.

use crate::cell::Single;
use core::panic::{PanicInfo, UnwindSafe};

/// Function that a panic calls before the domain ends.
pub type PanicHook = &'static (dyn Fn(&PanicInfo<'_>) + Send + Sync);

static HOOK: Single<Option<PanicHook>> = Single::new(None);

/// Sets the hook, which replaces the report. Panics if there is a hook already.
pub fn set_hook(hook: PanicHook) {
    assert!(HOOK.get().is_none(), "the panic hook is set once");
    HOOK.set(Some(hook));
}

/// Calls `f` and returns its result. No panic unwinds, so this never returns an error: a panic in `f` ends the domain.
#[allow(clippy::result_unit_err, reason = "the upstream crate's signature")]
pub fn catch_unwind<R, F: FnOnce() -> R + UnwindSafe>(f: F) -> Result<R, ()> {
    Ok(f())
}

/// Calls the hook. Without one, writes the panic's message to the log, or with the domain's name to the kernel's debug
/// console.
#[cfg(not(test))]
pub(crate) fn report(info: &PanicInfo<'_>) {
    if let Some(hook) = HOOK.get() {
        return hook(info);
    }
    if !crate::log::attached() {
        crate::log!("{}: ", crate::pd_name().unwrap_or("?"));
    }
    if let Some(place) = info.location() {
        crate::log::last_words(format_args!("panicked at {place}:"));
    }
    // A separate line, so that it has the level too.
    crate::log::last_words(format_args!("{}", info.message()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_set_once() {
        assert_eq!(catch_unwind(|| 7), Ok(7));
        set_hook(&|_| {});
        assert!(std::panic::catch_unwind(|| set_hook(&|_| {})).is_err());
    }
}
