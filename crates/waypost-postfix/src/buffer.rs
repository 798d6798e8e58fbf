//! What readers keep of octets that came.

/// Takes so many octets away from the front. Where none is left, the memory is given back: a connection
/// may be idle for an hour.
pub(crate) fn take_out(buffer: &mut Vec<u8>, octets: usize) {
    if octets >= buffer.len() {
        *buffer = Vec::new();
    } else {
        buffer.drain(..octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_has_no_memory() {
        for (octets, left, is_given_back) in
            [(0, "abc", false), (2, "c", false), (3, "", true), (9, "", true)]
        {
            let mut buffer = b"abc".to_vec();
            take_out(&mut buffer, octets);
            assert_eq!(buffer, left.as_bytes());
            assert_eq!(buffer.capacity() == 0, is_given_back, "{octets}");
        }
    }
}
