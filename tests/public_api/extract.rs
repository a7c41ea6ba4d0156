//! The public items of a crate, from its sources.

use std::collections::HashMap;

use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Fields, GenericParam, ImplItem, Item, ItemImpl, Signature, Token, TraitItem, Type,
    Visibility, parse_quote,
};

use crate::sources::{Module, Read, Sources, cfgs, is_for_tests, is_hidden, parts, with};

/// One line for each public item of the crate `name`, sorted.
pub(crate) fn public_items(name: &str, read: Read<'_>) -> Vec<String> {
    let sources = Sources::read(read);
    let mut list = List {
        sources: &sources,
        exported_as: HashMap::new(),
        lines: Vec::new(),
    };
    for export in list.exports("crate", name, &[]) {
        list.item(&export);
    }
    for (path, module) in &sources.modules {
        for item in &module.items {
            if let Item::Impl(block) = item {
                list.implementation(path, block, &with(&module.cfgs, cfgs(&block.attrs)));
            }
        }
    }
    list.lines.sort();
    list.lines.dedup();
    list.lines
}

/// A definition, and where it is exported.
struct Export<'s> {
    path: String,
    module: &'s str,
    item: &'s Item,
    cfgs: Vec<String>,
}

struct List<'s> {
    sources: &'s Sources,
    /// The paths of definitions outside.
    exported_as: HashMap<String, String>,
    lines: Vec<String>,
}

impl<'s> List<'s> {
    fn line(&mut self, path: &str, what: &str, cfgs: &[String]) {
        let cfgs: String = cfgs.iter().map(|cfg| format!(" {cfg}")).collect();
        self.lines.push(format!("{path}: {what}{cfgs}"));
    }

