//! What a load balancer, or anybody, says first on a connection to a listener behind a balancer.

use worker_proto::proxy_protocol::{MAX_HEADER_BYTES, Malformed, Parsed, parse};

use super::allocation::peak_of;

/// Exactly the header is taken, whatever comes after it and in however many pieces, and what it says
/// can be said again. Nothing is kept for those who say something else.
pub fn proxy_header(data: &[u8]) {
    let (parsed, allocated) = peak_of(|| parse(data));
    assert_eq!(allocated, 0, "bytes were allocated");
    match parsed {
        Ok(Parsed::Partial) => {
            assert!(data.len() < MAX_HEADER_BYTES, "it would never end");
            is_partial_until(data, data.len());
        }
        Ok(Parsed::Whole { header, len_bytes }) => {
            assert!(len_bytes <= data.len() && len_bytes <= MAX_HEADER_BYTES);
            is_partial_until(data, len_bytes);
            assert_eq!(parse(&data[..len_bytes]), parsed, "without what follows");
            let whole: usize = header.tlvs.map(|tlv| 3 + tlv.value.len()).sum();
            assert_eq!(whole, header.tlvs.as_bytes().len());
            for address in [header.origin.source(), header.origin.destination()] {
                assert!(address.is_none_or(|address| !address.to_string().is_empty()));
            }
            if let Some(bytes) = header.encode() {
                match parse(&bytes) {
                    Ok(Parsed::Whole {
                        header: again,
                        len_bytes,
                    }) => {
                        assert_eq!(again, header);
                        assert_eq!(len_bytes, bytes.len());
                    }
                    // Written in another way, as a stream instead of datagrams, it has another sum.
                    Err(Malformed::Checksum) => {}
                    other => panic!("{header:?} became {other:?}"),
                }
            }
        }
        Err(_) => {
            let more = [data, b"\r\n\0 "].concat();
            assert!(parse(&more).is_err(), "it was refused too early");
        }
    }
}

/// Up to there the reader may take every byte, and must go on. Some lengths stand for all.
fn is_partial_until(data: &[u8], end: usize) {
    let lens = (0..end).step_by(end / 50 + 1).chain(end.checked_sub(1));
    for len in lens {
        assert_eq!(parse(&data[..len]), Ok(Parsed::Partial), "{len} bytes");
    }
}
