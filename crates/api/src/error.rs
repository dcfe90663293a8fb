//! The one error of the API edge; each vendor has its own words for it.

/// What went wrong, as HTTP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400: the request can't be served as it stands.
    BadRequest,
    /// 401: no key, or a wrong one.
    Unauthorized,
    /// 403: a key that doesn't open this.
    Forbidden,
    /// 404: no such model, request or path.
    NotFound,
    /// 405: the path exists, the method doesn't.
    MethodNotAllowed,
    /// 408: the request's deadline passed.
    Timeout,
    /// 413: the body is over the size limit.
    TooLarge,
    /// 429: the key's budget is used up for now.
    RateLimited,
    /// 500: our fault.
    Internal,
    /// 503: come back later.
    Unavailable,
}

impl ErrorKind {
    /// The HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// A refusal or failure, in one sentence that the client may read.
///
/// A struct and not an enum of causes: dozens of validation rules differ only in their sentence, and the edge needs
/// nothing but the kind, the sentence and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Decides the status code.
    pub kind: ErrorKind,
    /// Says what is wrong and, where it isn't plain, what to do.
    pub message: String,
    /// The request field at fault, with its path, such as `messages[2].content`.
    pub param: Option<String>,
    /// After how many seconds a client may try again (`Retry-After`).
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, retry_after: None }
    }

    /// A 400 that isn't about one field.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// A 400 about one field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::bad_request(message) }
    }

    /// A 404 for a model that isn't served.
    pub fn model_not_found(model: &str) -> Self {
        let message = format!("The model `{}` does not exist.", shorten(model, 200));
        Self { param: Some("model".into()), ..Self::new(ErrorKind::NotFound, message) }
    }

    /// A 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A 503 with `Retry-After`.
    pub fn unavailable(message: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(ErrorKind::Unavailable, message) }
    }

    /// A 408 for a request whose deadline passed.
    pub fn timeout() -> Self {
        Self::new(
            ErrorKind::Timeout,
            "The request ran into its time limit. Ask for fewer tokens or raise `timeout`.",
        )
    }
}

/// At most `max` characters of a text that came from outside, so that no error echoes a whole body.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
