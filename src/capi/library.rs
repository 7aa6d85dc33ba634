//! The library as a whole.

use std::ffi::c_char;

/// Returns the version of the library at run time: major << 16 | minor << 8 | patch. SENDQ_VERSION is the
/// version that the caller was compiled against. The two may differ within one major version (before 1.0: one
/// minor version).
#[unsafe(no_mangle)]
pub extern "C" fn sendq_version() -> u32 {
    let part = |text: &str| text.bytes().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// Returns the version as text, such as "0.3.0". Static memory.
#[unsafe(no_mangle)]
pub extern "C" fn sendq_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
