//! Failures of the exchange with DynamoDB, and what they mean to the caller.
//!
//! What it protects: throttling, outage, credentials, configuration and answers that cannot be right stay apart, so that what
//! passes is tried again and what does not is not; and nobody reads a key, a value or a credential in an error. Of what the
//! service says only its code is shown: its sentences quote what they were asked.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use cachekit_plugin::{BackendError, Kind, Operation, Retry};

use crate::body_limit::BodyTooLarge;
use crate::item::MAX_KEY;

/// The name of this backend in errors and health.
pub(crate) const BACKEND: &str = "dynamodb";

/// What a throttled caller waits where the service names no time. Capacity is dealt out by the second, to each partition.
const THROTTLED_PAUSE: Duration = Duration::from_millis(250);
/// A pause that the service names is believed up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest code of the service that is shown; `ProvisionedThroughputExceededException` has 38 bytes.
const MAX_CODE: usize = 64;

/// Cloned where one exchange fails for several items.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Trouble {
    /// Options that cannot work; the text says which and why.
    #[error("{0}")]
    Refused(String),
    #[error("a key of {len} bytes is longer than an item's may be (1 to {MAX_KEY})")]
    KeyTooLong { len: usize },
    #[error("the key is empty, or holds a byte that is not printable ASCII")]
    KeyBytes,
    #[error("a value of {len} bytes is larger than max_value allows ({max} bytes; an item has at most 400 KB)")]
    ValueTooLarge { len: usize, max: u32 },
    #[error("DynamoDB answered {}{}", .0.code, .0.meaning())]
    Service(Refusal),
    /// The service left items of a batch undone, up to the deadline.
    #[error("DynamoDB took no more items of the batch until the deadline")]
    Unprocessed,
    /// What came back cannot be right.
    #[error("{0}")]
    Corrupt(&'static str),
    #[error("the deadline passed; what DynamoDB did by then stays done")]
    Late,
    #[error("the exchange failed: {}", root_of(&**.0))]
    Exchange(#[source] Arc<dyn StdError + Send + Sync>),
    #[error("there are no credentials: {}", root_of(&**.0))]
    NoCredentials(#[source] Arc<dyn StdError + Send + Sync>),
    #[error("the cursor is none that a page of this table ended with")]
    Cursor,
    #[error("the table is being created")]
    Creating,
    #[error("the operating system gives no random bytes")]
    NoRandomness,
    #[error("the backend is closed")]
    Closed,
    #[error("opened in a parent process; open another one after fork()")]
    Forked,
}

/// An error that the service answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The code, cut to what codes are made of.
    pub(crate) code: String,
    status: u16,
    retry_after: Option<Duration>,
    /// The one sentence of the service that changes what a refusal is.
    item_too_large: bool,
}

impl Refusal {
    /// Whether it is this one.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code == code
    }

    fn class(&self) -> (Kind, Option<Retry>) {
        match &*self.code {
            "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "ThrottlingException"
            | "Throttling"
            | "TooManyRequestsException"
            | "LimitExceededException"
            | "SlowDown" => (Kind::Throttled, Some(Retry::After(self.retry_after.unwrap_or(THROTTLED_PAUSE)))),
            "AccessDeniedException"
            | "AccessDenied"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignatureException"
            | "IncompleteSignature"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "OptInRequired"
            | "KMSAccessDeniedException" => (Kind::Auth, None),
            "ResourceNotFoundException" => (Kind::Config, None),
            "ValidationException" if self.item_too_large => (Kind::TooLarge, None),
            "ValidationException" => (Kind::Config, None),
            "TransactionConflictException" | "ReplicatedWriteConflictException" | "ResourceInUseException" => {
                (Kind::Transient, None)
            }
            _ => match self.status {
                429 => (Kind::Throttled, Some(Retry::After(self.retry_after.unwrap_or(THROTTLED_PAUSE)))),
                401 | 403 => (Kind::Auth, None),
                500..=599 => (Kind::Transient, self.retry_after.map(Retry::After)),
                300..=399 | 404 => (Kind::Config, None),
                _ => (Kind::Internal, None),
            },
        }
    }

    /// What it means, for whoever reads the error.
    fn meaning(&self) -> &'static str {
        match &*self.code {
            "ResourceNotFoundException" => {
                ": there is no such table in this region and account; create it, or set create_table = true"
            }
            "AccessDeniedException" | "AccessDenied" => {
                ": the credentials may not do this on the table; README.md of the plugin has a policy that may"
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" => {
                ": the secret access key is wrong, or this machine's clock is"
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" => ": it does not know the access key id",
            "ExpiredTokenException" | "ExpiredToken" => ": the temporary credentials are over",
            "ValidationException" if self.item_too_large => ": the item is larger than 400 KB",
            "ValidationException" => {
                ": the table is not of this form; its partition key has to be a string named as key_attribute says, \
                 without a sort key"
            }
            "ProvisionedThroughputExceededException" => ": the table's or the partition's capacity is used up",
            "RequestLimitExceeded" => ": the account's capacity is used up",
            _ => match self.status {
                300..=399 | 404 => ", which is no answer of DynamoDB; does endpoint_url lead there?",
                _ => "",
            },
        }
    }
}

