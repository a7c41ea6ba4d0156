//! What a `macro_rules!` of this crate makes of its input: enough of the language for macros that make
//! items, and an error for what is beyond that.

use std::collections::HashMap;

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Error, Result, Token};

/// The rules of one macro: what each takes, and what it makes of that.
pub(crate) struct Rules(Vec<(TokenStream, TokenStream)>);

/// What the variables of a rule stand for.
#[derive(Clone, Default)]
struct Found {
    once: HashMap<String, TokenStream>,
    /// For each repetition, its variables and its rounds.
    repeated: Vec<(Vec<String>, Vec<Found>)>,
}

impl Parse for Rules {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut rules = Vec::new();
        while !input.is_empty() {
            let takes = input.parse::<Group>()?.stream();
            input.parse::<Token![=>]>()?;
            rules.push((takes, input.parse::<Group>()?.stream()));
            input.parse::<Option<Token![;]>>()?;
        }
        Ok(Self(rules))
    }
}

impl Rules {
    /// What the first rule that takes the input makes of it.
    pub(crate) fn expand(&self, input: &TokenStream) -> Result<TokenStream> {
        let mut last = Error::new_spanned(input, "there is no rule");
        for (takes, makes) in &self.0 {
            let found = |input: ParseStream<'_>| {
                let mut found = Found::default();
                take(takes, input, &mut found).map(|()| found)
            };
            match found.parse2(input.clone()) {
                Ok(found) => return make(makes, &found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn tokens(stream: &TokenStream) -> Vec<TokenTree> {
    stream.clone().into_iter().collect()
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

/// What stands between two rounds of a repetition, and the tokens up to its `*`, `+` or `?`.
fn separator(after: &[TokenTree]) -> (Option<&TokenTree>, usize) {
    let is_count = |token: &TokenTree| ['*', '+', '?'].iter().any(|&c| is_punct(token, c));
    match after {
        [count, ..] if is_count(count) => (None, 1),
        [separator, ..] => (Some(separator), 2),
        [] => (None, 0),
    }
}

/// The variables of a rule or of a part of it.
fn variables(stream: &TokenStream) -> Vec<String> {
    let tokens = tokens(stream);
    let mut names = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => names.extend(variables(&group.stream())),
            TokenTree::Ident(name) if index > 0 && is_punct(&tokens[index - 1], '$') => {
                names.push(name.to_string());
            }
            _ => {}
        }
    }
    names
}

fn take(pattern: &TokenStream, input: ParseStream<'_>, found: &mut Found) -> Result<()> {
    let pattern = tokens(pattern);
    let mut rest = &pattern[..];
    while let [token, after @ ..] = rest {
        rest = match after {
            [TokenTree::Ident(name), _, kind, after @ ..] if is_punct(token, '$') => {
                let value = fragment(&kind.to_string(), input)?;
                found.once.insert(name.to_string(), value);
                after
            }
            [TokenTree::Group(group), after @ ..] if is_punct(token, '$') => {
                let (separator, len) = separator(after);
                let mut rounds = Vec::new();
                while !input.is_empty() {
                    let (ahead, mut round) = (input.fork(), Found::default());
                    if take(&group.stream(), &ahead, &mut round).is_err() {
                        break;
                    }
                    input.advance_to(&ahead);
                    rounds.push(round);
                    if let Some(separator) = separator
                        && take(&separator.to_token_stream(), input, found).is_err()
                    {
                        break;
                    }
                }
                let names = variables(&group.stream());
                found.repeated.push((names, rounds));
                &after[len..]
            }
            _ => {
                let met: TokenTree = input.fork().parse()?;
                match (token, &met) {
                    (TokenTree::Group(group), TokenTree::Group(inside))
                        if group.delimiter() == inside.delimiter() =>
                    {
                        let mut take = |input: ParseStream<'_>| take(&group.stream(), input, found);
                        Parser::parse2(&mut take, inside.stream())?;
                    }
                    _ if token.to_string() == met.to_string() => {}
                    _ => return Err(Error::new(met.span(), format!("expected {token}"))),
                }
                input.parse::<TokenTree>()?;
                after
            }
        };
    }
    Ok(())
}

fn fragment(kind: &str, input: ParseStream<'_>) -> Result<TokenStream> {
    Ok(match kind {
        "ident" => input.call(syn::Ident::parse_any)?.into_token_stream(),
        "ty" => input.parse::<syn::Type>()?.into_token_stream(),
        "path" => input.parse::<syn::Path>()?.into_token_stream(),
        "expr" => input.parse::<syn::Expr>()?.into_token_stream(),
        "pat" => syn::Pat::parse_multi(input)?.into_token_stream(),
        "meta" => input.parse::<syn::Meta>()?.into_token_stream(),
        "literal" => input.parse::<syn::Lit>()?.into_token_stream(),
        "lifetime" => input.parse::<syn::Lifetime>()?.into_token_stream(),
        "tt" => input.parse::<TokenTree>()?.into_token_stream(),
        _ => return Err(input.error(format!("`{kind}` is not known here: teach macros.rs it"))),
    })
}

fn make(template: &TokenStream, found: &Found) -> Result<TokenStream> {
    let template = tokens(template);
    let (mut made, mut rest) = (TokenStream::new(), &template[..]);
    while let [token, after @ ..] = rest {
        rest = match after {
            [TokenTree::Ident(name), after @ ..] if is_punct(token, '$') => {
                match found.once.get(&name.to_string()) {
                    Some(value) => made.extend(value.clone()),
                    None => made.extend(name.to_token_stream()), // `$crate`
                }
                after
            }
            [TokenTree::Group(group), after @ ..] if is_punct(token, '$') => {
                let (separator, len) = separator(after);
                let used = variables(&group.stream());
                let repeated =
                    |(names, _): &&(Vec<String>, _)| used.iter().any(|u| names.contains(u));
                let (_, rounds) = found.repeated.iter().find(repeated).ok_or_else(|| {
                    Error::new(group.span(), "nothing says how often this is repeated")
                })?;
                for (index, round) in rounds.iter().enumerate() {
                    let mut all = round.clone();
                    all.once.extend(found.once.clone());
                    all.repeated.extend(found.repeated.clone());
                    if index > 0 {
                        made.extend(separator.map(ToTokens::to_token_stream));
                    }
                    made.extend(make(&group.stream(), &all)?);
                }
                &after[len..]
            }
            _ => {
                made.extend(match token {
                    TokenTree::Group(group) => {
                        let inside = make(&group.stream(), found)?;
                        Group::new(group.delimiter(), inside).into_token_stream()
                    }
                    other => other.to_token_stream(),
                });
                after
            }
        };
    }
    Ok(made)
}
