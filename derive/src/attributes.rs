//! What is written on a struct and its fields, checked.

use std::collections::HashMap;

use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericParam, Ident, Lifetime, LitStr, Path,
    Result, Token, Type, token,
};

/// The events of HAProxy's `event` line (doc/SPOE.txt, 2.5).
const EVENTS: [&str; 8] = [
    "on-client-session",
    "on-server-session",
    "on-frontend-tcp-request",
    "on-backend-tcp-request",
    "on-tcp-response",
    "on-frontend-http-request",
    "on-backend-http-request",
    "on-http-response",
];

/// A message: the struct.
pub(crate) struct Message {
    pub(crate) ident: Ident,
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) name: String,
    pub(crate) event: Option<String>,
    pub(crate) condition: Option<String>,
    pub(crate) denies_unknown: bool,
    /// Where ringspoa is.
    pub(crate) ringspoa: Path,
    pub(crate) fields: Vec<Field>,
}

/// An argument: a field.
pub(crate) struct Field {
    pub(crate) ident: Ident,
    pub(crate) value: Type,
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) sample: Option<String>,
    pub(crate) has_default: bool,
}

impl Message {
    pub(crate) fn of(input: &DeriveInput) -> Result<Self> {
        let Data::Struct(data) = &input.data else {
            return Err(Error::new(
                input.ident.span(),
                "a message is a struct; for several messages, give a Router several structs",
            ));
        };
        let named = match &data.fields {
            Fields::Named(fields) => fields.named.iter().collect(),
            Fields::Unit => Vec::new(),
            Fields::Unnamed(fields) => {
                return Err(Error::new_spanned(
                    fields,
                    "a message is a struct with named fields: their names are those of its arguments",
                ));
            }
        };
        let mut message = Self {
            ident: input.ident.clone(),
            lifetime: lifetime(input)?,
            name: kebab_case(&input.ident.to_string()),
            event: None,
            condition: None,
            denies_unknown: false,
            ringspoa: syn::parse_quote!(::ringspoa),
            fields: Vec::new(),
        };
        each(&input.attrs, |meta| message.attribute(meta))?;
        if named.len() > 255 {
            return Err(Error::new(
                input.ident.span(),
                "a message has at most 255 arguments: their count is one byte on the wire",
            ));
        }
        message.fields = named.into_iter().map(Field::of).collect::<Result<_>>()?;
        message.check_names()?;
        Ok(message)
    }

    fn attribute(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("name") {
            self.name = word(meta, "a message")?;
        } else if meta.path.is_ident("event") {
            let event = text(meta)?;
            if !EVENTS.contains(&event.value().as_str()) {
                let events = EVENTS.join(", ");
                return Err(Error::new(
                    event.span(),
                    format!("HAProxy has no such event; it has {events}"),
                ));
            }
            self.event = Some(event.value());
        } else if meta.path.is_ident("condition") {
            let condition = text(meta)?;
            if !condition.value().starts_with("if ") && !condition.value().starts_with("unless ") {
                return Err(Error::new(
                    condition.span(),
                    "a condition begins with `if` or `unless`, as in \"if { path_beg /api }\"",
                ));
            }
            self.condition = Some(one_line(&condition, "a condition")?);
        } else if meta.path.is_ident("deny_unknown_arguments") {
            no_value(meta)?;
            self.denies_unknown = true;
        } else if meta.path.is_ident("crate") {
            self.ringspoa = text(meta)?.parse()?;
        } else {
            return Err(unknown(
                meta,
                "a message has name, event, condition, deny_unknown_arguments and crate",
            ));
        }
        Ok(())
    }

