//! The code of `impl Message`.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
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
                message: &mut #ringspoa::spop::Message<'_, 'message>,
            ) -> #ringspoa::derived::Result<Self::Of<'message>, #ringspoa::MessageError> {
                #decode
            }

            fn encode(
                &self,
                notify: &mut #ringspoa::spop::NotifyWriter<'_>,
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
        let value = with_lifetime(message, &field.value, "'static");
        let aliases = &field.aliases;
        let sample = field.sample.iter();
        let optional = field.has_default.then(|| quote! { .optional() });
        quote! {
            #ringspoa::ArgumentDeclaration::new(
                #name,
                <#value as #ringspoa::ArgumentValue<'static>>::TYPES,
                <#value as #ringspoa::ArgumentValue<'static>>::EXPECTED,
            )
            .required_if(!<#value as #ringspoa::ArgumentValue<'static>>::TYPES
                .contains(#ringspoa::ValueTypes::NULL))
            .with_aliases(&[#(#aliases),*])
            #(.with_sample(#sample))*
            #optional
        }
    });
    let event = message.event.iter();
    let condition = message.condition.iter();
    let denying = message
        .denies_unknown
        .then(|| quote! { .denying_unknown_arguments() });
    quote! {
        #ringspoa::MessageDeclaration::new(#name, &[#(#arguments),*])
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
    let slots: Vec<_> = message
        .fields
        .iter()
        .map(|field| format_ident!("slot_{}", syn::ext::IdentExt::unraw(&field.ident)))
        .collect();
    let types = message
        .fields
        .iter()
        .map(|field| with_lifetime(message, &field.value, "'message"));
    let mut cases: Vec<Case> = Vec::new();
    for (index, (field, slot)) in message.fields.iter().zip(&slots).enumerate() {
        // What a type lacks is said where the type is written.
        let fill = if field.has_default {
            quote_spanned! { field.value.span()=> fill_or_default }
        } else {
            quote_spanned! { field.value.span()=> fill }
        };
        for text in std::iter::once(&field.name).chain(&field.aliases) {
            let action = quote! {
                #slot.#fill(DECLARATION, #index, argument.value, rest)?
            };
            cases.push((text.as_bytes().to_vec(), action));
        }
    }
    let otherwise = if message.denies_unknown {
        quote! { return #ringspoa::derived::Result::Err(
            #ringspoa::MessageError::unknown(DECLARATION, argument.name)
        ) }
    } else {
        quote! { {} }
    };
    let chosen = choose(&quote! { argument.name }, &cases, &otherwise);
    let fields = (0..)
        .zip(message.fields.iter().zip(&slots))
        .map(|(index, (field, slot))| {
            let index: usize = index;
            let ident = &field.ident;
            let take = if field.has_default {
                quote_spanned! { field.value.span()=> take_or_default }
            } else {
                quote_spanned! { field.value.span()=> take }
            };
            quote! { #ident: #slot.#take(DECLARATION, #index)? }
        });
    quote! {
        const DECLARATION: &#ringspoa::MessageDeclaration =
            &<#ident #of as #ringspoa::Message>::DECLARATION;
        #(let mut #slots = #ringspoa::derived::Slot::<#types>::empty();)*
        loop {
            let rest = message.rest();
            let argument = match message.next_argument() {
                #ringspoa::derived::Result::Ok(#ringspoa::derived::Some(argument)) => argument,
                #ringspoa::derived::Result::Ok(#ringspoa::derived::None) => break,
                #ringspoa::derived::Result::Err(error) => return #ringspoa::derived::Result::Err(
                    #ringspoa::MessageError::malformed(DECLARATION, error)
                ),
            };
            #chosen
        }
        #ringspoa::derived::Result::Ok(#ident { #(#fields,)* })
    }
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
        let arguments: [#ringspoa::spop::Argument<'_>; #count] = [#(#arguments),*];
        notify.message(#name, arguments)
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
