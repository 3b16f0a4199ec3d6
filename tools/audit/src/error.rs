//! Why an audit could not be made. What it finds is no error but in its report.

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mapped region has no size of its own.
    #[error("memory region `{0}` has no size; write one, so that it is known who sees how much")]
    NoSize(String),
    /// The SDK's list cannot be read.
    #[error(
        "the SDK's list of capabilities (capdl.json) is not as known: {0}; build the image anew, or teach tools/audit the new form"
    )]
    Capdl(serde_json::Error),
    /// The SDK's list names something that is not in it.
    #[error("the SDK's list of capabilities (capdl.json) is damaged: {0}; build the image anew")]
    Reference(String),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] branes_image::Error),
    /// The description in the image cannot be read.
    #[error("{0}; build the image anew")]
    Spec(String),
}
