//! The attribute `#[protection_domain]`, with its name in the upstream crate. It runs in the compiler; no protection
//! domain is on the other side.

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Makes `fn init() -> impl Handler` the entry of the protection domain. The function runs once at each start, and the
/// value that it returns handles all events from then on.
///
/// `heap_size = N` gives the heap that many bytes of the program's own memory. Without it, `sel4_microkit::heap::init`
/// gives the heap a memory region. `stack_size = N` makes the program run on its own stack instead of the one in the
/// system description.
#[proc_macro_attribute]
pub fn protection_domain(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let name = &function.sig.ident;
    let arguments = proc_macro2::TokenStream::from(arguments);
    quote! {
        ::sel4_microkit::declare_protection_domain!(init = #name, #arguments);

        #function
    }
    .into()
}
