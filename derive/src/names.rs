//! Telling names apart with few comparisons.
//!
//! An argument's name is looked at once for its length, then, where several names have that length,
//! once for the byte that tells most of them apart, and only then compared as a whole: one comparison
//! of bytes for each argument, however many fields there are.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::quote;

/// A name and what is done where it is met.
pub(crate) type Case = (Vec<u8>, TokenStream);

/// An expression that runs the case that `name` (an expression of type `&[u8]`) is, or `otherwise`.
pub(crate) fn choose(name: &TokenStream, cases: &[Case], otherwise: &TokenStream) -> TokenStream {
    let mut by_len: BTreeMap<usize, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        by_len.entry(case.0.len()).or_default().push(case);
    }
    let arms = by_len.into_iter().map(|(len, cases)| {
        let chosen = choose_of_one_length(name, &cases, otherwise);
        quote! { #len => #chosen }
    });
    quote! {
        match #name.len() {
            #(#arms,)*
            _ => #otherwise,
        }
    }
}

fn choose_of_one_length(
    name: &TokenStream,
    cases: &[&Case],
    otherwise: &TokenStream,
) -> TokenStream {
    if let [(text, action)] = cases {
        let text = proc_macro2::Literal::byte_string(text);
        return quote! { if #name == #text { #action } else { #otherwise } };
    }
    let place = telling_place(cases);
    let mut by_byte: BTreeMap<u8, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        by_byte.entry(case.0[place]).or_default().push(case);
    }
    let arms = by_byte.into_iter().map(|(byte, cases)| {
        let chosen = choose_of_one_length(name, &cases, otherwise);
        quote! { #byte => #chosen }
    });
    quote! {
        match #name[#place] {
            #(#arms,)*
            _ => #otherwise,
        }
    }
}

/// The place where these names, all different and of one length, differ most.
fn telling_place(cases: &[&Case]) -> usize {
    let different = |place: &usize| {
        let mut bytes: Vec<u8> = cases.iter().map(|case| case.0[*place]).collect();
        bytes.sort_unstable();
        bytes.dedup();
        bytes.len()
    };
    // The first of the best, so that what is generated does not depend on chance.
    (0..cases[0].0.len())
        .rev()
        .max_by_key(different)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> Case {
        (name.as_bytes().to_vec(), quote! { #name })
    }

    #[test]
    fn names_of_one_length_are_told_apart_by_their_most_telling_byte() {
        let cases = [case("aax"), case("aby"), case("acz")];
        let cases: Vec<&Case> = cases.iter().collect();
        assert_eq!(telling_place(&cases), 1);
    }

    #[test]
    fn each_name_is_compared_once() {
        let cases = [
            case("ip"),
            case("ua"),
            case("path"),
            case("port"),
            case("body"),
        ];
        let text = choose(&quote!(name), &cases, &quote!(none)).to_string();
        assert_eq!(text.matches("==").count(), cases.len());
        // Lengths 2 and 4, and a byte of each.
        assert_eq!(text.matches("match").count(), 3);
    }
}
