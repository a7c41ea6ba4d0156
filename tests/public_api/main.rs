//! The public items of the library are those of tests/data/public-api.txt, one on each line.
//!
//! The list is made from the sources, with signatures as they are written there: a type that gets
//! another meaning by another `use` does not show, nor do auto traits such as `Send`, and the names of
//! parameters show that matter to nobody. What macros of this crate make is expanded before. rustdoc's
//! JSON, which `RUSTC_BOOTSTRAP=1` has a stable toolchain write, tells more, but its format has versions
//! of its own, several since 1.88, and who reads one does not read the next: the list would depend on the
//! toolchain of whoever runs this.

#[path = "../kept/mod.rs"]
mod kept;

mod extract;
mod macros;
mod sources;

use std::fs;
use std::path::Path;

use syn::visit::Visit;

/// The attributes that `#[derive(Message)]` knows, from where it asks for them.
fn derive_attributes(source: &str) -> Vec<String> {
    struct Asked(Vec<String>);
    impl<'ast> Visit<'ast> for Asked {
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            if let (
                true,
                Some(syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(name),
                    ..
                })),
            ) = (call.method == "is_ident", call.args.first())
            {
                self.0.push(name.value());
            }
            syn::visit::visit_expr_method_call(self, call);
        }
    }
    let mut lines = Vec::new();
    for item in syn::parse_file(source).expect("it is Rust").items {
        let syn::Item::Impl(block) = item else {
            continue;
        };
        let of = match &*block.self_ty {
            syn::Type::Path(of) if of.path.is_ident("Message") => "a struct",
            syn::Type::Path(of) if of.path.is_ident("Field") => "a field",
            _ => continue,
        };
        for item in &block.items {
            if let syn::ImplItem::Fn(function) = item
                && function.sig.ident == "attribute"
            {
                let mut asked = Asked(Vec::new());
                asked.visit_impl_item_fn(function);
                lines.extend(
                    asked
                        .0
                        .iter()
                        .map(|name| format!("derive(Message) on {of}: spop({name})")),
                );
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn the_public_items_are_the_kept_ones() {
    let root = env!("CARGO_MANIFEST_DIR");
    let src = Path::new(root).join("src");
    let mut now =
        extract::public_items("ringspoa", &|path| fs::read_to_string(src.join(path)).ok());
    let derive = Path::new(root).join("derive/src/attributes.rs");
    now.extend(derive_attributes(&fs::read_to_string(derive).unwrap()));
    for expected in [
        "ringspoa::Server::join: pub fn join(self) -> Result<Stats, WorkerPanicked> #[cfg(feature = \"server\")]",
        "ringspoa::spop::StreamId: pub struct StreamId(pub u64)",
        "ringspoa::derived: #[doc(hidden)]",
        "derive(Message) on a struct: spop(deny_unknown_arguments)",
    ] {
        assert!(
            now.iter().any(|line| line == expected),
            "not found: {expected}"
        );
    }
    kept::compare(root, "public-api.txt", &now, "cargo test --test public_api");
}

const BEFORE: &str = r#"
pub mod codec;
mod settings {
    mod faults {
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum Fault { Full, Late { by: u32 } }
        macro_rules! fault { ($($from:ty => $what:expr),*) => {$(
            impl From<$from> for Fault { fn from(_: $from) -> Self { $what } }
        )*} }
        fault! { u8 => Fault::Full, u16 => Fault::Full }
    }
    pub use faults::Fault;

    #[derive(Clone, Debug)]
    pub struct Settings<'a> { pub size: u32, pub name: &'a str }
    pub struct Id(pub u64, pub(crate) u8);
    impl Settings<'_> {
        pub const LARGEST: u32 = 7;
        pub fn check(&self, mut limit: u32) -> Result<(), Fault> { Ok(()) }
        fn inner(&self) {}
    }
    struct Inner;
    impl From<Inner> for Id { fn from(_: Inner) -> Self { Self(0, 0) } }
    #[cfg(test)]
    mod tests { pub struct Tested; }
}
#[cfg(feature = "std")]
pub use settings::Id;
pub use settings::{Fault, Settings};
pub trait Agent {
    type Answer: Clone;
    fn answer(&mut self) -> Self::Answer;
    fn name(&self) -> &str { "" }
}
"#;

fn items(lib: &str) -> Vec<String> {
    extract::public_items("it", &|path| match path.to_str()? {
        "lib.rs" => Some(lib.to_owned()),
        "codec/mod.rs" => Some("pub fn split(input: &[u8]) -> Option<usize> { None }".to_owned()),
        _ => None,
    })
}

#[test]
fn the_list_has_what_is_exported_and_nothing_else() {
    let expected = "\
it::Agent: pub trait Agent
it::Agent::Answer: required type Answer: Clone
it::Agent::answer: required fn answer(&mut self) -> Self::Answer
it::Agent::name: provided fn name(&self) -> &str
it::Fault: #[non_exhaustive] pub enum Fault
it::Fault: impl Debug for Fault
it::Fault: impl From<u16> for Fault
it::Fault: impl From<u8> for Fault
it::Fault::Full: Full
it::Fault::Late: Late { by: u32 }
it::Id: pub struct Id(pub u64, _) #[cfg(feature = \"std\")]
it::Settings: impl Clone for Settings<'_>
it::Settings: impl Debug for Settings<'_>
it::Settings: pub struct Settings<'a>
it::Settings::LARGEST: pub const LARGEST: u32
it::Settings::check: pub fn check(&self, limit: u32) -> Result<(), Fault>
it::Settings::name: pub &'a str
it::Settings::size: pub u32
it::codec: pub mod
it::codec::split: pub fn split(input: &[u8]) -> Option<usize>";
    assert_eq!(items(BEFORE), expected.lines().collect::<Vec<_>>());
}

#[test]
fn changes_are_seen() {
    // A change, the lines that go, the lines that come.
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        (
            "pub trait Agent",
            "pub fn serve(port: u16) {} pub trait Agent",
            &[],
            &["it::serve: pub fn serve(port: u16)"],
        ),
        ("pub size: u32, ", "", &["it::Settings::size: pub u32"], &[]),
        (
            "pub size: u32",
            "size: u32",
            &[
                "it::Settings: pub struct Settings<'a>",
                "it::Settings::size: pub u32",
            ],
            &["it::Settings: pub struct Settings<'a> (private fields)"],
        ),
        (
            "mut limit: u32",
            "limit: u64",
            &["it::Settings::check: pub fn check(&self, limit: u32) -> Result<(), Fault>"],
            &["it::Settings::check: pub fn check(&self, limit: u64) -> Result<(), Fault>"],
        ),
        (
            "pub const LARGEST",
            "pub(crate) const LARGEST",
            &["it::Settings::LARGEST: pub const LARGEST: u32"],
            &[],
        ),
        (
            "Full, Late",
            "Full, Early(u8), Late",
            &[],
            &["it::Fault::Early: Early(u8)"],
        ),
        (
            "#[non_exhaustive]",
            "",
            &["it::Fault: #[non_exhaustive] pub enum Fault"],
            &["it::Fault: pub enum Fault"],
        ),
        (
            "#[cfg(feature = \"std\")]",
            "#[cfg(feature = \"server\")]",
            &["it::Id: pub struct Id(pub u64, _) #[cfg(feature = \"std\")]"],
            &["it::Id: pub struct Id(pub u64, _) #[cfg(feature = \"server\")]"],
        ),
        (
            "derive(Clone, Debug)",
            "derive(Debug)",
            &["it::Settings: impl Clone for Settings<'_>"],
            &[],
        ),
        (
            "u16 => Fault::Full",
            "",
            &["it::Fault: impl From<u16> for Fault"],
            &[],
        ),
        (
            "fn name(&self) -> &str { \"\" }",
            "fn name(&self) -> &str;",
            &["it::Agent::name: provided fn name(&self) -> &str"],
            &["it::Agent::name: required fn name(&self) -> &str"],
        ),
        (
            "pub const LARGEST",
            "#[doc(hidden)] pub const LARGEST",
            &["it::Settings::LARGEST: pub const LARGEST: u32"],
            &["it::Settings::LARGEST: #[doc(hidden)]"],
        ),
        (
            "pub use settings::{Fault, Settings}",
            "pub use settings::{Fault, Settings as Options}",
            &[
                "it::Settings: impl Clone for Settings<'_>",
                "it::Settings: impl Debug for Settings<'_>",
                "it::Settings: pub struct Settings<'a>",
                "it::Settings::LARGEST: pub const LARGEST: u32",
                "it::Settings::check: pub fn check(&self, limit: u32) -> Result<(), Fault>",
                "it::Settings::name: pub &'a str",
                "it::Settings::size: pub u32",
            ],
            &[
                "it::Options: impl Clone for Settings<'_>",
                "it::Options: impl Debug for Settings<'_>",
                "it::Options: pub struct Settings<'a>",
                "it::Options::LARGEST: pub const LARGEST: u32",
                "it::Options::check: pub fn check(&self, limit: u32) -> Result<(), Fault>",
                "it::Options::name: pub &'a str",
                "it::Options::size: pub u32",
            ],
        ),
        // What nobody outside can tell.
        ("LARGEST: u32 = 7", "LARGEST: u32 = 8", &[], &[]),
        (
            "fn inner(&self) {}",
            "fn inside(&self, count: u8) {}",
            &[],
            &[],
        ),
        ("struct Inner;", "pub struct Inner;", &[], &[]),
        (
            "#[derive(Debug)]\n        #[non_exhaustive]",
            "impl std::fmt::Debug for Fault {}\n        #[non_exhaustive]",
            &[],
            &[],
        ),
    ];
    let before = items(BEFORE);
    for (from, to, gone, new) in cases {
        assert_eq!(BEFORE.matches(from).count(), 1, "{from}");
        let after = items(&BEFORE.replace(from, to));
        assert_eq!(kept::missing(&before, &after), *gone, "{from} becomes {to}");
        assert_eq!(kept::missing(&after, &before), *new, "{from} becomes {to}");
    }
}
