//! The attribute `#[protection_domain]`, by the name it has in the upstream crate.

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Makes `fn init() -> impl Handler` the entry of the protection domain: it runs once at each start, and what it
/// returns handles all events from then on. Stack size and heap are the system description's, so there are no arguments.
#[proc_macro_attribute]
pub fn protection_domain(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        let message =
            "no arguments: the stack's size is in the system description, a heap is a memory region";
        return quote!(compile_error!(#message);).into();
    }
    let function = parse_macro_input!(item as ItemFn);
    let name = &function.sig.ident;
    quote! {
        #function

        #[unsafe(no_mangle)]
        extern "C" fn __sel4_microkit_main(reason: u64) -> ! {
            ::sel4_microkit::scrub::set(reason);
            ::sel4_microkit::run(#name)
        }
    }
    .into()
}
