//! Generates the C header from `src/capi`, into OUT_DIR. `include/sendq/sendq.h` is a checked-in
//! copy: a test compares the two, and SENDQ_WRITE_HEADER=1 rewrites it.

use std::env::var;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-env-changed=SENDQ_WRITE_HEADER");

    let root = var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut config = cbindgen::Config::from_file(Path::new(&root).join("cbindgen.toml"))
        .expect("cbindgen.toml is valid");
    config.after_includes = Some(version() + &config.after_includes.unwrap_or_default());
    // Only these files, in the order of the manual: nothing of the core can leak into the header.
    let header = [
        "capi/boundary",
        "capi/library",
        "capi/handle",
        "capi/pool",
        "capi/many",
        "capi/queue",
        "capi/append",
        "capi/part",
        "capi/message",
        "capi/buf",
        "capi/flush",
        "capi/zerocopy",
        "capi/state",
        "capi/sendmsg",
        "capi/verify",
        "stats",
        "capi/stats",
        "capi/logger",
    ]
    .into_iter()
    .fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(Path::new(&root).join(format!("src/{file}.rs")))
    })
    .generate()
    .expect("src/capi is what cbindgen can read");

    let out = var("OUT_DIR").expect("cargo sets it");
    header.write_to_file(Path::new(&out).join("sendq.h"));
    if var("SENDQ_WRITE_HEADER").is_ok_and(|value| value == "1") {
        header.write_to_file(Path::new(&root).join("include/sendq/sendq.h"));
    }
}

/// The version that a program is compiled against, comparable with sendq_version().
fn version() -> String {
    let part = |name| var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
    format!(
        "\n#define SENDQ_VERSION_MAJOR {}\n#define SENDQ_VERSION_MINOR {}\n\
         #define SENDQ_VERSION_PATCH {}\n#define SENDQ_VERSION \\\n    \
         (SENDQ_VERSION_MAJOR << 16 | SENDQ_VERSION_MINOR << 8 | SENDQ_VERSION_PATCH)\n",
        part("MAJOR"),
        part("MINOR"),
        part("PATCH")
    )
}
