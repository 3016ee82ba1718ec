//! What stands between the parentheses of `#[cached(…)]`.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, parenthesized};

use crate::nearest::nearest;

/// Every word that is taken, in the order of the documentation.
const WORDS: [&str; 15] = [
    "ttl",
    "stale",
    "namespace",
    "tags",
    "key",
    "key_by",
    "skip",
    "cache_none",
    "cache_err",
    "strict",
    "preset",
    "cache",
    "interop",
    "options",
    "in_impl",
];

/// The presets of the family.
const PRESETS: [&str; 6] = ["minimal", "test", "dev", "production", "secure", "io"];

/// What was asked for.
#[derive(Default)]
pub(crate) struct Attribute {
    pub(crate) ttl: Option<Life>,
    pub(crate) stale: Option<Life>,
    pub(crate) namespace: Option<LitStr>,
    pub(crate) tags: Vec<LitStr>,
    pub(crate) key: Option<LitStr>,
    pub(crate) key_by: Option<Expr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) cache_none: Option<Span>,
    pub(crate) cache_err: Option<Span>,
    pub(crate) strict: Option<Span>,
    pub(crate) preset: Option<LitStr>,
    pub(crate) cache: Option<Expr>,
    pub(crate) interop: Option<Interop>,
    pub(crate) options: Option<Expr>,
    pub(crate) in_impl: Option<Span>,
}

/// A length of time: a text that was read here, or an expression.
pub(crate) struct Life {
    pub(crate) tokens: TokenStream,
    pub(crate) span: Span,
}

/// The call as the other languages of the family know it.
pub(crate) struct Interop {
    pub(crate) span: Span,
    pub(crate) namespace: Option<LitStr>,
    pub(crate) handle: Option<Expr>,
    pub(crate) operation: LitStr,
}

impl Parse for Attribute {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attribute = Self::default();
        let mut seen = Vec::new();
        while !input.is_empty() {
            let word = word(&mut seen, input)?;
            attribute.take(&word, input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        attribute.check()?;
        Ok(attribute)
    }
}

impl Attribute {
    fn take(&mut self, word: &Ident, input: ParseStream<'_>) -> Result<()> {
        let span = word.span();
        match word.to_string().as_str() {
            "ttl" => self.ttl = Some(life(word, input)?),
            "stale" => self.stale = Some(life(word, input)?),
            "namespace" => self.namespace = Some(namespace(text(word, input)?)?),
            "tags" => {
                let (list, tags) = list::<LitStr>(word, input)?;
                if tags.is_empty() {
                    return Err(Error::new(list, "`tags()` names no tag: write tags(\"user:{id}\")"));
                }
                self.tags = tags;
            }
            "key" => self.key = Some(text(word, input)?),
            "key_by" => self.key_by = Some(expression(word, input)?),
            "skip" => {
                let content;
                parenthesized!(content in input);
                let names = content.call(Punctuated::<Ident, Token![,]>::parse_terminated_with_any)?;
                if names.is_empty() {
                    return Err(Error::new(span, "`skip()` names no argument: write skip(connection)"));
                }
                self.skip = names.into_iter().collect();
            }
            "cache_none" => self.cache_none = Some(flag(word, input)?),
            "cache_err" => self.cache_err = Some(flag(word, input)?),
            "strict" => self.strict = Some(flag(word, input)?),
            "in_impl" => self.in_impl = Some(flag(word, input)?),
            "preset" => self.preset = Some(preset(text(word, input)?)?),
            "cache" => self.cache = Some(expression(word, input)?),
            "options" => self.options = Some(expression(word, input)?),
            "interop" => {
                let content;
                parenthesized!(content in input);
                self.interop = Some(Interop::parse(span, &content)?);
            }
            unknown => return Err(Error::new(span, unknown_word(unknown, &WORDS))),
        }
        Ok(())
    }