    /// Every name leads to one field.
    fn check_names(&self) -> Result<()> {
        let mut taken: HashMap<&str, &Ident> = HashMap::new();
        for field in &self.fields {
            for name in std::iter::once(&field.name).chain(&field.aliases) {
                if let Some(other) = taken.insert(name, &field.ident) {
                    return Err(Error::new(
                        field.ident.span(),
                        format!(
                            "argument {name} is that of field `{other}` already: a name or an alias leads to one field"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Field {
    fn of(field: &syn::Field) -> Result<Self> {
        let ident = field
            .ident
            .clone()
            .ok_or_else(|| Error::new_spanned(field, "a field has a name"))?;
        let mut this = Self {
            name: syn::ext::IdentExt::unraw(&ident).to_string(),
            ident,
            value: field.ty.clone(),
            aliases: Vec::new(),
            sample: None,
            has_default: false,
        };
        each(&field.attrs, |meta| this.attribute(meta))?;
        Ok(this)
    }

    fn attribute(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("name") {
            self.name = word(meta, "an argument")?;
        } else if meta.path.is_ident("alias") {
            self.aliases.push(word(meta, "an argument")?);
        } else if meta.path.is_ident("sample") {
            let sample = text(meta)?;
            if sample.value().trim().is_empty() {
                return Err(Error::new(
                    sample.span(),
                    "a sample is what HAProxy fetches, as in \"src\" or \"req.hdr(user-agent)\"",
                ));
            }
            self.sample = Some(one_line(&sample, "a sample")?);
        } else if meta.path.is_ident("default") {
            no_value(meta)?;
            self.has_default = true;
        } else {
            return Err(unknown(
                meta,
                "an argument has name, alias, sample and default",
            ));
        }
        Ok(())
    }
}

/// The one lifetime of a message, if it borrows.
fn lifetime(input: &DeriveInput) -> Result<Option<Lifetime>> {
    let mut found = None;
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(parameter) if found.is_none() => {
                if !parameter.bounds.is_empty() {
                    return Err(Error::new_spanned(
                        parameter,
                        "the lifetime takes no bounds: it is that of the frame a message is read from",
                    ));
                }
                found = Some(parameter.lifetime.clone());
            }
            GenericParam::Lifetime(parameter) => {
                return Err(Error::new_spanned(
                    parameter,
                    "a message borrows from one frame: give it one lifetime",
                ));
            }
            other => {
                return Err(Error::new_spanned(
                    other,
                    "a message has no parameter but one lifetime: its arguments are of one type each",
                ));
            }
        }
    }
    Ok(found)
}

/// Takes what is in `#[spop(...)]`, where only an alias may be given twice.
fn each(
    attributes: &[Attribute],
    mut take: impl FnMut(&ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    let mut given = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("spop")) {
        attribute.parse_nested_meta(|meta| {
            let key = key(&meta);
            if key != "alias" && given.contains(&key) {
                return Err(meta.error(format!("`{key}` is given already")));
            }
            given.push(key);
            take(&meta)
        })?;
    }
    Ok(())
}

fn key(meta: &ParseNestedMeta<'_>) -> String {
    let names = meta
        .path
        .segments
        .iter()
        .map(|segment| segment.ident.to_string());
    names.collect::<Vec<_>>().join("::")
}

fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> Error {
    meta.error(format!("`{}` is not known here: {known}", key(meta)))
}

/// The value of `key = "value"`.
fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let key = key(meta);
    let wrong = |span| Error::new(span, format!("`{key}` takes text: {key} = \"...\""));
    if !meta.input.peek(Token![=]) {
        return Err(wrong(meta.path.span()));
    }
    let value = meta.value()?;
    value.parse().map_err(|error| wrong(error.span()))
}

fn no_value(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) || meta.input.peek(token::Paren) {
        return Err(meta.error(format!("`{}` stands alone: it takes no value", key(meta))));
    }
    Ok(())
}

/// A name as HAProxy's configuration takes it: one word.
fn word(meta: &ParseNestedMeta<'_>, whose: &str) -> Result<String> {
    let literal = text(meta)?;
    let name = literal.value();
    let bad = |reason: &str| {
        Err(Error::new(
            literal.span(),
            format!("the name of {whose} {reason}"),
        ))
    };
    if name.is_empty() {
        return bad("must not be empty");
    }
    if name.len() > 255 {
        return bad("has at most 255 bytes");
    }
    // HAProxy takes what is before the first `=`, up to a space; quotes and `#` mean something to it.
    let is_bad = |c: char| !c.is_ascii_graphic() || matches!(c, '=' | '"' | '\'' | '#' | '\\');
    if name.contains(is_bad) {
        return bad("is one word, without spaces, quotes, '=', '#' and '\\'");
    }
    Ok(name)
}

/// Text that goes into a line of a configuration.
fn one_line(literal: &LitStr, what: &str) -> Result<String> {
    let text = literal.value();
    if text.contains(char::is_control) {
        return Err(Error::new(
            literal.span(),
            format!(
                "{what} is on one line of a configuration: it has no line breaks or other control characters"
            ),
        ));
    }
    Ok(text)
}

/// `CheckClientIp` is `check-client-ip`, `HTTPRequest` is `http-request`.
fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (index, &letter) in letters.iter().enumerate() {
        let is_upper = |index: usize| letters.get(index).is_some_and(|c| c.is_uppercase());
        let is_lower = |index: usize| letters.get(index).is_some_and(|c| c.is_lowercase());
        // A word begins behind a letter that is not large, and with the last of several large ones.
        let begins = index > 0 && is_upper(index) && (!is_upper(index - 1) || is_lower(index + 1));
        if begins && !kebab.ends_with('-') {
            kebab.push('-');
        }
        match letter {
            '_' => kebab.push('-'),
            letter => kebab.extend(letter.to_lowercase()),
        }
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_structs_become_names_of_messages() {
        assert_eq!(kebab_case("CheckClientIp"), "check-client-ip");
        assert_eq!(kebab_case("Visit"), "visit");
        assert_eq!(kebab_case("HTTPRequest"), "http-request");
        assert_eq!(kebab_case("Level2Check"), "level2-check");
        assert_eq!(kebab_case("Check_Ip"), "check-ip");
    }

    #[test]
    fn a_message_has_as_many_arguments_as_their_count_can_say() {
        let message = |count: u16| {
            let names = (0..count).map(|index| quote::format_ident!("argument_{index}"));
            Message::of(&syn::parse_quote!(struct Large { #(#names: u8,)* }))
        };
        assert!(message(255).is_ok());
        let error = message(256).err().expect("one too many").to_string();
        assert!(
            error.starts_with("a message has at most 255 arguments"),
            "{error}"
        );
    }
}
