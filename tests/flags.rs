//! The flags of `ringspoa` are those of tests/data/flags-ringspoa.txt.

mod kept;
#[path = "kept/flags.rs"]
mod list;

#[test]
fn the_flags_are_the_kept_ones() {
    let flags = list::flags(env!("CARGO_BIN_EXE_ringspoa"));
    assert!(
        flags
            .iter()
            .any(|flag| flag.starts_with("ringspoa serve --listen <")),
        "{flags:#?}"
    );
    let root = env!("CARGO_MANIFEST_DIR");
    kept::compare(
        root,
        "flags-ringspoa.txt",
        &flags,
        "cargo test --test flags",
    );
}