    /// What cannot stand together, and what could not be kept.
    fn check(&self) -> Result<()> {
        if let (Some(_), Some(by)) = (&self.key, &self.key_by) {
            return Err(Error::new(by.span(), "`key` and `key_by` both say what the key is: leave one of them out"));
        }
        let key = self.key.as_ref().map(|key| (key.span(), "key"));
        let key_by = self.key_by.as_ref().map(|by| (by.span(), "key_by"));
        if let (Some((_, name)), Some(skipped)) = (key.or(key_by), self.skip.first()) {
            let text = format!(
                "`{name}` says what the key is made of, so `skip` has nothing to leave out: keep one of the two"
            );
            return Err(Error::new(skipped.span(), text));
        }
        if let (Some(_), Some(cache)) = (&self.preset, &self.cache) {
            let text = "`cache` is a cache that was built already, so `preset` would have no effect: leave one out";
            return Err(Error::new(cache.span(), text));
        }
        if let Some(interop) = &self.interop {
            if interop.handle.is_some() {
                let cache = self.cache.as_ref().map(|cache| (cache.span(), "cache"));
                let preset = self.preset.as_ref().map(|preset| (preset.span(), "preset"));
                if let Some((span, name)) = cache.or(preset) {
                    let text = format!(
                        "the `handle` of `interop` belongs to a cache already, so `{name}` would have no effect: leave one out"
                    );
                    return Err(Error::new(span, text));
                }
            }
            let refused = [
                (key.or(key_by), "its key follows from the arguments, in the form that all languages share"),
                (self.stale.as_ref().map(|stale| (stale.span, "stale")), "its entries carry no stale window"),
                (self.tags.first().map(|tag| (tag.span(), "tags")), "its entries carry no tags"),
                (self.options.as_ref().map(|options| (options.span(), "options")), "its entries carry a life alone"),
                (
                    self.namespace.as_ref().map(|name| (name.span(), "namespace")),
                    "its namespace stands inside: interop(namespace = \"users\", operation = \"get_user\")",
                ),
            ];
            for (word, reason) in refused {
                if let Some((span, name)) = word {
                    return Err(Error::new(span, format!("`{name}` cannot stand beside `interop`: {reason}")));
                }
            }
        }
        Ok(())
    }
}

impl Interop {
    fn parse(span: Span, input: ParseStream<'_>) -> Result<Self> {
        const WORDS: [&str; 3] = ["namespace", "operation", "handle"];
        let (mut namespace, mut operation, mut handle) = (None, None, None);
        let mut seen = Vec::new();
        while !input.is_empty() {
            let word = word(&mut seen, input)?;
            match word.to_string().as_str() {
                "namespace" => namespace = Some(unreserved(segment(text(&word, input)?)?)?),
                "operation" => operation = Some(segment(text(&word, input)?)?),
                "handle" => handle = Some(expression(&word, input)?),
                unknown => return Err(Error::new(word.span(), unknown_word(unknown, &WORDS))),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let form = "interop(namespace = \"users\", operation = \"get_user\")";
        let Some(operation) = operation else {
            return Err(Error::new(span, format!("`interop` needs the name of the operation: {form}")));
        };
        if namespace.is_some() == handle.is_some() {
            let text = format!("`interop` needs a namespace, or the handle of one: {form}");
            return Err(Error::new(span, text));
        }
        Ok(Self { span, namespace, handle, operation })
    }
}

fn unknown_word(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(meant) => format!("`{word}` is not known here; did you mean `{meant}`?"),
        None => format!("`{word}` is not known here; known are {}", known.join(", ")),
    }
}

/// The next word, which was not said before: the second would silently stand for the first.
fn word(seen: &mut Vec<String>, input: ParseStream<'_>) -> Result<Ident> {
    let word = input.call(Ident::parse_any)?;
    let name = word.to_string();
    if seen.contains(&name) {
        return Err(Error::new(word.span(), format!("`{name}` is said twice")));
    }
    seen.push(name);
    Ok(word)
}

/// `word = expression`
fn expression(word: &Ident, input: ParseStream<'_>) -> Result<Expr> {
    if !input.peek(Token![=]) {
        return Err(Error::new(word.span(), format!("`{word}` needs a value: {word} = …")));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `word = "text"`
fn text(word: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    match expression(word, input)? {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
        other => Err(Error::new(other.span(), format!("`{word}` is a text in quotes: {word} = \"…\""))),
    }
}

/// `word`
fn flag(word: &Ident, input: ParseStream<'_>) -> Result<Span> {
    if input.peek(Token![=]) || input.peek(syn::token::Paren) {
        return Err(Error::new(word.span(), format!("`{word}` stands alone: it is said or it is not")));
    }
    Ok(word.span())
}

/// `word(a, b)`
fn list<T: Parse>(word: &Ident, input: ParseStream<'_>) -> Result<(Span, Vec<T>)> {
    if !input.peek(syn::token::Paren) {
        return Err(Error::new(word.span(), format!("`{word}` is a list: {word}(…)")));
    }
    let content;
    parenthesized!(content in input);
    let items = Punctuated::<T, Token![,]>::parse_terminated(&content)?;
    Ok((word.span(), items.into_iter().collect()))
}

/// A length of time as `cachekit.toml` takes it, or an expression.
fn life(word: &Ident, input: ParseStream<'_>) -> Result<Life> {
    let value = expression(word, input)?;
    let span = value.span();
    let form = format!("write {word} = \"10m\" (units: ms, s, m, h, days), or an expression of type Duration");
    match &value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            let length = humantime::parse_duration(&text.value()).map_err(|error| {
                Error::new(span, format!("{:?} is no length of time ({error}); {form}", text.value()))
            })?;
            if length.is_zero() {
                let text = format!("`{word}` of zero keeps nothing: leave it out for the cache's own, or {form}");
                return Err(Error::new(span, text));
            }
            if length < Duration::from_millis(1) {
                return Err(Error::new(span, format!("`{word}` is shorter than a millisecond, the least there is")));
            }
            let (secs, nanos) = (length.as_secs(), length.subsec_nanos());
            Ok(Life { tokens: quote!(::core::time::Duration::new(#secs, #nanos)), span })
        }
        Expr::Lit(ExprLit { lit: Lit::Int(_) | Lit::Float(_), .. }) => {
            Err(Error::new(span, format!("a number says no unit; {form}")))
        }
        _ => Ok(Life { tokens: quote!(#value), span }),
    }
}

/// As the engine takes it.
fn namespace(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if text.is_empty() || text.len() > 128 || !printable {
        let text = "a namespace is 1 to 128 printable ASCII characters without space and colon";
        return Err(Error::new(name.span(), text));
    }
    Ok(name)
}

/// As interop/v1 takes it.
fn segment(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
    if !first || !rest || text.len() > 64 || text.contains("..") {
        let text =
            "other languages take 1 to 64 of a-z 0-9 . _ - here, beginning with a letter or a digit, without `..`";
        return Err(Error::new(name.span(), text));
    }
    Ok(name)
}

/// As `Cache::interop` takes it: what begins other keys of the family is no namespace.
fn unreserved(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    if matches!(text.as_str(), "ns" | "nsapi" | "ck") {
        let text = format!("`{text}` begins other keys of the family, so it is no namespace here: take another name");
        return Err(Error::new(name.span(), text));
    }
    Ok(name)
}

fn preset(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    if PRESETS.contains(&text.as_str()) {
        return Ok(name);
    }
    Err(Error::new(name.span(), format!("preset: {}", unknown_word(&text, &PRESETS))))
}

/// Names of arguments, `self` among them.
trait Names {
    fn parse_terminated_with_any(input: ParseStream<'_>) -> Result<Punctuated<Ident, Token![,]>>;
}

impl Names for Punctuated<Ident, Token![,]> {
    fn parse_terminated_with_any(input: ParseStream<'_>) -> Result<Self> {
        Self::parse_terminated_with(input, Ident::parse_any)
    }
}
