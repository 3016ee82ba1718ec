//! The code that stands for a cached function: itself, as it was, under another name, and what asks the cache first.
//!
//! ```text
//! user(id)               asks the cache, and runs user_no_cache where it has nothing
//! user_no_cache(id)      the function as it was written
//! user_refresh_cache(id) runs it whatever is kept, and keeps the answer
//! user_prime_cache(id, &value)   keeps a value that is known already
//! user_invalidate_cache(id)      forgets it
//! user_cache_key(id), user_cache_stats()
//! ```
//!
//! Suffixes and no module of the function's name, because a method has room for nothing else, and one scheme is easier to
//! remember than two. All that is decided at run time is in `cachekit::cached`, so that little is generated.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute as RustAttribute, Error, Expr, FnArg, GenericParam, Ident, ItemFn, Pat, Result, Type};

use crate::attribute::Attribute;
use crate::signature::{Argument, Signature, beside, mentions, names_in};

pub(crate) fn cached(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "`#[cached]` stands before a function or a method with a body"))?;
    let attribute: Attribute = syn::parse2(attribute)?;
    let signature = Signature::of(&function, &attribute)?;
    Ok(Expansion { function: &function, attribute: &attribute, signature: &signature }.write())
}

struct Expansion<'a> {
    function: &'a ItemFn,
    attribute: &'a Attribute,
    signature: &'a Signature,
}

