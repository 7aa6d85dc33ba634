//! The library as a whole.

use std::ffi::c_char;

/// The version that is linked at run time: major << 16 | minor << 8 | patch. SENDQ_VERSION is the
/// one compiled against; within one major version (before 1.0: one minor) they may differ.
#[unsafe(no_mangle)]
pub extern "C" fn sendq_version() -> u32 {
    let part = |text: &str| text.bytes().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// The same as text, such as "0.1.0". Static memory.
#[unsafe(no_mangle)]
pub extern "C" fn sendq_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
