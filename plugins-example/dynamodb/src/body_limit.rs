//! A bound on what is read of one answer: the SDK by itself collects whatever comes.

use std::fmt;

use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};

/// A batch brings at most 16 MB of items, whose values are written in base64, and their names.
pub(crate) const MAX_BODY: usize = 32 << 20;

/// The answer is larger than any that DynamoDB gives.
#[derive(Debug)]
pub(crate) struct BodyTooLarge;

impl fmt::Display for BodyTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer is larger than {MAX_BODY} bytes")
    }
}

impl std::error::Error for BodyTooLarge {}

/// Cuts every answer at a bound.
#[derive(Debug)]
pub(crate) struct BodyLimit(pub(crate) usize);

impl Intercept for BodyLimit {
    fn name(&self) -> &'static str {
        "BodyLimit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        // What says beforehand that it is too large is not begun.
        if body.content_length().is_some_and(|len| len > self.0 as u64) {
            return Err(BodyTooLarge.into());
        }
        let limited = Limited::new(std::mem::replace(body, SdkBody::taken()), self.0);
        *body = SdkBody::from_body_1_x(limited.map_err(|error| -> BoxError {
            match error.is::<http_body_util::LengthLimitError>() {
                true => BodyTooLarge.into(),
                false => error,
            }
        }));
        Ok(())
    }
}