impl Expansion<'_> {
    fn write(&self) -> TokenStream {
        let (descriptor, key) = (self.descriptor(), self.key());
        let (no_cache, wrapper, refresh) = (self.no_cache(), self.wrapper(), self.refresh());
        let (prime, invalidate, cache_key, stats) = (self.prime(), self.invalidate(), self.cache_key(), self.stats());
        quote!(#no_cache #wrapper #refresh #prime #invalidate #cache_key #stats #descriptor #key)
    }

    fn name(&self, suffix: &str) -> Ident {
        beside(&self.function.sig.ident, suffix)
    }

    /// Where its siblings are found: beside it, or in the same impl block.
    fn of(&self, sibling: &Ident) -> TokenStream {
        if self.is_associated() { quote!(Self::#sibling) } else { quote!(#sibling) }
    }

    /// `::<T, N>`, for what no argument tells.
    fn turbofish(&self) -> TokenStream {
        let names: Vec<&Ident> = self
            .function
            .sig
            .generics
            .params
            .iter()
            .filter_map(|parameter| match parameter {
                GenericParam::Type(ty) => Some(&ty.ident),
                GenericParam::Const(constant) => Some(&constant.ident),
                GenericParam::Lifetime(_) => None,
            })
            .collect();
        if names.is_empty() { TokenStream::new() } else { quote!(::<#(#names),*>) }
    }

    fn is_associated(&self) -> bool {
        self.signature.receiver.is_some() || self.attribute.in_impl.is_some()
    }

    /// The one place of the function that lasts: its cache and its counters.
    fn descriptor(&self) -> TokenStream {
        let name = self.name("cachekit_function");
        let function = self.function.sig.ident.to_string();
        let optional = |text: &Option<syn::LitStr>| match text {
            Some(text) => quote!(::core::option::Option::Some(#text)),
            None => quote!(::core::option::Option::None),
        };
        let (namespace, preset) = (optional(&self.attribute.namespace), optional(&self.attribute.preset));
        quote! {
            #[doc(hidden)]
            #[allow(dead_code)]
            fn #name() -> &'static ::cachekit::cached::Function {
                static FUNCTION: ::cachekit::cached::Function = ::cachekit::cached::Function::new(
                    ::core::concat!(::core::module_path!(), "::", #function),
                    #namespace,
                    #preset,
                );
                &FUNCTION
            }
        }
    }

    /// The key of a call, made in one place, so that a mistake in it is told once.
    fn key(&self) -> TokenStream {
        let name = self.name("cachekit_key");
        let generics = &self.function.sig.generics;
        let (parameters, conditions) = (&generics.params, &generics.where_clause);
        let receiver = self.signature.receiver.as_ref().map(|_| quote!(&self,));
        let arguments = self.key_arguments().map(|Argument { name, ty }| match ty {
            Type::Reference(_) => quote!(#name: #ty),
            _ => quote!(#name: &#ty),
        });
        let body = self.key_body();
        quote! {
            #[doc(hidden)]
            #[allow(dead_code, deprecated, unused_variables, clippy::all)]
            fn #name<#parameters>(#receiver #(#arguments),*)
                -> ::core::result::Result<::cachekit::cached::Key, ::cachekit::cached::CachedError>
            #conditions
            {
                #body
            }
        }
    }

    fn key_body(&self) -> TokenStream {
        let attribute = self.attribute;
        if let Some(interop) = &attribute.interop {
            let operation = &interop.operation;
            let arguments = self.key_arguments().map(|Argument { name, ty }| {
                let by_reference = matches!(ty, Type::Reference(_)).then(|| quote!(&));
                quote_spanned!(ty.span()=> ::cachekit::cached::interop_argument(#by_reference #name))
            });
            return quote!(::cachekit::cached::Key::interop(#operation, ::std::vec![#(#arguments),*]));
        }
        if let Some(text) = &attribute.key {
            return quote_spanned!(text.span()=> ::cachekit::cached::Key::text(::std::format!(#text)));
        }
        let builder = Ident::new("__cachekit_key", Span::mixed_site());
        let function = self.of(&self.function.sig.ident);
        let turbofish = self.turbofish();
        let parts: Vec<TokenStream> = match &attribute.key_by {
            Some(by) => vec![quote_spanned!(by.span()=> #builder.argument(&(#by));)],
            None => {
                let part = |argument: &Argument| {
                    let (name, span) = (&argument.name, argument.ty.span());
                    quote_spanned!(span=> #builder.argument(#name);)
                };
                self.key_arguments().map(part).collect()
            }
        };
        // The full name as the compiler has it: with the type of a method, with type parameters, and with the function that
        // it stands in, which `module_path!` leaves out.
        quote! {
            let mut #builder = ::cachekit::cached::KeyBuilder::of(::core::any::type_name_of_val(&#function #turbofish));
            #(#parts)*
            #builder.finish()
        }
    }

    fn key_arguments(&self) -> impl Iterator<Item = &Argument> {
        self.signature.of_key(self.attribute)
    }

    /// The function as it was written.
    fn no_cache(&self) -> TokenStream {
        let mut function = self.function.clone();
        function.sig.ident = self.name("no_cache");
        function.attrs.retain(|attribute| !belongs_to_the_front(attribute));
        let doc = format!("[`{}`](Self::{0}) without the cache.", self.function.sig.ident);
        let doc = if self.is_associated() { doc } else { doc.replace("(Self::", "(") };
        // What the attribute uses, the function need not.
        let attribute = self.attribute;
        let handle = attribute.interop.as_ref().and_then(|interop| interop.handle.as_ref());
        let expressions = [&attribute.cache, &attribute.key_by, &attribute.options].into_iter().flatten().chain(handle);
        let texts = attribute.tags.iter().chain(&attribute.key);
        let lives = [&attribute.ttl, &attribute.stale].into_iter().flatten().map(|life| &life.tokens);
        let used: TokenStream =
            [quote!(#(#expressions)*), quote!(#(#texts)*), quote!(#(#lives)*)].into_iter().collect();
        let is_used = self.signature.arguments.iter().any(|argument| mentions(&used, &argument.name));
        let unused = is_used.then(|| quote!(#[allow(unused_variables)]));
        quote!(#[doc = #doc] #unused #[allow(clippy::too_many_arguments)] #function)
    }

    fn wrapper(&self) -> TokenStream {
        let mut signature = self.front();
        signature.ident = self.function.sig.ident.clone();
        let attributes =
            self.function.attrs.iter().filter(|attribute| belongs_to_the_front(attribute) || applies_to_all(attribute));
        let vis = &self.function.vis;
        let body = self.run(quote!(load));
        quote!(#(#attributes)* #vis #signature { #body })
    }

    fn refresh(&self) -> TokenStream {
        let mut signature = self.front();
        signature.ident = self.name("refresh_cache");
        let doc = format!("Runs [`{}`], whatever is kept, and keeps what it returns.", self.function.sig.ident);
        let (shared, vis, body) = (self.shared_attributes(&doc), &self.function.vis, self.run(quote!(refresh)));
        quote!(#shared #vis #signature { #body })
    }

    /// The signature with nothing but names for arguments: they are handed on.
    fn front(&self) -> syn::Signature {
        let mut signature = self.function.sig.clone();
        for input in &mut signature.inputs {
            match input {
                FnArg::Typed(typed) => {
                    if let Pat::Ident(pattern) = &mut *typed.pat {
                        pattern.mutability = None;
                        pattern.by_ref = None;
                    }
                }
                FnArg::Receiver(this) => this.mutability = None,
            }
        }
        signature
    }

    /// Asks the cache, or goes past it, and hands over the function.
    fn run(&self, way: TokenStream) -> TokenStream {
        let call = self.call();
        let (no_cache, turbofish) = (self.of(&self.name("no_cache")), self.turbofish());
        let receiver = self.signature.receiver.as_ref().map(|_| quote!(self,));
        let arguments = self.signature.arguments.iter().map(|argument| &argument.name);
        let run = quote!(#no_cache #turbofish(#receiver #(#arguments),*));
        let way = match &self.attribute.stale {
            Some(_) => {
                let name = Ident::new(&format!("{way}_owned"), Span::call_site());
                quote!(#name)
            }
            None => way,
        };
        if self.function.sig.asyncness.is_some() {
            quote!(let __cachekit_call = #call; __cachekit_call.#way(move || #run).await)
        } else {
            quote! {
                let __cachekit_call = #call;
                ::cachekit::blocking::wait(__cachekit_call.#way(move || ::core::future::ready(#run)))
            }
        }
    }

    /// What is common to all that is done with one call: its cache, its key and its options.
    fn call(&self) -> TokenStream {
        let (attribute, returns) = (self.attribute, &self.signature.returns);
        let (rule, ty) = (&returns.rule, &returns.ty);
        let descriptor = self.of(&self.name("cachekit_function"));
        let place = self.place(&descriptor);
        let key = self.key_call();
        let mut options = TokenStream::new();
        // First, so that the other words are laid over what stands in there.
        if let Some(load) = &attribute.options {
            options.extend(quote_spanned!(load.span()=> .options(#load)));
        }
        if let Some(ttl) = &attribute.ttl {
            let (ttl, span) = (&ttl.tokens, ttl.span);
            options.extend(quote_spanned!(span=> .ttl(#ttl)));
        }
        if let Some(stale) = &attribute.stale {
            let (stale, span) = (&stale.tokens, stale.span);
            options.extend(quote_spanned!(span=> .stale(#stale)));
        }
        for tag in &attribute.tags {
            options.extend(quote_spanned!(tag.span()=> .tag(::std::format!(#tag))));
        }
        if let Some(span) = attribute.strict {
            let convert =
                quote_spanned!(span=> |error| ::core::result::Result::Err(::core::convert::From::from(error)));
            options.extend(quote_spanned!(span=> .strict(#convert)));
        }
        quote! {{
            #[allow(unused_imports)]
            use ::cachekit::cached::rule::{Cloneable as _, NotCloneable as _};
            ::cachekit::cached::Call::<#rule, #ty>::new(
                #descriptor(),
                #place,
                #key,
                (&::cachekit::cached::rule::Sharing::<#ty>::PROBE).sharing(),
            ) #options
        }}
    }

    fn key_call(&self) -> TokenStream {
        let (key, turbofish) = (self.of(&self.name("cachekit_key")), self.turbofish());
        let receiver = self.signature.receiver.as_ref().map(|_| quote!(&self,));
        let arguments = self.key_arguments().map(|Argument { name, ty }| match ty {
            Type::Reference(_) => quote!(#name),
            _ => quote!(&#name),
        });
        quote!(#key #turbofish(#receiver #(#arguments),*))
    }

    /// The cache that is asked.
    fn place(&self, descriptor: &TokenStream) -> TokenStream {
        let cache = |cache: &Expr| quote_spanned!(cache.span()=> { use ::cachekit::cached::AsCache as _; (#cache).__cachekit_cache() });
        let namespace = match &self.attribute.namespace {
            Some(name) => quote!(::core::option::Option::Some(#name)),
            None => quote!(::core::option::Option::None),
        };
        match (&self.attribute.interop, &self.attribute.cache) {
            (Some(interop), own) => {
                if let Some(handle) = &interop.handle {
                    return quote_spanned!(handle.span()=> ::cachekit::cached::Place::of_handle(&(#handle)));
                }
                let (name, span) = (&interop.namespace, interop.span);
                match own.as_ref().map(cache) {
                    Some(own) => quote_spanned!(span=> ::cachekit::cached::Place::interop(#own, #name)),
                    None => quote_spanned!(span=> #descriptor().interop(#name)),
                }
            }
            (None, Some(own)) => {
                let own = cache(own);
                quote!(::cachekit::cached::Place::of(#own, #namespace))
            }
            (None, None) => quote!(#descriptor().place()),
        }
    }

    /// A function that is asked for what is kept: it takes what the key, the cache and the `more` are made of.
    fn handle(
        &self,
        suffix: &str,
        doc: &str,
        more: bool,
        value: TokenStream,
        output: TokenStream,
        act: TokenStream,
    ) -> TokenStream {
        let function = self.function;
        let (name, vis, generics) = (self.name(suffix), &function.vis, &function.sig.generics);
        let (parameters, conditions) = (&generics.params, &generics.where_clause);
        let key: Vec<&Ident> = self.key_arguments().map(|argument| &argument.name).collect();
        let wanted = |argument: &&Argument| {
            let name = &argument.name;
            let in_cache = self.attribute.cache.iter().any(|cache| mentions(cache, name))
                || self
                    .attribute
                    .interop
                    .iter()
                    .flat_map(|interop| &interop.handle)
                    .any(|handle| mentions(handle, name));
            // Tags and lives matter to what is kept, not to what is forgotten.
            let kept_with = more
                && (self.attribute.tags.iter().any(|tag| names_in(&tag.value()).iter().any(|used| name == used))
                    || [&self.attribute.ttl, &self.attribute.stale]
                        .into_iter()
                        .flatten()
                        .any(|life| mentions(&life.tokens, name))
                    || self.attribute.options.iter().any(|options| mentions(options, name)));
            key.contains(&name) || in_cache || kept_with
        };
        let arguments = self.signature.arguments.iter().filter(wanted).map(|Argument { name, ty }| quote!(#name: #ty));
        // Handed on, as in `front`: what the function changes of itself is its own.
        let receiver = self.signature.receiver.clone().map(|mut this| {
            this.mutability = None;
            quote!(#this,)
        });
        let call = if more { self.call() } else { self.bare_call() };
        let shared = self.shared_attributes(doc);
        let (asyncness, act) = match (&function.sig.asyncness, suffix) {
            (_, "cache_key") => (None, quote!(#call.#act)),
            (Some(asyncness), _) => (Some(asyncness), quote!(#call.#act.await)),
            (None, _) => (None, quote!(::cachekit::blocking::wait(#call.#act))),
        };
        quote! {
            #shared
            #vis #asyncness fn #name<#parameters>(#receiver #(#arguments,)* #value) -> #output #conditions { #act }
        }
    }

    /// A call without options.
    fn bare_call(&self) -> TokenStream {
        let (rule, ty) = (&self.signature.returns.rule, &self.signature.returns.ty);
        let descriptor = self.of(&self.name("cachekit_function"));
        let (place, key) = (self.place(&descriptor), self.key_call());
        quote! {
            ::cachekit::cached::Call::<#rule, #ty>::new(#descriptor(), #place, #key, ::core::option::Option::None)
        }
    }

    fn prime(&self) -> TokenStream {
        let doc = format!("Keeps `value` as what [`{}`] returns, without running it.", self.function.sig.ident);
        let kept = &self.signature.returns.kept;
        let output = quote!(::core::result::Result<(), ::cachekit::cached::CachedError>);
        // Of a place of its own, so that an argument may have this name as well.
        let value = Ident::new("value", Span::mixed_site());
        self.handle("prime_cache", &doc, true, quote!(#value: &#kept), output, quote!(prime(#value)))
    }

    fn invalidate(&self) -> TokenStream {
        let doc = format!("Forgets what [`{}`] returned; `true` if there was something.", self.function.sig.ident);
        let output = quote!(::core::result::Result<bool, ::cachekit::cached::CachedError>);
        self.handle("invalidate_cache", &doc, false, TokenStream::new(), output, quote!(invalidate()))
    }

    fn cache_key(&self) -> TokenStream {
        let doc = format!("The key under which the answer of [`{}`] is kept.", self.function.sig.ident);
        let output = quote!(::core::result::Result<::std::string::String, ::cachekit::cached::CachedError>);
        self.handle("cache_key", &doc, false, TokenStream::new(), output, quote!(key_text()))
    }

    fn stats(&self) -> TokenStream {
        let (name, vis) = (self.name("cache_stats"), &self.function.vis);
        let descriptor = self.of(&self.name("cachekit_function"));
        let doc = format!("What the calls of [`{}`] came to in this process.", self.function.sig.ident);
        let shared = self.shared_attributes(&doc);
        quote! {
            #shared
            #vis fn #name() -> ::cachekit::cached::FunctionStats { #descriptor().stats() }
        }
    }

    /// Attributes of everything that is generated to be called.
    fn shared_attributes(&self, doc: &str) -> TokenStream {
        let doc = match self.is_associated() {
            true => doc.replacen(
                &format!("[`{}`]", self.function.sig.ident),
                &format!("[`Self::{}`]", self.function.sig.ident),
                1,
            ),
            false => doc.to_owned(),
        };
        let all = self.function.attrs.iter().filter(|attribute| applies_to_all(attribute));
        quote! {
            #[doc = #doc]
            #(#all)*
            #[allow(dead_code, clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::trivially_copy_pass_by_ref, clippy::ptr_arg)]
        }
    }
}

/// Attributes for whoever calls the function, which is not whoever wrote it.
fn belongs_to_the_front(attribute: &RustAttribute) -> bool {
    ["doc", "must_use", "deprecated"].iter().any(|name| attribute.path().is_ident(name))
}

/// Attributes that hold for whatever becomes of the function.
fn applies_to_all(attribute: &RustAttribute) -> bool {
    ["cfg", "allow", "warn", "deny", "forbid"].iter().any(|name| attribute.path().is_ident(name))
}