impl Trouble {
    /// What the SDK says of one exchange.
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(context) => {
                let (status, headers) = (context.raw().status().as_u16(), context.raw().headers());
                // One of the two is in milliseconds.
                let whole = |name: &str| headers.get(name)?.trim().parse::<u64>().ok();
                let asked = whole("x-amz-retry-after").map(Duration::from_millis);
                let asked = asked.or_else(|| whole("retry-after").map(Duration::from_secs));
                let error = context.err();
                let Some(code) = error.code().and_then(plain) else {
                    // Where no code could be read, the body was none of DynamoDB's: a proxy's page, or half an answer.
                    return match status {
                        200..=299 => Self::Corrupt("the answer cannot be read"),
                        _ => Self::Service(Refusal {
                            code: format!("with the status {status}"),
                            status,
                            retry_after: asked.map(|pause| pause.min(LONGEST_PAUSE)),
                            item_too_large: false,
                        }),
                    };
                };
                let item_too_large = error.message().is_some_and(|text| text.contains("size has exceeded"));
                Self::Service(Refusal {
                    code,
                    status,
                    retry_after: asked.map(|pause| pause.min(LONGEST_PAUSE)),
                    item_too_large,
                })
            }
            SdkError::TimeoutError(_) => Self::Late,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Late,
            // The answer began and did not end.
            SdkError::ResponseError(_) => match error.into_source() {
                Ok(source) if causes(&*source).any(|cause| cause.is::<BodyTooLarge>()) => {
                    Self::Corrupt("the answer is larger than any of DynamoDB's")
                }
                Ok(source) => Self::Exchange(source.into()),
                Err(_) => Self::Corrupt("the answer cannot be read"),
            },
            _ => match error.into_source() {
                Ok(source) => Self::from_exchange(source.into()),
                Err(_) => Self::Corrupt("the answer cannot be read"),
            },
        }
    }

    fn from_exchange(error: Arc<dyn StdError + Send + Sync>) -> Self {
        if causes(&*error).any(|cause| cause.is::<CredentialsError>()) {
            return Self::NoCredentials(error);
        }
        Self::Exchange(error)
    }

    /// Whether the service answered with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(self, Self::Service(refusal) if refusal.is(code))
    }

    fn class(&self) -> (Kind, Option<Retry>) {
        match self {
            Self::Refused(_) => (Kind::Config, None),
            Self::KeyTooLong { .. } | Self::KeyBytes | Self::ValueTooLarge { .. } => (Kind::TooLarge, None),
            Self::Service(refusal) => refusal.class(),
            Self::Unprocessed => (Kind::Throttled, Some(Retry::After(THROTTLED_PAUSE))),
            Self::Corrupt(_) => (Kind::Corrupt, None),
            Self::Late => (Kind::Timeout, None),
            Self::Exchange(_) => (Kind::Transient, None),
            Self::NoCredentials(_) => (Kind::Auth, None),
            // Seconds, on AWS.
            Self::Creating => (Kind::Transient, Some(Retry::After(Duration::from_secs(1)))),
            Self::Cursor | Self::NoRandomness | Self::Closed => (Kind::Internal, None),
            Self::Forked => (Kind::Forked, None),
        }
    }

    /// The kind of the contract.
    pub(crate) fn kind(&self) -> Kind {
        self.class().0
    }

    /// The error of the contract.
    pub(crate) fn during(&self, operation: Operation) -> BackendError {
        let (kind, retry) = self.class();
        let error = BackendError::new(kind, operation, self.to_string()).on(BACKEND);
        let error = match retry {
            Some(retry) => error.with_retry(retry),
            None => error,
        };
        match self {
            Self::Exchange(source) | Self::NoCredentials(source) => error.with_source(Arc::clone(source)),
            _ => error,
        }
    }
}

/// A code, if it looks like one: it is foreign text.
fn plain(code: &str) -> Option<String> {
    let fits = (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then(|| code.to_owned())
}

/// The error and everything underneath.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
        error.source()
    }
    std::iter::successors(Some(error), |error| next(*error))
}

/// The cause at the bottom: client libraries say "dispatch failure" and leave the reason to the source.
fn root_of(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
