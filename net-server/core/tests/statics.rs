//! Nothing about a stack is global: the sources of the net-server and of what it is made of have no static that can change.
//!
//! Looks at the sources of this workspace's own crates. The libraries from the registry that the core uses keep no state of
//! their own between calls either; that is not checked here.

use std::path::Path;
use syn::visit::{self, Visit};

/// What lets a shared value change.
const INTERIOR: [&str; 13] = [
    "Cell",
    "RefCell",
    "UnsafeCell",
    "OnceCell",
    "LazyCell",
    "Once",
    "OnceLock",
    "LazyLock",
    "Lazy",
    "Mutex",
    "RwLock",
    "Spinlock",
    "Heap",
];

/// Macros that make statics.
const MACROS: [&str; 3] = ["thread_local", "lazy_static", "static_cell"];

#[derive(Default)]
struct Finder {
    found: Vec<String>,
}

/// Whether a path in a type names something that can change behind a shared reference.
struct Names(bool);

impl<'a> Visit<'a> for Names {
    fn visit_path_segment(&mut self, segment: &'a syn::PathSegment) {
        let name = segment.ident.to_string();
        self.0 |= name.starts_with("Atomic") || INTERIOR.contains(&name.as_str());
        visit::visit_path_segment(self, segment);
    }
    // A raw pointer in a static is a global under another name.
    fn visit_type_ptr(&mut self, _: &'a syn::TypePtr) {
        self.0 = true;
    }
}

impl<'a> Visit<'a> for Finder {
    fn visit_item_static(&mut self, item: &'a syn::ItemStatic) {
        let mut names = Names(matches!(item.mutability, syn::StaticMutability::Mut(_)));
        names.visit_type(&item.ty);
        names.visit_expr(&item.expr);
        if names.0 {
            self.found.push(format!("static {}", item.ident));
        }
    }
    fn visit_foreign_item_static(&mut self, item: &'a syn::ForeignItemStatic) {
        self.found.push(format!("extern static {}", item.ident));
    }
    fn visit_macro(&mut self, mac: &'a syn::Macro) {
        let name = mac
            .path
            .segments
            .last()
            .map(|s| s.ident.to_string())
            .unwrap_or_default();
        if MACROS.contains(&name.as_str()) {
            self.found.push(format!("{name}!"));
        }
    }
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        // What is for tests alone is in no image.
        let test = |a: &syn::Attribute| {
            let mut is = a.path().is_ident("test");
            if a.path().is_ident("cfg") {
                let _ = a.parse_nested_meta(|meta| {
                    is |= meta.path.is_ident("test");
                    Ok(())
                });
            }
            is
        };
        if !item.attrs.iter().any(test) {
            visit::visit_item_mod(self, item);
        }
    }
}

fn find(source: &str) -> Vec<String> {
    let mut finder = Finder::default();
    finder.visit_file(&syn::parse_file(source).expect("Rust"));
    finder.found
}

/// Looks through a folder; returns how many files it has.
fn look(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += look(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files += 1;
            let source = std::fs::read_to_string(&path).expect("a text");
            found.extend(
                find(&source)
                    .into_iter()
                    .map(|what| format!("{}: {what}", path.display())),
            );
        }
    }
    files
}

#[test]
fn the_net_server_has_no_static_that_can_change() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for (folder, least) in [("src", 20), ("../src", 1), ("../../abi/src", 10)] {
        let files = look(&core.join(folder), &mut found);
        assert!(files >= least, "{folder} has only {files} files");
    }
    assert!(
        found.is_empty(),
        "state that is nobody's own:\n{}",
        found.join("\n")
    );
}

#[test]
fn what_can_change_is_found() {
    for (source, expected) in [
        ("static mut COUNT: u32 = 0;", "static COUNT"),
        ("static COUNT: AtomicU64 = AtomicU64::new(0);", "static COUNT"),
        (
            "pub(crate) static LIST: spin::Mutex<Vec<u8>> = spin::Mutex::new(Vec::new());",
            "static LIST",
        ),
        ("static ALL: [core::cell::Cell<u8>; 2] = X;", "static ALL"),
        (
            "static ONCE: std::sync::OnceLock<String> = OnceLock::new();",
            "static ONCE",
        ),
        (
            "static RAW: Shared = Shared(core::ptr::null_mut() as *mut u8);",
            "static RAW",
        ),
        (
            "mod inner { fn f() { static N: AtomicBool = AtomicBool::new(false); } }",
            "static N",
        ),
        ("thread_local! { static X: u8 = 0; }", "thread_local!"),
        (
            "fn f() { std::thread_local! { static X: u8 = 0; } }",
            "thread_local!",
        ),
        ("unsafe extern \"C\" { static end: u8; }", "extern static end"),
    ] {
        assert_eq!(find(source), [expected], "{source}");
    }
    for fine in [
        "static NAMES: [&str; 2] = [\"a\", \"b\"];",
        "const N: AtomicU8 = AtomicU8::new(0);",
        "struct S { c: Cell<u8> }",
        "#[cfg(test)] mod tests { static N: AtomicBool = AtomicBool::new(false); }",
    ] {
        assert_eq!(find(fine), Vec::<String>::new(), "{fine}");
    }
}
