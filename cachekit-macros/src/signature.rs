//! The function that is to be cached: what it takes, what it returns, and whether the one can be a key and the other kept.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{
    Error, FnArg, GenericArgument, Ident, ItemFn, LitStr, Pat, PathArguments, Receiver, ReceiverKind, Result,
    ReturnType, Safety, Type, TypeImplTrait,
};

use crate::attribute::Attribute;

/// One argument, but for `self`.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
}

/// What the return type is, as far as its words tell.
pub(crate) struct Returns {
    pub(crate) ty: Type,
    /// Which part is kept, and of which type that is.
    pub(crate) rule: TokenStream,
    pub(crate) kept: Type,
}

pub(crate) struct Signature {
    pub(crate) receiver: Option<Receiver>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) returns: Returns,
}

/// Where a type has no name, also behind a reference or inside another type: `&impl Database`.
struct Unnamed(Option<Span>);

impl<'ast> Visit<'ast> for Unnamed {
    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.0.get_or_insert(ty.span());
    }
}

impl Signature {
    pub(crate) fn of(function: &ItemFn, attribute: &Attribute) -> Result<Self> {
        let signature = &function.sig;
        let refuse = |span: Span, text: &str| Err(Error::new(span, text));
        if let Some(constant) = &signature.constness {
            return refuse(constant.span(), "a const fn runs while the program is compiled, when there is no cache");
        }
        if let Safety::Unsafe(unsafety) = &signature.safety {
            return refuse(unsafety.span(), "an unsafe fn asks its caller for something that a cache cannot give");
        }
        if let Some(variadic) = &signature.variadic {
            return refuse(variadic.span(), "a variable number of arguments makes no key");
        }
        let returns = Returns::of(&signature.output, signature.ident.span(), attribute)?;
        let (mut receiver, mut arguments) = (None, Vec::new());
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(this) => receiver = Some(this.clone()),
                FnArg::Typed(typed) => {
                    let Pat::Ident(pattern) = &*typed.pat else {
                        let text = "give this argument a name: the key is made of it, and it is taken apart inside";
                        return refuse(typed.pat.span(), text);
                    };
                    let mut unnamed = Unnamed(None);
                    unnamed.visit_type(&typed.ty);
                    // A key that is spelled out, or made for other languages, holds no name of the function.
                    let is_named = attribute.key.is_none() && attribute.interop.is_none();
                    if let Some(span) = unnamed.0.filter(|_| is_named || matches!(&*typed.ty, Type::ImplTrait(_))) {
                        let text = "name this type (fn f<T: …>(argument: T)): answers for different types are kept apart \
                                    by their names";
                        return refuse(span, text);
                    }
                    arguments.push(Argument { name: pattern.ident.clone(), ty: (*typed.ty).clone() });
                }
            }
        }
        let signature = Self { receiver, arguments, returns };
        signature.check(attribute)?;
        Ok(signature)
    }

    fn check(&self, attribute: &Attribute) -> Result<()> {
        let skips = |name: &str| attribute.skip.iter().any(|skipped| skipped == name);
        for skipped in &attribute.skip {
            let known = skipped == "self" && self.receiver.is_some();
            if !known && !self.arguments.iter().any(|argument| argument.name == *skipped) {
                return Err(Error::new(skipped.span(), format!("there is no argument `{skipped}` to skip")));
            }
        }
        let says_key = attribute.key.is_some() || attribute.key_by.is_some();
        if let Some(receiver) = &self.receiver {
            if matches!(receiver.kind, ReceiverKind::Reference(_, _, Some(_))) {
                let text =
                    "`&mut self` says that the call changes something, which an answer from the cache would not do";
                return Err(Error::new(receiver.span(), text));
            }
            if !says_key && !skips("self") {
                let text = "what of `self` do the answers depend on? Name it as in key_by = (self.id, id), or write skip(self) \
                            if every instance gives the same answers";
                return Err(Error::new(receiver.span(), text));
            }
        }
        for Argument { name, ty } in &self.arguments {
            if let Type::Reference(reference) = ty
                && reference.mutability.is_some()
                && !skips(&name.to_string())
                && !says_key
            {
                let text = format!(
                    "`{name}` may be changed by the call, which an answer from the cache would not do; skip({name}) if it is \
                     only a means to get the answer"
                );
                return Err(Error::new(ty.span(), text));
            }
        }
        if let Some(key) = &attribute.key
            && !self.arguments.is_empty()
            && !names_in(&key.value()).iter().any(|name| self.arguments.iter().any(|argument| argument.name == *name))
        {
            let text = "this key names none of the arguments, so calls with different ones would get one answer; name them \
                        as in key = \"user:{id}\", or say with key_by = \"…\" that this is meant";
            return Err(Error::new(key.span(), text));
        }
        if let Some(stale) = &attribute.stale {
            self.check_owned(stale.span)?;
        }
        Ok(())
    }

    /// A refresh outlives the call that began it, so it cannot borrow from it.
    fn check_owned(&self, _stale: Span) -> Result<()> {
        let why = "`stale` refreshes after the call has returned, so it cannot borrow";
        if let Some(receiver) = &self.receiver
            && matches!(receiver.kind, ReceiverKind::Reference(..))
        {
            return Err(Error::new(
                receiver.span(),
                format!("{why}: take `self: Arc<Self>`, or `self` of a type that is cheap to clone"),
            ));
        }
        for Argument { name, ty } in &self.arguments {
            if let Type::Reference(reference) = ty
                && reference.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static")
            {
                return Err(Error::new(ty.span(), format!("{why}: take `{name}` by value, or in an Arc")));
            }
        }
        Ok(())
    }

    /// The arguments that a key is made of.
    pub(crate) fn of_key<'a>(&'a self, attribute: &'a Attribute) -> impl Iterator<Item = &'a Argument> {
        self.arguments.iter().filter(|argument| match (&attribute.key, &attribute.key_by) {
            (Some(key), _) => names_in(&key.value()).iter().any(|name| argument.name == name),
            (_, Some(by)) => mentions(by, &argument.name),
            _ => !attribute.skip.contains(&argument.name),
        })
    }
}

