//! The header that C programs include is the one that this source generates.

#[test]
fn the_checked_in_header_is_the_generated_one() {
    let generated = include_str!(concat!(env!("OUT_DIR"), "/sendq.h"));
    let checked_in = include_str!("../include/sendq/sendq.h");
    assert!(
        generated == checked_in,
        "include/sendq/sendq.h is out of date: SENDQ_WRITE_HEADER=1 cargo build"
    );
}
