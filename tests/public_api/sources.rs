//! The modules of a crate as trees, with what macros make in its place, and names followed to what they
//! stand for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use quote::ToTokens;
use syn::{Attribute, Ident, Item, UseTree, Visibility};

use crate::macros::Rules;

/// The text of a file, by its path from the folder of lib.rs.
pub(crate) type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The modules of a crate by their paths, as in `crate::spop::ack`.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) modules: BTreeMap<String, Module>,
    macros: HashMap<String, Rules>,
}

pub(crate) struct Module {
    pub(crate) cfgs: Vec<String>,
    pub(crate) items: Vec<Item>,
    /// What it defines.
    names: HashSet<String>,
    /// A name may stand for a type and for a macro: it is here twice then.
    pub(crate) imports: Vec<Import>,
}

pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) is_public: bool,
    pub(crate) is_hidden: bool,
    pub(crate) cfgs: Vec<String>,
}

impl Sources {
    /// The crate whose lib.rs this reads.
    pub(crate) fn read(read: Read<'_>) -> Self {
        let root = read(Path::new("lib.rs")).expect("there is a lib.rs");
        let root = syn::parse_file(&root).expect("lib.rs is Rust").items;
        let mut sources = Self::default();
        sources.load("crate", Path::new(""), root, &[], read);
        sources
    }

    /// Takes a module in, and those below it, whose files are in `folder`.
    fn load(
        &mut self,
        path: &str,
        folder: &Path,
        all: Vec<Item>,
        above: &[String],
        read: Read<'_>,
    ) {
        let (mut names, mut imports) = (HashSet::new(), Vec::new());
        let mut items = Vec::new();
        self.expand(all, &mut items);
        for item in &items {
            match item {
                Item::Mod(child) => {
                    let name = child.ident.to_string();
                    let folder = folder.join(&name);
                    let children = child.content.as_ref().map_or_else(
                        || {
                            let text = read(&folder.with_extension("rs"))
                                .or_else(|| read(&folder.join("mod.rs")))
                                .unwrap_or_else(|| panic!("module {path}::{name} has no file"));
                            syn::parse_file(&text).expect("a source is Rust").items
                        },
                        |(_, items)| items.clone(),
                    );
                    let cfgs = with(above, cfgs(&child.attrs));
                    self.load(&format!("{path}::{name}"), &folder, children, &cfgs, read);
                }
                Item::Use(import) => flatten(&import.tree, &[], &mut |name, path| {
                    let is_public = matches!(import.vis, Visibility::Public(_));
                    assert!(
                        name != "*" || !is_public,
                        "{path:?}: list by name what is exported"
                    );
                    imports.push(Import {
                        name,
                        path,
                        is_public,
                        is_hidden: is_hidden(&import.attrs),
                        cfgs: cfgs(&import.attrs),
                    });
                }),
                other => names.extend(parts(other).0.map(|(name, _)| name.to_string())),
            }
        }
        let module = Module {
            cfgs: above.to_vec(),
            items,
            names,
            imports,
        };
        self.modules.insert(path.to_owned(), module);
    }

    /// Puts what macros make in their place, and leaves out what only tests see.
    fn expand(&mut self, items: Vec<Item>, all: &mut Vec<Item>) {
        for item in items {
            if is_for_tests(parts(&item).1) {
                continue;
            }
            let Item::Macro(syn::ItemMacro { ident, mac, .. }) = item else {
                all.push(item);
                continue;
            };
            let name = ident
                .as_ref()
                .or_else(|| mac.path.get_ident())
                .expect("it has a name");
            let name = name.to_string();
            if mac.path.is_ident("macro_rules") {
                let rules = syn::parse2(mac.tokens).expect("macro_rules! has rules");
                self.macros.insert(name, rules);
            } else if let Some(rules) = self.macros.get(&name) {
                let made = rules.expand(&mac.tokens).and_then(syn::parse2::<syn::File>);
                let made =
                    made.unwrap_or_else(|error| panic!("macros.rs cannot do {name}!: {error}"));
                self.expand(made.items, all);
            } else {
                assert_eq!(name, "thread_local", "what does this macro define?");
            }
        }
    }