impl Returns {
    fn of(output: &ReturnType, at: Span, attribute: &Attribute) -> Result<Self> {
        let ReturnType::Type(_, ty) = output else {
            return Err(Error::new(at, "this function returns nothing, so there is nothing to keep"));
        };
        let ty = (**ty).clone();
        match &ty {
            Type::Tuple(tuple) if tuple.elems.is_empty() => {
                return Err(Error::new(ty.span(), "this function returns nothing, so there is nothing to keep"));
            }
            Type::ImplTrait(_) => {
                return Err(Error::new(
                    ty.span(),
                    "name the type that is returned: what is kept has to be read back as it",
                ));
            }
            Type::Reference(reference) if reference.lifetime.as_ref().is_none_or(|name| name.ident != "static") => {
                return Err(Error::new(
                    ty.span(),
                    "what is kept outlives what it was borrowed from: return it by value, or in an Arc",
                ));
            }
            _ => {}
        }
        let is_result = wraps(&ty, |name| name.ends_with("Result"));
        let is_option = wraps(&ty, |name| name == "Option");
        if let Some(span) = attribute.cache_err.filter(|_| is_result.is_none()) {
            return Err(Error::new(span, "`cache_err` keeps errors, and this function returns no Result"));
        }
        if let Some(span) = attribute.strict.filter(|_| is_result.is_none()) {
            let text = "`strict` returns what the cache failed with, and this function returns no Result";
            return Err(Error::new(span, text));
        }
        let inner = is_result.as_ref().unwrap_or(&ty);
        let inner_option = wraps(inner, |name| name == "Option");
        if let Some(span) = attribute.cache_none.filter(|_| inner_option.is_none()) {
            return Err(Error::new(span, "`cache_none` keeps None, and this function returns no Option"));
        }
        let path = quote!(::cachekit::cached::rule);
        let (wrap, part): (TokenStream, Type) = if attribute.cache_err.is_some() {
            (quote!(All), ty.clone())
        } else if let Some(ok) = is_result {
            match inner_option.filter(|_| attribute.cache_none.is_none()) {
                Some(some) => (quote!(IfOkSome), some),
                None => (quote!(IfOk), ok),
            }
        } else if let Some(some) = is_option.filter(|_| attribute.cache_none.is_none()) {
            (quote!(IfSome), some)
        } else {
            (quote!(All), ty.clone())
        };
        let (held, kept) = match wraps(&part, |name| name == "Arc") {
            Some(shared) => (quote!(Shared), shared),
            None => (quote!(Owned), part),
        };
        Ok(Self { ty, rule: quote!(#path::#wrap<#path::#held>), kept })
    }
}

/// `Name<T, …>` → `T`, if the name is one that is looked for.
fn wraps(ty: &Type, is: impl Fn(&str) -> bool) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    if !is(&last.ident.to_string()) {
        return None;
    }
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    })
}

/// The names that a format text captures: `{id}`, `{id:04}`, and not `{{id}}`.
pub(crate) fn names_in(text: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some(open) = rest.find('{') {
        rest = &rest[open + 1..];
        if let Some(escaped) = rest.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let Some(close) = rest.find('}') else { break };
        let name = rest[..close].split(':').next().unwrap_or_default().trim();
        if !name.is_empty() {
            names.push(name.to_owned());
        }
        rest = &rest[close + 1..];
    }
    names
}

/// Whether an identifier stands anywhere in there, also inside the texts of format macros.
pub(crate) fn mentions(tokens: &impl ToTokens, name: &Ident) -> bool {
    fn within(tokens: TokenStream, name: &Ident) -> bool {
        tokens.into_iter().any(|tree| match tree {
            TokenTree::Ident(ident) => ident == *name,
            TokenTree::Group(group) => within(group.stream(), name),
            TokenTree::Literal(literal) => syn::parse_str::<LitStr>(&literal.to_string())
                .is_ok_and(|text| names_in(&text.value()).iter().any(|captured| name == captured)),
            TokenTree::Punct(_) => false,
        })
    }
    within(tokens.to_token_stream(), name)
}

/// `user` → `user_no_cache`, at the place of `user`.
pub(crate) fn beside(function: &Ident, suffix: &str) -> Ident {
    format_ident!("{}_{}", function, suffix, span = function.span())
}
