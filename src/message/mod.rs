//! What messages carry, as typed values.

#![forbid(unsafe_code)]

mod header_blob;
mod headers;

pub use header_blob::{
    HeaderBlob, HeaderBlobWriter, HeaderError, HeaderNames, HeaderNamesWriter, MAX_HEADER_NAME_LEN,
};
pub use headers::{Cookie, Cookies, Header, HeaderValues, Headers, HeadersError, HeadersIter};