    /// Where that is defined which a module calls `path`; `None` if in another crate.
    pub(crate) fn follow(&self, module: &str, path: &[String]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let found = match first.as_str() {
            "crate" => "crate".to_owned(),
            "self" => module.to_owned(),
            "super" => module.rsplit_once("::")?.0.to_owned(),
            name => self.find(module, name)?,
        };
        match rest {
            [] => Some(found),
            rest if self.modules.contains_key(&found) => self.follow(&found, rest),
            // A variant or an associated item: what it belongs to.
            _ => Some(found),
        }
    }

    fn find(&self, at: &str, name: &str) -> Option<String> {
        let (path, module) = (format!("{at}::{name}"), self.modules.get(at)?);
        if module.names.contains(name) || self.modules.contains_key(&path) {
            return Some(path);
        }
        // `use one::one` names a crate.
        let mut imports = module
            .imports
            .iter()
            .filter(|i| i.name == name && i.path[0] != name);
        imports.find_map(|import| self.follow(at, &import.path))
    }
}

pub(crate) fn is_hidden(attrs: &[Attribute]) -> bool {
    let docs = attrs.iter().filter(|a| a.path().is_ident("doc"));
    docs.filter_map(|a| a.parse_args::<Ident>().ok())
        .any(|what| what == "hidden")
}

/// The conditions of an item, as they are written.
pub(crate) fn cfgs(attrs: &[Attribute]) -> Vec<String> {
    let lists = attrs
        .iter()
        .filter(|a| a.path().is_ident("cfg"))
        .map(|a| &a.meta);
    let texts = lists.map(|list| format!("#[{}]", list.to_token_stream()));
    texts
        .map(|text| text.replace(" (", "("))
        .filter(|text| text != "#[cfg(not(test))]")
        .collect()
}

pub(crate) fn is_for_tests(attrs: &[Attribute]) -> bool {
    cfgs(attrs).iter().any(|cfg| cfg == "#[cfg(test)]")
}

pub(crate) fn with(outer: &[String], inner: Vec<String>) -> Vec<String> {
    let new = inner.into_iter().filter(|cfg| !outer.contains(cfg));
    outer.iter().cloned().chain(new).collect()
}

/// The names that a `use` brings, each with its path; `*` is one.
fn flatten(tree: &UseTree, outer: &[String], take: &mut dyn FnMut(String, Vec<String>)) {
    let path = |name: &Ident| [outer, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(tree) => flatten(&tree.tree, &path(&tree.ident), take),
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| flatten(tree, outer, take)),
        UseTree::Name(name) if name.ident == "self" => {
            take(
                outer.last().expect("it is in braces").clone(),
                outer.to_vec(),
            );
        }
        UseTree::Name(name) => take(name.ident.to_string(), path(&name.ident)),
        UseTree::Rename(tree) => take(tree.rename.to_string(), path(&tree.ident)),
        UseTree::Glob(_) => take("*".to_owned(), outer.to_vec()),
    }
}

/// Name and visibility of what can be exported, and the attributes of all that matters here.
pub(crate) fn parts(item: &Item) -> (Option<(&Ident, &Visibility)>, &[Attribute]) {
    match item {
        Item::Fn(item) => (Some((&item.sig.ident, &item.vis)), &item.attrs),
        Item::Struct(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Enum(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Trait(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Const(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Static(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Type(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Union(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Mod(item) => (Some((&item.ident, &item.vis)), &item.attrs),
        Item::Impl(item) => (None, &item.attrs),
        Item::Use(item) => (None, &item.attrs),
        Item::Macro(item) => (None, &item.attrs),
        _ => (None, &[]),
    }
}
