//! Addresses as people and workers write them, and as the kernel reports them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use worker_proto::address::Address;
use worker_proto::bind::socket_address;
use worker_proto::codec;

/// What is read is written back the same, and the kernel is given what was read. What came in a
/// frame can always be shown.
pub fn address(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match text.parse::<Address>() {
            Ok(address) => is_faithful(&address),
            Err(err) => assert!(err.to_string().contains("address")),
        }
    }
    if let Ok(address) = codec::decode::<Address>(data) {
        can_be_shown(&address);
    }
    if let Ok(name) = socket2::SockAddr::unix(OsStr::from_bytes(data)) {
        can_be_shown(&Address::from(&name));
    }
}

/// An address that was read.
fn is_faithful(address: &Address) {
    let text = address.to_string();
    assert_eq!(text.parse().as_ref(), Ok(address), "written as {text:?}");
    let name = socket_address(address).expect("what was read can be bound");
    assert_eq!(&Address::from(&name), address, "the kernel's name for it");
}

fn can_be_shown(address: &Address) {
    assert!(!address.to_string().is_empty());
    assert!(address.inet().is_none() || address.path().is_none());
    // Refused or not, but not a panic: a path may be longer than there is room for.
    _ = socket_address(address);
}
