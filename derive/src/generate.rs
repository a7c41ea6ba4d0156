//! The code of `impl Message`.
//!
//! Names in it begin with two underscores, as a constant or unit struct of the same name around the struct
//! would be taken for it. And a trait there may have methods for everything, which come first where
//! one of the type itself takes a reference: functions are called by their paths, and the one method of that
//! kind has a name that hardly anything else has.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{Lifetime, Type};

use crate::attributes::{Field, Message};
use crate::names::{Case, choose};

/// The implementation of the trait.
pub(crate) fn implementation(message: &Message) -> TokenStream {
    let Message {
        ident, ringspoa, ..
    } = message;
    let (own, of) = match &message.lifetime {
        Some(_) => (quote! { <'_> }, quote! { <'message> }),
        None => (quote! {}, quote! {}),
    };
    let declaration = declaration(message);
    let decode = decode(message);
    let encode = encode(message);
    quote! {
        #[automatically_derived]
        impl #ringspoa::Message for #ident #own {
            type Of<'message> = #ident #of;

            const DECLARATION: #ringspoa::MessageDeclaration = #declaration;

            #[inline]
            fn decode<'message>(
                __message: &mut #ringspoa::spop::Message<'_, 'message>,
            ) -> #ringspoa::derived::Result<Self::Of<'message>, #ringspoa::MessageError> {
                #decode
            }

            fn encode(
                &self,
                __notify: &mut #ringspoa::spop::NotifyWriter<'_>,
            ) -> #ringspoa::derived::Result<(), #ringspoa::spop::EncodeError> {
                #encode
            }
        }
    }
}

fn declaration(message: &Message) -> TokenStream {
    let Message { name, ringspoa, .. } = message;
    let arguments = message.fields.iter().map(|field| {
        let name = &field.name;
        // In the words of `encode`: what the compiler says of a type that is none is then the same, and it
        // says it once for both.
        let value = with_lifetime(message, &field.value, "'_");
        let aliases = &field.aliases;
        let sample = field.sample.iter();
        let optional = field.has_default.then(|| quote! { .optional() });
        quote! {
            #ringspoa::ArgumentDeclaration::new(
                #name,
                <#value as #ringspoa::ArgumentValue<'_>>::TYPES,
                <#value as #ringspoa::ArgumentValue<'_>>::EXPECTED,
            )
            .required_if(!<#value as #ringspoa::ArgumentValue<'_>>::TYPES
                .contains(#ringspoa::ValueTypes::NULL))
            .with_aliases(&[#(#aliases),*])
            #(.with_sample(#sample))*
            #optional
        }
    });
    let aliases = &message.aliases;
    let event = message.event.iter();
    let condition = message.condition.iter();
    let denying = message
        .denies_unknown
        .then(|| quote! { .denying_unknown_arguments() });
    quote! {
        #ringspoa::MessageDeclaration::new(#name, &[#(#arguments),*])
            .with_aliases(&[#(#aliases),*])
            #(.with_event(#event))*
            #(.with_condition(#condition))*
            #denying
    }
}

fn decode(message: &Message) -> TokenStream {
    let Message {
        ringspoa, ident, ..
    } = message;
    let of = message.lifetime.as_ref().map(|_| quote! { <'static> });
    // Called by numbers: a name such as `_ip` would make one that the compiler warns of.
    let slots: Vec<_> = message
        .fields
        .iter()
        .enumerate()
        .map(|(index, field)| format_ident!("__slot_{index}", span = field.ident.span()))
        .collect();
    let types = message
        .fields
        .iter()
        .map(|field| with_lifetime(message, &field.value, "'message"));
    let mut cases: Vec<Case> = Vec::new();
    for (index, (field, slot)) in message.fields.iter().zip(&slots).enumerate() {
        let meet = method(field, "meet");
        for text in std::iter::once(&field.name).chain(&field.aliases) {
            let action = quote! {
                #slot.#meet(__DECLARATION, #index, __argument.value, __rest)?
            };
            cases.push((text.as_bytes().to_vec(), action));
        }
    }
    let otherwise = if message.denies_unknown {
        quote! { return #ringspoa::derived::Result::Err(
            #ringspoa::MessageError::unknown(__DECLARATION, __argument.name)
        ) }
    } else {
        quote! { {} }
    };
    let chosen = choose(&quote! { __argument.name }, &cases, &otherwise);
    let fields = (0..)
        .zip(message.fields.iter().zip(&slots))
        .map(|(index, (field, slot))| {
            let index: usize = index;
            let ident = &field.ident;
            let take = method(field, "take");
            quote! { #ident: #slot.#take(__DECLARATION, #index)? }
        });
    quote! {
        const __DECLARATION: &#ringspoa::MessageDeclaration =
            &<#ident #of as #ringspoa::Message>::DECLARATION;
        #(let mut #slots = #ringspoa::derived::Slot::<#types>::empty();)*
        loop {
            let __rest = #ringspoa::spop::Message::rest(__message);
            let __argument = match #ringspoa::spop::Message::next_argument(__message) {
                #ringspoa::derived::Result::Ok(#ringspoa::derived::Some(__argument)) => __argument,
                #ringspoa::derived::Result::Ok(#ringspoa::derived::None) => break,
                #ringspoa::derived::Result::Err(__error) => return #ringspoa::derived::Result::Err(
                    #ringspoa::MessageError::malformed(__DECLARATION, __error)
                ),
            };
            #chosen
        }
        #ringspoa::derived::Result::Ok(#ident { #(#fields,)* })
    }
}

/// The name of a method of a field's slot, of which there is another one for fields with a default. What
/// the field's type lacks is said where the type is written.
fn method(field: &Field, name: &str) -> Ident {
    let suffix = if field.has_default { "_or_default" } else { "" };
    format_ident!("{name}{suffix}", span = field.value.span())
}

fn encode(message: &Message) -> TokenStream {
    let Message { name, ringspoa, .. } = message;
    let count = Literal::usize_suffixed(message.fields.len());
    let arguments = message.fields.iter().map(|field| {
        let Field { ident, name, .. } = field;
        let value = with_lifetime(message, &field.value, "'_");
        quote! {
            #ringspoa::spop::Argument::new(
                #name,
                <#value as #ringspoa::ArgumentValue<'_>>::to_value(&self.#ident),
            )
        }
    });
    quote! {
        let __arguments: [#ringspoa::spop::Argument<'_>; #count] = [#(#arguments),*];
        #ringspoa::spop::NotifyWriter::message(__notify, #name, __arguments)
    }
}

/// The type of a field where the struct's lifetime is another.
fn with_lifetime(message: &Message, of: &Type, lifetime: &str) -> Type {
    struct Replace {
        from: Option<Lifetime>,
        to: Lifetime,
    }
    impl VisitMut for Replace {
        fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
            if self
                .from
                .as_ref()
                .is_some_and(|from| from.ident == lifetime.ident)
            {
                lifetime.ident = self.to.ident.clone();
            }
        }
    }
    let mut of = of.clone();
    Replace {
        from: message.lifetime.clone(),
        to: Lifetime::new(lifetime, proc_macro2::Span::call_site()),
    }
    .visit_type_mut(&mut of);
    of
}
