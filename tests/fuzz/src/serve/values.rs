//! Varints and typed data.

use ringspoa::spop::{
    DecodeError, EncodeError, MAX_VARINT_LEN, TypedData, decode_varint, encode_varint, varint_len,
};

/// A varint of any bytes agrees with the spec read word for word, and so does what is written of any
/// number.
pub fn varint(data: &[u8]) {
    let decoded = decode_varint(data);
    assert_eq!(decoded, naive_varint(data));
    if let Ok((value, used)) = decoded {
        check_encoding(value, &data[..used]);
    }
    if let Some(bytes) = data.first_chunk::<8>() {
        // Of all lengths: few numbers of 64 random bits need less than the longest form.
        let shift = data.get(8).map_or(0, |byte| byte % 64);
        let value = u64::from_le_bytes(*bytes) >> shift;
        let mut out = [0; MAX_VARINT_LEN];
        let len = encode_varint(value, &mut out).expect("ten bytes hold every varint");
        assert_eq!(naive_varint(&out[..len]), Ok((value, len)));
        assert_eq!(decode_varint(&out[..len]), Ok((value, len)));
        // With bytes behind it, which takes another path.
        let mut longer = [0xff; MAX_VARINT_LEN + 8];
        longer[..len].copy_from_slice(&out[..len]);
        assert_eq!(decode_varint(&longer), Ok((value, len)));
        check_encoding(value, &out[..len]);
    }
}

/// `value` is written as these bytes into whatever has room for them, and not at all into less.
fn check_encoding(value: u64, expected: &[u8]) {
    assert_eq!(varint_len(value), expected.len());
    for room in 0..=MAX_VARINT_LEN {
        let mut out = [0xaa; MAX_VARINT_LEN];
        let result = encode_varint(value, &mut out[..room]);
        if room < expected.len() {
            assert_eq!(result, Err(EncodeError::Full));
            assert_eq!(out, [0xaa; MAX_VARINT_LEN], "nothing is written then");
        } else {
            assert_eq!(result, Ok(expected.len()));
            assert_eq!(&out[..expected.len()], expected);
            assert_eq!(decode_varint(&out[..room]), Ok((value, expected.len())));
        }
    }
}

/// Spec 3.1: the first byte's value; then each next byte at shifts of 4, 11, 18 and so on, as long as
/// its predecessor says that one follows.
fn naive_varint(data: &[u8]) -> Result<(u64, usize), DecodeError> {
    let Some(&first) = data.first() else {
        return Err(DecodeError::Truncated);
    };
    let mut value = u128::from(first);
    if first < 240 {
        return Ok((u64::from(first), 1));
    }
    for index in 1..MAX_VARINT_LEN {
        let Some(&byte) = data.get(index) else {
            return Err(DecodeError::Truncated);
        };
        value += u128::from(byte) << (4 + 7 * (index - 1));
        if value > u128::from(u64::MAX) {
            return Err(DecodeError::VarintOverflow);
        }
        if byte < 128 {
            let value = u64::try_from(value).expect("it was just compared");
            return Ok((value, index + 1));
        }
    }
    Err(DecodeError::VarintOverflow)
}

/// A value of any bytes is written back to as many bytes and read again as itself; it needs all of
/// its bytes, and all of its room.
pub fn typed_data(data: &[u8]) {
    let Ok((value, used)) = TypedData::decode(data) else {
        return;
    };
    let bytes = &data[..used];
    for cut in [0, used / 2, used - 1] {
        assert_eq!(
            TypedData::decode(&bytes[..cut]),
            Err(DecodeError::Truncated)
        );
    }
    let mut out = vec![0xaa; used + 1];
    for room in [0, used / 2, used - 1] {
        assert_eq!(value.encode(&mut out[..room]), Err(EncodeError::Full));
    }
    assert_eq!(value.encode(&mut out), Ok(used), "{value:?}");
    assert_eq!(out[used], 0xaa, "written beyond its end");
    assert_eq!(TypedData::decode(&out), Ok((value, used)));
    // The coding is bijective but for bits of the type byte that mean nothing.
    assert_eq!(out[1..used], bytes[1..], "{value:?}");
    assert_eq!(out[0] & 0x0f, bytes[0] & 0x0f, "{value:?}");
    check_accessors(value);
}

fn check_accessors(value: TypedData<'_>) {
    let text = value.to_string();
    assert!(!text.is_empty() && text.is_ascii(), "{text:?}");
    assert!(
        !text.bytes().any(|byte| byte.is_ascii_control()),
        "{text:?}"
    );
    if let (Some(signed), Some(unsigned)) = (value.as_i64(), value.as_u64()) {
        assert_eq!(i128::from(signed), i128::from(unsigned));
    }
    let kinds = [
        value == TypedData::Null,
        value.as_bool().is_some(),
        value.as_i64().is_some() || value.as_u64().is_some(),
        value.as_ip().is_some(),
        value.as_bytes().is_some(),
    ];
    assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{value:?}");
    if let Some(text) = value.as_str() {
        assert_eq!(value.type_name(), "STRING");
        assert_eq!(Some(text.as_bytes()), value.as_bytes());
    }
}
