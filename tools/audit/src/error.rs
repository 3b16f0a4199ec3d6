//! Reasons why an audit cannot be made. Differences and paths are no errors: they are in the report.

/// Reason why an audit cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mapped region has no size in the description.
    #[error("memory region `{0}` has no size; add `size`, so that its mappings can be compared")]
    NoSize(String),
    /// The SDK's list is not JSON of the known form.
    #[error(
        "the SDK's list of capabilities (capdl.json) has an unknown form: {0}; rebuild the image, or extend tools/audit for the new form"
    )]
    Capdl(serde_json::Error),
    /// The SDK's list refers to an object that it does not contain.
    #[error("the SDK's list of capabilities (capdl.json) is damaged: {0}; rebuild the image")]
    Reference(String),
    #[error(transparent)]
    Image(#[from] branes_image::Error),
    #[error("{0}; rebuild the image")]
    Spec(String),
}
