//! `#[derive(Message)]` of ringspoa. Its documentation is that of the trait `ringspoa::Message`.

#![forbid(unsafe_code)]

mod attributes;
mod generate;
mod names;

use proc_macro::TokenStream;

/// Makes a struct a SPOE message: see the trait `ringspoa::Message`.
#[proc_macro_derive(Message, attributes(spop))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    attributes::Message::of(&input)
        .map(|message| generate::implementation(&message))
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