    /// What a module exports, and the public ones below it.
    fn exports(&mut self, at: &str, path: &str, above: &[String]) -> Vec<Export<'s>> {
        let mut all = Vec::new();
        let module = &self.sources.modules[at];
        for item in &module.items {
            if let (Some((name, Visibility::Public(_))), attrs) = parts(item) {
                let (target, path) = (format!("{at}::{name}"), format!("{path}::{name}"));
                all.extend(self.export(&target, &path, is_hidden(attrs), above));
            }
        }
        for import in module.imports.iter().filter(|import| import.is_public) {
            let path = format!("{path}::{}", import.name);
            let cfgs = with(above, import.cfgs.clone());
            match self.sources.follow(at, &import.path) {
                Some(target) => all.extend(self.export(&target, &path, import.is_hidden, &cfgs)),
                None => self.line(&path, &format!("pub use {}", import.path.join("::")), &cfgs),
            }
        }
        all
    }

    fn export(
        &mut self,
        target: &str,
        path: &str,
        hidden: bool,
        above: &[String],
    ) -> Vec<Export<'s>> {
        let (module, name) = target.rsplit_once("::").expect("it is in a module");
        let (
            module,
            Module {
                cfgs: outer, items, ..
            },
        ) = self
            .sources
            .modules
            .get_key_value(module)
            .expect("it is in a module");
        let is_it = |item: &&Item| parts(item).0.is_some_and(|(ident, _)| ident == name);
        let item = items.iter().find(is_it).expect("it was found there before");
        let attrs = parts(item).1;
        let cfgs = with(&with(above, outer.clone()), cfgs(attrs));
        if hidden || is_hidden(attrs) {
            self.line(path, "#[doc(hidden)]", &cfgs);
            return Vec::new();
        }
        if let Item::Mod(_) = item {
            self.line(path, "pub mod", &cfgs);
            return self.exports(target, path, &cfgs);
        }
        self.exported_as
            .entry(target.to_owned())
            .or_insert_with(|| path.to_owned());
        let path = path.to_owned();
        vec![Export {
            path,
            module,
            item,
            cfgs,
        }]
    }

    fn item(&mut self, export: &Export<'_>) {
        let (path, mut header) = (&export.path, export.item.clone());
        match &mut header {
            Item::Fn(item) => *item.block = parse_quote!({}),
            Item::Const(item) => *item.expr = parse_quote!(_),
            Item::Type(_) => {}
            Item::Struct(item) => self.structure(export, item),
            Item::Enum(item) => {
                for variant in std::mem::take(&mut item.variants) {
                    let cfgs = with(&export.cfgs, cfgs(&variant.attrs));
                    let one: syn::ItemEnum = parse_quote!(enum E { #variant });
                    let shown = text(one.into());
                    let shown = shown
                        .strip_prefix("enum E { ")
                        .and_then(|s| s.strip_suffix(" }"));
                    self.line(
                        &format!("{path}::{}", variant.ident),
                        shown.expect("it is in E"),
                        &cfgs,
                    );
                }
            }
            Item::Trait(item) => {
                for item in std::mem::take(&mut item.items) {
                    self.trait_item(export, &item);
                }
            }
            _ => panic!("{path} is of a kind that extract.rs does not know"),
        }
        let open =
            matches!(export.item, Item::Struct(item) if item.fields.iter().all(is_public_field));
        let note = match &header {
            Item::Struct(item) if !open && item.fields.is_empty() => " (private fields)",
            _ => "",
        };
        self.line(path, &(text(header) + note), &export.cfgs);
        self.derived(export);
    }

    /// Lists public fields by name, and leaves a header: unnamed ones are in it.
    fn structure(&mut self, export: &Export<'_>, item: &mut syn::ItemStruct) {
        for field in &mut item.fields {
            match &field.ident {
                Some(name) if is_public_field(field) => {
                    let path = format!("{}::{name}", export.path);
                    let cfgs = with(&export.cfgs, cfgs(&field.attrs));
                    self.line(
                        &path,
                        &shown(&field.attrs, || format!("pub {}", type_text(&field.ty))),
                        &cfgs,
                    );
                }
                None if !is_public_field(field) => {
                    (field.vis, field.ty) = (Visibility::Inherited, parse_quote!(_));
                }
                _ => {}
            }
        }
        if let Fields::Named(_) = item.fields {
            item.fields = Fields::Unit;
        }
    }

    fn trait_item(&mut self, export: &Export<'_>, item: &TraitItem) {
        let (attrs, name, text, is_provided) = match item {
            TraitItem::Fn(item) => {
                let text = signature(&Visibility::Inherited, &item.sig);
                (&item.attrs, &item.sig.ident, text, item.default.is_some())
            }
            TraitItem::Const(item) => {
                let text = format!("const {}: {}", item.ident, type_text(&item.ty));
                (&item.attrs, &item.ident, text, item.default.is_some())
            }
            TraitItem::Type(item) => {
                let (name, generics, bounds) = (&item.ident, &item.generics, &item.bounds);
                let shown = if bounds.is_empty() {
                    quote!()
                } else {
                    quote!(: #bounds)
                };
                let shown: TraitItem = parse_quote!(type #name #generics #shown;);
                let shown = text(parse_quote!(trait T { #shown }));
                let text = shown
                    .trim_start_matches("trait T { ")
                    .trim_end_matches("; }");
                (
                    &item.attrs,
                    &item.ident,
                    text.to_owned(),
                    item.default.is_some(),
                )
            }
            _ => panic!(
                "{}: an item is of a kind that extract.rs does not know",
                export.path
            ),
        };
        let kind = if is_provided { "provided" } else { "required" };
        let text = format!("{kind} {}", shown(attrs, || text));
        self.line(
            &format!("{}::{name}", export.path),
            &text,
            &with(&export.cfgs, cfgs(attrs)),
        );
    }

    /// A derived trait is shown as an implemented one: which of the two it is matters to nobody.
    fn derived(&mut self, export: &Export<'_>) {
        let (name, generics) = match export.item {
            Item::Struct(item) => (&item.ident, &item.generics),
            Item::Enum(item) => (&item.ident, &item.generics),
            _ => return,
        };
        let derives = parts(export.item)
            .1
            .iter()
            .filter(|a| a.path().is_ident("derive"));
        for of in derives.flat_map(traits) {
            let (mut parameters, mut arguments) = (Vec::new(), Vec::new());
            for parameter in generics.params.clone() {
                match parameter {
                    GenericParam::Lifetime(_) => arguments.push(quote!('_)),
                    GenericParam::Type(mut parameter) => {
                        parameter.default = None;
                        parameter.bounds.push(parse_quote!(#of));
                        arguments.push(parameter.ident.to_token_stream());
                        parameters.push(parameter);
                    }
                    GenericParam::Const(_) => panic!("{} has a constant parameter", export.path),
                }
            }
            let bounds = &generics.where_clause;
            let block =
                parse_quote! { impl<#(#parameters),*> #of for #name<#(#arguments),*> #bounds {} };
            self.implementation(export.module, &block, &export.cfgs);
        }
    }

    /// An `impl` that names exported items and no private ones.
    fn implementation(&mut self, module: &str, block: &ItemImpl, outer: &[String]) {
        let mut named = Paths::default();
        named.visit_type(&block.self_ty);
        if let Some((_, of, _)) = &block.trait_ {
            named.visit_path(of);
        }
        let ours = named
            .0
            .iter()
            .filter_map(|path| self.sources.follow(module, path));
        let exported: Option<Vec<_>> = ours.map(|of| self.exported_as.get(&of)).collect();
        let Some(path) = exported.and_then(|exported| exported.first().map(|&p| p.clone())) else {
            return;
        };
        let mut header = block.clone();
        header
            .items
            .retain(|item| matches!(item, ImplItem::Type(_)));
        if let Some((_, of, _)) = &mut header.trait_ {
            *of = of
                .segments
                .last()
                .expect("a trait has a name")
                .clone()
                .into();
            return self.line(&path, &text(header.into()), outer);
        }
        let is_bare = header.generics.type_params().next().is_none()
            && header.generics.where_clause.is_none();
        let within = if is_bare {
            String::new()
        } else {
            format!(" in {}", text(header.into()))
        };
        for item in &block.items {
            let (attrs, vis, name, text) = match item {
                ImplItem::Fn(item) => {
                    let text = signature(&item.vis, &item.sig);
                    (&item.attrs, &item.vis, &item.sig.ident, text)
                }
                ImplItem::Const(item) => {
                    let text = format!("pub const {}: {}", item.ident, type_text(&item.ty));
                    (&item.attrs, &item.vis, &item.ident, text)
                }
                _ => panic!("{path}: an item is of a kind that extract.rs does not know"),
            };
            if matches!(vis, Visibility::Public(_)) && !is_for_tests(attrs) {
                let text = shown(attrs, || text + &within);
                self.line(&format!("{path}::{name}"), &text, &with(outer, cfgs(attrs)));
            }
        }
    }
}

fn traits(derive: &Attribute) -> Punctuated<syn::Path, Token![,]> {
    let traits = derive.parse_args_with(Punctuated::parse_terminated);
    traits.expect("a list of traits")
}

/// The paths in a type or a trait.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(
            path.segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect(),
        );
        syn::visit::visit_path(self, path);
    }
}

/// Leaves the attributes that callers feel.
struct Attributes;

impl VisitMut for Attributes {
    fn visit_attributes_mut(&mut self, attrs: &mut Vec<Attribute>) {
        attrs.retain(|a| a.path().is_ident("non_exhaustive") || a.path().is_ident("repr"));
    }

    fn visit_pat_ident_mut(&mut self, pattern: &mut syn::PatIdent) {
        pattern.mutability = None;
    }

    fn visit_receiver_mut(&mut self, receiver: &mut syn::Receiver) {
        if receiver.reference.is_none() {
            receiver.mutability = None;
        }
    }
}

/// An item on one line, without its body if that is empty.
fn text(mut item: Item) -> String {
    Attributes.visit_item_mut(&mut item);
    let file = syn::File {
        shebang: None,
        attrs: Vec::new(),
        items: vec![item],
    };
    let lines = prettyplease::unparse(&file);
    let mut line = lines.split_whitespace().collect::<Vec<_>>().join(" ");
    for (long, short) in [
        ("( ", "("),
        ("< ", "<"),
        (", )", ")"),
        (", >", ">"),
        (", }", " }"),
        (" = _;", ""),
    ] {
        line = line.replace(long, short);
    }
    let line = line.trim_end_matches(" {}").trim_end_matches([';', ',']);
    line.to_owned()
}

fn signature(vis: &Visibility, sig: &Signature) -> String {
    text(parse_quote!(#vis #sig {}))
}

fn type_text(of: &Type) -> String {
    text(parse_quote!(type T = #of;)).replace("type T = ", "")
}

fn shown(attrs: &[Attribute], text: impl FnOnce() -> String) -> String {
    if is_hidden(attrs) {
        "#[doc(hidden)]".to_owned()
    } else {
        text()
    }
}

fn is_public_field(field: &syn::Field) -> bool {
    matches!(field.vis, Visibility::Public(_))
}
