//! MessagePack as every writer of the family writes it: the shortest form of each thing, and never an extension.

/// A number outside what MessagePack holds, −2^63 … 2^64−1.
#[derive(Debug)]
pub(super) struct OutOfRange;

pub(super) fn nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub(super) fn bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

pub(super) fn integer(out: &mut Vec<u8>, value: i128) -> Result<(), OutOfRange> {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => marked(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => marked(out, 0xce, &(value as u32).to_be_bytes()),
        0x1_0000_0000..=0xffff_ffff_ffff_ffff => marked(out, 0xcf, &(value as u64).to_be_bytes()),
        -0x20..=-1 => out.push(value as u8),
        -0x80..=-0x21 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-0x81 => marked(out, 0xd1, &(value as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => marked(out, 0xd2, &(value as i32).to_be_bytes()),
        -0x8000_0000_0000_0000..=-0x8000_0001 => marked(out, 0xd3, &(value as i64).to_be_bytes()),
        _ => return Err(OutOfRange),
    }
    Ok(())
}

/// Always 64 bits, whatever the value.
pub(super) fn float(out: &mut Vec<u8>, value: f64) {
    marked(out, 0xcb, &value.to_bits().to_be_bytes());
}

pub(super) fn str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len => sized(out, len, Some(0xd9), 0xda, 0xdb),
    }
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn bin(out: &mut Vec<u8>, bytes: &[u8]) {
    sized(out, bytes.len(), Some(0xc4), 0xc5, 0xc6);
    out.extend_from_slice(bytes);
}

pub(super) fn array(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=15 => out.push(0x90 | len as u8),
        len => sized(out, len, None, 0xdc, 0xdd),
    }
}

pub(super) fn map(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=15 => out.push(0x80 | len as u8),
        len => sized(out, len, None, 0xde, 0xdf),
    }
}

/// A length behind its marker. Nothing in memory here is longer than `u32::MAX`: the limits above are far below.
fn sized(out: &mut Vec<u8>, len: usize, one: Option<u8>, two: u8, four: u8) {
    match (len, one) {
        (0..=0xff, Some(one)) => out.extend_from_slice(&[one, len as u8]),
        (0..=0xffff, _) => marked(out, two, &(len as u16).to_be_bytes()),
        _ => marked(out, four, &(len as u32).to_be_bytes()),
    }
}

fn marked(out: &mut Vec<u8>, marker: u8, bytes: &[u8]) {
    out.push(marker);
    out.extend_from_slice(bytes);
}
